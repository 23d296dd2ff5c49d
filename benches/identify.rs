//! What it costs to find out who is calling: an API key, a JWT that is new (each algorithm), and a
//! JWT that was verified before.
//!
//! `cargo bench --bench identify`

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::fs;
use std::net::IpAddr;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use serde_json::json;
use whiteboard_gateway::api::{Lifespan, Operations, Role};
use whiteboard_gateway::caller::jwt::{IssuerSettings, KeySource, ProfileFrom};
use whiteboard_gateway::caller::{
    ApiKey, CallerSettings, Callers, KeySettings, Memory, Settings, generate,
};
use whiteboard_gateway::certificate::Standing;
use whiteboard_gateway::policy::{OverCap, Policy, ProfileSettings, Rooms};
use whiteboard_gateway::token::Secret;

const SECRET: &str = "a shared secret of at least thirty-two bytes";
const ISSUER: &str = "https://idp.example.org";
const ALGORITHMS: [&str; 6] = ["HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA"];

fn main() {
    divan::main();
}

/// The gateway's callers, and a credential that one of them shows.
struct Case {
    callers: Callers,
    headers: HeaderMap,
    now: jiff::Timestamp,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Case {
    fn key() -> Self {
        let key = generate(true).unwrap();
        let parsed = ApiKey::parse(key.expose()).ok().unwrap();
        let slot = KeySettings { id: parsed.id(), digest: parsed.digest(), until: None };
        let caller = CallerSettings {
            name: "lessons".to_owned(),
            profile: "backend".to_owned(),
            keys: vec![slot],
            certificates: Vec::new(),
        };
        Self::new(&[caller], Vec::new(), tempfile::tempdir().unwrap(), key.expose())
    }

    fn jwt(algorithm: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (keys, token) = signed(algorithm, &folder);
        let (name, audience) = ("school".to_owned(), vec!["whiteboard".to_owned()]);
        let mut issuer = IssuerSettings::new(name, ISSUER.to_owned(), audience, keys);
        issuer.algorithms = vec![algorithm.parse().unwrap()];
        issuer.mapping.profile = ProfileFrom::Named("backend".to_owned());
        Self::new(&[], vec![issuer], folder, &token)
    }

    fn new(
        keys: &[CallerSettings],
        issuers: Vec<IssuerSettings>,
        folder: tempfile::TempDir,
        credential: &str,
    ) -> Self {
        let profile = ProfileSettings {
            name: "backend".to_owned(),
            project: "classroom".to_owned(),
            allow: vec!["rooms.*".to_owned()],
            rooms: Rooms::Any,
            role: Role::Admin,
            max_lifespan: Lifespan::Millis(3_600_000),
            over_cap: OverCap::default(),
            priority: whiteboard_gateway::api::Priority::default(),
        };
        let policy = Policy::new(&[profile], &Operations::documented(), |_| Some(0)).unwrap();
        let settings = Settings { keys, issuers, projects: &[], failed_credentials: None };
        let callers = Callers::new(settings, &policy, None).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {credential}").parse().unwrap());
        headers.insert("host", HeaderValue::from_static("gateway"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { callers, headers, now: jiff::Timestamp::now(), runtime, _folder: folder }
    }

    fn identify(&self, memory: &Memory) {
        let address = IpAddr::from([127, 0, 0, 1]);
        let identify =
            self.callers.identify(&self.headers, address, || Standing::None, self.now, memory);
        self.runtime.block_on(identify).unwrap();
    }
}

/// A key source and a token of typical size that it verifies.
fn signed(algorithm: &str, folder: &tempfile::TempDir) -> (KeySource, String) {
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": ISSUER, "aud": "whiteboard", "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
        "iat": now, "exp": now + 3600, "azp": "my-client", "role": "teacher",
        "rooms": ["faed3130727911ebaea37759ee91947c", "d07bcaf0a17911ea9d7e23232cddf42d"],
    });
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = json!({ "alg": algorithm, "typ": "JWT" }).to_string();
    let message =
        format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
    let random = SystemRandom::new();
    let bytes = message.as_bytes();
    let (signature, public) = match algorithm {
        "HS256" => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
            (hmac::sign(&key, bytes).as_ref().to_vec(), None)
        }
        "RS256" | "PS256" => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let mut signature = vec![0; pair.public_modulus_len()];
            if algorithm == "RS256" {
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).unwrap();
            } else {
                pair.sign(&RSA_PSS_SHA256, &random, bytes, &mut signature).unwrap();
            }
            (signature, Some(der(pair.public_key())))
        }
        "ES256" | "ES384" => {
            let kind = if algorithm == "ES256" {
                &ECDSA_P256_SHA256_FIXED_SIGNING
            } else {
                &ECDSA_P384_SHA384_FIXED_SIGNING
            };
            let pair = EcdsaKeyPair::generate(kind).unwrap();
            let signature = pair.sign(&random, bytes).unwrap().as_ref().to_vec();
            (signature, Some(der(pair.public_key())))
        }
        _ => {
            let pair = Ed25519KeyPair::generate().unwrap();
            (pair.sign(bytes).as_ref().to_vec(), Some(der(pair.public_key())))
        }
    };
    let keys = match public {
        None => KeySource::Secret(Secret::new(SECRET.to_owned())),
        Some(public) => {
            let path = folder.path().join("key.pem");
            let body = STANDARD.encode(public);
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
            fs::write(&path, pem).unwrap();
            KeySource::File(path)
        }
    };
    (keys, format!("{message}.{}", encode(&signature)))
}

fn der<K: AsDer<PublicKeyX509Der<'static>>>(key: &K) -> Vec<u8> {
    key.as_der().unwrap().as_ref().to_vec()
}

#[divan::bench]
fn api_key(bencher: divan::Bencher<'_, '_>) {
    let (case, memory) = (Case::key(), Memory::default());
    bencher.bench_local(|| case.identify(&memory));
}

#[divan::bench(args = ALGORITHMS)]
fn jwt_cached(bencher: divan::Bencher<'_, '_>, algorithm: &str) {
    let (case, memory) = (Case::jwt(algorithm), Memory::default());
    bencher.bench_local(|| case.identify(&memory));
}

#[divan::bench(args = ALGORITHMS)]
fn jwt_cold(bencher: divan::Bencher<'_, '_>, algorithm: &str) {
    let case = Case::jwt(algorithm);
    bencher.with_inputs(Memory::default).bench_local_refs(|memory| case.identify(memory));
}
