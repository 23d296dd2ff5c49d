//! The one credential of a request: which fields hold one, which of them count, and what an empty
//! field or a foreign scheme means. Nothing else decides that.

use http::HeaderMap;
use http::header::HeaderValue;

use crate::bulk;
use crate::failure::{Code, Failure};
use crate::field::{CREDENTIALS, CREDENTIALS_WRITTEN};

/// Which of the fields has a scheme before the credential.
const BEARER: usize = 0;

/// What a field that is there says.
enum Said<'a> {
    /// A credential.
    Credential(&'a str),
    /// Nothing: it is empty, or a scheme alone.
    Empty,
    /// The credential of another scheme, or a text without one.
    Foreign(&'a [u8]),
}

/// The one credential of a request; `None` where none of the fields is there, so that a client
/// certificate may speak.
///
/// Two fields that say the same count as one. An empty one, and an `Authorization` of a scheme
/// that is none of ours, say nothing beside a good one; alone they are a bad credential, for
/// whoever sent them meant to be known by them, and a proxy's certificate must not answer for it.
///
/// # Errors
/// `malformed_request` where credentials are repeated or disagree, `invalid_token` for what is none.
pub fn credential(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
    let mut values = [None; CREDENTIALS.len()];
    let mut repeated = [false; CREDENTIALS.len()];
    // One pass over all fields takes less than to look for each.
    for (name, value) in headers {
        let name = name.as_str();
        if let Some(index) = CREDENTIALS.iter().position(|field| *field == name) {
            repeated[index] |= values[index].replace(value).is_some();
        }
    }
    let mut found: Option<(usize, &str)> = None;
    let mut unusable = None;
    for (index, value) in values.into_iter().enumerate() {
        let Some(value) = value else { continue };
        if repeated[index] {
            let why = format!("the request has more than one `{}` header", CREDENTIALS[index]);
            return Err(Failure::new(Code::MalformedRequest, why));
        }
        match (said(index, value)?, found) {
            (Said::Credential(text), None) => found = Some((index, text)),
            (Said::Credential(text), Some((other, first))) if text != first => {
                return Err(disagree(other, index));
            }
            (Said::Credential(_), Some(_)) => {}
            (Said::Empty, _) => unusable = unusable.or(Some(EMPTY[index])),
            (Said::Foreign(text), _) => unusable = Some(foreign(text)),
        }
    }
    match (found, unusable) {
        (Some((_, text)), _) => Ok(Some(text)),
        (None, None) => Ok(None),
        (None, Some(why)) => Err(Failure::invalid_credential(Code::InvalidToken, why)),
    }
}

/// Alone, an empty field is a bad credential.
const EMPTY: [&str; 3] = [
    "the `Authorization` header is empty: it takes `Bearer` and a key",
    "the `X-API-Key` header is empty: it takes a key",
    "the `token` header is empty: it takes a key",
];

fn said(index: usize, value: &HeaderValue) -> Result<Said<'_>, Failure> {
    let bytes = value.as_bytes().trim_ascii();
    if bytes.is_empty() {
        return Ok(Said::Empty);
    }
    let credential = if index == BEARER {
        let Some(rest) = bearer(bytes) else { return Ok(Said::Foreign(bytes)) };
        rest
    } else {
        bytes
    };
    // A JWT has a thousand bytes.
    let plain = bulk::all(credential, |byte| *byte == b'\t' || (b' '..=b'~').contains(byte));
    match std::str::from_utf8(credential) {
        Ok("") => Ok(Said::Empty),
        Ok(text) if plain => Ok(Said::Credential(text)),
        _ => {
            let why = "the credential holds bytes that no credential has";
            Err(Failure::invalid_credential(Code::InvalidToken, why))
        }
    }
}

/// What follows the scheme `Bearer` (RFC 6750 §2.1), whose name is case-insensitive (RFC 9110
/// §11.1); `None` for another scheme. A tab after it is no other scheme: no one else reads it so.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer".len())?;
    let ends = rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\t'));
    (ends && scheme.eq_ignore_ascii_case(b"bearer")).then(|| rest.trim_ascii())
}

