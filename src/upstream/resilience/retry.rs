//! When a request is retried: only where it cannot happen twice, while there is time and
//! the budget lasts.
//!
//! Decides and waits for nothing itself. A kept connection that turned out to be closed is not its
//! matter: that costs no budget, and no one is to notice it.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::failure::{Code, Failure, ProxyError};
use crate::upstream::report::AttemptReport;

/// How often, how soon and at whose cost, from the `[upstream.retry]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// How often a request is sent at most.
    pub attempts: u8,
    /// How many retries there may be for a hundred requests.
    pub budget_percent: u8,
    /// How long the first retry waits; each further one waits twice as long.
    pub backoff: Duration,
    /// The longest of these waits.
    pub max_backoff: Duration,
}

#[cfg(test)]
impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 3,
            budget_percent: 20,
            backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(1),
        }
    }
}

/// Why a request is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// There was no connection, so not a byte was sent.
    Connect,
    /// It was sent over HTTP/2, and the upstream says that it did nothing of it.
    Refused,
    /// The connection broke before the answer was whole.
    Broken,
    /// The answer did not come in time.
    Timeout,
    /// The upstream, or what stands before it, answered 502, 503 or 504.
    Status,
}

impl RetryReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every reason, in the order of the counters.
    pub const ALL: [Self; 5] =
        [Self::Connect, Self::Refused, Self::Broken, Self::Timeout, Self::Status];

    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::Status => "status",
        }
    }

    /// The reason to repeat a request, if what became of it is one. Where the upstream may have
    /// done something of it, only what does the same when done twice is repeated.
    fn of(failure: &Failure, report: &AttemptReport, idempotent: bool) -> Option<Self> {
        if !matches!(failure.code(), Code::UpstreamError | Code::UpstreamTimeout) {
            return None;
        }
        if let Some(status) = failure.upstream_status() {
            return (idempotent && matches!(status.as_u16(), 502..=504)).then_some(Self::Status);
        }
        match failure.proxy_error() {
            ProxyError::ConnectionTerminated if report.untouched => Some(Self::Refused),
            ProxyError::Dns
            | ProxyError::DestinationUnavailable
            | ProxyError::ConnectionRefused
            | ProxyError::ConnectionTimeout
            | ProxyError::TlsProtocol
            | ProxyError::ConnectionTerminated
                if report.sent == 0 =>
            {
                Some(Self::Connect)
            }
            ProxyError::ConnectionTerminated | ProxyError::ResponseIncomplete if idempotent => {
                Some(Self::Broken)
            }
            ProxyError::ResponseTimeout if idempotent => Some(Self::Timeout),
            // A certificate that does not hold, or what is no HTTP, is the same a moment later.
            _ => None,
        }
    }
}

/// What retries may cost: each request pays in a part of one, each retry takes one out.
///
/// A worker has its own, so there is no lock. It starts with a few, so that an upstream that fails
/// at the first request of a quiet day does not fail it.
#[derive(Debug)]
pub(in crate::upstream) struct RetryBudget {
    /// In hundredths of a retry.
    left: Cell<u32>,
}

const ONE: u32 = 100;
const AT_START: u32 = 10 * ONE;
/// As many may be saved: an upstream that closes all its connections at once is survived.
const MOST: u32 = 100 * ONE;

impl Default for RetryBudget {
    fn default() -> Self {
        Self { left: Cell::new(AT_START) }
    }
}

impl RetryBudget {
    /// A request pays in.
    pub(in crate::upstream) fn pay_in(&self, percent: u8) {
        self.left.set((self.left.get() + u32::from(percent)).min(MOST));
    }

    /// Takes one retry, if there is one.
    fn take(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(if left >= ONE { ONE } else { 0 }));
        left >= ONE
    }
}

/// The time that a request has.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct TimeAllowed {
    /// Its end, whatever is tried.
    pub(in crate::upstream) end: Instant,
    /// How long the head of an answer may take.
    pub(in crate::upstream) first_byte: Duration,
    /// How long the whole may take.
    pub(in crate::upstream) total: Duration,
}

impl TimeAllowed {
    /// Whether a try that begins then has a chance: as long for the head of its answer as the one
    /// before, or half of the total where that is less.
    fn is_enough(&self, begin: Instant) -> bool {
        begin + self.first_byte.min(self.total / 2) <= self.end
    }
}

