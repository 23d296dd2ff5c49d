//! CORS (<https://fetch.spec.whatwg.org/#http-cors-protocol>): which pages of other origins may
//! read the gateway's answers, and the answers to the questions that browsers ask first.
//!
//! It guards people's browsers, not the gateway: who calls is proved by a credential that the page
//! itself puts into a header. So a browser has nothing of its own to add, cookies are never taken,
//! and `Access-Control-Allow-Credentials` is never sent.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    CACHE_CONTROL, CONTENT_TYPE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use super::origin::OriginPattern;
use crate::api::Operations;
use crate::failure::{Code, Failure};

/// What a page may send besides what every page may.
const REQUEST_FIELDS: &str = "authorization, content-type, region, token, x-api-key, x-request-id";

/// The same where the trace that a page names may be continued.
const REQUEST_FIELDS_AND_TRACE: &str = "authorization, content-type, region, token, traceparent, \
                                        tracestate, x-api-key, x-request-id";

/// What a page may read of an answer besides its body and what every page may.
const ANSWER_FIELDS: &str = "x-request-id, traceresponse, ratelimit, ratelimit-policy, retry-after, \
                             whiteboard-granted, proxy-status, www-authenticate";

/// What the answer to a preflight depends on.
const PREFLIGHT_VARIES_BY: &str =
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

/// The pages that may call, from the `[cors]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsSettings {
    /// Where they come from.
    pub origins: Vec<OriginPattern>,
    /// How long a browser may go by the answer to a preflight.
    pub max_age: Duration,
}

impl CorsSettings {
    /// How long, when it is not said: short enough that a page that was let in by mistake is soon
    /// out again, and browsers keep it no longer than two hours anyhow.
    pub const MAX_AGE: Duration = Duration::from_secs(10 * 60);
}

/// The pages that may call, ready to be asked.
pub(crate) struct CorsPolicy {
    origins: Vec<OriginPattern>,
    max_age: HeaderValue,
    request_fields: HeaderValue,
}

impl CorsPolicy {
    /// `traces`: whether there are callers or proxies whose traces are continued.
    pub(crate) fn new(settings: CorsSettings, traces: bool) -> Self {
        let max_age = HeaderValue::from(settings.max_age.as_secs());
        let fields = if traces { REQUEST_FIELDS_AND_TRACE } else { REQUEST_FIELDS };
        let request_fields = HeaderValue::from_static(fields);
        Self { origins: settings.origins, max_age, request_fields }
    }

    /// Whether pages of this origin may read answers.
    fn admits(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().unwrap_or_default();
        self.origins.iter().any(|pattern| pattern.admits(origin))
    }

    /// Puts on an answer which pages may read it.
    pub(crate) fn stamp(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        // Also without an origin: a cache must not give this answer to a page that may read it.
        headers.entry(VARY).or_insert(HeaderValue::from_static("Origin"));
        let Some(origin) = origin.filter(|origin| self.admits(origin)) else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANSWER_FIELDS));
    }

    /// Answers a preflight; `None` for every other request. A browser sends no credential with it, so
    /// it comes before the caller is asked for one.
    ///
    /// # Errors
    /// For a path or method that no operation has, as for the request that would follow.
    pub(crate) fn preflight<B>(
        &self,
        request: &Request<B>,
        operations: &Operations,
    ) -> Result<Option<Response<Bytes>>, Failure> {
        let Some((origin, method)) = asked(request) else { return Ok(None) };
        if !self.admits(origin) {
            tracing::debug!(?origin, "a page may not call: its origin is not in cors.origins");
            return Ok(Some(no_permission()));
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| {
            let why = "the Access-Control-Request-Method is no method";
            Failure::fixed(Code::MalformedRequest, why)
        })?;
        let path = request.uri().path();
        operations.find(&method, path)?;
        Ok(Some(self.permission(&operations.methods(path)?)))
    }

    /// The answer to a preflight for a path that takes `methods`.
    fn permission(&self, methods: &str) -> Response<Bytes> {
        let mut answer = answered(Bytes::new());
        let headers = answer.headers_mut();
        // The names of methods are a header value: they are tokens (RFC 9110 §9.1).
        if let Ok(methods) = HeaderValue::from_str(methods) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.request_fields.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        answer
    }
}

