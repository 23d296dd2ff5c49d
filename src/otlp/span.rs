//! A span, and how it is written (`opentelemetry.proto.trace.v1.Span`).

use super::wire::{Message, Value};
use crate::trace::{SpanId, TraceId};

/// A piece of work in a trace, over.
pub struct Span<'a> {
    /// The trace.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// What it is a part of.
    pub parent: Option<Parent>,
    /// What other systems say of the trace.
    pub state: Option<&'a str>,
    /// Which end of a request it is.
    pub kind: SpanKind,
    /// Its name: the method, and the path as the table has it.
    pub name: (&'a str, Option<&'a str>),
    /// When it began, in nanoseconds of Unix time.
    pub begun_ns: u64,
    /// When it was over.
    pub over_ns: u64,
    /// What is known of it.
    pub attributes: &'a [(&'static str, Option<Value<'a>>)],
    /// Whether it failed in a way that is not the client's fault.
    pub failed: bool,
}

/// The span that another is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Itself.
    pub id: SpanId,
    /// Whether it is another system's.
    pub remote: bool,
}

/// Which end of a request a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// It was answered.
    Server,
    /// It was sent.
    Client,
}

/// The flags: it is recorded, it is known whether its parent is remote, and it is.
const SAMPLED: u32 = 1;
const KNOWN: u32 = 1 << 8;
const REMOTE: u32 = 1 << 9;

/// The status of a span that failed.
const ERROR: u64 = 2;

impl Span<'_> {
    /// Writes it as a field of what holds it.
    pub(super) fn write(&self, out: &mut Message<'_>, field: u32) {
        out.message(field, |span| {
            span.bytes(1, self.trace.bytes());
            span.bytes(2, self.id.bytes());
            span.text(3, self.state.unwrap_or_default());
            if let Some(parent) = &self.parent {
                span.bytes(4, parent.id.bytes());
            }
            match self.name {
                (method, None) => span.text(5, method),
                (method, Some(route)) => span.text(5, &[method, " ", route].concat()),
            }
            span.number(
                6,
                match self.kind {
                    SpanKind::Server => 2,
                    SpanKind::Client => 3,
                },
            );
            span.fixed64(7, self.begun_ns);
            span.fixed64(8, self.over_ns);
            for (key, value) in self.attributes {
                if let Some(value) = value {
                    span.attribute(9, key, *value);
                }
            }
            if self.failed {
                span.message(15, |status| status.number(3, ERROR));
            }
            let remote = self.parent.is_some_and(|parent| parent.remote);
            span.fixed32(16, SAMPLED | KNOWN | if remote { REMOTE } else { 0 });
        });
    }
}