/// What is wrong with an `Authorization` that is not `Bearer`.
fn foreign(value: &[u8]) -> &'static str {
    if value.contains(&b' ') {
        return "the `Authorization` header is of a scheme that is not taken here: write \
                `Bearer <key>`, or send the key in `token` or `X-API-Key`";
    }
    "the `Authorization` header must have the form `Bearer <key>`: the scheme is missing, or the \
     key is"
}

fn disagree(one: usize, other: usize) -> Failure {
    let (one, other) = (CREDENTIALS_WRITTEN[one], CREDENTIALS_WRITTEN[other]);
    let why = format!(
        "the request carries two credentials that disagree, in `{one}` and in `{other}`: leave one \
         of them out"
    );
    Failure::new(Code::MalformedRequest, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    type Fields<'a> = &'a [(&'a str, &'a [u8])];

    /// The credential, `nothing` where no field is there, or the code of the refusal.
    fn read(fields: Fields<'_>) -> String {
        let mut headers = HeaderMap::new();
        headers.append("accept", HeaderValue::from_static("*/*"));
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        match credential(&headers) {
            Ok(found) => found.unwrap_or("nothing").to_owned(),
            Err(failure) => failure.code().name().to_owned(),
        }
    }

    #[test]
    fn each_field_counts_as_it_is_filled() {
        let cases: [(Fields<'_>, &str); 24] = [
            (&[], "nothing"),
            (&[("token", b"a")], "a"),
            (&[("x-api-key", b" a ")], "a"),
            (&[("authorization", b"bEARER  a ")], "a"),
            (&[("authorization", b"Bearer\ta")], "a"),
            // Two that say the same are one; two that do not are refused.
            (&[("token", b"a"), ("authorization", b"Bearer a"), ("x-api-key", b"a")], "a"),
            (&[("token", b"a"), ("x-api-key", b"b")], "malformed_request"),
            (&[("token", b"a"), ("authorization", b"Bearer b")], "malformed_request"),
            (&[("token", b"a"), ("token", b"a")], "malformed_request"),
            (&[("token", b"a"), ("token", b"")], "malformed_request"),
            // An empty one is nothing beside a good one, and a bad credential alone.
            (&[("token", b"a"), ("authorization", b"")], "a"),
            (&[("token", b"a"), ("authorization", b"Bearer")], "a"),
            (&[("token", b"a"), ("authorization", b"Bearer ")], "a"),
            (&[("token", b"  "), ("x-api-key", b"a")], "a"),
            (&[("token", b"")], "invalid_token"),
            (&[("authorization", b"Bearer")], "invalid_token"),
            (&[("token", b""), ("authorization", b""), ("x-api-key", b" ")], "invalid_token"),
            // So is a foreign scheme.
            (&[("authorization", b"Basic YTpi"), ("token", b"a")], "a"),
            (&[("authorization", b"Basic \xff"), ("x-api-key", b"a")], "a"),
            (&[("authorization", b"Bearerish a"), ("token", b"a")], "a"),
            (&[("authorization", b"Basic YTpi")], "invalid_token"),
            (&[("authorization", b"Basic YTpi"), ("token", b"")], "invalid_token"),
            (&[("authorization", b"wbg_live_a")], "invalid_token"),
            (&[("token", b"\xff"), ("x-api-key", b"a")], "invalid_token"),
        ];
        for (fields, expected) in cases {
            assert_eq!(read(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn the_fields_that_disagree_are_named() {
        let mut headers = HeaderMap::new();
        headers.append("token", HeaderValue::from_static("wbg_a"));
        headers.append("authorization", HeaderValue::from_static("Bearer ey.ey.a"));
        let why = credential(&headers).unwrap_err();
        assert!(why.message().contains("in `Authorization` and in `token`"), "{}", why.message());
    }
}
