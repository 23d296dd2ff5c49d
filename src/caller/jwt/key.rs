//! One key of an issuer, for one algorithm: from a JWK, a PEM file or a shared secret.

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::{PublicKey, PublicKeyComponents};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey, RsaParameters};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Algorithm;
use super::algorithm::{Curve, Method};
use super::compact::MAX_KEY_ID_BYTES;
use crate::api::{Json, Object};
use crate::token::Secret;

/// RFC 7518 §3.2: at least as long as the hash.
const MIN_SECRET_BYTES: usize = 32;

/// A key that verifies signatures of one algorithm, and no other: what a token says in `alg`
/// cannot make a public key into an HMAC secret.
pub(super) struct Key {
    id: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
    material: Material,
}

enum Material {
    /// Parsed once, so that a verification does not.
    Public(ParsedPublicKey),
    Shared(Box<hmac::Key>),
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// `use` or `key_ops` say something else.
    #[error("it is not for signatures")]
    Purpose,
    /// `alg`, or its kind, is for no algorithm of the issuer.
    #[error("its algorithm is not among those of the issuer")]
    Algorithm,
    /// A member is not as RFC 7518 §6 wants it.
    #[error("a member is missing or of the wrong type")]
    Member,
    /// A point that is not on its curve, for example.
    #[error("its numbers are no key of that kind")]
    Material,
    /// Too short to be safe, or so long that it would cost too much.
    #[error("an RSA key has at least 2048 bits and at most 8192")]
    Size,
    /// Too short to be safe.
    #[error("a shared secret has at least {MIN_SECRET_BYTES} bytes")]
    Short,
}

impl Key {
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the signature holds, in constant time where the key is shared.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Public(key) => key.verify_sig(signed, signature).is_ok(),
            Material::Shared(key) => hmac::verify(key, signed, signature).is_ok(),
        }
    }

    /// Whether it is the same key; shared ones are never compared.
    pub(super) fn same(&self, other: &Self) -> bool {
        let material = match (&self.material, &other.material) {
            (Material::Public(one), Material::Public(other)) => one.as_ref() == other.as_ref(),
            _ => false,
        };
        material && self.id == other.id && self.algorithm == other.algorithm
    }

    /// The HMAC key of a shared secret.
    pub(super) fn of_secret(secret: &Secret) -> Result<Self, KeyError> {
        let secret = secret.expose().as_bytes();
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::Short);
        }
        let material = Material::Shared(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
        Ok(Self { id: None, algorithm: Algorithm::Hs256, material })
    }

    /// A public key as `SubjectPublicKeyInfo`, for the first of the algorithms that it fits.
    pub(super) fn of_spki(der: &[u8], allowed: &[Algorithm]) -> Result<Self, KeyError> {
        for &algorithm in allowed {
            let parsed = match algorithm.method() {
                Method::Rsa(parameters) => ParsedPublicKey::new(parameters, der)
                    .map_err(|_| KeyError::Material)
                    .and_then(|key| sized(key, parameters)),
                Method::Ecdsa(method, _) => {
                    ParsedPublicKey::new(method, der).map_err(|_| KeyError::Material)
                }
                Method::Ed25519 => {
                    ParsedPublicKey::new(&ED25519, der).map_err(|_| KeyError::Material)
                }
                Method::Hmac => Err(KeyError::Material),
            };
            match parsed {
                Ok(key) => {
                    return Ok(Self { id: None, algorithm, material: Material::Public(key) });
                }
                Err(KeyError::Size) => return Err(KeyError::Size),
                Err(_) => {}
            }
        }
        Err(KeyError::Algorithm)
    }

    /// A key of a JWK Set (RFC 7517 §4). `allowed` are the issuer's algorithms, in order.
    pub(super) fn of_jwk(jwk: &Object<'_>, allowed: &[Algorithm]) -> Result<Self, KeyError> {
        for_signatures(jwk)?;
        let id = match jwk.get("kid") {
            None => None,
            Some(Json::Text(id)) if id.len() <= MAX_KEY_ID_BYTES => Some((&**id).into()),
            Some(_) => return Err(KeyError::Member),
        };
        let algorithm = algorithm(jwk, allowed)?;
        let key = match algorithm.method() {
            Method::Rsa(parameters) => rsa(jwk, parameters)?,
            Method::Ecdsa(method, curve) => {
                let point = point(jwk, &curve)?;
                ParsedPublicKey::new(method, point).map_err(|_| KeyError::Material)?
            }
            Method::Ed25519 => {
                let x = bytes(jwk, "x")?;
                // Another length would be read as another encoding.
                if x.len() != 32 {
                    return Err(KeyError::Material);
                }
                ParsedPublicKey::new(&ED25519, x).map_err(|_| KeyError::Material)?
            }
            Method::Hmac => return Err(KeyError::Algorithm),
        };
        Ok(Self { id, algorithm, material: Material::Public(key) })
    }
}

