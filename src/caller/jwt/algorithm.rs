//! The signature algorithms that are taken (RFC 7518 §3.1, RFC 8037 §3.1).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, RsaParameters};

/// A signature algorithm. `none` has no representation here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// EdDSA on Ed25519, which RFC 9864 calls by the name of the curve.
    #[serde(rename = "EdDSA", alias = "Ed25519")]
    EdDsa,
    /// HMAC with SHA-256: only with a secret of the configuration, never with a key set.
    Hs256,
}

/// A text that names no algorithm of ours.
#[derive(Debug, thiserror::Error)]
#[error(
    "an algorithm is one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA or Ed25519, \
     HS256"
)]
pub struct AlgorithmError;

/// How a signature is verified.
pub(super) enum Method {
    Rsa(&'static RsaParameters),
    Ecdsa(&'static EcdsaVerificationAlgorithm, Curve),
    Ed25519,
    Hmac,
}

/// An elliptic curve: its name in a JWK and the bytes of a coordinate.
pub(super) struct Curve {
    pub(super) name: &'static str,
    pub(super) bytes: usize,
}

const P256: Curve = Curve { name: "P-256", bytes: 32 };
const P384: Curve = Curve { name: "P-384", bytes: 48 };

impl Algorithm {
    /// Every algorithm that a public key verifies. The order matters where a key does not say
    /// what it is for: the first of an issuer's list that fits is the one.
    pub const ASYMMETRIC: [Self; 9] = [
        Self::Rs256,
        Self::Es256,
        Self::EdDsa,
        Self::Ps256,
        Self::Es384,
        Self::Rs384,
        Self::Rs512,
        Self::Ps384,
        Self::Ps512,
    ];

    /// The name in `alg`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    pub(super) const fn method(self) -> Method {
        match self {
            Self::Rs256 => Method::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Method::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Method::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Method::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Method::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Method::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 => Method::Ecdsa(&signature::ECDSA_P256_SHA256_FIXED, P256),
            Self::Es384 => Method::Ecdsa(&signature::ECDSA_P384_SHA384_FIXED, P384),
            Self::EdDsa => Method::Ed25519,
            Self::Hs256 => Method::Hmac,
        }
    }
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    /// Exactly the registered name: `rs256` and `nOnE` are none.
    fn from_str(text: &str) -> Result<Self, AlgorithmError> {
        // RFC 9864 §2.2: the same algorithm, named whole. `EdDSA` on another curve is none of ours.
        if text == "Ed25519" {
            return Ok(Self::EdDsa);
        }
        let mut all = Self::ASYMMETRIC.into_iter().chain([Self::Hs256]);
        all.find(|algorithm| algorithm.name() == text).ok_or(AlgorithmError)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_names_are_algorithms() {
        for algorithm in Algorithm::ASYMMETRIC.into_iter().chain([Algorithm::Hs256]) {
            assert_eq!(algorithm.name().parse::<Algorithm>().ok(), Some(algorithm));
        }
        assert_eq!("Ed25519".parse::<Algorithm>().ok(), Some(Algorithm::EdDsa));
        for text in
            ["ed25519", "Ed448", "none", "None", "nOnE", "", "rs256", "RS256 ", "HS512", "ES256K"]
        {
            assert!(text.parse::<Algorithm>().is_err(), "{text:?}");
        }
    }
}