/// How often one request was retried.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::upstream) struct Retries {
    again: u8,
    /// It may have come to the service already on a connection that was closed at the moment of use.
    pub(in crate::upstream) reconnected: bool,
}

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum RetryDecision {
    /// It is the caller's.
    Final,
    /// It would be repeated, but the budget is used up.
    Denied,
    /// Repeat it at that time.
    Again(RetryReason, Instant),
}

impl Retries {
    /// Decides about a failure that was known at `over`. `random` is from 0 to 1.
    pub(in crate::upstream) fn judge(
        &mut self,
        failure: &Failure,
        (report, idempotent): (&AttemptReport, bool),
        (over, time): (Instant, &TimeAllowed),
        (settings, budget): (&RetrySettings, &RetryBudget),
        random: f64,
    ) -> RetryDecision {
        if self.again + 1 >= settings.attempts {
            return RetryDecision::Final;
        }
        let Some(reason) = RetryReason::of(failure, report, idempotent) else {
            return RetryDecision::Final;
        };
        let asked = failure.retry_after().unwrap_or_default();
        let begin = over + asked.max(settings.wait(self.again, random));
        if !time.is_enough(begin) {
            return RetryDecision::Final;
        }
        if !budget.take() {
            return RetryDecision::Denied;
        }
        self.again += 1;
        RetryDecision::Again(reason, begin)
    }
}

impl RetrySettings {
    /// Twice as long each time, and between a half and the whole of it: requests that failed
    /// together must not come back together.
    fn wait(&self, again: u8, random: f64) -> Duration {
        let whole = self.backoff.saturating_mul(1 << again.min(16)).min(self.max_backoff);
        whole.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    const SETTINGS: RetrySettings = RetrySettings {
        attempts: 3,
        budget_percent: 20,
        backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
    };

    fn of_status(status: u16) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        Failure::from_upstream(Code::UpstreamError, status, serde_json::Map::new(), "x")
    }

    fn of_proxy(error: ProxyError) -> Failure {
        let code = match error {
            ProxyError::ResponseTimeout | ProxyError::ConnectionTimeout => Code::UpstreamTimeout,
            _ => Code::UpstreamError,
        };
        Failure::fixed(code, "x").with_proxy_error(error)
    }

    fn report(sent: bool) -> AttemptReport {
        AttemptReport { sent: u8::from(sent), ..AttemptReport::default() }
    }

    fn time(now: Instant) -> TimeAllowed {
        let total = Duration::from_secs(15);
        TimeAllowed { end: now + total, first_byte: Duration::from_secs(10), total }
    }

    /// The verdict on the first try of a request that began `ago` and failed now.
    fn verdict(failure: &Failure, sent: bool, idempotent: bool, ago: u64) -> RetryDecision {
        let now = Instant::now();
        let begun = now.checked_sub(Duration::from_secs(ago)).unwrap();
        let purse = (&SETTINGS, &RetryBudget::default());
        let tried = (&report(sent), idempotent);
        Retries::default().judge(failure, tried, (now, &time(begun)), purse, 1.0)
    }

    #[test]
    fn what_may_have_arrived_is_repeated_only_where_it_does_the_same_twice() {
        use RetryReason::{Broken, Connect, Status, Timeout};
        for (failure, sent, idempotent, expected) in [
            (of_proxy(ProxyError::ConnectionRefused), false, false, Some(Connect)),
            (of_proxy(ProxyError::ConnectionTimeout), false, false, Some(Connect)),
            (of_proxy(ProxyError::Dns), false, true, Some(Connect)),
            (of_proxy(ProxyError::TlsCertificate), false, true, None),
            (of_proxy(ProxyError::ConnectionTerminated), true, true, Some(Broken)),
            (of_proxy(ProxyError::ConnectionTerminated), true, false, None),
            (of_proxy(ProxyError::ResponseIncomplete), true, true, Some(Broken)),
            (of_proxy(ProxyError::ResponseIncomplete), true, false, None),
            (of_proxy(ProxyError::ResponseTimeout), true, true, Some(Timeout)),
            (of_proxy(ProxyError::ResponseTimeout), true, false, None),
            (of_proxy(ProxyError::ProtocolError), true, true, None),
            (of_status(502), true, true, Some(Status)),
            (of_status(503), true, true, Some(Status)),
            (of_status(504), true, true, Some(Status)),
            (of_status(503), true, false, None),
            (of_status(500), true, true, None),
            (Failure::fixed(Code::RateLimited, "x"), true, true, None),
            (Failure::fixed(Code::UpstreamCredential, "x"), true, true, None),
            (Failure::fixed(Code::BodyTooLarge, "x"), false, true, None),
        ] {
            let reason = RetryReason::of(&failure, &report(sent), idempotent);
            assert_eq!(reason, expected, "{failure:?} sent {sent} idempotent {idempotent}");
        }
    }

