//! The watch over a connection: what it is doing, and since when.
//!
//! A worker looks over all of its connections at each tick and ends those whose time is over, so
//! that none needs a timer. When there are too many it ends one that is idle.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::Bounds;

/// So many connections are looked at to find one to end: a bound on what a new one costs.
const SAMPLE: usize = 64;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing, since it was accepted: somebody who connects has something to say.
    Fresh,
    /// Nothing: between requests.
    Idle,
    /// A head has begun to arrive.
    Head,
    /// That many requests are being answered.
    Answering(u32),
    /// The last answer is complete and on its way out.
    Flushing,
}

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    None,
    /// Its time is over in the phase that it is in.
    Expired(Phase),
    /// It has been idle for a moment: give back what only a request needs.
    Park,
    /// Finish and close.
    Drain,
    /// Go at once: another connection takes its place.
    Leave,
    /// Go at once, for what it has sent.
    Go,
}

/// How long a connection is idle before it is parked: longer than a busy one ever is.
const MOMENT: Duration = Duration::from_millis(500);

/// How long, when the process is to stop, a new connection may take to begin its first request.
const FIRST: Duration = Duration::from_millis(500);

/// How long, when a connection is to end, a peer of HTTP/2 may say and take nothing: a graceful end
/// waits for its answer to a ping, and whoever has vanished gives none.
const SILENCE: Duration = Duration::from_secs(5);

/// The watch over one connection.
pub(super) struct Watch {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// Since when each answer that waits for the peer to take more of it does. Empty places are
    /// used again, so that nothing is allocated for a request.
    waiting: RefCell<Vec<Option<Instant>>>,
    /// Since when the rest of something that has begun is due on HTTP/2, which has no phases.
    due: Cell<Option<Instant>>,
    /// When something last passed on HTTP/2, in either direction.
    passed: Cell<Instant>,
    /// How many requests were answered to their end: what such a connection has given back.
    answered: Cell<u32>,
    /// Whether it has given back already what an idle connection does not need.
    parked: Cell<bool>,
    /// Whether a request was ever answered on it.
    asked: Cell<bool>,
    /// Whether the last one had a body, whose rest may come when it is answered already.
    rest: Cell<bool>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    clock: Rc<Clock>,
}

/// A clock that is read once a tick: deadlines of seconds need no finer one, and a request should
/// not pay for it.
pub(super) struct Clock(Cell<Instant>);

/// Every connection of a worker, looked over once a tick; so no connection needs a timer.
pub(super) struct Watches {
    clock: Rc<Clock>,
    all: RefCell<Vec<Weak<Watch>>>,
    /// Where to look next for a connection to end.
    next: Cell<usize>,
    leaving: Cell<bool>,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self {
            clock: Rc::new(Clock(Cell::new(Instant::now()))),
            all: RefCell::default(),
            next: Cell::new(0),
            leaving: Cell::new(false),
        }
    }

    /// Watches a new connection.
    pub(super) fn watch(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch {
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(self.clock.0.get()),
            waiting: RefCell::default(),
            due: Cell::new(None),
            passed: Cell::new(self.clock.0.get()),
            answered: Cell::new(0),
            parked: Cell::new(true),
            asked: Cell::new(false),
            rest: Cell::new(false),
            order: Cell::new(Order::None),
            waker: RefCell::default(),
            clock: Rc::clone(&self.clock),
        });
        self.all.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Reads the clock, forgets closed connections and ends those whose time is over. Tells how
    /// many are left that another could have the place of.
    pub(super) fn tick(&self, bounds: &Bounds) -> usize {
        let now = Instant::now();
        self.clock.0.set(now);
        let mut idle = 0;
        self.all.borrow_mut().retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            if watch.is_over(now, bounds) {
                watch.give(Order::Expired(watch.phase.get()));
                return true;
            }
            idle += usize::from(watch.is_idle());
            if watch.could_park(now) && !watch.parked.replace(true) {
                watch.give(Order::Park);
            }
            true
        });
        idle
    }

    /// Ends a connection, so that another can have its place: of some that do nothing, the one that
    /// has done so for longest, and first of all those that never had an answer. `false` where all
    /// are busy.
    pub(super) fn crowd_out(&self) -> bool {
        let mut all = self.all.borrow_mut();
        let mut found: Option<Rc<Watch>> = None;
        let rank = |watch: &Watch| (watch.answered.get() > 0, watch.since.get());
        let mut place = self.next.get();
        for _ in 0..SAMPLE {
            let watch = loop {
                if all.is_empty() {
                    return false;
                }
                place %= all.len();
                match all[place].upgrade() {
                    Some(watch) => break watch,
                    // Closed since the last tick: such must not hide those that are open.
                    None => drop(all.swap_remove(place)),
                }
            };
            place += 1;
            if watch.is_idle() && found.as_ref().is_none_or(|best| rank(&watch) < rank(best)) {
                found = Some(watch);
            }
        }
        self.next.set(place);
        let Some(found) = found else { return false };
        found.give(Order::Leave);
        true
    }

    /// From now on an answer is the last one on its connection.
    pub(super) fn leave(&self) {
        self.leaving.set(true);
    }

    /// Whether an answer is the last one on its connection.
    pub(super) fn leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Tells every connection to finish, but those on which a request is coming.
    pub(super) fn drain(&self) {
        let now = self.clock.0.get();
        for watch in self.all.borrow().iter().filter_map(Weak::upgrade) {
            if !watch.expects_request(now) {
                watch.give(Order::Drain);
            }
        }
    }
}

