//! HTTP/2 to the upstream, by hyper: one connection that many requests share, driven by a task.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use h2::Reason;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT, VIA,
};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;

use super::http1::HEAD_BYTES;
use crate::failure::{Code, Failure};
use crate::field::{REGION, TOKEN, TRACEPARENT, X_REQUEST_ID};
use crate::net;
use crate::upstream::request::body::RequestBody;
use crate::upstream::request::outgoing::{self, Common, Kept};

/// How often a connection that is waited on is asked whether it lives, and how long it may take to
/// say so.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));

/// What may come of all answers on a connection, and of one, before it is taken: a caller that reads
/// slowly holds its part, and must not hold up the others that share the connection.
const WINDOWS: (u32, u32) = (64 * 1024 * 1024, 128 * 1024);

/// The sending end of a connection.
pub(in crate::upstream) type Sender = SendRequest<RequestBody>;

/// Why a request got no answer.
pub(in crate::upstream) struct NotAnswered {
    pub(in crate::upstream) error: hyper::Error,
    /// Not a byte of the request was sent; it has its body again.
    pub(in crate::upstream) unsent: bool,
}

impl NotAnswered {
    /// Whether the upstream says that it did nothing of the request: it refused the stream, or the
    /// stream is above the last one of its GOAWAY. So it may be sent again, whatever it is (RFC
    /// 9113 §8.7).
    pub(in crate::upstream) fn is_untouched(&self) -> bool {
        // Streams up to the last one end with their connection, and not with this error.
        self.of_peer().is_some_and(|error| {
            error.is_go_away() || error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM)
        })
    }

    /// Whether the stream alone was ended, and its connection goes on.
    pub(in crate::upstream) fn is_reset(&self) -> bool {
        self.of_peer().is_some_and(h2::Error::is_reset)
    }

    /// What the peer said, as far as it is that.
    fn of_peer(&self) -> Option<&h2::Error> {
        let error = self.error.source()?.downcast_ref::<h2::Error>()?;
        error.is_remote().then_some(error)
    }
}

/// Begins a connection, and starts the task that drives it, on this thread.
pub(in crate::upstream) async fn handshake<T>(socket: T) -> Result<Sender, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new(LocalExecutor);
    builder.max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX));
    builder.initial_connection_window_size(WINDOWS.0).initial_stream_window_size(WINDOWS.1);
    // A connection that a middlebox forgot says nothing; without pings the system would give it up
    // after a quarter of an hour.
    builder.timer(TokioTimer::new());
    builder.keep_alive_interval(PING.0);
    builder.keep_alive_timeout(PING.1);
    let (sender, connection) = builder.handshake(TokioIo::new(socket)).await?;
    spawn_local(async move {
        // What goes wrong on it is told to whoever waits for an answer.
        _ = connection.await;
    });
    Ok(sender)
}

/// Sends a request and waits for the head of the answer. A body of which nothing was sent is given
/// back.
pub(in crate::upstream) async fn send(
    sender: &mut Sender,
    request: Request<RequestBody>,
    body: &mut RequestBody,
) -> Result<Response<Incoming>, NotAnswered> {
    sender.try_send_request(request).await.map_err(|mut error| {
        let unsent = error.take_message();
        let answer = NotAnswered { unsent: unsent.is_some(), error: error.into_error() };
        if let Some(request) = unsent {
            *body = request.into_body();
        }
        answer
    })
}

/// A request in the form of HTTP/2: it has no `Host` but an authority in its target (RFC 9113
/// §8.3.1).
pub(in crate::upstream) fn request(
    outgoing: &Kept,
    body: RequestBody,
    common: &Common,
) -> Result<Request<RequestBody>, Failure> {
    let authority = common.authority.as_bytes();
    let uri = Uri::builder().scheme("https").authority(authority);
    let uri = uri.path_and_query(outgoing.target.as_str()).build().map_err(|_| {
        let why = "the request target cannot be forwarded";
        Failure::fixed(Code::MalformedRequest, why)
    })?;
    let mut request = Request::new(body);
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.reserve(8);
    headers.insert(ACCEPT, HeaderValue::from_static(outgoing::ACCEPT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(outgoing::ACCEPT_ENCODING));
    headers.insert(USER_AGENT, HeaderValue::from_static(net::USER_AGENT));
    headers.insert(REGION, outgoing.region.clone());
    headers.insert(VIA, outgoing.via.clone());
    for (name, value) in [
        (TOKEN, &outgoing.token),
        (CONTENT_TYPE, &outgoing.content_type),
        (CONTENT_ENCODING, &outgoing.content_encoding),
        (X_REQUEST_ID, &outgoing.request_id),
        (TRACEPARENT, &outgoing.traceparent),
    ] {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
    Ok(request)
}

/// Spawns on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::task::LocalSet;

    use super::*;

    /// The payload of the first frame of this kind on a new connection.
    async fn payload(kind: u8) -> Vec<u8> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let _sender = handshake(ours).await.unwrap();
        theirs.read_exact(&mut [0; 24]).await.unwrap();
        loop {
            let mut head = [0; 9];
            theirs.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            theirs.read_exact(&mut payload).await.unwrap();
            if head[3] == kind {
                return payload;
            }
        }
    }

    /// RFC 9113 §6.5.1, §6.9.
    #[tokio::test]
    async fn many_answers_that_nobody_takes_leave_room_for_others_on_the_connection() {
        let told = async {
            let settings = payload(4).await;
            let number =
                |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            let setting = |one: &&[u8]| number(&one[..2]) == 4;
            let stream = settings.chunks(6).find(setting).map(|one| number(&one[2..]));
            (stream, number(&payload(8).await) + 65_535)
        };
        let (stream, connection) = LocalSet::new().run_until(told).await;
        assert_eq!((stream, connection), (Some(128 * 1024), 64 * 1024 * 1024));
        assert!(connection / stream.unwrap() >= 500);
    }
}
