//! Rate limits by GCRA: per caller, per profile and for the whole gateway.
//!
//! This module knows keys and rates; it knows no callers and no requests.

use std::num::NonZeroU32;
use std::time::Duration;

/// A rate: so many requests in a period, and as many at once as the burst says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Requests in a period.
    pub requests: NonZeroU32,
    /// The period: a second, a minute, an hour or a day.
    pub period: Duration,
    /// The most that pass at once; `requests` when left out.
    pub burst: NonZeroU32,
}

/// All rates, from `[limits]` and the profiles.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// For everybody together.
    pub gateway: Option<Rate>,
    /// By profile, in the order of the profiles.
    pub profiles: Vec<ProfileRates>,
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
}
