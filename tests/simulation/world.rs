//! One run: what the seed has drawn, what has happened so far, and which promise was broken.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, advance};
use whiteboard_gateway::background;

use crate::issuer::Issuer;
use crate::memory::Held;
use crate::network::{Gauge, Harm, Told};
use crate::plan::{Configured, Plan};
use crate::request::{Asked, Outcome};
use crate::store::Store;
use crate::threads::Threads;

/// The day on which every run begins.
const BEGINS: Duration = Duration::from_secs(1_800_000_000);

thread_local! {
    static EPOCH: Cell<Option<Instant>> = const { Cell::new(None) };
    static SET_BY: Cell<i64> = const { Cell::new(0) };
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The time of day in a run.
pub(crate) fn wall_clock() -> SystemTime {
    let since = EPOCH.get().map_or(Duration::ZERO, |epoch| epoch.elapsed());
    let set_by = Duration::from_secs(SET_BY.get().unsigned_abs());
    let begun = if SET_BY.get() < 0 { BEGINS - set_by } else { BEGINS + set_by };
    UNIX_EPOCH + begun + since
}

/// One run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    rng: RefCell<Rng>,
    begun: Instant,
    lines: RefCell<Vec<(Duration, String)>>,
    pub(crate) requests: RefCell<BTreeMap<String, Request>>,
    pub(crate) broken: RefCell<Vec<String>>,
    /// What was seen how often: a run in which nothing fails proves little.
    pub(crate) seen: RefCell<BTreeMap<String, u32>>,
    /// The gateway's ends of its connections to callers, and to the upstream.
    pub(crate) inbound: Gauge,
    pub(crate) outbound: Gauge,
    /// Since when the gateway is told to stop, and since when it drains.
    pub(crate) leaving: Cell<Option<Instant>>,
    pub(crate) draining: Cell<Option<Instant>>,
    /// The connections to the upstream, those that are closed included.
    pub(crate) upstreams: RefCell<Vec<Harm>>,
    /// The connections of callers, by the address that the gateway knows.
    pub(crate) inbounds: RefCell<BTreeMap<SocketAddr, Harm>>,
    /// What the gateway holds of answers.
    pub(crate) held: Held,
    /// When the network forgot them.
    pub(crate) forgotten: Cell<Option<Instant>>,
    /// When a connection to the upstream could not be made.
    pub(crate) undialled: RefCell<Vec<Instant>>,
    /// When it was stopped with something left.
    pub(crate) cut: Cell<bool>,
    /// What the limits are at present.
    pub(crate) limits: Cell<Limits>,
    /// How often the configuration has said something else about the upstream.
    pub(crate) upstream_changes: Cell<usize>,
    /// When a configuration was loaded.
    loads: RefCell<Vec<Instant>>,
    /// When there was no caller of the name that not every configuration has.
    pub(crate) dismissals: RefCell<Vec<(Instant, Option<Instant>)>>,
    /// When everything stood still.
    pub(crate) pauses: RefCell<Vec<(Instant, Instant)>>,
    /// How many honest requests were answered before everything stood still.
    pub(crate) until_stall: Cell<u32>,
    /// The store, where there is one.
    pub(crate) store: Store,
    /// The identity provider, where there is one.
    pub(crate) issuer: Issuer,
    /// The threads, where something is written.
    pub(crate) threads: Option<Threads>,
    /// A request has come to nothing whose caller is to be none any more.
    pub(crate) dismiss: Notify,
    /// Whether the breaker was open at the end.
    pub(crate) is_broken_off: Cell<bool>,
    /// The connections of callers that take nothing.
    pub(crate) deaf: RefCell<Vec<Harm>>,
    /// The gateway has drained, or was cut.
    pub(crate) is_drained: Cell<bool>,
    /// How many connections of callers are open, as the gateway counts them.
    pub(crate) open: Cell<i64>,
    /// How many answers the gateway has given to what never was a request.
    pub(crate) refusals: Cell<u64>,
}

