//! The attempts of a call, as a trace tells of them.

use http::StatusCode;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::trace::{Context, SpanId, TraceId};

/// The trace that a call belongs to, and what became of its attempts.
#[derive(Debug)]
pub struct CallTrace {
    /// The trace.
    pub trace: TraceId,
    /// Whether it is recorded.
    pub sampled: bool,
    /// The attempts in their order; none, when it is not recorded.
    pub attempts: Vec<AttemptSpan>,
}

/// An attempt: a request that was sent, or for which there was no connection.
#[derive(Clone, Copy, Debug)]
pub struct AttemptSpan {
    /// Its span.
    pub span: SpanId,
    /// When it began.
    pub begun: Instant,
    /// When it was over; `None` where the caller went away before.
    pub over: Option<Instant>,
    /// What the upstream answered.
    pub status: Option<StatusCode>,
    /// Why there is no answer.
    pub error: Option<&'static str>,
}

impl CallTrace {
    /// A call of this trace, before its first attempt.
    pub const fn new(trace: TraceId, sampled: bool) -> Self {
        Self { trace, sampled, attempts: Vec::new() }
    }

    /// An attempt begins; gives what the upstream may be told of it.
    pub(super) fn begin(&mut self, at: Instant) -> Context {
        let span = SpanId::random();
        if self.sampled {
            let begun = at;
            self.attempts.push(AttemptSpan { span, begun, over: None, status: None, error: None });
        }
        Context { trace: self.trace, span, sampled: self.sampled }
    }

    /// It is over.
    pub(super) fn end(&mut self, came: Result<StatusCode, &Failure>, at: Instant) {
        let Some(attempt) = self.attempts.last_mut() else { return };
        attempt.over = Some(at);
        match came {
            Ok(status) => attempt.status = Some(status),
            Err(failure) => attempt.error = Some(failure.proxy_error().name()),
        }
    }
}
