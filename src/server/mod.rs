//! Listeners, one worker per core, TLS, protocol limits, and the envelope for what no service
//! sees. It serves any service and knows no gateway.

mod bounds;
mod client_auth;
mod client_certificate;
mod connection;
mod connection_limit;
mod connection_state;
mod counts;
mod descriptors;
mod eviction;
mod eviction_credit;
mod executor;
mod frame_flood;
mod framing;
mod half_close;
mod head;
mod linger;
mod listener;
mod liveness;
mod local;
mod network;
mod panic;
mod pem;
mod port_owner;
mod revocation;
mod service;
mod settings;
mod since;
mod socket;
mod tls;
mod tracked_body;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use connection_limit::ConnectionLimit;
use eviction_credit::EvictionCredits;
use listener::Listener;
use worker::{Stage, Worker};

pub use bounds::Bounds;
pub use client_certificate::Presented;
pub use counts::{CONNECTIONS, CloseReason, Connections};
pub use descriptors::{connections as connections_within, highest_limit, raise_limit};
pub use framing::{Framing, FramingError, MessageError};
pub use half_close::ConnectionSignals;
pub use head::check as check_head;
pub use linger::Linger;
pub use listener::PortSharing;
pub use liveness::{LOOK, Liveness};
pub use local::Local;
pub use network::{NetworkListener, NetworkSocket};
pub use pem::{TlsFileError, certificates};
pub use service::{Peer, Protocol, Service};
pub use settings::{AuthoritySettings, ClientSettings, Settings, TlsSettings};
pub use tls::{CERTIFICATE, Reread, Tls};

/// A server that runs.
pub struct Running {
    addresses: Vec<SocketAddr>,
    stage: watch::Sender<Stage>,
    workers: Vec<thread::JoinHandle<()>>,
    liveness: Arc<Liveness>,
    connections: Arc<Connections>,
    drain: Duration,
}

/// Binds every address and starts the workers. `make` is called on each worker with its number.
///
/// # Errors
/// When an address cannot be bound (one that another process serves included, unless
/// `settings.share`), or a thread cannot be started.
pub fn start<S: Service>(
    settings: &Settings,
    tls: Option<Arc<Tls>>,
    make: impl Fn(usize) -> S + Send + Clone + 'static,
) -> io::Result<Running> {
    start_with(settings, Vec::new(), tls, make)
}

/// As [`start`], and serves sockets as well that somebody else has bound.
///
/// # Errors
/// As those of [`start`], or when a socket does not listen.
pub fn start_with<S: Service>(
    settings: &Settings,
    inherited: Vec<TcpListener>,
    tls: Option<Arc<Tls>>,
    make: impl Fn(usize) -> S + Send + Clone + 'static,
) -> io::Result<Running> {
    let count = settings.worker_count();
    let mut per_worker: Vec<Vec<Listener>> = (0..count).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    let inherited = inherited.into_iter().map(|socket| listener::adopt(socket, count));
    let bound = settings
        .addresses
        .iter()
        .map(|at| listener::bind(*at, &settings.addresses, count, settings.share));
    for listeners in inherited.chain(bound) {
        let listeners = listeners?;
        addresses.push(listeners.address);
        for (listener, worker) in listeners.sockets.into_iter().zip(&mut per_worker) {
            worker.push(listener);
        }
    }
    let (stage, seen) = watch::channel(Stage::Serving);
    let Bounds { connections, per_address, .. } = settings.bounds;
    let limit = descriptors::limit();
    let connections = descriptors::connections(connections, limit, descriptors::open(), count);
    if connections == 0 {
        let why = format!(
            "the limit of open files, {limit}, leaves none for connections: raise it (LimitNOFILE= of systemd, ulimit -n)"
        );
        return Err(io::Error::other(why));
    }
    let limit = Arc::new(ConnectionLimit::new(connections, per_address, &settings.proxies));
    let (ready, started) = mpsc::channel();
    let credits = Arc::new(EvictionCredits::new(count));
    let mut workers = Vec::with_capacity(count);
    let liveness = Arc::new(Liveness::new(count));
    let counts = Arc::new(Connections::new(count, settings.bounds.connections));
    for (number, listeners) in per_worker.into_iter().enumerate() {
        let worker = Worker {
            number,
            tls: tls.clone(),
            bounds: settings.bounds,
            stage: seen.clone(),
            limit: Arc::clone(&limit),
            credits: Arc::clone(&credits),
            beat: liveness.beat(number),
            counts: counts.of(number),
        };
        let make = make.clone();
        let ready = ready.clone();
        let run = move || worker.run(listeners, move || make(number), &ready);
        workers.push(thread::Builder::new().name(format!("worker-{number}")).spawn(run)?);
    }
    drop(ready);
    for _ in 0..count {
        // One that is gone without a word has panicked.
        let begun = started.recv().unwrap_or_else(|_| Err(io::Error::other("a defect")));
        begun.map_err(|error| {
            io::Error::new(error.kind(), format!("a worker cannot start: {error}"))
        })?;
    }
    let drain = settings.bounds.drain;
    Ok(Running { addresses, stage, workers, liveness, connections: counts, drain })
}

impl Running {
    /// The addresses that are listened on, with their real ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether its workers move.
    #[must_use]
    pub const fn liveness(&self) -> &Arc<Liveness> {
        &self.liveness
    }

    /// Its connections, for the metrics.
    #[must_use]
    pub const fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    /// Serves on, and lets callers know with each answer that their connections end.
    pub fn leave(&self) {
        // As in `drain`.
        _ = self.stage.send(Stage::Leaving);
    }

    /// Stops accepting, lets requests in flight finish within the drain time, and waits for it.
    pub fn drain(self) {
        // The workers hold the receivers; with all of them gone there is nothing to drain.
        _ = self.stage.send(Stage::Draining);
        tracing::debug!(seconds = self.drain.as_secs(), "draining");
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use std::rc::Rc;

    use bytes::Bytes;
    use http::{HeaderValue, Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;

    use super::*;
    use crate::failure::Failure;

    /// A service on a worker that gets stuck as long as it is told to.
    struct Stuck(Option<Arc<AtomicBool>>);

    impl Service for Stuck {
        type Body = Full<Bytes>;

        async fn answer(self: Rc<Self>, _: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
            Response::default()
        }

        fn refuse(&self, _: Failure, _: Peer, _: Option<&HeaderValue>) -> Response<Bytes> {
            Response::default()
        }

        fn tick(&self) {
            while self.0.as_ref().is_some_and(|stuck| stuck.load(Ordering::Relaxed)) {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn one_worker_that_is_stuck_is_noticed() {
        let settings = Settings {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            share: PortSharing::Never,
            tls: None,
            workers: Some(2),
            bounds: Bounds::default(),
            proxies: Vec::new(),
        };
        let stuck = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&stuck);
        let make = move |worker| Stuck((worker == 1).then(|| Arc::clone(&switch)));
        let running = start(&settings, None, make).unwrap();
        let liveness = Arc::clone(running.liveness());
        let look = || {
            thread::sleep(Duration::from_millis(300));
            liveness.look();
            liveness.stuck()
        };
        assert_eq!((0..8).find_map(|_| look()), None);
        stuck.store(true, Ordering::Relaxed);
        assert_eq!((0..20).find_map(|_| look()), Some(1));
        stuck.store(false, Ordering::Relaxed);
        assert!((0..20).any(|_| look().is_none()));
        running.drain();
    }
}
