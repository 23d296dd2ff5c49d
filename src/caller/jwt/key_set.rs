//! The keys of an issuer at one moment.

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;

use super::Algorithm;
use super::key::{Key, Unusable};
use super::refusal::Reason;
use crate::api::{Json, parse_object, printable};

/// The most keys of a set. Real ones have two or three.
const MAX_KEYS: usize = 100;

/// The keys of an issuer, each for one algorithm.
pub(super) struct KeySet {
    keys: Vec<Key>,
}

/// Why a document is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
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
        last: Unusable,
    },
    /// A file that is neither a JWK Set nor a public key in PEM form.
    #[error("this is neither a JWK Set nor a public key in PEM form")]
    Neither,
}

impl KeySet {
    pub(super) fn of_key(key: Key) -> Self {
        Self { keys: vec![key] }
    }

    /// Reads a JWK Set. Keys that cannot be used are left out (RFC 7517 §5 wants that); a set
    /// without a usable one is an error, so that it does not replace a good one.
    pub(super) fn of_json(document: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeySet> {
        let object = parse_object(document)
            .map_err(|failure| InvalidKeySet::Json(failure.message().to_owned()))?;
        let Some(Json::Array(jwks)) = object.get("keys") else { return Err(InvalidKeySet::Form) };
        if jwks.len() > MAX_KEYS {
            return Err(InvalidKeySet::TooMany(jwks.len()));
        }
        let mut keys = Vec::with_capacity(jwks.len());
        let mut last = None;
        for jwk in jwks {
            let key = match jwk {
                Json::Object(jwk) => Key::of_jwk(jwk, allowed),
                _ => Err(Unusable::Member),
            };
            match key {
                Ok(key) => keys.push(key),
                Err(why) => last = Some(why),
            }
        }
        match last {
            _ if !keys.is_empty() => Ok(Self { keys }),
            None => Err(InvalidKeySet::Empty),
            Some(last) => Err(InvalidKeySet::Nothing { count: jwks.len(), last }),
        }
    }

    /// Reads a file: a JWK Set, or one public key in PEM form.
    pub(super) fn of_file(content: &[u8], allowed: &[Algorithm]) -> Result<Self, InvalidKeySet> {
        if content.trim_ascii_start().starts_with(b"{") {
            return Self::of_json(content, allowed);
        }
        let der =
            SubjectPublicKeyInfoDer::from_pem_slice(content).map_err(|_| InvalidKeySet::Neither)?;
        let key = Key::of_spki(&der, allowed)
            .map_err(|last| InvalidKeySet::Nothing { count: 1, last })?;
        Ok(Self::of_key(key))
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

    /// Finds the key that a token names, or the only one of its algorithm where it names none.
    ///
    /// A key without an id answers to every id: there is no other way to use a single key of a
    /// file. [`Reason::UnknownKey`] alone is worth asking the provider again.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, Reason> {
        if let Some(id) = id {
            let mut named = self.keys.iter().filter(|key| key.id() == Some(id)).peekable();
            if named.peek().is_some() {
                let fits = named.find(|key| key.algorithm() == algorithm);
                return fits.ok_or_else(|| Reason::KeyAlgorithm(printable(id), algorithm));
            }
        }
        let nameless = |key: &&Key| id.is_none() || key.id().is_none();
        let mut fits = self.keys.iter().filter(|key| key.algorithm() == algorithm).filter(nameless);
        match (fits.next(), fits.count()) {
            (Some(only), 0) => Ok(only),
            (found, more) => Err(match id {
                Some(id) => Reason::UnknownKey(printable(id)),
                None => Reason::AmbiguousKey(algorithm, usize::from(found.is_some()) + more),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::jwt::tests::keys::{Signer, jwks};
    use serde_json::{Value, json};

    fn set(keys: &[Value]) -> Result<KeySet, InvalidKeySet> {
        KeySet::of_json(jwks(keys).as_bytes(), &Algorithm::ASYMMETRIC)
    }

    fn why(keys: &[Value]) -> String {
        set(keys).err().unwrap().to_string()
    }

    #[test]
    fn a_key_is_found_by_its_id_or_as_the_only_one_of_its_algorithm() {
        let [a, b, c] = ["a", "b", "c"].map(|id| Signer::es256(id).jwk());
        let keys = set(&[a.clone(), b]).unwrap();
        assert_eq!(keys.find(Some("b"), Algorithm::Es256).ok().unwrap().id(), Some("b"));
        let refused = |id, algorithm| keys.find(id, algorithm).err().unwrap();
        assert_eq!(refused(Some("c"), Algorithm::Es256), Reason::UnknownKey("c".to_owned()));
        assert_eq!(refused(None, Algorithm::Es256), Reason::AmbiguousKey(Algorithm::Es256, 2));
        assert_eq!(refused(None, Algorithm::Rs256), Reason::AmbiguousKey(Algorithm::Rs256, 0));
        assert!(matches!(refused(Some("a"), Algorithm::Rs256), Reason::KeyAlgorithm(..)));
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
            InvalidKeySet::TooMany(101).to_string()
        );
        let read = |text: &str| KeySet::of_json(text.as_bytes(), &Algorithm::ASYMMETRIC).err();
        assert_eq!(read("{}"), Some(InvalidKeySet::Form));
        assert!(matches!(read("<html>"), Some(InvalidKeySet::Json(_))));
        assert!(matches!(read(r#"{"keys":[],"keys":[]}"#), Some(InvalidKeySet::Json(_))));
    }

    #[test]
    fn a_file_holds_a_set_or_a_public_key() {
        for signer in [Signer::es256("a"), Signer::ed25519("a"), Signer::rs256("a")] {
            let keys = KeySet::of_file(signer.pem().as_bytes(), &Algorithm::ASYMMETRIC).unwrap();
            assert!(keys.find(Some("any"), signer.algorithm()).is_ok());
            let set = jwks(&[signer.jwk()]);
            assert!(KeySet::of_file(set.as_bytes(), &Algorithm::ASYMMETRIC).is_ok());
        }
        let other = KeySet::of_file(b"-----BEGIN NOTHING-----", &Algorithm::ASYMMETRIC);
        assert_eq!(other.err(), Some(InvalidKeySet::Neither));
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