    #[test]
    fn what_the_upstream_did_nothing_of_is_repeated_whatever_it_is() {
        for (error, idempotent, expected) in [
            (ProxyError::ConnectionTerminated, false, Some(RetryReason::Refused)),
            (ProxyError::ConnectionTerminated, true, Some(RetryReason::Refused)),
            (ProxyError::ProtocolError, true, None),
        ] {
            let untouched = AttemptReport { untouched: true, ..AttemptReport::default() };
            let reason = RetryReason::of(&of_proxy(error), &untouched, idempotent);
            assert_eq!(reason, expected, "{error:?}");
        }
    }

    #[test]
    fn a_request_is_tried_three_times_with_longer_waits() {
        let (now, budget) = (Instant::now(), RetryBudget::default());
        let (mut retries, sent, purse) = (Retries::default(), report(true), (&SETTINGS, &budget));
        let mut judge =
            || retries.judge(&of_status(503), (&sent, true), (now, &time(now)), purse, 1.0);
        let at =
            |millis| RetryDecision::Again(RetryReason::Status, now + Duration::from_millis(millis));
        assert_eq!([judge(), judge(), judge()], [at(100), at(200), RetryDecision::Final]);
    }

    #[test]
    fn waits_differ_by_half_and_have_an_end() {
        assert_eq!(SETTINGS.wait(0, 0.0), Duration::from_millis(50));
        assert_eq!(SETTINGS.wait(0, 1.0), Duration::from_millis(100));
        assert_eq!(SETTINGS.wait(2, 1.0), Duration::from_millis(400));
        assert_eq!(SETTINGS.wait(200, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn the_upstreams_own_wait_is_kept_where_there_is_time_for_it() {
        let asks = |seconds| of_status(503).with_retry_after(Duration::from_secs(seconds));
        let RetryDecision::Again(_, at) = verdict(&asks(4), true, true, 0) else {
            panic!("not again")
        };
        let wait = at.duration_since(Instant::now());
        assert!(wait > Duration::from_secs(3) && wait <= Duration::from_secs(4), "{wait:?}");
        // 9 seconds of 15 leave 6: less than half, so another try would come to nothing.
        assert_eq!(verdict(&asks(9), true, true, 0), RetryDecision::Final);
        assert_eq!(verdict(&asks(86_400), true, true, 0), RetryDecision::Final);
    }

    #[test]
    fn a_timeout_is_tried_again_only_where_there_is_time() {
        let late = of_proxy(ProxyError::ResponseTimeout);
        assert_eq!(verdict(&late, true, true, 10), RetryDecision::Final, "10 s of 15 are over");
        assert!(matches!(
            verdict(&late, true, true, 2),
            RetryDecision::Again(RetryReason::Timeout, _)
        ));
    }

    #[test]
    fn a_budget_bounds_tries_again_to_its_share_of_the_requests() {
        let budget = RetryBudget::default();
        let again = |requests: u32| {
            let taken = (0..requests).map(|_| {
                budget.pay_in(20);
                u32::from(budget.take()) + u32::from(budget.take())
            });
            taken.sum::<u32>()
        };
        assert_eq!(again(1_000), 10 + 200, "what it starts with, and a fifth");
        assert_eq!(again(1_000), 200);
    }

    #[test]
    fn a_budget_saves_only_so_much() {
        let budget = RetryBudget::default();
        (0..1_000_000).for_each(|_| budget.pay_in(20));
        assert_eq!((0..1_000).filter(|_| budget.take()).count(), 100);
    }

    #[test]
    fn without_a_budget_the_failure_is_the_callers() {
        let (now, budget) = (Instant::now(), RetryBudget::default());
        while budget.take() {}
        let (sent, purse) = (report(true), (&SETTINGS, &budget));
        let judged =
            Retries::default().judge(&of_status(503), (&sent, true), (now, &time(now)), purse, 0.0);
        assert_eq!(judged, RetryDecision::Denied);
    }
}
