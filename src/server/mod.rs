//! Listeners, one worker per core, TLS, protocol limits, and the envelope for what no service
//! sees. It serves any service and knows no gateway.

mod accept;
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
mod give_back;
mod half_close;
mod handshake;
mod head;
mod linger;
mod listener;
mod liveness;
mod local;
mod network;
mod panic;
mod pem;
mod port_owner;
mod proxied;
mod proxy_protocol;
mod revocation;
mod service;
mod settings;
mod since;
mod sni;
mod socket;
mod tls;
mod tracked_body;
mod unix_socket;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;

use crate::expiry::Expiry;
use crate::net::ListenAddress;
use accept::ListenerContext;
use connection_limit::ConnectionLimit;
use eviction_credit::EvictionCredits;
use listener::WorkerSocket;
use unix_socket::OwnSocketFile;
use worker::{Stage, Worker};

pub use bounds::Bounds;
pub use client_certificate::Presented;
pub use counts::{CONNECTIONS, CloseReason, Connections};
pub use descriptors::{connections as connections_within, highest_limit, raise_limit};
pub use framing::{Framing, FramingError, MessageError};
pub use half_close::ConnectionSignals;
pub use head::check as check_head;
pub use linger::Linger;
pub use liveness::{LOOK, Liveness};
pub use local::Local;
pub use network::{NetworkListener, NetworkSocket};
pub use pem::{PemFileError, TlsFileError, certificates};
pub use proxy_protocol::{
    LONGEST as LONGEST_PROXY_HEADER, ProxyHeader, ProxyHeaderError, ProxySource,
};
pub use service::{Peer, Protocol, Service};
pub use settings::{
    AuthoritySettings, CertificateFiles, ClientSettings, LISTEN, ListenerSettings, PortSharing,
    Settings, SocketFile, TlsSettings,
};
pub use tls::{ListenerCertificates, Reread, Tls};
pub use tracked_body::NoAnswer;

/// A listener that is to be served: what the configuration says of it, and what was made of that.
pub struct Listener {
    /// What the configuration says; its addresses are those that are still to be bound.
    pub settings: ListenerSettings,
    /// Its certificates, where it speaks TLS.
    pub tls: Option<Arc<Tls>>,
    /// Its sockets that someone else has bound.
    pub inherited: Vec<TcpListener>,
}

impl Listener {
    /// Reads its certificates.
    ///
    /// # Errors
    /// [`TlsFileError`] names the file and what is wrong with it.
    pub fn open(settings: &ListenerSettings) -> Result<Self, TlsFileError> {
        let tls = settings.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new);
        Ok(Self { settings: settings.clone(), tls, inherited: Vec::new() })
    }

    /// What ends of its certificates, and of whom clients may be certified by.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.tls.as_ref().map(|tls| tls.expiries(&self.settings.name)).unwrap_or_default()
    }
}

impl Settings {
    /// The listeners with their certificates.
    ///
    /// # Errors
    /// [`TlsFileError`] names the file and what is wrong with it.
    pub fn open(&self) -> Result<Vec<Listener>, TlsFileError> {
        self.listeners.iter().map(Listener::open).collect()
    }
}

/// An address that is listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundAddress {
    /// The name of the listener.
    pub listener: Arc<str>,
    /// The address, with its real port.
    pub address: ListenAddress,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

/// A server that runs.
pub struct Running {
    bound: Vec<BoundAddress>,
    addresses: Vec<SocketAddr>,
    stage: watch::Sender<Stage>,
    workers: Vec<thread::JoinHandle<()>>,
    liveness: Arc<Liveness>,
    connections: Arc<Connections>,
    drain: Duration,
    /// Its Unix sockets, which go with it.
    _files: Vec<OwnSocketFile>,
}

/// The sockets of a worker, each with its listener.
type WorkerSockets = Vec<(WorkerSocket, Arc<ListenerContext>)>;

