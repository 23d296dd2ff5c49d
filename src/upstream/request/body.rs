//! The body of a request to the upstream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::upload::{Fate, Upload};

/// The body of a request to the upstream.
#[derive(Default)]
pub enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// All of it, at hand: it can be sent again.
    Whole(Bytes),
    /// Passed through as it comes.
    Stream(Upload),
}

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The caller's body broke off or was malformed.
    #[error("the body of the request is incomplete")]
    Request,
    /// The caller's body is over its bound.
    #[error("the body of the request is too large")]
    TooLarge,
    /// The caller's body did not come in time.
    #[error("the body of the request did not arrive in time")]
    Late,
    /// The upstream's answer broke off.
    #[error("the answer of the upstream is incomplete")]
    Answer,
    /// The upstream's answer came too slowly.
    #[error("the answer of the upstream came too slowly")]
    Slow,
}

impl RequestBody {
    /// Whether it can be sent more than once.
    pub(in crate::upstream) const fn replayable(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }

    /// What becomes of a body that passes through.
    pub(in crate::upstream) fn fate(&self) -> Option<Fate> {
        match self {
            Self::Empty | Self::Whole(_) => None,
            Self::Stream(upload) => Some(upload.fate()),
        }
    }

    /// The body for one attempt; one that passes through is spent by it.
    pub(in crate::upstream) fn for_attempt(&mut self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Stream(_) => std::mem::take(self),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(upload) => upload.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(upload) => upload.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(upload) => upload.size_hint(),
        }
    }
}
