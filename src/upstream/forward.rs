//! One request to the upstream: built anew, sent, answered in time or not at all.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Response;
use http::header::{HeaderMap, HeaderValue, VIA};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answer::{self, Read};
use super::breaker::{BreakerState, Breakers};
use super::connect::{Connector, TlsSetupError};
use super::head::Head;
use super::http1;
use super::http2::{self, NotAnswered};
use super::load::Place;
use super::outgoing::{Common, Outgoing, joined};
use super::patience::Deadlines;
use super::pool::{Link, Pool};
use super::retry::{RetryReason, Time, Tries, Try, Verdict};
use super::source::Source;
use super::traced::Traced;
use super::unanswered::{blamed, broken, no_answer, unanswered};
use super::{AnswerBody, RequestBody, Settings};
use crate::api::{Operation, Pace, Priority, Region, Regions};
use crate::failure::{Code, Failure};
use crate::token::Credentials;

/// The upstream, as the configuration describes it. Shared by all workers; never changed.
pub struct Upstream {
    settings: Settings,
    connector: Connector,
    breakers: Arc<Breakers>,
    common: Common,
}

/// A request that is ready to be forwarded.
pub struct Call<'a> {
    /// Its operation.
    pub operation: &'a Operation,
    /// How much it matters when not all can be sent.
    pub priority: Priority,
    /// The path, in the table's form.
    pub path: Cow<'a, str>,
    /// The query, without `?`.
    pub query: Option<Cow<'a, str>>,
    /// The region.
    pub region: HeaderValue,
    /// The body.
    pub body: RequestBody,
    /// The media type of the body, when there is one.
    pub content_type: Option<HeaderValue>,
    /// The `Via` of the caller's request, which the gateway's is added to.
    pub via: Option<HeaderValue>,
    /// Whether the caller's request came over HTTP/2.
    pub http2: bool,
    /// The id of the request.
    pub request_id: &'a str,
    /// The trace that it belongs to, where there are traces.
    pub traced: Option<&'a mut Traced>,
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

/// An answer of success.
pub type Answered = Response<AnswerBody>;

/// One attempt, owned, so that it can outlive a caller that has gone.
struct Attempt {
    upstream: Arc<Upstream>,
    pool: Rc<Pool>,
    outgoing: Outgoing,
    /// Not to be sent on a connection that was kept.
    fresh: bool,
    begun: Instant,
    deadlines: Deadlines,
    /// Held as long as the upstream works on it, whether or not anybody waits for it.
    _place: Place,
}

/// What came of an attempt.
struct Outcome {
    read: Result<Read, Failure>,
    told: Told,
}

