//! The end of an API key, as its caller is told of it in the key's last days.

use std::time::Duration;

use http::HeaderValue;
use jiff::Timestamp;

/// When a key ends, and from when on its caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEnd {
    /// In milliseconds of Unix time.
    told_from_ms: u64,
    /// The end in the form of RFC 3339, as the configuration has it.
    value: HeaderValue,
}

impl KeyEnd {
    /// Of a key that ends then, and whose caller is told so long before; `None` for a key without an
    /// end, and where no caller is told.
    pub(super) fn new(until: Option<Timestamp>, before: Option<Duration>) -> Option<Box<Self>> {
        let (until, before) = until.zip(before)?;
        let value = HeaderValue::from_str(&until.to_string()).ok()?;
        let from = until.checked_sub(before).unwrap_or(Timestamp::UNIX_EPOCH);
        let told_from_ms = u64::try_from(from.as_millisecond()).unwrap_or_default();
        Some(Box::new(Self { told_from_ms, value }))
    }

    /// What the caller is told at that time, if it is.
    pub fn reminder(&self, now_ms: u64) -> Option<&HeaderValue> {
        (self.told_from_ms <= now_ms).then_some(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn a_caller_is_told_in_the_last_days_of_its_key_alone() {
        let until: Timestamp = "2026-12-31T00:00:00Z".parse().unwrap();
        let end = KeyEnd::new(Some(until), Some(14 * DAY)).unwrap();
        let at = |text: &str| {
            let at: Timestamp = text.parse().unwrap();
            end.reminder(u64::try_from(at.as_millisecond()).unwrap())
        };
        assert_eq!(at("2026-12-16T23:59:59.999Z"), None);
        assert_eq!(at("2026-12-17T00:00:00Z").unwrap(), "2026-12-31T00:00:00Z");
        assert_eq!(at("2026-12-30T23:59:59Z").unwrap(), "2026-12-31T00:00:00Z");
    }

    #[test]
    fn nobody_is_told_of_a_key_without_an_end_or_where_that_is_off() {
        let until = "2026-12-31T00:00:00Z".parse().unwrap();
        assert_eq!(KeyEnd::new(None, Some(DAY)), None);
        assert_eq!(KeyEnd::new(Some(until), None), None);
    }

    #[test]
    fn a_time_before_all_times_is_always() {
        let end = KeyEnd::new(Some(Timestamp::UNIX_EPOCH), Some(366 * DAY)).unwrap();
        assert!(end.reminder(0).is_some());
    }
}