impl Watch {
    fn is_over(&self, now: Instant, bounds: &Bounds) -> bool {
        let passed = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let limit = match self.phase.get() {
            Phase::Fresh | Phase::Head => bounds.head_timeout,
            // The service has its own deadlines; a peer that takes nothing has none.
            Phase::Answering(_) => Duration::MAX,
            Phase::Idle => bounds.idle,
            Phase::Flushing => bounds.write,
        };
        passed(self.since.get(), limit)
            || self.due.get().is_some_and(|since| passed(since, bounds.head_timeout))
            || self.stalled(now, bounds.write) > 0
    }

    /// Whether it has been idle for a moment.
    fn could_park(&self, now: Instant) -> bool {
        self.phase.get() == Phase::Idle && now.saturating_duration_since(self.since.get()) >= MOMENT
    }

    /// How many answers wait for the peer for so long.
    fn stalled(&self, now: Instant, limit: Duration) -> usize {
        let waiting = self.waiting.borrow();
        let since = waiting.iter().flatten();
        since.filter(|since| now.saturating_duration_since(**since) >= limit).count()
    }

    /// Whether a request is being answered that the peer does not hold up.
    pub(super) fn is_busy(&self, limit: Duration) -> bool {
        match self.phase.get() {
            Phase::Answering(count) => self.stalled(self.now(), limit) < count as usize,
            _ => false,
        }
    }

    /// Whether another connection may have its place.
    fn is_idle(&self) -> bool {
        let idle = matches!(self.phase.get(), Phase::Fresh | Phase::Idle | Phase::Head);
        idle && self.order.get() == Order::None
    }

    /// The time at the last tick.
    pub(super) fn now(&self) -> Instant {
        self.clock.0.get()
    }

    /// Whether the rest of something that has begun is due, on HTTP/2.
    pub(super) fn due(&self, due: bool) {
        if due != self.due.get().is_some() {
            self.due.set(due.then(|| self.now()));
        }
    }

    /// It ends by itself, and hears no order any more: nobody gets its place before.
    pub(super) fn closes(&self) {
        self.enter(Phase::Flushing);
    }

    /// Something has passed, on HTTP/2.
    pub(super) fn passes(&self) {
        self.passed.set(self.now());
    }

    /// Whether nobody seems to be there any more, on HTTP/2, since the peer was told to end; and
    /// nothing is being answered.
    pub(super) fn is_deserted(&self, told: Instant) -> bool {
        // Also since the last answer was over, which may be on its way still.
        let last = self.passed.get().max(self.since.get()).max(told);
        let silence = self.now().saturating_duration_since(last);
        silence >= SILENCE && !matches!(self.phase.get(), Phase::Answering(_))
    }

    /// The peer has taken something of an answer, on HTTP/1.
    pub(super) fn taken(&self) {
        let now = self.now();
        if self.phase.get() == Phase::Flushing {
            self.since.set(now);
        }
        self.waiting.borrow_mut().iter_mut().flatten().for_each(|since| *since = now);
    }

