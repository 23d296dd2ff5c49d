//! Counters, kept by each worker for itself and added up when somebody asks.
//!
//! A worker is the only writer of its counters, so counting takes no lock and no cache line of
//! another core.

mod exposition;
mod levels;
mod plain;
mod process;
mod spread;
mod tallies;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::api::Priority;
use exposition::Scrape;
use spread::Spread;

pub use levels::{
    BreakerLevel, CollectorLevel, IssuerLevel, Levels, ProjectLevel, SdkTokenLevel, StoreLevel,
};
pub use plain::plain;
pub use tallies::{OperationCounts, ProfileCounts, Tally};

/// The upper bounds of the histograms of whole requests, in seconds.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Those of the gateway's own share.
const OWN_BOUNDS: [f64; 10] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.1, 1.0, 10.0];

/// Statuses are from 100 to 999 (RFC 9110 §15); beyond 599 there are none.
const STATUSES: usize = 500;

/// Why a connection was ended, or not even begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutCount {
    /// There were as many as the process takes, and none that was idle.
    Full,
    /// There were as many from its address as may be.
    Crowd,
    /// It was idle, and another one needed its place.
    CrowdedOut,
    /// Its peer took nothing of an answer.
    Stalled,
    /// Its peer sent too many frames that ask for no answer.
    Flooding,
    /// The process had no descriptor left for it.
    NoDescriptor,
}

impl CutCount {
    const ALL: [(Self, &str); 6] = [
        (Self::Full, "full"),
        (Self::Crowd, "address_full"),
        (Self::CrowdedOut, "crowded_out"),
        (Self::Stalled, "stalled"),
        (Self::Flooding, "flooding"),
        (Self::NoDescriptor, "no_descriptor"),
    ];
}

/// What came of one kind of a profile's budgets.
#[derive(Default)]
pub struct BudgetCounts {
    refused: AtomicU64,
    refunded: AtomicU64,
    lost: AtomicU64,
}

type ByBudget = BTreeMap<(Box<str>, &'static str), Arc<BudgetCounts>>;

impl BudgetCounts {
    /// A budget was used up, and a request refused.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// What a request had taken was given back.
    pub fn refunded(&self) {
        self.refunded.fetch_add(1, Relaxed);
    }

    /// What a request had taken, or may have taken, is not given back though it came to nothing.
    pub fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }
}

/// Answers by their status, from 100 on.
struct Answers([AtomicU64; STATUSES]);

impl Default for Answers {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; STATUSES])
    }
}

/// What a worker counts besides requests by operation.
#[derive(Default)]
#[repr(align(128))]
struct WorkerCounts {
    answers: Answers,
    own: Spread<{ OWN_BOUNDS.len() }>,
    connections: AtomicI64,
    cuts: [AtomicU64; CutCount::ALL.len()],
    sent: AtomicU64,
    connects: AtomicU64,
    connects_failed: AtomicU64,
    minted_for_callers: AtomicU64,
    minted_for_upstream: AtomicU64,
    browser_sdk_tokens: AtomicU64,
    retries: [AtomicU64; RETRY_REASONS.len()],
    retries_denied: AtomicU64,
    shed: [AtomicU64; Priority::COUNT],
    in_flight: AtomicU64,
    in_flight_limit: AtomicU64,
}

/// Why requests are sent once more, in the order in which they are told.
const RETRY_REASONS: [&str; 5] = ["connect", "refused", "broken", "timeout", "status"];

/// All counters of the process.
pub struct Metrics {
    operations: Mutex<BTreeMap<Box<str>, Arc<OperationCounts>>>,
    profiles: Mutex<BTreeMap<Box<str>, Arc<ProfileCounts>>>,
    /// By profile, and what they are of.
    budgets: Mutex<ByBudget>,
    workers: Box<[WorkerCounts]>,
    lines_lost: AtomicU64,
    audit_records: AtomicU64,
    audit_lost: AtomicU64,
    audit_failed: AtomicU64,
    reloads: [AtomicU64; 2],
    reload_failed: AtomicBool,
    version: Mutex<String>,
    started: f64,
}

