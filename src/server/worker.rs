//! A worker: one thread with its own runtime, its own sockets and its own service.
//!
//! A request is accepted, decided, forwarded and answered on this thread; nothing of it is handed
//! to another.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};

use super::bounds::Bounds;
use super::connection::WorkerContext;
use super::connection_limit::{ConnectionLimit, ConnectionLimitError};
use super::connection_state::Rank;
use super::counts::{CloseReason, ConnectionCounts};
use super::descriptors;
use super::eviction_credit::EvictionCredits;
use super::listener::{self, Listener};
use super::liveness::Beat;
use super::network::{NetworkListener, NetworkSocket, TcpListening};
use super::service::{Peer, Service};
use super::tls::Tls;
use crate::failure::{Code, Failure, RawHead};

/// How often deadlines are looked at and logs are flushed.
const TICK: Duration = Duration::from_millis(250);

/// How long after it could not accept a worker retries: where a connection ends for the next
/// one, and where none can.
const ROOM: Duration = Duration::from_millis(5);
const NO_ROOM: Duration = Duration::from_millis(50);

/// What the workers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Serving,
    /// Serving still, and whoever is answered is told to come back on another connection.
    Leaving,
    Draining,
}

/// What a worker starts with.
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) bounds: Bounds,
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) limit: Arc<ConnectionLimit>,
    pub(super) credits: Arc<EvictionCredits>,
    /// Moved four times a second, to show that the worker is not stuck.
    pub(super) beat: Arc<Beat>,
    pub(super) counts: Arc<ConnectionCounts>,
}

impl Worker {
    /// Serves these sockets until it has drained; tells whether it can.
    pub(super) fn run<S: Service>(
        self,
        sockets: Vec<Listener>,
        make: impl FnOnce() -> S,
        ready: &Sender<io::Result<()>>,
    ) {
        // Its tasks stay on this thread by themselves: a `LocalSet` would be one more scheduler
        // between the sockets and the requests, whose owner is polled at each of their wake-ups.
        let built = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        // Whoever started it may be gone when it is told.
        let runtime = match built {
            Ok(runtime) => runtime,
            Err(error) => {
                _ = ready.send(Err(error));
                return;
            }
        };
        runtime.block_on(async {
            let listening: io::Result<Vec<_>> = sockets.into_iter().map(listening).collect();
            let listening = match listening {
                Ok(listening) => listening,
                Err(error) => {
                    _ = ready.send(Err(error));
                    return;
                }
            };
            let (number, stage) = (self.number, self.stage.clone());
            let ending = Ending { number, stage };
            let context =
                Rc::new(WorkerContext::new(Rc::new(make()), self.bounds, Arc::clone(&self.counts)));
            _ = ready.send(Ok(()));
            self.serve(listening, context).await;
            drop(ending);
        });
    }

