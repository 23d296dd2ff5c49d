//! The clock of tests that own the time: it stands still until it is moved.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

thread_local! {
    static NOW: Cell<Instant> = Cell::new(Instant::now());
}

pub(super) fn now() -> Instant {
    NOW.get()
}

pub(super) fn later(time: Duration) {
    NOW.set(NOW.get() + time);
}
