//! What came of requests, by operation and by the profile of their caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::failure::Code;
use crate::metric::{Buckets, Counter, Counters, Histogram, PerWorker};
use crate::overview::{OUTCOMES, Totals};

/// The upper bounds of the histograms of whole requests, in seconds.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered with success.
    Answered,
    /// It failed with that code.
    Failed(Code),
    /// The caller went away before there was an answer.
    Gone,
}

impl Outcome {
    const COUNT: usize = OUTCOMES;

    const fn index(self) -> usize {
        match self {
            Self::Failed(code) => code.index(),
            Self::Answered => Code::COUNT,
            Self::Gone => Code::COUNT + 1,
        }
    }

    /// `ok`, `caller_gone`, or the code of the failure.
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

    /// Whether it is shown before it has happened. A counter that appears at 1 has no increase that
    /// anyone could see, and of these the first one matters.
    fn is_shown_at_zero(self) -> bool {
        match self {
            Self::Answered => true,
            Self::Failed(code) => !code.is_of_the_caller(),
            Self::Gone => false,
        }
    }
}

/// A counter for each outcome.
#[derive(Default)]
struct Outcomes(Counters<{ Outcome::COUNT }>);

impl Outcomes {
    fn count(&self, outcome: Outcome) {
        self.0.0[outcome.index()].add(1);
    }

    /// Those of all workers, by their names: several codes share one.
    fn sum<'a>(
        of: impl Iterator<Item = &'a Self> + Clone,
    ) -> impl Iterator<Item = (&'static str, u64)> {
        let mut by_name: BTreeMap<&str, (u64, bool)> = BTreeMap::new();
        for outcome in Outcome::all() {
            let (count, shown) = by_name.entry(outcome.name()).or_default();
            *count += of.clone().map(|one| one.0.0[outcome.index()].get()).sum::<u64>();
            *shown |= *count > 0 || outcome.is_shown_at_zero();
        }
        let shown = by_name.into_iter().filter(|(_, (_, shown))| *shown);
        shown.map(|(name, (count, _))| (name, count))
    }
}

/// What came of all requests of some operations, and how long they took.
pub(super) fn totals(operations: &[Arc<OperationCounts>], gateway: Buckets) -> Totals {
    let workers = || operations.iter().flat_map(|operation| operation.workers.iter());
    let outcome = |index: usize| workers().map(|counts| counts.outcomes.0.0[index].get()).sum();
    Totals {
        outcomes: std::array::from_fn(outcome),
        whole: Buckets::of(&BOUNDS, workers().map(|counts| &counts.took)),
        service: Buckets::of(&BOUNDS, workers().map(|counts| &counts.upstream_took)),
        gateway,
    }
}

/// The counters of one operation.
pub struct OperationCounts {
    /// Empty for requests that matched none.
    name: Box<str>,
    workers: PerWorker<OfOperation>,
}

#[derive(Default)]
struct OfOperation {
    outcomes: Outcomes,
    took: Histogram<{ BOUNDS.len() }>,
    upstream_took: Histogram<{ BOUNDS.len() }>,
}

impl OperationCounts {
    pub(super) fn new(name: &str, workers: usize) -> Self {
        Self { name: name.into(), workers: PerWorker::new(workers) }
    }

    /// The operation's name; `None` for requests that matched none.
    pub fn name(&self) -> Option<&str> {
        (!self.name.is_empty()).then_some(&self.name)
    }

    /// Counts a request; `upstream_took` where it was at the upstream.
    pub(in crate::telemetry) fn count(
        &self,
        worker: usize,
        outcome: Outcome,
        took: Duration,
        upstream_took: Option<Duration>,
    ) {
        let Some(counts) = self.workers.get(worker) else { return };
        counts.outcomes.count(outcome);
        counts.took.count(&BOUNDS, took);
        if let Some(upstream_took) = upstream_took {
            counts.upstream_took.count(&BOUNDS, upstream_took);
        }
    }

    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Outcomes::sum(self.workers.iter().map(|counts| &counts.outcomes))
    }

    pub(super) fn took(&self) -> Buckets {
        Buckets::of(&BOUNDS, self.workers.iter().map(|counts| &counts.took))
    }

    pub(super) fn upstream_took(&self) -> Buckets {
        Buckets::of(&BOUNDS, self.workers.iter().map(|counts| &counts.upstream_took))
    }
}

/// What the shadow of a profile would have decided, beside what was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowResult {
    /// The same.
    Same,
    /// It would have allowed what was refused.
    Gained,
    /// It would have refused what was allowed.
    Lost,
    /// It would have granted another token.
    Changed,
    /// That hangs on what was not looked at.
    CannotTell,
}

impl ShadowResult {
    const ALL: [Self; 5] = [Self::Same, Self::Gained, Self::Lost, Self::Changed, Self::CannotTell];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Gained => "gained",
            Self::Lost => "lost",
            Self::Changed => "changed",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// The counters of a profile that has a shadow.
pub struct ShadowCounts(PerWorker<[Counter; ShadowResult::ALL.len()]>);

impl ShadowCounts {
    pub(super) fn new(workers: usize) -> Self {
        Self(PerWorker::new(workers))
    }

    /// Counts a request.
    pub fn count(&self, worker: usize, result: ShadowResult) {
        if let Some(counts) = self.0.get(worker) {
            counts[result as usize].add(1);
        }
    }

    pub(super) fn results(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ShadowResult::ALL.into_iter().map(|result| {
            (result.as_str(), self.0.iter().map(|counts| counts[result as usize].get()).sum())
        })
    }
}

/// The counters of one profile: what came of the requests of its callers.
pub struct ProfileCounts(PerWorker<Outcomes>);

impl ProfileCounts {
    pub(super) fn new(workers: usize) -> Self {
        Self(PerWorker::new(workers))
    }

    pub(in crate::telemetry) fn count(&self, worker: usize, outcome: Outcome) {
        if let Some(outcomes) = self.0.get(worker) {
            outcomes.count(outcome);
        }
    }

    pub(super) fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Outcomes::sum(self.0.iter())
    }
}
