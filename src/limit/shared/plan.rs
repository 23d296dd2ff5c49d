//! What the script is asked for a profile: its keys and rates, worked out once.

use std::time::Duration;

use crate::limit::{OnStoreError, Rate, Scope};

use super::lease;

/// No time is further ahead: with the time of today it stays below 2^53, up to which Lua counts
/// exactly.
const MOST_MICROS: u128 = 100 * 366 * 24 * 60 * 60 * 1_000_000;

/// No pause is longer: no one who is refused is told to come back as soon.
const PAUSE: Duration = Duration::from_millis(25);

/// The limits of a profile that the store keeps.
pub(super) struct Plan {
    pub(super) limits: Vec<Limit>,
    /// The most requests that are taken at once; 1 for no lease.
    pub(super) lease: u32,
    /// How long at least a limit that has nothing left is not asked again.
    pub(super) pause: Duration,
    pub(super) on_error: OnStoreError,
}

/// A limit in the store.
pub(super) struct Limit {
    pub(super) scope: Scope,
    pub(super) rate: Rate,
    /// The key, or what a caller's begins with.
    key: String,
}

/// Whose keys they are.
pub(super) struct KeyScope<'a> {
    pub(super) prefix: &'a str,
    /// The name of the profile.
    pub(super) profile: &'a str,
    /// Whether there is a limit for everyone.
    pub(super) gateway: bool,
}

impl Plan {
    pub(super) fn new(
        place: &KeyScope<'_>,
        rates: &[(Scope, Option<Rate>)],
        on_error: OnStoreError,
        leases: bool,
    ) -> Self {
        let limit = |(scope, rate): &(Scope, Option<Rate>)| {
            let rate = (*rate)?;
            Some(Limit { scope: *scope, rate, key: place.key(*scope, &rate) })
        };
        let limits: Vec<Limit> = rates.iter().filter_map(limit).collect();
        let lease = limits.iter().map(|limit| lease::most(&limit.rate)).min();
        let lease = lease.filter(|_| leases).unwrap_or(1);
        // As long as a lease takes to be earned: nothing is lost by it, since so much less than
        // a burst comes together meanwhile.
        let earned = limits.iter().map(|limit| limit.rate.interval().saturating_mul(lease)).min();
        let pause = earned.filter(|_| lease > 1).map_or(Duration::ZERO, |one| one.min(PAUSE));
        Self { limits, lease, pause, on_error }
    }

    /// Whether each caller is counted for itself.
    pub(super) fn is_by_caller(&self) -> bool {
        self.limits.iter().any(|limit| limit.scope == Scope::Caller)
    }

    pub(super) fn keys(&self, caller: u64) -> Vec<String> {
        let key = |limit: &Limit| match limit.scope {
            Scope::Caller => format!("{}{caller:016x}", limit.key),
            Scope::Profile | Scope::Gateway => limit.key.clone(),
        };
        self.limits.iter().map(key).collect()
    }

    /// How many are wanted, and the rates.
    pub(super) fn arguments(&self, wanted: u32) -> Vec<i64> {
        let rates = self.limits.iter().flat_map(|limit| numbers(&limit.rate));
        [i64::from(wanted)].into_iter().chain(rates).collect()
    }
}

impl KeyScope<'_> {
    /// The keys of one request are in one slot of a cluster, by the tag in braces: its profile.
    /// A limit for everyone is one key, on one server, that each request asks; then everything
    /// has the tag of that one, so that it is asked once and not twice.
    ///
    /// How fast requests are earned is part of the key, so that a change of it starts clean; the
    /// burst is not, and neither is whether it is said by the hour or by the day.
    fn key(&self, scope: Scope, rate: &Rate) -> String {
        let Self { prefix, profile, gateway } = self;
        // A profile is never called so: names have no star.
        let tag = if *gateway { "*" } else { *profile };
        let [requests, period, _] = numbers(rate);
        let both = greatest_common_divisor(requests, period);
        let rate = format!("{}/{}", requests / both, period / both);
        match scope {
            Scope::Caller => format!("{prefix}:{{{tag}}}:{profile}:{rate}:caller:"),
            Scope::Profile => format!("{prefix}:{{{tag}}}:{profile}:{rate}"),
            Scope::Gateway => format!("{prefix}:{{{tag}}}:{rate}"),
        }
    }
}

