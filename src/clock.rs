//! The time of the system, and how the calendar has it.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Now, in milliseconds of Unix time.
pub(crate) fn now_ms() -> u64 {
    milliseconds(SystemTime::now())
}

/// A moment in milliseconds of Unix time.
pub(crate) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds of Unix time as the calendar has them; `None` after its last day.
pub(crate) fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}
