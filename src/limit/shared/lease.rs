//! What a worker knows without asking the store: requests that it has taken ahead for a hot
//! caller, and that one is refused for a while yet.
//!
//! A lease is taken out of the store before any of it is used, and what is left of it after a
//! tenth of a second is thrown away. So a limit is never exceeded but by what is late: in any
//! time, no more pass than in that time and a tenth of a second more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limit::{Rate, Scope};

/// How long a lease may be used.
pub(super) const LIFE: Duration = Duration::from_millis(100);

/// No lease is larger: it saves next to nothing.
const MOST: u32 = 64;

/// A lease is no larger than this part of a burst: of a small one, nothing may be lost.
const PART: u32 = 10;

/// A worker remembers as many callers at most; of further ones it asks each time.
const CALLERS: usize = 65_536;

/// A caller that has not called for so long is forgotten.
const FORGET: Duration = Duration::from_secs(2);

/// The largest lease at a rate: at most what is earned in its life. 1 for no lease.
pub(super) fn most(rate: &Rate) -> u32 {
    let earned =
        LIFE.as_micros() * u128::from(rate.requests.get()) / rate.period.as_micros().max(1);
    let earned = u32::try_from(earned).unwrap_or(u32::MAX);
    earned.min(rate.burst.get() / PART).clamp(1, MOST)
}

/// What a worker knows.
#[derive(Default)]
pub(super) struct LeaseCache {
    callers: RefCell<HashMap<(usize, u64), Rc<CallerLease>>>,
    /// By profile, and last for everyone.
    refused: RefCell<Vec<Option<Instant>>>,
}

/// What a worker knows of a caller.
pub(super) struct CallerLease {
    /// What is left of the lease, until when, and what the limits had left beside it.
    lease: Cell<u32>,
    until: Cell<Instant>,
    left: Cell<[u32; 3]>,
    refused: Cell<Option<Instant>>,
    /// What has passed in this stretch of time, and in the one before.
    passed: Cell<u32>,
    passed_before: Cell<u32>,
    since: Cell<Instant>,
    /// One asks for all: who asks now, how many wait for it, and that it is done.
    asking: Cell<bool>,
    waiting: Cell<u32>,
    asked: Notify,
}

/// That one asks for all; over when it is dropped, answered or not.
pub(super) struct LeaseRequest(Rc<CallerLease>);

impl LeaseCache {
    pub(super) fn new(profiles: usize) -> Self {
        Self { callers: RefCell::default(), refused: RefCell::new(vec![None; profiles + 1]) }
    }

    pub(super) fn known(&self, profile: usize, caller: u64, now: Instant) -> Rc<CallerLease> {
        let mut callers = self.callers.borrow_mut();
        if let Some(known) = callers.get(&(profile, caller)) {
            return Rc::clone(known);
        }
        let known = Rc::new(CallerLease::new(now));
        if callers.len() < CALLERS {
            callers.insert((profile, caller), Rc::clone(&known));
        }
        known
    }

    /// How long a caller is refused yet, and by which limit, as far as is known.
    pub(super) fn refusal(
        &self,
        known: &CallerLease,
        profile: usize,
        now: Instant,
    ) -> Option<(Scope, Duration)> {
        let refused = self.refused.borrow();
        let everybody = refused.len().checked_sub(1)?;
        let until = |scope| match scope {
            Scope::Caller => known.refused.get(),
            Scope::Profile => refused.get(profile).copied().flatten(),
            Scope::Gateway => refused[everybody],
        };
        [Scope::Caller, Scope::Profile, Scope::Gateway].into_iter().find_map(|scope| {
            let wait = until(scope)?.checked_duration_since(now)?;
            (!wait.is_zero()).then_some((scope, wait))
        })
    }

    /// Remembers that a limit has nothing left until then.
    pub(super) fn refuse(&self, scope: Scope, known: &CallerLease, profile: usize, until: Instant) {
        let mut refused = self.refused.borrow_mut();
        let everybody = refused.len().saturating_sub(1);
        let place = match scope {
            Scope::Caller => return known.refused.set(Some(until)),
            Scope::Profile => profile,
            Scope::Gateway => everybody,
        };
        if let Some(place) = refused.get_mut(place) {
            *place = Some(until);
        }
    }

    /// Forgets callers that have not called for a while.
    pub(super) fn forget_idle(&self, now: Instant) {
        let mut callers = self.callers.borrow_mut();
        callers.retain(|_, known| {
            let idle = now.saturating_duration_since(known.since.get()) > FORGET;
            let refused = known.refused.get().is_some_and(|until| until > now);
            !idle || refused || Rc::strong_count(known) > 1
        });
        if callers.capacity() > 4 * callers.len().max(64) {
            callers.shrink_to_fit();
        }
    }
}

impl CallerLease {
    fn new(now: Instant) -> Self {
        Self {
            lease: Cell::new(0),
            until: Cell::new(now),
            left: Cell::new([0; 3]),
            refused: Cell::new(None),
            passed: Cell::new(0),
            passed_before: Cell::new(0),
            since: Cell::new(now),
            asking: Cell::new(false),
            waiting: Cell::new(0),
            asked: Notify::new(),
        }
    }

