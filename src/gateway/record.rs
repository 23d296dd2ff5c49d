//! What happened to a request, gathered on its way and recorded when its answer is over.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::header::{ORIGIN, VARY};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::time::Instant;

use super::authority::{Authority, Basis, milliseconds, timestamp};
use super::budget::settle_at_the_end;
use super::method::method_name;
use super::trace::{Around, Trace};
use super::{Current, Site};
use crate::api::OperationId;
use crate::budget::Reservation;
use crate::caller::{Caller, Verdict};
use crate::certificate::Standing;
use crate::edge::{HeadFields, RequestId, cors};
use crate::failure::{Failure, Voice};
use crate::field::list::accepted;
use crate::field::{TRACERESPONSE, X_REQUEST_ID};
use crate::limit::Allowance;
use crate::server::{Peer, Protocol};
use crate::telemetry::{Line, Outcome, Recorder, UpstreamPart, WallClock};
use crate::trace::Sampling;
use crate::upstream::{AnswerBody, Answered, ForwardReport};

/// A request begins again so often: each time needs a change, and a reload is seldom.
const MOST_AGAIN: u8 = 20;

/// What is known of a request so far.
pub(super) struct Facts {
    /// When it came, in milliseconds of Unix time.
    pub(super) at_ms: u64,
    /// When it came or began again: the one clock of its way.
    pub(super) now_ms: u64,
    pub(super) request_id: RequestId,
    pub(super) allowance: Allowance,
    pub(super) forwarded: ForwardReport,
    pub(super) minted_for_caller: u8,
    pub(super) minted_for_upstream: u8,
    /// A browser sent it.
    pub(super) from_browser: bool,
    /// A browser sent an SDK token.
    pub(super) sdk_token_in_browser: bool,
    pub(super) bytes: u64,
    /// What it took from budgets before it began again.
    pub(super) reservation: Option<Box<Reservation>>,
    /// The address of the client: the peer's, or what a trusted proxy says in its place.
    pub(super) client: IpAddr,
    /// Its trace, where there are traces.
    pub(super) trace: Option<Box<Trace>>,
    clock: WallClock,
    /// How often it began again.
    again: u8,
    at_ns: u64,
    begun: Instant,
    peer: Peer,
    method: Option<&'static str>,
    caller: Option<Arc<Caller>>,
    operation: Option<OperationId>,
    status: Option<StatusCode>,
    /// What the caller would have as an answer; looked into when something fails.
    accept: Option<HeaderValue>,
    /// The clients of the operation crash on a failure without `error.title`.
    titled: bool,
    /// The origin whose pages may read the answer.
    readable_by: Option<HeaderValue>,
}

impl Facts {
    fn new(peer: Peer, clock: WallClock, sampling: Option<&Sampling>) -> Self {
        let since = clock().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self {
            at_ms,
            now_ms: at_ms,
            request_id: RequestId::mint(at_ms),
            allowance: Allowance::default(),
            forwarded: ForwardReport::default(),
            minted_for_caller: 0,
            minted_for_upstream: 0,
            from_browser: false,
            sdk_token_in_browser: false,
            bytes: 0,
            reservation: None,
            client: peer.address.ip(),
            trace: sampling.map(|sampling| Box::new(Trace::begin(sampling))),
            at_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            begun: Instant::now(),
            clock,
            again: 0,
            peer,
            method: None,
            caller: None,
            operation: None,
            status: None,
            accept: None,
            titled: false,
            readable_by: None,
        }
    }

    /// The time of the request.
    pub(super) fn now(&self) -> jiff::Timestamp {
        timestamp(self.now_ms)
    }

    /// Whether the caller asked for `application/problem+json`, and not rather for plain JSON.
    fn wants_problem(&self) -> bool {
        let Some(accept) = self.accept.as_ref().map(HeaderValue::as_bytes) else { return false };
        let problem = accepted(accept, "application/problem+json");
        problem > 0 && problem >= accepted(accept, "application/json")
    }

    /// What the certificate of the peer is worth.
    pub(super) fn standing(&self) -> Standing {
        self.peer.standing(self.now())
    }

    /// Somebody vouches for the trace that the request says it belongs to.
    pub(super) fn is_vouched_for(&mut self, site: &Site) {
        if let (Some(trace), Some(sampling)) = (&mut self.trace, site.sampling()) {
            trace.is_vouched_for(sampling);
        }
    }

    /// Notes the caller, and by what it is one.
    pub(super) fn called_by(
        &mut self,
        known: Verdict,
        basis: &Rc<Basis>,
    ) -> (Arc<Caller>, Authority) {
        let Verdict { caller, validity } = known;
        let authority = Authority::new(basis, validity, &self.peer, self.client, self.clock);
        (Arc::clone(self.caller.insert(caller)), authority)
    }

