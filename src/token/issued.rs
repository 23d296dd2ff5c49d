//! Tokens that were given out, known again without a look-up: by the nonce that they carry, of what
//! kind they are, how old, and who got them; by the deny-list, those that are taken no more.
//!
//! The layout of the nonce never changes: permanent tokens outlive every version of this program.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use uuid::{Uuid, Variant};

use super::{Claims, Secret};
use crate::api::TokenKind;
use crate::failure::{Code, Failure};

/// The nonce of a token that was minted for a caller: a UUIDv8 (RFC 9562 §5.8) whose 122 free bits
/// are, the highest first, kind 2, second of minting 32, keyed hash of the caller 40, keyed hash of
/// its tenant 24 (0: none), random 24.
///
/// Its fields are under the signature of the token, and the hashes under a key that only who has
/// the secret key can derive. So they are believed as the token is, and tell no one else anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(u128);

/// The key of the hashes in nonces, derived from a secret key.
pub(super) struct NonceKey(hmac::Key);

impl NonceKey {
    /// What is signed otherwise with a secret key begins with a brace, so nothing that is signed is
    /// ever this label.
    pub(super) fn derive(secret_key: &Secret) -> Self {
        let secret_key = hmac::Key::new(hmac::HMAC_SHA256, secret_key.expose().as_bytes());
        let derived = hmac::sign(&secret_key, b"whiteboard-gateway nonce 1");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// 40 bits, by the number that stays a caller's own.
    fn hash_of_caller(&self, number: u64) -> u64 {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"caller");
        context.update(&number.to_be_bytes());
        let tag = context.sign();
        tag.as_ref().iter().take(5).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
    }
}

impl Nonce {
    /// The bits of a UUID that say its version and its variant.
    const FIXED: u128 = (0xF << 76) | (0b11 << 62);
    const VERSION_8: u128 = (8 << 76) | (0b10 << 62);

    /// A nonce for a token of this kind, minted now for a caller of no tenant.
    ///
    /// # Errors
    /// `internal` when there is no randomness.
    pub(super) fn mint(
        key: &NonceKey,
        kind: TokenKind,
        caller: u64,
        now_ms: u64,
    ) -> Result<Self, Failure> {
        let mut random = [0; 4];
        fill(&mut random[1..])?;
        // The seconds of Unix time fit until 2106.
        let second = (now_ms / 1_000) & u64::from(u32::MAX);
        let free = (u128::from(kind as u8) << 120)
            | (u128::from(second) << 88)
            | (u128::from(key.hash_of_caller(caller)) << 48)
            | u128::from(u32::from_be_bytes(random));
        Ok(Self::of_free_bits(free))
    }

    /// The nonce of a text; `None` for one that is none of ours. Only as it is written here: another
    /// spelling was minted by someone else.
    pub fn read(text: &str) -> Option<Self> {
        let uuid = Uuid::try_parse(text).ok()?;
        let ours = uuid.get_version_num() == 8 && uuid.get_variant() == Variant::RFC4122;
        let mut canonical = Uuid::encode_buffer();
        (ours && uuid.hyphenated().encode_lower(&mut canonical) == text)
            .then(|| Self(uuid.as_u128()))
    }

    /// The kind of the token; `None` for none that there is.
    pub fn kind(self) -> Option<TokenKind> {
        let kind = self.free_bits() >> 120;
        TokenKind::ALL.into_iter().find(|one| u128::from(*one as u8) == kind)
    }

    /// When it was minted, in seconds of Unix time.
    pub fn minted_at(self) -> u32 {
        let second = (self.free_bits() >> 88) & u128::from(u32::MAX);
        u32::try_from(second).unwrap_or_default()
    }

    /// The hash of the caller who got it: the same for each token that one caller got by one access
    /// key.
    pub fn caller(self) -> u64 {
        let hash = (self.free_bits() >> 48) & 0xFF_FFFF_FFFF;
        u64::try_from(hash).unwrap_or_default()
    }

    /// 48 bits stand before the version, 12 between version and variant, 62 behind.
    const fn of_free_bits(free: u128) -> Self {
        let (high, middle, low) = (free >> 74, (free >> 62) & 0xFFF, free & ((1 << 62) - 1));
        Self((high << 80) | (middle << 64) | low | Self::VERSION_8)
    }

    const fn free_bits(self) -> u128 {
        let bits = self.0 & !Self::FIXED;
        ((bits >> 80) << 74) | (((bits >> 64) & 0xFFF) << 62) | (bits & ((1 << 62) - 1))
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).hyphenated().fmt(out)
    }
}

impl Claims {
    /// Whether its prefix is another than the one that it was minted with, as far as its nonce
    /// knows: the prefix is not signed, so anyone can put another.
    pub fn is_renamed(&self) -> bool {
        Nonce::read(self.nonce()).is_some_and(|nonce| nonce.kind() != Some(self.kind))
    }
}

/// The nonce of a token that the gateway shows the service itself: a version-4 UUID, as several of the
/// official implementations use. No one asks later who got it.
///
/// # Errors
/// `internal` when there is no randomness.
pub fn nonce() -> Result<String, Failure> {
    let mut random = [0; 16];
    fill(&mut random)?;
    Ok(uuid::Builder::from_random_bytes(random).into_uuid().to_string())
}

