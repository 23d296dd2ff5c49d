//! What happened to a request: filled from what the steps return, written down once, when the answer
//! is over. No step decides by it.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::VARY;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use super::authority::RequestAuthority;
use super::budget::settle_at_the_end;
use super::context::RequestContext;
use super::serve::Served;
use super::shadow::{DecisionInput, ShadowDecision};
use super::snapshot::Snapshot;
use super::spans::RequestSpans;
use super::state::RequestState;
use super::worker::{GatewayWorker, Identified};
use crate::api::{Matched, OperationId, RoomId, TokenRequest};
use crate::budget::Reservation;
use crate::caller::{Caller, Credential, KeyId};
use crate::edge::{RequestTrace, cors};
use crate::failure::{Failure, RenderOptions};
use crate::field::{TRACERESPONSE, WHITEBOARD_KEY_ENDS, X_REQUEST_ID};
use crate::limit::Allowance;
use crate::server::Protocol;
use crate::telemetry::{AccessLine, DecisionPart, Outcome, Recorder, UpstreamPart, WouldPart};
use crate::upstream::{CallTrace, ForwardRecord, ForwardReport, ResponseBody, UpstreamResponse};

/// What is written down of a request besides its context.
pub(super) struct RequestRecord {
    caller: Option<Arc<Caller>>,
    operation: Option<OperationId>,
    /// Where someone looks at the decision afterwards.
    decision: Option<Box<DecisionInput>>,
    sdk_token_in_browser: bool,
    /// Someone that is trusted has said which trace it belongs to.
    trace_is_trusted: bool,
    /// The trace, where there are traces, and the attempts at the upstream.
    traced: Option<CallTrace>,
    forwarded: ForwardReport,
    minted_for_caller: u8,
    minted_for_upstream: u8,
    status: Option<StatusCode>,
    bytes: u64,
}

impl RequestRecord {
    fn new(context: &RequestContext) -> Self {
        let trace_is_trusted = context.from_proxy;
        Self {
            caller: None,
            operation: None,
            decision: None,
            sdk_token_in_browser: false,
            trace_is_trusted,
            traced: context.trace.as_ref().map(|trace| traced(trace, trace_is_trusted)),
            forwarded: ForwardReport::default(),
            minted_for_caller: 0,
            minted_for_upstream: 0,
            status: None,
            bytes: 0,
        }
    }

    /// A browser has sent an SDK token, or has not.
    pub(super) fn browser(&mut self, checked: Result<(), Failure>) -> Result<(), Failure> {
        self.sdk_token_in_browser = checked.is_err();
        checked
    }

    pub(super) fn identified(
        &mut self,
        identified: Identified,
        context: &RequestContext,
    ) -> (Arc<Caller>, RequestAuthority) {
        let Identified { caller, authority, trusts_trace } = identified;
        if let Some(trace) =
            context.trace.as_ref().filter(|_| trusts_trace && !self.trace_is_trusted)
        {
            self.trace_is_trusted = true;
            self.traced = Some(traced(trace, true));
        }
        (Arc::clone(self.caller.insert(caller)), authority)
    }

    pub(super) fn matched<'a>(&mut self, matched: Matched<'a>, snapshot: &Snapshot) -> Matched<'a> {
        self.operation = Some(matched.id);
        if self.caller.as_ref().is_some_and(|caller| snapshot.keeps_decisions(&caller.rights)) {
            self.decision = Some(Box::new(DecisionInput::new(matched.target.clone())));
        }
        matched
    }

    /// The limits have let it pass, and its body was read.
    pub(super) fn read<T>(
        &mut self,
        read: Result<(T, Option<TokenRequest>), Failure>,
    ) -> Result<(T, Option<TokenRequest>), Failure> {
        if let Some(decision) = &mut self.decision {
            decision.read(read.as_ref().ok().and_then(|(_, asks)| asks.as_ref()));
        }
        read
    }

    /// What the upstream fills while a request is forwarded, since the caller may go away meanwhile.
    pub(super) fn forwarded<'a>(&'a mut self, context: &'a RequestContext) -> ForwardRecord<'a> {
        if let Some(decision) = &mut self.decision {
            decision.served();
        }
        ForwardRecord {
            request_id: context.request_id.as_str(),
            traced: self.traced.as_mut(),
            report: &mut self.forwarded,
        }
    }

    pub(super) fn served(&mut self, served: Served) -> Result<UpstreamResponse, Failure> {
        self.minted_for_caller = served.minted_for_caller;
        self.minted_for_upstream = served.minted_for_upstream;
        served.answered
    }
}

fn traced(trace: &RequestTrace, is_trusted: bool) -> CallTrace {
    let (id, sampled) = trace.id(is_trusted);
    CallTrace::new(id, sampled)
}

