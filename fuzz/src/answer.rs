//! Answers of the upstream: each becomes the documented success or an envelope, and no token that
//! the upstream repeats reaches the caller in a failure.
//!
//! An input is the status in a first line, header fields, an empty line, and the body.

use std::sync::LazyLock;

use super::envelope;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;
use whiteboard_gateway::api::{Operation, TABLE};
use whiteboard_gateway::failure::{Code, Settings, StatusProfile};
use whiteboard_gateway::token::kind_of;
use whiteboard_gateway::upstream::{ResponseBody, heard};

/// Of the upstream's header fields, those that a caller may see.
const PASSED: [&str; 3] = ["content-type", "cache-control", "retry-after"];

/// One that answers 201, which the upstream may have said otherwise.
static OPERATION: LazyLock<&Operation> = LazyLock::new(|| {
    TABLE.iter().find(|row| row.name == "rooms.create").expect("it is documented")
});

/// One input.
pub fn run(input: &[u8]) {
    let Some((status, headers, body)) = answer(input) else { return };
    for injected in [true, false] {
        let token = HeaderValue::from_static("NETLESSROOM_sent");
        match heard(status, &headers, body.clone(), &OPERATION, injected.then_some(&token)) {
            Ok(response) => succeeded(status, &response),
            Err(failure) => {
                let coded = headers.get_all("content-encoding").iter().any(|coding| {
                    !coding.is_empty() && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
                });
                let unread = coded || !is_json(&body);
                assert!(!status.is_success() || unread, "{failure}");
                let refused = status == StatusCode::UNAUTHORIZED;
                if refused && injected {
                    assert_eq!(failure.code(), Code::UpstreamCredential, "it was not the caller's");
                }
                let unauthorized = failure.code().status(&Settings::of(StatusProfile::Documented))
                    == StatusCode::UNAUTHORIZED;
                assert!(!unauthorized || (refused && !injected), "a 401 is the caller's own");
                assert_no_token(&envelope(&failure));
                assert_no_token(&Value::from(failure.detail().unwrap_or_default()));
            }
        }
    }
}

fn succeeded(status: StatusCode, response: &Response<ResponseBody>) {
    assert!(status.is_success());
    assert_eq!(response.status(), OPERATION.success);
    assert!(response.headers().keys().all(|name| PASSED.contains(&name.as_str())));
    let ResponseBody::Whole(body) = response.body() else { panic!("it came whole") };
    assert!(!body.is_empty(), "a success never goes without a body");
}

/// Whether it is JSON, with or without a byte order mark; nothing at all becomes `{}`.
fn is_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    body.trim_ascii().is_empty() || serde_json::from_slice::<Value>(body).is_ok()
}

fn answer(input: &[u8]) -> Option<(StatusCode, HeaderMap, Bytes)> {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let status = StatusCode::from_bytes(lines.next()?).ok()?;
    let mut rest = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    loop {
        let mut lines = rest.splitn(2, |byte| *byte == b'\n');
        let line = lines.next()?;
        rest = lines.next().unwrap_or_default();
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        headers.append(name, value);
    }
    Some((status, headers, Bytes::copy_from_slice(rest)))
}

fn assert_no_token(value: &Value) {
    match value {
        Value::String(text) => assert_plain(text),
        Value::Array(items) => items.iter().for_each(assert_no_token),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            assert_plain(name);
            assert_no_token(value);
        }),
        _ => {}
    }
}

fn assert_plain(text: &str) {
    for (at, _) in text.char_indices().filter(|(at, _)| kind_of(&text[*at..]).is_some()) {
        let (_, after) = text[at..].split_once('_').expect("a prefix ends with `_`");
        assert!(!after.starts_with(|c: char| c.is_ascii_alphanumeric()), "{text}");
    }
}
