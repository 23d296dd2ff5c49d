//! Listeners, one worker per core, TLS, protocol limits, and the envelope for what no service
//! sees. It serves any service and knows no gateway.

mod client_auth;
mod connection;
mod guard;
mod head;
mod listener;
mod tls;
mod worker;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::certificate::Standing;
use crate::failure::Failure;

pub use client_auth::Presented;
pub use head::check as check_head;
pub use tls::{Tls, TlsError};

/// Where and how to listen, from the `[listen]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The addresses; port 0 takes a free one.
    pub addresses: Vec<SocketAddr>,
    /// Whether other processes may serve the same port.
    pub share: bool,
    /// TLS, when it is spoken.
    pub tls: Option<TlsSettings>,
    /// The number of workers; `None` for one per core that the process may use.
    pub workers: Option<usize>,
    /// The bounds of a connection.
    pub bounds: Bounds,
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
    /// The authorities.
    pub ca: PathBuf,
    /// The lists of certificates that they have revoked. With any, each authority needs one.
    pub crls: Vec<PathBuf>,
    /// Whether a handshake without a certificate that is trusted fails.
    pub required: bool,
}

/// The bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most bytes of a request head.
    pub head_bytes: usize,
    /// How long a head may take to arrive, from its first byte (TLS handshake alike).
    pub head_timeout: Duration,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// The most HTTP/2 streams of a connection.
    pub streams: u32,
    /// The most connections of the process.
    pub connections: usize,
    /// How long a process that is to stop says so before it takes no more connections.
    pub pre_drain: Duration,
    /// How long requests in flight may take once the process is to stop.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            head_timeout: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            streams: 100,
            connections: 10_000,
            pre_drain: Duration::from_secs(5),
            drain: Duration::from_secs(25),
        }
    }
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

    /// Called about four times a second.
    fn tick(&self) {}

    /// The worker accepts nothing more, and finishes what is in flight.
    fn drain(&self) {}

    /// A connection came (`1`) or went (`-1`).
    fn connections(&self, _change: i64) {}
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
}

impl Peer {
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
    Draining,
}

/// A server that runs.
pub struct Running {
    addresses: Vec<SocketAddr>,
    stage: watch::Sender<Stage>,
    workers: Vec<thread::JoinHandle<()>>,
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
    let count = settings.worker_count();
    let mut per_worker: Vec<Vec<std::net::TcpListener>> = (0..count).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for address in &settings.addresses {
        let listeners = listener::bind(*address, count, settings.share)?;
        addresses.push(listeners.address);
        for (listener, worker) in listeners.sockets.into_iter().zip(&mut per_worker) {
            worker.push(listener);
        }
    }
    let (stage, seen) = watch::channel(Stage::Serving);
    let open = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::with_capacity(count);
    for (number, listeners) in per_worker.into_iter().enumerate() {
        let worker = worker::Worker {
            listeners,
            tls: tls.clone(),
            bounds: settings.bounds,
            stage: seen.clone(),
            open: Arc::clone(&open),
        };
        let make = make.clone();
        let run = move || worker.run(move || make(number));
        workers.push(thread::Builder::new().name(format!("worker-{number}")).spawn(run)?);
    }
    Ok(Running { addresses, stage, workers, drain: settings.bounds.drain })
}

impl Running {
    /// The addresses that are listened on, with their real ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
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

/// One of the process's connections, counted as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts a connection; `None` when there are `most` already.
    fn new(open: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        if open.fetch_add(1, Ordering::Relaxed) >= most {
            open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(Arc::clone(open)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
