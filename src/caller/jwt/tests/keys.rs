//! Keys that sign, for tests.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::caller::jwt::Algorithm;

/// A key pair of a provider.
pub(in crate::caller::jwt) struct Signer {
    id: String,
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(&'static RsaKeyPair),
    Shared(String),
}

pub(in crate::caller::jwt) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(in crate::caller::jwt) fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

impl Signer {
    fn new(id: &str, algorithm: Algorithm, pair: Pair) -> Self {
        Self { id: id.to_owned(), algorithm, pair }
    }

    pub(in crate::caller::jwt) fn es256(id: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self::new(id, Algorithm::Es256, Pair::Ecdsa(pair))
    }

    pub(in crate::caller::jwt) fn ed25519(id: &str) -> Self {
        Self::new(id, Algorithm::EdDsa, Pair::Ed25519(Ed25519KeyPair::generate().unwrap()))
    }

    pub(in crate::caller::jwt) fn rs256(id: &str) -> Self {
        Self::rsa(id, Algorithm::Rs256)
    }

    /// One pair for all tests: making one takes its time.
    pub(in crate::caller::jwt) fn rsa(id: &str, algorithm: Algorithm) -> Self {
        static PAIR: OnceLock<RsaKeyPair> = OnceLock::new();
        let pair = PAIR.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        Self::new(id, algorithm, Pair::Rsa(pair))
    }

    pub(in crate::caller::jwt) fn hs256(id: &str, secret: &str) -> Self {
        Self::new(id, Algorithm::Hs256, Pair::Shared(secret.to_owned()))
    }

    /// One of each algorithm that a public key verifies.
    pub(in crate::caller::jwt) fn each() -> Vec<Self> {
        let of = |algorithm: Algorithm| {
            let id = algorithm.name();
            match algorithm {
                Algorithm::Es256 => Self::es256(id),
                Algorithm::Es384 => {
                    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
                    Self::new(id, algorithm, Pair::Ecdsa(pair))
                }
                Algorithm::EdDsa => Self::ed25519(id),
                _ => Self::rsa(id, algorithm),
            }
        };
        Algorithm::ASYMMETRIC.into_iter().map(of).collect()
    }

    pub(in crate::caller::jwt) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(in crate::caller::jwt) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Ecdsa(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..]
                    .split_at(if self.algorithm == Algorithm::Es384 { 48 } else { 32 });
                let curve = if self.algorithm == Algorithm::Es384 { "P-384" } else { "P-256" };
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())})
            }
            Pair::Rsa(_) => {
                // An RSAPublicKey of 2048 bits: SEQUENCE, INTEGER n of 257 bytes, INTEGER e.
                let der = self.rsa_public();
                json!({"kty": "RSA", "n": encode(&der[9..265]), "e": encode(&der[267..])})
            }
            Pair::Shared(_) => unreachable!("a shared secret is in no key set"),
        };
        jwk["kid"] = json!(self.id);
        jwk["alg"] = json!(self.algorithm.name());
        jwk["use"] = json!("sig");
        jwk
    }

    pub(in crate::caller::jwt) fn rsa_public(&self) -> Vec<u8> {
        let Pair::Rsa(pair) = &self.pair else { unreachable!() };
        pair.public_key().as_ref().to_vec()
    }

    fn spki(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Shared(_) => unreachable!(),
        }
        .unwrap();
        der.as_ref().to_vec()
    }

    pub(in crate::caller::jwt) fn pem(&self) -> String {
        let body = STANDARD.encode(self.spki());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    pub(in crate::caller::jwt) fn header(&self) -> Value {
        json!({"alg": self.algorithm.name(), "kid": self.id, "typ": "JWT"})
    }

    /// A token of exactly these texts.
    pub(in crate::caller::jwt) fn sign_raw(
        &self,
        header: impl AsRef<[u8]>,
        claims: impl AsRef<[u8]>,
    ) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    pub(in crate::caller::jwt) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_raw(header.to_string(), claims.to_string())
    }

    pub(in crate::caller::jwt) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    pub(in crate::caller::jwt) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = rand::SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let encoding: &'static dyn signature::RsaEncoding = match self.algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Shared(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                hmac::sign(&key, message).as_ref().to_vec()
            }
        }
    }
}
