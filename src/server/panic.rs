//! A panic while a request is answered becomes a failure of that request alone.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::failure::{Code, Failure};

fn panicked() -> Failure {
    Failure::fixed(Code::Internal, "the gateway has a defect; the request id leads to its log")
        .closing()
}

/// Polls a future; a panic is a failure. Nothing of what it touched is used afterwards but counters,
/// caches and pools, none of which a panic leaves half-changed.
pub(super) fn catch_panic<F: Future>(
    future: Pin<&mut F>,
    context: &mut Context<'_>,
) -> Poll<Result<F::Output, Box<Failure>>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(context))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(Box::new(panicked()))),
    }
}
