//! What is counted of requests, and of what is written about them: each worker counts for itself.

mod outcome;
mod process;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;

use crate::metric::{Buckets, Counter, Counters, Histogram, Metric, PerWorker, Samples};
use crate::overview::{Overview, Totals};

pub use outcome::{OperationCounts, Outcome, ProfileCounts, ShadowCounts, ShadowResult};
pub use process::{PROCESS, memory_limit};

/// The upper bounds of the histogram of the gateway's own share, in seconds.
const OWN_BOUNDS: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0, 10.0];

/// Statuses are from 100 to 999 (RFC 9110 §15); beyond 599 there are none.
const STATUSES: usize = 500;

/// Requests.
pub const REQUESTS: &[Metric<Metrics>] = &[
    Metric::counter(
        "wbg_requests",
        "Requests answered, by operation and code",
        &["operation", "code"],
        |metrics, out| {
            for operation in metrics.operations() {
                let name = operation.name().unwrap_or("none");
                operation.outcomes().for_each(|(code, count)| out.add(&[name, code], count));
            }
        },
    ),
    Metric::counter(
        "wbg_profile_requests",
        "Requests answered, by the profile of their caller and code",
        &["profile", "code"],
        |metrics, out| {
            let profiles = metrics.profiles.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, profile) in &*profiles {
                profile.outcomes().for_each(|(code, count)| out.add(&[name, code], count));
            }
        },
    ),
    Metric::counter(
        "wbg_shadow_decisions",
        "Decisions of the shadow of a profile, by how they differ from what was decided",
        &["profile", "result"],
        |metrics, out| {
            let shadows = metrics.shadows.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, shadow) in &*shadows {
                shadow.results().for_each(|(result, count)| out.add(&[name, result], count));
            }
        },
    ),
    Metric::counter("wbg_answers", "Answers, by status", &["status"], |metrics, out| {
        for index in 0..STATUSES {
            let count = metrics.workers.sum(|one| &one.answers.0[index]);
            if count > 0 {
                out.add(&[&(index + 100).to_string()], count);
            }
        }
    }),
    Metric::histogram(
        "wbg_request_duration_seconds",
        "Time from a request's head to the end of its answer",
        &["operation"],
        |metrics, out| metrics.durations(OperationCounts::took, out),
    ),
    Metric::histogram(
        "wbg_upstream_duration_seconds",
        "Time from a request's first try at the upstream to the head of its answer",
        &["operation"],
        |metrics, out| metrics.durations(OperationCounts::upstream_took, out),
    ),
    Metric::histogram(
        "wbg_own_duration_seconds",
        "Time of a request without that at the upstream",
        &[],
        |metrics, out| out.add(&[], metrics.own()),
    ),
];

/// Lines that were lost.
pub const LINES: &[Metric<Metrics>] = &[
    Metric::counter(
        "wbg_access_lines_lost",
        "Access lines that could not be written",
        &[],
        |metrics, out| out.add(&[], &metrics.access_lines_lost),
    ),
    Metric::counter(
        "wbg_log_lines_lost",
        "Lines of the log that standard error did not take",
        &[],
        |metrics, out| out.add(&[], &metrics.log_lines_lost),
    ),
];

/// What a worker counts besides requests by operation.
#[derive(Default)]
struct AnswerCounts {
    /// By their status, from 100 on.
    answers: Counters<STATUSES>,
    own: Histogram<{ OWN_BOUNDS.len() }>,
}

/// What became of the records of tokens.
#[derive(Default)]
pub(super) struct AuditCounts {
    pub(super) records: Counter,
    pub(super) lost: Counter,
    pub(super) failed: Counter,
}

/// What telemetry counts. It outlives every configuration.
pub struct Metrics {
    operations: Mutex<BTreeMap<Box<str>, Arc<OperationCounts>>>,
    profiles: Mutex<BTreeMap<Box<str>, Arc<ProfileCounts>>>,
    shadows: Mutex<BTreeMap<Box<str>, Arc<ShadowCounts>>>,
    workers: PerWorker<AnswerCounts>,
    pub(super) access_lines_lost: Counter,
    pub(super) log_lines_lost: Counter,
    pub(super) audit: AuditCounts,
    /// What is remembered of the last hour.
    pub overview: Overview,
}

impl Metrics {
    /// Counters for so many workers, all at 0.
    pub fn new(workers: usize) -> Self {
        Self {
            operations: Mutex::default(),
            profiles: Mutex::default(),
            shadows: Mutex::default(),
            workers: PerWorker::new(workers),
            access_lines_lost: Counter::default(),
            log_lines_lost: Counter::default(),
            audit: AuditCounts::default(),
            overview: Overview::new(workers),
        }
    }

    /// What was counted of all requests.
    pub fn totals(&self) -> Totals {
        outcome::totals(&self.operations(), self.own())
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers.workers()
    }

    /// The counters of an operation; those that are there already, if they are. The name is empty
    /// for requests that match none.
    pub fn operation(&self, name: &str) -> Arc<OperationCounts> {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(OperationCounts::new(name, self.workers()));
        Arc::clone(operations.entry(name.into()).or_insert_with(new))
    }

