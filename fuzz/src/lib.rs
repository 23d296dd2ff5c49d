//! What is fuzzed: each module is a target, with a function that takes one input and panics when a
//! rule does not hold.
//!
//! The fuzzer runs them from `fuzz_targets`, and `tests/fuzz` with seeds and changes to these.
#![forbid(unsafe_code)]

pub mod answer;
pub mod api_key;
pub mod body;
pub mod certificate;
pub mod client;
pub mod config;
pub mod framing;
pub mod head;
pub mod json;
pub mod jwt;
pub mod key_set;
pub mod name;
pub mod origin;
pub mod path;
pub mod proxy_protocol;
pub mod query;
pub mod redact;
pub mod token_forge;
pub mod token_read;
pub mod traceparent;
pub mod upstream_answer;
pub mod via;

use http::StatusCode;
use serde_json::Value;
use whiteboard_gateway::failure::{Failure, RenderOptions, Settings, StatusProfile};

/// The longest sentence that a refusal may take, in bytes: it repeats names of fields and at most
/// forty characters of the caller's.
const LONGEST_MESSAGE: usize = 1024;

/// The statuses that the API documents for failures.
const DOCUMENTED: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::INTERNAL_SERVER_ERROR,
];

/// Asserts that a failure of ours can be shown: one bounded sentence without control characters.
pub fn assert_presentable(failure: &Failure) {
    let message = failure.message();
    assert!(!message.is_empty(), "a refusal says why");
    assert!(message.len() <= LONGEST_MESSAGE, "{} bytes: {message}", message.len());
    assert!(!message.contains(char::is_control), "{message:?}");
    _ = envelope(failure);
}

/// The body of the envelope, which is always a JSON object with a documented status and a `message`.
pub fn envelope(failure: &Failure) -> Value {
    let settings = Settings::of(StatusProfile::Documented);
    let options =
        RenderOptions { settings: &settings, request_id: "r-1", problem: true, titled: true };
    let response = failure.answer(&options);
    assert!(DOCUMENTED.contains(&response.status()), "{}", response.status());
    assert!(response.headers().contains_key("proxy-status"));
    let unauthorized = response.status() == StatusCode::UNAUTHORIZED;
    assert!(!unauthorized || response.headers().contains_key("www-authenticate"));
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    for member in ["message", "code", "requestId", "error"] {
        assert!(body.get(member).is_some(), "no {member} in {body}");
    }
    assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    body
}
