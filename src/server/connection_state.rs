//! The state of a connection: its phase and since when, its timeouts (head, idle, write), and in
//! which order it can be evicted.
//!
//! A worker looks at all of its connections at each tick ([`super::eviction`]) and closes those whose
//! timeout is over, so that none needs a timer.

mod answering;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::bounds::Bounds;
use super::framing::FramingError;
use super::half_close::ConnectionSignals;
use super::since::{Since, TickClock};

pub(super) use answering::Answering;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing, since it was accepted: someone who connects has something to say.
    Fresh,
    /// Nothing: between requests.
    Idle,
    /// A head has begun to arrive.
    Head,
    /// That many requests are being answered.
    Answering(u32),
    /// The last answer is complete and on its way out.
    Flushing,
    /// Everything is said, and it is read on until the peer has read it too.
    Lingering,
}

/// What a worker has a connection do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionCommand {
    /// Go on.
    None,
    /// Its time is over in the phase that it is in.
    Expired(Phase),
    /// It has been idle for a moment: give back what only a request needs.
    Park,
    /// Finish and close.
    Drain,
    /// Close at once: another connection takes its place.
    Evict,
    /// Close at once, for what it has sent.
    CloseViolation,
    /// Say that what came is no HTTP, and close.
    Refuse(FramingError),
}

/// In which order connections are ended for new ones, when there are as many as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It takes nothing of what it asked for without a good credential, or has been refused and is
    /// read on so that it learns of it.
    Stalled,
    /// It was refused whatever it asked for.
    Refused,
    /// It has asked for nothing yet.
    Begun,
    /// It is idle, and had a good credential.
    Idle,
}

impl Rank {
    pub(super) const ALL: [Self; 4] = [Self::Stalled, Self::Refused, Self::Begun, Self::Idle];
}

/// No connection that is younger is ended for another one, and none that has been slow for less.
pub(super) const YOUNG: Duration = Duration::from_secs(1);

/// How long a connection is idle before it is parked: longer than a busy one ever is.
const MOMENT: Duration = Duration::from_millis(500);

/// How long, when the process is to stop, a new connection may take to begin its first request.
const FIRST: Duration = Duration::from_millis(500);

/// How long, when a connection is to end, a peer of HTTP/2 may say and take nothing: a graceful end
/// waits for its answer to a ping, and whoever has vanished gives none.
const SILENCE: Duration = Duration::from_secs(5);

/// How long a peer of HTTP/2 knows that a connection ends before its streams are counted. h2 waits for
/// an answer to a ping, beside which clients in Go (Caddy) write streams that they cannot send again.
const NOTICE: Duration = Duration::from_millis(200);

pub(super) struct ConnectionState {
    /// Where its peer is.
    pub(super) address: IpAddr,
    /// What it and the service tell each other.
    pub(super) signals: ConnectionSignals,
    born: Instant,
    phase: Cell<Phase>,
    since: Cell<Since>,
    /// Since when each answer that waits for the peer to take more of it does. Empty places are
    /// used again, so that nothing is allocated for a request.
    waiting: RefCell<Vec<Option<Since>>>,
    /// Since when the rest of something that has begun is due on HTTP/2, which has no phases.
    due: Cell<Option<Instant>>,
    /// When something last passed on HTTP/2, in either direction.
    passed: Cell<Instant>,
    /// How many requests were answered to their end: what such a connection has given back.
    answered: Cell<u32>,
    /// How many requests are being answered that may have a good credential.
    protecting: Cell<u32>,
    /// Whether a request with a good credential was ever answered on it.
    trusted: Cell<bool>,
    /// Whether the peer may not have taken all of an answer to such a request, though it is made.
    owes_trusted: Cell<bool>,
    /// Since when the peer of HTTP/2 is to learn that the connection ends.
    pub(super) ends: Cell<Option<Instant>>,
    /// Whether an answer on HTTP/1 is to break off when all that there is of it is written.
    awaits_flush: Cell<bool>,
    /// Whether it has given back already what an idle connection does not need.
    parked: Cell<bool>,
    /// Whether a request was ever answered on it.
    asked: Cell<bool>,
    command: Cell<ConnectionCommand>,
    waker: RefCell<Option<Waker>>,
    clock: Rc<TickClock>,
}

impl ConnectionState {
    pub(super) fn new(address: IpAddr, signals: ConnectionSignals, clock: Rc<TickClock>) -> Self {
        let now = Instant::now();
        Self {
            address,
            signals,
            born: now,
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(Since::At(now)),
            waiting: RefCell::default(),
            due: Cell::new(None),
            passed: Cell::new(now),
            answered: Cell::new(0),
            protecting: Cell::new(0),
            trusted: Cell::new(false),
            owes_trusted: Cell::new(false),
            ends: Cell::new(None),
            awaits_flush: Cell::new(false),
            parked: Cell::new(true),
            asked: Cell::new(false),
            command: Cell::new(ConnectionCommand::None),
            waker: RefCell::default(),
            clock,
        }
    }

