//! The callers of a run: many at once, over HTTP/1.1 and HTTP/2, patient and not, right and wrong.

mod half_close;
mod http1;
mod http2;

use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use crate::gateway::{Door, TOTAL};
use crate::network::{End, Harm};
use crate::plan::{DISMISSED, Plan, millis};
use crate::request::{Asked, Kind, Manner, Outcome, Why};
use crate::world::{Request, World};

/// Longer than anything may take, a connection that is idle included.
const PATIENCE: Duration = Duration::from_secs(180);

/// So long an answer may wait for whoever takes nothing of it, with what it takes to notice.
const TAKES_NOTHING: Duration = Duration::from_secs(32);

const ZERO: Duration = Duration::ZERO;

/// Longer than anything is on its way.
const LATE: Duration = Duration::from_secs(5);

/// So long a connection may do nothing before the gateway ends it; a little less.
const IDLE: Duration = Duration::from_secs(74);

/// Who has taken nothing of a refusal for so long may be ended at a full house.
const TAKES_NO_REFUSAL: Duration = Duration::from_secs(1);

/// So long calls who does nothing wrong, at least.
const HONEST_FOR: Duration = Duration::from_secs(40);

/// Somebody who calls.
pub(crate) struct Client {
    pub(crate) world: Rc<World>,
    pub(crate) door: Door,
    pub(crate) number: u32,
    /// It does nothing wrong.
    honest: bool,
    /// What it asks, where that is not drawn.
    burst: Option<Kind>,
    rng: Rng,
    asked: u32,
}

/// What the ids of such requests begin with.
pub(crate) const BURST: &str = "b";

/// So many wait at the service at once.
const WAITING: u32 = 4;

impl Client {
    pub(crate) fn new(world: &Rc<World>, door: &Door, number: u32) -> Self {
        let honest = number < world.plan.honest;
        let (world, rng) = (Rc::clone(world), world.fork());
        Self { world, door: door.clone(), number, honest, burst: None, rng, asked: 0 }
    }

    /// Calls as much as a caller may at once, and a little more, and lets others wait at the service;
    /// all of it has arrived afterwards.
    pub(crate) async fn bursts(world: &Rc<World>, door: &Door, number: u32) {
        for one in 0..=WAITING {
            let kind = if one == 0 { Kind::Token } else { Kind::GetRoom };
            let number = number * (WAITING + 1) + one;
            let client = Self::new(world, door, number);
            let client = Self { honest: false, burst: Some(kind), ..client };
            spawn_local(async move {
                let mut client = client;
                client.http1().await;
            });
        }
        // In the same moment, but after everything that can happen in it.
        sleep(Duration::from_millis(1)).await;
    }

    /// Calls, on a few connections one after the other.
    pub(crate) async fn run(mut self) {
        sleep(millis(&mut self.rng, 0..10_000)).await;
        // Who does nothing wrong is there until the end, to see whether all is well again.
        let begun = Instant::now();
        let connections = if self.honest { 100 } else { self.rng.u32(1..4) };
        for _ in 0..connections {
            if self.rng.u32(..3) == 0 {
                self.http2().await;
            } else {
                self.http1().await;
            }
            if self.honest && begun.elapsed() > HONEST_FOR {
                break;
            }
            sleep(millis(&mut self.rng, 0..2_000)).await;
        }
    }

    /// Opens a connection.
    fn connect(&self, http2: bool, deaf: bool) -> Option<(End, Session)> {
        let (world, who) = (&self.world, self.name());
        let mut rng = world.fork();
        let mut weather = world.plan.weather(&mut rng, true, self.honest);
        if self.burst.is_some() {
            weather = Plan::clear();
        } else if !http2 {
            weather = world.plan.uphill(weather);
        }
        if deaf {
            // As little as there can be.
            weather.window = 1;
        }
        let (socket, harm, address) = self.door.connect(world, &who, weather, rng)?;
        let by = if http2 { "HTTP/2" } else { "HTTP/1.1" };
        world.note(&who, &format!("connects as {address}, by {by}"));
        world.count(&format!("a connection of {by}"));
        if deaf {
            world.deaf.borrow_mut().push(harm.clone());
            world.note(&who, "takes nothing");
            world.count("a caller that takes nothing");
        }
        let prefix =
            format!("{}{:02}-", if self.burst.is_some() { BURST } else { "c" }, self.number);
        Some((socket, Session::new(world, harm, http2, deaf, prefix)))
    }

