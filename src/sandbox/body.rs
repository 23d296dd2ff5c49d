//! The bodies of answers: all that was promised, or, for a fault, less than that.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The body of an answer.
pub(super) struct SandboxBody {
    bytes: Bytes,
    then: Then,
}

/// What follows the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The end.
    End,
    /// Time to send them, and then a break.
    Flush,
    /// A break: the connection is closed, or in HTTP/2 the stream is reset.
    Break,
}

/// More bytes than there are, so that the end can be seen to be missing.
const MISSING: u64 = 64;

/// Why a body ends before its promised length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sandbox breaks this answer off on purpose")]
pub(super) struct BrokenOffError;

impl SandboxBody {
    /// The first half of a body whose whole length is promised, and more.
    pub(super) fn truncated(bytes: &Bytes) -> Self {
        Self { bytes: bytes.slice(..bytes.len() / 2), then: Then::Flush }
    }

    /// Nothing, for a response without its head ([`crate::server::NoAnswer`]).
    pub(super) const fn none() -> Self {
        Self { bytes: Bytes::new(), then: Then::Break }
    }
}

impl From<Bytes> for SandboxBody {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, then: Then::End }
    }
}

impl Body for SandboxBody {
    type Data = Bytes;
    type Error = BrokenOffError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOffError>>> {
        if !self.bytes.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.bytes)))));
        }
        match self.then {
            Then::End => Poll::Ready(None),
            Then::Flush => {
                // What was handed over is written when a body has to be waited for.
                self.then = Then::Break;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Then::Break => Poll::Ready(Some(Err(BrokenOffError))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.then == Then::End
    }

    fn size_hint(&self) -> SizeHint {
        let missing = if self.then == Then::End { 0 } else { MISSING };
        SizeHint::with_exact(self.bytes.len() as u64 + missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_whole_body_is_what_it_promises() {
        let body = SandboxBody::from(Bytes::from_static(b"{}"));
        assert_eq!(body.size_hint().exact(), Some(2));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{}");
        assert!(SandboxBody::from(Bytes::new()).is_end_stream());
    }

    #[tokio::test]
    async fn a_truncated_body_promises_more_and_breaks_off() {
        let mut body = SandboxBody::truncated(&Bytes::from_static(b"{\"a\":1}"));
        assert_eq!(body.size_hint().exact(), Some(3 + MISSING));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "{\"a");
        assert_eq!(body.frame().await.unwrap().unwrap_err(), BrokenOffError);
        let mut none = SandboxBody::none();
        assert_eq!(none.frame().await.unwrap().unwrap_err(), BrokenOffError);
    }
}
