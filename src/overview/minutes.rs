//! The last hour by minutes: differences of what is counted anyway, so that no request pays for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::form::moment;
use crate::failure::Code;
use crate::metric::{Buckets, PerWorker};

/// How many whole minutes are kept.
const MINUTES: usize = 60;

/// The most that they take.
const BYTES: usize = 64 * 1024;

const _: () = assert!(MINUTES * size_of::<Minute>() <= BYTES);

/// The most bounds of a histogram, the infinite one included.
const BOUNDS: usize = 16;

/// What can come of a request: a failure by its [`Code::index`], an answer, and a caller who went
/// away before one.
pub const OUTCOMES: usize = Code::COUNT + 2;

const ANSWERED: usize = Code::COUNT;
const GONE: usize = Code::COUNT + 1;

/// What was counted since the process started.
#[derive(Debug, PartialEq)]
pub struct Totals {
    /// What came of requests, in the order of [`OUTCOMES`].
    pub outcomes: [u64; OUTCOMES],
    /// How long requests took.
    pub whole: Buckets,
    /// How long they were at the service.
    pub service: Buckets,
    /// How long they were in the gateway.
    pub gateway: Buckets,
}

/// What happened in a minute, as it is kept.
#[derive(Clone)]
struct Minute {
    start_ms: u64,
    outcomes: [u32; OUTCOMES],
    /// By bounds: whole requests, at the service, in the gateway.
    times: [[u32; BOUNDS]; 3],
    in_flight: u32,
}

#[derive(Default)]
pub(super) struct MinutesKept(Mutex<MinuteHistory>);

#[derive(Default)]
struct MinuteHistory {
    kept: VecDeque<Minute>,
    /// What was counted when the last whole minute ended, and when that was.
    last: Option<(u64, Totals)>,
}

/// A minute, for whoever looks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MinuteTraffic {
    /// When it began, in RFC 3339.
    pub start: String,
    /// All requests.
    pub requests: u64,
    /// Those that were answered with success.
    pub answered: u64,
    /// Those whose caller went away before there was an answer.
    pub gone: u64,
    /// Failures, by code.
    pub failures: BTreeMap<&'static str, u64>,
    /// Failures that callers could have done without.
    pub refused: u64,
    /// How long requests took.
    pub whole: Latency,
    /// How long they were at the service, those that were there.
    pub service: Latency,
    /// How long they were in the gateway.
    pub gateway: Latency,
    /// The most requests at the service at once.
    pub in_flight: u64,
}

/// What so many requests took, in milliseconds; estimated from a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of them took no longer.
    pub p50_ms: Option<f64>,
    /// All but one of a hundred took no longer.
    pub p99_ms: Option<f64>,
}

/// The last hour.
#[derive(Debug, PartialEq, Serialize)]
pub struct Traffic {
    /// When this was, in RFC 3339.
    pub now: String,
    /// All requests since the process started.
    pub requests: u64,
    /// The minutes, the oldest first; the last one is not over.
    pub minutes: Vec<MinuteTraffic>,
    /// All of them together.
    pub hour: MinuteTraffic,
}

/// How many requests are at the service: what each worker had at most since its last tick, and the
/// most that all had together.
pub struct InFlightGauge {
    workers: PerWorker<AtomicU32>,
    highest: AtomicU32,
}

impl InFlightGauge {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: PerWorker::new(workers), highest: AtomicU32::new(0) }
    }

    /// A worker had so many at most since its last tick.
    pub fn set(&self, worker: usize, most: usize) {
        let Some(own) = self.workers.get(worker) else { return };
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        if own.swap(most, Relaxed) != most {
            self.highest.fetch_max(self.now(), Relaxed);
        }
    }

    fn now(&self) -> u32 {
        self.workers.iter().map(|one| one.load(Relaxed)).fold(0, u32::saturating_add)
    }

    pub(super) fn highest(&self) -> u32 {
        self.highest.load(Relaxed)
    }

    /// The most until now; what there is at this moment is the first of what comes.
    pub(super) fn take_highest(&self) -> u32 {
        self.highest.swap(self.now(), Relaxed)
    }
}

impl Minute {
    const EMPTY: Self =
        Self { start_ms: 0, outcomes: [0; OUTCOMES], times: [[0; BOUNDS]; 3], in_flight: 0 };

