//! From the credential of a request to the caller.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::{ApiKey, CallerSettings, Digest, KeyId, PREFIX};
use crate::failure::{Code, Failure};
use crate::token;

const TOKEN: HeaderName = HeaderName::from_static("token");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Somebody who has proved who they are.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name in logs.
    pub name: String,
    /// A number that stays the same over reloads: what limits count by.
    pub number: u64,
    /// The place of its profile.
    pub profile: usize,
}

/// Everybody who may call.
pub struct Callers {
    keys: HashMap<KeyId, Entry>,
}

struct Entry {
    digest: Digest,
    until: Option<jiff::Timestamp>,
    caller: Arc<Caller>,
}

impl Callers {
    /// Makes the list; `profile` finds the place of a profile by its name.
    ///
    /// # Errors
    /// The name of a profile that is not there. The configuration has checked that before.
    pub fn new(
        settings: &[CallerSettings],
        profile: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, String> {
        let mut keys = HashMap::new();
        for one in settings {
            let caller = Arc::new(Caller {
                name: one.name.clone(),
                number: number_of(&one.name),
                profile: profile(&one.profile).ok_or_else(|| one.profile.clone())?,
            });
            for key in &one.keys {
                let caller = Arc::clone(&caller);
                keys.insert(key.id, Entry { digest: key.digest, until: key.until, caller });
            }
        }
        Ok(Self { keys })
    }

    /// Identifies the caller of a request by its one credential.
    ///
    /// # Errors
    /// `unauthenticated` when there is none, `invalid_token` when it is none of ours (a wrong
    /// secret and an unknown id are told in the same words and the same time), `expired_token`
    /// after its grace, `malformed_request` when credentials are repeated or disagree.
    pub fn identify(
        &self,
        headers: &HeaderMap,
        now: jiff::Timestamp,
    ) -> Result<Arc<Caller>, Failure> {
        let Some(credential) = credential(headers)? else {
            return Err(Failure::fixed(
                Code::Unauthenticated,
                "no credential came: send a key of this gateway as `Authorization: Bearer`, \
                 `X-API-Key` or `token`, and leave the access and secret keys of the project out",
            ));
        };
        if !credential.starts_with(PREFIX) {
            return Err(foreign(credential));
        }
        let key = ApiKey::parse(credential).map_err(|why| {
            Failure::invalid_credential(
                Code::InvalidToken,
                match why {
                    super::InvalidKey::Form => "this is no API key of this gateway",
                    super::InvalidKey::Checksum => {
                        "the API key was copied incompletely or mistyped: its checksum is wrong"
                    }
                },
            )
        })?;
        let entry = self.keys.get(&key.id());
        let expected = entry.map_or(Digest::NOBODY, |entry| entry.digest);
        let matches = key.digest().matches(&expected);
        let Some(entry) = entry.filter(|_| matches) else {
            let why = "this API key is not known here";
            return Err(Failure::invalid_credential(Code::InvalidToken, why));
        };
        if entry.until.is_some_and(|until| until <= now) {
            let why = "this API key was replaced and its grace is over";
            return Err(Failure::invalid_credential(Code::ExpiredToken, why));
        }
        Ok(Arc::clone(&entry.caller))
    }
}

/// A credential that is not ours, told by what it looks like.
fn foreign(credential: &str) -> Failure {
    let why = if token::kind_of(credential).is_some() {
        "a whiteboard token is no credential here: send a key of this gateway in its place"
    } else {
        "this is no API key of this gateway"
    };
    Failure::invalid_credential(Code::InvalidToken, why)
}

/// The one credential of a request; two that are the same count as one.
fn credential(headers: &HeaderMap) -> Result<Option<&str>, Failure> {
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

/// A caller's number, from its name alone (FNV-1a), so that a reload does not change it.
fn number_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{KeySettings, generate};

    struct Case {
        callers: Callers,
        key: String,
        old: String,
    }

    fn case() -> Case {
        let [key, old] = [(); 2].map(|()| generate(true).unwrap().expose().to_owned());
        let slot = |text: &str, until: Option<&str>| {
            let key = ApiKey::parse(text).ok().unwrap();
            let until = until.map(|at| at.parse().unwrap());
            KeySettings { id: key.id(), digest: key.digest(), until }
        };
        let settings = CallerSettings {
            name: "lessons".to_owned(),
            profile: "backend".to_owned(),
            keys: vec![slot(&key, None), slot(&old, Some("2026-06-01T00:00:00Z"))],
        };
        let callers = Callers::new(&[settings], |name| (name == "backend").then_some(0)).unwrap();
        Case { callers, key, old }
    }

    fn identify(case: &Case, headers: &[(&str, &str)], now: &str) -> Result<String, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        let caller = case.callers.identify(&map, now.parse().unwrap());
        caller.map(|caller| caller.name.clone()).map_err(|f| f.code().name().to_owned())
    }

    const BEFORE: &str = "2026-05-31T23:59:59Z";
    const AFTER: &str = "2026-06-01T00:00:00Z";

    #[test]
    fn a_key_is_taken_in_each_of_three_headers() {
        let case = case();
        let bearer = format!("bearer {}", case.key);
        for headers in [
            vec![("authorization", bearer.as_str())],
            vec![("x-api-key", case.key.as_str())],
            vec![("token", case.key.as_str())],
            vec![("token", case.key.as_str()), ("authorization", bearer.as_str())],
        ] {
            assert_eq!(identify(&case, &headers, BEFORE).as_deref(), Ok("lessons"));
        }
    }

    #[test]
    fn a_rotated_key_works_within_its_grace_and_not_after() {
        let case = case();
        let headers = [("token", case.old.as_str())];
        assert_eq!(identify(&case, &headers, BEFORE).as_deref(), Ok("lessons"));
        assert_eq!(identify(&case, &headers, AFTER), Err("expired_token".to_owned()));
    }

    #[test]
    fn everything_else_is_refused() {
        let case = case();
        let stranger = generate(true).unwrap().expose().to_owned();
        // The id of a known key with the secret of another, its checksum made right.
        let forged = format!("{}{}", &case.key[..22], &stranger[22..65]);
        let forged = format!("{forged}_{}", crate::caller::key::checksum_text(&forged));
        for (headers, code) in [
            (vec![], "unauthenticated"),
            (vec![("token", "")], "unauthenticated"),
            (vec![("token", stranger.as_str())], "invalid_token"),
            (vec![("token", forged.as_str())], "invalid_token"),
            (vec![("token", &case.key[..70])], "invalid_token"),
            (vec![("token", "NETLESSSDK_abc")], "invalid_token"),
            (vec![("authorization", "Basic abc")], "invalid_token"),
            (vec![("authorization", "Bearer")], "invalid_token"),
            (vec![("token", case.key.as_str()); 2], "malformed_request"),
            (
                vec![("token", case.key.as_str()), ("x-api-key", stranger.as_str())],
                "malformed_request",
            ),
        ] {
            assert_eq!(identify(&case, &headers, BEFORE), Err(code.to_owned()), "{headers:?}");
        }
    }
}
