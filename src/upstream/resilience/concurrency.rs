//! How many requests a worker has at the upstream at once, and who is refused first when there
//! are too many.
//!
//! Not shared, so there is no lock. The bound is the configured one; where it is adaptive, it
//! goes down while answers take longer than they use to, and up again while they do not.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{Access, Operation, OperationId, Priority};
use crate::failure::{Code, Failure};

/// The bounds, from the `[upstream]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencySettings {
    /// The most requests that a worker has at the upstream at once, those whose caller has gone
    /// included.
    pub most: usize,
    /// Whether the bound goes by how long answers take.
    pub adaptive: bool,
    /// The least that it goes down to.
    pub least: usize,
}

#[cfg(test)]
impl Default for ConcurrencySettings {
    fn default() -> Self {
        Self { most: 1024, adaptive: false, least: 16 }
    }
}

/// How many requests a worker has at the upstream, and how many it may have.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    settings: Cell<ConcurrencySettings>,
    in_flight: Cell<usize>,
    /// The most that were in flight since that was last taken.
    highest: Cell<usize>,
    limit: Cell<usize>,
    /// The bound before it is rounded.
    exact: Cell<f64>,
    /// How long answers of success take, by operation: those alone can be compared.
    paces: RefCell<Vec<(OperationId, Latencies)>>,
    /// Refused since that was last taken, by priority.
    shed: [Cell<u64>; Priority::COUNT],
}

/// One request's part of the limit, until it is dropped.
#[derive(Debug)]
pub(in crate::upstream) struct ConcurrencyPermit(Rc<ConcurrencyLimit>);

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

impl ConcurrencyLimit {
    pub(in crate::upstream) fn new(settings: ConcurrencySettings) -> Self {
        Self {
            settings: Cell::new(settings),
            in_flight: Cell::new(0),
            highest: Cell::new(0),
            limit: Cell::new(settings.most),
            exact: Cell::new(0.0),
            paces: RefCell::default(),
            shed: Default::default(),
        }
    }

    /// Goes by other bounds from now on, with what is in flight and what is known of the service.
    pub(in crate::upstream) fn follow(&self, settings: ConcurrencySettings) {
        let ConcurrencySettings { most, adaptive, least } = settings;
        if self.settings.replace(settings) != settings {
            let found = self.limit.get().clamp(least.min(most), most);
            self.limit.set(if adaptive { found } else { most });
        }
    }

    /// Refuses early what would get no permit: before a body is read or a token is minted.
    ///
    /// It takes none: a caller whose body comes slowly must not hold one. Requests for tokens pass,
    /// since they are mostly answered here.
    ///
    /// # Errors
    /// `overloaded`.
    pub fn check_room(&self, operation: &Operation, priority: Priority) -> Result<(), Failure> {
        if matches!(operation.access, Access::Mints(_)) || self.has_room(priority) {
            return Ok(());
        }
        Err(self.refuse(priority))
    }

    /// A permit for one more request.
    ///
    /// # Errors
    /// `overloaded` when there are as many already as this priority may fill.
    pub(in crate::upstream) fn acquire(
        self: &Rc<Self>,
        priority: Priority,
    ) -> Result<ConcurrencyPermit, Failure> {
        if !self.has_room(priority) {
            return Err(self.refuse(priority));
        }
        let in_flight = self.in_flight.get() + 1;
        self.in_flight.set(in_flight);
        self.highest.set(self.highest.get().max(in_flight));
        Ok(ConcurrencyPermit(Rc::clone(self)))
    }

    /// Whether there is a permit for one more.
    pub(in crate::upstream) fn has_room(&self, priority: Priority) -> bool {
        let limit = self.limit.get();
        // Rounded up: of a small bound every class may fill something.
        let may_fill = (limit * priority.share_percent()).div_ceil(100);
        self.in_flight.get() < may_fill
    }

    fn refuse(&self, priority: Priority) -> Failure {
        let shed = &self.shed[priority.index()];
        shed.set(shed.get() + 1);
        let why = "as many requests as may be wait for the whiteboard service already";
        Failure::fixed(Code::Overloaded, why).with_retry_after(Duration::from_secs(1))
    }

