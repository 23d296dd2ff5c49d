//! Listeners, one worker per core, TLS, protocol limits, and the envelope for what no service
//! sees. It serves any service and knows no gateway.

mod bounds;
mod client_auth;
mod connection;
mod descriptors;
mod farewell;
mod frames;
mod framing;
mod guard;
mod head;
mod holder;
mod link;
mod listener;
mod liveness;
mod local;
mod network;
mod pem;
mod places;
mod revocation;
mod socket;
mod spares;
mod tls;
mod watched;
mod watches;
mod worker;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::certificate::{Authority, Standing};
use crate::failure::Failure;
use listener::Listener;
use places::Places;
use spares::Spares;

pub use bounds::Bounds;
pub use client_auth::Presented;
pub use descriptors::{connections as connections_within, highest_limit, raise_limit};
pub use framing::{Framing, FramingError, Violation};
pub use head::check as check_head;
pub use link::Link;
pub use listener::Share;
pub use liveness::{LOOK, Liveness};
pub use local::Local;
pub use network::{Listen, Socket};
pub use pem::{TlsError, certificates};
pub use tls::{Reread, Tls};

/// Where and how to listen, from the `[listen]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The addresses; port 0 takes a free one.
    pub addresses: Vec<SocketAddr>,
    /// Whether other processes may serve the same port.
    pub share: Share,
    /// TLS, when it is spoken.
    pub tls: Option<TlsSettings>,
    /// The number of workers; `None` for one per core that the process may use.
    pub workers: Option<usize>,
    /// The bounds of a connection.
    pub bounds: Bounds,
    /// Whose connections are not counted by address: proxies, behind which others are.
    pub proxies: Vec<ipnet::IpNet>,
}

impl Settings {
    /// How many workers there will be: as said, or one for each core that the process may use
    /// (cgroups and affinity are respected).
    #[must_use]
    pub fn worker_count(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        self.workers.unwrap_or_else(cores).max(1)
    }
}

/// The certificate and its key, as PEM files; read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Whom clients may be certified by; `None` when they are not asked for certificates.
    pub client: Option<ClientSettings>,
}

/// Which certificates of clients are trusted; PEM files as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// The authorities. Never none.
    pub authorities: Vec<AuthoritySettings>,
    /// SPIFFE trust domains whose ids count from one authority alone.
    pub trust_domains: Vec<(Box<str>, Authority)>,
    /// The lists of certificates that they have revoked. With any, each authority needs one.
    pub crls: Vec<PathBuf>,
    /// Whether a handshake without a certificate that is trusted fails.
    pub required: bool,
}

/// An authority of clients: certificates that are trusted, and the name that they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// Its name; empty where it is the only one and has none.
    pub name: Authority,
    /// A PEM file.
    pub file: PathBuf,
}

/// What is served. One is made on each worker, and stays there: it need not be `Send`.
pub trait Service: 'static {
    /// The body of its answers.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + From<Bytes>
        + Unpin
        + 'static;

    /// Answers a request.
    fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// Answers for a request that never became one, or whose answer was never finished: what is
    /// wrong is in `failure`. `origin` is what its `Origin` says, as far as it was read.
    fn refuse(&self, failure: Failure, peer: Peer, origin: Option<&HeaderValue>)
    -> Response<Bytes>;

    /// How much, and for how long, a peer is read on that was answered before it had sent all.
    fn linger(&self) -> Linger {
        Linger::default()
    }

    /// Called about four times a second.
    fn tick(&self) {}

    /// The worker accepts nothing more, and finishes what is in flight.
    fn drain(&self) {}

    /// Whether something is being finished that no connection waits for any more.
    fn is_busy(&self) -> bool {
        false
    }

    /// A connection came (`1`) or went (`-1`).
    fn connections(&self, _change: i64) {}

    /// A connection was ended, or not even begun, for what it or others did.
    fn cut(&self, _why: Cut) {}
}

/// How much, and for how long, a peer is read on that was answered before it had sent all: it may
/// read only then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    /// So many bytes.
    pub bytes: usize,
    /// For so long.
    pub time: Duration,
}

impl Default for Linger {
    fn default() -> Self {
        Self { bytes: 1024 * 1024, time: Duration::from_secs(10) }
    }
}

/// Why a connection was ended, or not even begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
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

/// Who is at the other end of a connection, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The version of HTTP.
    pub protocol: Protocol,
    /// Whether the connection is under TLS.
    pub tls: bool,
    /// The certificate that it presented.
    pub certificate: Option<Rc<Presented>>,
    /// What the connection and the service tell each other.
    pub link: Link,
}

impl Peer {
    /// Of a connection that has just come.
    pub(crate) fn new(address: SocketAddr) -> Self {
        let (protocol, link) = (Protocol::Http1, Link::default());
        Self { address, protocol, tls: false, certificate: None, link }
    }

    /// What its certificate is worth now.
    #[must_use]
    pub fn standing(&self, now: jiff::Timestamp) -> Standing {
        self.certificate.as_ref().map_or(Standing::None, |presented| presented.standing(now))
    }
}

/// The version of HTTP on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What the workers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Serving still, and whoever is answered is told to come back on another connection.
    Leaving,
    Draining,
}

/// A server that runs.
pub struct Running {
    addresses: Vec<SocketAddr>,
    stage: watch::Sender<Stage>,
    workers: Vec<thread::JoinHandle<()>>,
    liveness: Arc<Liveness>,
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
    let places = Arc::new(Places::new(connections, per_address, &settings.proxies));
    let (ready, started) = mpsc::channel();
    let spares = Arc::new(Spares::new(count));
    let mut workers = Vec::with_capacity(count);
    let liveness = Arc::new(Liveness::new(count));
    for (number, listeners) in per_worker.into_iter().enumerate() {
        let worker = worker::Worker {
            number,
            tls: tls.clone(),
            bounds: settings.bounds,
            stage: seen.clone(),
            places: Arc::clone(&places),
            spares: Arc::clone(&spares),
            beat: liveness.beat(number),
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
    Ok(Running { addresses, stage, workers, liveness, drain: settings.bounds.drain })
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

    use super::*;
    use http_body_util::Full;

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
            share: Share::Never,
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