    fn add(&mut self, other: &Self) {
        let counts = self.outcomes.iter_mut().chain(self.times.as_flattened_mut());
        for (sum, count) in counts.zip(other.outcomes.iter().chain(other.times.as_flattened())) {
            *sum = sum.saturating_add(*count);
        }
        self.in_flight = self.in_flight.max(other.in_flight);
    }

    fn between(start_ms: u64, before: Option<&Totals>, after: &Totals, in_flight: u32) -> Self {
        let less = |before: u64, after: u64| {
            u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX)
        };
        let outcomes = std::array::from_fn(|index| {
            let before = before.map_or(0, |before| before.outcomes[index]);
            less(before, after.outcomes[index])
        });
        let times = [
            (before.map(|one| &one.whole), &after.whole),
            (before.map(|one| &one.service), &after.service),
            (before.map(|one| &one.gateway), &after.gateway),
        ];
        let times = times.map(|(before, after)| {
            let at =
                |of: &Buckets, index: usize| of.counts.get(index).map_or(0, |(_, count)| *count);
            std::array::from_fn(|index| {
                less(before.map_or(0, |before| at(before, index)), at(after, index))
            })
        });
        Self { start_ms, outcomes, times, in_flight }
    }

    /// With the bounds of what was counted.
    fn view(&self, totals: &Totals) -> MinuteTraffic {
        let mut failures = BTreeMap::new();
        let mut refused = 0;
        for code in Code::all() {
            let count = u64::from(self.outcomes[code.index()]);
            if count > 0 {
                *failures.entry(code.name()).or_default() += count;
                refused += if code.is_of_the_caller() { count } else { 0 };
            }
        }
        let [whole, service, gateway] = &self.times;
        MinuteTraffic {
            start: moment(self.start_ms),
            requests: self.outcomes.iter().copied().map(u64::from).sum(),
            answered: self.outcomes[ANSWERED].into(),
            gone: self.outcomes[GONE].into(),
            failures,
            refused,
            whole: Latency::of(&totals.whole, whole),
            service: Latency::of(&totals.service, service),
            gateway: Latency::of(&totals.gateway, gateway),
            in_flight: self.in_flight.into(),
        }
    }
}

impl Latency {
    fn of(bounds: &Buckets, counts: &[u32; BOUNDS]) -> Self {
        let bounds = bounds.counts.iter().map(|(bound, _)| *bound);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied().map(u64::from)).collect();
        Self { p50_ms: quantile(&buckets, 0.5), p99_ms: quantile(&buckets, 0.99) }
    }
}

/// Where a share of the durations ends, as if they were spread evenly between two bounds. Beyond the
/// last bound it is that one.
fn quantile(buckets: &[(f64, u64)], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().map(|(_, count)| count).sum();
    #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
    let [all, mut left] = [all as f64, all as f64 * share];
    let mut from = 0.0;
    for (bound, count) in buckets.iter().filter(|_| all > 0.0) {
        #[expect(clippy::cast_precision_loss, reason = "it is an estimate")]
        let count = *count as f64;
        if left <= count && count > 0.0 {
            let to = if bound.is_finite() { *bound } else { from };
            let ms = (from + (to - from) * left / count) * 1000.0;
            return Some((ms * 1000.0).round() / 1000.0);
        }
        left -= count;
        from = if bound.is_finite() { *bound } else { from };
    }
    None
}

impl MinutesKept {
    fn lock(&self) -> MutexGuard<'_, MinuteHistory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn end(&self, now_ms: u64, totals: Totals, in_flight: u32) -> MinuteTraffic {
        let mut ring = self.lock();
        let minute = ring.minute(now_ms, &totals, in_flight);
        let view = minute.view(&totals);
        if ring.kept.len() >= MINUTES {
            ring.kept.pop_front();
        }
        ring.kept.push_back(minute);
        ring.last = Some((now_ms, totals));
        view
    }

    pub(super) fn view(&self, now_ms: u64, totals: &Totals, in_flight: u32) -> Traffic {
        let ring = self.lock();
        let now = ring.minute(now_ms, totals, in_flight);
        let all = || ring.kept.iter().chain([&now]);
        let mut hour = Minute { start_ms: all().next().unwrap_or(&now).start_ms, ..Minute::EMPTY };
        all().for_each(|minute| hour.add(minute));
        Traffic {
            now: moment(now_ms),
            requests: totals.outcomes.iter().sum(),
            minutes: all().map(|minute| minute.view(totals)).collect(),
            hour: hour.view(totals),
        }
    }
}

