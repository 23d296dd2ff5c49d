//! A worker: one thread with its own runtime, its own sockets and its own service.
//!
//! A request is accepted, decided, forwarded and answered on this thread; nothing of it is handed
//! to another.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::connection::Site;
use super::{Bounds, Counted, Peer, Protocol, Service, Stage, Tls};
use crate::failure::{Code, Failure, RawHead};

/// How often deadlines are looked at and logs are flushed.
const TICK: Duration = Duration::from_millis(250);

/// What a worker starts with.
pub(super) struct Worker {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) bounds: Bounds,
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) open: Arc<AtomicUsize>,
}

impl Worker {
    /// Runs until it has drained.
    pub(super) fn run<S: Service>(self, make: impl FnOnce() -> S) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "a worker has no runtime");
                return;
            }
        };
        LocalSet::new().block_on(&runtime, async {
            let site = Rc::new(Site::new(Rc::new(make()), self.bounds));
            self.serve(site).await;
        });
    }

    async fn serve<S: Service>(mut self, site: Rc<Site<S>>) {
        // Tasks that hold their clone of it are those of open connections.
        let alive = Rc::new(());
        let mut accepting = Vec::new();
        for listener in self.listeners.drain(..) {
            let accept = Accept {
                tls: self.tls.clone(),
                open: Arc::clone(&self.open),
                site: Rc::clone(&site),
                alive: Rc::clone(&alive),
            };
            accepting.push(spawn_local(accept.run(listener)));
        }
        let ticking = spawn_local(tick(Rc::clone(&site)));
        // An error says that the sender is gone, which is a stop as well.
        _ = self.stage.wait_for(|stage| *stage == Stage::Draining).await;
        site.service.drain();
        for task in &accepting {
            task.abort();
        }
        for task in accepting {
            // Aborted, so it ends with an error; its listener is closed then.
            _ = task.await;
        }
        let drained = async {
            while Rc::strong_count(&alive) > 1 {
                // Connections that came just before are told as well.
                site.watches.drain();
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(self.bounds.drain, drained).await.is_err() {
            let left = Rc::strong_count(&alive) - 1;
            tracing::warn!(connections = left, "the drain time is over; connections are cut");
        }
        ticking.abort();
        site.service.tick();
    }
}

async fn tick<S: Service>(site: Rc<Site<S>>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        site.watches.tick(&site.bounds);
        site.service.tick();
    }
}

/// What it takes to accept on one socket.
struct Accept<S> {
    tls: Option<Arc<Tls>>,
    open: Arc<AtomicUsize>,
    site: Rc<Site<S>>,
    alive: Rc<()>,
}

impl<S: Service> Accept<S> {
    async fn run(self, listener: TcpListener) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "a listening socket cannot be used");
                return;
            }
        };
        loop {
            match listener.accept().await {
                Ok((socket, address)) => {
                    let protocol = Protocol::Http1;
                    let peer = Peer { address, protocol, tls: false, certificate: None };
                    self.accepted(socket, peer);
                }
                Err(error) => {
                    // Out of descriptors, mostly: accepting again at once would spin.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn accepted(&self, socket: TcpStream, peer: Peer) {
        let Some(counted) = Counted::new(&self.open, self.site.bounds.connections) else {
            return self.turn_away(&socket, peer);
        };
        let site = Rc::clone(&self.site);
        let alive = Rc::clone(&self.alive);
        let tls = self.tls.clone();
        site.service.connections(1);
        spawn_local(async move {
            Rc::clone(&site).serve(socket, peer, tls.as_ref()).await;
            site.service.connections(-1);
            drop((counted, alive));
        });
    }

    /// One connection too many: told so as far as the socket takes it at once.
    fn turn_away(&self, socket: &TcpStream, peer: Peer) {
        let why = "the gateway has as many connections as it takes";
        let failure =
            Failure::fixed(Code::Overloaded, why).with_retry_after(Duration::from_secs(1));
        if self.tls.is_none() {
            let raw = Bytes::from(RawHead::encode(&self.site.service.refuse(failure, peer, None)));
            _ = socket.try_write(&raw);
        }
    }
}