/// The counter's only writer adds to it: no locked instruction is needed.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

impl Metrics {
    /// Counters for so many workers, all at 0.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            operations: Mutex::default(),
            profiles: Mutex::default(),
            budgets: Mutex::default(),
            workers: (0..workers).map(|_| WorkerCounts::default()).collect(),
            lines_lost: AtomicU64::new(0),
            audit_records: AtomicU64::new(0),
            audit_lost: AtomicU64::new(0),
            audit_failed: AtomicU64::new(0),
            reloads: Default::default(),
            reload_failed: AtomicBool::new(false),
            version: Mutex::default(),
            started: started.as_secs_f64(),
        }
    }

    /// The counters of an operation; those that are there already, if they are. The name is empty
    /// for requests that match none.
    #[must_use]
    pub fn operation(&self, name: &str) -> Arc<OperationCounts> {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(OperationCounts::new(name, self.workers.len()));
        Arc::clone(operations.entry(name.into()).or_insert_with(new))
    }

    /// The counters of a profile; those that are there already, if they are.
    #[must_use]
    pub fn profile(&self, name: &str) -> Arc<ProfileCounts> {
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(ProfileCounts::new(self.workers.len()));
        Arc::clone(profiles.entry(name.into()).or_insert_with(new))
    }

    /// The counters of a profile's budgets of that kind; those that are there already, if they are.
    #[must_use]
    pub fn budget(&self, profile: &str, of: &'static str) -> Arc<BudgetCounts> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(budgets.entry((profile.into(), of)).or_default())
    }

    /// Counts an answer by its status, where there was one, and what the gateway itself took of
    /// its time.
    pub(super) fn answered(&self, worker: usize, status: Option<StatusCode>, own: Duration) {
        let Some(counts) = self.workers.get(worker) else { return };
        let place = status.map(|status| usize::from(status.as_u16()).saturating_sub(100));
        if let Some(counter) = place.and_then(|place| counts.answers.0.get(place)) {
            add(counter, 1);
        }
        counts.own.count(&OWN_BOUNDS, own);
    }

    /// Counts what a request cost the upstream.
    pub fn upstream(&self, worker: usize, sent: u8, connects: u8, connects_failed: u8) {
        if let Some(counts) = self.workers.get(worker) {
            add(&counts.sent, sent.into());
            add(&counts.connects, connects.into());
            add(&counts.connects_failed, connects_failed.into());
        }
    }

    /// Counts what a request was sent once more for, and whether the budget denied it that.
    pub fn retried(&self, worker: usize, by_reason: [u8; RETRY_REASONS.len()], denied: bool) {
        if let Some(counts) = self.workers.get(worker) {
            for (counter, count) in counts.retries.iter().zip(by_reason) {
                add(counter, count.into());
            }
            add(&counts.retries_denied, denied.into());
        }
    }

    /// Tells how many requests a worker has at the upstream and how many it may have, and counts
    /// those that found no place, by priority.
    pub fn load(
        &self,
        worker: usize,
        (in_flight, limit): (usize, usize),
        shed: [u64; Priority::COUNT],
    ) {
        if let Some(counts) = self.workers.get(worker) {
            counts.in_flight.store(in_flight as u64, Relaxed);
            counts.in_flight_limit.store(limit as u64, Relaxed);
            for (counter, count) in counts.shed.iter().zip(shed) {
                add(counter, count);
            }
        }
    }

    /// Counts tokens: those that callers got, and those that the gateway uses itself.
    pub fn minted(&self, worker: usize, for_callers: u8, for_upstream: u8) {
        if let Some(counts) = self.workers.get(worker) {
            add(&counts.minted_for_callers, for_callers.into());
            add(&counts.minted_for_upstream, for_upstream.into());
        }
    }

    /// Counts an SDK token that a browser sent.
    pub fn browser_sdk_token(&self, worker: usize) {
        if let Some(counts) = self.workers.get(worker) {
            add(&counts.browser_sdk_tokens, 1);
        }
    }

    /// Counts connections that came or went.
    pub fn connections(&self, worker: usize, change: i64) {
        if let Some(counts) = self.workers.get(worker) {
            counts.connections.fetch_add(change, Relaxed);
        }
    }

    /// Counts a connection that was ended, or not even begun.
    pub fn cut(&self, worker: usize, why: CutCount) {
        if let Some(counts) = self.workers.get(worker) {
            add(&counts.cuts[why as usize], 1);
        }
    }

    pub(super) fn access_lines_lost(&self, count: u64) {
        self.lines_lost.fetch_add(count, Relaxed);
    }

    /// Counts records of tokens that were written.
    pub(super) fn audited(&self, records: u64) {
        self.audit_records.fetch_add(records, Relaxed);
    }

    /// Counts tokens that were handed out without a record.
    pub(super) fn audit_lost(&self, count: u64) {
        self.audit_lost.fetch_add(count, Relaxed);
    }

    /// Counts a token that was refused for want of a record.
    pub(super) fn audit_failed(&self) {
        self.audit_failed.fetch_add(1, Relaxed);
    }

    /// Counts a reload, and which configuration counts now.
    pub fn reloaded(&self, version: Option<&str>) {
        self.reloads[usize::from(version.is_some())].fetch_add(1, Relaxed);
        self.reload_failed.store(version.is_none(), Relaxed);
        if let Some(version) = version {
            self.loaded(version);
        }
    }

    /// Names the configuration that counts.
    pub fn loaded(&self, version: &str) {
        version.clone_into(&mut self.version.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether the last reload failed.
    #[must_use]
    pub fn reload_failed(&self) -> bool {
        self.reload_failed.load(Relaxed)
    }

    /// The configuration that counts.
    #[must_use]
    pub fn version(&self) -> String {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything in the OpenMetrics text format, which Prometheus reads.
    ///
    /// # Errors
    /// None that can be caused from outside.
    pub fn encode(self: &Arc<Self>, levels: Levels) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        let metrics = Arc::clone(self);
        registry
            .sub_registry_with_prefix("wbg")
            .register_collector(Box::new(Scrape { metrics, levels }));
        registry.sub_registry_with_prefix("process").register_collector(Box::new(process::Usage));
        let mut out = String::with_capacity(16 * 1024);
        text::encode(&mut out, &registry)?;
        Ok(out)
    }

    fn sum(&self, of: impl Fn(&WorkerCounts) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|counts| of(counts).load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Code;

    #[test]
    fn what_workers_count_is_added_up() {
        let metrics = Arc::new(Metrics::new(2));
        let operation = metrics.operation("rooms.get");
        let waited = Some(Duration::from_millis(40));
        operation.count(0, Tally::Answered, Duration::from_millis(2), None);
        operation.count(1, Tally::Answered, Duration::from_millis(2), waited);
        operation.count(1, Tally::Failed(Code::BodyTooLarge), Duration::from_secs(40), None);
        operation.count(1, Tally::Failed(Code::HeadTooLarge), Duration::from_secs(40), None);
        metrics.operation("").count(0, Tally::Gone, Duration::ZERO, None);
        metrics.profile("student").count(1, Tally::Failed(Code::RateLimited));
        metrics.answered(0, Some(StatusCode::CREATED), Duration::from_micros(90));
        metrics.answered(1, Some(StatusCode::CREATED), Duration::from_micros(110));
        metrics.answered(1, None, Duration::from_secs(60));
        metrics.connections(0, 3);
        metrics.connections(0, -1);
        metrics.cut(0, CutCount::Flooding);
        metrics.cut(1, CutCount::Flooding);
        metrics.minted(0, 1, 2);
        metrics.browser_sdk_token(1);
        metrics.loaded("abc");
        metrics.reloaded(None);
        let issuer = IssuerLevel {
            name: "school".to_owned(),
            keys: 2,
            age: Some(Duration::from_secs(3)),
            fetches: 5,
            failures: 1,
        };
        let store =
            StoreLevel { down: true, calls: vec![("late", 4)], decisions: vec![("lease", 9)] };
        metrics.retried(0, [1, 0, 0, 2, 0], true);
        metrics.load(0, (3, 100), [5, 1, 0]);
        metrics.load(1, (4, 50), [0, 1, 0]);
        let breaker = BreakerLevel {
            region: "eu".to_owned(),
            state: "open",
            states: [("closed", false), ("open", true), ("half_open", false)],
            opened: 2,
        };
        let console =
            SdkTokenLevel { project: "console".to_owned(), ends_at_ms: 1_800_000_000_500 };
        let levels = Levels {
            ready: true,
            connections_limit: 10_000,
            certificate_end: Some(1_900_000_000),
            limited_callers: 7,
            log_lines_lost: 0,
            projects: vec![ProjectLevel { project: "p".to_owned(), refused: true }],
            sdk_tokens: vec![console],
            issuers: vec![issuer],
            breakers: vec![breaker],
            store: Some(store),
            collector: Some(CollectorLevel {
                spans: [("sent", 8), ("refused", 0), ("dropped", 3)],
                exports: [("succeeded", 2), ("failed", 1)],
            }),
        };
        let text = metrics.encode(levels).unwrap();
        for line in [
            "wbg_requests_total{operation=\"rooms.get\",code=\"ok\"} 2",
            "wbg_project_refused{project=\"p\"} 1",
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
            "wbg_ready 1",
            "wbg_workers 2",
            "wbg_certificate_end_time_seconds 1900000000",
            "wbg_connections 2",
            "wbg_connections_limit 10000",
            "wbg_connections_cut_total{reason=\"full\"} 0",
            "wbg_connections_cut_total{reason=\"flooding\"} 2",
            "wbg_tokens_minted_total{for=\"gateway\"} 2",
            "wbg_browser_sdk_tokens_total 1",
            "wbg_limited_callers 7",
            "wbg_sdk_token_end_time_seconds{project=\"console\"} 1800000000.5",
            "wbg_issuer_keys{issuer=\"school\"} 2",
            "wbg_issuer_keys_age_seconds{issuer=\"school\"} 3.0",
            "wbg_issuer_fetches_total{issuer=\"school\",result=\"succeeded\"} 4",
            "wbg_ratelimit_degraded 1",
            "wbg_store_calls_total{result=\"late\"} 4",
            "wbg_limit_decisions_total{by=\"lease\"} 9",
            "wbg_upstream_retries_total{reason=\"timeout\"} 2",
            "wbg_upstream_retries_denied_total 1",
            "wbg_upstream_in_flight 7",
            "wbg_upstream_in_flight_limit 150",
            "wbg_shed_total{priority=\"low\"} 5",
            "wbg_shed_total{priority=\"normal\"} 2",
            "wbg_upstream_breaker{region=\"eu\",state=\"open\"} 1",
            "wbg_upstream_breaker{region=\"eu\",state=\"closed\"} 0",
            "wbg_upstream_breaker_opened_total{region=\"eu\"} 2",
            "wbg_otlp_spans_total{result=\"dropped\"} 3",
            "wbg_otlp_exports_total{result=\"failed\"} 1",
            "wbg_config_reload_success 0",
            "wbg_config_reloads_total{result=\"failed\"} 1",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
        assert!(!text.contains("code=\"forbidden\""), "what callers do wrong is not told at 0");
        assert!(text.contains("config=\"abc\"") && text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn operations_and_profiles_keep_their_counters_over_reloads() {
        let metrics = Metrics::new(1);
        assert!(Arc::ptr_eq(&metrics.operation("a"), &metrics.operation("a")));
        assert!(Arc::ptr_eq(&metrics.profile("a"), &metrics.profile("a")));
    }
}