/// Writes the record of a request, once: when its answer is over, or when it is dropped before that,
/// since the caller has gone away.
pub(super) struct RecordGuard {
    pub(super) context: RequestContext,
    pub(super) record: RequestRecord,
    worker: Rc<GatewayWorker>,
    recorder: Rc<Recorder>,
    /// What was taken from budgets for an answer that passes through.
    reservation: Option<Box<Reservation>>,
    recorded: bool,
}

impl RecordGuard {
    pub(super) fn new(
        context: RequestContext,
        worker: &Rc<GatewayWorker>,
        recorder: &Rc<Recorder>,
    ) -> Self {
        Self {
            record: RequestRecord::new(&context),
            context,
            worker: Rc::clone(worker),
            recorder: Rc::clone(recorder),
            reservation: None,
            recorded: false,
        }
    }

    /// Whether the request begins again under another configuration. What that configuration will
    /// find out anew is forgotten.
    pub(super) fn begins_again(
        &mut self,
        worker: &Rc<GatewayWorker>,
        state: &mut RequestState,
    ) -> bool {
        self.worker = Rc::clone(worker);
        let again = state.begins_again(self.context.clock);
        if again {
            let record = &mut self.record;
            (record.caller, record.operation, record.decision) = (None, None, None);
        }
        again
    }

    /// What every answer carries, be it a failure or not.
    fn stamp(&self, headers: &mut HeaderMap, allowance: &Allowance) {
        allowance.stamp(headers);
        if let Some(value) = self.key_end() {
            headers.insert(WHITEBOARD_KEY_ENDS, value.clone());
        }
        if let Some(cors) = &self.worker.snapshot.cors {
            cors.stamp(headers, self.context.origin.as_ref());
        }
    }

    /// What the caller is told of the end of its key. A page is told nothing: the key is none of its
    /// user's, who could do nothing about it.
    fn key_end(&self) -> Option<&HeaderValue> {
        let end = self.record.caller.as_ref()?.key_end.as_ref()?;
        end.reminder(self.context.at_ms).filter(|_| !self.context.from_browser)
    }

    /// The answer to the caller, recorded unless it passes through: then that is for its body to do.
    pub(super) fn answer(
        &mut self,
        answered: Result<UpstreamResponse, Failure>,
        request: &Request<()>,
        state: RequestState,
    ) -> UpstreamResponse {
        if self.record.caller.is_some() {
            // Tells the connection that the answer is that of a known caller.
            self.context.peer.signals.vouch();
        }
        let RequestState { allowance, reservation, .. } = state;
        match &answered {
            Ok(answered) if matches!(answered.body(), ResponseBody::Stream(_)) => {
                self.reservation = reservation;
            }
            // It began again, and then came to an end before it would have been taken.
            _ => reservation.into_iter().for_each(|kept| kept.give_back()),
        }
        let mut response = match answered {
            Ok(response) => response,
            Err(failure) => {
                let titled = self.worker.snapshot.is_titled(request);
                return self.refuse(&failure, titled, &allowance).map(ResponseBody::Whole);
            }
        };
        response.headers_mut().insert(X_REQUEST_ID, self.context.request_id.value());
        if self.record.caller.is_some() {
            let varies = cors::varies_by_credential(self.worker.snapshot.cors.is_some());
            response.headers_mut().insert(VARY, varies);
        }
        self.stamp(response.headers_mut(), &allowance);
        self.record.status = Some(response.status());
        if let ResponseBody::Whole(bytes) = response.body() {
            self.record.bytes = bytes.len() as u64;
            self.write(Outcome::Answered, None);
        }
        response
    }

    /// The envelope of a failure; `titled` for clients that crash on one without `error.title`.
    pub(super) fn refuse(
        &mut self,
        failure: &Failure,
        titled: bool,
        allowance: &Allowance,
    ) -> Response<Bytes> {
        let mut response = failure.answer(&RenderOptions {
            settings: self.worker.snapshot.listeners.of(self.context.peer.listener).errors(),
            request_id: self.context.request_id.as_str(),
            problem: self.context.wants_problem(),
            titled,
        });
        if let Some(trace) = &self.context.trace {
            let value = trace.response(self.record.trace_is_trusted);
            response.headers_mut().insert(TRACERESPONSE, value);
        }
        self.stamp(response.headers_mut(), allowance);
        self.record.status = Some(response.status());
        self.record.bytes = response.body().len() as u64;
        self.write(Outcome::Failed(failure.code()), Some(failure));
        response
    }

    /// So many bytes of the answer have passed through.
    pub(super) const fn passed(&mut self, bytes: u64) {
        self.record.bytes += bytes;
    }

    /// Writes the record of an answer that has passed through.
    pub(super) fn finish(&mut self, outcome: Outcome) {
        self.write(outcome, None);
    }

