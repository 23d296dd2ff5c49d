//! How long things took: a histogram with one writer, and several of them added up.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

use super::add;

/// How many took so long.
pub(super) struct Spread<const BOUNDS: usize> {
    /// Within a bound and no lower one.
    within: [AtomicU64; BOUNDS],
    /// Over all of them.
    over: AtomicU64,
    total_us: AtomicU64,
}

impl<const BOUNDS: usize> Default for Spread<BOUNDS> {
    fn default() -> Self {
        let within = [const { AtomicU64::new(0) }; BOUNDS];
        Self { within, over: AtomicU64::new(0), total_us: AtomicU64::new(0) }
    }
}

impl<const BOUNDS: usize> Spread<BOUNDS> {
    /// Counts one, by bounds in seconds that are always the same.
    pub(super) fn count(&self, bounds: &[f64; BOUNDS], took: Duration) {
        let seconds = took.as_secs_f64();
        let place = bounds.iter().position(|bound| seconds <= *bound);
        add(place.map_or(&self.over, |place| &self.within[place]), 1);
        add(&self.total_us, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// What several spreads are together.
pub(super) struct Sum {
    /// By upper bound in seconds, the last of which is infinite.
    buckets: Vec<(f64, u64)>,
    total: Duration,
}

impl Sum {
    pub(super) fn of<'a, const BOUNDS: usize>(
        bounds: &[f64; BOUNDS],
        spreads: impl Iterator<Item = &'a Spread<BOUNDS>>,
    ) -> Self {
        let ends = bounds.iter().copied().chain([f64::INFINITY]);
        let mut buckets: Vec<(f64, u64)> = ends.map(|bound| (bound, 0)).collect();
        let mut total_us: u64 = 0;
        for spread in spreads {
            let counters = spread.within.iter().chain([&spread.over]);
            for ((_, count), counter) in buckets.iter_mut().zip(counters) {
                *count += counter.load(Relaxed);
            }
            total_us = total_us.wrapping_add(spread.total_us.load(Relaxed));
        }
        Self { buckets, total: Duration::from_micros(total_us) }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    pub(super) fn encode(&self, mut out: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let (total, count) = (self.total.as_secs_f64(), self.count());
        out.encode_histogram::<NoLabelSet>(total, count, &self.buckets, None)
    }
}