/// What is known of a request.
pub(crate) struct Request {
    pub(crate) asked: Asked,
    pub(crate) asked_at: Instant,
    /// Each time that the gateway took it up.
    pub(crate) entered: Vec<Taken>,
    pub(crate) settled: Option<Instant>,
    /// The network still carried something then of the connection to the upstream that it was on.
    pub(crate) comes_later: bool,
    /// Its caller waits before each read.
    pub(crate) reads_slowly: bool,
    /// Its caller has ended its side behind it: it is not sent again.
    pub(crate) is_last_said: bool,
    /// How long its bytes may be on their way.
    pub(crate) longest: Duration,
    /// When it came to the upstream, and what that did.
    pub(crate) arrivals: Vec<Arrival>,
    /// When it was sent on a connection to the upstream on which nothing arrived any more.
    pub(crate) lost: Vec<Lost>,
    /// What its caller got.
    pub(crate) outcome: Option<Outcome>,
}

/// That a request to the upstream was lost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) at: Instant,
    /// On a connection that the network had forgotten, and not on one that it had broken.
    pub(crate) forgotten: bool,
    /// The connection had brought another request before: what is new says nothing about others.
    pub(crate) kept: bool,
}

impl Request {
    /// Whether it has the head of an answer whose body the upstream did not end.
    pub(crate) fn broke_off(&mut self) -> bool {
        self.settled.is_some() && self.arrivals.last().is_some_and(|arrival| !arrival.is_whole())
    }
}

/// That a request was taken up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) at: Instant,
    /// By which limits.
    pub(crate) limits: Limits,
}

/// Which limits count: how many configurations there were before, the number of a set of rates, how
/// often each of them gives back something else than before, and by how much the burst of each was
/// lowered, all in all. A rate that gives back something else counts anew; a burst that is lower
/// forgives what is owed beyond it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) loads: usize,
    pub(crate) rates: usize,
    pub(crate) changed: [usize; 4],
    pub(crate) lowered: [u32; 4],
}

impl Limits {
    /// After a configuration was loaded.
    pub(crate) fn changed_to(self, rates: usize, plan: &Plan) -> Self {
        let (old, new) = (plan.rates[self.rates].all(), plan.rates[rates].all());
        let mut now = Self { loads: self.loads + 1, rates, ..self };
        for (limit, (old, new)) in old.into_iter().zip(new).enumerate() {
            now.changed[limit] += usize::from(old.per_second != new.per_second);
            now.lowered[limit] += old.burst.saturating_sub(new.burst);
        }
        now
    }
}

/// A request at the upstream.
pub(crate) struct Arrival {
    pub(crate) deed: String,
    /// It is answered at once, and rightly.
    pub(crate) is_right: bool,
    /// It is answered as the service answers when it works, if only to refuse.
    pub(crate) is_of_its_own: bool,
    /// It was refused for its token, and so was not done.
    pub(crate) refused: bool,
    /// All of its answer was sent, and nothing was wrong with it.
    pub(crate) sent: bool,
    /// The connection that it came on, and when that was made.
    pub(crate) harm: Harm,
    pub(crate) made: Instant,
    pub(crate) at: Instant,
    /// When all of the answer had been written.
    pub(crate) answered: Option<Instant>,
    /// What it gets is that nothing comes, for a time or at all.
    pub(crate) waits: bool,
    /// It was the first on its connection, or of those for whom that was made.
    pub(crate) first: bool,
    /// What the gateway had read of the connection before, and when the next request came on it.
    pub(crate) read: u64,
    pub(crate) until: Rc<Cell<Option<u64>>>,
}

impl Arrival {
    /// Whether all of the answer may have arrived.
    pub(crate) fn is_whole(&self) -> bool {
        self.sent && !self.harm.is_done()
    }
}

