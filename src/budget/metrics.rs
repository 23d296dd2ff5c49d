//! What is counted of budgets, by the profile that has them and by what they are of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::metric::{Counter, Metric, Samples};

/// Budgets.
pub const METRICS: &[Metric<AllCounts>] = &[
    Metric::counter(
        "wbg_budget_refusals",
        "Requests refused since a budget was used up",
        LABELS,
        |all, out| all.read(|counts| &counts.refused, out),
    ),
    Metric::counter(
        "wbg_budget_refunds",
        "Units of budgets given back, of requests that came to nothing",
        LABELS,
        |all, out| all.read(|counts| &counts.refunded, out),
    ),
    Metric::counter(
        "wbg_budget_losses",
        "Units of budgets that may stay taken for nothing: the store did not answer",
        LABELS,
        |all, out| all.read(|counts| &counts.lost, out),
    ),
];

const LABELS: &[&str] = &["profile", "of"];

/// The counters of one kind of a profile's budgets.
#[derive(Default)]
pub(super) struct BudgetCounts {
    /// Requests refused.
    pub(super) refused: Counter,
    /// Units given back.
    pub(super) refunded: Counter,
    /// Units that were taken, or may have been, and are not given back though the request came to
    /// nothing.
    pub(super) lost: Counter,
}

type ByBudget = BTreeMap<(Box<str>, &'static str), Arc<BudgetCounts>>;

/// The counters of all budgets that there ever were: they outlive a configuration.
#[derive(Default)]
pub struct AllCounts(Mutex<ByBudget>);

impl AllCounts {
    /// Those of a profile's budgets of that kind.
    pub(super) fn of(&self, profile: &str, of: &'static str) -> Arc<BudgetCounts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry((profile.into(), of)).or_default())
    }

    fn read(&self, counter: fn(&BudgetCounts) -> &Counter, out: &mut Samples) {
        for ((profile, of), counts) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            out.add(&[profile, of], counter(counts));
        }
    }
}
