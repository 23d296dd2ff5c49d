//! A browser must not send an SDK token.
//!
//! It opens the whole project, and whoever opens a page can read what the page sends. It is no
//! credential here, so it could do nothing; but it has leaked, and its owner must hear of it.

use http::HeaderMap;

use crate::api::TokenKind;
use crate::failure::{Code, Failure};
use crate::field::CREDENTIALS;
use crate::token;

/// Refuses an SDK token that a browser sends.
///
/// # Errors
/// `invalid_token`.
pub(crate) fn refuse_sdk_token(from_browser: bool, headers: &HeaderMap) -> Result<(), Failure> {
    if !from_browser || !has_sdk_token(headers) {
        return Ok(());
    }
    let why = "an SDK token came from a browser: it opens the whole project to everybody who opens \
               the page. Disable the access key that signed it, and let the page send a \
               credential of its user";
    Err(Failure::invalid_credential(Code::InvalidToken, why))
}

fn has_sdk_token(headers: &HeaderMap) -> bool {
    // The scheme in `Authorization` is skipped.
    let values = CREDENTIALS.into_iter().flat_map(|name| headers.get_all(name));
    let mut texts = values.filter_map(|value| value.to_str().ok()?.split_whitespace().last());
    texts.any(|text| token::kind_of(text) == Some(TokenKind::Sdk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    #[test]
    fn an_sdk_token_is_found_wherever_a_credential_can_be() {
        for (name, value, found) in [
            ("token", "NETLESSSDK_YWs9", true),
            ("x-api-key", "NETLESSSDK_YWs9", true),
            ("authorization", "Bearer  NETLESSSDK_YWs9 ", true),
            ("authorization", "NETLESSSDK_YWs9", true),
            ("token", "NETLESSROOM_YWs9", false),
            ("token", "", false),
            ("x-other", "NETLESSSDK_YWs9", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append("token", "wbg_test".parse().unwrap());
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
            assert_eq!(has_sdk_token(&headers), found, "{value:?}");
        }
    }
}
