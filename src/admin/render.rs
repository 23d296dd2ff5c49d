//! Answers of the admin listener, and what each of them says to browsers.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response};
use serde_json::Value;

use crate::failure::{self, Code, Failure, RenderOptions, StatusProfile};
use crate::field::CROSS_ORIGIN_RESOURCE_POLICY;

/// On every answer: no page frames it, runs anything of it, or has it as a part of another origin.
const TO_BROWSERS: [(HeaderName, HeaderValue); 5] = [
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
];

/// A JSON document.
pub(super) fn json(value: &Value) -> Response<Bytes> {
    of_type("application/json", Bytes::from(format!("{value}\n")))
}

/// A document of another type.
pub(super) fn of_type(media_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A failure. Operators' tools know every status, so `503` may appear here.
pub(super) fn envelope(failure: &Failure) -> Response<Bytes> {
    let settings = failure::Settings::of(StatusProfile::Extended);
    let options =
        RenderOptions { settings: &settings, request_id: "admin", problem: false, titled: false };
    failure.answer(&options)
}

/// The status of an answer that says no to a question which was answered.
pub(super) fn draining(mut response: Response<Bytes>) -> Response<Bytes> {
    let settings = failure::Settings::of(StatusProfile::Extended);
    *response.status_mut() = Code::Draining.status(&settings);
    response
}

/// The same answer with what each says to browsers; a page has a policy of its own.
pub(super) fn guarded(mut response: Response<Bytes>) -> Response<Bytes> {
    let headers = response.headers_mut();
    for (name, value) in TO_BROWSERS {
        headers.entry(name).or_insert(value);
    }
    response
}
