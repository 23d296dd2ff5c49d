//! The gateway of a run: the real one, on the network and the clock of the run, with a watch over
//! what it takes up and when it has settled it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use tokio::io::ReadBuf;
use tokio::time::Instant;
use whiteboard_gateway::caller::jwt::Fetcher;
use whiteboard_gateway::config::{self, Source};
use whiteboard_gateway::failure::Failure;
use whiteboard_gateway::gateway::{self, Gateway, Snapshot};
use whiteboard_gateway::metric::{MetricSet, TextFormat};
use whiteboard_gateway::server::{
    self, CloseReason, Connections, Local, NetworkListener, NetworkSocket, Peer, Protocol, Service,
};
use whiteboard_gateway::telemetry::{self, AccessLog, Metrics, Recorder, Sink};
use whiteboard_gateway::upstream::{BreakerState, Network};

use crate::issuer;
use crate::memory::Counted;
use crate::network::{self, End, Harm, Weather};
use crate::plan::{Configured, Plan};
use crate::request::Asked;
use crate::store;
use crate::threads;
use crate::upstream::{Way, no_descriptor};
use crate::world::{Request, Taken, World, wall_clock};

/// What is waited for at most: a body, then the upstream, quick or slow.
const BODY: Duration = Duration::from_secs(10);
pub(crate) const TOTAL: Duration = Duration::from_secs(15);
const TOTAL_SLOW: Duration = Duration::from_secs(35);
/// So many connections of another worker may be ended at a time for those of one.
const CREDIT: i64 = 16;
/// How long after the last the configuration is loaded once more in a drain.
const WHILE_DRAINING: Duration = Duration::from_millis(700);
/// How often a drain that waits looks for who is left.
const LOOK: Duration = Duration::from_millis(250);
/// Timers go off at the next millisecond.
const TICK: Duration = Duration::from_millis(2);
/// Each wait within a request looks once more when its time is over, for a millisecond, and each try
/// has several.
const LOOKS: Duration = Duration::from_millis(50);

/// What callers connect to: a queue for each worker.
#[derive(Clone)]
pub(crate) struct Door(Rc<Vec<Rc<Queue>>>);

/// The queue of a worker, as that knows it.
struct Listening(Rc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<(End, SocketAddr)>>,
    waker: RefCell<Option<Waker>>,
    closed: Cell<bool>,
}

/// The gateway, and what it goes by.
pub(crate) struct House {
    pub(crate) door: Door,
    world: Rc<World>,
    way: Arc<Way>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<Metrics>,
    connections: Arc<Connections>,
    configured: Cell<Configured>,
    gateways: Rc<Vec<Rc<Gateway>>>,
    server: RefCell<Option<Local>>,
    /// What fetches the keys of the identity provider.
    fetcher: RefCell<Fetcher>,
}

impl House {
    /// Starts it.
    pub(crate) fn open(world: &Rc<World>) -> Self {
        let count = world.plan.workers;
        let metrics = Arc::new(Metrics::new(count));
        let way = Arc::new(Way);
        let settings = settings(world, Configured::default(), &way);
        let snapshot = Snapshot::new(settings.gateway, None, &metrics).expect("a snapshot");
        let snapshots = Arc::new(ArcSwap::from_pointee(snapshot));
        let lines = world.threads.as_ref().map(|threads| threads.path(threads::ACCESS));
        let access = lines.map_or(AccessLog::Off, AccessLog::File);
        let log = telemetry::Settings { access, ..Default::default() };
        let sink = Arc::new(Sink::open(&log, &metrics).expect("a sink"));
        let gateway = |number| {
            let mut recorder = Recorder::new(Arc::clone(&metrics), number, Arc::clone(&sink));
            recorder.clock = wall_clock;
            Rc::new(Gateway::new(Arc::clone(&snapshots), recorder))
        };
        let gateways: Rc<Vec<_>> = Rc::new((0..count).map(gateway).collect());
        let door = Door(Rc::new((0..count).map(|_| Rc::default()).collect()));
        let worker = |(gateway, queue): (&Rc<Gateway>, &Rc<Queue>)| {
            let watch = Watch {
                gateway: Rc::clone(gateway),
                all: Rc::downgrade(&gateways),
                world: Rc::clone(world),
                busy: RefCell::default(),
            };
            (Listening(Rc::clone(queue)), Rc::new(watch))
        };
        let workers = gateways.iter().zip(&*door.0).map(worker).collect();
        let server = Local::start_all(&settings.server, None, workers);
        let connections = Arc::clone(server.connections());
        let server = RefCell::new(Some(server));
        let configured = Cell::default();
        let world = Rc::clone(world);
        let fetcher = RefCell::default();
        let house = Self {
            door,
            world,
            way,
            snapshots,
            metrics,
            connections,
            configured,
            gateways,
            server,
            fetcher,
        };
        house.fetches();
        house
    }

