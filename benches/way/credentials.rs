//! The credentials that are shown: made once, since making keys takes long under callgrind.

use std::fs;
use std::path::{Path, PathBuf};

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
use serde_json::json;
use whiteboard_gateway::caller::jwt::KeySource;
use whiteboard_gateway::token::Secret;

/// The secret of HS256.
pub(crate) const SECRET: &str = "a shared secret of at least thirty-two bytes";
/// Who issues the tokens.
pub(crate) const ISSUER: &str = "https://idp.example.org";
/// How they are signed.
pub(crate) const ALGORITHMS: [&str; 6] = ["HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA"];

/// API keys whose secrets are of no use to anyone: the same in each run, so that tables of hashes
/// look the same in each.
const KEYS: [&str; 3] = [
    "wbg_test_BenchCaller1_benchmarkbenchmarkbenchmarkbenchmarkbenchma_1n0jcB",
    "wbg_test_BenchLimited_benchmarkbenchmarkbenchmarkbenchmarkbenchma_3Wa048",
    "wbg_test_BenchUnknown_benchmarkbenchmarkbenchmarkbenchmarkbenchma_2Jo1xo",
];

/// What the gateway is shown.
pub(crate) struct Credentials {
    folder: PathBuf,
    /// A caller's API key.
    pub(crate) key: &'static str,
    /// That of a caller with a tight limit.
    pub(crate) limited: &'static str,
    /// One that no one has.
    pub(crate) unknown: &'static str,
}

impl Credentials {
    /// Makes them in a folder.
    pub(crate) fn make(folder: &Path) -> Self {
        for algorithm in ALGORITHMS {
            sign(algorithm, folder);
        }
        Self::read(folder)
    }

    /// Those that were made in a folder.
    pub(crate) fn read(folder: &Path) -> Self {
        let [key, limited, unknown] = KEYS;
        Self { folder: folder.to_owned(), key, limited, unknown }
    }

    /// A token that is signed in this way.
    pub(crate) fn jwt(&self, algorithm: &str) -> String {
        fs::read_to_string(self.folder.join(algorithm)).unwrap()
    }

    /// What it is verified with.
    pub(crate) fn source(&self, algorithm: &str) -> KeySource {
        match algorithm {
            "HS256" => KeySource::Secret(Secret::new(SECRET.to_owned())),
            _ => KeySource::File(self.pem(algorithm)),
        }
    }

    /// The file with its public key.
    pub(crate) fn pem(&self, algorithm: &str) -> PathBuf {
        self.folder.join(format!("{algorithm}.pem"))
    }
}

/// Writes a token of typical size, and the public key that it is verified with.
fn sign(algorithm: &str, folder: &Path) {
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
    if let Some(public) = public {
        let body = STANDARD.encode(public);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        fs::write(folder.join(format!("{algorithm}.pem")), pem).unwrap();
    }
    fs::write(folder.join(algorithm), format!("{message}.{}", encode(&signature))).unwrap();
}

fn der<K: AsDer<PublicKeyX509Der<'static>>>(key: &K) -> Vec<u8> {
    key.as_der().unwrap().as_ref().to_vec()
}
