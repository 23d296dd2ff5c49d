//! The envelope: a failure as an HTTP answer.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, InvalidHeaderValue,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};

use super::{Challenge, Code, Failure, Inner, Settings, UpstreamAnswer};
use crate::bulk;
use crate::field::{PROXY_STATUS, X_REQUEST_ID};

/// What every challenge begins with; all of one where no credential came.
const REALM: &str = "Bearer realm=\"whiteboard-gateway\"";

/// What `Proxy-Status` says of most failures: by code, made once.
static SAID: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    // Kept forever as they are, so that workers share no count of who uses one.
    let said = |code: Code| status_of("error=", code.proxy_error().name(), code, None).leak();
    Code::all().map(|code| HeaderValue::from_static(said(code))).collect()
});

/// How a failure is to be told to this caller.
#[derive(Clone, Copy, Debug)]
pub struct RenderOptions<'a> {
    /// Which statuses may appear.
    pub settings: &'a Settings,
    /// The id that the caller can name to its operator.
    pub request_id: &'a str,
    /// The caller asked for `application/problem+json` (RFC 9457): its members stand alongside.
    pub problem: bool,
    /// The operation's clients crash without `error.title` (`legacy_conversions.get`).
    pub titled: bool,
}

/// An answer as bytes of HTTP/1.1, for where no HTTP library can send one.
#[derive(Debug)]
pub struct RawHead;

impl Failure {
    /// The envelope: a documented status, the headers, and a JSON body with `message`, `code` and
    /// `requestId`. How long that is, whoever sends it says.
    pub fn answer(&self, options: &RenderOptions<'_>) -> Response<Bytes> {
        let inner = &*self.0;
        let status = inner.code.status(options.settings);
        let mut response = Response::new(body(inner, status, options));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        // The limits of the caller and what CORS says are added to these.
        headers.reserve(12);
        headers.insert(
            CONTENT_TYPE,
            if options.problem {
                const { HeaderValue::from_static("application/problem+json") }
            } else {
                const { HeaderValue::from_static("application/json") }
            },
        );
        headers.insert(CACHE_CONTROL, const { HeaderValue::from_static("no-store") });
        put(headers, X_REQUEST_ID, HeaderValue::from_str(options.request_id));
        put(headers, PROXY_STATUS, proxy_status(inner));
        if let Some(wait) = inner.retry_after {
            // Rounded up: asking again a moment too early would be refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(challenge) = challenge(inner, status) {
            put(headers, WWW_AUTHENTICATE, challenge);
        }
        if let Some(methods) = &inner.allow {
            headers.insert(ALLOW, methods.clone());
        }
        if inner.close {
            headers.insert(CONNECTION, const { HeaderValue::from_static("close") });
        }
        response
    }
}

impl RawHead {
    /// A response as the bytes of HTTP/1.1, with its length and `connection: close`.
    pub fn encode(response: &Response<Bytes>) -> Vec<u8> {
        let mut raw = Vec::with_capacity(512 + response.body().len());
        raw.extend_from_slice(b"HTTP/1.1 ");
        raw.extend_from_slice(response.status().as_str().as_bytes());
        raw.push(b' ');
        raw.extend_from_slice(response.status().canonical_reason().unwrap_or("").as_bytes());
        raw.extend_from_slice(b"\r\n");
        let own = |name: &HeaderName| *name == CONTENT_LENGTH || *name == CONNECTION;
        for (name, value) in response.headers().iter().filter(|(name, _)| !own(name)) {
            raw.extend_from_slice(name.as_str().as_bytes());
            raw.extend_from_slice(b": ");
            raw.extend_from_slice(value.as_bytes());
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"content-length: ");
        raw.extend_from_slice(itoa::Buffer::new().format(response.body().len()).as_bytes());
        raw.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
        raw.extend_from_slice(response.body());
        raw
    }
}

/// A value that holds what a header may not hold is omitted: none of ours does.
fn put(
    headers: &mut http::HeaderMap,
    name: HeaderName,
    value: Result<HeaderValue, InvalidHeaderValue>,
) {
    if let Ok(value) = value {
        headers.insert(name, value);
    }
}

fn body(inner: &Inner, status: StatusCode, options: &RenderOptions<'_>) -> Bytes {
    match &inner.upstream {
        // Most failures are the gateway's own: of those there is no object to be made first.
        None => own(inner, status, options).into(),
        Some(upstream) => {
            Value::Object(merged(upstream, inner, status, options)).to_string().into()
        }
    }
}

