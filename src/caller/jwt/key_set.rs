//! The keys of an issuer at one moment.

use super::Algorithm;
use super::error::InvalidJwtError;
use super::key::{Key, KeyError};
use super::pem::{PemError, public_keys};
use crate::api::{Json, parse_object, printable};
use crate::text::{self, TextError};

/// The most keys of a set. Real ones have two or three.
const MAX_KEYS: usize = 100;

/// The most keys without an id that are tried for one token: each costs a signature, and two are
/// what a rotation takes.
const MAX_NAMELESS: usize = 4;

/// The keys of an issuer, each for one algorithm.
pub(super) struct KeySet {
    keys: Vec<Key>,
}

/// Why a document is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// No text.
    #[error("the key set {0}")]
    Text(TextError),
    /// No JSON object, or a member twice.
    #[error("the key set is not read: {0}")]
    Json(String),
    /// No array `keys`.
    #[error("the key set has no array `keys`")]
    Form,
    /// Too many.
    #[error("the key set has {0} keys; at most {MAX_KEYS} are taken")]
    TooMany(usize),
    /// None at all.
    #[error("the key set is empty")]
    Empty,
    /// None that can be used, and why the last one cannot.
    #[error("none of the {count} keys can be used: {last}")]
    Nothing {
        /// How many there are.
        count: usize,
        /// Why the last one cannot be used.
        last: KeyError,
    },
    /// A file that is neither a JWK Set nor a public key in PEM form.
    #[error("this is neither a JWK Set nor a public key in PEM form")]
    Neither,
    /// A block of a PEM file is no public key.
    #[error("block {0} of the file: {1}")]
    Block(usize, PemError),
    /// A key of a PEM file cannot be used.
    #[error("block {0} of the file: {1}")]
    Unusable(usize, KeyError),
    /// More keys than are tried, and nothing tells which is meant.
    #[error(
        "the file has more than {MAX_NAMELESS} keys for {0}, and a PEM file does not say which a \
         token means: take a JWK Set with a `kid` for each"
    )]
    Nameless(Algorithm),
}

impl KeySet {
    pub(super) fn of_key(key: Key) -> Self {
        Self { keys: vec![key] }
    }

    /// Reads a JWK Set. Keys that cannot be used are omitted (RFC 7517 §5 wants that); a set
    /// without a usable one is an error, so that it does not replace a good one.
    pub(super) fn of_json(document: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        let document = text::decode(document).map_err(KeySetError::Text)?;
        let object = parse_object(document.as_bytes())
            .map_err(|failure| KeySetError::Json(failure.message().to_owned()))?;
        let Some(Json::Array(jwks)) = object.get("keys") else { return Err(KeySetError::Form) };
        if jwks.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(jwks.len()));
        }
        let mut keys = Vec::with_capacity(jwks.len());
        let mut last = None;
        for jwk in jwks {
            let key = match jwk {
                Json::Object(jwk) => Key::of_jwk(jwk, allowed),
                _ => Err(KeyError::Member),
            };
            match key {
                Ok(key) => keys.push(key),
                Err(why) => last = Some(why),
            }
        }
        match last {
            _ if !keys.is_empty() => Ok(Self { keys }),
            None => Err(KeySetError::Empty),
            Some(last) => Err(KeySetError::Nothing { count: jwks.len(), last }),
        }
    }

    /// Reads a file: a JWK Set, or public keys in PEM form, all of which are taken.
    pub(super) fn of_file(content: &[u8], allowed: &[Algorithm]) -> Result<Self, KeySetError> {
        if text::without_bom(content).trim_ascii_start().starts_with(b"{") {
            return Self::of_json(content, allowed);
        }
        let content = text::pem(content).map_err(KeySetError::Text)?;
        let mut keys: Vec<Key> = Vec::new();
        for (number, der) in (1..).zip(public_keys(&content)) {
            let der = der.map_err(|why| KeySetError::Block(number, why))?;
            let key =
                Key::of_spki(&der, allowed).map_err(|why| KeySetError::Unusable(number, why))?;
            if !keys.iter().any(|other| other.same(&key)) {
                keys.push(key);
            }
            let same = |algorithm| keys.iter().filter(|key| key.algorithm == algorithm).count();
            if let Some(key) = keys.iter().find(|key| same(key.algorithm) > MAX_NAMELESS) {
                return Err(KeySetError::Nameless(key.algorithm));
            }
        }
        if keys.is_empty() { Err(KeySetError::Neither) } else { Ok(Self { keys }) }
    }

    pub(super) const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether a key has this id, or answers to every id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id().is_none_or(|own| own == id))
    }

    /// Whether it holds the same keys, in whatever order.
    pub(super) fn same(&self, other: &Self) -> bool {
        let within = |one: &Self, other: &Self| {
            one.keys.iter().all(|key| other.keys.iter().any(|another| key.same(another)))
        };
        self.len() == other.len() && within(self, other) && within(other, self)
    }

    /// Finds the keys that may have signed a token: the one that it names, or the only one of its
    /// algorithm where it names none. Never none.
    ///
    /// A key without an id answers to every id: there is no other way to use the keys of a file. Of
    /// several such, a rotation's, each is tried. [`InvalidJwtError::UnknownKey`] alone is worth asking the
    /// provider again.
    pub(super) fn find<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> Result<Fitting<'a>, InvalidJwtError> {
        let is_named = id.is_some() && self.keys.iter().any(|key| key.id() == id);
        let fitting = Fitting { set: self, id, is_named, algorithm };
        let nameless = fitting.keys().all(|key| key.id().is_none());
        match (fitting.keys().count(), id) {
            (0, Some(id)) if is_named => {
                Err(InvalidJwtError::KeyAlgorithm(printable(id), algorithm))
            }
            (1.., Some(_)) if is_named => Ok(fitting),
            (1, _) => Ok(fitting),
            (2..=MAX_NAMELESS, _) if nameless => Ok(fitting),
            (_, Some(id)) => Err(InvalidJwtError::UnknownKey(printable(id))),
            (count, None) => Err(InvalidJwtError::AmbiguousKey(algorithm, count)),
        }
    }
}

