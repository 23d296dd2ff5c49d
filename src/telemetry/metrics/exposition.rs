//! The counters in the text format that Prometheus reads.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::spread::Sum;
use super::{
    BudgetCounts, CutCount, Levels, Metrics, OWN_BOUNDS, OperationCounts, RETRY_REASONS, STATUSES,
    process,
};
use crate::api::Priority;

/// One look at the counters.
pub(super) struct Scrape {
    pub(super) metrics: Arc<Metrics>,
    pub(super) levels: Levels,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Scrape")
    }
}

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl Collector for Scrape {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.requests(&mut out)?;
        self.durations(&mut out)?;
        self.of_workers(&mut out)?;
        self.of_budgets(&mut out)?;
        self.of_upstream(&mut out)?;
        self.of_projects(&mut out)?;
        self.of_sdk_tokens(&mut out)?;
        self.of_issuers(&mut out)?;
        self.of_store(&mut out)?;
        self.of_certificate(&mut out)?;
        self.of_collector(&mut out)?;
        self.of_process(&mut out)
    }
}

impl Scrape {
    fn operations(&self) -> Vec<Arc<OperationCounts>> {
        let operations = &self.metrics.operations;
        operations.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn requests(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let about = "Requests answered, by operation and code";
        let mut family = out.encode_descriptor("requests", about, None, MetricType::Counter)?;
        for operation in self.operations() {
            for (code, count) in operation.tallies() {
                let name = operation.name().unwrap_or("none");
                let labels: Labels<'_, 2> = [("operation", name), ("code", code)];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let about = "Requests answered, by the profile of their caller and code";
        let name = "profile_requests";
        let mut family = out.encode_descriptor(name, about, None, MetricType::Counter)?;
        let profiles = self.metrics.profiles.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, profile) in &profiles {
            for (code, count) in profile.tallies() {
                let labels: Labels<'_, 2> = [("profile", name), ("code", code)];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        let about = "Answers, by status";
        let mut family = out.encode_descriptor("answers", about, None, MetricType::Counter)?;
        for place in 0..STATUSES {
            let count = self.metrics.sum(|one| &one.answers.0[place]);
            if count > 0 {
                let status = (place + 100).to_string();
                let labels: Labels<'_, 1> = [("status", &status)];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn durations(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        type Of = fn(&OperationCounts) -> Sum;
        let families: [(&str, &str, Of); 2] = [
            (
                "request_duration_seconds",
                "Time from a request's head to the end of its answer",
                OperationCounts::took,
            ),
            (
                "upstream_duration_seconds",
                "Time from a request's first try at the upstream to the head of its answer",
                OperationCounts::upstream_took,
            ),
        ];
        for (name, about, sum) in families {
            let mut family = out.encode_descriptor(name, about, None, MetricType::Histogram)?;
            for operation in self.operations() {
                let sum = sum(&operation);
                if sum.count() > 0 {
                    let name = operation.name().unwrap_or("none");
                    let labels: Labels<'_, 1> = [("operation", name)];
                    sum.encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let about = "Time of a request without that at the upstream";
        let name = "own_duration_seconds";
        let own = Sum::of(&OWN_BOUNDS, self.metrics.workers.iter().map(|one| &one.own));
        own.encode(out.encode_descriptor(name, about, None, MetricType::Histogram)?)
    }

    fn of_workers(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.metrics;
        let open: i64 = metrics.workers.iter().map(|one| one.connections.load(Relaxed)).sum();
        out.encode_descriptor("connections", "Connections open", None, MetricType::Gauge)?
            .encode_gauge(&open)?;
        let most = i64::try_from(self.levels.connections_limit).unwrap_or(i64::MAX);
        let about = "Connections that may be open";
        out.encode_descriptor("connections_limit", about, None, MetricType::Gauge)?
            .encode_gauge(&most)?;
        let about = "Connections ended, or not even begun, by why";
        let mut family =
            out.encode_descriptor("connections_cut", about, None, MetricType::Counter)?;
        for (why, name) in CutCount::ALL {
            let count = metrics.sum(|one| &one.cuts[why as usize]);
            let labels: Labels<'_, 1> = [("reason", name)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let counters: [(&str, &str, u64); 5] = [
            (
                "upstream_requests",
                "Requests sent to the upstream, tries again included",
                metrics.sum(|one| &one.sent),
            ),
            (
                "audit_records",
                "Records of tokens that were written",
                metrics.audit_records.load(Relaxed),
            ),
            (
                "audit_lost",
                "Tokens handed out whose record could not be written",
                metrics.audit_lost.load(Relaxed),
            ),
            (
                "audit_failures",
                "Tokens not handed out since their record could not be written",
                metrics.audit_failed.load(Relaxed),
            ),
            (
                "browser_sdk_tokens",
                "SDK tokens that browsers sent, each of which opens a whole project",
                metrics.sum(|one| &one.browser_sdk_tokens),
            ),
        ];
        for (name, about, count) in counters {
            out.encode_descriptor(name, about, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let about = "Connections to the upstream, by what came of them";
        let mut family =
            out.encode_descriptor("upstream_connects", about, None, MetricType::Counter)?;
        for (result, count) in [
            ("opened", metrics.sum(|one| &one.connects)),
            ("failed", metrics.sum(|one| &one.connects_failed)),
        ] {
            let labels: Labels<'_, 1> = [("result", result)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let about = "Whiteboard tokens minted, by who uses them";
        let mut family =
            out.encode_descriptor("tokens_minted", about, None, MetricType::Counter)?;
        for (user, count) in [
            ("caller", metrics.sum(|one| &one.minted_for_callers)),
            ("gateway", metrics.sum(|one| &one.minted_for_upstream)),
        ] {
            let labels: Labels<'_, 1> = [("for", user)];
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }

    fn of_budgets(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        type Count = fn(&BudgetCounts) -> &AtomicU64;
        let families: [(&str, &str, Count); 3] = [
            ("budget_refusals", "Requests refused since a budget was used up", |counts| {
                &counts.refused
            }),
            (
                "budget_refunds",
                "Units of budgets given back, of requests that came to nothing",
                |counts| &counts.refunded,
            ),
            (
                "budget_losses",
                "Units of budgets that may stay taken for nothing: the store did not answer",
                |counts| &counts.lost,
            ),
        ];
        let budgets = self.metrics.budgets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, about, count) in families {
            let mut family = out.encode_descriptor(name, about, None, MetricType::Counter)?;
            for ((profile, of), counts) in &budgets {
                let labels: Labels<'_, 2> = [("profile", profile), ("of", of)];
                let count = count(counts).load(Relaxed);
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn of_upstream(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.metrics;
        let about = "Requests sent to the upstream once more, by why";
        let mut family =
            out.encode_descriptor("upstream_retries", about, None, MetricType::Counter)?;
        for (place, reason) in RETRY_REASONS.into_iter().enumerate() {
            let labels: Labels<'_, 1> = [("reason", reason)];
            let count = metrics.sum(|one| &one.retries[place]);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let denied = metrics.sum(|one| &one.retries_denied);
        let about = "Requests not sent once more, since the budget for that was used up";
        out.encode_descriptor("upstream_retries_denied", about, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&denied, None)?;
        let about = "Requests refused for want of a place at the upstream, by priority";
        let mut family = out.encode_descriptor("shed", about, None, MetricType::Counter)?;
        for priority in Priority::ALL {
            let labels: Labels<'_, 1> = [("priority", priority.as_str())];
            let count = metrics.sum(|one| &one.shed[priority.index()]);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        for (name, about, level) in [
            ("upstream_in_flight", "Requests at the upstream", metrics.sum(|one| &one.in_flight)),
            (
                "upstream_in_flight_limit",
                "Requests that may be at the upstream",
                metrics.sum(|one| &one.in_flight_limit),
            ),
        ] {
            let level = i64::try_from(level).unwrap_or(i64::MAX);
            out.encode_descriptor(name, about, None, MetricType::Gauge)?.encode_gauge(&level)?;
        }
        self.of_breakers(out)
    }

    fn of_breakers(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if self.levels.breakers.is_empty() {
            return Ok(());
        }
        let about = "1 for the state that the breaker of a region of the upstream is in";
        let mut family =
            out.encode_descriptor("upstream_breaker", about, None, MetricType::Gauge)?;
        for breaker in &self.levels.breakers {
            for (state, is) in breaker.states {
                let labels: Labels<'_, 2> = [("region", &breaker.region), ("state", state)];
                family.encode_family(&labels)?.encode_gauge(&i64::from(is))?;
            }
        }
        let about = "How often the breaker of a region of the upstream has opened";
        let name = "upstream_breaker_opened";
        let mut family = out.encode_descriptor(name, about, None, MetricType::Counter)?;
        for breaker in &self.levels.breakers {
            let labels: Labels<'_, 1> = [("region", &breaker.region)];
            let opened = breaker.opened;
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&opened, None)?;
        }
        Ok(())
    }

    fn of_projects(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let about = "1 while the whiteboard service takes none of the tokens of a project";
        let mut family =
            out.encode_descriptor("project_refused", about, None, MetricType::Gauge)?;
        for level in &self.levels.projects {
            let labels: Labels<'_, 1> = [("project", &level.project)];
            family.encode_family(&labels)?.encode_gauge(&i64::from(level.refused))?;
        }
        Ok(())
    }

    fn of_sdk_tokens(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if self.levels.sdk_tokens.is_empty() {
            return Ok(());
        }
        let about = "When the fixed SDK token of a project ends, in Unix time";
        let name = "sdk_token_end_time_seconds";
        let mut family = out.encode_descriptor(name, about, None, MetricType::Gauge)?;
        for token in &self.levels.sdk_tokens {
            let labels: Labels<'_, 1> = [("project", &token.project)];
            let end = Duration::from_millis(token.ends_at_ms);
            family.encode_family(&labels)?.encode_gauge(&end.as_secs_f64())?;
        }
        Ok(())
    }

    fn of_issuers(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if self.levels.issuers.is_empty() {
            return Ok(());
        }
        let about = "Keys that an identity provider has";
        let mut family = out.encode_descriptor("issuer_keys", about, None, MetricType::Gauge)?;
        for issuer in &self.levels.issuers {
            let labels: Labels<'_, 1> = [("issuer", &issuer.name)];
            let keys = i64::try_from(issuer.keys).unwrap_or(i64::MAX);
            family.encode_family(&labels)?.encode_gauge(&keys)?;
        }
        let about = "How long ago the keys of an identity provider were fetched";
        let name = "issuer_keys_age_seconds";
        let mut family = out.encode_descriptor(name, about, None, MetricType::Gauge)?;
        for issuer in &self.levels.issuers {
            if let Some(age) = issuer.age {
                let labels: Labels<'_, 1> = [("issuer", &issuer.name)];
                family.encode_family(&labels)?.encode_gauge(&age.as_secs_f64())?;
            }
        }
        let about = "Fetches of the keys of an identity provider, by what came of them";
        let mut family =
            out.encode_descriptor("issuer_fetches", about, None, MetricType::Counter)?;
        for issuer in &self.levels.issuers {
            let succeeded = issuer.fetches.saturating_sub(issuer.failures);
            for (result, count) in [("succeeded", succeeded), ("failed", issuer.failures)] {
                let labels: Labels<'_, 2> = [("issuer", &issuer.name), ("result", result)];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn of_store(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(store) = &self.levels.store else { return Ok(()) };
        let about = "1 while the store that several gateways share does not answer";
        out.encode_descriptor("ratelimit_degraded", about, None, MetricType::Gauge)?
            .encode_gauge(&i64::from(store.down))?;
        for (name, about, label, counts) in [
            ("store_calls", "Calls of the store, by what came of them", "result", &store.calls),
            (
                "limit_decisions",
                "Requests under a limit in the store, by what decided about them",
                "by",
                &store.decisions,
            ),
        ] {
            let mut family = out.encode_descriptor(name, about, None, MetricType::Counter)?;
            for (value, count) in counts {
                let labels: Labels<'_, 1> = [(label, value)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
        Ok(())
    }

    fn of_certificate(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(end) = &self.levels.certificate_end else { return Ok(()) };
        let about = "When the certificate that clients are shown ends, in Unix time";
        out.encode_descriptor("certificate_end_time_seconds", about, None, MetricType::Gauge)?
            .encode_gauge(end)
    }

    fn of_collector(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(collector) = &self.levels.collector else { return Ok(()) };
        for (name, about, counts) in [
            ("otlp_spans", "Spans recorded, by what became of them", &collector.spans[..]),
            ("otlp_exports", "Requests to the collector, by what came of them", &collector.exports),
        ] {
            let mut family = out.encode_descriptor(name, about, None, MetricType::Counter)?;
            for (result, count) in counts {
                let labels: Labels<'_, 1> = [("result", result)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
        Ok(())
    }

    fn of_process(&self, out: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let metrics = &self.metrics;
        let lost = metrics.lines_lost.load(Relaxed);
        let about = "Access lines that could not be written";
        out.encode_descriptor("access_lines_lost", about, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&lost, None)?;
        let about = "Lines of the log that standard error did not take";
        out.encode_descriptor("log_lines_lost", about, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&self.levels.log_lines_lost, None)?;
        let callers = i64::try_from(self.levels.limited_callers).unwrap_or(i64::MAX);
        let about = "Callers that limits remember";
        out.encode_descriptor("limited_callers", about, None, MetricType::Gauge)?
            .encode_gauge(&callers)?;
        let about = "Reloads of the configuration, by what came of them";
        let mut family =
            out.encode_descriptor("config_reloads", about, None, MetricType::Counter)?;
        for (result, counter) in ["failed", "loaded"].into_iter().zip(&metrics.reloads) {
            let labels: Labels<'_, 1> = [("result", result)];
            let count = counter.load(Relaxed);
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let about = "1 unless the last reload of the configuration failed";
        out.encode_descriptor("config_reload_success", about, None, MetricType::Gauge)?
            .encode_gauge(&i64::from(!metrics.reload_failed()))?;
        let workers = i64::try_from(metrics.workers.len()).unwrap_or(i64::MAX);
        for (name, about, level) in [
            (
                "ready",
                "1 while requests should be sent here, as /readyz says",
                self.levels.ready.into(),
            ),
            ("workers", "Worker threads", workers),
        ] {
            out.encode_descriptor(name, about, None, MetricType::Gauge)?.encode_gauge(&level)?;
        }
        if let Some(limit) = process::memory_limit() {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let about = "Memory that the process may use, in bytes";
            out.encode_descriptor("memory_limit_bytes", about, None, MetricType::Gauge)?
                .encode_gauge(&limit)?;
        }
        let version = metrics.version();
        let labels: Labels<'_, 2> = [("config", &version), ("version", env!("CARGO_PKG_VERSION"))];
        out.encode_descriptor("build", "What is running", None, MetricType::Info)?
            .encode_info(&labels)?;
        let about = "When the process started, in seconds of Unix time";
        out.encode_descriptor("start_time_seconds", about, None, MetricType::Gauge)?
            .encode_gauge(&metrics.started)
    }
}