/// The members of a failure of the gateway's own, written as they come.
fn own(inner: &Inner, status: StatusCode, options: &RenderOptions<'_>) -> String {
    let (message, request_id) = (&*escaped(&inner.message), &*escaped(options.request_id));
    let rule = inner.rule.as_deref().map(escaped);
    let members = |put: &mut dyn FnMut(&str)| {
        member(put, "{\"message\":\"", message);
        member(put, ",\"code\":\"", inner.code.name());
        member(put, ",\"requestId\":\"", request_id);
        if let Some(rule) = &rule {
            member(put, ",\"rule\":\"", rule);
        }
        if options.titled {
            member(put, ",\"error\":{\"title\":\"", message);
            put("}");
        }
        if options.problem {
            member(put, ",\"type\":\"", problem_type(inner.code));
            member(put, ",\"title\":\"", title(status));
            put(",\"status\":");
            put(status.as_str());
            member(put, ",\"detail\":\"", message);
        }
        put("}");
    };
    bulk::concatenated(members)
}

/// A member of an object: what stands before its value, and a text that is escaped.
fn member(put: &mut dyn FnMut(&str), before: &str, text: &str) {
    put(before);
    put(text);
    put("\"");
}

/// The inside of a JSON string. Most texts have nothing in them that JSON escapes.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if bulk::all(text.bytes(), |byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        return Cow::Borrowed(text);
    }
    // A text can always be written.
    let quoted = serde_json::to_string(text).unwrap_or_default();
    let inside = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    Cow::Owned(inside.unwrap_or_default().to_owned())
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Failure")
}

/// The upstream's members, with those of the gateway beside them.
fn merged(
    upstream: &UpstreamAnswer,
    inner: &Inner,
    status: StatusCode,
    options: &RenderOptions<'_>,
) -> Map<String, Value> {
    let mut object = upstream.body.clone();
    // A `message` that is no text is no message to the clients that read one.
    if object.get("message").and_then(Value::as_str).is_none_or(str::is_empty) {
        object.insert("message".to_owned(), Value::from(inner.message.as_ref()));
    }
    object.entry("code").or_insert_with(|| Value::from(inner.code.name()));
    object.entry("requestId").or_insert_with(|| Value::from(options.request_id));
    if let Some(rule) = &inner.rule {
        object.entry("rule").or_insert_with(|| Value::from(&**rule));
    }
    let message = object["message"].clone();
    if options.titled {
        let title = upstream.title.clone().map_or_else(|| message.clone(), Value::from);
        object.insert("error".to_owned(), serde_json::json!({ "title": title }));
    }
    if options.problem {
        object.entry("type").or_insert_with(|| Value::from(problem_type(inner.code)));
        object.entry("title").or_insert_with(|| Value::from(title(status)));
        object.entry("status").or_insert_with(|| Value::from(status.as_u16()));
        object.entry("detail").or_insert(message);
    }
    object
}

/// The problem types that are registered for limits; RFC 9457 §4.2.1 has `about:blank` for the rest.
const fn problem_type(code: Code) -> &'static str {
    match code {
        Code::RateLimited | Code::QuotaExceeded => {
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        }
        Code::Overloaded => {
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
        }
        _ => "about:blank",
    }
}

/// `Proxy-Status` (RFC 9209): the gateway's own word, also where the body is the upstream's.
fn proxy_status(inner: &Inner) -> Result<HeaderValue, InvalidHeaderValue> {
    let Inner { code, rule, proxy_error, upstream, .. } = inner;
    let text = match (upstream, proxy_error, rule) {
        (None, None, None) => return Ok(SAID[code.index()].clone()),
        (None, error, rule) => {
            let error = error.unwrap_or_else(|| code.proxy_error());
            status_of("error=", error.name(), *code, rule.as_deref())
        }
        (Some(upstream), ..) => {
            status_of("received-status=", upstream.status.as_str(), *code, None)
        }
    };
    text.try_into()
}

fn status_of(what: &str, which: &str, code: Code, rule: Option<&str>) -> String {
    let rule = rule.map(quoted);
    let (by, rule) = rule.as_ref().map_or(("", ""), |rule| (" by ", rule));
    // At once, so that it has its size from the beginning.
    ["whiteboard-gateway; ", what, which, "; details=\"", code.name(), by, rule, "\""].concat()
}

/// Every 401 carries one (RFC 9110 §11.6.1), and a 403 that names the scope that is missing.
fn challenge(inner: &Inner, status: StatusCode) -> Option<Result<HeaderValue, InvalidHeaderValue>> {
    let bare = || Some(Ok(const { HeaderValue::from_static(REALM) }));
    let with = |more, text| Some([REALM, more, &*quoted(text), "\""].concat().try_into());
    match &inner.challenge {
        Some(Challenge::Missing) => bare(),
        Some(Challenge::Invalid(why)) => {
            with(", error=\"invalid_token\", error_description=\"", why)
        }
        Some(Challenge::Scope(operation)) => {
            with(", error=\"insufficient_scope\", scope=\"", operation)
        }
        None if status == StatusCode::UNAUTHORIZED => bare(),
        None => None,
    }
}