impl MinuteHistory {
    /// The minute that is not over: what was counted since the last one ended.
    fn minute(&self, now_ms: u64, totals: &Totals, in_flight: u32) -> Minute {
        let before = self.last.as_ref();
        // Before the first one ends, it is the minute of the clock.
        let whole = |at_ms: u64| at_ms - at_ms % 60_000;
        let start_ms = before.map_or_else(|| whole(now_ms.saturating_sub(1)), |(at_ms, _)| *at_ms);
        Minute::between(start_ms, before.map(|(_, before)| before), totals, in_flight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn totals(answered: u64, forbidden: u64, times: [u64; 3]) -> Totals {
        let mut outcomes = [0; OUTCOMES];
        outcomes[ANSWERED] = answered;
        outcomes[Code::Forbidden.index()] = forbidden;
        let [fast, slow, slowest] = times;
        let buckets = || Buckets {
            counts: vec![(0.001, fast), (0.01, slow), (f64::INFINITY, slowest)],
            total: Duration::ZERO,
        };
        Totals { outcomes, whole: buckets(), service: buckets(), gateway: buckets() }
    }

    #[test]
    fn a_minute_is_what_was_counted_since_the_one_before() {
        let ring = MinutesKept::default();
        ring.end(60_000, totals(5, 1, [6, 0, 0]), 3);
        let ended = ring.end(120_000, totals(25, 3, [6, 20, 2]), 2);
        assert_eq!((ended.requests, ended.answered, ended.refused), (22, 20, 2));
        assert_eq!(ended.failures, [("forbidden", 2)].into());
        let Traffic { now, requests, minutes, hour } =
            ring.view(130_000, &totals(26, 3, [7, 20, 2]), 1);
        assert_eq!((now.as_str(), requests), ("1970-01-01T00:02:10Z", 29));
        let shown: Vec<_> =
            minutes.iter().map(|one| (one.start.as_str(), one.requests, one.in_flight)).collect();
        assert_eq!(
            shown,
            [
                ("1970-01-01T00:00:00Z", 6, 3),
                ("1970-01-01T00:01:00Z", 22, 2),
                ("1970-01-01T00:02:00Z", 1, 1)
            ]
        );
        assert_eq!((hour.start.as_str(), hour.requests), ("1970-01-01T00:00:00Z", 29));
        assert_eq!((hour.answered, hour.refused, hour.in_flight), (26, 3, 3));
        // Half of all 29 lie in the second bucket, which has 20: (14.5 - 7) / 20 of 9 ms.
        assert_eq!((hour.whole.p50_ms, hour.whole.p99_ms), (Some(4.375), Some(10.0)));
    }

    #[test]
    fn an_hour_of_minutes_is_kept() {
        let ring = MinutesKept::default();
        for minute in 1..200 {
            ring.end(minute * 60_000, totals(minute, 0, [minute, 0, 0]), 0);
        }
        let minutes = ring.view(200 * 60_000, &totals(200, 0, [200, 0, 0]), 0).minutes;
        assert_eq!(minutes.len(), MINUTES + 1);
        assert!(minutes.iter().all(|one| one.requests == 1));
    }

    #[test]
    fn a_quantile_lies_between_the_bounds_of_its_bucket() {
        let quantile = |counts: [u64; 3], share| {
            let [a, b, c] = counts;
            quantile(&[(0.001, a), (0.01, b), (f64::INFINITY, c)], share)
        };
        assert_eq!(quantile([0, 0, 0], 0.99), None);
        assert_eq!(quantile([10, 0, 0], 0.5), Some(0.5));
        assert_eq!(quantile([0, 10, 0], 0.5), Some(5.5));
        assert_eq!(quantile([99, 1, 0], 0.99), Some(1.0));
        assert_eq!(quantile([0, 0, 3], 0.99), Some(10.0), "over the last bound");
    }

    #[test]
    fn what_workers_have_in_flight_together_is_remembered_at_its_highest() {
        let in_flight = InFlightGauge::new(2);
        in_flight.set(0, 3);
        in_flight.set(1, 4);
        in_flight.set(0, 1);
        in_flight.set(2, 100);
        assert_eq!(in_flight.highest(), 7);
        assert_eq!(in_flight.take_highest(), 7);
        assert_eq!(in_flight.highest(), 5, "what is there now");
    }
}
