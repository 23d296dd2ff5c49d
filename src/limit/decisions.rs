//! By what requests were decided, where a store is shared: for the metrics.

use std::cell::Cell;

use crate::metric::{Counter, Metric};

/// Requests under limits that are kept in a store.
pub const DECISIONS: &[Metric<ByDecision<Counter>>] = &[Metric::counter(
    "wbg_limit_decisions",
    "Requests under a limit in the store, by what decided about them",
    &["by"],
    |decisions, out| {
        let ByDecision { store, lease, memory, degraded } = decisions;
        out.each([("store", store), ("lease", lease), ("memory", memory), ("degraded", degraded)]);
    },
)];

/// Something for each that decides.
#[derive(Default)]
pub struct ByDecision<T> {
    /// The store itself.
    pub(super) store: T,
    pub(super) lease: T,
    /// The memory of a refusal.
    pub(super) memory: T,
    /// What the profile says of a store that does not answer.
    pub(super) degraded: T,
}

/// What a worker has counted since the last tick, so that counting costs no cache line of another
/// core.
pub(super) type Decided = ByDecision<Cell<u64>>;

impl ByDecision<Counter> {
    /// Adds what a worker has counted.
    pub(super) fn take(&self, decided: &Decided) {
        self.store.add_shared(decided.store.take());
        self.lease.add_shared(decided.lease.take());
        self.memory.add_shared(decided.memory.take());
        self.degraded.add_shared(decided.degraded.take());
    }
}
