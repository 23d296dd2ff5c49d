//! A call to the upstream: sent until it is answered or there is no use in sending it once more.

use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, sleep_until};

use super::attempt::{Attempt, AttemptResult};
use super::call_trace::CallTrace;
use super::connection::pool::Pool;
use super::connection::service::Upstream;
use super::connection::shared::ConnectionChoice;
use super::exchange::{Action, AttemptSummary, Conditions, Exchange};
use super::report::AttemptReport;
use super::request::call::{Call, CallProgress};
use super::request::outgoing::Outgoing;
use super::resilience::evidence::Evidence;
use super::resilience::in_flight::InFlight;
use super::resilience::retry::{Retries, RetryReason};
use super::response::normalize::{UpstreamResponse, normalize, refuses_token};
use super::response::read::BufferedResponse;
use crate::failure::Failure;
use crate::token::{Credentials, Sent};

/// By what the record knows a call, and what is noted in it on the way to the upstream.
pub struct ForwardRecord<'a> {
    /// The id of the request.
    pub request_id: &'a str,
    /// The trace that it belongs to, where there are traces.
    pub traced: Option<&'a mut CallTrace>,
    /// What happens.
    pub report: &'a mut ForwardReport,
}

/// What happened on the way to the upstream, for the record.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardReport {
    /// From the first attempt until the answer's head or the last failure.
    pub took: Option<Duration>,
    /// The status that the upstream gave.
    pub status: Option<StatusCode>,
    /// How many requests were sent, but for those that the upstream says it did nothing of.
    pub attempts: u8,
    /// How many connections were opened.
    pub connects: u8,
    /// How many could not be opened.
    pub connects_failed: u8,
    /// How often it was retried, by reason.
    pub retried: [u8; RetryReason::COUNT],
    /// It would have been retried, but the budget for that was used up.
    pub retry_denied: bool,
}

/// How an attempt is made.
#[derive(Clone, Copy)]
struct AttemptPlan<'a> {
    pool: &'a Rc<Pool>,
    exchange: &'a Exchange,
    /// The token that is sent, and those that were refused before.
    sent: &'a Sent<'a>,
}

/// What came of one attempt.
struct AttemptOutcome {
    answered: Result<UpstreamResponse, Failure>,
    report: AttemptReport,
    /// What it says about the region.
    evidence: Evidence,
    /// The service took the token.
    accepted: bool,
    token_refused: bool,
    over: Instant,
    in_flight: InFlight,
}

impl Upstream {
    /// Sends a call with the first credential that the upstream takes, and reads what the answer
    /// means.
    ///
    /// # Errors
    /// A [`Failure`]: the upstream's own, normalized, that there was no answer, or
    /// [`Failure::superseded`] where what allows it does not count any more.
    pub async fn forward(
        &self,
        pool: &Rc<Pool>,
        call: &mut Call<'_>,
        credentials: &mut Credentials<'_>,
        record: &mut ForwardRecord<'_>,
    ) -> Result<UpstreamResponse, Failure> {
        let now = Instant::now();
        // Of a request that begins again the time goes on, and what it was sent counts.
        let first = CallProgress { begun: now, retries: Retries::default() };
        let progress = *call.progress.get_or_insert(first);
        let mut exchange = Exchange::new(call, self.settings.timeouts, progress, now);
        // Whoever is refused costs no token.
        let mut in_flight = pool.begin(call, now)?;
        pool.admission.retry_budget.pay_in(self.settings.retry.budget_percent);
        let mut token = credentials.first()?;
        let mut refused = Vec::new();
        loop {
            if in_flight.is_probe() {
                exchange.wanted = ConnectionChoice::NewerThan(exchange.attempt_begun);
            }
            let sent = Sent::new(token.as_ref()).after(&refused);
            let plan = AttemptPlan { pool, exchange: &exchange, sent: &sent };
            let attempt = self.attempt(plan, call, in_flight, record);
            let outcome = attempt.await?;
            if outcome.accepted {
                credentials.accepted();
            }
            let action = exchange.next(&outcome.attempted(call), &self.conditions(pool, call));
            call.progress = Some(exchange.progress());
            match action {
                Action::Done => return outcome.settle(),
                Action::Denied => {
                    record.report.retry_denied = true;
                    return outcome.settle();
                }
                Action::Reconnect => in_flight = outcome.in_flight,
                Action::NextToken => match credentials.another()? {
                    Some(another) => {
                        refused.extend(token.replace(another));
                        in_flight = outcome.in_flight;
                    }
                    None => return outcome.settle(),
                },
                Action::RetryAt(reason, at) => {
                    let answered = outcome.settle();
                    sleep_until(at).await;
                    exchange.attempt_begun = Instant::now();
                    if call.authority.is_half_closed() {
                        return answered;
                    }
                    // By now others may have found that it is of no use, or taken what was free.
                    let Ok(again) = pool.begin(call, exchange.attempt_begun) else {
                        return answered;
                    };
                    in_flight = again;
                    record.report.retried[reason as usize] += 1;
                }
            }
        }
    }

