//! What a worker counts of the requests on their way, besides what telemetry counts of each.

use crate::api::Priority;
use crate::metric::{Counter, Gauge, Metric, PerWorker};
use crate::upstream::{ConcurrencyLimit, ForwardReport, RetryReason};

/// Requests at the upstream.
pub const SENT: &[Metric<PerWorker<WorkerCounts>>] = &[Metric::counter(
    "wbg_upstream_requests",
    "Requests sent to the upstream, tries again included",
    &[],
    |counts, out| out.add(&[], counts.sum(|one| &one.sent)),
)];

/// What requests used.
pub const USED: &[Metric<PerWorker<WorkerCounts>>] = &[
    Metric::counter(
        "wbg_browser_sdk_tokens",
        "SDK tokens that browsers sent, each of which opens a whole project",
        &[],
        |counts, out| out.add(&[], counts.sum(|one| &one.browser_sdk_tokens)),
    ),
    Metric::counter(
        "wbg_upstream_connects",
        "Connections to the upstream, by what came of them",
        &["result"],
        |counts, out| {
            out.add(&["opened"], counts.sum(|one| &one.connects));
            out.add(&["failed"], counts.sum(|one| &one.connects_failed));
        },
    ),
    Metric::counter(
        "wbg_tokens_minted",
        "Whiteboard tokens minted, by who uses them",
        &["for"],
        |counts, out| {
            out.add(&["caller"], counts.sum(|one| &one.minted_for_callers));
            out.add(&["gateway"], counts.sum(|one| &one.minted_for_upstream));
        },
    ),
];

/// Requests that were sent again, that could not be sent, and that are at the upstream.
pub const UPSTREAM: &[Metric<PerWorker<WorkerCounts>>] = &[
    Metric::counter(
        "wbg_upstream_retries",
        "Requests sent to the upstream once more, by why",
        &["reason"],
        |counts, out| {
            for reason in RetryReason::ALL {
                let count = counts.sum(|one| &one.retries[reason as usize]);
                out.add(&[reason.as_str()], count);
            }
        },
    ),
    Metric::counter(
        "wbg_upstream_retries_denied",
        "Requests not sent once more, since the budget for that was used up",
        &[],
        |counts, out| out.add(&[], counts.sum(|one| &one.retries_denied)),
    ),
    Metric::counter(
        "wbg_shed",
        "Requests refused for want of a place at the upstream, by priority",
        &["priority"],
        |counts, out| {
            for priority in Priority::ALL {
                let count = counts.sum(|one| &one.shed[priority.index()]);
                out.add(&[priority.as_str()], count);
            }
        },
    ),
    Metric::gauge("wbg_upstream_in_flight", "Requests at the upstream", &[], |counts, out| {
        out.add(&[], counts.iter().map(|one| one.in_flight.get()).sum::<i64>());
    }),
    Metric::gauge(
        "wbg_upstream_in_flight_limit",
        "Requests that may be at the upstream",
        &[],
        |counts, out| {
            let limits = counts.iter().map(|one| one.in_flight_limit.get());
            out.add(&[], limits.sum::<i64>());
        },
    ),
];

/// The counters of a worker.
#[derive(Default)]
pub struct WorkerCounts {
    sent: Counter,
    connects: Counter,
    connects_failed: Counter,
    minted_for_callers: Counter,
    minted_for_upstream: Counter,
    browser_sdk_tokens: Counter,
    retries: [Counter; RetryReason::COUNT],
    retries_denied: Counter,
    shed: [Counter; Priority::COUNT],
    in_flight: Gauge,
    in_flight_limit: Gauge,
}

impl WorkerCounts {
    /// Counts a request that was at the upstream, or should have been.
    pub(super) fn forwarded(&self, forwarded: &ForwardReport) {
        if forwarded.took.is_some() {
            let ForwardReport { attempts, connects, connects_failed, .. } = *forwarded;
            self.sent.add(attempts.into());
            self.connects.add(connects.into());
            self.connects_failed.add(connects_failed.into());
            if forwarded.retry_denied || forwarded.retried != [0; RetryReason::COUNT] {
                for (counter, count) in self.retries.iter().zip(forwarded.retried) {
                    counter.add(count.into());
                }
                self.retries_denied.add(forwarded.retry_denied.into());
            }
        }
    }

    /// Counts tokens: those that callers got, and those that the gateway uses itself.
    pub(super) fn minted(&self, for_callers: u8, for_upstream: u8) {
        if for_callers + for_upstream > 0 {
            self.minted_for_callers.add(for_callers.into());
            self.minted_for_upstream.add(for_upstream.into());
        }
    }

    /// Counts an SDK token that a browser sent.
    pub(super) fn browser_sdk_token(&self) {
        self.browser_sdk_tokens.add(1);
    }

    /// Takes over how many requests are at the upstream, and how many were refused since.
    pub(super) fn take_load(&self, load: &ConcurrencyLimit) {
        let [in_flight, limit] =
            <[usize; 2]>::from(load.level()).map(|level| i64::try_from(level).unwrap_or(i64::MAX));
        self.in_flight.set(in_flight);
        self.in_flight_limit.set(limit);
        for (counter, count) in self.shed.iter().zip(load.take_shed()) {
            counter.add(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{MetricSet, TextFormat};

    #[test]
    fn what_workers_count_is_added_up() {
        let counts = PerWorker::<WorkerCounts>::new(2);
        let [first, second] = [0, 1].map(|worker| counts.get(worker).unwrap());
        first.sent.add(3);
        second.sent.add(4);
        second.connects_failed.add(1);
        first.minted_for_upstream.add(2);
        second.browser_sdk_tokens.add(1);
        first.retries[RetryReason::Timeout as usize].add(2);
        first.retries_denied.add(1);
        first.shed[Priority::Low.index()].add(5);
        first.shed[Priority::Normal.index()].add(1);
        second.shed[Priority::Normal.index()].add(1);
        first.in_flight.set(3);
        second.in_flight.set(4);
        first.in_flight_limit.set(100);
        second.in_flight_limit.set(50);
        let mut set = MetricSet::default();
        [SENT, USED, UPSTREAM].iter().for_each(|table| set.read(table, &counts));
        let text = set.text(TextFormat::OpenMetrics);
        for line in [
            "wbg_upstream_requests_total 7",
            "wbg_upstream_connects_total{result=\"opened\"} 0",
            "wbg_upstream_connects_total{result=\"failed\"} 1",
            "wbg_tokens_minted_total{for=\"gateway\"} 2",
            "wbg_browser_sdk_tokens_total 1",
            "wbg_upstream_retries_total{reason=\"connect\"} 0",
            "wbg_upstream_retries_total{reason=\"timeout\"} 2",
            "wbg_upstream_retries_denied_total 1",
            "wbg_shed_total{priority=\"low\"} 5",
            "wbg_shed_total{priority=\"normal\"} 2",
            "wbg_shed_total{priority=\"high\"} 0",
            "wbg_upstream_in_flight 7",
            "wbg_upstream_in_flight_limit 150",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
    }
}
