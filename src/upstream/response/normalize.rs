//! What an answer of the upstream means for the caller.
//!
//! Success gets the operation's documented status and never goes without a body; everything else
//! becomes a [`Failure`] with the upstream's own words kept.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::body::ResponseBody;
use super::failure_body::FailureBody;
use super::json::{JsonReader, NotJsonError};
use super::read::BufferedResponse;
use crate::api::{Access, Feature, Operation};
use crate::failure::{Code, Failure};
use crate::field::delta_seconds;
use crate::text::{BOM, without_bom};
use crate::token::Sent;
use crate::upstream::connection::head::ResponseHead;

/// An answer of success.
pub type UpstreamResponse = Response<ResponseBody>;

/// The texts by which the service says that a token is wrong, whatever the status.
const TOKEN_ERRORS: [&str; 3] =
    ["invalid format of token", "expired token", "invalid signature of token"];

/// So many characters of a failure go to the debug log.
const LOGGED: usize = 4_000;

/// What an answer that came whole means for the caller; `token` is what it was asked with, where that
/// was the gateway's own.
///
/// # Errors
/// The upstream's failure in the documented form.
pub fn heard(
    status: StatusCode,
    fields: &HeaderMap,
    body: Bytes,
    operation: &Operation,
    token: Option<&HeaderValue>,
) -> Result<UpstreamResponse, Failure> {
    let sent = Sent::new(token);
    let read = BufferedResponse::whole(ResponseHead::of(status, fields), body).without(&sent);
    normalize(read, operation, &sent, "")
}

/// Holds an answer of success to being JSON, whatever it is labelled, and drops a mark before it.
fn must_be_json(body: &mut ResponseBody) -> Result<(), NotJsonError> {
    match body {
        ResponseBody::Whole(bytes) => {
            let mut reader = JsonReader::default();
            reader.push(bytes)?;
            reader.finish()?;
            if bytes.starts_with(BOM) {
                *bytes = bytes.slice(BOM.len()..);
            }
            Ok(())
        }
        ResponseBody::Stream(stream) => stream.must_be_json(),
    }
}

/// Whether a body says nothing.
fn is_blank(bytes: &[u8]) -> bool {
    without_bom(bytes).trim_ascii().is_empty()
}

/// Whether a body is the token that a caller asked the service for, which is the caller's own.
fn is_own_token(body: &ResponseBody, operation: &Operation) -> bool {
    matches!(operation.access, Access::Mints(_))
        && matches!(body, ResponseBody::Whole(bytes) if bytes.trim_ascii_start().starts_with(b"\""))
}

impl BufferedResponse {
    /// Whether it is an object in which a message can be found, as the service's own failures are.
    pub(in crate::upstream) fn has_message(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.whole.is_object() && told.message().is_some())
    }
}

/// Whether the upstream says that the token is wrong, rather than that it is not enough.
pub(in crate::upstream) fn refuses_token(read: &BufferedResponse) -> bool {
    match read.head.status {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => read
            .told
            .as_ref()
            .and_then(FailureBody::message)
            .is_some_and(|message| TOKEN_ERRORS.contains(&message)),
        _ => false,
    }
}

/// Makes of an answer what the caller gets.
///
/// # Errors
/// The upstream's failure in the documented form.
pub(in crate::upstream) fn normalize(
    read: BufferedResponse,
    operation: &Operation,
    sent: &Sent<'_>,
    request_id: &str,
) -> Result<UpstreamResponse, Failure> {
    if !read.head.status.is_success() {
        return Err(failure(&read, sent, request_id));
    }
    if read.head.encoded {
        // It was asked not to; the caller has not said that it could read this.
        let why = "the whiteboard service's answer is encoded though it was asked not to be";
        return Err(Failure::fixed(Code::UpstreamError, why));
    }
    let BufferedResponse { head, mut body, .. } = read;
    if matches!(&body, ResponseBody::Whole(bytes) if is_blank(bytes)) {
        body = ResponseBody::Whole(Bytes::from_static(b"{}"));
    }
    let documented = operation.feature != Feature::Added;
    if documented && must_be_json(&mut body).is_err() {
        // A captive portal's or a CDN's page is no room that was created.
        let begins = match &body {
            ResponseBody::Whole(bytes) => excerpt(bytes, sent),
            ResponseBody::Stream(stream) => excerpt(&stream.first(), sent),
        };
        let why = "the whiteboard service's answer is no JSON";
        return Err(Failure::fixed(Code::UpstreamError, why).with_detail(begins));
    }
    if !is_own_token(&body, operation) {
        match &mut body {
            ResponseBody::Whole(bytes) => *bytes = sent.masked_in(std::mem::take(bytes)),
            ResponseBody::Stream(stream) => stream.hide(sent),
        }
    }
    let mut response = Response::new(body);
    *response.status_mut() = operation.success;
    let headers = response.headers_mut();
    headers.reserve(8);
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, label(head.content_type, documented, sent).unwrap_or(json));
    headers.insert(CACHE_CONTROL, head.caching.said());
    if let Some(wait) = retry_after(head.retry_after.as_ref()) {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    Ok(response)
}