    /// An answer of success to a quick operation took so long. What failed may have been quick or slow
    /// for any reason, and screenshots take their time.
    pub(in crate::upstream) fn observe(
        &self,
        operation: OperationId,
        took: Duration,
        now: Instant,
    ) {
        if !self.settings.get().adaptive {
            return;
        }
        let (limit, in_flight) = (self.limit.get(), self.in_flight.get());
        let mut paces = self.paces.borrow_mut();
        let index = paces.iter().position(|(id, _)| *id == operation).unwrap_or_else(|| {
            paces.push((operation, Latencies::default()));
            paces.len() - 1
        });
        let Some((_, latencies)) = paces.get_mut(index) else { return };
        if let Some(gradient) = latencies.observe(took, now, limit, in_flight) {
            self.adapt(gradient);
        }
    }

    /// Moves the bound towards what the upstream seems to bear.
    fn adapt(&self, gradient: f64) {
        let ConcurrencySettings { most, least, .. } = self.settings.get();
        let (least, most) = (bound(least.min(most)), bound(most));
        let limit = self.limit.get();
        let exact = self.exact.get();
        let exact = if exact.round() as usize == limit { exact } else { bound(limit) };
        // The root leaves room to find out whether more would do.
        let next = exact * gradient + exact.sqrt();
        let exact = (exact * (1.0 - SMOOTHING) + next * SMOOTHING).clamp(least, most);
        self.exact.set(exact);
        self.limit.set(exact.round() as usize);
    }

    /// How many requests are at the upstream now, and how many may be.
    pub fn level(&self) -> (usize, usize) {
        (self.in_flight.get(), self.limit.get())
    }

    /// The most that were at the upstream at once since the last time that this was asked.
    #[must_use]
    pub fn take_highest(&self) -> usize {
        self.highest.replace(self.in_flight.get())
    }

    /// How many were refused since the last time that this was asked, by priority.
    #[must_use]
    pub fn take_shed(&self) -> [u64; Priority::COUNT] {
        std::array::from_fn(|index| self.shed[index].take())
    }
}

/// How long a window is at least, and how many answers it needs.
const WINDOW: Duration = Duration::from_millis(250);
const SAMPLES: u32 = 10;

/// Answers may take so many times as long as they use to before that counts as waiting.
const TOLERANCE: f64 = 1.5;

/// How much of a new bound is taken over at once.
const SMOOTHING: f64 = 0.2;

/// How fast what is usual follows answers that take longer permanently: a window of 250 ms moves it
/// by a thousandth of the difference, so it takes minutes.
const DRIFT: f64 = 0.001;

/// Compares how long answers of one operation take now with how long they use to.
#[derive(Debug, Default)]
struct Latencies {
    since: Option<Instant>,
    samples: u32,
    sum: Duration,
    most_in_flight: usize,
    /// The least mean of a window, in seconds, which follows slowly when it rises for long.
    usual: Option<f64>,
}

impl Latencies {
    /// Gives, at the end of a window that tells something, by how much less the upstream seems to
    /// bear: 1 for nothing less.
    fn observe(
        &mut self,
        took: Duration,
        now: Instant,
        limit: usize,
        in_flight: usize,
    ) -> Option<f64> {
        let since = *self.since.get_or_insert(now);
        self.samples += 1;
        self.sum += took;
        self.most_in_flight = self.most_in_flight.max(in_flight);
        if self.samples < SAMPLES || now.duration_since(since) < WINDOW {
            return None;
        }
        let mean = (self.sum / self.samples).as_secs_f64();
        let busy = self.most_in_flight * 2 >= limit;
        (self.since, self.samples, self.sum, self.most_in_flight) =
            (Some(now), 0, Duration::ZERO, 0);
        let usual = match self.usual {
            Some(usual) if mean > usual => usual + (mean - usual) * DRIFT,
            _ => mean,
        };
        self.usual = Some(usual);
        let gradient = (usual * TOLERANCE / mean.max(f64::EPSILON)).clamp(0.5, 1.0);
        // A bound that no one comes near learns nothing from quick answers.
        (gradient < 1.0 || busy).then_some(gradient)
    }
}