    /// The process stood still for so long, which is no time in which its peer has done nothing.
    pub(super) fn put_off(&self, time: Duration) {
        let mut since = self.since.get();
        since.put_off(time);
        self.since.set(since);
        self.waiting.borrow_mut().iter_mut().flatten().for_each(|since| since.put_off(time));
        self.due.set(self.due.get().map(|since| since + time));
        self.passed.set(self.passed.get() + time);
    }

    /// Looks at it, once a tick. Gives whether it gives back now what an idle connection does not need.
    pub(super) fn tick(&self, now: Instant, bounds: &Bounds) -> bool {
        let mut since = self.since.get();
        since.tick(now);
        self.since.set(since);
        self.waiting.borrow_mut().iter_mut().flatten().for_each(|since| since.tick(now));
        if self.is_over(now, bounds) {
            self.send(ConnectionCommand::Expired(self.phase.get()));
        } else if self.ends.get().is_some() {
            self.send(ConnectionCommand::Drain);
        } else if self.could_park(now) && !self.parked.replace(true) {
            self.send(ConnectionCommand::Park);
            return true;
        }
        false
    }

    /// Whether its time in the phase that it is in is over, at the last tick.
    pub(super) fn is_overdue(&self, bounds: &Bounds) -> bool {
        self.is_over(self.now(), bounds)
    }

    fn is_over(&self, now: Instant, bounds: &Bounds) -> bool {
        let limit = match self.phase.get() {
            Phase::Fresh | Phase::Head => bounds.head_timeout,
            // The service has its own deadlines, and a connection that ends too; a peer that takes
            // nothing has none.
            Phase::Answering(_) | Phase::Lingering => Duration::MAX,
            Phase::Idle => bounds.idle,
            Phase::Flushing => bounds.write,
        };
        let is_due = |since| now.saturating_duration_since(since) >= bounds.head_timeout;
        self.since.get().elapsed(now) >= limit
            || self.due.get().is_some_and(is_due)
            || self.stalled(now, bounds.write) > 0
    }

    /// Whether it has been idle for a moment.
    fn could_park(&self, now: Instant) -> bool {
        self.phase.get() == Phase::Idle && self.since.get().elapsed(now) >= MOMENT
    }

    /// How many answers wait for the peer for so long.
    fn stalled(&self, now: Instant, limit: Duration) -> usize {
        let waiting = self.waiting.borrow();
        waiting.iter().flatten().filter(|since| since.elapsed(now) >= limit).count()
    }

    /// Whether a request is being answered that the peer does not hold up.
    pub(super) fn is_busy(&self, limit: Duration) -> bool {
        match self.phase.get() {
            Phase::Answering(count) => self.stalled(self.now(), limit) < count as usize,
            _ => false,
        }
    }

    /// Whether, and before whom, it can be ended for another connection.
    pub(super) fn rank(&self) -> Option<Rank> {
        let now = self.now();
        if self.command.get() != ConnectionCommand::None
            || now.saturating_duration_since(self.born) < YOUNG
        {
            return None;
        }
        let is_slow = self.since.get().elapsed(now) >= YOUNG;
        let rank = match self.phase.get() {
            Phase::Lingering => Rank::Stalled,
            Phase::Flushing if is_slow && !self.owes_trusted.get() => Rank::Stalled,
            Phase::Answering(count)
                if self.protecting.get() == 0
                    && !self.owes_trusted.get()
                    && self.stalled(now, YOUNG) == count as usize =>
            {
                Rank::Stalled
            }
            Phase::Flushing | Phase::Answering(_) => return None,
            Phase::Fresh | Phase::Idle | Phase::Head if !self.trusted.get() => {
                match self.asked.get() {
                    true => Rank::Refused,
                    false if is_slow => Rank::Begun,
                    false => return None,
                }
            }
            Phase::Fresh | Phase::Idle => Rank::Idle,
            Phase::Head if is_slow => Rank::Idle,
            Phase::Head => return None,
        };
        Some(rank)
    }

    pub(super) fn since(&self) -> Since {
        self.since.get()
    }

    /// The time at the last tick.
    pub(super) fn now(&self) -> Instant {
        self.clock.0.get()
    }

    /// Whether the rest of something that has begun is due, on HTTP/2.
    pub(super) fn due(&self, due: bool) {
        if due != self.due.get().is_some() {
            self.due.set(due.then(Instant::now));
        }
    }

    /// It says one thing more and ends by itself.
    pub(super) fn closes(&self) {
        self.owes_trusted.set(false);
        self.enter(Phase::Flushing);
    }

