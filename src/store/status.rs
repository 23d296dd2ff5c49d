//! How the store does, as all workers together see it: for the log, the metrics and readiness.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::StoreError;
use crate::metric::{Counter, Metric};

/// The store.
pub const METRICS: &[Metric<StoreStatus>] = &[
    Metric::gauge(
        "wbg_ratelimit_degraded",
        "1 while the store that several gateways share does not answer",
        &[],
        |status, out| out.add(&[], status.is_down()),
    ),
    Metric::counter(
        "wbg_store_calls",
        "Calls of the store, by what came of them",
        &["result"],
        |status, out| {
            let Calls { answered, late, failed, skipped } = &status.calls;
            out.each([
                ("answered", answered),
                ("late", late),
                ("failed", failed),
                ("skipped", skipped),
            ]);
        },
    ),
];

/// How the store does.
#[derive(Default)]
pub struct StoreStatus {
    /// Connections of workers that are down.
    down: AtomicUsize,
    error: Mutex<Option<String>>,
    calls: Calls,
}

/// What came of calls.
#[derive(Default)]
pub(super) struct Calls {
    answered: Counter,
    late: Counter,
    failed: Counter,
    skipped: Counter,
}

impl StoreStatus {
    /// Whether any worker does without the store.
    pub fn is_down(&self) -> bool {
        self.down.load(Relaxed) > 0
    }

    /// Why it is down, in words that hold no secret.
    pub fn error(&self) -> Option<String> {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.clone().filter(|_| self.is_down())
    }

    pub(super) const fn calls(&self) -> &Calls {
        &self.calls
    }

    /// How many answers came too late.
    #[cfg(test)]
    pub(crate) fn late(&self) -> u64 {
        self.calls.late.get()
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
    /// Counts a call, and why it failed if it did.
    pub(super) fn count(&self, failed: Option<StoreError>) {
        let counter = match failed {
            None => &self.answered,
            Some(StoreError::Down) => &self.skipped,
            Some(StoreError::Late) => &self.late,
            Some(StoreError::Failed) => &self.failed,
        };
        // A call has cost a round trip: what workers share here is no matter beside it.
        counter.add_shared(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_down_while_any_connection_is() {
        let status = StoreStatus::default();
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
