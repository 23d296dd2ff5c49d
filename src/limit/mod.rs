//! Rate limits by GCRA: per caller, per profile and for the whole gateway.
//!
//! Checked from the narrowest to the widest, so that a caller over its own limit never drains the
//! others'. In memory, or in a store that several gateways share. This module knows keys and
//! rates; it knows no callers and no requests.

mod allowance;
mod bucket;
mod clock;
mod decisions;
mod failures;
mod limiter;
mod rate;
mod shared;

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::Clock;

use crate::failure::Failure;
use crate::metric::{Counter, Metric};
use bucket::{Keyed, Single};
use clock::RuntimeClock;

pub use allowance::{Allowance, BudgetLeft};
pub use decisions::{ByDecision, DECISIONS};
pub use failures::Failures;
pub use limiter::Limiter;
pub use rate::{Rate, Scope};

/// Callers.
pub const CALLERS: &[Metric<Limits>] =
    &[Metric::gauge("wbg_limited_callers", "Callers that limits remember", &[], |limits, out| {
        out.add(&[], limits.remembered());
    })];

/// All rates, from `[limits]` and the profiles.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// For everyone together.
    pub gateway: Option<Rate>,
    /// By profile, in the order of the profiles.
    pub profiles: Vec<ProfileRates>,
    /// How many credentials that do not hold an address may show before those that are costly to
    /// check are not checked any more; `None` for no bound.
    pub failed_credentials: Option<Rate>,
    /// The gateways that share a store.
    pub replicas: Replicas,
}

/// The gateways that share a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// How many there are: without the store, each lets through that part of a limit.
    pub count: NonZeroU32,
    /// Whether a worker takes some requests ahead for a caller that sends many.
    pub lease: bool,
}

impl Default for Replicas {
    fn default() -> Self {
        Self { count: NonZeroU32::MIN, lease: true }
    }
}

/// What happens to the requests of a profile while the store does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreError {
    /// Each gateway counts for itself, its part of the limit.
    #[default]
    Local,
    /// They pass.
    Open,
    /// They are refused.
    Closed,
}

/// The rates of a profile.
#[derive(Clone, Debug)]
pub struct ProfileRates {
    /// The profile's name.
    pub name: String,
    /// For each of its callers alone.
    pub caller: Option<Rate>,
    /// For all of its callers together.
    pub shared: Option<Rate>,
    /// What happens while the store does not answer.
    pub on_store_error: OnStoreError,
}

/// Every limit, counting. Shared by all workers: a caller's requests come in on any of them.
pub struct Limits<C: Clock = RuntimeClock> {
    clock: C,
    profiles: Vec<ProfileLimits<C>>,
    gateway: Option<Arc<Single<C>>>,
    gateway_rate: Option<Rate>,
    replicas: Replicas,
    /// By what requests were decided, where a store is shared.
    pub decisions: Arc<ByDecision<Counter>>,
}

struct ProfileLimits<C: Clock> {
    rates: ProfileRates,
    caller: Option<Arc<Keyed<C>>>,
    shared: Option<Arc<Single<C>>>,
    /// What `RateLimit-Policy` says of a request that all of them passed: it never varies.
    policy: Option<http::HeaderValue>,
}

impl Limits {
    /// Starts counting; what `before` counted at the same rates is kept, whatever the bursts. With a store, what counts
    /// here is the part of each limit that is let through when the store does not answer.
    pub fn new(settings: &Settings, has_store: bool, before: Option<&Self>) -> Self {
        let parts = if has_store { settings.replicas.count } else { NonZeroU32::MIN };
        Self::with_clock(settings, parts, before, RuntimeClock)
    }
}

impl<C: Clock + Clone> Limits<C> {
    fn with_clock(settings: &Settings, parts: NonZeroU32, before: Option<&Self>, clock: C) -> Self {
        let known = |name: &str| before?.profiles.iter().find(|one| one.rates.name == name);
        let gateway = settings.gateway.map(|rate| {
            let kept = before.and_then(|before| before.gateway.as_ref());
            Single::kept(kept, rate.part(parts), &clock)
        });
        let profiles = settings.profiles.iter().map(|rates| {
            let kept = known(&rates.name);
            let caller = rates.caller.map(|rate| {
                let kept = kept.and_then(|kept| kept.caller.as_ref());
                Keyed::kept(kept, rate.part(parts), &clock)
            });
            let shared = rates.shared.map(|rate| {
                let kept = kept.and_then(|kept| kept.shared.as_ref());
                Single::kept(kept, rate.part(parts), &clock)
            });
            let policy = allowance::policy(&[
                (Scope::Caller, rates.caller),
                (Scope::Profile, rates.shared),
                (Scope::Gateway, settings.gateway),
            ]);
            ProfileLimits { rates: rates.clone(), caller, shared, policy }
        });
        Self {
            profiles: profiles.collect(),
            gateway,
            gateway_rate: settings.gateway,
            replicas: settings.replicas,
            decisions: before.map(|before| Arc::clone(&before.decisions)).unwrap_or_default(),
            clock,
        }
    }

