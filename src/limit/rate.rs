//! A rate, what follows from it, and which of the limits it is of.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;

/// A rate: so many requests in a period, and as many at once as the burst says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Requests in a period.
    pub requests: NonZeroU32,
    /// The period: a second, a minute, an hour or a day.
    pub period: Duration,
    /// The most that pass at once; `requests` when omitted.
    pub burst: NonZeroU32,
}

/// Which of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each caller's own.
    Caller,
    /// That of all callers of a profile together.
    Profile,
    /// That of everyone together.
    Gateway,
}

impl Scope {
    /// The name in `RateLimit`, in messages and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Profile => "profile",
            Self::Gateway => "gateway",
        }
    }
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

    pub(super) fn quota(&self) -> Quota {
        // An interval of at least a nanosecond always makes a quota.
        Quota::with_period(self.interval())
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MAX))
            .allow_burst(self.burst)
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
