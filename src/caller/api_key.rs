//! API keys: `wbg_<live|test|admin>_<id>_<secret>_<checksum>`.
//!
//! The id (12 characters of base62) finds the entry, the secret (43 characters, 256 bits) proves
//! the caller, and the checksum (CRC-32 of everything before it) tells a typing error from a
//! wrong key without looking anything up. The gateway keeps the SHA-256 of the whole key: against
//! a secret of 256 random bits a slow hash buys nothing and would let anyone spend our CPU.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use subtle::ConstantTimeEq as _;

use crate::token::Secret;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID: usize = 12;
const SECRET: usize = 43;
const CHECKSUM: usize = 6;

/// What every key of ours begins with.
pub const PREFIX: &str = "wbg_";

/// What the keys of callers begin with, and those of operators.
const KINDS: [&str; 3] = ["wbg_live_", "wbg_test_", OPERATOR];
const OPERATOR: &str = "wbg_admin_";

/// The id of an API key: 12 characters of base62. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; ID]);

/// The SHA-256 of a key, written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest([u8; 32]);

/// An API key whose form is right. Holds the secret: no `Debug`, no `Display`.
pub struct ApiKey<'a> {
    id: KeyId,
    text: &'a str,
}

/// Why a text is no API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// Not `wbg_<live|test>_<id>_<secret>_<checksum>`.
    #[error("an API key has the form wbg_live_<id>_<secret>_<checksum>")]
    Form,
    /// The checksum is not that of the rest.
    #[error("the checksum of the API key is wrong: it was copied incompletely or mistyped")]
    Checksum,
}

/// Why a text is no key id or digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredKeyError {
    /// Not 12 characters of base62.
    #[error("a key id has 12 letters and digits, as `key new` prints it")]
    Id,
    /// Not `sha256:` and 64 hex digits.
    #[error("a digest is `sha256:` and 64 hex digits, as `key new` or `key hash` prints it")]
    Digest,
}

impl<'a> ApiKey<'a> {
    /// Reads a key and checks its form and checksum. Says nothing about whether it is known.
    ///
    /// # Errors
    /// [`ApiKeyError`].
    pub fn parse(text: &'a str) -> Result<Self, ApiKeyError> {
        let rest = KINDS.iter().find_map(|kind| text.strip_prefix(kind));
        let rest = rest.ok_or(ApiKeyError::Form)?;
        // Every part has its length, so each has its place.
        let part = |from: usize, count: usize| rest.get(from..from + count);
        let underscore = |at: usize| rest.as_bytes().get(at) == Some(&b'_');
        let places = (part(0, ID), part(ID + 1, SECRET), part(ID + SECRET + 2, CHECKSUM));
        let (Some(id), Some(secret), Some(checksum)) = places else {
            return Err(ApiKeyError::Form);
        };
        let separated = underscore(ID) && underscore(ID + SECRET + 1);
        if rest.len() != ID + SECRET + CHECKSUM + 2 || !separated || !base62(secret) {
            return Err(ApiKeyError::Form);
        }
        let id = id.parse().map_err(|_| ApiKeyError::Form)?;
        let signed = &text[..text.len() - CHECKSUM - 1];
        if checksum_of(signed).as_slice() != checksum.as_bytes() {
            return Err(ApiKeyError::Checksum);
        }
        Ok(Self { id, text })
    }

    /// The id in it.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Whether it is an operator's, for the admin listener, and no caller's.
    pub fn is_operators(&self) -> bool {
        self.text.starts_with(OPERATOR)
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text)
    }
}

/// Makes a new key: `live` for real ones, `test` for the sandbox's.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn generate(live: bool) -> Result<Secret, aws_lc_rs::error::Unspecified> {
    make(KINDS[usize::from(!live)])
}

/// Makes a new key for an operator.
///
/// # Errors
/// As [`generate`].
pub fn generate_for_operator() -> Result<Secret, aws_lc_rs::error::Unspecified> {
    make(OPERATOR)
}

fn make(kind: &str) -> Result<Secret, aws_lc_rs::error::Unspecified> {
    let mut text = kind.to_owned();
    push_random(&mut text, ID)?;
    text.push('_');
    push_random(&mut text, SECRET)?;
    let checksum = checksum_of(&text);
    text.push('_');
    text.extend(checksum.map(char::from));
    Ok(Secret::new(text))
}

