//! What is counted of connections.

use std::sync::Arc;

use crate::metric::{Counter, Gauge, Metric};

/// The connections of a server.
pub const CONNECTIONS: &[Metric<Connections>] = &[
    Metric::gauge("wbg_connections", "Connections open", &[], |all, out| {
        out.add(&[], all.workers.iter().map(|one| one.open.get()).sum::<i64>());
    }),
    Metric::gauge("wbg_connections_limit", "Connections that may be open", &[], |all, out| {
        out.add(&[], all.limit);
    }),
    Metric::counter(
        "wbg_connections_cut",
        "Connections ended, or not even begun, by why",
        &["reason"],
        |all, out| {
            for reason in CloseReason::ALL {
                let counts = all.workers.iter().map(|one| one.closed[reason as usize].get());
                out.add(&[reason.as_str()], counts.sum::<u64>());
            }
        },
    ),
];

/// Why a connection was ended, or not even begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
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
    /// The process has no descriptor left for it.
    NoDescriptor,
}

impl CloseReason {
    /// Every reason, in the order in which they are shown.
    const ALL: [Self; 6] = [
        Self::Full,
        Self::Crowd,
        Self::CrowdedOut,
        Self::Stalled,
        Self::Flooding,
        Self::NoDescriptor,
    ];

    /// The word in metrics.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Crowd => "address_full",
            Self::CrowdedOut => "crowded_out",
            Self::Stalled => "stalled",
            Self::Flooding => "flooding",
            Self::NoDescriptor => "no_descriptor",
        }
    }
}

/// The connections of a server, as each worker counts its own.
pub struct Connections {
    limit: usize,
    workers: Vec<Arc<ConnectionCounts>>,
}

/// What a worker counts, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct ConnectionCounts {
    pub(super) open: Gauge,
    closed: [Counter; CloseReason::ALL.len()],
}

impl Connections {
    /// Of so many workers, which may have so many together.
    pub(super) fn new(workers: usize, limit: usize) -> Self {
        Self { limit, workers: (0..workers).map(|_| Arc::default()).collect() }
    }

    /// The counters of a worker.
    pub(super) fn of(&self, worker: usize) -> Arc<ConnectionCounts> {
        self.workers.get(worker).cloned().unwrap_or_default()
    }
}

impl ConnectionCounts {
    /// Counts a connection that was ended, or not even begun, for what it or others did.
    pub(super) fn closed(&self, reason: CloseReason) {
        self.closed[reason as usize].add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{MetricSet, TextFormat};

    #[test]
    fn what_workers_count_is_added_up() {
        let connections = Connections::new(2, 10_000);
        let [first, second] = [0, 1].map(|worker| connections.of(worker));
        first.open.add(3);
        second.open.add(1);
        first.open.add(-1);
        first.closed(CloseReason::Flooding);
        second.closed(CloseReason::Flooding);
        second.closed(CloseReason::Crowd);
        let mut set = MetricSet::default();
        set.read(CONNECTIONS, &connections);
        let text = set.text(TextFormat::OpenMetrics);
        for line in [
            "wbg_connections 3",
            "wbg_connections_limit 10000",
            "wbg_connections_cut_total{reason=\"full\"} 0",
            "wbg_connections_cut_total{reason=\"address_full\"} 1",
            "wbg_connections_cut_total{reason=\"flooding\"} 2",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
    }
}