    /// Tells the connection whether the answer that is given next is that of a known caller.
    pub(super) fn vouch(&self) {
        if self.caller.is_some() {
            self.peer.link.vouch();
        }
    }

    /// The caller, once known.
    pub(super) fn caller_name(&self) -> Option<&str> {
        self.caller.as_ref().map(|caller| caller.name.as_str())
    }

    /// How the caller proved who it is.
    pub(super) fn credential(&self) -> Option<&'static str> {
        self.caller.as_ref().map(|caller| caller.credential.name())
    }

    /// The number that stays the caller's own.
    pub(super) fn caller_number(&self) -> u64 {
        self.caller.as_ref().map_or(0, |caller| caller.number)
    }

    /// Notes whether a browser has sent an SDK token.
    pub(super) fn browser_sends(&mut self, checked: Result<(), Failure>) -> Result<(), Failure> {
        self.sdk_token_in_browser = checked.is_err();
        checked
    }

    /// Notes the operation.
    pub(super) const fn asks_for(&mut self, operation: OperationId) {
        self.operation = Some(operation);
    }
}

/// The entry of a request in the record. Settled once; when it is dropped before, the caller has
/// gone away.
pub(super) struct Entry {
    pub(super) facts: Facts,
    current: Rc<Current>,
    recorder: Rc<Recorder>,
    settled: bool,
}

impl Entry {
    /// Opens the entry of a request.
    pub(super) fn open<B>(
        current: &Rc<Current>,
        recorder: &Rc<Recorder>,
        request: &Request<B>,
        peer: Peer,
    ) -> Self {
        let address = peer.address.ip();
        let mut entry = Self::of_no_request(current, recorder, peer);
        let fields = HeadFields::of(request.headers());
        entry.comes_from(fields.origin);
        let facts = &mut entry.facts;
        facts.method = Some(method_name(request.method()));
        facts.accept = fields.accept;
        facts.from_browser = fields.from_browser;
        // Before anybody is identified: most of their failures are tokens that have expired.
        facts.titled = current.site.is_titled(request.method(), request.uri().path());
        let proxies = &current.site.trusted_proxies;
        if let Some(trace) = &mut facts.trace {
            trace.is_offered(request.headers());
        }
        if proxies.contain(address) {
            facts.is_vouched_for(&current.site);
            facts.client = proxies.client(request.headers(), facts.client);
            if let Some(given) = fields.request_id.and_then(RequestId::given) {
                facts.request_id = given;
            }
        } else {
            proxies.notice(fields.forwarded_for, address);
        }
        entry
    }

    /// Begins again under another configuration, unless that has happened too often. What the head
    /// says of the request stays; what was found out by the configuration before does not.
    pub(super) fn begins_again(&mut self, current: &Rc<Current>, request: &Request<()>) -> bool {
        self.current = Rc::clone(current);
        let facts = &mut self.facts;
        if facts.again == MOST_AGAIN {
            return false;
        }
        facts.again += 1;
        facts.now_ms = milliseconds(facts.clock);
        (facts.caller, facts.operation) = (None, None);
        facts.titled = current.site.is_titled(request.method(), request.uri().path());
        self.comes_from(request.headers().get(ORIGIN));
        true
    }

    /// Opens an entry for what never became a request.
    pub(super) fn of_no_request(
        current: &Rc<Current>,
        recorder: &Rc<Recorder>,
        peer: Peer,
    ) -> Self {
        Self {
            facts: Facts::new(peer, recorder.clock, current.site.sampling()),
            current: Rc::clone(current),
            recorder: Rc::clone(recorder),
            settled: false,
        }
    }

    /// Notes the origin of the page that asks, if it may.
    pub(super) fn comes_from(&mut self, origin: Option<&HeaderValue>) {
        let Some(cors) = &self.current.site.cors else { return };
        self.facts.readable_by = origin.filter(|origin| cors.admits(origin)).cloned();
    }

    /// What every answer carries, be it a failure or not.
    fn stamp(&self, headers: &mut HeaderMap) {
        self.facts.allowance.stamp(headers);
        if self.current.site.cors.is_some() {
            cors::stamp(headers, self.facts.readable_by.as_ref());
        }
    }

