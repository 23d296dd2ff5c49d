//! `check --ending`: what ends within a time, and what has ended.

use std::io::{self, Write};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::expiry::{self, Expiry};

/// What ends soon, of all that ends.
pub(super) struct EndingSoon {
    now: Timestamp,
    within: Duration,
    soon: Vec<Expiry>,
    /// How many things end at all.
    all: usize,
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

impl EndingSoon {
    pub(super) fn of(all: Vec<Expiry>, within: Duration, now: Timestamp) -> Self {
        // Beyond the last time that there is, everything ends.
        let last = now.checked_add(within).unwrap_or(Timestamp::MAX);
        let count = all.len();
        let mut soon: Vec<Expiry> = all.into_iter().filter(|one| one.at <= last).collect();
        expiry::sort(&mut soon, now);
        Self { now, within, soon, all: count }
    }

    pub(super) const fn has_any(&self) -> bool {
        !self.soon.is_empty()
    }

    pub(super) fn json(&self) -> Value {
        let one = |one: &Expiry| {
            let seconds = one.at.as_second() - self.now.as_second();
            json!({ "kind": one.kind.as_str(), "name": one.name(), "ends": one.at.to_string(),
                "ended": one.is_over(self.now), "seconds": seconds })
        };
        self.soon.iter().map(one).collect()
    }

    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for one in &self.soon {
            let seconds = one.at.as_second() - self.now.as_second();
            let when = if one.is_over(self.now) {
                format!("ended {} ago", length(-seconds))
            } else {
                format!("ends in {}", length(seconds))
            };
            writeln!(out, "ending: {} `{}` {when}, {}", one.kind, one.name(), one.at)?;
        }
        Ok(())
    }

    /// What the last line says of it.
    pub(super) fn summary(&self) -> String {
        let within = length(i64::try_from(self.within.as_secs()).unwrap_or(i64::MAX));
        match (self.all, self.soon.len()) {
            (0, _) => "; nothing in it ends".to_owned(),
            (all, 0) => format!("; none of the {all} that end does so within {within}"),
            (all, soon) => format!("; {soon} of the {all} that end do so within {within}"),
        }
    }
}

/// A time in its largest unit, rounded down.
fn length(seconds: i64) -> String {
    let (count, unit) = match seconds {
        DAY.. => (seconds / DAY, "day"),
        HOUR.. => (seconds / HOUR, "hour"),
        MINUTE.. => (seconds / MINUTE, "minute"),
        _ => (seconds, "second"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_its_largest_unit() {
        for (seconds, said) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (3 * MINUTE + 5, "3 minutes"),
            (HOUR, "1 hour"),
            (2 * DAY - 1, "1 day"),
            (14 * DAY, "14 days"),
        ] {
            assert_eq!(length(seconds), said);
        }
    }
}
