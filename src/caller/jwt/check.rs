//! What a token says about itself, held against what its issuer's tokens must say (RFC 8725 §3).

use std::time::Duration;

use jiff::Timestamp;

use super::IssuerSettings;
use super::compact::Header;
use super::error::InvalidJwtError;
use crate::api::{Json, Object, printable};

/// The longest subject, in bytes.
const MAX_SUBJECT_BYTES: usize = 256;

/// Types that an access token has where the configuration names none.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Claims that only ID tokens have (OpenID Connect Core §2, §3.3.2.11).
const ID_TOKEN: [&str; 3] = ["nonce", "at_hash", "c_hash"];

/// A token that says what it must.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) expires_at: Timestamp,
    /// The first moment at which it is not taken any more: its end and the leeway.
    pub(super) taken_until: Timestamp,
    /// For how many seconds it has been over. Told only once the signature held.
    pub(super) expired: Option<i64>,
}

/// Checks everything but the key: it costs less than a signature, so it comes first.
pub(super) fn check(
    settings: &IssuerSettings,
    header: &Header<'_>,
    claims: &Object<'_>,
    now: Timestamp,
) -> Result<Checked, InvalidJwtError> {
    if !settings.algorithms.contains(&header.algorithm) {
        return Err(InvalidJwtError::Algorithm(header.algorithm.name().to_owned()));
    }
    check_type(settings.typ.as_deref(), header.typ.as_deref())?;
    check_audience(&settings.audience, claims)?;
    if !settings.id_tokens
        && let Some(name) = ID_TOKEN.into_iter().find(|name| claims.contains(name))
    {
        return Err(InvalidJwtError::IdToken(name));
    }
    check_subject(claims)?;
    let (expires_at, expired) = check_times(settings, claims, now)?;
    // `expired` compares whole seconds: both say the same of every moment.
    let taken_until = expires_at.checked_add(settings.leeway).unwrap_or(expires_at);
    Ok(Checked { expires_at, taken_until, expired })
}

/// Media types are compared without case and without `application/` (RFC 7515 §4.1.9).
fn check_type(wanted: Option<&str>, typ: Option<&str>) -> Result<(), InvalidJwtError> {
    let same = |one: &str, other: &str| bare(one).eq_ignore_ascii_case(bare(other));
    let fits = match (wanted, typ) {
        (Some(wanted), Some(found)) => same(wanted, found),
        (Some(_), None) => false,
        (None, Some(found)) => TYPES.into_iter().any(|one| same(one, found)),
        (None, None) => true,
    };
    if fits { Ok(()) } else { Err(InvalidJwtError::Type(printable(typ.unwrap_or("")))) }
}

fn bare(typ: &str) -> &str {
    const PREFIX: &str = "application/";
    match typ.split_at_checked(PREFIX.len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
        _ => typ,
    }
}

fn check_audience(ours: &[String], claims: &Object<'_>) -> Result<(), InvalidJwtError> {
    let is_ours = |text: &str| ours.iter().any(|audience| audience == text);
    let wrong = InvalidJwtError::Claim("aud", "is neither a string nor an array of strings");
    let fits = match claims.get("aud") {
        None => return Err(InvalidJwtError::Claim("aud", "is missing")),
        Some(Json::Text(text)) => is_ours(text),
        Some(Json::Array(items)) => {
            let mut texts = items.iter().map(Json::as_str);
            if texts.clone().any(|text| text.is_none()) {
                return Err(wrong);
            }
            texts.any(|text| text.is_some_and(is_ours))
        }
        Some(_) => return Err(wrong),
    };
    if fits { Ok(()) } else { Err(InvalidJwtError::Audience) }
}

fn check_subject(claims: &Object<'_>) -> Result<(), InvalidJwtError> {
    match claims.get("sub") {
        None => Err(InvalidJwtError::Claim("sub", "is missing")),
        Some(Json::Text(text)) if text.is_empty() => Err(InvalidJwtError::Claim("sub", "is empty")),
        Some(Json::Text(text)) if text.len() > MAX_SUBJECT_BYTES => {
            Err(InvalidJwtError::Claim("sub", "has more than 256 bytes"))
        }
        Some(Json::Text(text)) if text.chars().any(char::is_control) => {
            Err(InvalidJwtError::Claim("sub", "holds control characters"))
        }
        Some(Json::Text(_)) => Ok(()),
        Some(_) => Err(InvalidJwtError::Claim("sub", "is not a string")),
    }
}

/// The end of the token, and since when it is over if it is.
fn check_times(
    settings: &IssuerSettings,
    claims: &Object<'_>,
    now: Timestamp,
) -> Result<(Timestamp, Option<i64>), InvalidJwtError> {
    let now = now.as_second();
    let leeway = seconds(settings.leeway);
    let end = time(claims, "exp")?.ok_or(InvalidJwtError::Claim("exp", "is missing"))?;
    let begin = time(claims, "iat")?;
    for (name, at) in [("iat", begin), ("nbf", time(claims, "nbf")?)] {
        let ahead = at.unwrap_or(now) - now;
        if ahead > leeway {
            return Err(InvalidJwtError::NotYet(name, ahead));
        }
    }
    // Without `iat` it counts as issued now: leaving the claim out must not lengthen a life.
    let lifetime = end - begin.unwrap_or(now);
    if lifetime > seconds(settings.max_lifetime) {
        return Err(InvalidJwtError::Lifetime(lifetime));
    }
    let expires_at = Timestamp::from_second(end)
        .map_err(|_| InvalidJwtError::Claim("exp", "is no time of this calendar"))?;
    let over = now - end;
    Ok((expires_at, (over >= leeway).then_some(over)))
}

