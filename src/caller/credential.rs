//! The one credential of a request, wherever it stands.

use http::HeaderMap;
use http::header::HeaderValue;

use crate::failure::{Code, Failure};

/// Where a credential can stand, and which of them has a scheme before it.
const FIELDS: [&str; 3] = ["authorization", "x-api-key", "token"];
const BEARER: usize = 0;

/// The one credential of a request; two that are the same count as one.
pub(super) fn credential(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let mut values = [None; FIELDS.len()];
    let mut repeated = [false; FIELDS.len()];
    // One pass over all fields takes less than to look for each.
    for (name, value) in headers {
        let name = name.as_str();
        if let Some(place) = FIELDS.iter().position(|field| *field == name) {
            repeated[place] |= values[place].replace(value).is_some();
        }
    }
    let mut texts = [None; FIELDS.len()];
    for (place, value) in values.into_iter().enumerate() {
        let Some(value) = value else { continue };
        if repeated[place] {
            let why = format!("the request has more than one `{}` header", FIELDS[place]);
            return Err(Failure::new(Code::MalformedRequest, why));
        }
        texts[place] = match text(value)? {
            "" => None,
            text if place == BEARER => Some(bearer(text)?),
            text => Some(text),
        };
    }
    let mut texts = texts.into_iter().flatten();
    let first = texts.next();
    if texts.any(|other| first != Some(other)) {
        let why = "the request carries two credentials that disagree";
        return Err(Failure::fixed(Code::MalformedRequest, why));
    }
    Ok(first)
}

fn text(value: &HeaderValue) -> Result<&str, Failure> {
    value.to_str().map(str::trim).map_err(|_| {
        let why = "the credential holds bytes that no credential has";
        Failure::invalid_credential(Code::InvalidToken, why)
    })
}

/// RFC 6750 §2.1; the scheme's name is case-insensitive (RFC 9110 §11.1).
fn bearer(value: &str) -> Result<&str, Failure> {
    match value.split_at_checked("Bearer ".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer ") => Ok(rest.trim()),
        _ => Err(Failure::invalid_credential(
            Code::InvalidToken,
            "the Authorization header must have the form `Bearer <key>`",
        )),
    }
}
