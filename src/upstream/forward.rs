//! One request to the upstream: built anew, sent, answered in time or not at all.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue, VIA};
use tokio::time::{Instant, sleep_until};

use super::attempt::{Attempt, Told};
use super::connection::connect::{Connector, TlsSetupError};
use super::connection::deadline::Deadlines;
use super::connection::pool::Pool;
use super::request::call::Call;
use super::request::outgoing::{Common, Outgoing, joined};
use super::resilience::breaker::{BreakerState, Breakers};
use super::resilience::retry::{RetryReason, Time, Tries, Try, Verdict};
use super::response::normalize::{Answered, normalize, refuses_token};
use super::settings::Settings;
use super::traced::Traced;
use crate::api::{Operation, Pace, Region, Regions};
use crate::failure::{Code, Failure};
use crate::token::Credentials;

/// The upstream, as the configuration describes it. Shared by all workers; never changed.
pub struct Upstream {
    pub(super) settings: Settings,
    pub(super) connector: Connector,
    breakers: Arc<Breakers>,
    pub(super) common: Common,
}

/// By what the record knows a request, and what is noted in it on the way to the upstream.
pub struct Notes<'a> {
    /// The id of the request.
    pub request_id: &'a str,
    /// The trace that it belongs to, where there are traces.
    pub traced: Option<&'a mut Traced>,
    /// What happens.
    pub exchange: &'a mut Exchange,
}

/// What happened on the way to the upstream, for the record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange {
    /// From the first try until the answer's head or the last failure.
    pub took: Option<Duration>,
    /// The status that the upstream gave.
    pub status: Option<http::StatusCode>,
    /// How many requests were sent, but for those that the upstream says it did nothing of.
    pub attempts: u8,
    /// How many connections were opened.
    pub connects: u8,
    /// How many could not be opened.
    pub connects_failed: u8,
    /// How often it was sent once more, by reason.
    pub retried: [u8; RetryReason::COUNT],
    /// It would have been sent once more, but the budget for that was used up.
    pub retry_denied: bool,
}

impl Upstream {
    /// Prepares TLS and the headers that never change; what `before` knows of the same origin's
    /// failures is kept.
    ///
    /// # Errors
    /// [`TlsSetupError`].
    pub fn new(
        settings: Settings,
        regions: &Regions,
        before: Option<&Self>,
    ) -> Result<Self, TlsSetupError> {
        let names = regions.iter().map(Region::as_str);
        let known = before.map(|before| &before.breakers);
        let breakers = Breakers::new(settings.breaker, &settings.origin, names, known);
        let connector = Connector::new(&settings)?;
        let common = Common::new(&settings).map_err(|_| TlsSetupError::Name)?;
        Ok(Self { settings, connector, breakers, common })
    }

    /// What it was made of.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Each region, the state of its breaker, and how often that has opened.
    pub fn breakers(&self) -> impl Iterator<Item = (&str, BreakerState, u64)> {
        self.breakers.states(Instant::now())
    }

    /// Refuses a request that has been through here before (RFC 9110 §7.6.3).
    ///
    /// # Errors
    /// `loop_detected`.
    pub fn check_loop(&self, headers: &HeaderMap) -> Result<Option<HeaderValue>, Failure> {
        let mut seen: Option<HeaderValue> = None;
        // Passing over all fields takes less than to look for one.
        for (_, value) in headers.iter().filter(|(name, _)| **name == VIA) {
            // Bytes: a comment may hold any, and must not hide what stands beside it.
            let own = self.settings.via.as_bytes();
            let mut entries = value.as_bytes().split(|byte| *byte == b',');
            if entries.any(|entry| receiver(entry) == Some(own)) {
                let why = "the request has been through this gateway before";
                return Err(Failure::fixed(Code::LoopDetected, why));
            }
            seen = match seen {
                None => Some(value.clone()),
                Some(before) => joined(&before, value),
            };
        }
        Ok(seen)
    }

