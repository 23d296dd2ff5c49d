//! By what requests were decided, where a store is shared: for the metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What decides: the store itself, a lease, the memory of a refusal, or what the profile says of a
/// store that does not answer.
const NAMES: [&str; 4] = ["store", "lease", "memory", "degraded"];

/// By what requests were decided.
#[derive(Default)]
pub struct Decisions([AtomicU64; NAMES.len()]);

impl Decisions {
    /// By the word that metrics have for it.
    #[must_use]
    pub fn counts(&self) -> [(&'static str, u64); NAMES.len()] {
        let mut counts = NAMES.map(|name| (name, 0));
        for ((_, count), counter) in counts.iter_mut().zip(&self.0) {
            *count = counter.load(Relaxed);
        }
        counts
    }

    /// Adds what a worker has counted.
    pub(super) fn add(&self, counted: [u64; NAMES.len()]) {
        for (counter, count) in self.0.iter().zip(counted) {
            counter.fetch_add(count, Relaxed);
        }
    }
}
