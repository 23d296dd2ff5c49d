//! governor's limiters, with the rate that they were made of.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::Rate;

/// What came of taking a request out of a limit: how many are left, or how long to wait.
pub(super) type Taken = Result<u32, Duration>;

/// A limit for each of many keys.
pub(super) struct Keyed<C: Clock> {
    rate: Rate,
    limiter: RateLimiter<u64, DashMapStateStore<u64>, C, StateInformationMiddleware>,
}

/// A limit for all together.
pub(super) struct Single<C: Clock> {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>,
}

impl Rate {
    /// The time in which one request is earned back.
    pub(super) fn interval(&self) -> Duration {
        (self.period / self.requests.get()).max(Duration::from_nanos(1))
    }

    /// The time in which a used-up burst is earned back.
    pub(super) fn window(&self) -> Duration {
        self.interval().saturating_mul(self.burst.get())
    }

    /// The part of one of several that share it: each earns more slowly, and has less at once.
    pub(super) fn part(self, parts: NonZeroU32) -> Self {
        let burst = NonZeroU32::new(self.burst.get() / parts).unwrap_or(NonZeroU32::MIN);
        Self { period: self.period.saturating_mul(parts.get()), burst, ..self }
    }

    fn quota(&self) -> Quota {
        // An interval of at least a nanosecond always makes a quota.
        Quota::with_period(self.interval())
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MAX))
            .allow_burst(self.burst)
    }
}

impl<C: Clock + Clone> Keyed<C> {
    /// The limiter that is there already, when its rate is the same, or a new one.
    pub(super) fn kept(before: Option<&Arc<Self>>, rate: Rate, clock: &C) -> Arc<Self> {
        match before {
            Some(before) if before.rate == rate => Arc::clone(before),
            _ => {
                let limiter = RateLimiter::dashmap_with_clock(rate.quota(), clock.clone());
                let limiter = limiter.with_middleware();
                Arc::new(Self { rate, limiter })
            }
        }
    }

    pub(super) const fn rate(&self) -> &Rate {
        &self.rate
    }

    pub(super) fn take(&self, key: u64, now: C::Instant) -> Taken {
        match self.limiter.check_key(&key) {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(refusal) => Err(refusal.wait_time_from(now)),
        }
    }

    pub(super) fn forget_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    pub(super) fn len(&self) -> usize {
        self.limiter.len()
    }
}

impl<C: Clock + Clone> Single<C> {
    /// As [`Keyed::kept`].
    pub(super) fn kept(before: Option<&Arc<Self>>, rate: Rate, clock: &C) -> Arc<Self> {
        match before {
            Some(before) if before.rate == rate => Arc::clone(before),
            _ => {
                let limiter = RateLimiter::direct_with_clock(rate.quota(), clock.clone());
                Arc::new(Self { rate, limiter: limiter.with_middleware() })
            }
        }
    }

    pub(super) const fn rate(&self) -> &Rate {
        &self.rate
    }

    pub(super) fn take(&self, now: C::Instant) -> Taken {
        match self.limiter.check() {
            Ok(state) => Ok(state.remaining_burst_capacity()),
            Err(refusal) => Err(refusal.wait_time_from(now)),
        }
    }
}

/// Whole seconds, rounded up, at least 1: what the header fields count in.
pub(super) fn seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_the_time_in_which_a_burst_is_earned_back() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate =
            Rate { requests: number(100), period: Duration::from_secs(60), burst: number(100) };
        assert_eq!(rate.interval(), Duration::from_millis(600));
        assert_eq!(seconds(rate.window()), 60);
        assert_eq!(seconds(Duration::from_millis(1)), 1);
    }
}