    /// Loads a configuration, as after SIGHUP.
    pub(crate) fn reload(&self, configured: Configured) {
        self.world.note("gateway", &format!("loads its configuration: {configured:?}"));
        self.world.count("a reload");
        let settings = settings(&self.world, configured, &self.way);
        let before = self.snapshots.load();
        let snapshot =
            Snapshot::new(settings.gateway, Some(&before), &self.metrics).expect("a snapshot");
        self.snapshots.store(Arc::new(snapshot));
        self.fetches();
        self.world.is_configured(self.configured.replace(configured), configured);
    }

    /// Fetches the keys of the provider that the configuration names.
    fn fetches(&self) {
        self.fetcher.borrow_mut().follow(&self.snapshots.load().callers.issuers);
    }

    /// Loads the configuration without a caller.
    pub(crate) fn dismiss(&self) {
        self.reload(Configured { dismissed: true, ..self.configured.get() });
    }

    /// Forgets callers whose limits are full again, as the command does every ten seconds.
    pub(crate) fn forget_idle(&self) {
        self.snapshots.load().limits.forget_idle();
    }

    /// Stops it, as SIGTERM does. What was to be loaded later is loaded meanwhile.
    pub(crate) async fn stop(self, pre_drain: Duration, reloads: &[(Duration, Configured)]) {
        let Self { door, world, server, .. } = &self;
        world.leaving.set(Some(Instant::now()));
        world.note("gateway", "is about to stop");
        world.is_broken_off.set(self.is_broken_off());
        let Some(server) = server.take() else { return };
        server.leave();
        tokio::time::sleep(pre_drain / 2).await;
        let mut reloads = reloads.iter().map(|(_, configured)| *configured);
        reloads.next().into_iter().for_each(|configured| self.reload(configured));
        tokio::time::sleep(pre_drain / 2).await;
        world.note("gateway", "drains");
        world.draining.set(Some(Instant::now()));
        let (begun, bound) = (Instant::now(), server::Bounds::default().drain);
        let meanwhile = async {
            for configured in reloads {
                tokio::time::sleep(WHILE_DRAINING).await;
                if !world.is_drained.get() {
                    self.reload(configured);
                }
            }
        };
        let draining = async {
            server.drain().await;
            world.is_drained.set(true);
            begun.elapsed()
        };
        let (took, ()) = tokio::join!(draining, meanwhile);
        for queue in &*door.0 {
            queue.closed.set(true);
            queue.waiting.borrow_mut().clear();
        }
        world.note("gateway", "has drained");
        if took > bound + TICK {
            world.broken(format!("draining took {took:?}"));
        }
        world.cut.set(took >= bound);
        if world.cut.get() {
            // Nobody can wait for what may take longer; everything else has no reason to be left.
            let deaf =
                world.deaf.borrow().iter().any(|one| {
                    one.is_open(1) || one.closed(1).is_some_and(|at| at.elapsed() < LOOK)
                });
            if !deaf && !world.requests.borrow().values().any(may_take_longer) {
                world.broken("draining is cut, and nothing was waited for".to_owned());
            }
            return world.count("a drain that is cut");
        }
        for gateway in &**self.gateways {
            let left = (world.inbound.now(), Rc::strong_count(gateway));
            if left != (0, 1) {
                world.broken(format!("{left:?} connections and holders of the gateway are left"));
            }
            if gateway.is_busy() {
                world.broken("it still has something at the upstream".to_owned());
            }
        }
        self.check_metrics();
    }

