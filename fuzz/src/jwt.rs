//! JWTs: one that is taken says what its issuer's must say, and nothing verifies that was not
//! signed, to the last bit.
//!
//! An input is a header and the claims, a line each, which are signed; then lines that change the
//! token that came of it, as `PLACE BYTES-REMOVED TEXT-PUT-THERE`. The first line is tried as a
//! token as well.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::assert_presentable;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;
use whiteboard_gateway::caller::jwt::{
    CapFrom, ClaimPath, IssuerSettings, Issuers, JwtError, KeySource, Mapping, ProfileFrom,
    RoomsFrom, Verified,
};
use whiteboard_gateway::failure::Failure;
use whiteboard_gateway::token::Secret;

const SECRET: &str = "a secret of thirty-two bytes or more";
const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "whiteboard";
const NOW: i64 = 1_700_000_000;
const LEEWAY: i64 = 30;
const LIFETIME: i64 = 24 * 3600;

static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let claim = |path| ClaimPath::new(path).expect("a path of a claim");
    let keys = KeySource::Secret(Secret::new(SECRET.to_owned()));
    let audience = vec![AUDIENCE.to_owned()];
    let mut settings = IssuerSettings::new("school".to_owned(), ISSUER.to_owned(), audience, keys);
    settings.leeway = Duration::from_secs(LEEWAY.unsigned_abs());
    settings.max_lifetime = Duration::from_secs(LIFETIME.unsigned_abs());
    settings.mapping = Mapping {
        profile: ProfileFrom::Claim {
            path: claim("realm_access.roles"),
            map: vec![("teacher".to_owned(), "backend".to_owned())],
        },
        rooms: RoomsFrom::Claim(claim("rooms")),
        role: CapFrom::Claim(claim("role")),
        max_lifespan: CapFrom::Claim(claim("life")),
        caller: claim("sub"),
    };
    Issuers::new(vec![settings]).expect("the issuer can be set up")
});

/// One input.
pub fn run(input: &str) {
    let mut lines = input.split('\n');
    let header = lines.next().unwrap_or_default();
    let claims = lines.next().unwrap_or_default();
    assert!(verify(header, &mut Vec::new()).is_err(), "nobody signed {header}");

    let token = signed(header, claims);
    match verify(&token, &mut Vec::new()) {
        Ok(verified) => taken(header, claims, &verified),
        Err(refusal) => refused(refusal),
    }
    if let Some(forged) = forged(&token, lines)
        && forged != token
    {
        // One text for each sequence of bytes, so not even another writing of it verifies.
        assert!(verify(&forged, &mut Vec::new()).is_err(), "{forged} is taken for {token}");
    }
}

/// No key has to be fetched, so there is an answer at once.
fn verify<'a>(token: &'a str, decoded: &'a mut Vec<u8>) -> Result<Verified<'a>, JwtError> {
    let now = Timestamp::from_second(NOW).expect("a time of this calendar");
    let mut context = Context::from_waker(Waker::noop());
    match pin!(ISSUERS.verify(token, decoded, now)).poll(&mut context) {
        Poll::Ready(verified) => verified,
        Poll::Pending => panic!("a key that is known is waited for"),
    }
}

fn signed(header: &str, claims: &str) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = Key::new(HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(sign(&key, input.as_bytes()));
    format!("{input}.{signature}")
}

fn taken(header: &str, claims: &str, verified: &Verified<'_>) {
    let header: Value = serde_json::from_str(header).expect("the header is JSON");
    let claims: Value = serde_json::from_str(claims).expect("the claims are JSON");
    assert_eq!(header["alg"], "HS256");
    assert!(["crit", "b64", "zip", "enc"].iter().all(|name| header.get(*name).is_none()));
    assert_eq!(claims["iss"], ISSUER);
    let audiences =
        claims["aud"].as_array().cloned().unwrap_or_else(|| vec![claims["aud"].clone()]);
    assert!(audiences.contains(&Value::from(AUDIENCE)));
    let end = claims["exp"].as_i64().expect("an end");
    assert_eq!(verified.expires_at.as_second(), end);
    assert!(end > NOW - LEEWAY, "it is over");
    for begin in ["iat", "nbf"].iter().filter_map(|name| claims.get(*name)) {
        assert!(begin.as_i64().is_some_and(|begin| begin <= NOW + LEEWAY), "it has not begun");
    }
    let issued = claims.get("iat").map_or(NOW, |issued| issued.as_i64().expect("a number"));
    assert!(end - issued <= LIFETIME, "it lives too long");
    let subject = claims["sub"].as_str().expect("a subject");
    assert!(!subject.is_empty() && !subject.contains(char::is_control));
    assert_eq!(Value::Object(verified.claims.clone().into()), claims);
    match ISSUERS.rights(verified.issuer, &verified.claims, &HashMap::new()) {
        Ok((_, id)) => assert!(!id.is_empty() && id.len() <= 256),
        Err(refusal) => refused(refusal),
    }
}

/// The caller is told a fixed text; the log gets the reason, bounded, without control characters.
fn refused(refusal: JwtError) {
    let failure = Failure::from(refusal);
    assert_presentable(&failure);
    let detail = failure.detail().expect("a refusal says why in the log");
    assert!(detail.len() <= 1024 && !detail.contains(char::is_control), "{detail:?}");
}

fn forged<'a>(token: &str, edits: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut forged = token.as_bytes().to_vec();
    for edit in edits {
        let mut parts = edit.splitn(3, ' ');
        let from = parts.next()?.parse::<usize>().ok()?.min(forged.len());
        let gone = parts.next()?.parse::<usize>().ok()?;
        let to = from.saturating_add(gone).min(forged.len());
        forged.splice(from..to, parts.next()?.bytes());
    }
    String::from_utf8(forged).ok()
}
