//! How long things took: histograms with one writer, and several of them added up.

use std::time::Duration;

use super::{Counter, Counters};

/// Counts of durations, by bounds in seconds that are always the same.
#[derive(Default)]
pub struct Histogram<const BOUNDS: usize> {
    /// Within a bound and no lower one.
    within: Counters<BOUNDS>,
    /// Over all of them.
    over: Counter,
    total_us: Counter,
}

/// What several histograms are together.
#[derive(Debug, PartialEq)]
pub struct Buckets {
    /// Upper bounds in seconds, the last of which is infinite, and the counts between them.
    pub counts: Vec<(f64, u64)>,
    /// All durations together.
    pub total: Duration,
}

impl<const BOUNDS: usize> Histogram<BOUNDS> {
    /// Counts a duration.
    pub fn count(&self, bounds: &[f64; BOUNDS], took: Duration) {
        let seconds = took.as_secs_f64();
        let index = bounds.iter().position(|bound| seconds <= *bound);
        index.map_or(&self.over, |index| &self.within.0[index]).add(1);
        self.total_us.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Buckets {
    /// Adds up histograms that have the same bounds.
    pub fn of<'a, const BOUNDS: usize>(
        bounds: &[f64; BOUNDS],
        histograms: impl Iterator<Item = &'a Histogram<BOUNDS>>,
    ) -> Self {
        let ends = bounds.iter().copied().chain([f64::INFINITY]);
        let mut counts: Vec<(f64, u64)> = ends.map(|bound| (bound, 0)).collect();
        let mut total_us: u64 = 0;
        for histogram in histograms {
            let counters = histogram.within.0.iter().chain([&histogram.over]);
            for ((_, count), counter) in counts.iter_mut().zip(counters) {
                *count += counter.get();
            }
            total_us = total_us.wrapping_add(histogram.total_us.get());
        }
        Self { counts, total: Duration::from_micros(total_us) }
    }

    /// How many durations there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }
}
