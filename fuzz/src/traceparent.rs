//! `traceparent` and `tracestate`: read exactly or not at all.
//!
//! An input is values of the fields, a line each; those of `tracestate` begin with `s:`.

use http::{HeaderMap, HeaderName, HeaderValue};
use whiteboard_gateway::field::TRACEPARENT;
use whiteboard_gateway::trace::{Context, tracestate};

const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// One input.
pub fn run(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let (name, value) = match line.strip_prefix(b"s:") {
            Some(value) => (TRACESTATE, value),
            None => (TRACEPARENT, line),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    if let Some(context) = Context::of(&headers) {
        let read = headers[&TRACEPARENT].as_bytes();
        assert_eq!(headers.get_all(&TRACEPARENT).iter().count(), 1, "two contradict one another");
        assert!(!read.starts_with(b"ff") && read.len() >= 55, "{read:?}");
        // What is written is what was read, but for the version and the flags.
        let written = context.value();
        assert_eq!(written.as_bytes()[2..53], read[2..53]);
        assert_eq!(Context::parse(written.as_bytes()), Some(context));
    }
    if let Some(state) = tracestate(&headers) {
        assert!((3..=512).contains(&state.len()) && state.split(',').count() <= 32, "{state}");
        assert!(state.split(',').all(|member| member.contains('=')), "{state}");
        // It is in its one form.
        let value = HeaderValue::from_str(&state).expect("it was a value");
        let again: HeaderMap = [(TRACESTATE, value)].into_iter().collect();
        assert_eq!(tracestate(&again), Some(state));
    }
}