/// A `NumericDate` that is a whole number of seconds since 1970; fractions, which RFC 7519 §2
/// allows and no one sends, are refused. Below 2^53, so that sums and differences are safe.
fn time(claims: &Object<'_>, name: &'static str) -> Result<Option<i64>, InvalidJwtError> {
    const LATEST: u64 = 1 << 53;
    match claims.get(name) {
        None => Ok(None),
        Some(value) => match value.as_u64() {
            Some(at) if at < LATEST => Ok(i64::try_from(at).ok()),
            _ => Err(InvalidJwtError::Claim(name, "is no whole number of seconds")),
        },
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::jwt::Algorithm;
    use serde_json::{Value, json};

    const NOW: i64 = 1_800_000_000;

    fn settings() -> IssuerSettings {
        let mut settings = IssuerSettings::for_tests("school");
        settings.max_lifetime = Duration::from_secs(3600);
        settings
    }

    fn checked(settings: &IssuerSettings, changes: Value) -> Result<Checked, InvalidJwtError> {
        let mut claims = json!({
            "iss": "https://idp.example.org", "aud": "whiteboard", "sub": "ada",
            "iat": NOW, "exp": NOW + 600,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let mut claims = claims.as_object().unwrap().clone();
        claims.retain(|_, value| !value.is_null());
        let header = Header { algorithm: Algorithm::Es256, key_id: None, typ: None };
        check(settings, &header, &Object::from(&claims), Timestamp::from_second(NOW).unwrap())
    }

    #[test]
    fn a_proper_token_passes_up_to_its_last_second_of_leeway() {
        let settings = settings();
        for changes in [
            json!({}),
            json!({"aud": ["other", "whiteboard"]}),
            json!({"iat": NOW + 30, "nbf": NOW + 30}),
            json!({"iat": null, "exp": NOW + 3600}),
            json!({"exp": NOW - 29}),
        ] {
            let checked = checked(&settings, changes.clone()).unwrap();
            assert_eq!(checked.expired, None, "{changes}");
        }
        assert_eq!(checked(&settings, json!({"exp": NOW - 30})).unwrap().expired, Some(30));
    }

    #[test]
    fn every_other_claim_is_refused_with_its_name() {
        let settings = settings();
        for (changes, told) in [
            (json!({"aud": null}), "`aud` is missing"),
            (json!({"aud": "other"}), "another audience"),
            (json!({"aud": []}), "another audience"),
            (json!({"aud": ["whiteboard", 1]}), "`aud` is neither"),
            (json!({"aud": {"a": 1}}), "`aud` is neither"),
            (json!({"sub": null}), "`sub` is missing"),
            (json!({"sub": 7}), "`sub` is not a string"),
            (json!({"sub": ""}), "`sub` is empty"),
            (json!({"sub": "a\nb"}), "`sub` holds control"),
            (json!({"sub": "a".repeat(257)}), "`sub` has more"),
            (json!({"exp": null}), "`exp` is missing"),
            (json!({"exp": "1"}), "`exp` is no whole number"),
            (json!({"exp": -1}), "`exp` is no whole number"),
            (json!({"exp": 1.5}), "`exp` is no whole number"),
            (json!({"exp": u64::MAX}), "`exp` is no whole number"),
            (json!({"exp": 1_i64 << 52}), "longer than"),
            (json!({"exp": NOW + 3601}), "lives 3601 s"),
            (json!({"iat": null, "exp": NOW + 3601}), "lives 3601 s"),
            (json!({"iat": NOW + 31}), "`iat` is 31 s in the future"),
            (json!({"nbf": NOW + 31}), "`nbf` is 31 s in the future"),
            (json!({"nbf": "soon"}), "`nbf` is no whole number"),
            (json!({"nonce": "n"}), "ID token"),
            (json!({"at_hash": "h"}), "ID token"),
        ] {
            let why = checked(&settings, changes.clone()).unwrap_err().to_string();
            assert!(why.contains(told), "{changes}: {why}");
        }
    }

    #[test]
    fn an_id_token_passes_where_the_issuer_is_set_to_it() {
        let settings = IssuerSettings { id_tokens: true, ..settings() };
        assert!(checked(&settings, json!({"nonce": "n"})).is_ok());
    }

    #[test]
    fn a_type_is_compared_as_a_media_type() {
        for (wanted, typ, fits) in [
            (None, None, true),
            (None, Some("JWT"), true),
            (None, Some("at+jwt"), true),
            (None, Some("secevent+jwt"), false),
            (None, Some(""), false),
            (Some("at+jwt"), Some("application/AT+JWT"), true),
            (Some("at+jwt"), Some("JWT"), false),
            (Some("at+jwt"), None, false),
        ] {
            assert_eq!(check_type(wanted, typ).is_ok(), fits, "{wanted:?} {typ:?}");
        }
    }
}