fn for_signatures(jwk: &Object<'_>) -> Result<(), KeyError> {
    let usage = jwk.get("use").is_none_or(|usage| usage.as_str() == Some("sig"));
    let operation = jwk.get("key_ops").is_none_or(|operations| {
        let verify = |one: &Json<'_>| one.as_str() == Some("verify");
        operations.as_array().is_some_and(|all| all.iter().any(verify))
    });
    if usage && operation { Ok(()) } else { Err(KeyError::Purpose) }
}

/// The one algorithm of a key: what it says, or the first of the issuer's that fits its kind.
fn algorithm(jwk: &Object<'_>, allowed: &[Algorithm]) -> Result<Algorithm, KeyError> {
    let said = match jwk.get("alg") {
        None => None,
        Some(Json::Text(name)) => Some(name.parse::<Algorithm>().map_err(|_| KeyError::Algorithm)?),
        Some(_) => return Err(KeyError::Member),
    };
    let kind = jwk.text("kty").ok_or(KeyError::Member)?;
    let fits = |algorithm: &Algorithm| match algorithm.method() {
        Method::Rsa(_) => kind == "RSA",
        Method::Ecdsa(_, curve) => kind == "EC" && jwk.text("crv") == Some(curve.name),
        Method::Ed25519 => kind == "OKP" && jwk.text("crv") == Some("Ed25519"),
        Method::Hmac => false,
    };
    let mut candidates = allowed.iter().copied().filter(fits);
    candidates
        .find(|algorithm| said.is_none_or(|said| said == *algorithm))
        .ok_or(KeyError::Algorithm)
}

fn rsa(jwk: &Object<'_>, parameters: &'static RsaParameters) -> Result<ParsedPublicKey, KeyError> {
    // Some providers write the sign byte of their big integers.
    let number = |name| {
        let bytes = bytes(jwk, name)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(bytes.get(zeros..).unwrap_or_default().to_vec())
    };
    let components = PublicKeyComponents { n: number("n")?, e: number("e")? };
    let key = components.to_parsed_public_key(parameters).map_err(|_| KeyError::Material)?;
    sized(key, parameters)
}

/// The library looks at the size when it verifies; here a short key is found when it arrives.
fn sized(key: ParsedPublicKey, parameters: &RsaParameters) -> Result<ParsedPublicKey, KeyError> {
    let public = PublicKey::from_der(key.as_ref()).map_err(|_| KeyError::Material)?;
    let bits =
        RsaParameters::public_modulus_len(public.as_ref()).map_err(|_| KeyError::Material)?;
    let range = parameters.min_modulus_len()..=parameters.max_modulus_len();
    if range.contains(&bits) { Ok(key) } else { Err(KeyError::Size) }
}

/// The point in the form of SEC 1 §2.3.3. Whether it is on the curve, the library looks.
fn point(jwk: &Object<'_>, curve: &Curve) -> Result<Vec<u8>, KeyError> {
    let mut point = vec![4];
    for name in ["x", "y"] {
        let coordinate = bytes(jwk, name)?;
        if coordinate.len() != curve.bytes {
            return Err(KeyError::Material);
        }
        point.extend(coordinate);
    }
    Ok(point)
}

fn bytes(jwk: &Object<'_>, name: &str) -> Result<Vec<u8>, KeyError> {
    let text = jwk.text(name).ok_or(KeyError::Member)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Member)
}
