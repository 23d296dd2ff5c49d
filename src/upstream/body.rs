//! Bodies on their way: of requests to the upstream, and of its answers to the caller.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::source::{Fault, Source};
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
    pub(super) const fn replayable(&self) -> bool {
        !matches!(self, Self::Stream(_))
    }

    /// What becomes of a body that passes through.
    pub(super) fn fate(&self) -> Option<Fate> {
        match self {
            Self::Empty | Self::Whole(_) => None,
            Self::Stream(upload) => Some(upload.fate()),
        }
    }

    /// The body for one attempt; one that passes through is spent by it.
    pub(super) fn for_attempt(&mut self) -> Self {
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

/// The body of an answer.
pub enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// Passed through as it comes: more than is read before the head is sent.
    Stream(Box<Stream>),
}

/// An answer that passes through.
pub struct Stream {
    /// What was read of it already.
    begun: std::vec::IntoIter<Bytes>,
    rest: Source,
    /// Why there is no more, as long as it was not told.
    broken: Option<Broken>,
}

impl Stream {
    pub(super) fn new(begun: Vec<Bytes>, rest: Source) -> Self {
        Self { begun: begun.into_iter(), rest, broken: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(piece) = self.begun.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if let Some(broken) = self.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        let fault = match ready!(self.rest.poll_piece(context)) {
            None => return Poll::Ready(None),
            Some(Ok(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
            Some(Err(fault)) => fault,
        };
        // With the fault, hyper drops what it has not sent: the head and what has come go out first.
        self.broken =
            Some(if matches!(fault, Fault::Late) { Broken::Slow } else { Broken::Answer });
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => stream.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => {
                let begun: u64 =
                    stream.begun.as_slice().iter().map(|piece| piece.len() as u64).sum();
                let rest = stream.rest.left();
                rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(begun + rest))
            }
        }
    }
}