    fn name(&self) -> String {
        let what = if self.burst.is_some() { "burst" } else { "client" };
        format!("{what} {:02}", self.number)
    }

    /// Whether it takes nothing of what it gets on the next connection.
    fn deaf(&mut self) -> bool {
        self.rng.u32(..16) == 0 && !self.honest && self.burst.is_none()
    }

    /// How many requests there are on a connection.
    fn count(&mut self) -> u32 {
        match self.burst {
            Some(Kind::Token) => {
                let rates = self.world.plan.rates;
                return rates.iter().map(|rates| rates.backend.burst).max().unwrap_or(0) + 2;
            }
            Some(_) => return 1,
            None => {}
        }
        let most = if self.honest { 20 } else { self.world.plan.requests };
        self.rng.u32(1..=most)
    }

    /// What it asks next.
    fn next(&mut self, http2: bool) -> Asked {
        self.asked += 1;
        if let Some(kind) = self.burst {
            let id = format!("{BURST}{:02}-{:04}", self.number, self.asked);
            return Asked { id, caller: 0, kind, manner: Manner::Whole, length: 0, signed_by: 0 };
        }
        let id = format!("c{:02}-{:04}", self.number, self.asked);
        if self.honest {
            let at = self.world.elapsed();
            return Asked::honestly(id, &mut self.rng, &self.world.plan, at);
        }
        Asked::draw(id, &mut self.rng, http2, &self.world.plan)
    }

    /// How long it thinks before it asks again: mostly not at all.
    fn pause(&mut self) -> Duration {
        if self.burst.is_some() {
            return Duration::ZERO;
        }
        if self.honest {
            return millis(&mut self.rng, 0..3_000);
        }
        match self.rng.u32(..30) {
            0 => millis(&mut self.rng, 50_000..100_000),
            1..=6 => millis(&mut self.rng, 0..3_000),
            7..=14 => millis(&mut self.rng, 0..100),
            _ => Duration::ZERO,
        }
    }

    /// When it goes away, whatever it still waits for.
    fn leaves(&mut self, deaf: bool) -> Option<Duration> {
        if deaf {
            // By then the gateway has given it up.
            return Some(millis(&mut self.rng, 70_000..100_000));
        }
        let leaves = self.rng.u32(..5) == 0 && !self.honest && self.burst.is_none();
        leaves.then(|| millis(&mut self.rng, 1..12_000))
    }
}

/// Whether an answer may break off: the upstream's did, or its time was over.
fn breaks_off(request: &mut Request) -> bool {
    let over = request.entered.first().is_some_and(|taken| taken.at.elapsed() > TOTAL);
    request.broke_off() || request.settled.is_some() && over
}

/// A connection, as its caller sees it.
struct Session {
    world: Rc<World>,
    harm: Harm,
    http2: bool,
    /// Nothing more is to come: the gateway has said so, or refused something.
    closing: std::cell::Cell<bool>,
    /// When something last came or went.
    active: std::cell::Cell<Instant>,
    /// The longest time in which nothing did.
    idle: std::cell::Cell<Duration>,
    /// The caller has gone.
    left: std::cell::Cell<bool>,
    /// The caller takes nothing of what it gets.
    deaf: bool,
    /// What the ids of its caller's requests begin with.
    prefix: String,
    /// Nothing more is to come for a reason that is the caller's.
    refused: std::cell::Cell<bool>,
    /// The caller waits before each read.
    slow: std::cell::Cell<bool>,
    /// The caller has ended its side.
    half_closed: std::cell::Cell<bool>,
}

impl Session {
    fn new(world: &Rc<World>, harm: Harm, http2: bool, deaf: bool, prefix: String) -> Self {
        Self {
            world: Rc::clone(world),
            harm,
            http2,
            closing: false.into(),
            active: Instant::now().into(),
            idle: Duration::ZERO.into(),
            left: false.into(),
            deaf,
            prefix,
            refused: false.into(),
            slow: false.into(),
            half_closed: false.into(),
        }
    }

