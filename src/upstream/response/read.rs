//! An answer that is being read: whole when it is short or no success, as far as its beginning
//! otherwise.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use super::body::{ResponseBody, ResponseError, ResponseSource, StreamedBody};
use super::failure_body::FailureBody;
use crate::failure::{Code, Failure, ProxyError};
use crate::token::Sent;
use crate::upstream::connection::head::ResponseHead;
use crate::upstream::connection::http1::WHOLE;
use crate::upstream::connection::http2;

/// An answer, read as far as it is before the caller gets a byte.
pub(in crate::upstream) struct BufferedResponse {
    pub(in crate::upstream) head: ResponseHead,
    pub(super) body: ResponseBody,
    /// What a failure says, with nothing in it that was sent.
    pub(super) told: Option<FailureBody>,
}

impl BufferedResponse {
    /// An answer that came whole.
    pub(super) const fn whole(head: ResponseHead, body: Bytes) -> Self {
        Self { head, body: ResponseBody::Whole(body), told: None }
    }

    /// What came of a request, as far as it is about the service: whether that answered, and whether
    /// in its own words, for a request whose caller has gone.
    pub(in crate::upstream) fn in_brief(
        read: Result<Self, Failure>,
    ) -> (Result<(), Failure>, bool) {
        let read = match read {
            Ok(read) => read.without(&Sent::default()),
            Err(failure) => return (Err(failure), false),
        };
        let (status, spoken) = (read.head.status, read.has_message());
        let code = match status {
            status if status.is_success() => return (Ok(()), spoken),
            status if status.is_server_error() => Code::UpstreamError,
            _ => Code::UpstreamRefused,
        };
        (Err(Failure::fixed(code, "its caller has gone")), spoken)
    }

    /// Reads what a failure says, and takes out what was sent.
    pub(in crate::upstream) fn without(mut self, sent: &Sent<'_>) -> Self {
        if !self.head.status.is_success()
            && let ResponseBody::Whole(body) = &self.body
        {
            self.told = FailureBody::read(body, sent);
        }
        self
    }
}

/// An answer that is being read: whole when it is short or no success, begun otherwise.
pub(in crate::upstream) struct ResponseReader {
    head: ResponseHead,
    body: ResponseSource,
    /// Most bodies come in one piece, which is passed on as it is.
    first: Bytes,
    more: Vec<Bytes>,
    length: usize,
    /// All of it has come.
    ended: bool,
}

impl ResponseReader {
    pub(in crate::upstream) const fn new(head: ResponseHead, body: ResponseSource) -> Self {
        Self { head, body, first: Bytes::new(), more: Vec::new(), length: 0, ended: false }
    }

    /// Ready when enough was read.
    pub(in crate::upstream) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        while self.length <= WHOLE {
            match ready!(self.body.poll_piece(context)) {
                None => {
                    self.ended = true;
                    break;
                }
                Some(Err(ResponseError::Late)) => return Poll::Ready(Err(slow())),
                Some(Err(fault)) => return Poll::Ready(Err(incomplete(&fault))),
                Some(Ok(piece)) => {
                    self.length += piece.len();
                    if self.first.is_empty() {
                        self.first = piece;
                    } else {
                        self.more.push(piece);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What was read.
    pub(in crate::upstream) fn into_read(self) -> BufferedResponse {
        let Self { head, body, first, mut more, length, ended } = self;
        if ended {
            return BufferedResponse::whole(head, whole(first, &more, length));
        }
        if !head.status.is_success() {
            // The rest of a failure is not waited for.
            let body = ResponseBody::Whole(whole(first, &more, length).slice(..WHOLE));
            return BufferedResponse { head, body, told: None };
        }
        if !first.is_empty() {
            more.insert(0, first);
        }
        BufferedResponse {
            head,
            body: ResponseBody::Stream(Box::new(StreamedBody::new(more, Some(body)))),
            told: None,
        }
    }
}

fn whole(first: Bytes, more: &[Bytes], length: usize) -> Bytes {
    if more.is_empty() {
        return first;
    }
    let mut whole = BytesMut::with_capacity(length);
    whole.extend_from_slice(&first);
    more.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

fn slow() -> Failure {
    let why = "the whiteboard service's answer came too slowly";
    Failure::fixed(Code::UpstreamTimeout, why)
}

fn incomplete(fault: &ResponseError) -> Failure {
    let (why, error) = match fault {
        ResponseError::Http2(http2::Http2Error::Malformed(_)) => {
            ("the whiteboard service's answer is no HTTP", ProxyError::ProtocolError)
        }
        _ => ("the whiteboard service's answer broke off", ProxyError::ResponseIncomplete),
    };
    Failure::fixed(Code::UpstreamError, why).with_proxy_error(error).with_detail(fault.to_string())
}