/// A bound to reckon with.
#[allow(clippy::cast_precision_loss, reason = "no worker has 2^52 requests in flight")]
fn bound(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TABLE;
    use crate::upstream::resilience::test_clock::{later, now};

    fn load(most: usize, adaptive: bool) -> Rc<ConcurrencyLimit> {
        Rc::new(ConcurrencyLimit::new(ConcurrencySettings { most, adaptive, least: 4 }))
    }

    fn operation(name: &str) -> &'static Operation {
        TABLE.iter().find(|row| row.name == name).unwrap()
    }

    /// As many permits as there are for a priority.
    fn fill(load: &Rc<ConcurrencyLimit>, priority: Priority) -> Vec<ConcurrencyPermit> {
        std::iter::from_fn(|| load.acquire(priority).ok()).collect()
    }

    #[test]
    fn the_lowest_class_is_refused_first() {
        let load = load(100, false);
        let mut held = fill(&load, Priority::Low);
        assert_eq!(held.len(), 80);
        held.extend(fill(&load, Priority::Normal));
        assert_eq!(held.len(), 95);
        held.extend(fill(&load, Priority::High));
        assert_eq!((held.len(), load.level()), (100, (100, 100)));
        assert_eq!(load.take_shed(), [1, 1, 1]);
        assert_eq!(load.take_shed(), [0, 0, 0]);
        drop(held);
        assert_eq!(load.level(), (0, 100));
        assert_eq!([load.take_highest(), load.take_highest()], [100, 0]);
    }

    #[test]
    fn a_small_bound_has_a_permit_for_every_class() {
        for priority in Priority::ALL {
            assert_eq!(fill(&load(1, false), priority).len(), 1, "{priority:?}");
        }
    }

    #[test]
    fn a_look_takes_no_permit_and_tokens_pass_it() {
        let load = load(1, false);
        let (get, token) = (operation("rooms.get"), operation("tokens.room"));
        for _ in 0..10 {
            assert!(load.check_room(get, Priority::Low).is_ok());
        }
        let held = load.acquire(Priority::Low).ok().unwrap();
        let failure = load.check_room(get, Priority::High).unwrap_err();
        assert_eq!(failure.code(), Code::Overloaded);
        assert_eq!(failure.retry_after(), Some(Duration::from_secs(1)));
        assert!(load.check_room(token, Priority::Low).is_ok());
        drop(held);
    }

    /// An upstream that does `capacity` requests at once in 10 ms and lets others wait, under as
    /// many requests as the bound lets through, for so many windows.
    fn under(load: &Rc<ConcurrencyLimit>, capacity: usize, windows: usize) -> usize {
        for _ in 0..windows {
            let held = fill(load, Priority::High);
            let waiting = held.len().max(capacity) as f64 / capacity as f64;
            later(WINDOW);
            for _ in 0..SAMPLES {
                let took = Duration::from_secs_f64(0.010 * waiting);
                load.observe(OperationId::of_test(0), took, now());
            }
        }
        load.level().1
    }

    #[test]
    fn other_bounds_count_at_once_and_what_is_in_flight_goes_on() {
        let load = load(10, false);
        let held = fill(&load, Priority::High);
        let bounds = |most, adaptive| ConcurrencySettings { most, adaptive, least: 4 };
        load.follow(bounds(4, false));
        assert_eq!((load.level(), load.has_room(Priority::High)), ((10, 4), false));
        load.follow(bounds(12, false));
        assert_eq!((load.level(), load.has_room(Priority::High)), ((10, 12), true));
        load.follow(bounds(20, true));
        assert_eq!(load.level(), (10, 12), "what was found is where it goes on");
        load.follow(bounds(11, true));
        assert_eq!(load.level(), (10, 11));
        drop(held);
        assert_eq!(load.level(), (0, 11));
    }

    #[test]
    fn an_adaptive_bound_finds_what_the_upstream_can_do() {
        let load = load(200, true);
        assert_eq!(under(&load, 1_000, 20), 200, "a quick one is not bounded further");
        let found = under(&load, 50, 100);
        assert!((50..=110).contains(&found), "{found} for 50");
        let found = under(&load, 1_000, 100);
        assert_eq!(found, 200, "and comes back");
    }

    #[test]
    fn an_adaptive_bound_has_a_least() {
        let load = load(200, true);
        under(&load, 1_000, 5);
        for _ in 0..200 {
            later(WINDOW);
            for _ in 0..SAMPLES {
                load.observe(OperationId::of_test(0), Duration::from_secs(10), now());
            }
        }
        assert!((4..=8).contains(&load.level().1), "{:?}", load.level());
    }

    #[test]
    fn a_slow_operation_says_nothing_about_a_quick_one() {
        let load = load(200, true);
        under(&load, 1_000, 5);
        for _ in 0..1_000 {
            later(WINDOW);
            load.observe(OperationId::of_test(1), Duration::from_secs(20), now());
        }
        assert_eq!(load.level().1, 200, "it was always so slow");
    }
}
