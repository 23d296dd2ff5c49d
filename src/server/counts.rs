//! What is counted of connections.

use std::sync::Arc;

use crate::metric::{Counter, Gauge, Metric};

/// The connections of a server.
pub const CONNECTIONS: &[Metric<Connections>] = &[
    Metric::gauge("wbg_connections", "Connections open", &[], |all, out| {
        out.add(&[], all.open());
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
    Metric::gauge(
        "wbg_listener_connections",
        "Connections open, by the listener that they came by",
        &["listener"],
        |all, out| {
            all.each(|name, counts| {
                out.add(&[name], counts.map(|one| one.open.get()).sum::<i64>());
            });
        },
    ),
    Metric::counter(
        "wbg_listener_connections_accepted",
        "Connections accepted, by the listener that they came by",
        &["listener"],
        |all, out| {
            all.each(|name, counts| {
                out.add(&[name], counts.map(|one| one.accepted.get()).sum::<u64>());
            });
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
    /// It did not begin with the header of the PROXY protocol that it should, or with one that it
    /// should not.
    ProxyHeader,
}

impl CloseReason {
    /// Every reason, in the order in which they are shown.
    const ALL: [Self; 7] = [
        Self::Full,
        Self::Crowd,
        Self::CrowdedOut,
        Self::Stalled,
        Self::Flooding,
        Self::NoDescriptor,
        Self::ProxyHeader,
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
            Self::ProxyHeader => "proxy_header",
        }
    }
}

/// The connections of a server, as each worker counts its own.
pub struct Connections {
    limit: usize,
    /// The names of the listeners.
    listeners: Vec<Arc<str>>,
    workers: Vec<Arc<ConnectionCounts>>,
}

/// What a worker counts, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct ConnectionCounts {
    closed: [Counter; CloseReason::ALL.len()],
    /// By the index of a listener.
    listeners: Box<[ListenerCounts]>,
}

/// What a worker counts of a listener, on cache lines of its own as well.
#[derive(Default)]
#[repr(align(128))]
struct ListenerCounts {
    open: Gauge,
    accepted: Counter,
}

impl Connections {
    /// Of so many workers, which may have so many together, by listeners of these names.
    pub(super) fn new(workers: usize, limit: usize, listeners: Vec<Arc<str>>) -> Self {
        let counts = |_| {
            let listeners = listeners.iter().map(|_| ListenerCounts::default()).collect();
            Arc::new(ConnectionCounts { listeners, ..ConnectionCounts::default() })
        };
        Self { limit, workers: (0..workers).map(counts).collect(), listeners }
    }

    /// How many are open.
    pub fn open(&self) -> i64 {
        self.of_listeners().map(|one| one.open.get()).sum()
    }

    fn of_listeners(&self) -> impl Iterator<Item = &ListenerCounts> {
        self.workers.iter().flat_map(|worker| &*worker.listeners)
    }

    /// Shows the name of each listener, and what each worker counts of it.
    fn each(&self, mut show: impl FnMut(&str, &mut dyn Iterator<Item = &ListenerCounts>)) {
        for (index, name) in self.listeners.iter().enumerate() {
            show(name, &mut self.workers.iter().filter_map(|worker| worker.listeners.get(index)));
        }
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

    /// A connection came by this listener.
    pub(super) fn came(&self, listener: usize) {
        if let Some(counts) = self.listeners.get(listener) {
            counts.open.add(1);
            counts.accepted.add(1);
        }
    }

    /// It has gone.
    pub(super) fn went(&self, listener: usize) {
        if let Some(counts) = self.listeners.get(listener) {
            counts.open.add(-1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::{MetricSet, TextFormat};

    #[test]
    fn what_workers_count_is_added_up() {
        let listeners = ["listen", "internal"].map(Arc::from).to_vec();
        let connections = Connections::new(2, 10_000, listeners);
        let [first, second] = [0, 1].map(|worker| connections.of(worker));
        for _ in 0..3 {
            first.came(0);
        }
        second.came(1);
        first.went(0);
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
            "wbg_listener_connections{listener=\"listen\"} 2",
            "wbg_listener_connections{listener=\"internal\"} 1",
            "wbg_listener_connections_accepted_total{listener=\"listen\"} 3",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
    }
}
