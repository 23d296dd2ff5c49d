//! What the process measures: the tables of all modules, in the order in which `/metrics` shows them.

use jiff::Timestamp;

use super::process_status::ProcessStatus;
use crate::metric::{Metric, MetricSet};
use crate::{
    budget, caller, expiry, gateway, limit, otlp, server, store, telemetry, token, upstream,
};

/// The process.
const METRICS: &[Metric<ProcessStatus>] = &[
    Metric::counter(
        "wbg_config_reloads",
        "Reloads of the configuration, by what came of them",
        &["result"],
        |status, out| out.each([("failed", &status.reloads_failed), ("loaded", &status.reloads)]),
    ),
    Metric::gauge(
        "wbg_config_reload_success",
        "1 unless the last reload of the configuration failed",
        &[],
        |status, out| out.add(&[], status.reload_error().is_none()),
    ),
    Metric::gauge(
        "wbg_ready",
        "1 while requests should be sent here, as /readyz says",
        &[],
        |status, out| out.add(&[], status.readiness().0.is_none()),
    ),
    Metric::gauge("wbg_workers", "Worker threads", &[], |status, out| {
        out.add(&[], status.metrics.workers());
    }),
    Metric::gauge(
        "wbg_memory_limit_bytes",
        "Memory that the process may use, in bytes",
        &[],
        |_, out| telemetry::memory_limit().iter().for_each(|limit| out.add(&[], *limit)),
    ),
    Metric::info(
        "wbg_build",
        "What is running",
        &["build", "commit", "config", "version"],
        |status, out| {
            let [build, commit] = [env!("WBG_BUILD"), env!("WBG_COMMIT")];
            out.add(&[build, commit, &status.version(), env!("CARGO_PKG_VERSION")], true);
        },
    ),
    Metric::gauge(
        "wbg_start_time_seconds",
        "When the process started, in seconds of Unix time",
        &[],
        |status, out| out.add(&[], status.started.as_secs_f64()),
    ),
];

impl ProcessStatus {
    /// Reads everything that is measured.
    pub fn measure(&self) -> MetricSet {
        let (snapshot, metrics) = (self.snapshots.load(), &*self.metrics);
        let mut all = MetricSet { started: self.started, families: Vec::new() };
        all.read(telemetry::REQUESTS, metrics);
        all.read(server::CONNECTIONS, self.running.get().map(|(_, connections)| &**connections));
        all.read(gateway::SENT, &*snapshot.worker_counts);
        all.read(telemetry::AUDIT, metrics);
        all.read(gateway::USED, &*snapshot.worker_counts);
        all.read(budget::METRICS, snapshot.budgets.counts());
        all.read(gateway::UPSTREAM, &*snapshot.worker_counts);
        let breakers = snapshot.upstream.breakers().next().is_some();
        all.read(upstream::BREAKERS, breakers.then_some(&*snapshot.upstream));
        all.read(token::PROJECTS, &*snapshot.projects);
        all.read(expiry::METRICS, &*self.expiries(Timestamp::now()));
        let issuers = &*snapshot.callers.issuers;
        all.read(caller::jwt::METRICS, (!issuers.is_empty()).then_some(issuers));
        all.read(store::METRICS, snapshot.store());
        all.read(limit::DECISIONS, snapshot.store().map(|_| &*snapshot.limits.decisions));
        all.read(otlp::METRICS, snapshot.collector.as_deref());
        all.read(telemetry::LINES, metrics);
        all.read(limit::CALLERS, &*snapshot.limits);
        all.read(METRICS, self);
        all.read(telemetry::PROCESS, &());
        all
    }
}