/// Binds every address of these listeners, which are those of the settings, and starts the workers.
/// `make` is called on each worker with its number.
///
/// # Errors
/// When an address cannot be bound (one that another process serves included, unless it is shared),
/// a socket that was handed down does not listen, or a thread cannot be started.
pub fn start<S: Service>(
    settings: &Settings,
    listeners: Vec<Listener>,
    make: impl Fn(usize) -> S + Send + Clone + 'static,
) -> io::Result<Running> {
    let count = settings.worker_count();
    let names = listeners.iter().map(|one| Arc::clone(&one.settings.name)).collect();
    let (bound, per_worker, files) = bind(listeners, count)?;
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
    let limit = Arc::new(ConnectionLimit::new(connections, per_address));
    let (ready, started) = mpsc::channel();
    let credits = Arc::new(EvictionCredits::new(count));
    let mut workers = Vec::with_capacity(count);
    let liveness = Arc::new(Liveness::new(count));
    let counts = Arc::new(Connections::new(count, settings.bounds.connections, names));
    for (number, sockets) in per_worker.into_iter().enumerate() {
        let worker = Worker {
            number,
            bounds: settings.bounds,
            stage: seen.clone(),
            limit: Arc::clone(&limit),
            credits: Arc::clone(&credits),
            beat: liveness.beat(number),
            counts: counts.of(number),
        };
        let make = make.clone();
        let ready = ready.clone();
        let run = move || worker.run(sockets, move || make(number), &ready);
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
    let addresses = bound.iter().flat_map(|one| one.address.sockets()).collect();
    Ok(Running {
        bound,
        addresses,
        stage,
        workers,
        liveness,
        connections: counts,
        drain,
        _files: files,
    })
}

/// Binds every address, or takes over the sockets that were handed down, for so many workers.
fn bind(
    listeners: Vec<Listener>,
    count: usize,
) -> io::Result<(Vec<BoundAddress>, Vec<WorkerSockets>, Vec<OwnSocketFile>)> {
    let mut per_worker: Vec<WorkerSockets> = (0..count).map(|_| Vec::new()).collect();
    let (mut bound, mut files) = (Vec::new(), Vec::new());
    let addresses = listeners.iter().flat_map(|one| &one.settings.addresses);
    let all: Vec<SocketAddr> = addresses.flat_map(ListenAddress::sockets).collect();
    for (index, Listener { settings, tls, inherited }) in listeners.into_iter().enumerate() {
        let inherited = inherited.into_iter().map(|socket| listener::adopt(socket, count));
        let mut sockets = inherited.collect::<io::Result<Vec<_>>>()?;
        for address in &settings.addresses {
            if let ListenAddress::Unix(path) = address {
                let (socket, file) = unix_socket::bind(path, &settings)?;
                files.push(file);
                sockets.push(listener::share_local(path, &socket, count)?);
            } else {
                sockets.extend(listener::bind_all(address, &all, count, &settings)?);
            }
        }
        let context = Arc::new(ListenerContext::new(index, tls, &settings));
        for of_address in sockets {
            bound.push(BoundAddress {
                listener: Arc::clone(&settings.name),
                address: of_address.address,
                tls: context.tls.is_some(),
            });
            for (socket, worker) in of_address.sockets.into_iter().zip(&mut per_worker) {
                worker.push((socket, Arc::clone(&context)));
            }
        }
    }
    Ok((bound, per_worker, files))
}

impl Running {
    /// The addresses that are listened on, with their real ports, but for Unix sockets.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The same, with the names of the listeners.
    pub fn bound(&self) -> &[BoundAddress] {
        &self.bound
    }

    /// Whether its workers move.
    pub const fn liveness(&self) -> &Arc<Liveness> {
        &self.liveness
    }

    /// Its connections, for the metrics.
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
        let settings = Settings::plain(LISTEN, SocketAddr::from(([127, 0, 0, 1], 0)), 2);
        let stuck = Arc::new(AtomicBool::new(false));
        let switch = Arc::clone(&stuck);
        let make = move |worker| Stuck((worker == 1).then(|| Arc::clone(&switch)));
        let running = start(&settings, settings.open().unwrap(), make).unwrap();
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