    /// Something comes or goes.
    fn touch(&self) {
        let idle = self.active.replace(Instant::now()).elapsed();
        self.idle.set(self.idle.get().max(idle));
    }

    /// Who takes nothing goes away: by then nothing is held for it any more.
    fn is_given_up(&self) {
        let asked = self.world.requests.borrow();
        let waits = |request: &Request| {
            let here = request.asked.id.starts_with(&self.prefix) && request.outcome.is_none();
            let still = |at| self.world.stood_still(at, Instant::now());
            // What the way takes is taken, as far as the gateway knows: it is more with each answer.
            let since =
                request.settled.map(|at| self.harm.wrote(1).map_or(at, |wrote| wrote.max(at)));
            here && since.is_some_and(|at| at.elapsed() > TAKES_NOTHING + still(at))
        };
        let waits = self.deaf && asked.values().any(waits);
        drop(asked);
        let cut = self.world.is_drained.get();
        if waits && !cut && self.harm.is_open(1) && !self.harm.is_done() {
            self.world.broken("a caller that takes nothing is still served".to_owned());
        }
    }

    /// Whether it was ended when it had taken nothing for long enough of an answer that was asked for
    /// without a good credential.
    fn takes_no_refusal(&self, asked: &Asked) -> bool {
        let settled = self.world.with(&asked.id, |request| request.settled).flatten();
        let nobody = asked.kind == Kind::UnknownKey
            || asked.caller == DISMISSED
                && settled.is_some_and(|at| self.world.is_dismissed(at, at));
        let ended = self.harm.closed(1);
        let late = settled.zip(ended).is_some_and(|(at, ended)| at + TAKES_NO_REFUSAL <= ended);
        nobody && late
    }

    /// What to make of a request that has no answer and gets none. One that was taken up has a
    /// right to one, and so has one that was sent on a connection that nobody had a reason to end,
    /// and had arrived when it was ended because the gateway stops.
    fn unanswered(&self, asked: &Asked, sent: bool) {
        self.touch();
        let world = &self.world;
        let taken = world.with(&asked.id, |request| !request.entered.is_empty()) == Some(true);
        let why = if self.left.get() || self.deaf {
            Why::Left
        } else if self.harm.is_done() {
            Why::Harmed
        } else if self.http2 && world.with(&asked.id, breaks_off) == Some(true) {
            Why::BrokeOff
        } else {
            let crowded = world.plan.connections < 100 || world.plan.without_descriptors.is_some();
            let full = self.http2 && world.plan.streams < 100;
            // Over HTTP/2 what is said about it is on its way for a while, and other requests are.
            let since = if self.http2 { world.leaving.get() } else { world.draining.get() };
            // But not behind the end of a side: nothing else is said, and all of it has arrived.
            let ended = self.half_closed.get();
            let late = if self.http2 && !ended { LATE } else { ZERO };
            let arrives = self.harm.arrives(0).map(|at| at + late);
            let stopping = since.is_some_and(|since| arrives.is_none_or(|at| at >= since));
            // Whoever has ended its side has said all, and gets an answer to all of it.
            // What is written to somebody who has gone arrives nowhere.
            let last = arrives.max(world.with(&asked.id, |request| request.asked_at));
            let gone =
                self.harm.closed(1).zip(last).is_some_and(|(at, last)| {
                    if self.http2 && ended { at < last } else { at <= last }
                });
            let closing =
                gone || self.closing.get() && (self.refused.get() || !self.half_closed.get());
            // What the gateway has written may be taken much later.
            let idle = if self.http2 { self.idle.get() } else { self.harm.idle(1) };
            let may_end = closing || stopping || crowded || full || idle > IDLE;
            if taken && !world.cut.get() && !(crowded && self.takes_no_refusal(asked)) {
                world.broken(format!("{} was taken up and never answered", asked.id));
            } else if sent && !may_end {
                world.broken(format!("{} was sent and never taken up", asked.id));
            }
            Why::NotTaken
        };
        world.becomes(&asked.id, Outcome::Gone(why));
    }
}