    /// How many requests were answered to their end in all.
    pub(super) fn answered(&self) -> u32 {
        self.answered.get()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// The order, once; the task is woken when one comes.
    pub(super) fn order(&self, context: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.order.replace(Order::None)
    }

    /// Waits for a future until an order comes.
    pub(super) async fn unless_ordered<F: Future>(&self, future: F) -> Result<F::Output, Order> {
        let mut future = pin!(future);
        poll_fn(|context| match self.order(context) {
            Order::None => future.as_mut().poll(context).map(Ok),
            order => Poll::Ready(Err(order)),
        })
        .await
    }

    /// The first bytes of a head, or of a TLS handshake, have come.
    pub(super) fn begun(&self) {
        // Once: its time does not begin anew with each byte.
        if self.phase.get() != Phase::Head {
            self.enter(Phase::Head);
        }
    }

    /// What began has been taken.
    pub(super) fn idle(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether closing the connection would take away a request that has begun, or the first one of
    /// a connection that was made to send it.
    fn expects_request(&self, now: Instant) -> bool {
        match self.phase.get() {
            Phase::Head => true,
            Phase::Fresh | Phase::Idle => {
                !self.asked.get() && now.saturating_duration_since(self.since.get()) < FIRST
            }
            Phase::Answering(_) | Phase::Flushing => false,
        }
    }

    /// Gives an order; the task of the connection is woken.
    pub(super) fn give(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.now());
    }

    /// It can be parked when it is idle.
    pub(super) fn unparked(&self) {
        self.parked.set(false);
    }

    /// Bytes have come between requests, on HTTP/1: the first of a head, unless they are what is
    /// left of a body that nobody wanted. Such a rest comes in one piece, or hyper ends the
    /// connection; a head that begins in its place is found when the connection is parked.
    pub(super) fn come(&self) {
        if self.phase.get() == Phase::Idle && !self.rest.take() {
            self.enter(Phase::Head);
        }
    }

    /// A request is being answered until the guard is dropped; it may have a body.
    pub(super) fn answering(self: &Rc<Self>, body: bool) -> Answering {
        self.rest.set(body);
        let count = match self.phase.get() {
            Phase::Answering(count) => count,
            Phase::Fresh | Phase::Idle | Phase::Head | Phase::Flushing => 0,
        };
        self.asked.set(true);
        self.phase.set(Phase::Answering(count + 1));
        Answering { watch: Rc::clone(self), place: None }
    }
}

/// A request that is being answered.
pub(super) struct Answering {
    watch: Rc<Watch>,
    /// Its place among those that wait, while it is the peer's turn: hyper asks for more when that
    /// has taken what there is.
    place: Option<usize>,
}

impl Answering {
    /// Nothing new is to begin on the connection.
    pub(super) fn is_last(&self) {
        self.watch.give(Order::Drain);
    }

    /// It is the peer's turn, from now on.
    fn waits(&mut self) {
        let mut waiting = self.watch.waiting.borrow_mut();
        let place = self.place.or_else(|| waiting.iter().position(Option::is_none));
        let place = place.unwrap_or_else(|| {
            waiting.push(None);
            waiting.len() - 1
        });
        waiting[place] = Some(self.watch.now());
        self.place = Some(place);
    }

    /// It is ours.
    fn works(&mut self) {
        if let Some(place) = self.place.take() {
            self.watch.waiting.borrow_mut()[place] = None;
        }
    }

    /// Nothing more is to come of the answer.
    fn ends(&self) {
        self.watch.answered.set(self.watch.answered.get().wrapping_add(1));
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.works();
        match self.watch.phase.get() {
            Phase::Answering(count) if count > 1 => {
                self.watch.phase.set(Phase::Answering(count - 1));
            }
            _ => self.watch.enter(Phase::Flushing),
        }
    }
}

/// The body of an answer, with the guard that ends when hyper has taken all of it.
pub(super) struct Watched<B> {
    body: B,
    answering: Answering,
}

impl<B: Body> Watched<B> {
    pub(super) fn new(body: B, mut answering: Answering) -> Self {
        answering.waits();
        if body.is_end_stream() {
            answering.ends();
        }
        Self { body, answering }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Pending => self.answering.works(),
            Poll::Ready(frame) => {
                self.answering.waits();
                if frame.is_none() || self.body.is_end_stream() {
                    self.answering.ends();
                }
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_closes_already_makes_no_room_for_another() {
        let watches = Watches::new();
        let watch = watches.watch();
        watch.idle();
        assert!(watches.crowd_out());
        let watch = watches.watch();
        watch.closes();
        assert!(!watches.crowd_out(), "it would not hear of it");
    }
}
