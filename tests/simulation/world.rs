//! One run: what the seed has drawn, what has happened so far, and which promise was broken.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use tokio::time::Instant;

use crate::network::{Gauge, Harm, Told, Weather};
use crate::plan::Plan;
use crate::request::{Asked, Outcome};

/// The day on which every run begins.
const BEGINS: Duration = Duration::from_secs(1_800_000_000);

thread_local! {
    static EPOCH: Cell<Option<Instant>> = const { Cell::new(None) };
    static CURRENT: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The time of day in a run.
pub(crate) fn wall_clock() -> SystemTime {
    let since = EPOCH.get().map_or(Duration::ZERO, |epoch| epoch.elapsed());
    UNIX_EPOCH + BEGINS + since
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
    pub(crate) reloads: Cell<usize>,
    /// Since when the gateway is told to stop.
    pub(crate) leaving: Cell<Option<Instant>>,
    /// When it was stopped with something left.
    pub(crate) cut: Cell<bool>,
    /// What the limits are at present.
    pub(crate) limits: Cell<Limits>,
}

/// What is known of a request.
pub(crate) struct Request {
    pub(crate) asked: Asked,
    /// Each time that the gateway took it up.
    pub(crate) entered: Vec<Taken>,
    pub(crate) settled: Option<Instant>,
    /// When it came to the upstream, and what that did.
    pub(crate) arrivals: Vec<Arrival>,
    /// What its caller got.
    pub(crate) outcome: Option<Outcome>,
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

/// Which limits count: the number of a set of rates, and how often each has changed. One that has
/// changed counts anew.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) rates: usize,
    pub(crate) changed: [usize; 4],
}

impl Limits {
    /// After a configuration was loaded.
    pub(crate) fn changed_to(self, rates: usize, plan: &Plan) -> Self {
        let all = |rates: usize| plan.rates[rates].all();
        let pairs = all(self.rates).into_iter().zip(all(rates)).zip(self.changed);
        let mut changed = pairs.map(|((old, new), times)| times + usize::from(old != new));
        Self { rates, changed: std::array::from_fn(|_| changed.next().unwrap_or_default()) }
    }
}

/// A request at the upstream.
pub(crate) struct Arrival {
    pub(crate) deed: String,
    /// It was refused for its token, and so was not done.
    pub(crate) refused: bool,
    /// All of its answer was sent, and nothing was wrong with it.
    pub(crate) sent: bool,
    /// The connection that it came on.
    pub(crate) harm: Harm,
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
        let world = Rc::new(Self {
            plan: Plan::draw(&mut rng),
            rng: RefCell::new(rng),
            begun,
            lines: RefCell::default(),
            requests: RefCell::default(),
            broken: RefCell::default(),
            seen: RefCell::default(),
            inbound: Gauge::default(),
            outbound: Gauge::default(),
            reloads: Cell::default(),
            leaving: Cell::default(),
            cut: Cell::default(),
            limits: Cell::default(),
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
    }

    /// A source of its own, so that what one thing draws is nothing to the others.
    pub(crate) fn fork(&self) -> Rng {
        self.rng.borrow_mut().fork()
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
            entered: Vec::new(),
            settled: None,
            arrivals: Vec::new(),
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

    /// What a connection is like that is opened now.
    pub(crate) fn weather(&self, rng: &mut Rng, inbound: bool) -> Weather {
        self.plan.weather(rng, inbound)
    }
}
