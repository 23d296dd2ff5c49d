//! An identity provider that exists in a comparison alone: its keys, and the tokens that it signed
//! before anything was measured.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::peer::all_cores;

/// What is shared with the provider, where the algorithm has a secret.
pub const SECRET: &str = "a-shared-secret-of-more-than-thirty-two-bytes";

/// How tokens are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    Hs256,
    /// With a key of 2048 bits.
    Rs256,
    Es256,
}

impl Algorithm {
    /// As a token's header tells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    /// More tokens than any peer verifies in a second, on one core of today.
    pub fn in_a_second(self) -> f64 {
        match self {
            Self::Hs256 => 80_000.0,
            Self::Rs256 => 40_000.0,
            Self::Es256 => 25_000.0,
        }
    }
}

/// The tokens of one algorithm.
pub struct Tokens {
    /// One that is let in.
    pub good: String,
    /// What must be refused, and why.
    pub refused: Vec<(&'static str, String)>,
    /// As many that are let in, each different.
    pub fresh: Vec<String>,
}

impl Tokens {
    /// Makes keys and signs, on all cores. The public key is written to `jwt-RS256.pem` or alike.
    pub fn sign(algorithm: Algorithm, fresh: usize, directory: &Path) -> anyhow::Result<Self> {
        let signer = Signer::new(algorithm, SECRET)?;
        let other = Signer::new(algorithm, "another-secret-of-more-than-thirty-two-bytes")?;
        if let Some(public) = signer.public()? {
            let path = directory.join(format!("jwt-{}.pem", algorithm.name()));
            fs::write(path, public).context("the public key is not written")?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let good = |number| signer.token(&Claims { number, ..Claims::good(now) });
        let long_ago = Claims { issued: now - 7_200, ends: now - 3_600, ..Claims::good(now) };
        let elsewhere = Claims { audience: "elsewhere", ..Claims::good(now) };
        let refused = vec![
            ("a token of another signer", other.token(&Claims::good(now))?),
            ("an expired token", signer.token(&long_ago)?),
            ("a token for another audience", signer.token(&elsewhere)?),
        ];
        let share = fresh.div_ceil(all_cores());
        let fresh = thread::scope(|scope| {
            let threads: Vec<_> = (0..fresh)
                .step_by(share.max(1))
                .map(|start| start + 1..(start + share).min(fresh) + 1)
                .map(|numbers| scope.spawn(move || numbers.map(good).collect()))
                .collect();
            let joined = threads.into_iter().map(|thread| {
                thread.join().map_err(|_| anyhow::anyhow!("a thread that signs panicked"))?
            });
            joined.collect::<anyhow::Result<Vec<Vec<String>>>>()
        })?;
        Ok(Self { good: good(0)?, refused, fresh: fresh.concat() })
    }
}

/// What differs between tokens.
struct Claims {
    number: usize,
    issued: u64,
    ends: u64,
    audience: &'static str,
}

impl Claims {
    const fn good(now: u64) -> Self {
        // Longer than any run takes.
        Self { number: 0, issued: now - 60, ends: now + 12 * 3_600, audience: "whiteboard" }
    }
}

enum Signer {
    Shared(Box<hmac::Key>),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl Signer {
    /// With a new key, or with that secret where the algorithm has one.
    fn new(algorithm: Algorithm, secret: &str) -> anyhow::Result<Self> {
        Ok(match algorithm {
            Algorithm::Hs256 => {
                Self::Shared(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()).into())
            }
            Algorithm::Rs256 => Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048)?),
            Algorithm::Es256 => {
                Self::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?)
            }
        })
    }

    /// Of the length that access tokens of identity providers have.
    fn token(&self, claims: &Claims) -> anyhow::Result<String> {
        let algorithm = match self {
            Self::Shared(_) => Algorithm::Hs256,
            Self::Rsa(_) => Algorithm::Rs256,
            Self::Ecdsa(_) => Algorithm::Es256,
        };
        let header = json!({ "alg": algorithm.name(), "typ": "JWT" }).to_string();
        let claims = json!({
            "iss": "https://idp.example.org", "aud": claims.audience,
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82", "jti": format!("{:016x}", claims.number),
            "iat": claims.issued, "exp": claims.ends, "azp": "my-client", "role": "teacher",
        });
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let message =
            format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
        let (random, bytes) = (SystemRandom::new(), message.as_bytes());
        let signature = match self {
            Self::Shared(key) => hmac::sign(key, bytes).as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)?;
                signature
            }
            Self::Ecdsa(pair) => pair.sign(&random, bytes)?.as_ref().to_vec(),
        };
        Ok(format!("{message}.{}", encode(&signature)))
    }

    /// The public key as a PEM file has it; none where the key is a shared secret.
    fn public(&self) -> anyhow::Result<Option<String>> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Shared(_) => return Ok(None),
            Self::Rsa(pair) => pair.public_key().as_der()?,
            Self::Ecdsa(pair) => pair.public_key().as_der()?,
        };
        let encoded = STANDARD.encode(der.as_ref());
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        for start in (0..encoded.len()).step_by(64) {
            pem += &encoded[start..(start + 64).min(encoded.len())];
            pem.push('\n');
        }
        Ok(Some(pem + "-----END PUBLIC KEY-----\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_another_one() {
        for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256] {
            let directory = tempfile::tempdir().unwrap();
            let Tokens { good, refused, mut fresh } =
                Tokens::sign(algorithm, 7, directory.path()).unwrap();
            assert_eq!(fresh.len(), 7);
            fresh.extend(refused.into_iter().map(|(_, token)| token));
            fresh.push(good);
            let all = fresh.len();
            fresh.sort_unstable();
            fresh.dedup();
            assert_eq!(fresh.len(), all);
            assert!(fresh.iter().all(|token| token.split('.').count() == 3));
        }
    }
}