    /// Takes one request of a caller, a number that is its own, out of every limit it is under, and
    /// notes what they have left.
    ///
    /// A refusal writes nothing in the limiter that refuses; what a wider refusal costs is one
    /// unit of the caller's own.
    ///
    /// # Errors
    /// `rate_limited` with the limit's name and `Retry-After`.
    pub fn take(
        &self,
        profile: usize,
        caller: u64,
        allowance: &mut Allowance,
    ) -> Result<(), Failure> {
        allowance.begin(self.profiles.get(profile).and_then(|limits| limits.policy.clone()));
        self.take_apart(profile, caller, allowance)
    }

    /// Counts what others have decided about, so that this gateway is not full of requests yet
    /// when it has to do without them.
    fn warm(&self, profile: usize, caller: u64) {
        let Some(limits) = self.profiles.get(profile) else { return };
        let now = self.clock.now();
        // What is over the part of this gateway is not counted, and that is as it should be.
        if let Some(limit) = &limits.caller {
            _ = limit.take(caller, now);
        }
        for limit in [&limits.shared, &self.gateway].into_iter().flatten() {
            _ = limit.take(now);
        }
    }

    /// As [`Limits::take`], for one of several gateways that has to do without the others: nothing
    /// is said of what is left, since it would not be true.
    fn take_apart(
        &self,
        profile: usize,
        caller: u64,
        allowance: &mut Allowance,
    ) -> Result<(), Failure> {
        let Some(limits) = self.profiles.get(profile) else { return Ok(()) };
        let now = self.clock.now();
        let name = &limits.rates.name;
        if let Some(limit) = &limits.caller {
            allowance.add(Scope::Caller, limit.take(caller, now), limit.rate(), name)?;
        }
        if let Some(limit) = &limits.shared {
            allowance.add(Scope::Profile, limit.take(now), limit.rate(), name)?;
        }
        if let Some(limit) = &self.gateway {
            allowance.add(Scope::Gateway, limit.take(now), limit.rate(), name)?;
        }
        Ok(())
    }

    /// Forgets callers whose limits are full again; memory stays bounded by who calls.
    pub fn forget_idle(&self) {
        for limit in self.profiles.iter().filter_map(|profile| profile.caller.as_ref()) {
            limit.forget_idle();
        }
    }