/// The keys that may have signed a token.
#[derive(Clone, Copy)]
pub(super) struct Fitting<'a> {
    set: &'a KeySet,
    id: Option<&'a str>,
    /// Whether the set has a key of that id.
    is_named: bool,
    algorithm: Algorithm,
}

impl<'a> Fitting<'a> {
    fn keys(self) -> impl Iterator<Item = &'a Key> {
        let by_id = move |key: &&Key| {
            if self.is_named {
                key.id() == self.id
            } else {
                self.id.is_none() || key.id().is_none()
            }
        };
        let of_algorithm = move |key: &&Key| key.algorithm == self.algorithm;
        self.set.keys.iter().filter(by_id).filter(of_algorithm)
    }

    /// Whether the signature is one of theirs. A key that is named is one.
    pub(super) fn verify(self, signed: &[u8], signature: &[u8]) -> bool {
        let most = if self.is_named { 1 } else { MAX_NAMELESS };
        self.keys().take(most).any(|key| key.verifies(signed, signature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::jwt::tests::keys::{Signer, jwks};
    use serde_json::{Value, json};

    fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::of_json(jwks(keys).as_bytes(), &Algorithm::ASYMMETRIC)
    }

    fn why(keys: &[Value]) -> String {
        set(keys).err().unwrap().to_string()
    }

    #[test]
    fn a_key_is_found_by_its_id_or_as_the_only_one_of_its_algorithm() {
        let [a, b, c] = ["a", "b", "c"].map(|id| Signer::es256(id).jwk());
        let keys = set(&[a.clone(), b]).unwrap();
        assert_eq!(
            keys.find(Some("b"), Algorithm::Es256).ok().unwrap().keys().next().unwrap().id(),
            Some("b")
        );
        let refused = |id, algorithm| keys.find(id, algorithm).err().unwrap();
        assert_eq!(
            refused(Some("c"), Algorithm::Es256),
            InvalidJwtError::UnknownKey("c".to_owned())
        );
        assert_eq!(
            refused(None, Algorithm::Es256),
            InvalidJwtError::AmbiguousKey(Algorithm::Es256, 2)
        );
        assert_eq!(
            refused(None, Algorithm::Rs256),
            InvalidJwtError::AmbiguousKey(Algorithm::Rs256, 0)
        );
        assert!(matches!(refused(Some("a"), Algorithm::Rs256), InvalidJwtError::KeyAlgorithm(..)));
        let mut nameless = c;
        nameless.as_object_mut().unwrap().shift_remove("kid");
        let keys = set(&[a, nameless]).unwrap();
        assert!(keys.find(Some("whatever"), Algorithm::Es256).is_ok());
    }

    #[test]
    fn keys_for_something_else_are_left_out() {
        let key = Signer::es256("a").jwk();
        let with = |name: &str, value: Value| {
            let mut key = key.clone();
            key[name] = value;
            key
        };
        for (other, told) in [
            (with("use", json!("enc")), "not for signatures"),
            (with("use", json!(["sig"])), "not for signatures"),
            (with("key_ops", json!(["encrypt"])), "not for signatures"),
            (with("alg", json!("ECDH-ES")), "algorithm is not among"),
            (with("alg", json!("ES384")), "algorithm is not among"),
            (with("crv", json!("P-384")), "algorithm is not among"),
            (with("alg", json!(7)), "wrong type"),
            (with("kid", json!(7)), "wrong type"),
            (with("kid", json!("k".repeat(257))), "wrong type"),
            (with("x", json!("AA")), "no key of that kind"),
            (with("y", key["x"].clone()), "no key of that kind"),
            (with("y", json!("not base64")), "wrong type"),
            (json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}), "algorithm is not among"),
            (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), "at least 2048 bits"),
            (json!("text"), "wrong type"),
        ] {
            let why = why(std::slice::from_ref(&other));
            assert!(why.contains(told), "{other}: {why}");
            assert_eq!(set(&[other, key.clone()]).unwrap().len(), 1);
        }
    }

    #[test]
    fn a_set_without_a_key_or_with_too_many_is_none() {
        assert!(why(&[]).contains("is empty"));
        assert_eq!(
            why(&vec![Signer::es256("a").jwk(); 101]),
            KeySetError::TooMany(101).to_string()
        );
        let read = |text: &str| KeySet::of_json(text.as_bytes(), &Algorithm::ASYMMETRIC).err();
        assert_eq!(read("{}"), Some(KeySetError::Form));
        assert!(matches!(read("<html>"), Some(KeySetError::Json(_))));
        assert!(matches!(read(r#"{"keys":[],"keys":[]}"#), Some(KeySetError::Json(_))));
    }

    #[test]
    fn a_file_holds_a_set_or_a_public_key() {
        for signer in [Signer::es256("a"), Signer::ed25519("a"), Signer::rs256("a")] {
            let keys = KeySet::of_file(signer.pem().as_bytes(), &Algorithm::ASYMMETRIC).unwrap();
            assert!(keys.find(Some("any"), signer.algorithm()).is_ok());
            let set = jwks(&[signer.jwk()]);
            assert!(KeySet::of_file(set.as_bytes(), &Algorithm::ASYMMETRIC).is_ok());
        }
        let other = KeySet::of_file(b"no key", &Algorithm::ASYMMETRIC);
        assert_eq!(other.err(), Some(KeySetError::Neither));
    }

    fn block(label: &str, der: &[u8]) -> String {
        let body = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN {label}-----\r\n{body}\r\n-----END {label}-----\r\n")
    }

    #[test]
    fn every_block_of_a_pem_file_is_a_key_or_named() {
        let read = |text: &str| KeySet::of_file(text.as_bytes(), &Algorithm::ASYMMETRIC);
        let certified = rcgen::generate_simple_self_signed(["idp".to_owned()]).unwrap();
        let rsa = Signer::rs256("rsa");
        let good = format!(
            "Some words of openssl.\n{}{}{}{}",
            Signer::es256("a").pem(),
            certified.cert.pem(),
            block("RSA PUBLIC KEY", &rsa.rsa_public()),
            // The same key once more is the same key.
            certified.cert.pem(),
        );
        let keys = read(&good).ok().unwrap();
        assert_eq!(keys.len(), 3);
        assert!(keys.find(Some("any"), Algorithm::Rs256).is_ok());
        // Both keys of one algorithm are tried.
        assert_eq!(keys.find(None, Algorithm::Es256).ok().unwrap().keys().count(), 2);
        let first = Signer::es256("a").pem();
        for (second, told) in [
            (certified.signing_key.serialize_pem(), "block 2 of the file: it is a private key"),
            (block("ENCRYPTED PRIVATE KEY", b"a"), "it is a private key"),
            (block("EC PARAMETERS", b"a"), "block 2 of the file: it is neither a public key"),
            (block("CERTIFICATE", b"a"), "no certificate that can be read"),
            (block("PUBLIC KEY", b"a"), "block 2 of the file: its algorithm is not among"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n".to_owned(), "it has no end"),
            ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----".to_owned(), "not base64"),
            ((0..4).map(|_| Signer::es256("a").pem()).collect(), "more than 4 keys for ES256"),
        ] {
            let why = read(&(first.clone() + &second)).err().unwrap().to_string();
            assert!(why.contains(told), "{second}: {why}");
        }
    }

    #[test]
    fn the_order_of_keys_makes_no_other_set() {
        let [a, b] = ["a", "b"].map(|id| Signer::es256(id).jwk());
        let one = set(&[a.clone(), b.clone()]).unwrap();
        assert!(one.same(&set(&[b.clone(), a.clone()]).unwrap()));
        assert!(!one.same(&set(&[a]).unwrap()));
        assert!(!one.same(&set(&[b, Signer::es256("a").jwk()]).unwrap()));
    }
}
