//! The trace of a request: begun here, or continued where somebody vouches for whoever names it;
//! and its spans, when the answer is over.
//!
//! A span has what the access line has, less the address of the client; no path but the table's, no
//! query, no body, no header.

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::method::OTHER_METHOD;
use crate::api::Operation;
use crate::otlp::{Kind, Parent, Span, Spans, Value};
use crate::telemetry::{Line, Outcome};
use crate::trace::{Context, Sampling, SpanId, TraceId, tracestate};
use crate::upstream::{Attempted, Origin, Traced};

/// The trace of a request.
pub(super) struct Trace {
    /// The span of the request.
    span: SpanId,
    /// The span of the caller.
    parent: Option<SpanId>,
    state: Option<Box<str>>,
    /// What the request says it belongs to, as long as nobody vouches for that.
    offered: Option<(Context, Option<Box<str>>)>,
    /// The trace itself, and what became of the attempts at the upstream.
    pub(super) traced: Traced,
}

/// What a span says besides the access line.
pub(super) struct Around<'a> {
    pub(super) at_ns: u64,
    pub(super) begun: Instant,
    pub(super) tls: bool,
    pub(super) operation: Option<&'a Operation>,
    pub(super) profile: Option<&'a str>,
    pub(super) upstream: &'a Origin,
}

impl Trace {
    /// A trace that begins here.
    pub(super) fn begin(sampling: &Sampling) -> Self {
        let trace = TraceId::random();
        let traced = Traced::new(trace, sampling.keeps(trace, None));
        Self { span: SpanId::random(), parent: None, state: None, offered: None, traced }
    }

    pub(super) const fn id(&self) -> TraceId {
        self.traced.trace
    }

    /// Notes what a request says it belongs to.
    pub(super) fn is_offered(&mut self, headers: &HeaderMap) {
        self.offered = Context::of(headers).map(|context| (context, tracestate(headers)));
    }

    /// Somebody vouches for what the request says.
    pub(super) fn is_vouched_for(&mut self, sampling: &Sampling) {
        let Some((Context { trace, span, sampled }, state)) = self.offered.take() else { return };
        self.traced = Traced::new(trace, sampling.keeps(trace, Some(sampled)));
        self.parent = Some(span);
        self.state = state;
    }

    /// What an answer says it belongs to.
    pub(super) fn value(&self) -> HeaderValue {
        let Traced { trace, sampled, .. } = self.traced;
        Context { trace, span: self.span, sampled }.value()
    }

    /// Hands in the span of the request and those of its attempts, if they are recorded.
    pub(super) fn record(&self, spans: &Spans, line: &Line<'_>, around: &Around<'_>) {
        let route = around.operation.map(|operation| &*operation.path);
        let method = line.method.filter(|method| *method != OTHER_METHOD);
        let text = |text| Value::Text(text);
        let error = match line.outcome {
            Outcome::Answered => None,
            failed => Some(failed.name()),
        };
        let number = |status: http::StatusCode| Value::Number(status.as_u16().into());
        spans.add(&Span {
            trace: self.id(),
            id: self.span,
            parent: self.parent.map(|id| Parent { id, remote: true }),
            state: self.state.as_deref(),
            kind: Kind::Server,
            name: (method.unwrap_or("HTTP"), route),
            begun_ns: around.at_ns,
            over_ns: around.at_ns.saturating_add(nanoseconds(line.took)),
            attributes: &[
                ("http.request.method", Some(text(line.method.unwrap_or(OTHER_METHOD)))),
                ("http.route", route.map(text)),
                ("http.response.status_code", line.status.map(number)),
                ("url.scheme", Some(text(if around.tls { "https" } else { "http" }))),
                ("network.protocol.version", Some(text(line.protocol))),
                ("error.type", error.map(text)),
                ("whiteboard.operation", line.operation.name().map(text)),
                ("whiteboard.caller", line.caller.map(text)),
                ("whiteboard.profile", around.profile.map(text)),
                ("whiteboard.rule", line.rule.map(text)),
                ("whiteboard.request_id", Some(text(line.request_id))),
            ],
            failed: line.status.is_some_and(|status| status.is_server_error()),
        });
        for (resent, attempt) in self.traced.attempts.iter().enumerate() {
            self.record_attempt(spans, (resent, attempt), line, around);
        }
    }

    fn record_attempt(
        &self,
        spans: &Spans,
        (resent, attempt): (usize, &Attempted),
        line: &Line<'_>,
        around: &Around<'_>,
    ) {
        let Attempted { span, begun, over, status, error } = *attempt;
        let after = |at: Instant| nanoseconds(at.saturating_duration_since(around.begun));
        let route = around.operation.map(|operation| &*operation.path);
        let refused = status.filter(|status| !status.is_success());
        let error = match (error, over) {
            (None, None) => Some(Outcome::Gone.name()),
            (None, Some(_)) => refused.as_ref().map(http::StatusCode::as_str),
            (error, _) => error,
        };
        let number = |status: http::StatusCode| Value::Number(status.as_u16().into());
        let text = |text| Value::Text(text);
        spans.add(&Span {
            trace: self.id(),
            id: span,
            parent: Some(Parent { id: self.span, remote: false }),
            state: self.state.as_deref(),
            kind: Kind::Client,
            name: (line.method.unwrap_or("HTTP"), route),
            begun_ns: around.at_ns.saturating_add(after(begun)),
            over_ns: around
                .at_ns
                .saturating_add(over.map_or_else(|| nanoseconds(line.took), after)),
            attributes: &[
                ("http.request.method", line.method.map(text)),
                ("url.template", route.map(text)),
                ("server.address", Some(text(&around.upstream.host))),
                ("server.port", Some(Value::Number(around.upstream.port.into()))),
                ("http.response.status_code", status.map(number)),
                // Absent for the first.
                (
                    "http.request.resend_count",
                    i64::try_from(resent).ok().filter(|count| *count > 0).map(Value::Number),
                ),
                ("error.type", error.map(text)),
            ],
            failed: error.is_some_and(|error| error != Outcome::Gone.name()),
        });
    }
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
