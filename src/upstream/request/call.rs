//! A request that is ready to be forwarded, as the gateway hands it over.

use std::borrow::Cow;

use http::header::HeaderValue;
use tokio::time::Instant;

use super::authority::Authority;
use super::body::RequestBody;
use crate::api::{Operation, OperationId, Priority};
use crate::upstream::resilience::retry::Retries;

/// When a call was first begun, and what was retried since: a request that begins again gets neither
/// more time nor more retries.
#[derive(Clone, Copy, Debug)]
pub struct CallProgress {
    pub(in crate::upstream) begun: Instant,
    pub(in crate::upstream) retries: Retries,
}

/// A request that is ready to be forwarded.
pub struct Call<'a> {
    /// Its operation.
    pub operation: &'a Operation,
    /// What allows it, as long as it does.
    pub authority: &'a dyn Authority,
    /// Which of the operations that is.
    pub operation_id: OperationId,
    /// The number of the caller, whoever it is.
    pub caller: u64,
    /// How much it matters when not all can be sent.
    pub priority: Priority,
    /// The path, in the table's form.
    pub path: Cow<'a, str>,
    /// The query, without `?`.
    pub query: Option<Cow<'a, str>>,
    /// The region.
    pub region: &'a HeaderValue,
    /// The body.
    pub body: RequestBody,
    /// The media type of the body, when there is one.
    pub content_type: Option<&'a HeaderValue>,
    /// The coding of the body, where it passes through unread and has one.
    pub content_encoding: Option<&'a HeaderValue>,
    /// The `Via` of the caller's request, which the gateway's is added to.
    pub via: Option<HeaderValue>,
    /// Whether the caller's request came over HTTP/2.
    pub http2: bool,
    /// How far it got before the request began again.
    pub progress: Option<CallProgress>,
}
