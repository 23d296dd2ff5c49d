//! governor's limiters, with the rate that they were made of and state that outlives them: a reload
//! that changes the burst, or says the same rate in other words, keeps what was counted.

use std::sync::Arc;
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::{Clock, Reference as _};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::{DashMapStateStore, ShrinkableKeyedStateStore};
use governor::state::{InMemoryState, NotKeyed, StateStore};

use super::rate::Rate;

/// What came of taking a request out of a limit: how many are left, or how long to wait.
pub(super) type Taken = Result<u32, Duration>;

/// A limit for each of many keys.
pub(super) struct Keyed<C: Clock>(Counting<u64, DashMapStateStore<u64>, C>);

/// A limit for all together.
pub(super) struct Single<C: Clock>(Counting<NotKeyed, InMemoryState, C>);

/// A limiter, and what it takes to make another that goes on counting.
struct Counting<K, S: StateStore<Key = K>, C: Clock> {
    rate: Rate,
    limiter: RateLimiter<K, Shifted<S>, C, StateInformationMiddleware>,
    state: Arc<S>,
    /// What the arrival times in the state are counted from.
    epoch: C::Instant,
}

/// The state of a limiter that may have been another's before: governor counts arrival times from
/// the moment at which a limiter was made, the state from when the first of them was.
struct Shifted<S> {
    state: Arc<S>,
    by: Nanos,
}

impl<S: StateStore> StateStore for Shifted<S> {
    type Key = S::Key;

    fn measure_and_replace<T, F, E>(&self, key: &S::Key, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.state.measure_and_replace(key, |arrival| {
            let arrival = arrival.map(|arrival| arrival.saturating_sub(self.by));
            decide(arrival).map(|(answer, next)| (answer, next + self.by))
        })
    }
}

impl ShrinkableKeyedStateStore<u64> for Shifted<DashMapStateStore<u64>> {
    fn retain_recent(&self, drop_below: Nanos) {
        self.state.retain_recent(drop_below + self.by);
    }

    fn shrink_to_fit(&self) {
        ShrinkableKeyedStateStore::shrink_to_fit(&*self.state);
    }

    fn len(&self) -> usize {
        ShrinkableKeyedStateStore::len(&*self.state)
    }

    fn is_empty(&self) -> bool {
        ShrinkableKeyedStateStore::is_empty(&*self.state)
    }
}

impl<K, S: StateStore<Key = K>, C: Clock + Clone> Counting<K, S, C> {
    fn new(rate: Rate, state: Arc<S>, epoch: C::Instant, clock: &C) -> Self {
        let by = clock.now().duration_since(epoch);
        let shifted = Shifted { state: Arc::clone(&state), by };
        let limiter = RateLimiter::new(rate.quota(), shifted, clock.clone());
        Self { rate, limiter, state, epoch }
    }

    /// One that goes on counting, where requests are earned as fast as before.
    fn again(&self, rate: Rate, clock: &C) -> Option<Self> {
        let same = self.rate.interval() == rate.interval();
        same.then(|| Self::new(rate, Arc::clone(&self.state), self.epoch, clock))
    }

    /// No one owes more than the burst of now: a burst that became smaller shuts no one out for
    /// longer than it takes to earn it back, and gives nothing out.
    fn forgive(&self, keys: impl IntoIterator<Item = K>, clock: &C) {
        let now = clock.now().duration_since(self.epoch);
        let window = u64::try_from(self.rate.window().as_nanos()).unwrap_or(u64::MAX);
        let most = now.as_u64().saturating_add(window);
        for key in keys {
            // What is not there, or owes less, is left as it is.
            _ = self.state.measure_and_replace(&key, |arrival| match arrival {
                Some(arrival) if arrival.as_u64() > most => Ok(((), Nanos::from(most))),
                _ => Err(()),
            });
        }
    }
}

impl<C: Clock + Clone> Keyed<C> {
    /// The limiter that is there already, when its rate is the same; one that goes on counting,
    /// when only the burst is another; or a new one.
    pub(super) fn kept(before: Option<&Arc<Self>>, rate: Rate, clock: &C) -> Arc<Self> {
        match before {
            Some(before) if before.0.rate == rate => Arc::clone(before),
            _ => Arc::new(match before.and_then(|before| before.0.again(rate, clock)) {
                Some(counting) => {
                    let keys: Vec<u64> = counting.state.iter().map(|entry| *entry.key()).collect();
                    counting.forgive(keys, clock);
                    Self(counting)
                }
                None => Self(Counting::new(rate, Arc::default(), clock.now(), clock)),
            }),
        }
    }

    pub(super) const fn rate(&self) -> &Rate {
        &self.0.rate
    }

    pub(super) fn take(&self, key: u64, now: C::Instant) -> Taken {
        match self.0.limiter.check_key(&key) {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(refusal) => Err(refusal.wait_time_from(now)),
        }
    }

    pub(super) fn forget_idle(&self) {
        self.0.limiter.retain_recent();
        self.0.limiter.shrink_to_fit();
    }

    pub(super) fn len(&self) -> usize {
        self.0.limiter.len()
    }
}

impl<C: Clock + Clone> Single<C> {
    /// As [`Keyed::kept`].
    pub(super) fn kept(before: Option<&Arc<Self>>, rate: Rate, clock: &C) -> Arc<Self> {
        match before {
            Some(before) if before.0.rate == rate => Arc::clone(before),
            _ => Arc::new(match before.and_then(|before| before.0.again(rate, clock)) {
                Some(counting) => {
                    counting.forgive([NotKeyed::NonKey], clock);
                    Self(counting)
                }
                None => Self(Counting::new(rate, Arc::default(), clock.now(), clock)),
            }),
        }
    }

    pub(super) const fn rate(&self) -> &Rate {
        &self.0.rate
    }

    pub(super) fn take(&self, now: C::Instant) -> Taken {
        match self.0.limiter.check() {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(refusal) => Err(refusal.wait_time_from(now)),
        }
    }
}
