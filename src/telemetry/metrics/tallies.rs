//! What came of requests, by operation and by the profile of their caller.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::spread::{Spread, Sum};
use super::{BOUNDS, add};
use crate::failure::Code;

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// It was answered with success.
    Answered,
    /// It failed with that code.
    Failed(Code),
    /// The caller went away before there was an answer.
    Gone,
}

impl Tally {
    const COUNT: usize = Code::COUNT + 2;

    const fn index(self) -> usize {
        match self {
            Self::Failed(code) => code.index(),
            Self::Answered => Code::COUNT,
            Self::Gone => Code::COUNT + 1,
        }
    }

    /// `ok`, `caller_gone`, or the code of the failure.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "ok",
            Self::Failed(code) => code.name(),
            Self::Gone => "caller_gone",
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        Code::all().map(Self::Failed).chain([Self::Answered, Self::Gone])
    }

    /// Whether it is told before it has happened. A counter that is born at 1 has no increase that
    /// anybody could see, and of these the first one matters.
    fn is_told_at_zero(self) -> bool {
        match self {
            Self::Answered => true,
            Self::Failed(code) => !code.is_of_the_caller(),
            Self::Gone => false,
        }
    }
}

/// A counter for each that can come of a request.
struct Tallies([AtomicU64; Tally::COUNT]);

impl Default for Tallies {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Tally::COUNT])
    }
}

impl Tallies {
    fn count(&self, tally: Tally) {
        add(&self.0[tally.index()], 1);
    }

    /// Those of all workers, by the names that they are told by.
    fn sum<'a>(of: impl Iterator<Item = &'a Self> + Clone) -> Vec<(&'static str, u64)> {
        let mut by_name: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        for tally in Tally::all() {
            // Several codes share a name.
            let (count, told) = by_name.entry(tally.name()).or_default();
            *count += of.clone().map(|one| one.0[tally.index()].load(Relaxed)).sum::<u64>();
            *told |= *count > 0 || tally.is_told_at_zero();
        }
        let told = by_name.into_iter().filter(|(_, (_, told))| *told);
        told.map(|(name, (count, _))| (name, count)).collect()
    }
}

/// The counters of one operation.
pub struct OperationCounts {
    /// Empty for requests that matched none.
    name: Box<str>,
    workers: Box<[OfOperation]>,
}

/// On a cache line of its own: no worker waits for another's.
#[derive(Default)]
#[repr(align(128))]
struct OfOperation {
    tallies: Tallies,
    took: Spread<{ BOUNDS.len() }>,
    upstream_took: Spread<{ BOUNDS.len() }>,
}

impl OperationCounts {
    pub(super) fn new(name: &str, workers: usize) -> Self {
        let workers = (0..workers).map(|_| OfOperation::default()).collect();
        Self { name: name.into(), workers }
    }

    /// The operation's name; `None` for requests that matched none.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        (!self.name.is_empty()).then_some(&self.name)
    }

    /// Counts a request; `upstream_took` where it was at the upstream.
    pub(in crate::telemetry) fn count(
        &self,
        worker: usize,
        tally: Tally,
        took: Duration,
        upstream_took: Option<Duration>,
    ) {
        let Some(counts) = self.workers.get(worker) else { return };
        counts.tallies.count(tally);
        counts.took.count(&BOUNDS, took);
        if let Some(upstream_took) = upstream_took {
            counts.upstream_took.count(&BOUNDS, upstream_took);
        }
    }

    pub(super) fn tallies(&self) -> Vec<(&'static str, u64)> {
        Tallies::sum(self.workers.iter().map(|counts| &counts.tallies))
    }

    pub(super) fn took(&self) -> Sum {
        Sum::of(&BOUNDS, self.workers.iter().map(|counts| &counts.took))
    }

    pub(super) fn upstream_took(&self) -> Sum {
        Sum::of(&BOUNDS, self.workers.iter().map(|counts| &counts.upstream_took))
    }
}

/// The counters of one profile: what came of the requests of its callers.
pub struct ProfileCounts {
    workers: Box<[OfProfile]>,
}

#[derive(Default)]
#[repr(align(128))]
struct OfProfile(Tallies);

impl ProfileCounts {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| OfProfile::default()).collect() }
    }

    pub(in crate::telemetry) fn count(&self, worker: usize, tally: Tally) {
        if let Some(OfProfile(tallies)) = self.workers.get(worker) {
            tallies.count(tally);
        }
    }

    pub(super) fn tallies(&self) -> Vec<(&'static str, u64)> {
        Tallies::sum(self.workers.iter().map(|OfProfile(tallies)| tallies))
    }
}
