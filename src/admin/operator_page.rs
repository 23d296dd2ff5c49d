//! The page for operators, at `/` of the admin listener: what runs, whether it is well, and why
//! something was refused.
//!
//! It shows nothing by itself: whatever it shows it asks of the admin API, with the session that an
//! operator began on it.

use std::sync::LazyLock;

use bytes::Bytes;
use http::HeaderValue;
use http::Response;
use http::header::VARY;
use serde_json::Value;

use super::html::HtmlPage;

const DOCUMENT: &str = include_str!("page.html");

static PAGE: LazyLock<Option<HtmlPage>> =
    LazyLock::new(|| HtmlPage::new(DOCUMENT, &Value::Null, ""));

/// The answer that shows it.
pub(super) fn answer() -> Option<Response<Bytes>> {
    let mut answer = PAGE.as_ref()?.answer();
    answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_SECURITY_POLICY;

    #[test]
    fn nothing_of_elsewhere_is_on_it_and_no_data_becomes_markup() {
        let answer = answer().unwrap();
        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in ["default-src 'none'", "connect-src 'self' ;", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        for forbidden in ["https://", "src=", "@import", "url(", "innerHTML", "outerHTML", "eval("]
        {
            assert!(!DOCUMENT.contains(forbidden), "{forbidden}");
        }
    }
}