impl World {
    /// Begins a run, on this thread.
    pub(crate) fn begin(seed: u64) -> Rc<Self> {
        // The gateway draws from this one.
        fastrand::seed(seed);
        let mut rng = Rng::with_seed(seed);
        let begun = Instant::now();
        EPOCH.set(Some(begun));
        SET_BY.set(0);
        let plan = Plan::draw(&mut rng);
        let world = Rc::new(Self {
            threads: plan.writes.is_some().then(Threads::begin),
            plan,
            rng: RefCell::new(rng),
            begun,
            lines: RefCell::default(),
            requests: RefCell::default(),
            broken: RefCell::default(),
            seen: RefCell::default(),
            inbound: Gauge::default(),
            outbound: Gauge::default(),
            leaving: Cell::default(),
            draining: Cell::default(),
            upstreams: RefCell::default(),
            inbounds: RefCell::default(),
            held: Held::default(),
            forgotten: Cell::default(),
            undialled: RefCell::default(),
            cut: Cell::default(),
            limits: Cell::default(),
            upstream_changes: Cell::default(),
            loads: RefCell::default(),
            dismissals: RefCell::default(),
            pauses: RefCell::default(),
            until_stall: Cell::default(),
            store: Store::default(),
            issuer: Issuer::default(),
            dismiss: Notify::new(),
            is_broken_off: Cell::default(),
            deaf: RefCell::default(),
            is_drained: Cell::default(),
            open: Cell::default(),
            refusals: Cell::default(),
        });
        CURRENT.set(Some(Rc::clone(&world)));
        world
    }

    /// The run of this thread.
    pub(crate) fn current() -> Option<Rc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Ends the run of this thread.
    pub(crate) fn end() {
        CURRENT.take();
        background::run_by(None);
    }

    /// A source of its own, so that what one thing draws is nothing to the others.
    pub(crate) fn fork(&self) -> Rng {
        self.rng.borrow_mut().fork()
    }

    /// When the run began.
    pub(crate) const fn begun(&self) -> Instant {
        self.begun
    }

    /// How long the run has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Writes down what happens.
    pub(crate) fn note(&self, who: &str, what: &str) {
        self.lines.borrow_mut().push((self.elapsed(), format!("{who}: {what}")));
    }

    /// What the network writes down about a connection.
    pub(crate) fn notes_of(self: &Rc<Self>, who: String) -> Told {
        let world = Rc::downgrade(self);
        Rc::new(move |what| {
            if let Some(world) = world.upgrade() {
                world.note(&who, what);
                world.count(what);
            }
        })
    }

    /// Counts what was seen.
    pub(crate) fn count(&self, what: &str) {
        *self.seen.borrow_mut().entry(what.to_owned()).or_default() += 1;
    }

    /// A promise was broken.
    pub(crate) fn broken(&self, what: String) {
        self.note("BROKEN", &what);
        self.broken.borrow_mut().push(what);
    }

    /// What has happened, a line each.
    pub(crate) fn trace(&self) -> String {
        let mut text = String::new();
        for (at, line) in &*self.lines.borrow() {
            _ = writeln!(text, "{:>10.3} {line}", at.as_secs_f64());
        }
        text
    }

    /// A request is about to be made.
    pub(crate) fn asks(&self, asked: Asked) {
        let request = Request {
            asked: asked.clone(),
            asked_at: Instant::now(),
            entered: Vec::new(),
            settled: None,
            comes_later: false,
            is_last_said: false,
            reads_slowly: false,
            longest: Duration::ZERO,
            arrivals: Vec::new(),
            lost: Vec::new(),
            outcome: None,
        };
        self.requests.borrow_mut().insert(asked.id, request);
    }

    /// What has become of a request, from its caller's point of view.
    pub(crate) fn becomes(&self, id: &str, outcome: Outcome) {
        self.note(id, &format!("{outcome:?}"));
        self.count(&outcome.word());
        let before = self.requests.borrow_mut().get_mut(id).map(|one| one.outcome.replace(outcome));
        match before {
            Some(None) => {}
            Some(Some(before)) => self.broken(format!("{id} was answered before: {before:?}")),
            None => self.broken(format!("{id} was answered and never asked")),
        }
    }