    /// Sends a call with the first credential that the upstream takes, and reads what the answer
    /// means.
    ///
    /// # Errors
    /// A [`Failure`]: the upstream's own, normalized, or that there was no answer.
    pub async fn forward(
        self: &Arc<Self>,
        pool: &Rc<Pool>,
        call: &mut Call<'_>,
        credentials: &mut Credentials<'_>,
        notes: &mut Notes<'_>,
    ) -> Result<Answered, Failure> {
        let begun = Instant::now();
        let time = self.time(call.operation, begun);
        let idempotent = call.operation.idempotent;
        let replayable = call.body.replayable();
        // Whoever is refused costs no token.
        let mut pass = self.breakers.pass(call.region.as_bytes(), begun)?;
        let mut place = pool.load().place(call.priority)?;
        pool.budget.pay_in(self.settings.retry.budget_percent);
        let mut tries = Tries::default();
        let mut token = credentials.first()?;
        let mut fresh = false;
        let mut began = begun;
        let request_id = self.settings.send_request_id.then_some(notes.request_id);
        loop {
            let body = call.body.for_attempt();
            let mut outgoing = Outgoing::new(call, token.as_ref(), request_id, &self.common)?;
            let context = notes.traced.as_mut().map(|traced| traced.begin(began));
            let context = context.filter(|_| self.settings.send_traceparent);
            let traceparent = context.map(|context| context.value());
            outgoing.traceparent = traceparent.as_ref();
            let attempt = Attempt {
                upstream: self,
                pool,
                idempotent,
                fresh,
                begun: began,
                deadlines: Deadlines {
                    head: time.end.min(began + time.first_byte),
                    between: self.settings.deadlines.between_bytes,
                    end: time.end,
                },
            };
            let outcome = attempt.run(&outgoing, body, place).await;
            let over = Instant::now();
            notes.exchange.add(outcome.told, over - begun);
            if let Some(traced) = &mut notes.traced {
                traced.end(outcome.read.as_ref().map(|read| read.head.status), over);
            }
            // Only what may be sent twice is sent again (RFC 9112 §9.3.1).
            if outcome.told.stale && replayable && (idempotent || outcome.told.untouched) {
                (fresh, place) = (true, pool.load().place(call.priority)?);
                began = over;
                continue;
            }
            pool.load().observe(call.operation, over - began, over);
            let answered = match outcome.read {
                Err(failure) => Err(failure),
                Ok(read) => {
                    notes.exchange.status = Some(read.head.status);
                    if refuses_token(&read) && token.is_some() && replayable {
                        if let Some(another) = credentials.another()? {
                            (token, place) = (Some(another), pool.load().place(call.priority)?);
                            began = over;
                            continue;
                        }
                    } else if read.head.status.is_success() {
                        credentials.accepted();
                    }
                    normalize(read, call.operation, token.is_some())
                }
            };
            // A connection that was closed while it was idle is no failure of the upstream.
            if !outcome.told.stale {
                pass.tell(&answered, over);
            }
            let Err(failure) = &answered else { return answered };
            if !replayable || pool.draining.get() {
                return answered;
            }
            let Told { sent, untouched, .. } = outcome.told;
            let tried = Try { sent: sent > 0, untouched, idempotent, over };
            let purse = (&self.settings.retry, &pool.budget);
            match tries.judge(failure, tried, &time, purse, fastrand::f64()) {
                Verdict::Final => return answered,
                Verdict::Denied => {
                    notes.exchange.retry_denied = true;
                    return answered;
                }
                Verdict::Again(reason, at) => {
                    sleep_until(at).await;
                    // By now others may have found that it is of no use, or taken the place.
                    began = Instant::now();
                    let Ok(again) = self.breakers.pass(call.region.as_bytes(), began) else {
                        return answered;
                    };
                    let Ok(free) = pool.load().place(call.priority) else { return answered };
                    (pass, place) = (again, free);
                    notes.exchange.retried[reason as usize] += 1;
                }
            }
        }
    }

    /// The time that an operation has.
    fn time(&self, operation: &Operation, begun: Instant) -> Time {
        let deadlines = &self.settings.deadlines;
        let (first_byte, total) = match operation.pace {
            Pace::Quick => (deadlines.first_byte, deadlines.total),
            Pace::Slow => (deadlines.first_byte_slow, deadlines.total_slow),
        };
        Time { end: begun + total, first_byte, total }
    }
}

/// The second word of an entry of `Via`: who received it, after the protocol.
fn receiver(entry: &[u8]) -> Option<&[u8]> {
    entry.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(1)
}

impl Exchange {
    fn add(&mut self, told: Told, took: Duration) {
        self.took = Some(took);
        self.attempts = self.attempts.saturating_add(told.sent);
        self.connects = self.connects.saturating_add(told.connects);
        self.connects_failed = self.connects_failed.saturating_add(told.connects_failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Origin;

    fn upstream(via: &str) -> Upstream {
        let origin = Origin {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: 80,
            authority: "127.0.0.1".to_owned(),
        };
        let settings = Settings::of(origin, via.to_owned());
        Upstream::new(settings, &Regions::new([], "us-sv").unwrap(), None).unwrap()
    }

    /// The `Via` that is passed on; `None` for a loop.
    fn passed(values: &[&[u8]]) -> Option<Vec<u8>> {
        let value = |bytes: &&[u8]| (VIA, HeaderValue::from_bytes(bytes).unwrap());
        let headers: HeaderMap = values.iter().map(value).collect();
        let seen = upstream("wbg-test").check_loop(&headers).ok()?;
        Some(seen.map_or_else(Vec::new, |seen| seen.as_bytes().to_vec()))
    }

    #[test]
    fn a_comment_in_whatever_letters_hides_no_loop() {
        for looped in
            [&b"1.1 wbg-test, 1.1 proxy (\xe9)"[..], b"1.0 a (\xff),2.0\twbg-test", b"1.1 wbg-test"]
        {
            assert_eq!(passed(&[looped]), None, "{looped:?}");
        }
        assert_eq!(passed(&[b"1.1 wbg-tests, 1.1 a"]).unwrap(), b"1.1 wbg-tests, 1.1 a");
    }

    #[test]
    fn what_others_wrote_into_via_is_passed_on_whole() {
        assert_eq!(passed(&[b"1.1 a (\xe9)", b"1.0 b"]).unwrap(), b"1.1 a (\xe9), 1.0 b");
        let own = HeaderValue::from_static("1.1 wbg-test");
        let before = HeaderValue::from_bytes(b"1.1 a (\xe9)").unwrap();
        assert_eq!(joined(&before, &own).unwrap().as_bytes(), b"1.1 a (\xe9), 1.1 wbg-test");
    }
}
