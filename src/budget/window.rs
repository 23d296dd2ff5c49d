//! The hours, days and months of a calendar, in a named time zone.
//!
//! Windows tile the time line: every second lies in exactly one, whatever the clocks of the zone
//! do. A day has 23 or 25 hours when they change; an hour that the clocks repeat is two windows.
//! No I/O and no clock: the instant comes in.

use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan as _};

const HOUR: i64 = 3_600;

/// How long a budget lasts before it begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next.
    Month,
}

impl Period {
    /// The word in the configuration, in `RateLimit` and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// The place in a table of periods.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// A time zone of the IANA database, which is built in: a container without one has it as well.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: Arc<str>,
    zone: TimeZone,
}

/// There is no time zone of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no time zone of the IANA database")]
pub struct UnknownZoneError;

/// A span of time, in whole seconds of Unix time; `end` is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Its first second.
    pub start: i64,
    /// The first second of the next.
    pub end: i64,
}

impl Window {
    /// Whether a second lies in it.
    pub const fn contains(&self, second: i64) -> bool {
        self.start <= second && second < self.end
    }

    /// How many seconds it has: at least 1.
    pub const fn seconds(&self) -> u64 {
        self.end.abs_diff(self.start)
    }

    /// How many seconds are left of it.
    pub const fn left(&self, second: i64) -> u64 {
        if second < self.end { self.end.abs_diff(second) } else { 0 }
    }
}

impl Zone {
    /// The zone of that name, such as `Europe/Berlin`.
    ///
    /// # Errors
    /// [`UnknownZoneError`].
    pub fn new(name: &str) -> Result<Self, UnknownZoneError> {
        let zone = TimeZone::get(name).map_err(|_| UnknownZoneError)?;
        // As the database spells it: it knows names in any case.
        let name = zone.iana_name().unwrap_or(name).into();
        Ok(Self { name, zone })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names that there are.
    pub fn names() -> Vec<String> {
        jiff::tz::db().available().map(|name| name.to_string()).collect()
    }

    /// A second as a clock of this zone shows it, with its offset.
    pub fn show(&self, second: i64) -> String {
        let at = timestamp(second);
        at.display_with_offset(self.zone.to_offset(at)).to_string()
    }

    /// The window of a period in which a second lies.
    pub fn window(&self, period: Period, second: i64) -> Window {
        let found = match period {
            Period::Hour => Some(self.hour(second)),
            Period::Day => self.dates(second, |date| date, 1.day()),
            Period::Month => self.dates(second, Date::first_of_month, 1.month()),
        };
        // Beyond the calendar, which ends with the year 9999, hours go on.
        let found = found.filter(|window| window.contains(second));
        found.unwrap_or_else(|| {
            let start = second - second.rem_euclid(HOUR);
            Window { start, end: start.saturating_add(HOUR) }
        })
    }

    /// An hour of the clock, cut where the clock is put forward or back: what comes before and
    /// after that has another offset, and is another window.
    fn hour(&self, second: i64) -> Window {
        let at = timestamp(second);
        let offset = self.zone.to_offset(at).seconds();
        let into = (second + i64::from(offset)).rem_euclid(HOUR);
        let mut window = Window { start: second - into, end: second - into + HOUR };
        // `preceding` gives what lies strictly before.
        for change in self.zone.preceding(timestamp(second + 1)) {
            let from = change.timestamp().as_second();
            if from <= window.start {
                break;
            }
            if self.zone.to_offset(timestamp(from - 1)).seconds() != offset {
                window.start = from;
                break;
            }
        }
        for change in self.zone.following(at) {
            let from = change.timestamp().as_second();
            if from >= window.end {
                break;
            }
            if change.offset().seconds() != offset {
                window.end = from;
                break;
            }
        }
        window
    }

    /// A window that begins with a date and ends with the one a step later.
    ///
    /// A date begins once: with its first midnight where the clocks repeat it, and after the gap
    /// where they leave it out. So when they go back over midnight, the window of the new date has
    /// begun for good, whatever the clock shows; and a date that was omitted altogether, as some
    /// islands have done, is no window.
    fn dates(&self, second: i64, first: fn(Date) -> Date, step: Span) -> Option<Window> {
        let mut date = first(self.zone.to_datetime(timestamp(second)).date());
        let mut start = self.begin(date)?;
        while start > second {
            date = date.checked_sub(step).ok()?;
            start = self.begin(date)?;
        }
        loop {
            date = date.checked_add(step).ok()?;
            let end = self.begin(date)?;
            if end > second {
                return Some(Window { start, end });
            }
            start = end;
        }
    }

    fn begin(&self, date: Date) -> Option<i64> {
        Some(date.to_zoned_datetime(self.zone.clone()).ok()?.timestamp().as_second())
    }
}

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Self { name: "UTC".into(), zone: TimeZone::UTC }
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)
    }
}

