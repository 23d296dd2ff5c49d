//! A small HTTPS client for the documents of providers: GET, bounded in time and in size.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, CACHE_CONTROL, HOST, LOCATION, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::Full;
use rustls::pki_types::CertificateDer;

use super::HttpsUrl;
use super::early_refresh::BETWEEN_DEMANDS;
use crate::field::delta_seconds;
use crate::field::list::{self, Members};
use crate::net::{self, ClientDialler, ClientError, Egress, within};

/// Until a document is there, redirects included.
const TOTAL: Duration = Duration::from_secs(5);
/// The longest document.
pub(super) const MAX_BYTES: usize = 256 * 1024;
const MAX_REDIRECTS: usize = 3;

/// Fetches documents over TLS, and without from this machine alone ([`HttpsUrl`] sees to that).
pub(super) struct JwksClient {
    tls: net::Client,
    loopback: net::Client,
}

/// A document as it came.
pub(super) struct Document {
    pub(super) body: Bytes,
    /// How long the provider lets it be kept, where it says so.
    pub(super) fresh: Option<Duration>,
}

/// Why a document did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("no answer was there after {} s", TOTAL.as_secs())]
    Slow,
    #[error("it answered {status}")]
    Status {
        status: http::StatusCode,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    #[error("it sent us elsewhere than to another path of its own")]
    Redirect,
    #[error("it sent us on more than {MAX_REDIRECTS} times")]
    Redirects,
    #[error("the request could not be made: {0}")]
    Request(#[from] http::Error),
}

impl JwksClient {
    /// Trusts these certificates, or those of the platform; goes out by this way. What is without TLS
    /// never leaves this machine, and so never goes by a proxy, which would choose the keys.
    pub(super) fn new(
        ca: Option<&[CertificateDer<'static>]>,
        egress: &Egress,
    ) -> Result<Self, rustls::Error> {
        let tls = net::Client::over_tls(ca, "ca")?.through(egress.clone());
        Ok(Self { tls, loopback: net::Client::in_the_clear() })
    }

    /// Over another network than the system's.
    pub(super) fn over(dialler: &Arc<dyn ClientDialler>) -> Self {
        let client = || net::Client::over(Arc::clone(dialler));
        Self { tls: client(), loopback: client() }
    }

    /// Fetches a document. Nothing of the attempt is left when the future is dropped.
    pub(super) async fn get(&self, url: &HttpsUrl) -> Result<Document, DocumentError> {
        within(TOTAL, self.follow(url)).await.unwrap_or(Err(DocumentError::Slow))
    }

    async fn follow(&self, url: &HttpsUrl) -> Result<Document, DocumentError> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let client = if url.is_over_tls() { &self.tls } else { &self.loopback };
            let mut connection = client.connect(url.origin()).await?;
            let answer = connection.send(asking(&url)?).await?;
            let status = answer.status();
            // Of 3xx, those alone lead elsewhere (RFC 9110 §15.4): 304 is an answer to a condition,
            // and none was sent.
            if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                let location = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                url = location.and_then(|to| url.redirected(to)).ok_or(DocumentError::Redirect)?;
            } else if status == http::StatusCode::OK {
                let fresh = freshness(answer.headers());
                let body = net::read(answer.into_body(), MAX_BYTES).await?;
                return Ok(Document { body, fresh });
            } else {
                let retry_after = retry_after(status, answer.headers());
                return Err(DocumentError::Status { status, retry_after });
            }
        }
        Err(DocumentError::Redirects)
    }
}

/// What asks for a document.
fn asking(url: &HttpsUrl) -> Result<Request<Full<Bytes>>, http::Error> {
    Request::get(url.target())
        .header(HOST, &url.origin().authority)
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .header(USER_AGENT, net::USER_AGENT)
        .body(Full::default())
}

/// How long the provider wants to be left alone: what `Retry-After` says in seconds, and after a
/// 429 that names no time as long as between two fetches that are not planned.
fn retry_after(status: http::StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let named = headers.get(RETRY_AFTER).and_then(|value| delta_seconds(value.as_bytes()));
    let unnamed = (status == http::StatusCode::TOO_MANY_REQUESTS).then_some(BETWEEN_DEMANDS);
    named.map(Duration::from_secs).or(unnamed)
}

/// How long the answer is still fresh (RFC 9111 §4.2): `max-age` less the time that it spent in
/// caches on the way. One that must not be kept is fresh for no time.
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).into_iter();
    let mut max_age = None;
    for directive in lines.flat_map(|line| Members::of_parameterized(line.as_bytes())) {
        // `no-cache="field"` is about that field alone (RFC 9111 §5.2.2.4).
        if directive.eq_ignore_ascii_case(b"no-store")
            || directive.eq_ignore_ascii_case(b"no-cache")
        {
            return Some(Duration::ZERO);
        }
        let Some((name, value)) = list::argument(directive) else { continue };
        if name.eq_ignore_ascii_case(b"max-age") {
            max_age = delta_seconds(&value);
        }
    }
    let age = headers.get(AGE).and_then(|value| delta_seconds(value.as_bytes()));
    let age = age.unwrap_or(0);
    max_age.map(|seconds| Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_says_how_long_it_wants_to_be_left_alone() {
        for (status, header, wait) in [
            (503, None, None),
            (503, Some("7"), Some(7)),
            (429, Some(" 30 "), Some(30)),
            (429, None, Some(5)),
            (429, Some("soon"), Some(5)),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|text| (RETRY_AFTER, HeaderValue::from_static(text))));
            let status = http::StatusCode::from_u16(status).unwrap();
            let wanted = wait.map(Duration::from_secs);
            assert_eq!(retry_after(status, &headers), wanted, "{status} {header:?}");
        }
    }

    #[test]
    fn freshness_is_what_is_left_of_the_age() {
        for (control, age, fresh) in [
            (None, None, None),
            (Some("public"), None, None),
            (Some("public, Max-Age=3600, must-revalidate"), None, Some(3600)),
            (Some("max-age=\"3600\""), Some("600"), Some(3000)),
            (Some("max-age=60"), Some("600"), Some(0)),
            (Some("no-store, max-age=3600"), None, Some(0)),
            (Some("max-age=soon"), None, None),
            (Some("max-age=99999999999999999999"), None, Some(u64::MAX)),
            (Some("private=\"a, no-store, max-age=1\", max-age=60"), None, Some(60)),
            (Some("no-cache=\"set-cookie\", max-age=60"), None, Some(60)),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(CACHE_CONTROL, control), (AGE, age)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(freshness(&headers), fresh.map(Duration::from_secs), "{control:?}");
        }
    }
}