    /// Of so many requests on HTTP/2 the peer has not the end of the answer. Where those are the ones
    /// that are being answered, it has all that is made.
    pub(super) fn owes(&self, unanswered: usize) {
        if matches!(self.phase.get(), Phase::Answering(count) if unanswered <= count as usize) {
            self.owes_trusted.set(false);
        }
    }

    /// Something has passed, on HTTP/2.
    pub(super) fn passes(&self) {
        self.passed.set(self.now());
    }

    /// The connection ends, on HTTP/2: its peer learns of it. Gives whether it knows for long enough.
    pub(super) fn ends(&self) -> bool {
        let since = self.ends.get().unwrap_or_else(Instant::now);
        self.ends.set(Some(since));
        since.elapsed() >= NOTICE
    }

    /// Whether no one seems to be there any more, on HTTP/2, since the peer was told to end; and
    /// nothing is being answered.
    pub(super) fn is_deserted(&self) -> bool {
        let Some(told) = self.ends.get() else { return false };
        // Also since the last answer was over, which may be on its way still.
        let silence = self.now().saturating_duration_since(self.passed.get().max(told));
        let silence = silence.min(self.since.get().elapsed(self.now()));
        silence >= SILENCE && !matches!(self.phase.get(), Phase::Answering(_))
    }

    /// The peer has taken something of the last answers.
    pub(super) fn flushes(&self) {
        if self.phase.get() == Phase::Flushing {
            self.since.set(Since::New);
        }
    }

    /// All that there was is written; whether an answer was to wait for that.
    pub(super) fn flushed(&self) -> bool {
        self.awaits_flush.replace(false)
    }

    /// The peer has taken something of an answer, on HTTP/1.
    pub(super) fn taken(&self) {
        self.flushes();
        self.waiting.borrow_mut().iter_mut().flatten().for_each(|since| *since = Since::New);
    }

    /// How many requests were answered to their end in all.
    pub(super) fn answered(&self) -> u32 {
        self.answered.get()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// The command, once; the task is woken when one comes.
    pub(super) fn command(&self, context: &Context<'_>) -> ConnectionCommand {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.command.replace(ConnectionCommand::None)
    }

    /// Waits for a future unless a command comes. What came while the process stood still is looked at
    /// before the connection expires.
    pub(super) async fn unless_commanded<F: Future>(
        &self,
        future: F,
    ) -> ControlFlow<ConnectionCommand, F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| match self.command(context) {
            ConnectionCommand::None => future.as_mut().poll(context).map(ControlFlow::Continue),
            command @ ConnectionCommand::Expired(_) => match future.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(ControlFlow::Continue(output)),
                Poll::Pending => Poll::Ready(ControlFlow::Break(command)),
            },
            command => Poll::Ready(ControlFlow::Break(command)),
        })
        .await
    }

    /// Waits for a future until another connection takes the place; `None` then.
    pub(super) async fn unless_evicted<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| match self.command(context) {
            ConnectionCommand::Evict => Poll::Ready(None),
            _ => future.as_mut().poll(context).map(Some),
        })
        .await
    }

    /// The first bytes of a head, or of a TLS handshake, have come, and not yet the last.
    pub(super) fn begun(&self) {
        // Once: its time does not begin anew with each byte.
        if self.phase.get() != Phase::Head {
            self.phase.set(Phase::Head);
            self.since.set(Since::At(Instant::now()));
        }
    }

    /// What began has been taken.
    pub(super) fn idle(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether closing the connection would take away a request that has begun, or the first one of
    /// a connection that was made to send it.
    pub(super) fn expects_request(&self) -> bool {
        match self.phase.get() {
            Phase::Head => true,
            Phase::Fresh | Phase::Idle => {
                !self.asked.get() && self.since.get().elapsed(self.now()) < FIRST
            }
            Phase::Answering(_) | Phase::Flushing | Phase::Lingering => false,
        }
    }

    /// Sends a command; the task of the connection is woken. One that closes the connection stays.
    pub(super) fn send(&self, command: ConnectionCommand) {
        if !matches!(
            self.command.get(),
            ConnectionCommand::Evict
                | ConnectionCommand::CloseViolation
                | ConnectionCommand::Refuse(_)
        ) {
            self.command.set(command);
        }
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        if phase == Phase::Idle {
            self.owes_trusted.set(false);
        }
        self.phase.set(phase);
        self.since.set(Since::New);
    }

    /// It can be parked when it is idle.
    pub(super) fn unparked(&self) {
        self.parked.set(false);
    }

    /// A request is being answered until the guard is dropped.
    pub(super) fn answering(self: &Rc<Self>) -> Answering {
        let count = match self.phase.get() {
            Phase::Answering(count) => count,
            _ => 0,
        };
        self.asked.set(true);
        self.phase.set(Phase::Answering(count + 1));
        self.protecting.set(self.protecting.get() + 1);
        Answering::new(Rc::clone(self))
    }
}
