//! What the process remembers of the last hour, for whoever looks at it: traffic by minutes, the
//! last failures, and callers by use.
//!
//! Nothing here waits and everything is bounded. Minutes are differences of what telemetry counts
//! anyway. Workers tell failures and callers by locks that they try and never wait for: what does
//! not get one now is told later. It holds what access lines hold, so no secret.

mod callers;
mod failures;
mod form;
mod minutes;

pub use callers::{CallerSeen, CallerUse, CallersByUse, OtherCallers};
pub use failures::{FailureKind, FailureSeen, LastFailures, RecordedFailure};
pub use minutes::{InFlightGauge, Latency, MinuteTraffic, OUTCOMES, Totals, Traffic};

use callers::{CallerTable, WorkerCallers};
use failures::{FailureRings, Pending};
use minutes::MinutesKept;

/// What is remembered. Shared by all workers, and outlives every configuration.
pub struct Overview {
    failures: FailureRings,
    callers: CallerTable,
    minutes: MinutesKept,
    in_flight: InFlightGauge,
}

/// What one worker has not told yet.
#[derive(Default)]
pub struct WorkerOverview {
    failures: Pending,
    callers: WorkerCallers,
}

impl Overview {
    /// Nothing yet, of so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            failures: FailureRings::default(),
            callers: CallerTable::default(),
            minutes: MinutesKept::default(),
            in_flight: InFlightGauge::new(workers),
        }
    }

    /// The last failures, by whose doing they are.
    pub fn failures(&self) -> LastFailures {
        self.failures.view()
    }

    /// Who called in the last hour, who called most first.
    pub fn callers(&self) -> CallersByUse {
        self.callers.view()
    }

    /// How many requests are at the service.
    pub const fn in_flight(&self) -> &InFlightGauge {
        &self.in_flight
    }

    /// A minute is over: what was counted until now. Gives that minute.
    pub fn end_minute(&self, now_ms: u64, totals: Totals) -> MinuteTraffic {
        self.minutes.end(now_ms, totals, self.in_flight.take_highest())
    }

    /// The last hour, and the minute that is not over.
    pub fn traffic(&self, now_ms: u64, totals: &Totals) -> Traffic {
        self.minutes.view(now_ms, totals, self.in_flight.highest())
    }
}

impl WorkerOverview {
    /// Counts a request of a caller.
    #[inline]
    pub fn count(&self, overview: &Overview, seen: &CallerSeen<'_>) {
        self.callers.count(&overview.callers, seen);
    }

    /// Takes note of a failure.
    pub fn record(&self, overview: &Overview, seen: &FailureSeen<'_>) {
        self.failures.record(&overview.failures, seen);
    }

    /// Tells what it has not told yet.
    pub fn hand_over(&self, overview: &Overview) {
        self.callers.hand_over(&overview.callers);
        self.failures.hand_over(&overview.failures);
    }
}
