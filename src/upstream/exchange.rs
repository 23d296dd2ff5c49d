//! What is to be done after each attempt of a call: the state of it, and a decision that reads no
//! clock, throws no dice and knows no connection.

use tokio::time::Instant;

use super::connection::deadline::Deadlines;
use super::connection::shared::ConnectionChoice;
use super::report::AttemptReport;
use super::request::call::{Call, CallProgress};
use super::resilience::retry::{
    Retries, RetryBudget, RetryDecision, RetryReason, RetrySettings, TimeAllowed,
};
use super::settings::Timeouts;
use crate::api::Pace;
use crate::failure::Failure;

/// A call on its way, between two attempts.
pub(super) struct Exchange {
    /// When the call began.
    pub(super) begun: Instant,
    /// When its present attempt did.
    pub(super) attempt_begun: Instant,
    /// On which connection the next attempt is made.
    pub(super) wanted: ConnectionChoice,
    /// Doing it twice does the same as doing it once.
    pub(super) idempotent: bool,
    timeouts: Timeouts,
    time: TimeAllowed,
    pub(super) retries: Retries,
}

/// What came of an attempt, as far as it matters for what comes next.
pub(super) struct AttemptSummary<'a> {
    pub(super) report: &'a AttemptReport,
    pub(super) failure: Option<&'a Failure>,
    /// The body can be sent again: all of it, or all that was sent of it, is kept.
    pub(super) is_replayable: bool,
    /// The service does not take the token that the gateway has put in.
    pub(super) token_refused: bool,
    pub(super) over: Instant,
}

/// What a further attempt depends on besides.
pub(super) struct Conditions<'a> {
    pub(super) settings: &'a RetrySettings,
    pub(super) budget: &'a RetryBudget,
    /// The process is about to stop.
    pub(super) draining: bool,
    /// The caller has ended its side.
    pub(super) half_closed: bool,
    /// Gives numbers from 0 to 1.
    pub(super) random: fn() -> f64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// What came of it is the caller's.
    Done,
    /// The same, though it would be retried if the budget for that were not used up.
    Denied,
    /// Send it at once on a new connection: the one that was kept had been closed.
    Reconnect,
    /// Send it at once with the next token, if there is one.
    NextToken,
    /// Send it once more at that time.
    RetryAt(RetryReason, Instant),
}

impl Exchange {
    /// A call that has begun then and was sent so often, of which an attempt begins now.
    pub(super) fn new(
        call: &Call<'_>,
        timeouts: Timeouts,
        CallProgress { begun, retries }: CallProgress,
        now: Instant,
    ) -> Self {
        let (first_byte, total) = match call.operation.pace {
            Pace::Quick => (timeouts.first_byte, timeouts.total),
            Pace::Slow => (timeouts.first_byte_slow, timeouts.total_slow),
        };
        Self {
            begun,
            attempt_begun: now,
            wanted: ConnectionChoice::Any,
            idempotent: call.operation.idempotent,
            timeouts,
            time: TimeAllowed { end: begun + total, first_byte, total },
            retries,
        }
    }

    /// How far the call got.
    pub(super) const fn progress(&self) -> CallProgress {
        CallProgress { begun: self.begun, retries: self.retries }
    }

    /// The deadlines of the present attempt.
    pub(super) fn deadlines(&self) -> Deadlines {
        let TimeAllowed { end, first_byte, .. } = self.time;
        let head = end.min(self.attempt_begun + first_byte);
        Deadlines { head, between: self.timeouts.between_bytes, end }
    }

