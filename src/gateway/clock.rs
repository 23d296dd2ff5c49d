//! The time, as the gateway and the calendar have it.

use std::time::UNIX_EPOCH;

use crate::telemetry::WallClock;

/// The time by a clock, in milliseconds of Unix time.
pub(super) fn milliseconds(clock: WallClock) -> u64 {
    let since = clock().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds of Unix time as the calendar has them.
pub(super) fn timestamp(ms: u64) -> jiff::Timestamp {
    let ms = i64::try_from(ms).ok();
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or(jiff::Timestamp::MAX)
}