    /// Takes one of the lease; says what each limit has left, the lease included.
    pub(super) fn take(&self, now: Instant) -> Option<[u32; 3]> {
        let lease = self.lease.get();
        if lease == 0 || now >= self.until.get() {
            return None;
        }
        self.lease.set(lease - 1);
        self.pass(now);
        Some(self.left.get().map(|left| left.saturating_add(lease - 1)))
    }

    /// A lease, of which the one who asked has taken the first already.
    pub(super) fn leased(&self, lease: u32, left: [u32; 3], asked_at: Instant) {
        self.lease.set(lease);
        self.left.set(left);
        // From when it was asked for, since the store counted it at no earlier time.
        self.until.set(asked_at + LIFE);
    }

    /// Counts one that has passed.
    pub(super) fn pass(&self, now: Instant) {
        self.roll(now);
        self.passed.set(self.passed.get().saturating_add(1));
    }

    /// How many to take: half of what passes in a lease's life, so that hardly any is lost, and
    /// one for each that waits.
    pub(super) fn wanted(&self, most: u32, now: Instant) -> u32 {
        self.roll(now);
        let waiting = self.waiting.get().saturating_add(1);
        (self.passed_before.get() / 2).max(waiting).clamp(1, most)
    }

    fn roll(&self, now: Instant) {
        let age = now.saturating_duration_since(self.since.get());
        if age >= LIFE {
            let before = if age < 2 * LIFE { self.passed.get() } else { 0 };
            self.passed_before.set(before);
            self.passed.set(0);
            self.since.set(now);
        }
    }

    /// Asks for all; `None` when another does.
    pub(super) fn ask(self: &Rc<Self>) -> Option<LeaseRequest> {
        (!self.asking.replace(true)).then(|| LeaseRequest(Rc::clone(self)))
    }

    /// Waits until the other is done.
    pub(super) async fn asked(&self) {
        let _waiting = Waiting::of(&self.waiting);
        self.asked.notified().await;
    }
}

/// One that waits, however it ends.
struct Waiting<'a>(&'a Cell<u32>);

impl<'a> Waiting<'a> {
    fn of(count: &'a Cell<u32>) -> Self {
        count.set(count.get().saturating_add(1));
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Drop for LeaseRequest {
    fn drop(&mut self) {
        self.0.asking.set(false);
        self.0.asked.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn rate(requests: u32, burst: u32) -> Rate {
        let number = |n| NonZeroU32::new(n).unwrap();
        Rate { requests: number(requests), period: Duration::from_secs(1), burst: number(burst) }
    }

    #[test]
    fn a_lease_is_what_is_earned_in_its_life_and_none_of_a_small_limit() {
        for (requests, burst, expected) in
            [(5, 5, 1), (15, 1000, 1), (100, 100, 10), (200, 50, 5), (100_000, 100_000, 64)]
        {
            assert_eq!(most(&rate(requests, burst)), expected, "{requests}/s, {burst}");
        }
    }

    #[test]
    fn a_lease_is_used_up_or_over() {
        let now = Instant::now();
        let known = CallerLease::new(now);
        assert_eq!(known.take(now), None);
        known.leased(2, [10, 20, 0], now);
        assert_eq!(known.take(now), Some([11, 21, 1]));
        assert_eq!(known.take(now + LIFE), None, "it is over");
        assert_eq!(known.take(now), Some([10, 20, 0]));
        assert_eq!(known.take(now), None, "it is used up");
    }

    #[test]
    fn a_lease_grows_with_what_passes_and_is_none_for_who_calls_seldom() {
        let now = Instant::now();
        let known = CallerLease::new(now);
        assert_eq!(known.wanted(64, now), 1);
        for _ in 0..40 {
            known.pass(now);
        }
        assert_eq!(known.wanted(64, now + LIFE), 20);
        assert_eq!(known.wanted(8, now + LIFE), 8);
        assert_eq!(known.wanted(64, now + LIFE * 4), 1, "it calls no more");
    }

    #[test]
    fn a_refusal_is_remembered_until_it_is_over() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let front = LeaseCache::new(2);
        let (mine, other) = (front.known(0, 1, now), front.known(0, 2, now));
        front.refuse(Scope::Caller, &mine, 0, now + second);
        assert_eq!(front.refusal(&mine, 0, now), Some((Scope::Caller, second)));
        assert_eq!(front.refusal(&mine, 0, now + second), None);
        assert_eq!(front.refusal(&other, 0, now), None);
        front.refuse(Scope::Profile, &mine, 0, now + second);
        assert_eq!(front.refusal(&other, 0, now), Some((Scope::Profile, second)));
        assert_eq!(front.refusal(&other, 1, now), None);
        front.refuse(Scope::Gateway, &mine, 0, now + second);
        assert_eq!(front.refusal(&other, 1, now), Some((Scope::Gateway, second)));
    }

    #[test]
    fn who_does_not_call_is_forgotten() {
        let now = Instant::now();
        let front = LeaseCache::new(1);
        drop(front.known(0, 1, now));
        front.forget_idle(now);
        assert_eq!(front.callers.borrow().len(), 1);
        front.forget_idle(now + FORGET * 2);
        assert_eq!(front.callers.borrow().len(), 0);
    }

    #[test]
    fn one_asks_for_all_and_is_followed_by_the_next() {
        let known = Rc::new(CallerLease::new(Instant::now()));
        let asking = known.ask();
        assert!(asking.is_some() && known.ask().is_none());
        drop(asking);
        assert!(known.ask().is_some());
    }
}
