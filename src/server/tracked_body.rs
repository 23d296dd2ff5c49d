//! The body of an answer, with the guard that ends when hyper has taken all of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::connection_state::Answering;

/// A body, and that it is being answered with.
pub(super) struct TrackedBody<B> {
    body: B,
    answering: Answering,
}

impl<B: Body> TrackedBody<B> {
    pub(super) fn new(body: B, mut answering: Answering) -> Self {
        answering.waits();
        if body.is_end_stream() {
            answering.ends();
        }
        Self { body, answering }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Pending => self.answering.works(),
            Poll::Ready(frame) => {
                self.answering.waits();
                if frame.is_none() || self.body.is_end_stream() {
                    self.answering.ends();
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
