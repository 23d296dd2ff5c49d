//! HTTP/2 to the upstream, by hyper: one connection that many requests share, driven by a task.

use std::future::Future;
use std::time::Duration;

use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT, VIA};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;

use super::RequestBody;
use super::http1::HEAD_BYTES;
use super::outgoing::{self, Common, Outgoing, REGION, TOKEN, X_REQUEST_ID};
use crate::failure::{Code, Failure};
use crate::trace::TRACEPARENT;

/// How often a connection that is waited on is asked whether it lives, and how long it may take to
/// say so.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3));

/// The sending end of a connection.
pub(super) type Sender = SendRequest<RequestBody>;

/// Why a request got no answer.
pub(super) struct NotAnswered {
    pub(super) error: hyper::Error,
    /// Not a byte of the request was sent; it has its body again.
    pub(super) unsent: bool,
}

/// Begins a connection, and starts the task that drives it, on this thread.
pub(super) async fn handshake<T>(socket: T) -> Result<Sender, hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new(LocalExecutor);
    builder.max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX));
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

/// Sends a request and waits for the head of the answer.
pub(super) async fn send(
    sender: &mut Sender,
    request: Request<RequestBody>,
    outgoing: &mut Outgoing,
) -> Result<Response<Incoming>, NotAnswered> {
    sender.try_send_request(request).await.map_err(|mut error| {
        let unsent = error.take_message();
        let answer = NotAnswered { unsent: unsent.is_some(), error: error.into_error() };
        if let Some(request) = unsent {
            outgoing.body = request.into_body();
        }
        answer
    })
}

/// A request in the form of HTTP/2: it has no `Host` but an authority in its target (RFC 9113
/// §8.3.1). The body is taken out of what it is made of.
pub(super) fn request(
    outgoing: &mut Outgoing,
    common: &Common,
) -> Result<Request<RequestBody>, Failure> {
    let authority = common.authority.as_bytes();
    let uri = Uri::builder().scheme("https").authority(authority);
    let uri = uri.path_and_query(outgoing.target.as_str()).build().map_err(|_| {
        let why = "the request target cannot be forwarded";
        Failure::fixed(Code::MalformedRequest, why)
    })?;
    let mut request = Request::new(std::mem::take(&mut outgoing.body));
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.reserve(8);
    headers.insert(ACCEPT, HeaderValue::from_static(outgoing::ACCEPT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(outgoing::ACCEPT_ENCODING));
    headers.insert(USER_AGENT, HeaderValue::from_static(outgoing::USER_AGENT));
    headers.insert(REGION, outgoing.region.clone());
    headers.insert(VIA, outgoing.via.clone());
    for (name, value) in [
        (TOKEN, &outgoing.token),
        (CONTENT_TYPE, &outgoing.content_type),
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
