//! The gateway of a run: the real one, on the network and the clock of the run, with a watch over
//! what it takes up and when it has settled it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use tokio::io::ReadBuf;
use tokio::time::Instant;
use whiteboard_gateway::config::{self, Source};
use whiteboard_gateway::failure::Failure;
use whiteboard_gateway::gateway::{Body, Gateway, Site};
use whiteboard_gateway::server::{self, Cut, Listen, Local, Peer, Protocol, Service, Socket};
use whiteboard_gateway::telemetry::{self, AccessLog, Metrics, Recorder, Sink};
use whiteboard_gateway::upstream::Network;

use crate::network::{self, End, Harm};
use crate::request::Asked;
use crate::upstream::Way;
use crate::world::{Request, Taken, World, wall_clock};

/// What is waited for at most: a body, then the upstream, quick or slow.
const BODY: Duration = Duration::from_secs(10);
pub(crate) const TOTAL: Duration = Duration::from_secs(15);
const TOTAL_SLOW: Duration = Duration::from_secs(35);
/// Timers go off at the next millisecond.
const TICK: Duration = Duration::from_millis(2);

/// What callers connect to.
#[derive(Clone, Default)]
pub(crate) struct Door(Rc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<(End, SocketAddr)>>,
    waker: RefCell<Option<Waker>>,
    ports: Cell<u16>,
    closed: Cell<bool>,
}

/// The gateway, and what it goes by.
pub(crate) struct House {
    pub(crate) door: Door,
    world: Rc<World>,
    sites: Arc<ArcSwap<Site>>,
    metrics: Arc<Metrics>,
    gateway: Rc<Gateway>,
    server: Local,
}

impl House {
    /// Starts it.
    pub(crate) fn open(world: &Rc<World>) -> Self {
        let metrics = Arc::new(Metrics::new(1));
        let settings = settings(world, 0);
        let site = Site::new(settings.gateway, None, &metrics).expect("a site");
        let sites = Arc::new(ArcSwap::from_pointee(site));
        let log = telemetry::Settings { access: AccessLog::Off, ..Default::default() };
        let sink = Arc::new(Sink::open(&log, &metrics).expect("a sink"));
        let mut recorder = Recorder::new(Arc::clone(&metrics), 0, sink);
        recorder.clock = wall_clock;
        let gateway = Rc::new(Gateway::new(Arc::clone(&sites), recorder));
        let door = Door::default();
        let watch = Watch {
            gateway: Rc::clone(&gateway),
            world: Rc::clone(world),
            busy: RefCell::default(),
            open: Cell::new(0),
        };
        let server = Local::start(&settings.server, None, door.clone(), Rc::new(watch));
        Self { door, world: Rc::clone(world), sites, metrics, gateway, server }
    }

    /// Loads a configuration, as after SIGHUP.
    pub(crate) fn reload(&self, rates: usize) {
        self.world.note("gateway", &format!("loads its configuration, with rates {rates}"));
        self.world.count("a reload");
        let settings = settings(&self.world, rates);
        let before = self.sites.load();
        let site = Site::new(settings.gateway, Some(&before), &self.metrics).expect("a site");
        self.sites.store(Arc::new(site));
        self.world.reloads.set(self.world.reloads.get() + 1);
        self.world.limits.set(self.world.limits.get().changed_to(rates, &self.world.plan));
    }

    /// Forgets callers whose limits are full again, as the command does every ten seconds.
    pub(crate) fn forget_idle(&self) {
        self.sites.load().limits().forget_idle();
    }

    /// Stops it, as SIGTERM does.
    pub(crate) async fn stop(self, pre_drain: Duration) {
        let Self { door, world, gateway, server, .. } = self;
        world.leaving.set(Some(Instant::now()));
        world.note("gateway", "is about to stop");
        server.leave();
        tokio::time::sleep(pre_drain).await;
        world.note("gateway", "drains");
        let (begun, bound) = (Instant::now(), server::Bounds::default().drain);
        server.drain().await;
        door.0.closed.set(true);
        door.0.waiting.borrow_mut().clear();
        let took = begun.elapsed();
        world.note("gateway", "has drained");
        if took > bound + TICK {
            world.broken(format!("draining took {took:?}"));
        }
        world.cut.set(took >= bound);
        if world.cut.get() {
            // Nobody can wait for what may take longer; everything else has no reason to be left.
            if !world.requests.borrow().values().any(may_take_longer) {
                world.broken("draining is cut, and nothing was waited for".to_owned());
            }
            return world.count("a drain that is cut");
        }
        let left = (world.inbound.now(), Rc::strong_count(&gateway));
        if left != (0, 1) {
            world.broken(format!("{left:?} connections and holders of the gateway are left"));
        }
        if gateway.is_busy() {
            world.broken("it still has something at the upstream".to_owned());
        }
    }
}

/// How long a request may take.
fn longest(asked: &Asked) -> Duration {
    let total = if asked.kind.is_slow() { TOTAL_SLOW } else { TOTAL };
    total + if asked.body().is_some() { BODY } else { Duration::ZERO }
}

/// Whether a request can be under way now: at the upstream, or on the way back to a slow caller.
fn may_take_longer(request: &Request) -> bool {
    let taken = request.entered.first();
    let at_work = request.settled.is_none()
        && taken.is_some_and(|taken| taken.at.elapsed() <= longest(&request.asked));
    at_work || (taken.is_some() && request.outcome.is_none())
}

fn settings(world: &World, rates: usize) -> config::Settings {
    let text = world.plan.configuration(rates).leak();
    let loaded = config::load(&Source::Embedded { name: "simulation.toml", text }, &[]);
    let mut settings = loaded.unwrap_or_else(|errors| panic!("{errors}")).settings;
    settings.gateway.upstream.network = Network::Other(Arc::new(Way));
    settings
}

