//! The spans of a request: its own and those of its attempts at the upstream.
//!
//! A span has what the access line has, less the address of the client; no path but the table's, no
//! query, no body, no header.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::context::RequestContext;
use super::method::OTHER_METHOD;
use crate::api::Operation;
use crate::otlp::{Parent, Span, SpanKind, Spans, Value};
use crate::telemetry::{AccessLine, Outcome};
use crate::trace::SpanId;
use crate::upstream::{AttemptSpan, CallTrace, Origin};

/// What the spans of a request are made of.
pub(super) struct RequestSpans<'a> {
    pub(super) context: &'a RequestContext,
    pub(super) traced: &'a CallTrace,
    /// The span of the request.
    pub(super) span: SpanId,
    /// The span of the caller.
    pub(super) parent: Option<SpanId>,
    pub(super) state: Option<&'a str>,
    pub(super) line: &'a AccessLine<'a>,
    pub(super) operation: Option<&'a Operation>,
    pub(super) profile: Option<&'a str>,
    pub(super) upstream: &'a Origin,
}

impl RequestSpans<'_> {
    pub(super) fn add_to(&self, spans: &Spans) {
        let Self { context, line, .. } = self;
        let method = line.method.filter(|method| *method != OTHER_METHOD);
        let route = self.route();
        let error = match line.outcome {
            Outcome::Answered => None,
            failed => Some(failed.name()),
        };
        spans.add(&Span {
            trace: self.traced.trace,
            id: self.span,
            parent: self.parent.map(|id| Parent { id, remote: true }),
            state: self.state,
            kind: SpanKind::Server,
            name: (method.unwrap_or("HTTP"), route),
            begun_ns: context.at_ns,
            over_ns: context.at_ns.saturating_add(nanoseconds(line.took)),
            attributes: &[
                ("http.request.method", text(line.method.or(Some(OTHER_METHOD)))),
                ("http.route", text(route)),
                ("http.response.status_code", number(line.status)),
                ("url.scheme", text(Some(if context.peer.tls { "https" } else { "http" }))),
                ("network.protocol.version", text(Some(line.protocol))),
                ("error.type", text(error)),
                ("whiteboard.operation", text(line.operation.name())),
                ("whiteboard.caller", text(line.caller)),
                ("whiteboard.profile", text(self.profile)),
                ("whiteboard.rule", text(line.rule)),
                ("whiteboard.request_id", text(Some(line.request_id))),
            ],
            failed: line.status.is_some_and(|status| status.is_server_error()),
        });
        for (resent, attempt) in (0..).zip(&self.traced.attempts) {
            self.add_attempt(spans, resent, attempt);
        }
    }

    fn route(&self) -> Option<&str> {
        self.operation.map(|operation| &*operation.path)
    }

    fn add_attempt(&self, spans: &Spans, resent: i64, attempt: &AttemptSpan) {
        let Self { context, line, .. } = self;
        let AttemptSpan { span, begun, over, status, error } = *attempt;
        let after = |at: Instant| nanoseconds(at.saturating_duration_since(context.begun));
        let refused = status.filter(|status| !status.is_success());
        let error = match (error, over) {
            (None, None) => Some(Outcome::Gone.name()),
            (None, Some(_)) => refused.as_ref().map(StatusCode::as_str),
            (error, _) => error,
        };
        let over = over.map_or_else(|| nanoseconds(line.took), after);
        spans.add(&Span {
            trace: self.traced.trace,
            id: span,
            parent: Some(Parent { id: self.span, remote: false }),
            state: self.state,
            kind: SpanKind::Client,
            name: (line.method.unwrap_or("HTTP"), self.route()),
            begun_ns: context.at_ns.saturating_add(after(begun)),
            over_ns: context.at_ns.saturating_add(over),
            attributes: &[
                ("http.request.method", text(line.method)),
                ("url.template", text(self.route())),
                ("server.address", text(Some(&self.upstream.host))),
                ("server.port", Some(Value::Number(self.upstream.port.into()))),
                ("http.response.status_code", number(status)),
                // Absent for the first.
                ("http.request.resend_count", (resent > 0).then_some(Value::Number(resent))),
                ("error.type", text(error)),
            ],
            failed: error.is_some_and(|error| error != Outcome::Gone.name()),
        });
    }
}

fn text(value: Option<&str>) -> Option<Value<'_>> {
    value.map(Value::Text)
}

fn number<'a>(status: Option<StatusCode>) -> Option<Value<'a>> {
    status.map(|status| Value::Number(status.as_u16().into()))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
