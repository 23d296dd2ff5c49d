//! A request on its stream, and the answer to it. The request may go on while its answer comes.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, response};
use http_body::Body as _;
use tokio::time::Instant;

use super::state::{Http2State, OpenStream};
use crate::upstream::connection::head::ResponseHead;
use crate::upstream::connection::http1::{FIELDS, HEAD_BYTES};
use crate::upstream::request::body::RequestBody;

/// What fills less of a buffer is copied, so that what waits for its caller holds its own size: h2
/// reads the frames of all streams into buffers of 8 KiB and more.
const COPIED: usize = 8 * 1024;

/// What a field of a head counts beside its name and value (RFC 9113 §6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(in crate::upstream) enum Http2Error {
    /// What came is no HTTP/2.
    #[error("{0}")]
    Malformed(h2::Error),
    /// The stream or the connection ended.
    #[error("{0}")]
    Broken(h2::Error),
    /// The head is over its bounds.
    #[error("the head of the answer is too large")]
    HeadTooLarge,
    /// The body of the request broke off.
    #[error("the body of the request broke off")]
    Request,
}

impl Http2Error {
    fn of(error: h2::Error, state: &Http2State) -> Self {
        // Who breaks the rules on one stream has the connection ended for all.
        if error.is_library() && (error.is_reset() || state.broke_alone.get()) {
            Self::Malformed(error)
        } else {
            Self::Broken(error)
        }
    }

    /// A head without an end is told from what is none.
    fn of_head(error: h2::Error, state: &Http2State) -> Self {
        match Self::of(error, state) {
            Self::Malformed(error) if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) => {
                Self::HeadTooLarge
            }
            fault => fault,
        }
    }

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
        match self {
            Self::Malformed(error) | Self::Broken(error) => error.is_reset(),
            Self::HeadTooLarge | Self::Request => true,
        }
    }

    /// What the peer said, as far as it is that.
    fn of_peer(&self) -> Option<&h2::Error> {
        match self {
            Self::Broken(error) if error.is_remote() => Some(error),
            _ => None,
        }
    }
}

/// A request that is sent, and whose answer has not begun.
pub(in crate::upstream) struct StreamExchange {
    response: ResponseFuture,
    sending: Option<Sending>,
    // Dropped last: with it another may have the stream.
    open: OpenStream,
}

/// The body of an answer.
pub(in crate::upstream) struct IncomingBody {
    received: RecvStream,
    /// The request, while not all of it is sent.
    sending: Option<Sending>,
    /// How much is still to come, where that was said.
    left: Option<u64>,
    open: OpenStream,
}

/// The body of a request, as the peer takes it.
pub(super) struct Sending {
    state: Rc<Http2State>,
    stream: SendStream<Bytes>,
    body: RequestBody,
    /// What was taken of it and is not sent yet.
    piece: Bytes,
}

impl StreamExchange {
    pub(super) const fn new(
        response: ResponseFuture,
        sending: Option<Sending>,
        open: OpenStream,
    ) -> Self {
        Self { response, sending, open }
    }

    /// Sends the request, and waits for the head of the answer.
    pub(in crate::upstream) async fn head(
        mut self,
    ) -> Result<(ResponseHead, IncomingBody), Http2Error> {
        let response = poll_fn(|context| {
            send(&mut self.sending, context)?;
            let response = ready!(Pin::new(&mut self.response).poll(context));
            Poll::Ready(response.map_err(|error| Http2Error::of_head(error, &self.open.state)))
        });
        let (parts, received) = response.await?.into_parts();
        self.open.state.heard.set(Instant::now());
        check_size(&parts)?;
        let head = ResponseHead::of(parts.status, &parts.headers);
        let left = if received.is_end_stream() { Some(0) } else { length(&parts.headers) };
        Ok((head, IncomingBody { received, sending: self.sending, left, open: self.open }))
    }
}

impl IncomingBody {
    /// The next piece; `None` when all of it has come.
    pub(in crate::upstream) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Http2Error>>> {
        loop {
            // That the rest of a request cannot be sent is no end of an answer that has begun.
            _ = send(&mut self.sending, context);
            let piece = match ready!(self.received.poll_data(context)) {
                None => return Poll::Ready(None),
                Some(Ok(piece)) => piece,
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(Http2Error::of(error, &self.open.state))));
                }
            };
            // It is on its way to the caller, which takes one piece after the other.
            _ = self.received.flow_control().release_capacity(piece.len());
            self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
            if !piece.is_empty() {
                let copied = piece.len() <= COPIED;
                let piece = if copied { Bytes::copy_from_slice(&piece) } else { piece };
                return Poll::Ready(Some(Ok(piece)));
            }
        }
    }

    /// How many bytes are still to come, where that is known.
    pub(in crate::upstream) const fn left(&self) -> Option<u64> {
        self.left
    }
}

/// Sends what can be sent of a request.
fn send(sending: &mut Option<Sending>, context: &mut Context<'_>) -> Result<(), Http2Error> {
    if let Some(under_way) = sending
        && let Poll::Ready(sent) = under_way.poll(context)
    {
        *sending = None;
        return sent;
    }
    Ok(())
}

impl Sending {
    pub(super) const fn new(
        state: Rc<Http2State>,
        stream: SendStream<Bytes>,
        body: RequestBody,
    ) -> Self {
        Self { state, stream, body, piece: Bytes::new() }
    }

    /// Ready when all of it is sent, or the peer takes no more.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Http2Error>> {
        loop {
            while !self.piece.is_empty() {
                if self.stream.capacity() == 0 {
                    self.stream.reserve_capacity(self.piece.len());
                    match self.stream.poll_capacity(context) {
                        Poll::Pending => {
                            self.state.sends_nothing();
                            return Poll::Pending;
                        }
                        Poll::Ready(Some(Ok(_))) if self.stream.capacity() == 0 => continue,
                        Poll::Ready(Some(Ok(_))) => {}
                        // Why, the answer tells.
                        Poll::Ready(None | Some(Err(_))) => return Poll::Ready(Ok(())),
                    }
                }
                self.state.stuck.set(None);
                let part = self.piece.split_to(self.stream.capacity().min(self.piece.len()));
                let last = self.piece.is_empty() && self.body.is_end_stream();
                if self.stream.send_data(part, last).is_err() || last {
                    return Poll::Ready(Ok(()));
                }
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.piece = frame.into_data().unwrap_or_default(),
                None => {
                    // Why it cannot be sent, the answer tells.
                    _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Http2Error::Request));
                }
            }
        }
    }
}

/// What has waited for the window waits no more.
impl Drop for Sending {
    fn drop(&mut self) {
        self.state.stuck.set(None);
    }
}

/// The bounds of a head are those of HTTP/1.1.
fn check_size(parts: &response::Parts) -> Result<(), Http2Error> {
    let fields = parts.headers.iter();
    let bytes: usize =
        fields.map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD).sum();
    if bytes > HEAD_BYTES || parts.headers.len() > FIELDS {
        return Err(Http2Error::HeadTooLarge);
    }
    Ok(())
}

/// What a head says of the length of the body: h2 has seen that it is a number.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
