//! The body of an answer, with the guard that ends when hyper has taken all of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::connection_state::Answering;

/// Marks a response whose body breaks off at once: its connection ends without an answer, where it is
/// one of HTTP/1.1.
#[derive(Clone, Copy, Debug)]
pub struct NoAnswer;

/// A body, and that it is being answered with.
pub(super) struct TrackedBody<B: Body> {
    body: B,
    answering: Answering,
    /// What there is goes out before it breaks off.
    flushes: bool,
    /// Why there is no more, as long as hyper was not told.
    broken: Option<B::Error>,
}

impl<B: Body> TrackedBody<B> {
    pub(super) fn new(body: B, mut answering: Answering, flushes: bool) -> Self {
        answering.waits();
        if body.is_end_stream() {
            answering.ends();
        }
        Self { body, answering, flushes, broken: None }
    }
}

/// What it waits to tell is never pinned.
impl<B: Body + Unpin> Unpin for TrackedBody<B> {}

impl<B: Body<Data = Bytes> + Unpin> Body for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let polled = match this.broken.take() {
            Some(broken) => Poll::Ready(Some(Err(broken))),
            None => {
                let polled = Pin::new(&mut this.body).poll_frame(context);
                if this.flushes && matches!(polled, Poll::Ready(Some(Err(_)))) {
                    this.answering.awaits_flush();
                }
                polled
            }
        };
        // With the fault, hyper drops what it has not written: the head and what has come go out first,
        // however slowly the peer takes them.
        if this.answering.is_flush_awaited()
            && let Poll::Ready(Some(Err(broken))) = polled
        {
            this.broken = Some(broken);
            this.answering.waits();
            return Poll::Pending;
        }
        match &polled {
            Poll::Pending => this.answering.works(),
            Poll::Ready(frame) => {
                this.answering.waits();
                if frame.is_none() || this.body.is_end_stream() {
                    this.answering.ends();
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::task::Waker;

    use super::*;
    use crate::server::ConnectionSignals;
    use crate::server::eviction::ConnectionTable;

    /// A body that breaks off at once.
    struct Broken;

    impl Body for Broken {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Ready(Some(Err("broken")))
        }
    }

    #[test]
    fn an_answer_of_http1_breaks_off_when_what_there_is_of_it_is_written() {
        for waits in [true, false] {
            let signals = ConnectionSignals::default();
            let state = ConnectionTable::new().add([127, 0, 0, 1].into(), signals);
            let mut body = TrackedBody::new(Broken, state.answering(), waits);
            let mut context = Context::from_waker(Waker::noop());
            let mut is_pending = || Pin::new(&mut body).poll_frame(&mut context).is_pending();
            if waits {
                assert!(is_pending() && is_pending(), "the peer has not taken the head");
                assert!(Rc::clone(&state).flushed());
            }
            assert!(!is_pending(), "{waits}");
        }
    }
}