/// The label that passes: of an added operation what the service said, unless it says a token.
fn label(said: Option<HeaderValue>, documented: bool, sent: &Sent<'_>) -> Option<HeaderValue> {
    let said = said.filter(|_| !documented)?;
    let plain = said.to_str().is_ok_and(|text| sent.hidden_in(text) == text);
    Some(if plain { said } else { HeaderValue::from_static("application/octet-stream") })
}

fn failure(read: &BufferedResponse, sent: &Sent<'_>, request_id: &str) -> Failure {
    let (status, told) = (read.head.status, read.told.as_ref());
    if let Some(told) = told {
        // Its pods and traces are for whoever looks for a cause, and for no line of every day.
        let body = told.whole.to_string().chars().take(LOGGED).collect::<String>();
        tracing::debug!(
            request_id,
            status = status.as_u16(),
            body,
            "what the service's failure says"
        );
    }
    let failure = meaning(read, sent);
    let (id, region) = told.map(FailureBody::reference).unwrap_or_default();
    failure.with_reference(id, region)
}

/// What a failure means for the caller.
fn meaning(read: &BufferedResponse, sent: &Sent<'_>) -> Failure {
    let (status, told) = (read.head.status, read.told.as_ref());
    let text = told.and_then(FailureBody::message);
    let detail = match (text, &read.body) {
        (Some(text), _) => format!("the upstream answered {}: {text}", status.as_u16()),
        (None, ResponseBody::Whole(body)) => {
            format!("the upstream answered {}: {}", status.as_u16(), excerpt(body, sent))
        }
        (None, ResponseBody::Stream(_)) => format!("the upstream answered {}", status.as_u16()),
    };
    if status == StatusCode::NOT_MODIFIED {
        let why = "the whiteboard service answered 304 (not modified), which was not asked for";
        return Failure::fixed(Code::UpstreamError, why).with_detail(detail);
    }
    if status.is_redirection() {
        let why = "the whiteboard service sent the gateway elsewhere; it does not go";
        return Failure::fixed(Code::UpstreamRedirect, why).with_detail(detail);
    }
    if sent.token().is_some() {
        if refuses_token(read) {
            let why = "the whiteboard service does not take the credential of this gateway";
            return Failure::fixed(Code::UpstreamCredential, why).with_detail(detail);
        }
        match text {
            Some("token access room forbidden" | "token access task forbidden") => {
                let why = "there is no such room or task for this caller";
                return Failure::fixed(Code::NotFound, why).with_detail(detail);
            }
            Some(text) if status == StatusCode::FORBIDDEN && not_enough(text) => {
                let why = "the credential of this gateway is not enough for the whiteboard service";
                return Failure::fixed(Code::UpstreamCredential, why).with_detail(detail);
            }
            _ => {}
        }
    }
    let code = code(status, told);
    let limited = (code == Code::RateLimited).then_some(Duration::from_secs(1));
    let wait = retry_after(read.head.retry_after.as_ref()).or(limited);
    let message = text.map_or_else(
        || {
            format!(
                "the whiteboard service answered with status {} and no message",
                status.as_u16()
            )
        },
        str::to_owned,
    );
    let passing = told.map(FailureBody::passing).unwrap_or_default();
    let title = told.and_then(FailureBody::title).map(str::to_owned);
    let failure = Failure::from_upstream(code, status, passing, message).with_detail(detail);
    let failure = failure.with_title(title);
    match wait {
        Some(wait) => failure.with_retry_after(wait),
        None => failure,
    }
}

/// `token access role … forbidden` and `token access team forbidden`.
fn not_enough(text: &str) -> bool {
    (text.starts_with("token access role") || text.starts_with("token access team"))
        && text.ends_with("forbidden")
}

fn code(status: StatusCode, told: Option<&FailureBody>) -> Code {
    let queue_full = told.is_some_and(FailureBody::is_queue_full);
    match status {
        _ if queue_full => Code::RateLimited,
        StatusCode::UNAUTHORIZED => Code::InvalidToken,
        StatusCode::FORBIDDEN => Code::Forbidden,
        StatusCode::NOT_FOUND | StatusCode::GONE => Code::NotFound,
        StatusCode::TOO_MANY_REQUESTS => Code::RateLimited,
        status if status.is_client_error() => Code::UpstreamRefused,
        _ => Code::UpstreamError,
    }
}

