//! Counters that cost a request nothing but an addition: each worker has its own, and they are added
//! up when they are read.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it, where one thread alone does: no locked instruction is needed.
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Relaxed);
    }

    /// Adds to it, whoever else does.
    pub fn add_shared(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    /// What was counted so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counters side by side, more of them than an array has a default for.
#[derive(Debug)]
pub struct Counters<const COUNT: usize>(pub [Counter; COUNT]);

impl<const COUNT: usize> Default for Counters<COUNT> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

/// A value that changes in both directions; one thread alone changes it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Changes it by so much.
    pub fn add(&self, change: i64) {
        self.set(self.get().wrapping_add(change));
    }

    /// From now on it is this.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// The counters of each worker, on cache lines of its own: no worker waits for another's.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[Aligned<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Aligned<T>(T);

impl<T: Default> PerWorker<T> {
    /// Those of so many workers, all at 0.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Aligned::default()).collect())
    }
}

impl<T> PerWorker<T> {
    /// Those of a worker.
    pub fn get(&self, worker: usize) -> Option<&T> {
        self.0.get(worker).map(|Aligned(one)| one)
    }

    /// Those of all of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().map(|Aligned(one)| one)
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.0.len()
    }

    /// What all of them have counted.
    pub fn sum(&self, of: impl Fn(&T) -> &Counter) -> u64 {
        self.iter().map(|one| of(one).get()).sum()
    }
}