/// What is to be known of an attempt, whatever came of it.
#[derive(Clone, Copy, Default)]
struct Told {
    /// A connection that was kept turned out to be closed, and nobody knows how much was read.
    stale: bool,
    /// It was sent, and the upstream says that it did nothing of it.
    untouched: bool,
    connects: u8,
    connects_failed: u8,
    /// How many were sent, but for one that is untouched.
    sent: u8,
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
        let common = Common::new(&settings)?;
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
        exchange: &mut Exchange,
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
        loop {
            let body = call.body.for_attempt();
            let mut outgoing =
                Outgoing::new(call, token.as_ref(), body, &self.common, &self.settings)?;
            if let Some(traced) = &mut call.traced {
                outgoing.belongs_to(traced.begin(began), &self.settings);
            }
            let attempt = Attempt {
                upstream: Arc::clone(self),
                pool: Rc::clone(pool),
                outgoing,
                fresh,
                begun: began,
                deadlines: Deadlines {
                    head: time.end.min(began + time.first_byte),
                    between: self.settings.deadlines.between_bytes,
                    end: time.end,
                },
                _place: place,
            };
            let outcome =
                if idempotent { attempt.run().await } else { Finished::new(attempt.run()).await };
            let over = Instant::now();
            exchange.add(outcome.told, over - begun);
            if let Some(traced) = &mut call.traced {
                traced.end(&outcome.read, over);
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
                    exchange.status = Some(read.head.status);
                    if answer::refuses_token(&read) && token.is_some() && replayable {
                        if let Some(another) = credentials.another()? {
                            (token, place) = (Some(another), pool.load().place(call.priority)?);
                            began = over;
                            continue;
                        }
                    } else if read.head.status.is_success() {
                        credentials.accepted();
                    }
                    answer::normalize(read, call.operation, token.is_some())
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
                    exchange.retry_denied = true;
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
                    exchange.retried[reason as usize] += 1;
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

/// A future that is finished though nobody waits for it any more: what must not be sent twice must
/// not be cut off either, when the caller goes.
///
/// It is polled where it is; only when it is dropped too early does it become a task of its own.
struct Finished<F: Future + 'static>(Option<Pin<Box<F>>>);

impl<F: Future> Finished<F> {
    fn new(future: F) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<F: Future> Future for Finished<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.0 else { return Poll::Pending };
        let output = ready!(future.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(output)
    }
}

impl<F: Future> Drop for Finished<F> {
    fn drop(&mut self) {
        if let Some(future) = self.0.take() {
            spawn_local(async {
                // Nobody is there to be told.
                _ = future.await;
            });
        }
    }
}

impl Attempt {
    #[allow(
        clippy::manual_async_fn,
        reason = "the arguments of an async function have room in its future twice"
    )]
    fn run(mut self) -> impl Future<Output = Outcome> {
        async move {
            let mut told = Told::default();
            let read = self.exchange(&mut told).await;
            Outcome { read, told }
        }
    }

    async fn exchange(&mut self, told: &mut Told) -> Result<Read, Failure> {
        let idle = self.upstream.settings.idle;
        let mut kept = if self.fresh { None } else { self.pool.take(self.begun, idle) };
        let fate = self.outgoing.body.fate();
        loop {
            let reused = kept.is_some();
            let link = match kept.take() {
                Some(link) => link,
                None => self.connect(told).await?,
            };
            let heard = match link {
                Link::Http1(connection) => self.over_http1(connection, reused, told).await,
                // Boxed: there is one origin, and few speak HTTP/2 to it.
                Link::Http2(sender) => Box::pin(self.over_http2(sender, reused, told)).await,
            };
            // `None`: the upstream closed it while it was idle, and not a byte was sent.
            if let Some((head, body)) = heard.map_err(|failure| blamed(failure, fate.as_ref()))? {
                return answer::read(head, body).await;
            }
        }
    }

    /// Sends the request and reads the head; `None` when nothing was sent.
    async fn over_http1(
        &mut self,
        mut connection: Box<http1::Connection>,
        reused: bool,
        told: &mut Told,
    ) -> Result<Option<(Head, Source)>, Failure> {
        let Self { upstream, outgoing, deadlines, .. } = self;
        connection.begin(outgoing, &upstream.common, *deadlines);
        match poll_fn(|context| connection.poll_head(context)).await {
            Ok(head) => {
                told.sent += 1;
                let body = Source::Http1 {
                    connection: Some(connection),
                    pool: Rc::clone(&self.pool),
                    most_idle: upstream.settings.max_idle,
                    since: self.begun,
                };
                Ok(Some((head, body)))
            }
            Err(fault) if reused && fault.is_end() && connection.is_unsent() => {
                self.outgoing.body = connection.into_body();
                Ok(None)
            }
            // The connection is closed here: an answer that comes later must not be taken for that
            // of another request.
            Err(fault) => {
                told.sent += u8::from(!connection.is_unsent());
                told.stale = reused && fault.is_end() && connection.is_silent();
                Err(unanswered(&fault))
            }
        }
    }

    /// The same over HTTP/2.
    async fn over_http2(
        &mut self,
        mut sender: http2::Sender,
        reused: bool,
        told: &mut Told,
    ) -> Result<Option<(Head, Source)>, Failure> {
        let request = http2::request(&mut self.outgoing, &self.upstream.common)?;
        let sending = http2::send(&mut sender, request, &mut self.outgoing);
        match timeout_at(self.deadlines.head, sending).await {
            Ok(Ok(response)) => {
                told.sent += 1;
                self.pool.share(sender);
                let (head, body) = response.into_parts();
                let body = Source::http2(body, self.deadlines);
                Ok(Some((Head::of(head.status, &head.headers), body)))
            }
            Err(_) => {
                told.sent += 1;
                self.pool.forget_shared();
                Err(no_answer())
            }
            Ok(Err(NotAnswered { unsent: true, .. })) if reused => Ok(None),
            Ok(Err(not)) => {
                told.untouched = not.is_untouched();
                told.sent += u8::from(!not.unsent && !told.untouched);
                told.stale = reused && !not.is_reset();
                if not.is_reset() {
                    // The connection is as good as before.
                    self.pool.share(sender);
                }
                Err(broken(&not.error))
            }
        }
    }

    async fn connect(&self, told: &mut Told) -> Result<Link, Failure> {
        let link = self.upstream.connector.connect(self.deadlines.end).await;
        match link {
            Ok(_) => told.connects += 1,
            Err(_) => told.connects_failed += 1,
        }
        link
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