/// Seconds, or a date (RFC 9110 §10.2.3); a day at most, so that no one waits forever.
fn retry_after(value: Option<&HeaderValue>) -> Option<Duration> {
    let value = value?;
    let wait = match delta_seconds(value.as_bytes()) {
        Some(seconds) => Duration::from_secs(seconds),
        None => {
            let at = httpdate::parse_http_date(value.to_str().ok()?.trim()).ok()?;
            at.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(Duration::from_secs(86_400)))
}

/// The first 200 characters of what is no JSON, for the log.
fn excerpt(body: &[u8], sent: &Sent<'_>) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
    if text.contains("\\u") {
        // A token could stand there with escapes, where it is not found.
        return "(escaped text)".to_owned();
    }
    sent.hidden_in(&text).chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TABLE;

    fn answered(status: u16, body: &str, injected: bool) -> Result<UpstreamResponse, Failure> {
        let status = StatusCode::from_u16(status).unwrap();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let create = TABLE.iter().find(|row| row.name == "rooms.create").unwrap();
        let token = HeaderValue::from_static("NETLESSROOM_a");
        heard(status, &HeaderMap::new(), body, create, injected.then_some(&token))
    }

    fn code(status: u16, body: &str) -> &'static str {
        answered(status, body, true).err().map_or("ok", |failure| failure.code().name())
    }

    #[test]
    fn success_gets_the_documented_status_and_a_body() {
        for (status, body, expected) in
            [(201, "{\"uuid\":\"a\"}", "{\"uuid\":\"a\"}"), (200, "", "{}"), (204, "", "{}")]
        {
            let response = answered(status, body, true).ok().unwrap();
            assert_eq!(response.status(), StatusCode::CREATED);
            let ResponseBody::Whole(body) = response.body() else { panic!("streamed") };
            assert_eq!(body, expected);
        }
    }

    #[test]
    fn a_failure_says_who_caused_it() {
        for (status, body, expected) in [
            (400, r#"{"message":"bad"}"#, "upstream_refused"),
            (409, "", "upstream_refused"),
            (418, "<html>", "upstream_refused"),
            (404, "", "not_found"),
            (410, "", "not_found"),
            (403, r#"{"message":"service not enable"}"#, "forbidden"),
            (403, r#"{"message":"token access room forbidden"}"#, "not_found"),
            (403, r#"{"message":"token access role room.ban forbidden"}"#, "upstream_credential"),
            (403, r#"{"message":"token access team forbidden"}"#, "upstream_credential"),
            (401, "", "upstream_credential"),
            (403, r#"{"message":"expired token"}"#, "upstream_credential"),
            (400, r#"{"error":{"title":"invalid signature of token"}}"#, "upstream_credential"),
            (429, "", "rate_limited"),
            (400, r#"{"message":"full","code":2010203}"#, "rate_limited"),
            (500, r#"{"errorCode":"2010203"}"#, "rate_limited"),
            (400, r#"{"error":{"title":"the number of tasks exceeds limit"}}"#, "rate_limited"),
            (301, "", "upstream_redirect"),
            (304, "", "upstream_error"),
            (500, "", "upstream_error"),
            (520, "<html>", "upstream_error"),
        ] {
            assert_eq!(code(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_callers_own_token_keeps_its_401() {
        let failure = answered(401, r#"{"message":"expired token"}"#, false).err().unwrap();
        assert_eq!(failure.code(), Code::InvalidToken);
        assert_eq!(failure.message(), "expired token");
    }

    #[test]
    fn the_message_is_found_where_clients_have_found_it() {
        for (body, expected) in [
            (r#"{"message":"a","error":"b"}"#, "a"),
            (r#"{"message":1,"errorMessage":"b"}"#, "b"),
            (r#"{"error":{"message":"c"}}"#, "c"),
            (r#"{"error":{"title":"d"}}"#, "d"),
            (r#"{"error":"e"}"#, "e"),
            (r#"{"error":{}}"#, "the whiteboard service answered with status 400 and no message"),
        ] {
            let failure = answered(400, body, true).err().unwrap();
            assert_eq!(failure.message(), expected, "{body}");
        }
    }

    #[test]
    fn a_token_that_is_repeated_is_taken_out_however_it_is_written() {
        for body in [
            r#"{"message":"no NETLESSROOM_YWs9"}"#,
            r#"{"message":"no NETLESSROOM\u005fYWs9"}"#,
            r#"{"message":"no \u004eETLESSROOM_YWs9"}"#,
        ] {
            let failure = answered(400, body, true).err().unwrap();
            assert_eq!(failure.message(), "no NETLESSROOM_…", "{body}");
            assert_eq!(failure.detail(), Some("the upstream answered 400: no NETLESSROOM_…"));
        }
    }

    #[test]
    fn a_page_goes_to_the_log_and_not_to_the_caller() {
        let failure = answered(502, "<html>\n<b>secret host</b>", true).err().unwrap();
        assert!(!failure.message().contains("html"), "{failure}");
        assert!(failure.detail().unwrap().contains("<html> <b>"), "{:?}", failure.detail());
    }
}