/// From the operating system itself: it is a call each few minutes and room, and a generator of our
/// own would have to be seeded first, for longer than a start takes.
fn fill(random: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(random)
        .map_err(|_| Failure::fixed(Code::Internal, "the system gives no randomness"))
}

/// A token that is taken no more, from a `[[denied]]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeniedToken {
    /// By what the audit and the access log say of it.
    Nonce {
        /// The access key that signed it.
        access_key: String,
        /// Its nonce.
        nonce: String,
    },
    /// By its canonical text, whose SHA-256 the audit says as well.
    Sha256(TokenHash),
}

/// The SHA-256 of a token's canonical text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

/// A text is no hash of a token.
#[derive(Debug, thiserror::Error)]
#[error("the hash of a token is 64 hex digits, as the audit and `token inspect` write it")]
pub struct TokenHashError;

impl TokenHash {
    /// The hash of a token under the prefix of a kind.
    pub fn of(claims: &Claims, kind: TokenKind) -> Self {
        let mut bytes = [0; 32];
        let text = claims.canonical(kind);
        bytes.copy_from_slice(digest(&SHA256, text.expose().as_bytes()).as_ref());
        Self(bytes)
    }
}

impl FromStr for TokenHash {
    type Err = TokenHashError;

    fn from_str(text: &str) -> Result<Self, TokenHashError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text).as_bytes();
        let digit = |c: u8| (c as char).to_digit(16);
        let mut bytes = [0; 32];
        if hex.len() != 2 * bytes.len() {
            return Err(TokenHashError);
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let value = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high * 16 + low);
            *byte = value.and_then(|value| u8::try_from(value).ok()).ok_or(TokenHashError)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// The tokens that are taken no more, though they hold.
#[derive(Default)]
pub struct DenyList {
    /// By access key.
    nonces: HashMap<Box<str>, HashSet<Box<str>>>,
    hashes: HashSet<TokenHash>,
}

impl DenyList {
    /// Makes it.
    pub fn new(denied: &[DeniedToken]) -> Self {
        let mut list = Self::default();
        for one in denied {
            match one {
                DeniedToken::Nonce { access_key, nonce } => {
                    let nonces = list.nonces.entry(access_key.as_str().into()).or_default();
                    nonces.insert(nonce.as_str().into());
                }
                DeniedToken::Sha256(hash) => _ = list.hashes.insert(*hash),
            }
        }
        list
    }