/// Characters of base62, each equally likely: bytes of 248 and above are drawn again.
fn push_random(text: &mut String, count: usize) -> Result<(), aws_lc_rs::error::Unspecified> {
    let end = text.len() + count;
    let mut random = [0; 64];
    while text.len() < end {
        rand::fill(&mut random)?;
        let fair = random.iter().filter(|byte| **byte < 248);
        let letters = fair.map(|byte| BASE62[usize::from(byte % 62)] as char);
        text.extend(letters.take(end - text.len()));
    }
    Ok(())
}

/// CRC-32 (IEEE, reflected) as a big-endian number in base62, six digits.
fn checksum_of(text: &str) -> [u8; CHECKSUM] {
    let mut number = crc32fast::hash(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(number % 62) as usize];
        number /= 62;
    }
    digits
}

/// The checksum as text, for tests that forge keys.
#[cfg(test)]
pub(super) fn checksum_text(text: &str) -> String {
    checksum_of(text).map(char::from).iter().collect()
}

fn base62(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl Digest {
    /// The digest of a key's text.
    pub fn of(key: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
        Self(bytes)
    }

    /// A digest that no key has: what an unknown id is compared with, so that it takes as long.
    pub const NOBODY: Self = Self([0; 32]);

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Base62 is ASCII: `from_str`, the only way to make one, has checked that.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for KeyId {
    type Err = StoredKeyError;

    fn from_str(text: &str) -> Result<Self, StoredKeyError> {
        let bytes: [u8; ID] = text.as_bytes().try_into().map_err(|_| StoredKeyError::Id)?;
        if base62(text) { Ok(Self(bytes)) } else { Err(StoredKeyError::Id) }
    }
}

impl FromStr for Digest {
    type Err = StoredKeyError;

    fn from_str(text: &str) -> Result<Self, StoredKeyError> {
        let hex = text.strip_prefix("sha256:").ok_or(StoredKeyError::Digest)?.as_bytes();
        if hex.len() != 64 {
            return Err(StoredKeyError::Digest);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| (c as char).to_digit(16).ok_or(StoredKeyError::Digest);
            // Two hex digits make at most 255.
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?)
                .map_err(|_| StoredKeyError::Digest)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_has_the_documented_form_and_reads_back() {
        let key = generate(true).unwrap();
        let text = key.expose();
        assert!(text.starts_with("wbg_live_"));
        assert_eq!(text.len(), 9 + 12 + 1 + 43 + 1 + 6);
        let parsed = ApiKey::parse(text).ok().unwrap();
        assert_eq!(parsed.id().to_string(), text[9..21]);
        assert_eq!(parsed.digest().to_string().parse::<Digest>().unwrap(), parsed.digest());
        assert_ne!(generate(true).unwrap().expose(), text);
    }

    #[test]
    fn the_key_of_an_operator_is_told_from_those_of_callers() {
        let keys = [generate(true), generate(false), generate_for_operator()].map(Result::unwrap);
        let parsed = keys.each_ref().map(|key| ApiKey::parse(key.expose()).ok().unwrap());
        assert_eq!(parsed.each_ref().map(ApiKey::is_operators), [false, false, true]);
        assert!(keys[2].expose().starts_with("wbg_admin_"));
        let renamed = keys[2].expose().replace("admin", "live");
        assert_eq!(ApiKey::parse(&renamed).err(), Some(ApiKeyError::Checksum));
    }

    #[test]
    fn the_checksum_is_crc32_in_base62() {
        // The check value of CRC-32/ISO-HDLC for "123456789" is 0xcbf43926 = 3421780262.
        assert_eq!(&checksum_of("123456789"), b"3jZRME");
        assert_eq!(&checksum_of(""), b"000000");
    }

    #[test]
    fn a_typing_error_is_told_from_a_foreign_text() {
        let key = generate(false).unwrap();
        let text = key.expose();
        let mut typo = text.to_owned().into_bytes();
        typo[25] = if typo[25] == b'a' { b'b' } else { b'a' };
        let typo = String::from_utf8(typo).unwrap();
        assert_eq!(ApiKey::parse(&typo).err(), Some(ApiKeyError::Checksum));
        for foreign in ["", "wbg_", "wbg_live_a_b_c", &text[..text.len() - 1], &text[1..], "ü"] {
            assert_eq!(ApiKey::parse(foreign).err(), Some(ApiKeyError::Form), "{foreign}");
        }
    }

    #[test]
    fn a_stored_id_or_digest_is_checked() {
        assert!("4fJ2abcdABCD".parse::<KeyId>().is_ok());
        assert!("4fJ2abcd-BCD".parse::<KeyId>().is_err());
        assert!("sha256:00".parse::<Digest>().is_err());
        assert!(format!("sha256:{}", "g".repeat(64)).parse::<Digest>().is_err());
    }
}