    /// How many callers are remembered.
    pub fn remembered(&self) -> usize {
        let limits = self.profiles.iter().filter_map(|profile| profile.caller.as_ref());
        limits.map(|limit| limit.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate(requests: u32, burst: u32) -> Rate {
        let number = |n| NonZeroU32::new(n).unwrap();
        Rate { requests: number(requests), period: Duration::from_secs(1), burst: number(burst) }
    }

    fn settings(caller: Option<Rate>, shared: Option<Rate>, gateway: Option<Rate>) -> Settings {
        let on_store_error = OnStoreError::Local;
        let profile =
            |name: &str| ProfileRates { name: name.to_owned(), caller, shared, on_store_error };
        Settings { gateway, profiles: vec![profile("a"), profile("b")], ..Settings::default() }
    }

    fn limits(settings: &Settings) -> (Limits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limits::with_clock(settings, NonZeroU32::MIN, None, clock.clone()), clock)
    }

    fn takes(
        limits: &Limits<FakeRelativeClock>,
        profile: usize,
        caller: u64,
    ) -> Result<(), Failure> {
        limits.take(profile, caller, &mut Allowance::default())
    }

    fn passed(limits: &Limits<FakeRelativeClock>, profile: usize, caller: u64, tries: u32) -> u32 {
        (0..tries).map(|_| u32::from(takes(limits, profile, caller).is_ok())).sum()
    }

    #[test]
    fn a_caller_passes_its_burst_and_then_its_rate() {
        let (limits, clock) = limits(&settings(Some(rate(10, 20)), None, None));
        assert_eq!(passed(&limits, 0, 1, 100), 20);
        clock.advance(Duration::from_millis(500));
        assert_eq!(passed(&limits, 0, 1, 100), 5);
        assert_eq!(passed(&limits, 0, 2, 100), 20, "another caller has its own");
    }

    #[test]
    fn a_caller_over_its_limit_never_drains_the_others() {
        let (limits, _) = limits(&settings(Some(rate(1, 5)), Some(rate(1, 10)), None));
        assert_eq!(passed(&limits, 0, 1, 1000), 5);
        assert_eq!(passed(&limits, 0, 2, 1000), 5, "the shared limit was not drained");
        assert_eq!(passed(&limits, 0, 3, 1000), 0);
        assert_eq!(passed(&limits, 1, 4, 1000), 5, "another profile has its own");
    }

    #[test]
    fn the_gateways_limit_is_everybodys() {
        let (limits, _) = limits(&settings(None, None, Some(rate(1, 3))));
        assert_eq!(passed(&limits, 0, 1, 2) + passed(&limits, 1, 2, 9), 3);
        let failure = takes(&limits, 0, 1).unwrap_err();
        assert!(failure.message().contains("of the gateway"), "{failure}");
    }

    #[test]
    fn a_reload_keeps_what_was_counted_unless_the_rate_changed() {
        let before = settings(Some(rate(1, 5)), None, None);
        let (old, clock) = limits(&before);
        assert_eq!(passed(&old, 0, 1, 9), 5);
        let kept = Limits::with_clock(&before, NonZeroU32::MIN, Some(&old), clock.clone());
        assert_eq!(passed(&kept, 0, 1, 9), 0);
        let other = settings(Some(rate(2, 5)), None, None);
        let changed = Limits::with_clock(&other, NonZeroU32::MIN, Some(&old), clock);
        assert_eq!(passed(&changed, 0, 1, 9), 5);
    }

    #[test]
    fn another_burst_keeps_what_was_counted() {
        // How many pass at once after so many seconds with the burst of before and then so many
        // with that of now: what was taken stays taken, and more room is room for the difference.
        for (before, taken, now, left) in [(5, 5, 6, 1), (5, 2, 3, 1), (5, 5, 2, 0), (5, 1, 9, 8)] {
            for scope in 0..3 {
                let one = |burst| {
                    let under = |own: usize| (scope == own).then(|| rate(1, burst));
                    settings(under(0), under(1), under(2))
                };
                let (old, clock) = limits(&one(before));
                clock.advance(Duration::from_secs(100));
                assert_eq!(passed(&old, 0, 1, taken), taken);
                let new = Limits::with_clock(&one(now), NonZeroU32::MIN, Some(&old), clock.clone());
                assert_eq!(passed(&new, 0, 1, 99), left, "{taken} of {before}, then {now}");
                clock.advance(Duration::from_secs(1));
                assert_eq!(passed(&new, 0, 1, 99), 1, "nobody waits for more than the burst");
                // Once more, so that what is kept is kept again.
                let again =
                    Limits::with_clock(&one(now + 1), NonZeroU32::MIN, Some(&new), clock.clone());
                assert_eq!(passed(&again, 0, 1, 99), 1);
                clock.advance(Duration::from_secs(100));
                again.forget_idle();
                assert_eq!((again.remembered(), passed(&again, 0, 1, 99)), (0, now + 1));
            }
        }
    }

    #[test]
    fn the_same_rate_in_other_words_keeps_what_was_counted() {
        let hours = |requests: u32, hours: u64, burst: u32| {
            let period = Duration::from_secs(hours * 3600);
            settings(Some(Rate { period, ..rate(requests, burst) }), None, None)
        };
        let (old, clock) = limits(&hours(1, 1, 1));
        assert_eq!(passed(&old, 0, 1, 9), 1);
        let new = Limits::with_clock(&hours(24, 24, 1), NonZeroU32::MIN, Some(&old), clock.clone());
        assert_eq!(passed(&new, 0, 1, 9), 0);
        clock.advance(Duration::from_secs(3600));
        assert_eq!(passed(&new, 0, 1, 9), 1);
    }

    #[test]
    fn one_of_four_gateways_lets_through_a_quarter() {
        let clock = FakeRelativeClock::default();
        let settings = settings(Some(rate(8, 8)), None, None);
        let four = NonZeroU32::new(4).unwrap();
        let limits = Limits::with_clock(&settings, four, None, clock.clone());
        assert_eq!(passed(&limits, 0, 1, 9), 2);
        clock.advance(Duration::from_secs(1));
        assert_eq!(passed(&limits, 0, 1, 9), 2);
        limits.warm(0, 2);
        assert_eq!(passed(&limits, 0, 2, 9), 1, "what others decided was counted");
    }

    #[test]
    fn a_million_callers_leave_a_bounded_limiter() {
        let (limits, clock) = limits(&settings(Some(rate(10, 10)), None, None));
        for caller in 0..1_000_000 {
            assert!(takes(&limits, 0, caller).is_ok());
        }
        assert_eq!(limits.remembered(), 1_000_000);
        clock.advance(Duration::from_secs(2));
        limits.forget_idle();
        assert_eq!(limits.remembered(), 0);
    }
}
