//! The way to the whiteboard service: connections, deadlines, header hygiene, and what its
//! answers mean.
//!
//! In floors, each of which knows only those below it: `forward`, an attempt, its response, the
//! connection that it comes on, and the request; what is decided about failures stands beside.

mod attempt;
mod call_trace;
mod connection;
mod exchange;
mod forward;
mod report;
mod request;
mod resilience;
mod response;
mod settings;

pub use crate::net::Origin;
pub use call_trace::{AttemptSpan, CallTrace};
pub use connection::connect::TlsSetupError;
pub use connection::head::ResponseHead;
pub use connection::http1::{Buffers, ParseStep, ResponseParser, ResponseSyntaxError};
pub use connection::network::{Dial, Dialled, Dialling, Network, Wire};
pub use connection::pool::Pool;
pub use connection::service::{BREAKERS, Upstream};
pub use forward::{ForwardRecord, ForwardReport};
pub use request::authority::{Authority, FinalCheck, PendingCheck};
pub use request::body::RequestBody;
pub use request::call::{Call, CallProgress};
pub use request::error::BodyError;
pub use request::upload::Upload;
pub use resilience::breaker::{BreakerSettings, BreakerState};
pub use resilience::concurrency::{ConcurrencyLimit, ConcurrencySettings};
pub use resilience::retry::{RetryReason, RetrySettings};
pub use response::body::ResponseBody;
pub use response::failure_body::message_in;
pub use response::json::{JsonReader, NotJsonError};
pub use response::normalize::{UpstreamResponse, heard};
pub use settings::{Settings, Timeouts};
