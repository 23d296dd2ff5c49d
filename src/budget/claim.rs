//! What is asked of a counter store, wherever it keeps its counters, and what it says.

use std::cmp::Reverse;
use std::sync::Arc;

use super::metrics::BudgetCounts;
use super::window::Window;

/// One of a budget is wanted.
#[derive(Clone)]
pub(super) struct BudgetClaim<'a> {
    /// The place of the budget among all.
    pub(super) place: usize,
    /// Its id, `profile/name`: it stays the same over reloads and restarts.
    pub(super) budget: Arc<str>,
    /// The number of the caller; 0 for the whole profile.
    pub(super) caller: u64,
    /// The name of the caller, for people; empty for the whole profile.
    pub(super) name: &'a str,
    pub(super) window: Window,
    pub(super) most: u32,
    pub(super) counts: &'a Arc<BudgetCounts>,
}

/// Why nothing was taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReserveError {
    /// The claim at that place has nothing left.
    #[error("nothing is left")]
    Exhausted(usize),
    /// By the clock of the ledger it is another window; it knows the time from now on.
    #[error("by the store's clock it is another time")]
    Elsewhen,
    /// The counters cannot be reached or written; why is for the log.
    #[error("{0}")]
    StoreError(String),
}

/// How a counter stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterUsage {
    /// The id of the budget.
    pub budget: Arc<str>,
    /// The number of the caller; 0 for the whole profile.
    pub caller: u64,
    /// The caller's name, where it has called since the start.
    pub name: Option<Box<str>>,
    /// The first second of the window.
    pub start: i64,
    /// The first second after it.
    pub end: i64,
    /// How many are used for good.
    pub used: u32,
    /// How many requests in flight hold, who may still give them back.
    pub reserved: u32,
}

/// As many counters are shown.
const SHOWN: usize = 1_000;

/// The counters of a budget in a window are wanted.
pub(super) struct WindowQuery {
    pub(super) budget: Arc<str>,
    pub(super) window: Window,
    pub(super) most: u32,
}

/// Of all counters that were seen, those of which the least is left.
#[derive(Default)]
pub(super) struct Tightest {
    /// With how much of a thousandth is taken.
    kept: Vec<(u64, CounterUsage)>,
    seen: usize,
}

impl WindowQuery {
    pub(super) fn level(&self, caller: u64, used: u32, reserved: u32) -> CounterUsage {
        let Window { start, end } = self.window;
        CounterUsage {
            budget: Arc::clone(&self.budget),
            caller,
            name: None,
            start,
            end,
            used,
            reserved,
        }
    }
}

impl Tightest {
    pub(super) fn add(&mut self, of: &WindowQuery, level: CounterUsage) {
        let taken = u64::from(level.used) + u64::from(level.reserved);
        let per_mille = taken.saturating_mul(1_000) / u64::from(of.most.max(1));
        self.kept.push((per_mille, level));
        self.seen += 1;
        if self.kept.len() > 2 * SHOWN {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let order = |(per_mille, level): &(u64, CounterUsage)| {
            (Reverse(*per_mille), Arc::clone(&level.budget), level.caller)
        };
        self.kept.sort_by_cached_key(order);
        self.kept.truncate(SHOWN);
    }

    /// Those of which the least is left, in that order, and how many others there are.
    pub(super) fn finish(mut self) -> (Vec<CounterUsage>, usize) {
        self.cut();
        let others = self.seen - self.kept.len();
        (self.kept.into_iter().map(|(_, level)| level).collect(), others)
    }
}