    /// Whether a token is on it, under whichever prefix and in whichever encoding it came: padding,
    /// the order of fields and percent-encoding make other texts of the same token, and the prefix
    /// is not signed.
    pub fn denies(&self, claims: &Claims) -> bool {
        let of_key = self.nonces.get(claims.access_key());
        if of_key.is_some_and(|nonces| nonces.contains(claims.nonce())) {
            return true;
        }
        let listed = |kind| self.hashes.contains(&TokenHash::of(claims, kind));
        !self.hashes.is_empty() && TokenKind::ALL.into_iter().any(listed)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;
    use crate::token::{KeyPair, TokenFields};

    fn key(secret: &str) -> NonceKey {
        NonceKey::derive(&Secret::new(secret.to_owned()))
    }

    fn any_kind() -> impl Strategy<Value = TokenKind> {
        prop::sample::select(TokenKind::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_nonce_says_kind_second_and_caller(
            kind in any_kind(), caller in any::<u64>(), second in any::<u32>(), ms in 0..1_000_u64,
        ) {
            let key = key("SK");
            let now_ms = u64::from(second) * 1_000 + ms;
            let nonce = Nonce::mint(&key, kind, caller, now_ms).unwrap();
            let text = nonce.to_string();
            prop_assert_eq!(Uuid::parse_str(&text).unwrap().get_version_num(), 8);
            prop_assert_eq!(Nonce::read(&text), Some(nonce));
            prop_assert_eq!(nonce.kind(), Some(kind));
            prop_assert_eq!(nonce.minted_at(), second);
            prop_assert_eq!(nonce.caller(), key.hash_of_caller(caller));
        }

        #[test]
        fn every_free_bit_is_kept(free in 0..1_u128 << 122) {
            prop_assert_eq!(Nonce::of_free_bits(free).free_bits(), free);
        }
    }

    /// Written by hand from the layout, so that it stays what it is.
    #[test]
    fn the_layout_is_that_of_the_tokens_that_are_out() {
        // Room (1), 0x65000000 s, caller 0x123456789A, tenant 0, random 0xABCDEF.
        let free = (1 << 120) | (0x6500_0000 << 88) | (0x12_3456_789A << 48) | 0xAB_CDEF_u128;
        let nonce = Nonce::of_free_bits(free);
        assert_eq!(nonce.to_string(), "59400000-048d-8159-b89a-000000abcdef");
        assert_eq!(nonce.kind(), Some(TokenKind::Room));
        assert_eq!((nonce.minted_at(), nonce.caller()), (0x6500_0000, 0x12_3456_789A));
        let key = key("SK");
        assert_eq!(key.hash_of_caller(7), 0x26_BCB1_5617, "of SK and the number 7");
    }

    #[test]
    fn callers_have_hashes_of_their_own_under_each_secret_key() {
        let hash = |secret: &str, caller| key(secret).hash_of_caller(caller);
        assert_eq!(hash("SK", 1), hash("SK", 1));
        assert_ne!(hash("SK", 1), hash("SK", 2));
        assert_ne!(hash("SK", 1), hash("other", 1));
    }

    #[test]
    fn a_nonce_that_somebody_else_made_is_none_of_ours() {
        let ours = Nonce::mint(&key("SK"), TokenKind::Room, 1, 0).unwrap().to_string();
        assert!(Nonce::read(&ours).is_some());
        for other in [
            "",
            "nonce",
            "17000036000001234",
            "9f2b8f0c-0d3e-11ed-861d-0242ac120002",
            "0c5d8c3e-0b8e-4a57-9d3c-1f0a1f7d7c55",
            &ours.to_uppercase(),
            &ours.replace('-', ""),
            &format!("{{{ours}}}"),
            &format!("{ours} "),
            &format!("{}c{}", &ours[..19], &ours[20..]),
        ] {
            assert_eq!(Nonce::read(other), None, "{other}");
        }
    }

    const ROOM: &str = "faed3130727911ebaea37759ee91947c";

    fn pair() -> KeyPair {
        KeyPair::new("A K".to_owned(), &Secret::new("SK".to_owned()))
    }

    fn minted(nonce: &str) -> String {
        let pair = pair();
        let minted = pair.mint(
            TokenFields {
                kind: TokenKind::Room,
                role: "1",
                uuid: Some(ROOM),
                lifespan_ms: 5_000,
                nonce: nonce.to_owned(),
            },
            1_000,
        );
        minted.token.expose().to_owned()
    }

    #[test]
    fn a_denied_token_is_denied_in_every_text_that_it_has() {
        let (good, other) = (minted("n"), minted("m"));
        let by_nonce = DeniedToken::Nonce { access_key: "A K".to_owned(), nonce: "n".to_owned() };
        // As `sha256sum` says it of the text that was minted.
        let sha256 = |text: &str| {
            let hex: String = digest(&SHA256, text.as_bytes())
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            DeniedToken::Sha256(hex.parse().unwrap())
        };
        let by_hash = sha256(&good);
        let payload = URL_SAFE_NO_PAD.decode(&good["NETLESSROOM_".len()..]).unwrap();
        let payload = String::from_utf8(payload).unwrap();
        let reversed = payload.split('&').rev().collect::<Vec<_>>().join("&");
        let encode = |payload: &str| format!("NETLESSROOM_{}", URL_SAFE_NO_PAD.encode(payload));
        let renamed = good.replace("NETLESSROOM_", "NETLESSTASK_");
        let texts = [
            good.clone(),
            renamed.clone(),
            format!("NETLESSROOM_{}", URL_SAFE.encode(&payload)),
            encode(&reversed),
            encode(&payload.replace("A%20K", "A+K")),
            encode(&payload.replace("role=1", "%72ole=%31")),
        ];
        let under_its_prefix = sha256(&renamed);
        for denied in [by_nonce, by_hash, under_its_prefix] {
            let list = DenyList::new(std::slice::from_ref(&denied));
            for text in &texts {
                let claims = Claims::read(text).unwrap();
                assert!(claims.signed_by(&pair()), "{text}");
                assert!(list.denies(&claims), "{denied:?}: {text}");
            }
            assert!(!list.denies(&Claims::read(&other).unwrap()), "{denied:?}");
        }
        assert!(!DenyList::default().denies(&Claims::read(&good).unwrap()));
    }

    #[test]
    fn a_hash_is_64_hex_digits() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for text in [hex.to_owned(), format!("sha256:{hex}"), hex.to_uppercase()] {
            assert_eq!(text.parse::<TokenHash>().unwrap().to_string(), hex);
        }
        for text in ["", "sha256:", &hex[1..], &hex.replace('b', "g"), &hex.replace('b', "é")] {
            assert!(text.parse::<TokenHash>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_nonce_is_denied_under_its_own_access_key_alone() {
        let other = DeniedToken::Nonce { access_key: "AK".to_owned(), nonce: "n".to_owned() };
        assert!(!DenyList::new(&[other]).denies(&Claims::read(&minted("n")).unwrap()));
    }

    #[test]
    fn a_token_of_another_prefix_than_its_nonce_says_is_renamed() {
        for kind in TokenKind::ALL {
            let ours = Nonce::mint(&key("SK"), kind, 1, 0).unwrap().to_string();
            let token = minted(&ours);
            let renamed = Claims::read(&token).unwrap().is_renamed();
            assert_eq!(renamed, kind != TokenKind::Room, "{kind}");
        }
        assert!(!Claims::read(&minted("n")).unwrap().is_renamed(), "nobody can tell");
        let none = Nonce::of_free_bits(3 << 120).to_string();
        assert!(Claims::read(&minted(&none)).unwrap().is_renamed(), "there is no such kind");
    }
}