    /// Decides what comes after an attempt.
    pub(super) fn next(
        &mut self,
        attempted: &AttemptSummary<'_>,
        conditions: &Conditions<'_>,
    ) -> Action {
        let AttemptSummary { report, over, is_replayable, .. } = *attempted;
        if conditions.half_closed {
            // What the service did nothing of goes on, for as long as one attempt would have.
            self.time.end = self.time.end.min(self.begun + self.time.first_byte);
        }
        // Only what may be sent twice is sent again (RFC 9112 §9.3.1).
        let twice = self.idempotent && !conditions.half_closed;
        // Once: that costs no budget, and each further connection that ends is one more failure.
        let again = report.untouched || (twice && !self.retries.reconnected);
        if report.stale && is_replayable && again {
            self.retries.reconnected |= !report.untouched;
            (self.wanted, self.attempt_begun) = (ConnectionChoice::NewerThan(over), over);
            return Action::Reconnect;
        }
        if attempted.token_refused && is_replayable {
            (self.wanted, self.attempt_begun) = (ConnectionChoice::Any, over);
            return Action::NextToken;
        }
        let Some(failure) = attempted.failure else { return Action::Done };
        if !is_replayable || conditions.draining || conditions.half_closed {
            return Action::Done;
        }
        let tried = (report, self.idempotent);
        let (budget, random) = ((conditions.settings, conditions.budget), (conditions.random)());
        match self.retries.judge(failure, tried, (over, &self.time), budget, random) {
            RetryDecision::Final => Action::Done,
            RetryDecision::Denied => Action::Denied,
            RetryDecision::Again(reason, at) => {
                // What was kept may be dead, all of it: no second attempt is made on such a one.
                let dead = matches!(reason, RetryReason::Broken | RetryReason::Timeout);
                self.wanted =
                    if dead { ConnectionChoice::NewerThan(over) } else { ConnectionChoice::Any };
                Action::RetryAt(reason, at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::rc::Rc;
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;
    use crate::api::{OperationId, Priority, TABLE};
    use crate::failure::{Code, ProxyError};
    use crate::upstream::request::authority::Authority;
    use crate::upstream::request::body::RequestBody;

    const SETTINGS: RetrySettings = RetrySettings {
        attempts: 3,
        budget_percent: 20,
        backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
    };

    /// What allows a call, and goes on to.
    struct Always;

    impl Authority for Always {
        fn check(&self) -> Result<(), Failure> {
            Ok(())
        }

        fn is_half_closed(&self) -> bool {
            false
        }

        fn keep(&self) -> Rc<dyn Authority> {
            Rc::new(Self)
        }
    }

    fn exchange(operation: &str) -> Exchange {
        let now = Instant::now();
        begun_at(operation, now, now)
    }

    fn begun_at(operation: &str, begun: Instant, now: Instant) -> Exchange {
        let region = HeaderValue::from_static("us-sv");
        let call = Call {
            operation: TABLE.iter().find(|row| row.name == operation).unwrap(),
            authority: &Always,
            operation_id: OperationId::of_test(0),
            caller: 1,
            priority: Priority::default(),
            path: Cow::Borrowed("/v5/rooms"),
            query: None,
            region: &region,
            body: RequestBody::Whole(Bytes::from_static(b"{}")),
            content_type: None,
            content_encoding: None,
            via: None,
            http2: false,
            progress: None,
        };
        Exchange::new(
            &call,
            Timeouts::default(),
            CallProgress { begun, retries: Retries::default() },
            now,
        )
    }

    fn failed(error: ProxyError) -> Failure {
        let code = match error {
            ProxyError::ResponseTimeout => Code::UpstreamTimeout,
            _ => Code::UpstreamError,
        };
        Failure::fixed(code, "x").with_proxy_error(error)
    }

    /// What comes after an attempt that ended so, in a word.
    fn next(
        exchange: &mut Exchange,
        report: AttemptReport,
        failure: Option<&Failure>,
        token_refused: bool,
        budget: &RetryBudget,
    ) -> &'static str {
        let over = exchange.begun;
        let attempted =
            AttemptSummary { report: &report, failure, is_replayable: true, token_refused, over };
        told(exchange, &attempted, &calm(budget))
    }

    /// A process and a caller that go on.
    fn calm(budget: &RetryBudget) -> Conditions<'_> {
        let random = || 1.0;
        Conditions { settings: &SETTINGS, budget, draining: false, half_closed: false, random }
    }

    fn told(
        exchange: &mut Exchange,
        attempted: &AttemptSummary<'_>,
        conditions: &Conditions<'_>,
    ) -> &'static str {
        match exchange.next(attempted, conditions) {
            Action::Done => "done",
            Action::Denied => "denied",
            Action::Reconnect => "reconnect",
            Action::NextToken => "next token",
            Action::RetryAt(..) => "retry",
        }
    }

    const STALE: AttemptReport = AttemptReport {
        stale: true,
        sent: 1,
        untouched: false,
        reused: true,
        secondhand: false,
        connects: 0,
        connects_failed: 0,
    };
    const UNTOUCHED: AttemptReport = AttemptReport { untouched: true, sent: 0, ..STALE };
    const SENT: AttemptReport = AttemptReport { stale: false, ..STALE };
    const UNSENT: AttemptReport =
        AttemptReport { stale: false, sent: 0, connects_failed: 1, ..STALE };

    #[test]
    fn what_begins_again_has_the_time_that_is_left() {
        let (begun, later) = (Instant::now(), Duration::from_secs(9));
        let Deadlines { head, end, .. } = begun_at("rooms.get", begun, begun + later).deadlines();
        assert_eq!(end, begun + Timeouts::default().total);
        assert_eq!(head, end, "there is less than the head of an answer may take");
        let Deadlines { head, .. } = exchange("rooms.get").deadlines();
        assert!(head < begun + later + Timeouts::default().first_byte);
    }

    #[test]
    fn what_comes_next_follows_from_what_came_of_the_attempt() {
        let closed = || Some(failed(ProxyError::ConnectionTerminated));
        let refused = || Some(failed(ProxyError::ConnectionRefused));
        let late = || Some(failed(ProxyError::ResponseTimeout));
        let credential = || Some(Failure::fixed(Code::UpstreamCredential, "x"));
        let (get, create) = ("rooms.get", "rooms.create");
        for (operation, report, failure, token_refused, expected) in [
            (get, SENT, None, false, "done"),
            (create, SENT, None, false, "done"),
            (get, STALE, closed(), false, "reconnect"),
            (create, STALE, closed(), false, "done"),
            (create, UNTOUCHED, closed(), false, "reconnect"),
            (get, SENT, credential(), true, "next token"),
            (create, SENT, credential(), true, "next token"),
            (get, SENT, credential(), false, "done"),
            (get, SENT, closed(), false, "retry"),
            (create, SENT, closed(), false, "done"),
            (get, SENT, late(), false, "retry"),
            (create, SENT, late(), false, "done"),
            (create, UNSENT, refused(), false, "retry"),
        ] {
            let (mut one, budget) = (exchange(operation), RetryBudget::default());
            let told = next(&mut one, report, failure.as_ref(), token_refused, &budget);
            assert_eq!(told, expected, "{operation} {report:?} {failure:?} {token_refused}");
        }
    }

    #[test]
    fn a_kept_connection_that_was_closed_costs_no_try_again_once() {
        let closed = failed(ProxyError::ConnectionTerminated);
        let (mut one, budget) = (exchange("rooms.get"), RetryBudget::default());
        let mut told = |report| next(&mut one, report, Some(&closed), false, &budget);
        assert_eq!(told(STALE), "reconnect");
        assert_eq!(told(UNTOUCHED), "reconnect", "the service did nothing of it");
        assert_eq!([told(STALE), told(STALE), told(STALE)], ["retry", "retry", "done"]);
    }

    #[test]
    fn after_a_timeout_or_a_break_the_next_attempt_is_made_on_a_new_connection() {
        let busy = Failure::from_upstream(
            Code::UpstreamError,
            http::StatusCode::SERVICE_UNAVAILABLE,
            serde_json::Map::new(),
            "x",
        );
        for (failure, report, new) in [
            (failed(ProxyError::ResponseTimeout), SENT, true),
            (failed(ProxyError::ConnectionTerminated), SENT, true),
            (failed(ProxyError::ConnectionTerminated), STALE, true),
            (busy, SENT, false),
        ] {
            let (mut one, budget) = (exchange("rooms.get"), RetryBudget::default());
            next(&mut one, report, Some(&failure), false, &budget);
            let wanted =
                if new { ConnectionChoice::NewerThan(one.begun) } else { ConnectionChoice::Any };
            assert_eq!(one.wanted, wanted, "{failure:?} {report:?}");
        }
    }

    #[test]
    fn a_body_of_which_something_is_gone_is_not_sent_again() {
        let closed = failed(ProxyError::ConnectionTerminated);
        for (report, token_refused) in [(STALE, false), (SENT, true), (SENT, false)] {
            let (mut one, budget) = (exchange("rooms.get"), RetryBudget::default());
            let (report, failure, over) = (&report, Some(&closed), one.begun);
            let attempted =
                AttemptSummary { report, failure, is_replayable: false, token_refused, over };
            assert_eq!(told(&mut one, &attempted, &calm(&budget)), "done", "{report:?}");
        }
    }

    #[test]
    fn nothing_is_retried_while_the_process_stops() {
        let (mut one, budget) = (exchange("rooms.get"), RetryBudget::default());
        let failure = failed(ProxyError::ConnectionRefused);
        let attempted = AttemptSummary {
            report: &UNSENT,
            failure: Some(&failure),
            is_replayable: true,
            token_refused: false,
            over: one.begun,
        };
        let conditions = Conditions { draining: true, ..calm(&budget) };
        assert_eq!(one.next(&attempted, &conditions), Action::Done);
    }

    #[test]
    fn for_a_caller_that_has_ended_its_side_nothing_is_sent_again_that_may_have_been_begun() {
        let closed = failed(ProxyError::ConnectionTerminated);
        let refused = failed(ProxyError::ConnectionRefused);
        for (report, failure, token_refused, expected) in [
            (SENT, Some(&closed), false, "done"),
            (STALE, Some(&closed), false, "done"),
            (UNSENT, Some(&refused), false, "done"),
            (UNTOUCHED, Some(&closed), false, "reconnect"),
            (SENT, None, true, "next token"),
        ] {
            let (mut one, budget) = (exchange("rooms.get"), RetryBudget::default());
            let over = one.begun + Duration::from_secs(2);
            let attempted = AttemptSummary {
                report: &report,
                failure,
                is_replayable: true,
                token_refused,
                over,
            };
            let conditions = Conditions { half_closed: true, ..calm(&budget) };
            assert_eq!(told(&mut one, &attempted, &conditions), expected, "{report:?}");
            let Deadlines { head, end, .. } = one.deadlines();
            let first_byte = one.begun + Timeouts::default().first_byte;
            assert_eq!((head, end), (first_byte, first_byte), "it is waited for no longer");
        }
    }

    #[test]
    fn a_call_is_sent_as_often_as_may_be_and_no_more() {
        let (mut one, budget) = (exchange("rooms.get"), RetryBudget::default());
        let failure = failed(ProxyError::ConnectionRefused);
        let mut told = || next(&mut one, UNSENT, Some(&failure), false, &budget);
        assert_eq!([told(), told(), told()], ["retry", "retry", "done"]);
    }
}