impl Door {
    /// Connects a caller, and gives the address by which the gateway knows it; `None` where nobody
    /// listens any more.
    pub(crate) fn connect(&self, world: &Rc<World>, who: &str) -> Option<(End, Harm, SocketAddr)> {
        let queue = &*self.0;
        if queue.closed.get() {
            return None;
        }
        let mut rng = world.fork();
        let weather = world.weather(&mut rng, true);
        let told = world.notes_of(who.to_owned());
        let (near, far) = network::connection(weather, rng, told, [None, Some(&world.inbound)]);
        queue.ports.set(queue.ports.get() + 1);
        let address = SocketAddr::from(([10, 0, 0, 1], queue.ports.get()));
        queue.waiting.borrow_mut().push_back((far, address));
        queue.waker.take().into_iter().for_each(Waker::wake);
        let harm = near.harm();
        Some((near, harm, address))
    }
}

impl Listen for Door {
    type Socket = End;

    fn accept(&self) -> impl Future<Output = io::Result<(End, SocketAddr)>> {
        poll_fn(|context| match self.0.waiting.borrow_mut().pop_front() {
            Some(next) => Poll::Ready(Ok(next)),
            None => {
                self.0.waker.replace(Some(context.waker().clone()));
                Poll::Pending
            }
        })
    }

    fn waiting(&self) -> io::Result<Option<(End, SocketAddr)>> {
        Ok(self.0.waiting.borrow_mut().pop_front())
    }

    fn turn_away(&self) -> io::Result<bool> {
        self.0.closed.set(true);
        Ok(true)
    }
}

impl Socket for End {
    fn without_delay(&self) -> io::Result<()> {
        Ok(())
    }

    fn poll_peek(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        Self::poll_peek(self, context, buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }
}

/// The gateway as the server knows it, watched.
struct Watch {
    gateway: Rc<Gateway>,
    world: Rc<World>,
    /// How many requests of each connection are being answered.
    busy: RefCell<BTreeMap<SocketAddr, usize>>,
    open: Cell<i64>,
}

/// A request that is being answered.
struct Entered {
    watch: Rc<Watch>,
    id: String,
    address: SocketAddr,
}

impl Watch {
    fn enter(self: &Rc<Self>, request: &http::Request<Incoming>, peer: &Peer) -> Entered {
        let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok());
        let id = id.unwrap_or_default().to_owned();
        let (world, address) = (&self.world, peer.address);
        world.note(&id, "is taken up");
        let taken = Taken { at: Instant::now(), limits: world.limits.get() };
        let times = world.with(&id, |request| {
            request.entered.push(taken);
            request.entered.len()
        });
        if times != Some(1) {
            world.broken(format!("{id} was taken up {times:?} times"));
        }
        let mut busy = self.busy.borrow_mut();
        let busy = busy.entry(address).or_default();
        *busy += 1;
        let most = match peer.protocol {
            Protocol::Http1 => 1,
            Protocol::Http2 => world.plan.streams,
        };
        if *busy > most {
            world.broken(format!("{busy} requests of one connection are answered, {most} may be"));
        }
        Entered { watch: Rc::clone(self), id, address }
    }
}

impl Entered {
    /// It has an answer, or at least the head of one.
    fn settled(&self) {
        let world = &self.watch.world;
        world.note(&self.id, "is settled");
        let now = Instant::now();
        let took = world.with(&self.id, |request| {
            request.settled = Some(now);
            request.entered.first().map(|taken| (now - taken.at, longest(&request.asked) + TICK))
        });
        if let Some(Some((took, most))) = took
            && took > most
        {
            world.broken(format!("{} took {took:?}, and {most:?} is the most", self.id));
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut busy = self.watch.busy.borrow_mut();
        busy.entry(self.address).and_modify(|busy| *busy -= 1);
    }
}

impl Service for Watch {
    type Body = Body;

    async fn answer(
        self: Rc<Self>,
        request: http::Request<Incoming>,
        peer: Peer,
    ) -> Response<Body> {
        let entered = self.enter(&request, &peer);
        let response = Rc::clone(&self.gateway).answer(request, peer).await;
        entered.settled();
        response
    }

    fn refuse(
        &self,
        failure: Failure,
        peer: Peer,
        origin: Option<&HeaderValue>,
    ) -> Response<Bytes> {
        self.world.note(&peer.address.to_string(), &format!("is refused: {}", failure.message()));
        self.gateway.refuse(failure, peer, origin)
    }

    fn tick(&self) {
        self.gateway.tick();
        let (world, idle) = (&self.world, self.world.outbound.now());
        let at_work = world.inbound.now() > 0 || self.gateway.is_busy();
        if !at_work && !world.plan.http2_upstream && idle > world.plan.max_idle {
            world.broken(format!("{idle} connections to the upstream are kept"));
        }
    }

    fn drain(&self) {
        self.gateway.drain();
    }

    fn is_busy(&self) -> bool {
        self.gateway.is_busy()
    }

    fn connections(&self, change: i64) {
        self.open.set(self.open.get() + change);
        // One that is told to leave has not left when another has its place.
        let most = self.world.plan.connections as i64 + 1;
        if self.open.get() > most {
            self.world.broken(format!("{} connections are open", self.open.get()));
        }
        self.gateway.connections(change);
    }

    fn cut(&self, why: Cut) {
        self.world.note("gateway", &format!("ends a connection: {why:?}"));
        self.world.count(&format!("a connection that is ended: {why:?}"));
        self.gateway.cut(why);
    }
}