    /// Does something with what is known of a request.
    pub(crate) fn with<T>(&self, id: &str, act: impl FnOnce(&mut Request) -> T) -> Option<T> {
        self.requests.borrow_mut().get_mut(id).map(act)
    }

    /// Whether an answer had to give way: its caller has taken nothing of it for a time, while as many
    /// were under way as may be.
    pub(crate) fn gives_way(&self, id: &str) -> bool {
        let requests = self.requests.borrow();
        let Some(known) = requests.get(id).filter(|known| known.reads_slowly) else { return false };
        let under_way = requests.values().filter(|one| {
            !one.entered.is_empty()
                && one.settled.is_none_or(|settled| Some(settled) >= known.settled)
        });
        under_way.count() >= self.plan.in_flight
    }

    /// The network forgets what connections there are to the upstream.
    pub(crate) fn forgets(&self) {
        let there = self.upstreams.borrow().iter().filter(|one| one.is_forgotten()).count();
        self.note("network", &format!("forgets {there} connections to the upstream"));
        self.count("the network forgets the connections to the upstream");
        self.forgotten.set(Some(Instant::now()));
    }

    /// Everything stands still, and what is on its way arrives meanwhile.
    pub(crate) async fn pauses(&self, time: Duration) {
        self.note("everything", &format!("stands still for {time:?}"));
        self.count("everything stands still");
        let from = Instant::now();
        self.pauses.borrow_mut().push((from, from + time));
        advance(time).await;
    }

    /// An answer to an honest request is on its way: perhaps everything stands still meanwhile.
    pub(crate) async fn stalls(&self) {
        let Some((number, time)) = self.plan.stalls else { return };
        if self.until_stall.replace(self.until_stall.get() + 1) == number {
            self.pauses(time).await;
        }
    }

    /// How long everything stood still between two times.
    pub(crate) fn stood_still(&self, from: Instant, until: Instant) -> Duration {
        let pauses = self.pauses.borrow();
        pauses
            .iter()
            .map(|(begun, over)| (*over).min(until).saturating_duration_since((*begun).max(from)))
            .sum()
    }

    /// Somebody sets the clock.
    pub(crate) fn sets_clock(&self, seconds: i64) {
        self.note("clock", &format!("is set by {seconds} s"));
        self.count(if seconds < 0 { "the clock is set back" } else { "the clock is set forward" });
        SET_BY.set(SET_BY.get() + seconds);
    }

    /// The configuration is another.
    pub(crate) fn is_configured(&self, before: Configured, now: Configured) {
        self.loads.borrow_mut().push(Instant::now());
        self.limits.set(self.limits.get().changed_to(now.rates, &self.plan));
        let changed = usize::from(before.upstream != now.upstream);
        self.upstream_changes.set(self.upstream_changes.get() + changed);
        let mut dismissals = self.dismissals.borrow_mut();
        match dismissals.last_mut() {
            Some((_, until @ None)) if !now.dismissed => *until = Some(Instant::now()),
            Some((_, None)) => {}
            _ if now.dismissed => dismissals.push((Instant::now(), None)),
            _ => {}
        }
    }

    /// How often a configuration was loaded while a request was under way.
    pub(crate) fn reloads_during(&self, request: &Request) -> usize {
        let from = request.entered.first().map(|one| one.at);
        let until = request.settled;
        let loads = self.loads.borrow();
        let during = loads.iter().filter(|at| from.is_none_or(|from| from <= **at));
        during.filter(|at| until.is_none_or(|until| **at <= until)).count()
    }

    /// Whether the caller that not every configuration has was none at some time in between.
    pub(crate) fn is_dismissed(&self, from: Instant, until: Instant) -> bool {
        let dismissals = self.dismissals.borrow();
        dismissals.iter().any(|(begun, over)| *begun <= until && over.is_none_or(|at| from <= at))
    }

    /// Whether the process has no descriptor left.
    pub(crate) fn lacks_descriptors(&self) -> bool {
        self.plan.lacks_descriptors(self.elapsed())
    }
}