    /// Serves on the runtime of this thread, whatever the network.
    pub(super) async fn serve<L: NetworkListener, S: Service>(
        mut self,
        listeners: Vec<L>,
        context: Rc<WorkerContext<S>>,
    ) {
        // Tasks that hold their clone of it are those of open connections.
        let alive = Rc::new(());
        let mut accepting = Vec::new();
        for listener in listeners {
            let accept = Rc::new(Accept {
                listener,
                tls: self.tls.clone(),
                limit: Arc::clone(&self.limit),
                credits: Arc::clone(&self.credits),
                number: self.number,
                context: Rc::clone(&context),
                alive: Rc::clone(&alive),
            });
            accepting.push((spawn_local(Rc::clone(&accept).run()), accept));
        }
        let number = self.number;
        let of_all = (Arc::clone(&self.credits), Arc::clone(&self.limit));
        let settling = spawn_local(settle(Rc::clone(&context), of_all.clone(), number));
        let ticking =
            spawn_local(tick(Rc::clone(&context), Arc::clone(&self.beat), of_all, number));
        // An error says that the sender is gone, which is a stop as well.
        _ = self.stage.wait_for(|stage| *stage != Stage::Serving).await;
        context.connections.leave();
        _ = self.stage.wait_for(|stage| *stage == Stage::Draining).await;
        context.service.drain();
        let end = Instant::now() + self.bounds.drain;
        stop_accepting(accepting, end).await;
        let drained = async {
            while Rc::strong_count(&alive) > 1 || context.service.is_busy() {
                // Connections that came just before are told as well.
                context.connections.drain();
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout_at(end, drained).await.is_err() {
            let left = Rc::strong_count(&alive) - 1;
            tracing::warn!(connections = left, "the drain time is over; what is left is cut");
        }
        ticking.abort();
        settling.abort();
        context.service.tick();
        self.beat.ended();
    }
}

/// A socket as this thread's runtime uses it.
fn listening(Listener { socket, shared }: Listener) -> io::Result<TcpListening> {
    Ok(TcpListening { listener: TcpListener::from_std(socket)?, shared })
}

/// Ends the process with a worker that ends before it is told to: no one would accept what comes to
/// its sockets.
struct Ending {
    number: usize,
    stage: watch::Receiver<Stage>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Without whoever could tell it to drain there is no server any more.
        let told = self.stage.has_changed().is_err() || *self.stage.borrow() == Stage::Draining;
        if !told {
            tracing::error!(
                worker = self.number,
                "a worker has ended by a defect; the process ends"
            );
            std::process::exit(1);
        }
    }
}

/// A listener, and the task that accepts from it.
type Accepting<L, S> = (JoinHandle<()>, Rc<Accept<L, S>>);

/// Takes what is in the queues and closes the sockets.
async fn stop_accepting<L: NetworkListener, S: Service>(
    accepting: Vec<Accepting<L, S>>,
    end: Instant,
) {
    let mut wait = false;
    for (_, accept) in &accepting {
        match accept.listener.turn_away() {
            Ok(turned) => wait |= turned,
            Err(error) => tracing::warn!(%error, "connections may be reset: no filter can be set"),
        }
    }
    if wait {
        sleep_until(end.min(Instant::now() + listener::HANDSHAKES)).await;
    }
    for (task, _) in &accepting {
        task.abort();
    }
    for (task, accept) in accepting {
        // Aborted, so it ends with an error; its listener is closed with the last clone.
        _ = task.await;
        accept.rest();
    }
}

async fn tick<S: Service>(
    context: Rc<WorkerContext<S>>,
    beat: Arc<Beat>,
    (credits, limit): (Arc<EvictionCredits>, Arc<ConnectionLimit>),
    number: usize,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        beat.moved();
        let ranks = context.connections.tick(&context.bounds);
        // What could not be ended before may have become idle.
        pay(&context, (&credits, &limit), number);
        credits.report(number, ranks);
        if limit.recovered(Instant::now()) {
            tracing::info!("connections are accepted again");
        }
        context.service.tick();
    }
}

/// Ends connections whose limit other workers have taken, as soon as they are.
async fn settle<S: Service>(
    context: Rc<WorkerContext<S>>,
    (credits, limit): (Arc<EvictionCredits>, Arc<ConnectionLimit>),
    number: usize,
) {
    loop {
        credits.taken(number).await;
        pay(&context, (&credits, &limit), number);
    }
}

/// Ends as many connections as other workers have taken, but for those for which others have gone
/// meanwhile: no one is ended where there is room.
fn pay<S: Service>(
    context: &WorkerContext<S>,
    (credits, limit): (&EvictionCredits, &ConnectionLimit),
    number: usize,
) {
    let mut lacking = limit.lacking();
    credits.settle(number, || {
        let room = lacking == 0;
        lacking = lacking.saturating_sub(1);
        room || crowd_out(context).is_some()
    });
}

