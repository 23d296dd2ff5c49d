//! Each minute of the clock: what happened in it is remembered for the hour, and someone who
//! watches a terminal is told in a line.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::cli::figure::{grouped, rounded};
use crate::clock::now_ms;
use crate::overview::MinuteTraffic;
use crate::telemetry::Metrics;

/// A minute, in milliseconds.
const MINUTE_MS: u64 = 60_000;

/// Waits for the minutes of the clock.
pub(super) struct Minutes {
    next: Instant,
    /// Somebody is told.
    says: bool,
    /// The last minute was one without requests, and that was said.
    is_quiet: bool,
}

impl Minutes {
    pub(super) fn new(says: bool) -> Self {
        Self { next: next_minute(now_ms()), says, is_quiet: false }
    }

    /// Waits until the minute is over.
    pub(super) async fn next(&self) {
        sleep_until(self.next).await;
    }

    /// The minute is over.
    pub(super) fn end(&mut self, metrics: &Metrics) {
        let now_ms = now_ms();
        self.next = next_minute(now_ms);
        let minute = metrics.overview.end_minute(now_ms, metrics.totals());
        let was_quiet = std::mem::replace(&mut self.is_quiet, minute.requests == 0);
        if self.says && !(was_quiet && self.is_quiet) {
            tracing::info!("{}", line(&minute));
        }
    }
}

/// When the next minute begins: not the one that is about to, since a clock may be a little behind
/// a timer.
fn next_minute(now_ms: u64) -> Instant {
    let left = MINUTE_MS - now_ms % MINUTE_MS;
    let left = if left < 1_000 { left + MINUTE_MS } else { left };
    Instant::now() + Duration::from_millis(left)
}

/// `12,030 requests, 3 refused, p99 4 ms`.
fn line(minute: &MinuteTraffic) -> String {
    let MinuteTraffic { requests, refused, gone, failures, whole, .. } = minute;
    let mut line = match requests {
        0 => "no requests".to_owned(),
        1 => "1 request".to_owned(),
        _ => format!("{} requests", grouped(*requests)),
    };
    let failed = failures.values().sum::<u64>().saturating_sub(*refused);
    for (count, what) in [(*refused, "refused"), (failed, "failed"), (*gone, "gone")] {
        if count > 0 {
            // Writing to a String cannot fail.
            _ = write!(line, ", {} {what}", grouped(count));
        }
    }
    if let Some(p99) = whole.p99_ms {
        _ = write!(line, ", p99 {} ms", rounded(p99));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::Latency;

    fn minute(requests: u64, refused: u64, failed: u64, p99_ms: Option<f64>) -> MinuteTraffic {
        let latency = Latency { p50_ms: None, p99_ms };
        MinuteTraffic {
            start: String::new(),
            requests,
            answered: requests - refused - failed,
            gone: 0,
            failures: [("forbidden", refused), ("internal", failed)].into(),
            refused,
            whole: latency,
            service: latency,
            gateway: latency,
            in_flight: 0,
        }
    }

    #[test]
    fn a_minute_is_said_in_a_line() {
        for (of, said) in [
            (minute(12_030, 3, 0, Some(4.0)), "12,030 requests, 3 refused, p99 4 ms"),
            (minute(1, 0, 0, Some(0.486)), "1 request, p99 0.49 ms"),
            (
                minute(1_234_567, 0, 1_000, Some(1_234.5)),
                "1,234,567 requests, 1,000 failed, p99 1234 ms",
            ),
            (minute(999, 1, 1, Some(2.345)), "999 requests, 1 refused, 1 failed, p99 2.3 ms"),
            (minute(0, 0, 0, None), "no requests"),
        ] {
            assert_eq!(line(&of), said);
        }
    }

    #[test]
    fn the_next_minute_is_never_the_one_that_is_about_to_begin() {
        for (now_ms, least, most) in
            [(0, 59_000, 60_000), (30_000, 29_000, 30_000), (59_999, 60_000, 60_001)]
        {
            let wait = next_minute(now_ms).duration_since(Instant::now());
            let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
            assert!(wait >= least && wait <= most, "{now_ms}: {wait:?}");
        }
    }
}