    /// The counters of a profile; those that are there already, if they are.
    pub fn profile(&self, name: &str) -> Arc<ProfileCounts> {
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(ProfileCounts::new(self.workers()));
        Arc::clone(profiles.entry(name.into()).or_insert_with(new))
    }

    /// The counters of the shadow of a profile, by the profile that decides.
    pub fn shadow(&self, name: &str) -> Arc<ShadowCounts> {
        let mut shadows = self.shadows.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(ShadowCounts::new(self.workers()));
        Arc::clone(shadows.entry(name.into()).or_insert_with(new))
    }

    /// Counts an answer by its status, where there was one, and what the gateway itself took of
    /// its time.
    pub(super) fn answered(&self, worker: usize, status: Option<StatusCode>, own: Duration) {
        let Some(counts) = self.workers.get(worker) else { return };
        let index = status.map(|status| usize::from(status.as_u16()).saturating_sub(100));
        if let Some(counter) = index.and_then(|index| counts.answers.0.get(index)) {
            counter.add(1);
        }
        counts.own.count(&OWN_BOUNDS, own);
    }

    fn own(&self) -> Buckets {
        Buckets::of(&OWN_BOUNDS, self.workers.iter().map(|one| &one.own))
    }

    fn operations(&self) -> Vec<Arc<OperationCounts>> {
        let operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.values().cloned().collect()
    }

    fn durations(&self, of: fn(&OperationCounts) -> Buckets, out: &mut Samples) {
        for operation in self.operations() {
            let buckets = of(&operation);
            if buckets.count() > 0 {
                out.add(&[operation.name().unwrap_or("none")], buckets);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;
    use crate::metric::{MetricSet, TextFormat};

    #[test]
    fn what_workers_count_is_added_up() {
        let metrics = Metrics::new(2);
        let operation = metrics.operation("rooms.get");
        let waited = Some(Duration::from_millis(40));
        operation.count(0, Outcome::Answered, Duration::from_millis(2), None);
        operation.count(1, Outcome::Answered, Duration::from_millis(2), waited);
        operation.count(1, Outcome::Failed(Code::BodyTooLarge), Duration::from_secs(40), None);
        operation.count(1, Outcome::Failed(Code::HeadTooLarge), Duration::from_secs(40), None);
        metrics.operation("").count(0, Outcome::Gone, Duration::ZERO, None);
        metrics.profile("student").count(1, Outcome::Failed(Code::RateLimited));
        metrics.answered(0, Some(StatusCode::CREATED), Duration::from_micros(90));
        metrics.answered(1, Some(StatusCode::CREATED), Duration::from_micros(110));
        metrics.answered(1, None, Duration::from_secs(60));
        metrics.log_lines_lost.add_shared(4);
        let mut set = MetricSet::default();
        [REQUESTS, LINES].iter().for_each(|table| set.read(table, &metrics));
        let text = set.text(TextFormat::OpenMetrics);
        for line in [
            "wbg_requests_total{operation=\"rooms.get\",code=\"ok\"} 2",
            "wbg_requests_total{operation=\"rooms.get\",code=\"too_large\"} 2",
            "wbg_requests_total{operation=\"none\",code=\"caller_gone\"} 1",
            "wbg_request_duration_seconds_bucket{le=\"0.0025\",operation=\"rooms.get\"} 2",
            "wbg_request_duration_seconds_bucket{le=\"+Inf\",operation=\"rooms.get\"} 4",
            "wbg_request_duration_seconds_count{operation=\"rooms.get\"} 4",
            "wbg_requests_total{operation=\"rooms.get\",code=\"internal\"} 0",
            "wbg_upstream_duration_seconds_bucket{le=\"0.025\",operation=\"rooms.get\"} 0",
            "wbg_upstream_duration_seconds_bucket{le=\"0.05\",operation=\"rooms.get\"} 1",
            "wbg_upstream_duration_seconds_sum{operation=\"rooms.get\"} 0.04",
            "wbg_own_duration_seconds_bucket{le=\"0.0001\"} 1",
            "wbg_own_duration_seconds_bucket{le=\"10.0\"} 2",
            "wbg_own_duration_seconds_count 3",
            "wbg_answers_total{status=\"201\"} 2",
            "wbg_profile_requests_total{profile=\"student\",code=\"rate_limited\"} 1",
            "wbg_profile_requests_total{profile=\"student\",code=\"ok\"} 0",
            "wbg_log_lines_lost_total 4",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
        assert!(!text.contains("code=\"forbidden\""), "what callers do wrong is not shown at 0");
    }

    #[test]
    fn operations_and_profiles_keep_their_counters_over_reloads() {
        let metrics = Metrics::new(1);
        assert!(Arc::ptr_eq(&metrics.operation("a"), &metrics.operation("a")));
        assert!(Arc::ptr_eq(&metrics.profile("a"), &metrics.profile("a")));
    }
}
