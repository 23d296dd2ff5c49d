//! Documents for browsers: each is one of ours, and whatever runs on it is named by its digest, so that
//! nothing that is slipped into it runs.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, Response};
use serde_json::Value;

use super::render;

/// What stands in a document for what it is about.
const DATA: &str = "{{data}}";

/// A document, and what it may do.
#[derive(Clone)]
pub(super) struct HtmlPage {
    pub(super) document: Bytes,
    policy: HeaderValue,
}

impl HtmlPage {
    /// A document with what it is about. Its scripts may ask its own origin, and that other one;
    /// `None` for an origin that cannot stand in a header.
    pub(super) fn new(document: &'static str, data: &Value, other: &str) -> Option<Self> {
        let inside = |begin: &str, end: &str| {
            document.split_once(begin)?.1.split_once(end).map(|(inside, _)| inside)
        };
        let (style, script) = (inside("<style>", "</style>")?, inside("<script>", "</script>")?);
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data:; \
             connect-src 'self' {other}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            source(script),
            source(style),
        );
        let policy = HeaderValue::from_str(&policy).ok()?;
        // No text in it ends the element that it stands in.
        let data = data.to_string().replace('<', "\\u003c");
        Some(Self { document: document.replace(DATA, &data).into(), policy })
    }

    /// The answer that shows it.
    pub(super) fn answer(&self) -> Response<Bytes> {
        let mut answer = render::of_type("text/html; charset=utf-8", self.document.clone());
        answer.headers_mut().insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        answer
    }
}

/// A text as a source of a content security policy.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}
