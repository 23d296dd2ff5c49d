//! The head of an answer: its status, and of its fields those few that the gateway looks at.
//!
//! Nothing else of an answer's head is kept, so nothing else can reach a caller.

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::header::{InvalidHeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};

use crate::field::list::Members;

/// What nearly every answer is labelled with: kept once, for all.
const LABELS: [&str; 2] = ["application/json", "application/json; charset=utf-8"];

/// By whom an answer may be kept. None is ever anyone's but the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caching {
    /// By the caller.
    #[default]
    Private,
    /// By the caller, who asks each time whether it still counts.
    NoCache,
    /// By no one.
    NoStore,
}

impl Caching {
    /// What one `Cache-Control` of the service says. It can only make it stricter.
    fn of(line: &[u8]) -> Self {
        let stricter = |member: &[u8]| {
            let name = member.split(|byte| *byte == b'=').next().unwrap_or_default();
            match name.trim_ascii() {
                name if name.eq_ignore_ascii_case(b"no-store") => Self::NoStore,
                name if name.eq_ignore_ascii_case(b"no-cache") => Self::NoCache,
                _ => Self::Private,
            }
        };
        // An argument in quotation marks may hold a comma: what is then found is stricter at most.
        line.split(|byte| *byte == b',').map(stricter).max().unwrap_or_default()
    }

    /// What the caller is told.
    pub const fn said(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Private => "private",
            Self::NoCache => "private, no-cache",
            Self::NoStore => "no-store",
        })
    }
}

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// Its status.
    pub status: StatusCode,
    /// The media type of its body.
    pub content_type: Option<HeaderValue>,
    /// Whether its body is encoded, though that was not asked for.
    pub encoded: bool,
    /// How much stricter than others it says that it may be cached.
    pub caching: Caching,
    /// When to ask again.
    pub retry_after: Option<HeaderValue>,
}

impl ResponseHead {
    pub(in crate::upstream) const fn new(status: StatusCode) -> Self {
        Self {
            status,
            content_type: None,
            encoded: false,
            caching: Caching::Private,
            retry_after: None,
        }
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
            caching: fields
                .get_all(CACHE_CONTROL)
                .iter()
                .map(|line| Caching::of(line.as_bytes()))
                .max()
                .unwrap_or_default(),
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
        } else if name.eq_ignore_ascii_case("retry-after") {
            &mut self.retry_after
        } else {
            if name.eq_ignore_ascii_case("content-encoding") {
                self.encoded |= is_coded(value);
            } else if name.eq_ignore_ascii_case("cache-control") {
                self.caching = self.caching.max(Caching::of(value));
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