/// Requests, and in microseconds the period and the tolerance: the time that a burst takes to be
/// earned back.
fn numbers(rate: &Rate) -> [i64; 3] {
    let requests = u128::from(rate.requests.get());
    let period = rate.period.as_micros();
    let tolerance = (period * u128::from(rate.burst.get())).div_ceil(requests).min(MOST_MICROS);
    [requests, period, tolerance].map(|number| i64::try_from(number).unwrap_or(i64::MAX))
}

/// 1 for a number that is 0.
const fn greatest_common_divisor(mut one: i64, mut other: i64) -> i64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    if one > 0 { one } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn rate(requests: u32, burst: u32) -> Rate {
        let number = |n| NonZeroU32::new(n).unwrap();
        Rate { requests: number(requests), period: Duration::from_secs(1), burst: number(burst) }
    }

    fn plan(gateway: Option<Rate>) -> Plan {
        let rates =
            [(Scope::Caller, Some(rate(3, 5))), (Scope::Profile, None), (Scope::Gateway, gateway)];
        let place = KeyScope { prefix: "wbg", profile: "student", gateway: gateway.is_some() };
        Plan::new(&place, &rates, OnStoreError::Local, true)
    }

    #[test]
    fn the_keys_of_a_request_have_one_tag_and_their_rate() {
        assert_eq!(
            plan(None).keys(255),
            ["wbg:{student}:student:3/1000000:caller:00000000000000ff"]
        );
        assert_eq!(
            plan(Some(rate(9, 9))).keys(255),
            ["wbg:{*}:student:3/1000000:caller:00000000000000ff", "wbg:{*}:9/1000000"]
        );
    }

    #[test]
    fn a_key_knows_no_burst_and_no_unit() {
        let key = |requests: u32, seconds: u64, burst: u32| {
            let period = Duration::from_secs(seconds);
            let rates = [(Scope::Profile, Some(Rate { period, ..rate(requests, burst) }))];
            let place = KeyScope { prefix: "wbg", profile: "student", gateway: false };
            Plan::new(&place, &rates, OnStoreError::Local, true).keys(0)
        };
        assert_eq!(key(1, 3600, 1), ["wbg:{student}:student:1/3600000000"]);
        assert_eq!(key(1, 3600, 1), key(24, 86_400, 24));
        assert_ne!(key(1, 3600, 1), key(2, 3600, 1));
    }

    #[test]
    fn only_a_limit_with_leases_is_paused_for() {
        assert_eq!((plan(None).lease, plan(None).pause), (1, Duration::ZERO));
        let rates = [(Scope::Caller, Some(rate(1000, 100)))];
        let place = KeyScope { prefix: "wbg", profile: "student", gateway: false };
        let plan = |leases| Plan::new(&place, &rates, OnStoreError::Local, leases);
        assert_eq!((plan(true).lease, plan(true).pause), (10, Duration::from_millis(10)));
        assert_eq!((plan(false).lease, plan(false).pause), (1, Duration::ZERO));
    }

    #[test]
    fn the_numbers_stay_within_what_lua_counts_exactly() {
        assert_eq!(plan(None).arguments(7), [7, 3, 1_000_000, 1_666_667]);
        let day = Duration::from_secs(24 * 60 * 60);
        let slowest = Rate { requests: NonZeroU32::MIN, period: day, burst: NonZeroU32::MAX };
        let today = 1_790_000_000_000_000;
        assert!(numbers(&slowest)[2] + today < 1 << 53);
    }
}