/// Ends a connection that can be, so that whoever holds many cannot lock out others.
fn crowd_out<S: Service>(context: &WorkerContext<S>) -> Option<Rank> {
    let ended = context.connections.crowd_out();
    if ended.is_some() {
        context.closes(CloseReason::CrowdedOut);
    }
    ended
}

/// What it takes to accept on one socket.
struct Accept<L, S> {
    listener: L,
    tls: Option<Arc<Tls>>,
    limit: Arc<ConnectionLimit>,
    credits: Arc<EvictionCredits>,
    number: usize,
    context: Rc<WorkerContext<S>>,
    alive: Rc<()>,
}

impl<L: NetworkListener, S: Service> Accept<L, S> {
    async fn run(self: Rc<Self>) {
        loop {
            match self.listener.accept().await {
                Ok((socket, address)) => {
                    if self.accepted(socket, address) {
                        // The other connection goes before one more comes.
                        yield_now().await;
                    }
                }
                Err(error) => {
                    if self.limit.fails_to_accept(Instant::now()) {
                        tracing::warn!(%error, "no connection can be accepted");
                    }
                    let mut room = false;
                    if descriptors::are_out(&error) {
                        // As when all limit are taken.
                        self.context.closes(CloseReason::NoDescriptor);
                        room = self.make_room().is_some();
                    }
                    // Accepting again at once would spin: no one has gone yet.
                    sleep(if room { ROOM } else { NO_ROOM }).await;
                }
            }
        }
    }

    /// Ends a connection for another one: `None` where there is none that may be, and whether it is
    /// one of this worker.
    fn make_room(&self) -> Option<bool> {
        let own = self.context.connections.first_rank();
        if self.credits.take(self.number, own) {
            return Some(false);
        }
        self.credits.ended(self.number, crowd_out(&self.context)?);
        Some(true)
    }

    /// Accepts what has been in the queue until now: closing the socket would reset it.
    fn rest(&self) {
        // A socket of several processes may never be empty.
        for _ in 0..listener::BACKLOG {
            match self.listener.waiting() {
                Ok(Some((socket, address))) => _ = self.accepted(socket, address),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    break;
                }
            }
        }
    }

    /// Begins to serve a connection; `true` where that is in the place of another of this worker.
    fn accepted(&self, socket: L::Socket, address: SocketAddr) -> bool {
        // A socket of both families has IPv4 addresses in another spelling than one of IPv4.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let peer = Peer::new(address);
        let mut crowded = false;
        let free = || {
            let room = self.make_room();
            crowded = room == Some(true);
            room.is_some()
        };
        let slot = match self.limit.take(peer.address.ip(), free) {
            Ok(slot) => slot,
            Err(full) => {
                self.turn_away(&socket, peer, full);
                return false;
            }
        };
        let context = Rc::clone(&self.context);
        let alive = Rc::clone(&self.alive);
        let tls = self.tls.clone();
        context.counts.open.add(1);
        context.service.connections(1);
        spawn_local(async move {
            Rc::clone(&context).serve(socket, peer, tls.as_ref()).await;
            context.counts.open.add(-1);
            context.service.connections(-1);
            drop((slot, alive));
        });
        crowded
    }

    /// One connection too many: told so as far as the socket takes it at once.
    fn turn_away(&self, socket: &impl NetworkSocket, peer: Peer, full: ConnectionLimitError) {
        let (reason, why) = match full {
            ConnectionLimitError::Process => {
                (CloseReason::Full, "the gateway has as many connections as it takes")
            }
            ConnectionLimitError::Address => {
                (CloseReason::Crowd, "this address has as many connections as it may have")
            }
        };
        self.context.closes(reason);
        let failure =
            Failure::fixed(Code::Overloaded, why).with_retry_after(Duration::from_secs(1));
        if self.tls.is_none() {
            let raw =
                Bytes::from(RawHead::encode(&self.context.service.refuse(failure, peer, None)));
            _ = socket.try_write(&raw);
        }
    }
}
