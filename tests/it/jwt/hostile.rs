//! Hostile tokens by class, through the built binary: each is a 401 with the envelope, in the
//! same words, and nothing but the log tells more.

use std::fs;

use serde_json::{Value, json};

use super::{SCHOOL, SECRET, section, status};
use crate::support::{Process, Setup, Signer, Upstream, claims, encode, jwks};

/// A gateway with an issuer of one ES256 and one RS256 key, and a second one with a secret.
struct Case {
    gateway: Process,
    upstream: Upstream,
    es: Signer,
    rs: Signer,
}

type Tokens = Vec<(&'static str, String)>;

impl Case {
    fn new() -> Self {
        let [es, rs] = [Signer::es256("es"), Signer::rs256("rs")];
        let upstream = Upstream::json("200 OK", "{}");
        let setup = Setup::new(&upstream.url())
            // So that the longest come through to the check.
            .with("[listen]\nhead_bytes = \"256KiB\"\n")
            .with("[limits]\nfailed_credentials = \"off\"\n");
        fs::write(setup.folder.path().join("keys.json"), jwks(&[es.jwk(), rs.jwk()])).unwrap();
        let profile = "profile = \"backend\"";
        let gateway = setup
            .with(&section("school", SCHOOL, "key_file = \"keys.json\"", profile))
            .with(&section("shared", "shared", &format!("secret = \"{SECRET}\""), profile))
            .start();
        Self { gateway, upstream, es, rs }
    }

    /// The proper token with members of its header changed, properly signed.
    fn header(&self, changes: &Value) -> String {
        changed(&self.es, changes)
    }

    /// The proper token with claims changed, properly signed.
    fn claims(&self, changes: &Value) -> String {
        self.es.token(&claims(SCHOOL, changes))
    }

    fn corpus(&self) -> Tokens {
        let mut corpus = self.algorithms();
        corpus.extend(self.keys_of_the_token());
        corpus.extend(self.signatures());
        corpus.extend(self.forms());
        corpus.extend(self.headers());
        corpus.extend(self.meanings());
        corpus
    }

    fn algorithms(&self) -> Tokens {
        let none = |alg: &str| {
            let parts = [json!({"alg": alg, "kid": "es"}), claims(SCHOOL, &json!({}))];
            let [header, claims] = parts.map(|part| encode(part.to_string()));
            format!("{header}.{claims}.")
        };
        let hmac = |secret: &str, id: &str| {
            let header = json!({"alg": "HS256", "kid": id, "typ": "JWT"});
            Signer::hs256(id, secret).sign(&header, &claims(SCHOOL, &json!({})))
        };
        let shared = claims("shared", &json!({}));
        vec![
            ("alg none", none("none")),
            ("alg None", none("None")),
            ("alg NONE", none("NONE")),
            ("alg nOnE", none("nOnE")),
            ("alg none with a space", none("none ")),
            ("alg empty", none("")),
            ("alg none with a good signature", self.header(&json!({"alg": "none"}))),
            ("alg missing", self.header(&json!({"alg": null}))),
            ("alg in lower case", self.header(&json!({"alg": "es256"}))),
            ("alg a number", self.header(&json!({"alg": 256}))),
            ("alg a list", self.header(&json!({"alg": ["ES256"]}))),
            ("alg of another key", self.header(&json!({"alg": "RS256"}))),
            ("alg of no key", self.header(&json!({"alg": "PS256", "kid": null}))),
            ("alg unknown", self.header(&json!({"alg": "ES256K"}))),
            ("HS256 with the RSA key in PEM", hmac(&self.rs.pem(), "rs")),
            ("HS256 with the RSA key in PEM, trimmed", hmac(self.rs.pem().trim(), "rs")),
            ("HS256 with the modulus", hmac(self.rs.jwk()["n"].as_str().unwrap(), "rs")),
            ("HS256 with the JWK", hmac(&self.rs.jwk().to_string(), "rs")),
            ("HS256 with an empty secret", hmac("", "rs")),
            ("HS256 with the other issuer's secret", hmac(SECRET, "es")),
            ("a public key where a secret is shared", self.es.token(&shared)),
            ("HS512 where HS256 is shared", self.es.sign(&json!({"alg": "HS512"}), &shared)),
            ("a wrong secret", Signer::hs256("a", &SECRET.replace('0', "1")).token(&shared)),
        ]
    }

    fn keys_of_the_token(&self) -> Tokens {
        let mallory = Signer::es256("es");
        let own = |header: Value| changed(&mallory, &header);
        vec![
            ("kid a path", self.header(&json!({"kid": "../../../../dev/null"}))),
            ("kid a path to a file", own(json!({"kid": "/proc/sys/kernel/core_pattern"}))),
            ("kid SQL", self.header(&json!({"kid": "es' UNION SELECT 'key' --"}))),
            ("kid a command", self.header(&json!({"kid": "es|/usr/bin/id"}))),
            ("kid with a NUL", self.header(&json!({"kid": "es\u{0}"}))),
            ("kid with a line break", self.header(&json!({"kid": "es\n{\"level\":\"ERROR\"}"}))),
            ("kid empty", self.header(&json!({"kid": ""}))),
            ("kid a number", self.header(&json!({"kid": 0}))),
            ("kid of 257 bytes", self.header(&json!({"kid": "k".repeat(257)}))),
            ("a key of its own under a known id", own(json!({}))),
            ("jwk with its own key", own(json!({"jwk": mallory.jwk()}))),
            ("jku to its own keys", own(json!({"jku": "https://evil.example/jwks.json"}))),
            ("jku to the inside", own(json!({"jku": self.upstream.url()}))),
            ("x5u to its own certificate", own(json!({"x5u": self.upstream.url()}))),
            ("x5c with its own certificate", own(json!({"x5c": ["MIIB"]}))),
        ]
    }

    fn signatures(&self) -> Tokens {
        let good = self.claims(&json!({}));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let with = |signature: &[u8]| format!("{signed}.{}", encode(signature));
        let raw = self.es.signature(signed.as_bytes());
        let mut flipped = raw.clone();
        flipped[10] ^= 1;
        let der = [&[0x30, 68, 0x02, 32][..], &raw[..32], &[0x02, 32], &raw[32..]].concat();
        let rsa = self.rs.token(&claims(SCHOOL, &json!({})));
        let (rsa_signed, _) = rsa.rsplit_once('.').unwrap();
        let other = self.claims(&json!({"sub": "mallory"}));
        let (other_signed, _) = other.rsplit_once('.').unwrap();
        vec![
            ("no signature", format!("{signed}.")),
            ("no third part", signed.to_owned()),
            ("all zeros", with(&[0; 64])),
            ("all ones", with(&[255; 64])),
            ("a flipped bit", with(&flipped)),
            ("one byte short", with(&raw[..63])),
            ("one byte long", with(&[&raw[..], &[0]].concat())),
            ("in DER", with(&der)),
            ("RSA zeros", format!("{rsa_signed}.{}", encode([0; 256]))),
            ("RSA empty", format!("{rsa_signed}.")),
            ("of another token", format!("{other_signed}.{signature}")),
        ]
    }

    fn forms(&self) -> Tokens {
        let good = self.claims(&json!({}));
        let parts: Vec<_> = good.split('.').collect();
        let text = claims(SCHOOL, &json!({})).to_string();
        let header = self.es.header().to_string();
        let raw = |claims: &str| self.es.sign_raw(&header, claims);
        let twice = |member: &str| raw(&text.replacen('{', &format!("{{{member},"), 1));
        vec![
            ("dots", "..".to_owned()),
            ("four parts", format!("{good}.e30")),
            (
                "five parts, encrypted",
                "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..aa.bb.cc".to_owned(),
            ),
            ("truncated in the claims", good[..parts[0].len() + 20].to_owned()),
            ("truncated in the signature", good[..good.len() - 2].to_owned()),
            ("padded", format!("{good}==")),
            ("padded header", format!("{}=.{}.{}", parts[0], parts[1], parts[2])),
            ("with a space", format!("{} {}", &good[..10], &good[10..])),
            ("of 100 KB", self.claims(&json!({"fill": "a".repeat(75_000)}))),
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
            ("kid null", self.es.sign_raw(r#"{"alg":"ES256","kid":null}"#, &text)),
            ("a token in a token", raw(&json!(good).to_string())),
        ]
    }

    fn headers(&self) -> Tokens {
        vec![
            ("crit unknown", self.header(&json!({"crit": ["exp"], "exp": 1}))),
            ("crit empty", self.header(&json!({"crit": []}))),
            ("crit with b64", self.header(&json!({"crit": ["b64"], "b64": false}))),
            ("b64 without crit", self.header(&json!({"b64": false}))),
            ("compressed", self.header(&json!({"zip": "DEF"}))),
            ("encrypted", self.header(&json!({"enc": "A128GCM"}))),
            ("said to be nested", self.header(&json!({"cty": "JWT"}))),
            ("typ of a logout token", self.header(&json!({"typ": "logout+jwt"}))),
            ("typ of a proof of possession", self.header(&json!({"typ": "dpop+jwt"}))),
            ("typ a number", self.header(&json!({"typ": 1}))),
        ]
    }

    fn meanings(&self) -> Tokens {
        let now = jiff::Timestamp::now().as_second();
        let forged = claims(SCHOOL, &json!({"exp": now - 3600, "iat": now - 7200}));
        let changes = [
            ("iss missing", json!({"iss": null})),
            ("iss of nobody", json!({"iss": "https://evil.example"})),
            ("iss with a slash more", json!({"iss": format!("{SCHOOL}/")})),
            ("iss in another case", json!({"iss": SCHOOL.to_uppercase()})),
            ("iss a list", json!({"iss": [SCHOOL]})),
            ("iss of the other issuer", json!({"iss": "shared"})),
            ("aud missing", json!({"aud": null})),
            ("aud of another", json!({"aud": "somewhere-else"})),
            ("aud a part of ours", json!({"aud": "white"})),
            ("aud empty", json!({"aud": []})),
            ("aud an object", json!({"aud": {"whiteboard": true}})),
            ("aud a list in a list", json!({"aud": [["whiteboard"]]})),
            ("sub missing", json!({"sub": null})),
            ("sub empty", json!({"sub": ""})),
            ("sub a number", json!({"sub": 1})),
            ("sub with a line break", json!({"sub": "ada\n{\"level\":\"ERROR\"}"})),
            ("exp missing", json!({"exp": null})),
            ("exp a string", json!({"exp": (now + 600).to_string()})),
            ("exp huge", json!({"exp": 1e300})),
            ("exp negative", json!({"exp": -1})),
            ("exp far away", json!({"exp": 253_402_300_799_i64})),
            ("exp over the integers", json!({"exp": u64::MAX})),
            ("living too long", json!({"exp": now + 100_000})),
            ("living too long without iat", json!({"exp": now + 100_000, "iat": null})),
            ("not yet valid", json!({"nbf": now + 300})),
            ("nbf a string", json!({"nbf": "0"})),
            ("issued in the future", json!({"iat": now + 300})),
            ("an ID token by its nonce", json!({"nonce": "n"})),
            ("an ID token by its hash", json!({"at_hash": "h"})),
        ];
        let mut tokens: Tokens =
            changes.into_iter().map(|(what, changes)| (what, self.claims(&changes))).collect();
        tokens.push(("expired and forged", Signer::es256("es").token(&forged)));
        tokens
    }
}

/// The proper token of a signer with members of its header changed; null takes one away.
fn changed(signer: &Signer, changes: &Value) -> String {
    let mut header = signer.header();
    for (name, value) in changes.as_object().unwrap() {
        header[name] = value.clone();
    }
    header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    signer.sign(&header, &claims(SCHOOL, &json!({})))
}

#[test]
fn every_hostile_token_is_a_401_with_the_envelope() {
    let case = Case::new();
    let corpus = case.corpus();
    assert!(corpus.len() >= 110, "{}", corpus.len());
    let mut client = case.gateway.client();
    for (what, token) in corpus {
        eprintln!("{what}");
        let answer = client.call(&token, "GET", "/v5/rooms/r", "");
        answer.assert_envelope(401, "invalid_token");
        assert_eq!(answer.member("message"), "the token is not accepted here", "{what}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge}");
    }
    // What they vary is good as it is, on the same connection.
    let good = [
        case.claims(&json!({})),
        case.header(&json!({"typ": null})),
        case.header(&json!({"jku": case.upstream.url(), "x5c": ["MIIB"], "jwk": {}})),
        case.rs.token(&claims(SCHOOL, &json!({}))),
        Signer::hs256("any", SECRET).token(&claims("shared", &json!({}))),
    ];
    for token in &good {
        assert_eq!(status(&mut client, token), 200);
    }
    assert_eq!(case.upstream.received().len(), good.len(), "no URL of a token was followed");
    // Nothing of a token made a line of its own in the log.
    for line in case.gateway.stdout().lines().chain(case.gateway.stderr().lines()) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line["level"] != "ERROR", "{line}");
    }
}