    /// The answer to the caller, recorded unless it passes through: then that is for its body to do.
    pub(super) fn answer(&mut self, answered: Result<Answered, Failure>) -> Answered {
        let passes =
            matches!(&answered, Ok(answered) if matches!(answered.body(), AnswerBody::Stream(_)));
        if !passes && let Some(kept) = self.facts.reservation.take() {
            // It began again, and then came to an end before it would have been taken.
            kept.give_back();
        }
        let mut response = match answered {
            Ok(response) => response,
            Err(failure) => return self.refuse(&failure).map(AnswerBody::Whole),
        };
        response.headers_mut().insert(X_REQUEST_ID, self.facts.request_id.value());
        if self.facts.caller.is_some() {
            let varies = cors::varies_by_credential(self.current.site.cors.is_some());
            response.headers_mut().insert(VARY, varies);
        }
        self.stamp(response.headers_mut());
        self.facts.status = Some(response.status());
        if let AnswerBody::Whole(bytes) = response.body() {
            self.facts.bytes = bytes.len() as u64;
            self.settle(Outcome::Answered);
        }
        response
    }

    /// The envelope of a failure, and what is recorded of it.
    pub(super) fn refuse(&mut self, failure: &Failure) -> Response<Bytes> {
        let site = &self.current.site;
        let voice = Voice {
            settings: &site.errors,
            request_id: self.facts.request_id.as_str(),
            problem: self.facts.wants_problem(),
            titled: self.facts.titled,
        };
        let mut response = failure.answer(&voice);
        if let Some(trace) = &self.facts.trace {
            response.headers_mut().insert(TRACERESPONSE, trace.value());
        }
        self.stamp(response.headers_mut());
        self.facts.status = Some(response.status());
        self.facts.bytes = response.body().len() as u64;
        self.record(Outcome::Failed(failure.code()), Some(failure));
        response
    }

    /// Records the request.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        self.record(outcome, None);
    }

    fn record(&mut self, outcome: Outcome, failure: Option<&Failure>) {
        self.settled = true;
        if let Some(reservation) = self.facts.reservation.take() {
            let operation = self.facts.operation.map(|id| self.current.site.operations.get(id));
            settle_at_the_end(*reservation, outcome, operation);
        }
        let Facts { forwarded, minted_for_caller, minted_for_upstream, .. } = &self.facts;
        let counts = self.current.site.worker_counts().get(self.recorder.worker);
        if let Some(counts) = counts {
            counts.forwarded(forwarded);
            counts.minted(*minted_for_caller, *minted_for_upstream);
        }
        if self.facts.sdk_token_in_browser {
            counts.inspect(|counts| counts.browser_sdk_token());
            tracing::warn!(
                request_id = self.facts.request_id.as_str(),
                client = %self.facts.client,
                "a browser sent an SDK token, which opens the whole project: disable its key"
            );
        }
        let site = &*self.current.site;
        let line = self.facts.line(site, outcome, failure);
        if let (Some(trace), Some(spans)) = (&self.facts.trace, &self.current.spans)
            && trace.traced.sampled
        {
            trace.record(spans, &line, &self.facts.around(site));
        }
        self.recorder.record(&line);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Outcome::Gone);
        }
    }
}

impl Facts {
    /// What a span says besides the line.
    fn around<'a>(&self, site: &'a Site) -> Around<'a> {
        let profile = self.caller.as_ref().and_then(|caller| caller.rights.profile);
        Around {
            at_ns: self.at_ns,
            begun: self.begun,
            tls: self.peer.tls,
            operation: self.operation.map(|id| site.operations.get(id)),
            profile: profile.and_then(|profile| site.policy.name(profile)),
            upstream: &site.upstream.settings().origin,
        }
    }

    fn line<'a>(
        &'a self,
        site: &'a Site,
        outcome: Outcome,
        failure: Option<&'a Failure>,
    ) -> Line<'a> {
        let ForwardReport { took, status, attempts, .. } = self.forwarded;
        Line {
            at_ms: self.at_ms,
            request_id: self.request_id.as_str(),
            trace_id: self.trace.as_ref().map(|trace| trace.id()),
            client: self.client,
            protocol: match self.peer.protocol {
                Protocol::Http1 => "1.1",
                Protocol::Http2 => "2",
            },
            method: self.method,
            caller: self.caller_name(),
            credential: self.credential(),
            nonce: self.caller.as_ref().and_then(|caller| caller.credential.nonce()),
            key_id: self
                .caller
                .as_ref()
                .and_then(|caller| caller.credential.key_id()?.as_str().into()),
            operation: site.counts(self.operation),
            profile: self.caller.as_ref().and_then(|caller| site.counts_of_profile(&caller.rights)),
            status: self.status,
            outcome,
            rule: failure.and_then(Failure::rule),
            upstream_request_id: failure.and_then(Failure::upstream_request_id),
            upstream_region: failure.and_then(Failure::upstream_region),
            detail: failure.map(|failure| failure.detail().unwrap_or_else(|| failure.message())),
            took: self.begun.elapsed(),
            upstream: took.map(|took| UpstreamPart { took, status, attempts }),
            bytes: self.bytes,
        }
    }
}