fn timestamp(second: i64) -> Timestamp {
    let latest = if second < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(second).unwrap_or(latest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIODS: [Period; 3] = [Period::Hour, Period::Day, Period::Month];

    /// Half hours, three quarters, changes at midnight, changes by half an hour, dates omitted.
    const ZONES: [&str; 16] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",
        "America/Sao_Paulo",
        "America/Havana",
        "America/Asuncion",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Asia/Tehran",
        "Asia/Beirut",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Pacific/Apia",
        "Pacific/Chatham",
        "Antarctica/Troll",
    ];

    fn second(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    fn shown(zone: &str, period: Period, at: &str) -> (String, String, u64) {
        let zone = Zone::new(zone).unwrap();
        let window = zone.window(period, second(at));
        (zone.show(window.start), zone.show(window.end), window.seconds())
    }

    #[test]
    fn windows_are_those_of_the_zones_calendar() {
        for (zone, period, at, start, end, hours) in [
            (
                "UTC",
                Period::Month,
                "2026-02-28T23:59:59Z",
                "2026-02-01T00:00:00+00:00",
                "2026-03-01T00:00:00+00:00",
                28.0 * 24.0,
            ),
            (
                "UTC",
                Period::Month,
                "2028-02-29T12:00:00Z",
                "2028-02-01T00:00:00+00:00",
                "2028-03-01T00:00:00+00:00",
                29.0 * 24.0,
            ),
            // The year begins in Berlin while it is still December in UTC.
            (
                "Europe/Berlin",
                Period::Month,
                "2026-12-31T23:30:00Z",
                "2027-01-01T00:00:00+01:00",
                "2027-02-01T00:00:00+01:00",
                31.0 * 24.0,
            ),
            // A month in which the clocks go forward lacks an hour.
            (
                "Europe/Berlin",
                Period::Month,
                "2026-03-10T00:00:00Z",
                "2026-03-01T00:00:00+01:00",
                "2026-04-01T00:00:00+02:00",
                31.0 * 24.0 - 1.0,
            ),
            (
                "Europe/Berlin",
                Period::Day,
                "2026-03-29T12:00:00Z",
                "2026-03-29T00:00:00+01:00",
                "2026-03-30T00:00:00+02:00",
                23.0,
            ),
            (
                "Europe/Berlin",
                Period::Day,
                "2026-10-25T12:00:00Z",
                "2026-10-25T00:00:00+02:00",
                "2026-10-26T00:00:00+01:00",
                25.0,
            ),
            // The hour from two to three comes twice.
            (
                "Europe/Berlin",
                Period::Hour,
                "2026-10-25T00:30:00Z",
                "2026-10-25T02:00:00+02:00",
                "2026-10-25T02:00:00+01:00",
                1.0,
            ),
            (
                "Europe/Berlin",
                Period::Hour,
                "2026-10-25T01:30:00Z",
                "2026-10-25T02:00:00+01:00",
                "2026-10-25T03:00:00+01:00",
                1.0,
            ),
            (
                "Asia/Kolkata",
                Period::Hour,
                "2026-07-01T10:00:00Z",
                "2026-07-01T15:00:00+05:30",
                "2026-07-01T16:00:00+05:30",
                1.0,
            ),
            // The clocks go back by half an hour: from two to half past one.
            (
                "Australia/Lord_Howe",
                Period::Hour,
                "2026-04-04T15:15:00Z",
                "2026-04-05T01:30:00+10:30",
                "2026-04-05T02:00:00+10:30",
                0.5,
            ),
            // Midnight is omitted: the day begins at one.
            (
                "Asia/Beirut",
                Period::Day,
                "2026-03-29T12:00:00Z",
                "2026-03-29T01:00:00+03:00",
                "2026-03-30T00:00:00+03:00",
                23.0,
            ),
            // From midnight back to eleven: the old day goes on.
            (
                "America/Sao_Paulo",
                Period::Day,
                "2018-02-18T02:30:00Z",
                "2018-02-17T00:00:00-02:00",
                "2018-02-18T00:00:00-03:00",
                25.0,
            ),
            // From a minute past midnight back to eleven: the new day has begun for good.
            (
                "America/St_Johns",
                Period::Day,
                "2006-10-29T02:40:00Z",
                "2006-10-29T00:00:00-02:30",
                "2006-10-30T00:00:00-03:30",
                25.0,
            ),
            // The island went to the other side of the date line: there was no 30 December.
            (
                "Pacific/Apia",
                Period::Day,
                "2011-12-30T09:59:59Z",
                "2011-12-29T00:00:00-10:00",
                "2011-12-31T00:00:00+14:00",
                24.0,
            ),
        ] {
            let expected = (start.to_owned(), end.to_owned(), (hours * 3600.0) as u64);
            assert_eq!(shown(zone, period, at), expected, "{zone} {period:?} {at}");
        }
    }

    #[test]
    fn what_lies_beyond_the_calendar_has_a_window_as_well() {
        for at in [i64::MAX / 2, 253_402_300_000, -400_000_000_000] {
            for period in PERIODS {
                assert!(Zone::default().window(period, at).contains(at), "{period:?} {at}");
            }
        }
    }

    #[test]
    fn the_database_is_built_in() {
        assert!(Zone::names().len() > 400);
        assert_eq!(Zone::new("europe/berlin").unwrap().name(), "Europe/Berlin");
        assert_eq!(Zone::new("Europe/Berlim"), Err(UnknownZoneError));
    }

    /// Instants of more than a century, and many next to a change of the clocks.
    fn any_instant() -> impl Strategy<Value = (Zone, i64)> {
        let zone = prop::sample::select(&ZONES[..]).prop_map(|name| Zone::new(name).unwrap());
        (zone, -1_000_000_000_i64..4_000_000_000, any::<bool>(), -90_000_i64..90_000).prop_map(
            |(zone, at, near, off)| {
                let change = zone.zone.following(timestamp(at)).next();
                let near = near.then_some(change).flatten();
                let at = near.map_or(at, |change| change.timestamp().as_second() + off);
                (zone, at)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn every_instant_lies_in_exactly_one_window((zone, at) in any_instant()) {
            for period in PERIODS {
                let window = zone.window(period, at);
                prop_assert!(window.start < window.end && window.contains(at));
                // Whoever else lies in it has the same; so do its first and last second.
                for other in [window.start, (window.start + at) / 2, window.end - 1] {
                    prop_assert_eq!(zone.window(period, other), window);
                }
                prop_assert_eq!(window.left(at), window.end.abs_diff(at));
                prop_assert!(window.left(at) >= 1 && window.left(window.end) == 0);
            }
        }

        #[test]
        fn windows_tile_the_time_line((zone, at) in any_instant()) {
            for period in PERIODS {
                let mut window = zone.window(period, at);
                for _ in 0..4 {
                    let next = zone.window(period, window.end);
                    prop_assert_eq!(next.start, window.end);
                    prop_assert_eq!(zone.window(period, window.start - 1).end, window.start);
                    window = next;
                }
            }
        }

        #[test]
        fn a_window_is_as_long_as_the_clocks_make_it((zone, at) in any_instant()) {
            let hours = |period| zone.window(period, at).seconds() as f64 / 3600.0;
            prop_assert!(hours(Period::Hour) <= 1.0);
            // A change is by three hours at most, but for the islands that left a date out.
            prop_assert!((20.0..=28.0).contains(&hours(Period::Day)) || zone.name() == "Pacific/Apia");
            let month = hours(Period::Month) / 24.0;
            prop_assert!((27.0..=31.2).contains(&month), "{}", month);
        }

        #[test]
        fn a_window_begins_and_ends_with_its_date((zone, at) in any_instant()) {
            let date = |at| zone.zone.to_datetime(timestamp(at)).date();
            let day = zone.window(Period::Day, at);
            prop_assert!(date(day.start - 1) < date(day.start));
            let month = zone.window(Period::Month, at);
            prop_assert_eq!(date(month.start), date(month.start).first_of_month());
            prop_assert!(date(month.start - 1) < date(month.start));
        }
    }
}
