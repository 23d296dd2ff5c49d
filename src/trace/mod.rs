//! A trace: its ids, the context by which a request belongs to one (W3C Trace Context, level 1),
//! and which traces are recorded.
//!
//! What is not exactly as the specification has it counts for nothing, and a new trace begins. It
//! says nothing of whose word is taken, and does no I/O.

mod id;
mod sampling;
mod traceparent;
mod tracestate;

pub use id::{Id, SpanId, TraceId};
pub use sampling::{Parents, Sampling, Share};
pub use traceparent::Context;
pub use tracestate::tracestate;
