//! The head of an answer: its status, and of its fields those few that the gateway looks at.
//!
//! Nothing else of an answer's head is kept, so nothing else can reach a caller.

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::header::{InvalidHeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};

use crate::field::list::Members;

/// What nearly every answer is labelled with: kept once, for all.
const LABELS: [&str; 2] = ["application/json", "application/json; charset=utf-8"];

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// The media type of its body.
    pub content_type: Option<HeaderValue>,
    /// Whether its body is encoded, though that was not asked for.
    pub encoded: bool,
    /// How it may be cached.
    pub cache_control: Option<HeaderValue>,
    /// When to ask again.
    pub retry_after: Option<HeaderValue>,
}

impl Head {
    pub(in crate::upstream) const fn new(status: StatusCode) -> Self {
        Self { status, content_type: None, encoded: false, cache_control: None, retry_after: None }
    }

    /// Takes what is looked at out of all fields.
    pub(in crate::upstream) fn of(status: StatusCode, fields: &HeaderMap) -> Self {
        let first = |name: HeaderName| fields.get(name).cloned();
        Self {
            status,
            content_type: first(CONTENT_TYPE),
            encoded: fields
                .get_all(CONTENT_ENCODING)
                .iter()
                .any(|coding| is_coded(coding.as_bytes())),
            cache_control: first(CACHE_CONTROL),
            retry_after: first(RETRY_AFTER),
        }
    }

    /// Takes a field, if it is one that is looked at. Of two of a name, the first counts.
    pub(in crate::upstream) fn take(
        &mut self,
        name: &str,
        value: &[u8],
    ) -> Result<(), InvalidHeaderValue> {
        let kept = if name.eq_ignore_ascii_case("content-type") {
            &mut self.content_type
        } else if name.eq_ignore_ascii_case("cache-control") {
            &mut self.cache_control
        } else if name.eq_ignore_ascii_case("retry-after") {
            &mut self.retry_after
        } else {
            if name.eq_ignore_ascii_case("content-encoding") {
                self.encoded |= is_coded(value);
            }
            return Ok(());
        };
        if kept.is_none() {
            *kept = Some(match LABELS.iter().find(|label| label.as_bytes() == value) {
                Some(label) => HeaderValue::from_static(label),
                None => HeaderValue::from_bytes(value)?,
            });
        }
        Ok(())
    }
}

fn is_coded(coding: &[u8]) -> bool {
    Members::of_tokens(coding).any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}
