//! `[reminders]`: who is told before something ends.

use std::time::Duration;

use super::file::{Parse, ValueError, section};

section! {
    pub(super) struct RemindersSection {
        /// How long before its end (`until`) callers by an API key are told of it, [in
        /// `Whiteboard-Key-Ends`](callers.md#keys-that-end) of their responses; `"off"`: never.
        key: KeyReminder = "14d";
    }
}

/// How long before the end of their key callers are told of it; `None` for never.
pub(super) struct KeyReminder(pub(super) Option<Duration>);

impl Parse for KeyReminder {
    const ALLOWED: &'static str =
        "a duration such as \"14d\" or \"12h\" (units ms, s, m, h, d), or \"off\"";
    const PATTERN: &'static str = "^(off|([0-9]+(\\.[0-9]+)?\\s*(ms|s|m|h|d)\\s*)*\
        ([0-9]*[1-9][0-9]*(\\.[0-9]+)?|[0-9]+\\.[0-9]*[1-9][0-9]*)\\s*(ms|s|m|h|d)\
        (\\s*[0-9]+(\\.[0-9]+)?\\s*(ms|s|m|h|d))*)$";

    fn text(text: &str) -> Result<Self, ValueError> {
        match text {
            "off" => Ok(Self(None)),
            text => Duration::text(text).map(|time| Self(Some(time))),
        }
    }

    fn integer(number: i64) -> Result<Self, ValueError> {
        Duration::integer(number).map(|time| Self(Some(time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reminder_is_a_duration_or_off() {
        let read = |text| KeyReminder::text(text).ok().map(|reminder| reminder.0);
        assert_eq!(read("off"), Some(None));
        assert_eq!(read("14d"), Some(Some(Duration::from_secs(14 * 24 * 3600))));
        assert_eq!(read("14"), None);
        assert_eq!(read("never"), None);
        assert!(KeyReminder::integer(14).is_err());
    }
}
