//! The keys of an issuer, shared between the workers that read them and the task that brings
//! them.
//!
//! Readers load a snapshot and take no lock. The lock here is taken by those alone whose key is
//! not in it, and by the task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::early_refresh::{Advice, Demand};
use super::error::InvalidJwtError;
use super::key_set::KeySet;

/// How long a token waits for its key.
const PATIENCE: Duration = Duration::from_secs(1);

/// A key set, and when it came.
pub(super) struct Keys {
    pub(super) set: KeySet,
    /// Another number, other keys.
    pub(super) generation: u64,
    /// `None` for keys of the configuration, which never get old.
    fetched: Option<Instant>,
}

/// The keys of one issuer.
pub(super) struct KeyStore {
    current: ArcSwapOption<Keys>,
    desk: Mutex<Desk>,
    /// Counts the fetches that are over.
    rounds: watch::Sender<u64>,
    /// Wakes the task that brings keys.
    wake: Notify,
    max_stale: Duration,
}

#[derive(Default)]
struct Desk {
    demand: Demand,
    fetches: u64,
    failures: u64,
    last_error: Option<String>,
}

/// How an issuer's keys are, for readiness and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The name of the issuer.
    pub issuer: String,
    /// How many keys there are; `None` when they never came.
    pub keys: Option<usize>,
    /// Whether tokens can be checked: there are keys, and they are not too old.
    pub usable: bool,
    /// How long ago they were fetched; `None` when they never were.
    pub age: Option<Duration>,
    /// Why the last fetch failed; `None` when it did not.
    pub last_error: Option<String>,
    /// Fetches so far.
    pub fetches: u64,
    /// Those that failed.
    pub failures: u64,
}

impl KeyStore {
    /// A store that is to be filled, or holds the keys of the configuration.
    pub(super) fn new(fixed: Option<KeySet>, max_stale: Duration) -> Self {
        let keys = fixed.map(|set| Arc::new(Keys { set, generation: 0, fetched: None }));
        Self {
            current: ArcSwapOption::new(keys),
            desk: Mutex::default(),
            rounds: watch::Sender::new(0),
            wake: Notify::new(),
            max_stale,
        }
    }

    /// The number of the keys of the moment.
    pub(super) fn generation(&self) -> Option<u64> {
        self.current.load().as_ref().map(|keys| keys.generation)
    }

    /// Takes over the keys of another store, so that a reload does not begin without any.
    pub(super) fn adopt(&self, old: &Self) {
        self.current.store(old.current.load_full());
    }

    /// The keys of the moment, while they may be relied on. Where none came yet and the first are
    /// under way, waits for them.
    pub(super) async fn keys(&self) -> Result<Arc<Keys>, InvalidJwtError> {
        if self.current.load().is_none() {
            // Over or not, what counts is what is there afterwards.
            _ = timeout(PATIENCE, self.first()).await;
        }
        self.usable()
    }

    async fn first(&self) {
        let mut rounds = self.rounds.subscribe();
        while self.current.load().is_none() && self.desk().demand.expecting() {
            if rounds.changed().await.is_err() {
                return;
            }
        }
    }

    fn usable(&self) -> Result<Arc<Keys>, InvalidJwtError> {
        let keys = self.current.load_full().ok_or(InvalidJwtError::NoKeys)?;
        match keys.fetched.map(|at| at.elapsed()) {
            Some(age) if age > self.max_stale => Err(InvalidJwtError::StaleKeys(age)),
            _ => Ok(keys),
        }
    }

    /// The keys after the provider was asked for one that is not there, or those of before where
    /// it may not be asked or does not answer in time.
    pub(super) async fn keys_with(&self, id: &str) -> Result<Arc<Keys>, InvalidJwtError> {
        _ = timeout(PATIENCE, self.arrival(id)).await;
        self.usable()
    }

    async fn arrival(&self, id: &str) {
        let mut rounds = self.rounds.subscribe();
        // A key may have come between the look of the caller and the subscription.
        while !self.has(id) && self.ask() == Advice::Wait {
            if rounds.changed().await.is_err() {
                return;
            }
        }
    }

    fn has(&self, id: &str) -> bool {
        self.current.load().as_ref().is_some_and(|keys| keys.set.has(id))
    }

    fn ask(&self) -> Advice {
        let advice = self.desk().demand.ask(Instant::now());
        self.wake.notify_one();
        advice
    }

    /// A fetch begins.
    pub(super) fn begin(&self, planned: bool) {
        let mut desk = self.desk();
        desk.fetches += 1;
        desk.demand.begin(planned, Instant::now());
    }

    /// A fetch brought a set. Tells whether its keys are others than those before.
    pub(super) fn replace(&self, set: KeySet) -> bool {
        let now = Instant::now();
        let old = self.current.load_full();
        let changed = old.as_ref().is_none_or(|old| !old.set.same(&set));
        let generation = old.map_or(0, |old| old.generation + u64::from(changed));
        let keys = Arc::new(Keys { set, generation, fetched: Some(now) });
        self.current.store(Some(keys));
        let mut desk = self.desk();
        desk.last_error = None;
        desk.demand.end(false);
        drop(desk);
        self.rounds.send_modify(|round| *round += 1);
        changed
    }

    /// A fetch failed; the keys stay.
    pub(super) fn failed(&self, why: String) {
        let mut desk = self.desk();
        desk.failures += 1;
        desk.last_error = Some(why);
        desk.demand.end(true);
        drop(desk);
        self.rounds.send_modify(|round| *round += 1);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.current.load().is_none()
    }

    /// Waits until `planned`, or until a key is wanted that may be fetched before. Tells whether
    /// it was the plan.
    pub(super) async fn next_fetch(&self, planned: Instant) -> bool {
        loop {
            let demanded = self.desk().demand.due(Instant::now()).filter(|due| *due < planned);
            tokio::select! {
                () = sleep_until(demanded.unwrap_or(planned)) => return demanded.is_none(),
                () = self.wake.notified() => {}
            }
        }
    }

    /// How long ago the keys were fetched; `None` when they never were.
    pub(super) fn age(&self) -> Option<Duration> {
        self.current.load().as_ref()?.fetched.map(|at| at.elapsed())
    }

    pub(super) fn status(&self, issuer: &str) -> Status {
        let keys = self.current.load_full();
        let desk = self.desk();
        Status {
            issuer: issuer.to_owned(),
            keys: keys.as_ref().map(|keys| keys.set.len()),
            usable: self.usable().is_ok(),
            age: self.age(),
            last_error: desk.last_error.clone(),
            fetches: desk.fetches,
            failures: desk.failures,
        }
    }

    /// A panic of another thread leaves nothing half done here.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