    /// Whether the breaker of the upstream is not closed.
    fn is_broken_off(&self) -> bool {
        self.snapshots.load().upstream.breakers().any(|(_, state, _)| state != BreakerState::Closed)
    }

    /// Looks at what was counted, when nothing is under way any more.
    fn check_metrics(&self) {
        let mut set = MetricSet::default();
        set.read(telemetry::REQUESTS, &*self.metrics);
        set.read(server::CONNECTIONS, &*self.connections);
        set.read(gateway::UPSTREAM, &*self.snapshots.load().worker_counts);
        let text = set.text(TextFormat::OpenMetrics);
        let sum = |name: &str| -> f64 {
            let of = |line: &str| {
                let rest = line.strip_prefix(name)?;
                let value = rest.strip_prefix(['{', ' ']).map(|_| rest.rsplit(' ').next())?;
                value?.parse::<f64>().ok()
            };
            text.lines().filter_map(of).sum()
        };
        let world = &self.world;
        let entered = world.requests.borrow().values().map(|one| one.entered.len()).sum::<usize>();
        let all = entered as f64 + world.refusals.get() as f64;
        for (name, right) in
            [("wbg_requests_total", all), ("wbg_connections", 0.0), ("wbg_upstream_in_flight", 0.0)]
        {
            if sum(name) != right {
                world.broken(format!("{name} is {} at the end, and not {right}", sum(name)));
            }
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
    // The end of its connection is seen at the look after the next.
    let just_over = request.settled.is_some_and(|at| at.elapsed() < 2 * LOOK);
    at_work || just_over || (taken.is_some() && request.outcome.is_none())
}

/// Reads a configuration: the first of a process draws what is the process's own.
pub(crate) fn warm_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let text =
            Plan::draw(&mut Rng::with_seed(0)).configuration(Configured::default(), None).leak();
        let source = Source::Embedded { name: "simulation.toml", text };
        config::load(&source, &[]).unwrap_or_else(|errors| panic!("{errors}"));
    });
}

fn settings(world: &World, configured: Configured, way: &Arc<Way>) -> config::Settings {
    let text = world.plan.configuration(configured, world.threads.as_ref()).leak();
    let loaded = config::load(&Source::Embedded { name: "simulation.toml", text }, &[]);
    let mut settings = loaded.unwrap_or_else(|errors| panic!("{errors}")).settings;
    if let Some(store) = &mut settings.gateway.store {
        store.dialler = Some(store::way());
    }
    for issuer in &mut settings.gateway.issuers {
        issuer.dialler = Some(issuer::way());
    }
    settings.gateway.upstream.network = Network::Other(Arc::<Way>::clone(way));
    settings
}

impl Door {
    /// Connects a caller, and gives the address by which the gateway knows it; `None` where nobody
    /// listens any more.
    pub(crate) fn connect(
        &self,
        world: &Rc<World>,
        who: &str,
        weather: Weather,
        mut rng: Rng,
    ) -> Option<(End, Harm, SocketAddr)> {
        // The kernel spreads them.
        let queue = &self.0[rng.usize(..self.0.len())];
        if queue.closed.get() {
            return None;
        }
        let told = world.notes_of(who.to_owned());
        let (near, far) = network::connection(weather, rng, told, [None, Some(&world.inbound)]);
        let port = world.inbounds.borrow().len() + 1;
        let address = SocketAddr::from(([10, 0, 0, 1], u16::try_from(port).unwrap_or(u16::MAX)));
        queue.waiting.borrow_mut().push_back((far, address));
        queue.waker.take().into_iter().for_each(Waker::wake);
        let harm = near.harm();
        world.inbounds.borrow_mut().insert(address, harm.clone());
        Some((near, harm, address))
    }
}