    /// One attempt, and what its answer means.
    async fn attempt(
        &self,
        AttemptPlan { pool, exchange, sent }: AttemptPlan<'_>,
        call: &mut Call<'_>,
        in_flight: InFlight,
        record: &mut ForwardRecord<'_>,
    ) -> Result<AttemptOutcome, Failure> {
        call.authority.check()?;
        let body = call.body.for_attempt();
        let request_id = self.settings.send_request_id.then_some(record.request_id);
        let mut outgoing = Outgoing::new(call, sent.token(), request_id, &self.common)?;
        let begun = exchange.attempt_begun;
        let context = record.traced.as_mut().map(|traced| traced.begin(begun));
        let context = context.filter(|_| self.settings.send_traceparent);
        let traceparent = context.map(|context| context.value());
        outgoing.traceparent = traceparent.as_ref();
        let Exchange { wanted, idempotent, .. } = *exchange;
        let (authority, deadlines) = (call.authority, exchange.deadlines());
        let attempt = Attempt { pool, authority, wanted, idempotent, begun, deadlines };
        let AttemptResult { read, report, mut in_flight } =
            attempt.run(&outgoing, body, in_flight).await;
        let over = Instant::now();
        record.report.add(report, over - exchange.begun);
        let read = read.map(|read| read.without(sent));
        let status = read.as_ref().map(|read| read.head.status);
        if let Some(traced) = &mut record.traced {
            traced.end(status, over);
        }
        let accepted = status.is_ok_and(|status| status.is_success());
        let token_refused = sent.token().is_some() && read.as_ref().is_ok_and(refuses_token);
        record.report.status = status.ok().or(record.report.status);
        let spoken = read.as_ref().is_ok_and(BufferedResponse::has_message);
        let answered =
            read.and_then(|read| normalize(read, call.operation, sent, record.request_id));
        let evidence = Evidence::of(answered.as_ref().err(), &report, spoken);
        if answered.is_ok() {
            in_flight.succeeded(over - begun);
        }
        Ok(AttemptOutcome { answered, report, evidence, accepted, token_refused, over, in_flight })
    }

    /// What a further attempt depends on now.
    fn conditions<'a>(&'a self, pool: &'a Pool, call: &Call<'_>) -> Conditions<'a> {
        Conditions {
            settings: &self.settings.retry,
            budget: &pool.admission.retry_budget,
            draining: pool.draining.get(),
            half_closed: call.authority.is_half_closed(),
            random: fastrand::f64,
        }
    }
}

impl AttemptOutcome {
    fn attempted(&self, call: &Call<'_>) -> AttemptSummary<'_> {
        AttemptSummary {
            report: &self.report,
            failure: self.answered.as_ref().err(),
            is_replayable: call.body.is_replayable(),
            token_refused: self.token_refused,
            over: self.over,
        }
    }

    /// Says what is known of it, and gives up what it held when its answer is over.
    fn settle(self) -> Result<UpstreamResponse, Failure> {
        let Self { mut answered, evidence, over, in_flight, .. } = self;
        match &mut answered {
            Ok(answered) => answered.body_mut().settle(in_flight, evidence, over),
            Err(_) => in_flight.settle(evidence, over),
        }
        answered
    }
}

impl ForwardReport {
    fn add(&mut self, attempt: AttemptReport, took: Duration) {
        self.took = Some(took);
        self.attempts = self.attempts.saturating_add(attempt.sent);
        self.connects = self.connects.saturating_add(attempt.connects);
        self.connects_failed = self.connects_failed.saturating_add(attempt.connects_failed);
    }
}