/// What an answer that someone was allowed to have depends on besides its URL: whose credential it
/// was, and the region. No cache may give it to anyone else.
pub(crate) const fn varies_by_credential(and_by_origin: bool) -> HeaderValue {
    HeaderValue::from_static(if and_by_origin {
        "Origin, Authorization, X-API-Key, token, region"
    } else {
        "Authorization, X-API-Key, token, region"
    })
}

/// The origin and the method that a preflight asks for; `None` for what is none.
fn asked<B>(request: &Request<B>) -> Option<(&HeaderValue, &HeaderValue)> {
    if request.method() != Method::OPTIONS {
        return None;
    }
    let headers = request.headers();
    Some((headers.get(ORIGIN)?, headers.get(ACCESS_CONTROL_REQUEST_METHOD)?))
}

/// The answer to a preflight from elsewhere. No failure: nothing is wrong with the question. The
/// browser finds no `Access-Control-Allow-Origin` and says so in its console; the message is for
/// whoever looks at the answer itself.
fn no_permission() -> Response<Bytes> {
    let mut answer = answered(Bytes::from_static(
        b"{\"message\":\"pages of this origin may not call this gateway: \
          its operator has not named the origin in cors.origins\"}",
    ));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn answered(body: Bytes) -> Response<Bytes> {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(VARY, HeaderValue::from_static(PREFLIGHT_VARIES_BY));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> CorsPolicy {
        let origins = origins.iter().map(|text| OriginPattern::parse(text).unwrap()).collect();
        CorsPolicy::new(CorsSettings { origins, max_age: CorsSettings::MAX_AGE }, false)
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn any_of_the_patterns_admits() {
        let cors = cors(&["https://a.example", "https://*.b.example"]);
        for (origin, admitted) in [
            ("https://a.example", true),
            ("https://x.b.example", true),
            ("https://b.example", false),
            ("null", false),
        ] {
            assert_eq!(cors.admits(&HeaderValue::from_static(origin)), admitted, "{origin}");
        }
        assert!(!cors.admits(&HeaderValue::from_bytes(b"https://\xff.b.example").unwrap()));
    }

    #[test]
    fn every_answer_says_that_it_depends_on_the_origin() {
        let cors = cors(&["https://a.example"]);
        for origin in [None, Some(&HeaderValue::from_static("https://b.example"))] {
            let mut stamped = HeaderMap::new();
            cors.stamp(&mut stamped, origin);
            assert_eq!(stamped, headers(&[("vary", "Origin")]));
        }
        let mut stamped = cors.permission("GET").headers().clone();
        cors.stamp(&mut stamped, Some(&HeaderValue::from_static("https://a.example")));
        assert_eq!(stamped[VARY], PREFLIGHT_VARIES_BY);
        assert_eq!(stamped[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(stamped[ACCESS_CONTROL_MAX_AGE], "600");
        assert!(!stamped.contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn only_the_question_of_a_browser_is_a_preflight() {
        let request = |method: &str, fields: &[(&'static str, &str)]| {
            let mut request = Request::builder().method(method).body(()).unwrap();
            *request.headers_mut() = headers(fields);
            asked(&request).is_some()
        };
        let whole = [("origin", "https://a.example"), ("access-control-request-method", "PATCH")];
        assert!(request("OPTIONS", &whole));
        assert!(!request("GET", &whole));
        assert!(!request("OPTIONS", &whole[..1]));
        assert!(!request("OPTIONS", &whole[1..]));
    }
}
