//! Hostile tokens, by class. Each is refused as `invalid_token` (or, where it is authentic, as
//! `expired_token`), and none costs more than its bound.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::keys::{Signer, encode};
use super::{ISSUER, claims, now};
use crate::caller::jwt::{InvalidJwtError, IssuerSettings, Issuers, JwtError, KeySource};
use crate::caller::throttle::{CredentialAttempt, Throttle};
use crate::failure::{Code, Failure};
use crate::limit::Rate;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// An issuer of one ES256 and one RS256 key, and a second one with a shared secret.
struct Case {
    issuers: Issuers,
    es: Signer,
    rs: Signer,
    _file: tempfile::NamedTempFile,
}

impl Case {
    fn new() -> Self {
        let [es, rs] = [Signer::es256("es"), Signer::rs256("rs")];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), super::keys::jwks(&[es.jwk(), rs.jwk()])).unwrap();
        let settings = IssuerSettings {
            keys: KeySource::File(file.path().to_owned()),
            ..IssuerSettings::for_tests("school")
        };
        let shared =
            IssuerSettings { issuer: "shared".to_owned(), ..IssuerSettings::of_secret(SECRET) };
        let issuers = Issuers::new(vec![settings, shared]).unwrap();
        Self { issuers, es, rs, _file: file }
    }

    /// A refusal comes without waiting, so nothing but a poll is needed.
    fn verify(&self, token: &str) -> Result<String, JwtError> {
        self.verify_shown(token, &CredentialAttempt::UNCOUNTED)
    }

    fn verify_shown(
        &self,
        token: &str,
        attempt: &CredentialAttempt<'_>,
    ) -> Result<String, JwtError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut decoded = Vec::new();
        let verified = self.issuers.verify_shown(token, &mut decoded, now(), attempt);
        let verified = runtime.block_on(verified);
        verified.map(|verified| verified.claims.text("sub").unwrap().to_owned())
    }

    /// The proper token with members of its header changed, properly signed.
    fn header(&self, changes: Value) -> String {
        let mut header = self.es.header();
        for (name, value) in changes.as_object().unwrap() {
            header[name] = value.clone();
        }
        header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        self.es.sign(&header, &claims(ISSUER, &json!({})))
    }

    /// The proper token with claims changed, properly signed.
    fn claims(&self, changes: Value) -> String {
        self.es.token(&claims(ISSUER, &changes))
    }

    /// Exactly this header, unsigned or signed with what stands in `signature`.
    fn forged(header: &Value, signature: &[u8]) -> String {
        let claims = claims(ISSUER, &json!({}));
        let [header, claims] = [header, &claims].map(|part| encode(part.to_string()));
        format!("{header}.{claims}.{}", encode(signature))
    }

    fn corpus(&self) -> Vec<(&'static str, String)> {
        let mut corpus = self.algorithms();
        corpus.extend(self.keys_of_the_token());
        corpus.extend(self.signatures());
        corpus.extend(self.forms());
        corpus.extend(self.meanings());
        corpus
    }

    fn algorithms(&self) -> Vec<(&'static str, String)> {
        let none = |alg: &str| Self::forged(&json!({"alg": alg, "kid": "es"}), b"");
        let hmac = |secret: &str, id: &str| {
            let header = json!({"alg": "HS256", "kid": id, "typ": "JWT"});
            Signer::hs256(id, secret).sign(&header, &claims(ISSUER, &json!({})))
        };
        let encode_key = |member: &str| self.rs.jwk()[member].as_str().unwrap().to_owned();
        let shared = |alg: &str| {
            let header = json!({"alg": alg});
            self.es.sign(&header, &claims("shared", &json!({})))
        };
        vec![
            ("alg none", none("none")),
            ("alg None", none("None")),
            ("alg NONE", none("NONE")),
            ("alg nOnE", none("nOnE")),
            ("alg none with a space", none("none ")),
            ("alg empty", none("")),
            ("alg none with a good signature", self.header(json!({"alg": "none"}))),
            ("alg missing", self.header(json!({"alg": null}))),
            ("alg in lower case", self.header(json!({"alg": "es256"}))),
            ("alg a number", self.header(json!({"alg": 256}))),
            ("alg a list", self.header(json!({"alg": ["ES256"]}))),
            ("alg of another key", self.header(json!({"alg": "RS256"}))),
            ("alg of no key", self.header(json!({"alg": "PS256", "kid": null}))),
            ("alg unknown", self.header(json!({"alg": "ES256K"}))),
            ("HS256 with the RSA key in PEM", hmac(&self.rs.pem(), "rs")),
            ("HS256 with the RSA key in PEM, trimmed", hmac(self.rs.pem().trim(), "rs")),
            ("HS256 with the modulus", hmac(&encode_key("n"), "rs")),
            ("HS256 with the JWK", hmac(&self.rs.jwk().to_string(), "rs")),
            ("HS256 with an empty secret", hmac("", "rs")),
            ("HS256 with the other issuer's secret", hmac(SECRET, "es")),
            ("a public key where a secret is shared", shared("ES256")),
            ("HS512 where HS256 is shared", shared("HS512")),
            (
                "HS256 with a wrong secret",
                Signer::hs256("a", &SECRET.replace('0', "1")).token(&claims("shared", &json!({}))),
            ),
        ]
    }

    fn keys_of_the_token(&self) -> Vec<(&'static str, String)> {
        let mallory = Signer::es256("es");
        let own = |header: Value| {
            let mut full = mallory.header();
            for (name, value) in header.as_object().unwrap() {
                full[name] = value.clone();
            }
            mallory.sign(&full, &claims(ISSUER, &json!({})))
        };
        vec![
            ("kid a path", self.header(json!({"kid": "../../../../dev/null"}))),
            ("kid a path to an empty file", own(json!({"kid": "/proc/sys/kernel/core_pattern"}))),
            ("kid SQL", self.header(json!({"kid": "es' UNION SELECT 'key' --"}))),
            ("kid a command", self.header(json!({"kid": "es|/usr/bin/id"}))),
            ("kid with a NUL", self.header(json!({"kid": "es\u{0}"}))),
            ("kid empty", self.header(json!({"kid": ""}))),
            ("kid a number", self.header(json!({"kid": 0}))),
            ("kid null", {
                let header = r#"{"alg":"ES256","kid":null}"#;
                self.es.sign_raw(header, claims(ISSUER, &json!({})).to_string())
            }),
            ("kid of 257 bytes", self.header(json!({"kid": "k".repeat(257)}))),
            ("a key of its own under a known id", own(json!({}))),
            ("jwk with its own key", own(json!({"jwk": mallory.jwk()}))),
            ("jku to its own keys", own(json!({"jku": "https://evil.example/jwks.json"}))),
            ("jku to the inside", own(json!({"jku": "http://169.254.169.254/"}))),
            ("x5u to its own certificate", own(json!({"x5u": "https://evil.example/cert.pem"}))),
            ("x5c with its own certificate", own(json!({"x5c": ["MIIB"]}))),
        ]
    }

    fn signatures(&self) -> Vec<(&'static str, String)> {
        let good = self.claims(json!({}));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let with = |signature: &[u8]| format!("{signed}.{}", encode(signature));
        let raw = self.es.signature(signed.as_bytes());
        let mut flipped = raw.clone();
        flipped[10] ^= 1;
        let mut der = vec![0x30, 68, 0x02, 32];
        der.extend(&raw[..32]);
        der.extend([0x02, 32]);
        der.extend(&raw[32..]);
        let rsa = self.rs.token(&claims(ISSUER, &json!({})));
        let (rsa_signed, _) = rsa.rsplit_once('.').unwrap();
        let other = self.claims(json!({"sub": "mallory"}));
        let (other_signed, _) = other.rsplit_once('.').unwrap();
        vec![
            ("no signature", format!("{signed}.")),
            ("no third part", signed.to_owned()),
            ("all zeros", with(&[0; 64])),
            ("all ones", with(&[255; 64])),
            (
                "r and s of one",
                with(&{
                    let mut one = [0; 64];
                    one[31] = 1;
                    one[63] = 1;
                    one
                }),
            ),
            ("a flipped bit", with(&flipped)),
            ("one byte short", with(&raw[..63])),
            ("one byte long", with(&[&raw[..], &[0]].concat())),
            ("in DER", with(&der)),
            ("RSA zeros", format!("{rsa_signed}.{}", encode([0; 256]))),
            ("RSA empty", format!("{rsa_signed}.")),
            (
                "an RSA one",
                format!(
                    "{rsa_signed}.{}",
                    encode({
                        let mut one = [0; 256];
                        one[255] = 1;
                        one
                    })
                ),
            ),
            ("of another token", format!("{other_signed}.{signature}")),
        ]
    }

    fn forms(&self) -> Vec<(&'static str, String)> {
        let good = self.claims(json!({}));
        let parts: Vec<_> = good.split('.').collect();
        let text = claims(ISSUER, &json!({})).to_string();
        let header = self.es.header().to_string();
        let raw = |claims: &str| self.es.sign_raw(&header, claims);
        let twice = |member: &str| raw(&text.replacen('{', &format!("{{{member},"), 1));
        // The signature's 64 bytes end within a character: another one has the same bytes.
        let last = parts[2].chars().last().unwrap();
        let next = char::from_u32(u32::from(last) + 1).filter(char::is_ascii_alphanumeric);
        let tail = &parts[2][..parts[2].len() - 1];
        vec![
            ("empty", String::new()),
            ("dots", "..".to_owned()),
            ("one part", parts[0].to_owned()),
            ("four parts", format!("{good}.e30")),
            (
                "five parts, encrypted",
                "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..aa.bb.cc".to_owned(),
            ),
            ("truncated in the claims", good[..parts[0].len() + 20].to_owned()),
            ("truncated in the signature", good[..good.len() - 2].to_owned()),
            ("padded", format!("{good}==")),
            ("padded header", format!("{}=.{}.{}", parts[0], parts[1], parts[2])),
            (
                "with trailing bits",
                format!("{}.{}.{tail}{}", parts[0], parts[1], next.unwrap_or('B')),
            ),
            ("in the other base64", good.replace(['-', '_'], "+") + "+"),
            ("with a line break", format!("{}\n{}", &good[..10], &good[10..])),
            ("with a space", format!("{} {}", &good[..10], &good[10..])),
            ("of 100 KB", self.claims(json!({"fill": "a".repeat(100_000)}))),
            ("of 8 KiB and one", format!("{good}{}", "A".repeat(8193 - good.len()))),
            ("of 100 KB of dots", ".".repeat(100_000)),
            ("nested deeply", raw(&"[".repeat(5000))),
            (
                "an object nested deeply",
                raw(&format!("{}1{}", "{\"a\":".repeat(900), "}".repeat(900))),
            ),
            ("claims an array", raw(&format!("[{text}]"))),
            ("claims a string", raw("\"claims\"")),
            ("claims null", raw("null")),
            ("claims empty", raw("")),
            ("claims and something after", raw(&format!("{text}{{}}"))),
            ("claims in invalid UTF-8", self.es.sign_raw(&header, b"{\"sub\":\"\xff\xfe\"}")),
            ("header in invalid UTF-8", self.es.sign_raw(b"{\"alg\":\"\xff\"}", &text)),
            ("claims in UTF-16", {
                let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
                self.es.sign_raw(&header, wide)
            }),
            ("claims after a byte order mark", raw(&format!("\u{feff}{text}"))),
            ("sub twice", twice(r#""sub":"mallory""#)),
            ("aud twice", twice(r#""aud":"other""#)),
            ("exp twice", twice(r#""exp":1"#)),
            ("a claim of no meaning twice", twice(r#""x":1,"x":2"#)),
            ("a claim twice, one of them escaped", twice(r#""s\u0075b":"mallory""#)),
            ("alg twice", self.es.sign_raw(r#"{"alg":"none","alg":"ES256","kid":"es"}"#, &text)),
            ("a token in a token", raw(&json!(good).to_string())),
        ]
    }

    fn meanings(&self) -> Vec<(&'static str, String)> {
        let now = now().as_second();
        vec![
            ("crit unknown", self.header(json!({"crit": ["exp"], "exp": 1}))),
            ("crit empty", self.header(json!({"crit": []}))),
            ("crit with b64", self.header(json!({"crit": ["b64"], "b64": false}))),
            ("b64 without crit", self.header(json!({"b64": false}))),
            ("compressed", self.header(json!({"zip": "DEF"}))),
            ("encrypted", self.header(json!({"enc": "A128GCM"}))),
            ("said to be nested", self.header(json!({"cty": "JWT"}))),
            ("typ of a logout token", self.header(json!({"typ": "logout+jwt"}))),
            ("typ of a proof of possession", self.header(json!({"typ": "dpop+jwt"}))),
            ("typ a number", self.header(json!({"typ": 1}))),
            ("iss missing", self.claims(json!({"iss": null}))),
            ("iss of nobody", self.claims(json!({"iss": "https://evil.example"}))),
            ("iss with a slash more", self.claims(json!({"iss": format!("{ISSUER}/")}))),
            ("iss in another case", self.claims(json!({"iss": ISSUER.to_uppercase()}))),
            ("iss a list", self.claims(json!({"iss": [ISSUER]}))),
            ("iss of the other issuer", self.claims(json!({"iss": "shared"}))),
            ("aud missing", self.claims(json!({"aud": null}))),
            ("aud of another", self.claims(json!({"aud": "somewhere-else"}))),
            ("aud a part of ours", self.claims(json!({"aud": "white"}))),
            ("aud more than ours", self.claims(json!({"aud": "whiteboard2"}))),
            ("aud empty", self.claims(json!({"aud": []}))),
            ("aud an object", self.claims(json!({"aud": {"whiteboard": true}}))),
            ("aud a list in a list", self.claims(json!({"aud": [["whiteboard"]]}))),
            ("sub missing", self.claims(json!({"sub": null}))),
            ("sub empty", self.claims(json!({"sub": ""}))),
            ("sub a number", self.claims(json!({"sub": 1}))),
            ("sub with a line break", self.claims(json!({"sub": "ada\n{\"level\":\"ERROR\"}"}))),
            ("exp missing", self.claims(json!({"exp": null}))),
            ("exp a string", self.claims(json!({"exp": (now + 600).to_string()}))),
            ("exp a fraction", self.claims(json!({"exp": 1e300}))),
            ("exp negative", self.claims(json!({"exp": -1}))),
            ("exp far away", self.claims(json!({"exp": 253_402_300_799_i64}))),
            ("exp over the integers", self.claims(json!({"exp": u64::MAX}))),
            ("living too long", self.claims(json!({"exp": now + 100_000}))),
            (
                "living too long without iat",
                self.claims(json!({"exp": now + 100_000, "iat": null})),
            ),
            ("not yet valid", self.claims(json!({"nbf": now + 300}))),
            ("nbf a string", self.claims(json!({"nbf": "0"}))),
            ("issued in the future", self.claims(json!({"iat": now + 300}))),
            ("an ID token by its nonce", self.claims(json!({"nonce": "n"}))),
            ("an ID token by its hash", self.claims(json!({"at_hash": "h"}))),
            (
                "expired and forged",
                Signer::es256("es")
                    .token(&claims(ISSUER, &json!({"exp": now - 3600, "iat": now - 7200}))),
            ),
        ]
    }
}

#[test]
fn every_hostile_token_is_refused_in_the_same_words() {
    let case = Case::new();
    let corpus = case.corpus();
    assert!(corpus.len() >= 120, "{}", corpus.len());
    for (what, token) in corpus {
        let throttle = one_an_hour();
        let attempt = throttle.attempt(ADDRESS, throttle.fingerprint(&token));
        let refusal = case.verify_shown(&token, &attempt).expect_err(what);
        // What is refused before a signature is computed is free.
        let counted = attempt.wait().is_some();
        assert_eq!(counted, refusal.reason == InvalidJwtError::Signature, "{what}: {refusal:?}");
        let failure = Failure::from(refusal);
        assert_eq!(failure.code(), Code::InvalidToken, "{what}: {failure:?}");
        assert_eq!(failure.message(), "the token is not accepted here", "{what}");
        let detail = failure.detail().unwrap();
        assert!(detail.len() < 300 && !detail.contains(['\n', '\0']), "{what}: {detail}");
    }
}

#[test]
fn no_hostile_token_costs_more_than_its_bound() {
    // One signature and 8 KiB of JSON: far below this even in a debug build on a busy machine.
    const BOUND: Duration = Duration::from_millis(20);
    let case = Case::new();
    for (what, token) in case.corpus() {
        let once = || {
            let begun = Instant::now();
            _ = case.verify(&token);
            begun.elapsed()
        };
        let fastest = (0..5).map(|_| once()).min().unwrap();
        assert!(fastest < BOUND, "{what}: {fastest:?}");
    }
}

#[test]
fn what_the_corpus_varies_is_accepted_as_it_is() {
    let case = Case::new();
    let secret = Signer::hs256("any", SECRET);
    for token in [
        case.claims(json!({})),
        case.header(json!({"typ": null})),
        case.header(json!({"kid": null})),
        case.header(json!({"jku": "https://evil.example/", "x5c": ["MIIB"], "jwk": {}})),
        case.rs.token(&claims(ISSUER, &json!({}))),
        secret.token(&claims("shared", &json!({}))),
    ] {
        assert_eq!(case.verify(&token).unwrap(), "ada");
    }
}

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An address may show one signature that does not hold, in an hour.
fn one_an_hour() -> Throttle {
    let one = NonZeroU32::MIN;
    let rate = Rate { requests: one, period: Duration::from_secs(3600), burst: one };
    Throttle::new(Some(rate), None)
}

#[test]
fn an_address_that_has_spent_its_failures_is_refused_new_tokens_alone() {
    let case = Case::new();
    let now = now().as_second();
    let throttle = one_an_hour();
    let show = |token: &str| {
        let attempt = throttle.attempt(ADDRESS, throttle.fingerprint(token));
        case.verify_shown(token, &attempt).map_err(|refusal| refusal.code())
    };
    let known = case.claims(json!({"jti": "known"}));
    let over = case.claims(json!({"iat": now - 700, "exp": now - 100}));
    assert_eq!(show(&known).as_deref(), Ok("ada"));
    assert_eq!(show(&over), Err(Code::ExpiredToken));
    let forged = Signer::es256("es").token(&claims(ISSUER, &json!({})));
    assert_eq!(show(&forged), Err(Code::InvalidToken));
    assert_eq!(show(&forged), Err(Code::RateLimited));
    assert_eq!(show(&case.claims(json!({"jti": "new"}))), Err(Code::RateLimited));
    // What was known before is verified, or known to be over, as ever.
    assert_eq!(show(&known).as_deref(), Ok("ada"));
    assert_eq!(show(&over), Err(Code::ExpiredToken));
    // What is refused before a signature is told why.
    assert_eq!(show(&case.claims(json!({"aud": "other"}))), Err(Code::InvalidToken));
    assert_eq!(show("a.b.c"), Err(Code::InvalidToken));
}

#[test]
fn an_authentic_token_that_is_over_is_told_so() {
    let case = Case::new();
    let now = now().as_second();
    let expired = case.claims(json!({"iat": now - 700, "exp": now - 100}));
    let refusal = case.verify(&expired).unwrap_err();
    let failure = Failure::from(refusal);
    assert_eq!((failure.code(), failure.message()), (Code::ExpiredToken, "the token has expired"));
}

#[test]
fn each_algorithm_verifies_its_own_signatures_and_no_others() {
    let signers = Signer::each();
    let file = tempfile::NamedTempFile::new().unwrap();
    let keys: Vec<_> = signers.iter().map(Signer::jwk).collect();
    std::fs::write(file.path(), super::keys::jwks(&keys)).unwrap();
    let keys = KeySource::File(file.path().to_owned());
    let issuers =
        Issuers::new(vec![IssuerSettings { keys, ..IssuerSettings::for_tests("all") }]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for one in &signers {
        for other in &signers {
            let token = one.sign(&other.header(), &claims(ISSUER, &json!({})));
            let mut decoded = Vec::new();
            let verified = runtime.block_on(issuers.verify(&token, &mut decoded, now()));
            let same = one.algorithm() == other.algorithm();
            assert_eq!(verified.is_ok(), same, "{} as {}", one.algorithm(), other.algorithm());
        }
    }
}

#[test]
fn settings_that_would_weaken_the_checks_are_refused() {
    use crate::caller::jwt::Algorithm;
    let base = IssuerSettings::for_tests("school");
    let why = |settings: Vec<IssuerSettings>| Issuers::new(settings).err().unwrap().to_string();
    let one = |settings: IssuerSettings| why(vec![settings]);
    let mut mixed = base.clone();
    mixed.algorithms.push(Algorithm::Hs256);
    assert!(one(mixed).contains("`HS256` does not fit"));
    let mut public = IssuerSettings::of_secret(SECRET);
    public.algorithms = vec![Algorithm::Rs256];
    assert!(one(public).contains("`RS256` does not fit"));
    assert!(one(IssuerSettings::of_secret("short")).contains("at least 32 bytes"));
    assert!(one(IssuerSettings { audience: vec![], ..base.clone() }).contains("`audience`"));
    let leeway = Duration::from_secs(61);
    assert!(one(IssuerSettings { leeway, ..base.clone() }).contains("at most 60 s"));
    let issuer = "http://idp.example.org".to_owned();
    assert!(one(IssuerSettings { issuer, ..base.clone() }).contains("https://"));
    assert!(why(vec![base.clone(), base]).contains("same `issuer`"));
}
