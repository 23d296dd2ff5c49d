//! Since when something is so, by a clock that is read once a tick.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Since when something is so. Without a look at the clock it is known at the next tick: then it
/// has lasted for a little longer than is counted, and no deadline is early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Since {
    At(Instant),
    /// Since the last tick.
    New,
}

/// A clock that is read once a tick: deadlines of seconds need no finer one, and a request should
/// not pay for it.
pub(super) struct TickClock(pub(super) Cell<Instant>);

impl Since {
    pub(super) fn elapsed(self, now: Instant) -> Duration {
        match self {
            Self::At(since) => now.saturating_duration_since(since),
            Self::New => Duration::ZERO,
        }
    }

    /// As if it were so for so long less.
    pub(super) fn put_off(&mut self, time: Duration) {
        if let Self::At(since) = self {
            *since += time;
        }
    }

    pub(super) fn tick(&mut self, now: Instant) {
        if *self == Self::New {
            *self = Self::At(now);
        }
    }
}
