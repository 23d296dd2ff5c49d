//! What goes back to the store: retried until the store says that it has it, and counted as
//! lost when it does not for half a minute.
//!
//! A refund has a mark of its own in the store, so that one whose answer was lost is not done
//! twice: twice would give out more than there is.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::sleep;

use crate::budget::metrics::BudgetCounts;
use crate::store::{Script, Store, StoreError};

/// Gives one of each back.
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));

/// The pauses between attempts: 27 seconds in all, in which another server has taken the place of
/// one that is gone.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 12;

/// How long the store remembers a refund: for longer than it is tried.
const MARKED_SECONDS: u32 = 300;

/// A counter: the hash of a window, and the field of a caller.
pub(super) struct StoreCounter {
    pub(super) key: String,
    pub(super) field: String,
    pub(super) counts: Arc<BudgetCounts>,
}

/// One of each counter, on its way back.
pub(super) struct Refund {
    counters: Vec<StoreCounter>,
    number: u128,
}

impl Refund {
    pub(super) fn of(counters: Vec<StoreCounter>) -> Self {
        Self { counters, number: fastrand::u128(..) }
    }

    /// Gives it back, or counts it as lost.
    pub(super) async fn run(self, store: &Store) {
        let Some(first) = self.counters.first() else { return };
        let mark = self.mark(&first.key);
        let keys = self.counters.iter().map(|counter| counter.key.as_str());
        let keys: Vec<&str> = [mark.as_str()].into_iter().chain(keys).collect();
        let fields = self.counters.iter().map(|counter| counter.field.clone());
        let arguments: Vec<String> =
            [MARKED_SECONDS.to_string()].into_iter().chain(fields).collect();
        let released = again_until(|| store.run(&RELEASE, &keys, &arguments, store.deadline()));
        if released.await.is_none() {
            self.counters.iter().for_each(|counter| counter.counts.lost.add_shared(1));
            tracing::warn!("what was taken of a budget and came to nothing is not given back");
        }
    }

    /// Next to the counters, in their slot: `wbg:{backend}:budget:back:` and the number.
    fn mark(&self, key: &str) -> String {
        let (before, _) = key.split_once("}:").unwrap_or((key, ""));
        format!("{before}}}:budget:back:{:032x}", self.number)
    }
}

/// Asks the store again and again, for as long as that is worth it; `None` when it does not answer.
pub(super) async fn again_until<F>(ask: impl Fn() -> F) -> Option<Vec<i64>>
where
    F: Future<Output = Result<Vec<i64>, StoreError>>,
{
    let mut pause = SHORTEST;
    for attempt in 1..=ATTEMPTS {
        match ask().await {
            Ok(answer) => return Some(answer),
            Err(error) => tracing::debug!(%error, attempt, "the store is asked again"),
        }
        if attempt < ATTEMPTS {
            // Many gateways do not come at once.
            sleep(pause.mul_f64(0.75 + fastrand::f64() * 0.5)).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
    None
}
