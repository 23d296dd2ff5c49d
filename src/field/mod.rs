//! Fields of HTTP: the names that no library knows, which of them hold a credential or a secret, and
//! the one parser of what stands in several of them ([`list`]: lists, quoted strings, parameters,
//! weights).
//!
//! It knows no meaning of a value: what a field says is for whoever reads it.

pub mod last;
pub mod list;

use http::{HeaderName, HeaderValue};

/// The fields in which a caller can show a credential, in the order in which messages name them.
pub const CREDENTIALS: [&str; 3] = ["authorization", "x-api-key", "token"];

/// The same, as people write them.
pub const CREDENTIALS_WRITTEN: [&str; 3] = ["Authorization", "X-API-Key", "token"];

/// Fields whose values are secrets, whoever reads them.
pub const SECRETS: [&str; 6] =
    [CREDENTIALS[0], CREDENTIALS[1], CREDENTIALS[2], "proxy-authorization", "cookie", "set-cookie"];

/// Fields that a `Connection` must not name: it would strip what a request is about.
pub const NEVER_HOP_BY_HOP: [&str; 9] = [
    CREDENTIALS[0],
    CREDENTIALS[1],
    CREDENTIALS[2],
    REGION_NAME,
    "host",
    "content-type",
    "content-length",
    "via",
    X_REQUEST_ID_NAME,
];

const REGION_NAME: &str = "region";
const X_REQUEST_ID_NAME: &str = "x-request-id";

/// The whiteboard token, and a caller's credential.
pub const TOKEN: HeaderName = HeaderName::from_static(CREDENTIALS[2]);
/// The region of the whiteboard service that a request means.
pub const REGION: HeaderName = HeaderName::from_static(REGION_NAME);
/// The id of a request.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static(X_REQUEST_ID_NAME);
/// The addresses that a request came through.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Which pages a browser sends a request for; scripts on servers do not send it.
pub const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Whose pages may have a response as a part of them (Fetch §3.7).
pub const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");
/// The token of an operator's session, which each change by it carries.
pub const WHITEBOARD_SESSION_TOKEN: HeaderName =
    HeaderName::from_static("whiteboard-session-token");
/// RFC 9209.
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// W3C Trace Context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// W3C Trace Context.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Which trace an answer belongs to.
pub const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");
/// What is left of limits.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What limits there are.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What was granted instead of what was asked for.
pub const WHITEBOARD_GRANTED: HeaderName = HeaderName::from_static("whiteboard-granted");

/// When the API key of the caller ends.
pub const WHITEBOARD_KEY_ENDS: HeaderName = HeaderName::from_static("whiteboard-key-ends");

/// Two lines of a field as one (RFC 9110 §5.3).
pub fn joined(before: &HeaderValue, after: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&[before.as_bytes(), after.as_bytes()].join(&b", "[..])).ok()
}

/// Seconds as a field has them (RFC 9110 §10.2.3, RFC 9111 §1.2.2): digits alone; a number that is too
/// large to count is as long as can be, and no missing one.
pub fn delta_seconds(value: &[u8]) -> Option<u64> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let next = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add((digit - b'0').into());
    Some(digits.iter().fold(0, next))
}

/// A value that no other message has. Over HTTP/2 it is written out and not kept (RFC 7541 §6.2.3): in
/// the tables of a connection it would take the place of what every message has.
#[must_use]
pub fn unique(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_digits_and_never_too_many() {
        for (text, seconds) in [
            ("0", Some(0)),
            (" 030 ", Some(30)),
            ("18446744073709551615", Some(u64::MAX)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("5.0", None),
            ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ] {
            assert_eq!(delta_seconds(text.as_bytes()), seconds, "{text}");
        }
    }

    #[test]
    fn a_credential_is_a_secret_and_goes_on() {
        for (name, written) in CREDENTIALS.into_iter().zip(CREDENTIALS_WRITTEN) {
            assert!(name.eq_ignore_ascii_case(written), "{name}");
            assert!(SECRETS.contains(&name) && NEVER_HOP_BY_HOP.contains(&name), "{name}");
        }
    }
}
