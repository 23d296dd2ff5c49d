//! A worker: one thread with its own runtime, its own sockets and its own service.
//!
//! A request is accepted, decided, forwarded and answered on this thread; nothing of it is handed
//! to another.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at};

use super::accept::{Accept, ListenerContext, crowd_out};
use super::bounds::Bounds;
use super::connection::WorkerContext;
use super::connection_limit::ConnectionLimit;
use super::counts::ConnectionCounts;
use super::eviction::TickOutcome;
use super::eviction_credit::EvictionCredits;
use super::give_back::{GiveBack, give_back};
use super::listener::{self, WorkerSocket};
use super::liveness::Beat;
use super::network::{NetworkListener, SystemListener};
use super::service::Service;

/// How often deadlines are looked at and logs are flushed.
const TICK: Duration = Duration::from_millis(250);

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
        sockets: Vec<(WorkerSocket, Arc<ListenerContext>)>,
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
            let listening: io::Result<Vec<_>> = sockets
                .into_iter()
                .map(|(socket, listener)| Ok((SystemListener::new(socket)?, listener)))
                .collect();
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
        listeners: Vec<(L, Arc<ListenerContext>)>,
        context: Rc<WorkerContext<S>>,
    ) {
        // Tasks that hold their clone of it are those of open connections.
        let alive = Rc::new(());
        let mut accepting = Vec::new();
        for (socket, listener) in listeners {
            let accept = Rc::new(Accept {
                socket,
                listener,
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
        match accept.socket.turn_away() {
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
    let mut memory = GiveBack::default();
    loop {
        ticks.tick().await;
        beat.moved();
        let TickOutcome { ranks, released } = context.connections.tick(&context.bounds);
        // What could not be ended before may have become idle.
        pay(&context, (&credits, &limit), number);
        credits.report(number, ranks);
        if limit.recovered(Instant::now()) {
            tracing::info!("connections are accepted again");
        }
        context.service.tick();
        if memory.tick(released) {
            give_back();
        }
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
