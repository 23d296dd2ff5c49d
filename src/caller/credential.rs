//! The one credential of a request, wherever it stands.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::failure::{Code, Failure};

const TOKEN: HeaderName = HeaderName::from_static("token");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The one credential of a request; two that are the same count as one.
pub(super) fn credential(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let bearer = match single(headers, &AUTHORIZATION)? {
        Some(value) => Some(bearer(value)?),
        None => None,
    };
    let mut found = None;
    for text in [bearer, single(headers, &X_API_KEY)?, single(headers, &TOKEN)?] {
        match (found, text) {
            (None, text) => found = text,
            (Some(one), Some(other)) if one != other => {
                let why = "the request carries two credentials that disagree";
                return Err(Failure::fixed(Code::MalformedRequest, why));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Failure> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        let why = format!("the request has more than one `{name}` header");
        return Err(Failure::new(Code::MalformedRequest, why));
    }
    text(value).map(|text| (!text.is_empty()).then_some(text))
}

fn text(value: &HeaderValue) -> Result<&str, Failure> {
    value.to_str().map(str::trim).map_err(|_| {
        let why = "the credential holds bytes that no credential has";
        Failure::invalid_credential(Code::InvalidToken, why)
    })
}

/// RFC 6750 §2.1; the scheme's name is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &str) -> Result<&str, Failure> {
    match value.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Ok(rest.trim()),
        _ => Err(Failure::invalid_credential(
            Code::InvalidToken,
            "the Authorization header must have the form `Bearer <key>`",
        )),
    }
}
