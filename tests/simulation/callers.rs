//! The callers of a run: many at once, over HTTP/1.1 and HTTP/2, patient and not, right and wrong.

mod http1;
mod http2;

use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::gateway::Door;
use crate::network::Harm;
use crate::plan::{KEYS, millis};
use crate::request::{Asked, Outcome, Why};
use crate::world::{Request, World};

/// Longer than anything may take, a connection that is idle included.
const PATIENCE: Duration = Duration::from_secs(180);

/// So long a connection may do nothing before the gateway ends it; a little less.
const IDLE: Duration = Duration::from_secs(74);

/// Somebody who calls.
pub(crate) struct Client {
    pub(crate) world: Rc<World>,
    pub(crate) door: Door,
    pub(crate) number: u32,
    rng: Rng,
    asked: u32,
}

impl Client {
    pub(crate) fn new(world: &Rc<World>, door: &Door, number: u32) -> Self {
        Self { world: Rc::clone(world), door: door.clone(), number, rng: world.fork(), asked: 0 }
    }

    /// Calls, on a few connections one after the other.
    pub(crate) async fn run(mut self) {
        sleep(millis(&mut self.rng, 0..10_000)).await;
        for _ in 0..self.rng.u32(1..4) {
            if self.rng.u32(..3) == 0 {
                self.http2().await;
            } else {
                self.http1().await;
            }
            sleep(millis(&mut self.rng, 0..2_000)).await;
        }
    }

    /// What it asks next.
    fn next(&mut self, http2: bool) -> Asked {
        self.asked += 1;
        let id = format!("c{:02}-{:04}", self.number, self.asked);
        let caller = self.rng.usize(..KEYS.len());
        Asked::draw(id, caller, &mut self.rng, http2)
    }

    /// How long it thinks before it asks again: mostly not at all.
    fn pause(&mut self) -> Duration {
        match self.rng.u32(..30) {
            0 => millis(&mut self.rng, 50_000..100_000),
            1..=6 => millis(&mut self.rng, 0..3_000),
            7..=14 => millis(&mut self.rng, 0..100),
            _ => Duration::ZERO,
        }
    }

    /// When it goes away, whatever it still waits for.
    fn leaves(&mut self) -> Option<Duration> {
        (self.rng.u32(..5) == 0).then(|| millis(&mut self.rng, 1..12_000))
    }
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
}

impl Session {
    fn new(world: &Rc<World>, harm: Harm, http2: bool) -> Self {
        Self {
            world: Rc::clone(world),
            harm,
            http2,
            closing: false.into(),
            active: Instant::now().into(),
            idle: Duration::ZERO.into(),
            left: false.into(),
        }
    }

    /// Something comes or goes.
    fn touch(&self) {
        let idle = self.active.replace(Instant::now()).elapsed();
        self.idle.set(self.idle.get().max(idle));
    }

    /// What to make of a request that has no answer and gets none. One that was taken up has a
    /// right to one, and so has one that was sent on a connection that nobody had a reason to end.
    fn unanswered(&self, asked: &Asked, sent: bool) {
        self.touch();
        let world = &self.world;
        let taken = world.with(&asked.id, |request| !request.entered.is_empty()) == Some(true);
        let why = if self.left.get() {
            Why::Left
        } else if self.harm.is_done() {
            Why::Harmed
        } else if self.http2 && world.with(&asked.id, Request::broke_off) == Some(true) {
            Why::BrokeOff
        } else {
            let crowded = world.plan.connections < 100;
            let full = self.http2 && world.plan.streams < 100;
            let stopping = world.leaving.get().is_some();
            let may_end =
                self.closing.get() || stopping || crowded || full || self.idle.get() > IDLE;
            if taken && !world.cut.get() {
                world.broken(format!("{} was taken up and never answered", asked.id));
            } else if sent && !may_end {
                world.broken(format!("{} was sent and never taken up", asked.id));
            }
            Why::NotTaken
        };
        world.becomes(&asked.id, Outcome::Gone(why));
    }
}
