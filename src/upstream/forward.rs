//! One request to the upstream: built anew, sent, answered in time or not at all.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
    VIA,
};
use http::{Request, Response, Uri, Version};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answer::{self, Read};
use super::breaker::{BreakerState, Breakers};
use super::connect::{Connector, TlsSetupError};
use super::load::Place;
use super::pool::{NotAnswered, Pool, Sender};
use super::retry::{RetryReason, Time, Tries, Try, Verdict};
use super::{AnswerBody, Broken, RequestBody, Settings};
use crate::api::{Operation, Pace, Priority, Region, Regions};
use crate::failure::{Code, Failure, ProxyError};
use crate::token::Credentials;

const TOKEN: HeaderName = HeaderName::from_static("token");
const REGION: HeaderName = HeaderName::from_static("region");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The upstream, as the configuration describes it. Shared by all workers; never changed.
pub struct Upstream {
    settings: Settings,
    connector: Connector,
    breakers: Arc<Breakers>,
    via: [HeaderValue; 2],
    host: HeaderValue,
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
}

/// What happened on the way to the upstream, for the record.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchange {
    /// From the first try until the answer's head or the last failure.
    pub took: Option<Duration>,
    /// The status that the upstream gave.
    pub status: Option<http::StatusCode>,
    /// How many requests were sent.
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
    request: Request<RequestBody>,
    /// Not to be sent on a connection that was kept.
    fresh: bool,
    first_byte: Instant,
    end: Instant,
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
    connects: u8,
    connects_failed: u8,
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
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| TlsSetupError::Name);
        let via =
            [value(&format!("1.1 {}", settings.via))?, value(&format!("2.0 {}", settings.via))?];
        let host = value(&settings.origin.authority)?;
        Ok(Self { settings, connector, breakers, via, host })
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
        for value in headers.get_all(VIA) {
            let text = value.to_str().unwrap_or_default();
            let names = text.split(',').filter_map(|one| one.split_whitespace().nth(1));
            if names.into_iter().any(|name| name == self.settings.via) {
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
        mut call: Call<'_>,
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
        loop {
            let began = Instant::now();
            let body = call.body.for_attempt();
            let attempt = Attempt {
                upstream: Arc::clone(self),
                pool: Rc::clone(pool),
                request: self.request(&call, token.as_ref(), body)?,
                fresh,
                first_byte: time.end.min(began + time.first_byte),
                end: time.end,
                _place: place,
            };
            let outcome =
                if idempotent { attempt.run().await } else { Finished::new(attempt.run()).await };
            exchange.add(outcome.told, begun);
            // Only what may be sent twice is sent again (RFC 9112 §9.3.1).
            if outcome.told.stale && replayable && idempotent {
                (fresh, place) = (true, pool.load().place(call.priority)?);
                continue;
            }
            let over = Instant::now();
            pool.load().observe(call.operation, over - began, over);
            let answered = match outcome.read {
                Err(failure) => Err(failure),
                Ok(read) => {
                    exchange.status = Some(read.status);
                    if answer::refuses_token(&read) && token.is_some() && replayable {
                        if let Some(another) = credentials.another()? {
                            (token, place) = (Some(another), pool.load().place(call.priority)?);
                            continue;
                        }
                    } else if read.status.is_success() {
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
            let tried = Try { sent: outcome.told.sent > 0, idempotent, over };
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
                    let now = Instant::now();
                    let Ok(again) = self.breakers.pass(call.region.as_bytes(), now) else {
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
        Time { end: begun + total, first_byte, connect: deadlines.connect, total }
    }

    /// Builds the request anew: an allow-list, so that nothing of the caller's reaches a third
    /// party unless it is named here.
    fn request(
        &self,
        call: &Call<'_>,
        token: Option<&HeaderValue>,
        body: RequestBody,
    ) -> Result<Request<RequestBody>, Failure> {
        let target = match &call.query {
            Some(query) => Cow::Owned(format!("{}?{query}", call.path)),
            None => Cow::Borrowed(call.path.as_ref()),
        };
        let uri: Uri = target.parse().map_err(|_| {
            let why = "the request target cannot be forwarded";
            Failure::fixed(Code::MalformedRequest, why)
        })?;
        let mut request = Request::new(body);
        *request.method_mut() = call.operation.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.reserve(10);
        headers.insert(HOST, self.host.clone());
        if let Some(token) = token {
            headers.insert(TOKEN, token.clone());
        }
        headers.insert(REGION, call.region.clone());
        if let Some(content_type) = &call.content_type {
            headers.insert(CONTENT_TYPE, content_type.clone());
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        let own = &self.via[usize::from(call.http2)];
        let via = call.via.as_ref().and_then(|before| joined(before, own));
        headers.insert(VIA, via.unwrap_or_else(|| own.clone()));
        if self.settings.send_request_id
            && let Ok(id) = HeaderValue::from_str(call.request_id)
        {
            headers.insert(X_REQUEST_ID, id);
        }
        Ok(request)
    }

    /// Puts a request into the form of a connection's version: HTTP/2 has no `Host` but an
    /// authority in its target (RFC 9113 §8.3.1), HTTP/1.1 the other way round.
    ///
    /// A request is built for HTTP/1.1; one that was not sent on a connection may find the next to
    /// be of another version.
    fn fit(&self, request: &mut Request<RequestBody>, http2: bool) -> Result<(), Failure> {
        if http2 == (request.version() == Version::HTTP_2) {
            return Ok(());
        }
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        if http2 {
            request.headers_mut().remove(HOST);
            parts.scheme = Some(http::uri::Scheme::HTTPS);
            parts.authority = self.settings.origin.authority.parse().ok();
            *request.version_mut() = Version::HTTP_2;
        } else {
            request.headers_mut().insert(HOST, self.host.clone());
            (parts.scheme, parts.authority) = (None, None);
            *request.version_mut() = Version::HTTP_11;
        }
        *request.uri_mut() = Uri::from_parts(parts)
            .map_err(|_| Failure::fixed(Code::Internal, "the upstream's origin is no authority"))?;
        Ok(())
    }
}

const USER_AGENT_VALUE: &str = concat!("whiteboard-gateway/", env!("CARGO_PKG_VERSION"));

fn joined(before: &HeaderValue, after: &HeaderValue) -> Option<HeaderValue> {
    let text = format!("{}, {}", before.to_str().ok()?, after.to_str().ok()?);
    HeaderValue::from_str(&text).ok()
}

impl Exchange {
    fn add(&mut self, told: Told, begun: Instant) {
        self.took = Some(begun.elapsed());
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
    async fn run(mut self) -> Outcome {
        let mut told = Told::default();
        let read = self.exchange(&mut told).await;
        Outcome { read, told }
    }

    async fn exchange(&mut self, told: &mut Told) -> Result<Read, Failure> {
        let upstream = Arc::clone(&self.upstream);
        let settings = &upstream.settings;
        let mut request = std::mem::take(&mut self.request);
        let mut kept = if self.fresh { None } else { self.pool.take(settings.idle) };
        let (sender, response) = loop {
            let reused = kept.is_some();
            let mut sender = match kept.take() {
                Some(sender) => sender,
                None => self.connect(told).await?,
            };
            upstream.fit(&mut request, sender.is_http2())?;
            match timeout_at(self.first_byte, sender.send(request)).await {
                Ok(Ok(response)) => {
                    told.sent += 1;
                    break (sender, response);
                }
                // The sender is dropped here and with it the connection: an answer that comes
                // later must not be taken for that of another request.
                Err(_) => {
                    told.sent += 1;
                    if sender.is_http2() {
                        self.pool.forget_shared();
                    }
                    return Err(no_answer());
                }
                // The upstream closed it while it was idle, and not a byte was sent.
                Ok(Err(NotAnswered { unsent: Some(unsent), .. })) if reused => request = *unsent,
                Ok(Err(NotAnswered { error, unsent })) => {
                    told.sent += u8::from(unsent.is_none());
                    told.stale = reused;
                    return Err(broken(&error));
                }
            }
        };
        self.pool.give_back(sender, settings.max_idle);
        answer::read(response, settings.deadlines.between_bytes, self.end).await
    }

    async fn connect(&self, told: &mut Told) -> Result<Sender, Failure> {
        let sender = self.upstream.connector.connect().await;
        match sender {
            Ok(_) => told.connects += 1,
            Err(_) => told.connects_failed += 1,
        }
        sender
    }
}

/// No head came in time.
fn no_answer() -> Failure {
    Failure::fixed(Code::UpstreamTimeout, "the whiteboard service did not answer in time")
}

/// The connection broke, or what came on it is no HTTP.
fn broken(error: &hyper::Error) -> Failure {
    let source =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<Broken>());
    match source {
        Some(Broken::TooLarge) => {
            return Failure::fixed(Code::BodyTooLarge, "the body of the request is too large");
        }
        Some(Broken::Request) => {
            let why = "the body of the request is incomplete or malformed";
            return Failure::fixed(Code::MalformedRequest, why).closing();
        }
        _ => {}
    }
    let (kind, message) = if error.is_parse_too_large() {
        (
            ProxyError::ResponseHeadTooLarge,
            "the head of the whiteboard service's answer is too large",
        )
    } else if error.is_parse() {
        (ProxyError::ProtocolError, "the whiteboard service's answer is no HTTP")
    } else {
        (
            ProxyError::ConnectionTerminated,
            "the whiteboard service closed the connection without an answer",
        )
    };
    Failure::fixed(Code::UpstreamError, message)
        .with_proxy_error(kind)
        .with_detail(error.to_string())
}