/// The inside of a quoted string: printable ASCII without `"` and `\`.
fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    if bulk::all(text.bytes(), |byte| plain(byte.into())) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if plain(c) { c } else { '\'' }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::StatusProfile;
    use std::time::Duration;

    fn told(failure: &Failure, problem: bool, titled: bool) -> (Response<Bytes>, Value) {
        let settings = Settings::of(StatusProfile::Documented);
        let options = RenderOptions { settings: &settings, request_id: "r-1", problem, titled };
        let response = failure.answer(&options);
        let body = serde_json::from_slice(response.body()).unwrap();
        (response, body)
    }

    fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn the_envelope_has_a_message_a_code_and_the_request_id() {
        let failure = Failure::new(Code::RateLimited, "too many requests")
            .with_retry_after(Duration::from_millis(1200));
        let (response, body) = told(&failure, false, false);
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(
            body,
            serde_json::json!({"message": "too many requests", "code": "rate_limited", "requestId": "r-1"})
        );
        assert_eq!(header(&response, "retry-after"), "2");
        assert_eq!(header(&response, "cache-control"), "no-store");
        assert_eq!(
            header(&response, "proxy-status"),
            "whiteboard-gateway; error=http_request_denied; details=\"rate_limited\""
        );
    }

    #[test]
    fn every_401_carries_a_challenge_and_a_scope_is_named_in_a_403() {
        let (response, _) = told(&Failure::fixed(Code::Unauthenticated, "no key"), false, false);
        assert_eq!(header(&response, "www-authenticate"), "Bearer realm=\"whiteboard-gateway\"");
        let invalid = Failure::invalid_credential(Code::InvalidToken, "it \"is\" wrong");
        assert_eq!(
            header(&told(&invalid, false, false).0, "www-authenticate"),
            "Bearer realm=\"whiteboard-gateway\", error=\"invalid_token\", error_description=\"it 'is' wrong\""
        );
        let scope = Failure::insufficient_scope("rooms.update", "no".to_owned());
        assert!(
            header(&told(&scope, false, false).0, "www-authenticate")
                .ends_with("error=\"insufficient_scope\", scope=\"rooms.update\"")
        );
    }

    #[test]
    fn the_upstreams_object_is_kept_and_its_fields_win() {
        let Value::Object(object) =
            serde_json::json!({"message": "room full", "code": 7, "x": [1]})
        else {
            unreachable!()
        };
        let failure =
            Failure::from_upstream(Code::UpstreamRefused, StatusCode::CONFLICT, object, "fallback");
        let (response, body) = told(&failure, false, true);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            body,
            serde_json::json!({
                "message": "room full", "code": 7, "x": [1], "requestId": "r-1",
                "error": {"title": "room full"}
            })
        );
        assert_eq!(
            header(&response, "proxy-status"),
            "whiteboard-gateway; received-status=409; details=\"upstream_refused\""
        );
    }

    #[test]
    fn a_message_that_is_no_text_is_replaced() {
        let Value::Object(object) = serde_json::json!({"message": {"a": 1}}) else {
            unreachable!()
        };
        let failure =
            Failure::from_upstream(Code::UpstreamError, StatusCode::BAD_GATEWAY, object, "failed");
        assert_eq!(told(&failure, false, false).1["message"], "failed");
    }

    #[test]
    fn a_problem_document_stands_alongside() {
        let (response, body) = told(&Failure::fixed(Code::NotFound, "no room"), true, false);
        assert_eq!(header(&response, "content-type"), "application/problem+json");
        assert_eq!(
            body,
            serde_json::json!({
                "message": "no room", "code": "not_found", "requestId": "r-1",
                "type": "about:blank", "title": "Not Found", "status": 404, "detail": "no room"
            })
        );
    }

    #[test]
    fn whatever_a_message_holds_the_body_is_json() {
        let message = "a \"quoted\" \\ \u{7} ü\n";
        let failure = Failure::new(Code::Forbidden, message).with_rule("a\"b");
        let (response, body) = told(&failure, true, true);
        assert_eq!((&body["message"], &body["detail"]), (&message.into(), &message.into()));
        assert_eq!((&body["rule"], &body["error"]["title"]), (&"a\"b".into(), &message.into()));
        assert!(header(&response, "proxy-status").ends_with("details=\"forbidden by a'b\""));
    }

    #[test]
    fn a_raw_answer_is_http() {
        let (response, _) =
            told(&Failure::fixed(Code::MalformedRequest, "no").closing(), false, false);
        let raw = String::from_utf8(RawHead::encode(&response)).unwrap();
        assert!(raw.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{raw}");
        let length = format!("\r\ncontent-length: {}\r\n", response.body().len());
        assert!(raw.contains(&length), "{raw}");
        assert_eq!(raw.matches("connection: close\r\n").count(), 1);
        assert!(raw.ends_with("\"requestId\":\"r-1\"}"));
    }
}
