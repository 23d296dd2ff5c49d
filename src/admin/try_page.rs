//! The page on which a person tries the API, at `/try` of the sandbox's admin listener.
//!
//! It has the keys of the sandbox's callers: no other process has this page.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::html::HtmlPage;

/// The document, without what it is about.
const DOCUMENT: &str = include_str!("try.html");

/// Where it is.
pub(super) const PATH: &str = "/try";

/// Where the OpenAPI document is that it reads, as open as the page itself.
pub(super) const API: &str = "/try/openapi.json";

/// The page of a gateway and the callers in front of it.
#[derive(Clone)]
pub struct TryPage(HtmlPage);

impl TryPage {
    /// For the gateway at a URL, and keys by the names of their callers; `None` for a URL that
    /// cannot stand in a header.
    pub fn new<'k>(
        gateway: &str,
        keys: impl IntoIterator<Item = (&'k str, &'k str)>,
    ) -> Option<Self> {
        let key = |(name, key): (&str, &str)| json!({ "name": name, "key": key });
        let keys: Vec<Value> = keys.into_iter().map(key).collect();
        let data = json!({ "gateway": gateway, "keys": keys });
        HtmlPage::new(DOCUMENT, &data, gateway).map(Self)
    }

    /// The answer that shows it.
    pub(super) fn answer(&self) -> Response<Bytes> {
        self.0.answer()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_SECURITY_POLICY;

    #[test]
    fn nothing_in_its_data_ends_the_element() {
        let page = TryPage::new("http://127.0.0.1:1", [("</script><script>", "k")]).unwrap();
        let text = std::str::from_utf8(&page.0.document).unwrap();
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
