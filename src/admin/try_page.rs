//! The page on which a person tries the API, at `/try` of the sandbox's admin listener.
//!
//! It is one document of ours, and whatever runs on it is named by its digest, so that nothing that
//! is slipped into it runs. It has the keys of the sandbox's callers: no other process has this page.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response};
use serde_json::{Value, json};

/// The document, without what it is about.
const DOCUMENT: &str = include_str!("try.html");

/// What stands in it for that.
const DATA: &str = "{{data}}";

/// Where it is.
pub(super) const PATH: &str = "/try";

/// The page of a gateway and the callers in front of it.
#[derive(Clone)]
pub struct TryPage {
    document: Bytes,
    policy: HeaderValue,
}

impl TryPage {
    /// For the gateway at a URL, and keys by the names of their callers; `None` for a URL that
    /// cannot stand in a header.
    #[must_use]
    pub fn new<'k>(
        gateway: &str,
        keys: impl IntoIterator<Item = (&'k str, &'k str)>,
    ) -> Option<Self> {
        let key = |(name, key): (&str, &str)| json!({ "name": name, "key": key });
        let keys: Vec<Value> = keys.into_iter().map(key).collect();
        let data = json!({ "gateway": gateway, "keys": keys }).to_string();
        // No text in it ends the element that it stands in.
        let document = DOCUMENT.replace(DATA, &data.replace('<', "\\u003c"));
        let (style, script) = (inside("<style>", "</style>")?, inside("<script>", "</script>")?);
        let policy = format!(
            "default-src 'none'; script-src {}; style-src {}; img-src data:; connect-src 'self' {gateway}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            source(script),
            source(style),
        );
        let policy = HeaderValue::from_str(&policy).ok()?;
        Some(Self { document: document.into(), policy })
    }

    /// The answer that shows it.
    pub(super) fn answer(&self) -> Response<Bytes> {
        let mut answer = Response::new(self.document.clone());
        let headers = answer.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy.clone());
        for (name, value) in [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CACHE_CONTROL, "no-store"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        answer
    }
}

/// What stands in the document between two tags, of which it has one each.
fn inside(begin: &str, end: &str) -> Option<&'static str> {
    DOCUMENT.split_once(begin)?.1.split_once(end).map(|(inside, _)| inside)
}

/// A text as a source of a content security policy.
fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_its_data_ends_the_element() {
        let page = TryPage::new("http://127.0.0.1:1", [("</script><script>", "k")]).unwrap();
        let text = std::str::from_utf8(&page.document).unwrap();
        assert_eq!(text.matches("</script>").count(), 2);
        assert!(text.contains(r#""name":"\u003c/script>\u003cscript>""#));
    }

    #[test]
    fn its_policy_lets_nothing_else_run_and_nobody_else_be_asked() {
        let page = TryPage::new("http://127.0.0.1:8080", [("backend", "k")]).unwrap();
        let answer = page.answer();
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'sha256-",
            "connect-src 'self' http://127.0.0.1:8080;",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for elsewhere in ["https://", "src=", "@import", "url("] {
            assert!(!DOCUMENT.contains(elsewhere), "{elsewhere}");
        }
    }
}