    fn write(&mut self, outcome: Outcome, failure: Option<&Failure>) {
        self.recorded = true;
        let reservation = self.reservation.take();
        let Self { context, record, worker, recorder, .. } = &*self;
        let snapshot = &*worker.snapshot;
        let operation = record.operation.map(|id| snapshot.operations.get(id));
        let counts = snapshot.worker_counts.get(recorder.worker);
        if let Some(counts) = counts {
            counts.forwarded(&record.forwarded);
            counts.minted(record.minted_for_caller, record.minted_for_upstream);
        }
        if record.sdk_token_in_browser {
            counts.inspect(|counts| counts.browser_sdk_token());
            tracing::warn!(
                request_id = context.request_id.as_str(),
                client = %context.client,
                "a browser sent an SDK token, which opens the whole project: disable its key"
            );
        }
        let would = record.would(snapshot, (recorder.worker, failure));
        let line = record.line(context, snapshot, (outcome, failure), would.as_ref());
        if let (Some(spans), Some(trace), Some(traced)) =
            (&worker.spans, &context.trace, &record.traced)
            && traced.sampled
        {
            let profile = record.caller.as_ref().and_then(|caller| caller.rights.profile);
            let parent = trace.parent(record.trace_is_trusted);
            RequestSpans {
                context,
                traced,
                span: trace.span,
                parent: parent.map(|(span, _)| span),
                state: parent.and_then(|(_, state)| state),
                line: &line,
                operation,
                profile: profile.and_then(|profile| snapshot.policy.name(profile)),
                upstream: &snapshot.upstream.settings.origin,
            }
            .add_to(spans);
        }
        recorder.record(&line);
        if let (Some(taken), Outcome::Failed(code), Some(operation)) =
            (reservation, outcome, operation)
        {
            settle_at_the_end(*taken, code, operation);
        }
    }
}

impl Drop for RecordGuard {
    fn drop(&mut self) {
        if !self.recorded {
            self.write(Outcome::Gone, None);
        }
    }
}

impl RequestRecord {
    /// What the shadow of the caller's profile would have decided, where it has one.
    fn would(&self, snapshot: &Snapshot, end: (usize, Option<&Failure>)) -> Option<ShadowDecision> {
        let (input, caller) = (self.decision.as_deref()?, self.caller.as_deref()?);
        let shadow = snapshot.shadow(&caller.rights)?;
        let id = self.operation?;
        let (operation, target) = (snapshot.operations.get(id), input.target.clone());
        let matched = Matched { id, operation, target };
        Some(shadow.decide(&snapshot.policy, (caller, &matched), input, end))
    }

    /// What the policy was asked, where that is logged.
    fn asked<'a>(&'a self, snapshot: &'a Snapshot) -> Option<DecisionPart<'a>> {
        let decision = self.decision.as_deref().filter(|_| snapshot.log_decisions)?;
        let profile = self.caller.as_ref()?.rights.profile;
        Some(DecisionPart {
            profile: profile.and_then(|profile| snapshot.policy.name(profile)),
            room: decision.room().map(RoomId::as_str),
            asked: decision.asked(),
        })
    }

    fn line<'a>(
        &'a self,
        context: &'a RequestContext,
        snapshot: &'a Snapshot,
        (outcome, failure): (Outcome, Option<&'a Failure>),
        would: Option<&'a ShadowDecision>,
    ) -> AccessLine<'a> {
        let ForwardReport { took, status, attempts, .. } = self.forwarded;
        let caller = self.caller.as_deref();
        let credential = caller.map(|caller| &caller.credential);
        AccessLine {
            at_ms: context.at_ms,
            request_id: context.request_id.as_str(),
            trace_id: self.traced.as_ref().map(|traced| traced.trace),
            client: context.client,
            listener: snapshot.listeners.name_among_several(context.peer.listener),
            protocol: match context.peer.protocol {
                Protocol::Http1 => "1.1",
                Protocol::Http2 => "2",
            },
            method: context.method,
            caller: caller.map(|caller| caller.name.as_str()),
            caller_number: caller.map(|caller| caller.number),
            credential: credential.map(Credential::name),
            nonce: credential.and_then(Credential::nonce),
            key_id: credential.and_then(Credential::key_id).map(KeyId::as_str),
            operation: snapshot.counts(self.operation),
            profile: caller.and_then(|caller| snapshot.counts_of_profile(&caller.rights)),
            status: self.status,
            outcome,
            rule: failure.and_then(Failure::rule),
            would: would.map(|one| WouldPart {
                would: one.would(),
                rule: one.rule(),
                granted: one.granted.as_deref(),
            }),
            decision: self.asked(snapshot),
            upstream_request_id: failure.and_then(Failure::upstream_request_id),
            upstream_region: failure.and_then(Failure::upstream_region),
            detail: failure.map(|failure| failure.detail().unwrap_or_else(|| failure.message())),
            took: context.begun.elapsed(),
            upstream: took.map(|took| UpstreamPart { took, status, attempts }),
            bytes: self.bytes,
        }
    }
}
