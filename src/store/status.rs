//! How the store does, as all workers together see it: for the log, the metrics and readiness.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::Unavailable;

/// How the store does.
#[derive(Default)]
pub struct Status {
    /// Connections of workers that are down.
    down: AtomicUsize,
    error: Mutex<Option<String>>,
    calls: Calls,
}

/// What came of calls.
#[derive(Default)]
pub struct Calls {
    answered: AtomicU64,
    late: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

impl Status {
    /// Whether any worker does without the store.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Relaxed) > 0
    }

    /// Why it is down, in words that hold no secret.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.clone().filter(|_| self.is_down())
    }

    /// What came of calls.
    #[must_use]
    pub const fn calls(&self) -> &Calls {
        &self.calls
    }

    /// A connection is down; the first one is news.
    pub(super) fn down(&self, why: &str) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
        if self.down.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(why, "the store does not answer: nobody waits for it until it does");
        }
    }

    /// A connection that was down is up again; the last one is news.
    pub(super) fn up(&self) {
        if self.down.fetch_sub(1, Relaxed) == 1 {
            tracing::info!("the store answers again");
        }
    }

    /// A connection that is down is not needed any more.
    pub(super) fn gone(&self) {
        self.down.fetch_sub(1, Relaxed);
    }
}

impl Calls {
    /// By the word that metrics have for them.
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        [
            ("answered", self.answered.load(Relaxed)),
            ("late", self.late.load(Relaxed)),
            ("failed", self.failed.load(Relaxed)),
            ("skipped", self.skipped.load(Relaxed)),
        ]
    }

    /// Counts a call, and why it failed if it did.
    pub(super) fn count(&self, failed: Option<Unavailable>) {
        let counter = match failed {
            None => &self.answered,
            Some(Unavailable::Down) => &self.skipped,
            Some(Unavailable::Late) => &self.late,
            Some(Unavailable::Failed) => &self.failed,
        };
        // A call has cost a round trip: what workers share here is no matter beside it.
        counter.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_down_while_any_connection_is() {
        let status = Status::default();
        assert!(!status.is_down());
        status.down("one");
        status.down("two");
        status.up();
        assert!(status.is_down());
        assert_eq!(status.error().as_deref(), Some("two"));
        status.gone();
        assert_eq!((status.is_down(), status.error()), (false, None));
    }
}