impl NetworkListener for Listening {
    type Socket = End;

    fn accept(&self) -> impl Future<Output = io::Result<(End, SocketAddr)>> {
        poll_fn(|context| {
            let mut waiting = self.0.waiting.borrow_mut();
            if waiting.is_empty() {
                self.0.waker.replace(Some(context.waker().clone()));
                return Poll::Pending;
            }
            if World::current().is_some_and(|world| world.lacks_descriptors()) {
                return Poll::Ready(Err(no_descriptor()));
            }
            waiting.pop_front().map_or(Poll::Pending, |next| Poll::Ready(Ok(next)))
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

impl NetworkSocket for End {
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
    /// Those of all workers.
    all: Weak<Vec<Rc<Gateway>>>,
    world: Rc<World>,
    /// How many requests of each connection are being answered.
    busy: RefCell<BTreeMap<SocketAddr, usize>>,
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
            let last = request.arrivals.last().and_then(|last| last.harm.arrives(1));
            request.comes_later = last.is_some_and(|at| at > now);
            let taken = request.entered.first()?.at;
            Some((now - taken, longest(&request.asked) + LOOKS + world.stood_still(taken, now)))
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
    type Body = Counted;

    async fn answer(
        self: Rc<Self>,
        request: http::Request<Incoming>,
        peer: Peer,
    ) -> Response<Counted> {
        let entered = self.enter(&request, &peer);
        let (address, protocol) = (peer.address, peer.protocol);
        let response = Rc::clone(&self.gateway).answer(request, peer).await;
        entered.settled();
        response
            .map(|body| self.world.held.counts(&self.world, &entered.id, address, protocol, body))
    }

    fn refuse(
        &self,
        failure: Failure,
        peer: Peer,
        origin: Option<&HeaderValue>,
    ) -> Response<Bytes> {
        self.world.note(&peer.address.to_string(), &format!("is refused: {}", failure.message()));
        self.world.refusals.set(self.world.refusals.get() + 1);
        self.gateway.refuse(failure, peer, origin)
    }

    fn tick(&self) {
        self.gateway.tick();
        let (world, idle) = (&self.world, self.world.outbound.now());
        let all = self.all.upgrade();
        let busy = all.is_none_or(|all| all.iter().any(|one| one.is_busy()));
        let most = world.plan.max_idle * world.plan.workers;
        if world.inbound.now() == 0 && !busy && !world.plan.http2_upstream && idle > most {
            world.broken(format!("{idle} connections to the upstream are kept"));
        }
        world.held.check(world);
    }

    fn drain(&self) {
        self.gateway.drain();
    }

    fn is_busy(&self) -> bool {
        self.gateway.is_busy()
    }

    fn connections(&self, change: i64) {
        let open = self.world.open.get() + change;
        self.world.open.set(open);
        // One that is told to leave has not left when another has its place; of another worker so
        // many may have been told.
        let others = self.world.plan.workers as i64 - 1;
        if open > self.world.plan.connections as i64 + 1 + CREDIT * others {
            self.world.broken(format!("{open} connections are open"));
        }
    }

    fn closes(&self, why: CloseReason) {
        self.world.note("gateway", &format!("ends a connection: {why:?}"));
        self.world.count(&format!("a connection that is ended: {why:?}"));
        let most = self.world.plan.connections as i64;
        let full = self.world.open.get() >= most || self.world.lacks_descriptors();
        if matches!(why, CloseReason::Full | CloseReason::CrowdedOut | CloseReason::NoDescriptor)
            && !full
        {
            self.world.broken(format!("a connection is ended, and there is room: {why:?}"));
        }
    }
}
