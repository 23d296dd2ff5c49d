//! The body of an answer to a caller.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::record::RecordGuard;
use crate::failure::Code;
use crate::telemetry::Outcome;
use crate::upstream::{BodyError, ResponseBody};

/// The body of an answer.
pub enum Body {
    /// All of it: it was recorded with its head.
    Whole(Bytes),
    /// Passed through from the upstream: it is recorded when it ends.
    Stream(Box<Streaming>),
}

/// An answer that passes through, with what records it.
pub struct Streaming {
    body: ResponseBody,
    /// Taken when the end is known; dropped with it when the caller goes away before.
    guard: Option<RecordGuard>,
    /// The bytes that are still to come, where the upstream has said how many: no one asks for
    /// the end of a body whose promised length is there.
    left: Option<u64>,
}

impl Streaming {
    pub(super) fn new(body: ResponseBody, guard: RecordGuard) -> Self {
        let left = body.size_hint().exact();
        Self { body, guard: Some(guard), left }
    }

    fn passed(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        let Some(guard) = &mut self.guard else { return };
        let outcome = match frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                guard.passed(length);
                self.left = self.left.map(|left| left.saturating_sub(length));
                if self.left != Some(0) {
                    return;
                }
                Outcome::Answered
            }
            None => Outcome::Answered,
            Some(Err(BodyError::Slow)) => Outcome::Failed(Code::UpstreamTimeout),
            Some(Err(BodyError::Untaken)) => Outcome::Failed(Code::Overloaded),
            Some(Err(_)) => Outcome::Failed(Code::UpstreamError),
        };
        guard.finish(outcome);
        self.guard = None;
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(streaming) => {
                let polled = Pin::new(&mut streaming.body).poll_frame(context);
                if let Poll::Ready(frame) = &polled {
                    streaming.passed(frame.as_ref());
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(streaming) => streaming.guard.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(streaming) => streaming.body.size_hint(),
        }
    }
}
