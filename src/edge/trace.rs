//! Which trace a request belongs to: one that begins here, or the one that the head names, where
//! whoever sent it is trusted: a proxy, or a caller by its profile (`trust_traceparent`).

use http::{HeaderMap, HeaderValue};

use crate::trace::{Context, Sampling, SpanId, TraceId, tracestate};

/// The trace that begins with a request, and the one that the request names.
pub(crate) struct RequestTrace {
    /// The span of the request.
    pub(crate) span: SpanId,
    own: TraceId,
    named: Option<(Context, Option<Box<str>>)>,
    sampling: Sampling,
}

impl RequestTrace {
    pub(crate) fn new(headers: Option<&HeaderMap>, sampling: Sampling) -> Self {
        let named = headers.and_then(|headers| Some((Context::of(headers)?, tracestate(headers))));
        Self { span: SpanId::random(), own: TraceId::random(), named, sampling }
    }

    /// The trace that the request names; `None` where it is not trusted.
    fn named(&self, trusted: bool) -> Option<&(Context, Option<Box<str>>)> {
        self.named.as_ref().filter(|_| trusted)
    }

    /// The trace that the request belongs to, and whether it is recorded.
    pub(crate) fn id(&self, trusted: bool) -> (TraceId, bool) {
        match self.named(trusted) {
            Some((Context { trace, sampled, .. }, _)) => {
                (*trace, self.sampling.keeps(*trace, Some(*sampled)))
            }
            None => (self.own, self.sampling.keeps(self.own, None)),
        }
    }

    /// The span above that of the request, and the `tracestate` beside it.
    pub(crate) fn parent(&self, trusted: bool) -> Option<(SpanId, Option<&str>)> {
        self.named(trusted).map(|(context, state)| (context.span, state.as_deref()))
    }

    /// The `traceresponse` of an answer.
    pub(crate) fn response(&self, trusted: bool) -> HeaderValue {
        let (trace, sampled) = self.id(trusted);
        Context { trace, span: self.span, sampled }.value()
    }
}
