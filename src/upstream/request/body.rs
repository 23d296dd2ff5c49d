//! The body of a request to the upstream.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::error::BodyError;
use super::upload::{Upload, UploadStatus};

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

impl RequestBody {
    /// Whether another attempt can have it.
    pub(in crate::upstream) fn is_replayable(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) => true,
            Self::Stream(upload) => upload.is_replayable(),
        }
    }

    /// What becomes of a body that passes through.
    pub(in crate::upstream) fn upload_status(&self) -> Option<UploadStatus> {
        match self {
            Self::Empty | Self::Whole(_) => None,
            Self::Stream(upload) => Some(upload.status()),
        }
    }

    /// The body for one attempt.
    pub(in crate::upstream) fn for_attempt(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Whole(bytes) => Self::Whole(bytes.clone()),
            Self::Stream(upload) => Self::Stream(upload.for_attempt()),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
