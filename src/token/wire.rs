//! The wire format of whiteboard tokens, byte for byte that of `netless-token` (JavaScript).
//!
//! A token is a prefix and the base64url of a query string: the fields and `sig`, the hex of
//! HMAC-SHA256 over the fields as one compact JSON object with its keys in ascending order.

use std::collections::BTreeMap;
use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use subtle::ConstantTimeEq as _;

use super::Secret;
use crate::api::{Role, TokenKind, is_unreserved, push_text};

/// Written without padding; read with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Everything but what `encodeURIComponent` leaves alone (ECMA-262 §19.2.6.4).
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Longer texts are no tokens: real ones have about 250 bytes.
const LONGEST: usize = 8 * 1024;

/// An access key with its secret key, ready to sign.
pub struct KeyPair {
    /// The access key, which is public.
    pub access_key: String,
    key: hmac::Key,
}

/// What a token says, before anyone believed it. With its signature it would be the token again,
/// so `Debug` leaves that out.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// The kind, from the prefix. It is not under the signature.
    pub kind: TokenKind,
    /// Every field but `sig`, by name.
    fields: BTreeMap<String, String>,
    /// The signature: with the fields it would be the token again.
    pub(super) signature: String,
}

/// A token that has been minted.
pub struct Minted<'k> {
    /// The token. A secret of whoever gets it.
    pub token: Secret,
    /// The access key whose secret key has signed it.
    pub access_key: &'k str,
    /// The nonce in it, which the audit names.
    pub nonce: String,
    /// When it ends, in milliseconds of Unix time; `None` for never.
    pub expire_at_ms: Option<u64>,
}

/// What a new token says.
pub struct TokenFields<'a> {
    /// What it opens.
    pub kind: TokenKind,
    /// The digit of its role.
    pub role: &'a str,
    /// The room or task; `None` for an SDK token.
    pub uuid: Option<&'a str>,
    /// Its life in milliseconds; at 0 or below it is permanent, as the official code has it. Callers
    /// hold [`crate::api::Lifespan`], which has no negative.
    pub lifespan_ms: i64,
    /// What makes it another than all others.
    pub nonce: String,
}

/// Why a text is no token, or not a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTokenError {
    /// No prefix of a token, no base64url, no fields, or a field twice or missing.
    #[error("invalid format of token")]
    Format,
    /// `sig` is not that of the fields under this key.
    #[error("invalid signature of token")]
    Signature,
    /// Its time is over.
    #[error("expired token")]
    Expired,
    /// No key of this access key is known.
    #[error("unknown access key of token")]
    UnknownKey,
}

/// A token whose signature held and whose time is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The kind.
    pub kind: TokenKind,
    /// The role.
    pub role: Role,
    /// The room or task; `None` for an SDK token.
    pub uuid: Option<String>,
}

/// The prefixes, in the order of [`TokenKind`].
pub(super) const PREFIXES: [&str; 3] = ["NETLESSSDK_", "NETLESSROOM_", "NETLESSTASK_"];

const fn prefix(kind: TokenKind) -> &'static str {
    PREFIXES[kind as usize]
}

/// The kind that a text's prefix names; `None` when it is no whiteboard token at all.
pub fn kind_of(text: &str) -> Option<TokenKind> {
    TokenKind::ALL.into_iter().find(|kind| text.starts_with(prefix(*kind)))
}

impl KeyPair {
    /// Prepares a key pair; the key schedule is done once, here.
    pub fn new(access_key: String, secret_key: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret_key.expose().as_bytes());
        Self { access_key, key }
    }

    /// Mints a token whose time begins now.
    pub fn mint(&self, fields: TokenFields<'_>, now_ms: u64) -> Minted<'_> {
        let TokenFields { kind, role, uuid, lifespan_ms, nonce } = fields;
        let lifespan_ms = u64::try_from(lifespan_ms).unwrap_or(0);
        let expire_at_ms = (lifespan_ms > 0).then(|| now_ms.saturating_add(lifespan_ms));
        let mut digits = itoa::Buffer::new();
        let expire_at = expire_at_ms.map(|at| digits.format(at));
        let mut fields = [
            Some(("ak", self.access_key.as_str())),
            expire_at.map(|at| ("expireAt", at)),
            Some(("nonce", nonce.as_str())),
            Some(("role", role)),
            None,
            uuid.map(|uuid| ("uuid", uuid)),
        ];
        // What is signed and what is encoded fit into it, one after the other.
        let mut text = String::with_capacity(240);
        signing_input(fields.iter().flatten().copied(), &mut text);
        let signature = hex(&hmac::sign(&self.key, text.as_bytes()));
        // `sig` sorts behind `role` and before `uuid`. Its digits are ASCII.
        fields[4] = Some(("sig", std::str::from_utf8(&signature).unwrap_or_default()));
        text.clear();
        payload(fields.iter().flatten().copied(), &mut text);
        let mut token = String::with_capacity(320);
        token.push_str(prefix(kind));
        BASE64.encode_string(&text, &mut token);
        Minted { token: Secret::new(token), access_key: &self.access_key, nonce, expire_at_ms }
    }

    fn signed(&self, claims: &Claims) -> bool {
        let fields = claims.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = String::with_capacity(240);
        signing_input(fields, &mut text);
        let expected = hex(&hmac::sign(&self.key, text.as_bytes()));
        expected.ct_eq(claims.signature.as_bytes()).into()
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, fields, signature: _ } = self;
        out.debug_struct("Claims")
            .field("kind", kind)
            .field("fields", fields)
            .finish_non_exhaustive()
    }
}

impl Claims {
    /// Reads a token, in any of the encodings that the official implementations write: fields in
    /// any order, a space as `+` or `%20`, padding or none.
    ///
    /// # Errors
    /// [`InvalidTokenError::Format`].
    pub fn read(token: &str) -> Result<Self, InvalidTokenError> {
        let kind = kind_of(token).ok_or(InvalidTokenError::Format)?;
        let encoded = &token[prefix(kind).len()..];
        if encoded.len() > LONGEST {
            return Err(InvalidTokenError::Format);
        }
        let payload = BASE64.decode(encoded).map_err(|_| InvalidTokenError::Format)?;
        let payload = String::from_utf8(payload).map_err(|_| InvalidTokenError::Format)?;
        let mut fields = BTreeMap::new();
        for pair in payload.split('&') {
            let (name, value) = pair.split_once('=').ok_or(InvalidTokenError::Format)?;
            if fields.insert(form_decode(name)?, form_decode(value)?).is_some() {
                return Err(InvalidTokenError::Format);
            }
        }
        let signature = fields.remove("sig").ok_or(InvalidTokenError::Format)?;
        if !["ak", "nonce", "role"].iter().all(|name| fields.contains_key(*name)) {
            return Err(InvalidTokenError::Format);
        }
        Ok(Self { kind, fields, signature })
    }

    /// The one text of the token under the prefix of a kind, whatever text it came in: as
    /// [`KeyPair::mint`] writes it.
    pub fn canonical(&self, kind: TokenKind) -> Secret {
        let fields = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut fields: Vec<(&str, &str)> = fields.chain([("sig", &*self.signature)]).collect();
        fields.sort_unstable();
        let mut text = String::with_capacity(240);
        payload(fields.into_iter(), &mut text);
        let mut token = String::with_capacity(320);
        token.push_str(prefix(kind));
        BASE64.encode_string(&text, &mut token);
        Secret::new(token)
    }

    /// The access key that is said to have signed.
    pub fn access_key(&self) -> &str {
        &self.fields["ak"]
    }

    /// The digit of the role.
    pub fn role_digit(&self) -> &str {
        &self.fields["role"]
    }

    /// The role; `None` for a digit that means nothing.
    pub fn role(&self) -> Option<Role> {
        Role::from_digit(self.role_digit())
    }

    /// The nonce.
    pub fn nonce(&self) -> &str {
        &self.fields["nonce"]
    }

    /// The room or task.
    pub fn uuid(&self) -> Option<&str> {
        self.fields.get("uuid").map(String::as_str)
    }

    /// The text of `expireAt`, milliseconds of Unix time; `None` for a permanent token.
    pub fn expire_at(&self) -> Option<&str> {
        self.fields.get("expireAt").map(String::as_str)
    }

    /// When its time is over, in milliseconds of Unix time; `None` for a permanent token. A text
    /// that is no number has no time left.
    pub fn ends_at_ms(&self) -> Option<u64> {
        self.expire_at().map(|at| at.parse().unwrap_or(0))
    }

    /// Whether the signature is that of this key, compared in constant time.
    pub fn signed_by(&self, key: &KeyPair) -> bool {
        key.access_key == self.access_key() && key.signed(self)
    }

    /// Whether its time is over.
    pub fn expired(&self, now_ms: u64) -> bool {
        self.ends_at_ms().is_some_and(|at| at <= now_ms)
    }
}

/// Verifies a token against the keys that may have signed it.
///
/// Since the prefix is not signed, a Room and a Task token of the same fields differ in the prefix
/// alone: an SDK token must carry no `uuid`, the others must carry one.
///
/// # Errors
/// [`InvalidTokenError`], the first of: format, key, signature, role or `uuid` (format), time.
pub fn verify<'a>(
    token: &str,
    keys: impl IntoIterator<Item = &'a KeyPair>,
    now_ms: u64,
) -> Result<VerifiedToken, InvalidTokenError> {
    let claims = Claims::read(token)?;
    let key = keys
        .into_iter()
        .find(|key| key.access_key == claims.access_key())
        .ok_or(InvalidTokenError::UnknownKey)?;
    if !key.signed(&claims) {
        return Err(InvalidTokenError::Signature);
    }
    let role = claims.role().ok_or(InvalidTokenError::Format)?;
    if (claims.kind == TokenKind::Sdk) == claims.uuid().is_some() {
        return Err(InvalidTokenError::Format);
    }
    if claims.expired(now_ms) {
        return Err(InvalidTokenError::Expired);
    }
    Ok(VerifiedToken { kind: claims.kind, role, uuid: claims.uuid().map(str::to_owned) })
}

/// Writes the fields as `JSON.stringify` writes an object; serde_json escapes strings just so.
fn signing_input<'f>(fields: impl Iterator<Item = (&'f str, &'f str)>, text: &mut String) {
    let mut separator = '{';
    for (name, value) in fields {
        text.push(separator);
        separator = ',';
        push_text(name, text);
        text.push(':');
        push_text(value, text);
    }
    text.push('}');
}

/// Writes the fields as a query string.
fn payload<'f>(fields: impl Iterator<Item = (&'f str, &'f str)>, text: &mut String) {
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        push_component(name, text);
        text.push('=');
        push_component(value, text);
    }
}

fn push_component(value: &str, text: &mut String) {
    if is_unreserved(value) {
        text.push_str(value);
    } else {
        text.extend(utf8_percent_encode(value, COMPONENT));
    }
}

fn form_decode(text: &str) -> Result<String, InvalidTokenError> {
    let spaced = text.replace('+', " ");
    let decoded =
        percent_decode_str(&spaced).decode_utf8().map_err(|_| InvalidTokenError::Format)?;
    Ok(decoded.into_owned())
}

fn hex(signature: &hmac::Tag) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(signature.as_ref()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/token-vectors.json")).unwrap()
    }

    fn key_of(vector: &Value) -> KeyPair {
        let secret = Secret::new(vector["sk"].as_str().unwrap().to_owned());
        KeyPair::new(vector["ak"].as_str().unwrap().to_owned(), &secret)
    }

    fn kind_of_vector(vector: &Value) -> TokenKind {
        serde_json::from_value(vector["kind"].clone()).unwrap()
    }

    #[test]
    fn every_vector_is_minted_byte_for_byte() {
        let vectors = vectors();
        let vectors = vectors["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 52);
        for vector in vectors {
            let key = key_of(vector);
            let minted = key.mint(
                TokenFields {
                    kind: kind_of_vector(vector),
                    role: vector["role"].as_str().unwrap(),
                    uuid: vector["uuid"].as_str(),
                    lifespan_ms: vector["lifespan_ms"].as_i64().unwrap(),
                    nonce: vector["nonce"].as_str().unwrap().to_owned(),
                },
                vector["now_ms"].as_u64().unwrap(),
            );
            assert_eq!(
                minted.token.expose(),
                vector["token"].as_str().unwrap(),
                "{}",
                vector["note"]
            );
            assert_eq!(
                minted.expire_at_ms.map(|at| at.to_string()).as_deref(),
                vector["expireAt"].as_str()
            );
        }
    }

    #[test]
    fn every_vector_and_every_equivalent_encoding_verifies() {
        let vectors = vectors();
        let by_index = vectors["vectors"].as_array().unwrap();
        let own = by_index.iter().map(|vector| (vector, &vector["token"]));
        let others = vectors["equivalent"].as_array().unwrap();
        assert_eq!(others.len(), 15);
        let others = others.iter().map(|other| {
            (&by_index[usize::try_from(other["of"].as_u64().unwrap()).unwrap()], &other["token"])
        });
        for (vector, token) in own.chain(others) {
            let claims = Claims::read(token.as_str().unwrap()).unwrap();
            assert!(claims.signed_by(&key_of(vector)), "{}", vector["note"]);
            assert_eq!(claims.kind, kind_of_vector(vector));
            assert_eq!(claims.role_digit(), vector["role"].as_str().unwrap());
            assert_eq!(claims.uuid(), vector["uuid"].as_str());
            assert_eq!(claims.expire_at(), vector["expireAt"].as_str());
            assert_eq!(claims.nonce(), vector["nonce"].as_str().unwrap());
            let canonical = claims.canonical(claims.kind);
            assert_eq!(canonical.expose(), vector["token"].as_str().unwrap(), "one text of all");
        }
    }

    #[test]
    fn what_other_implementations_sign_otherwise_does_not_verify() {
        let vectors = vectors();
        let divergent = vectors["divergent"].as_array().unwrap();
        assert_eq!(divergent.len(), 19);
        for other in divergent {
            let of = usize::try_from(other["of"].as_u64().unwrap()).unwrap();
            let key = key_of(&vectors["vectors"][of]);
            let signed = Claims::read(other["token"].as_str().unwrap())
                .is_ok_and(|claims| claims.signed_by(&key));
            assert!(!signed, "{} of {of}", other["language"]);
        }
    }

    fn key() -> KeyPair {
        KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()))
    }

    fn minted(kind: TokenKind, role: &str, uuid: Option<&str>, lifespan_ms: i64) -> String {
        key()
            .mint(TokenFields { kind, role, uuid, lifespan_ms, nonce: "n".to_owned() }, 1_000)
            .token
            .expose()
            .to_owned()
    }

    #[test]
    fn a_good_token_tells_kind_role_and_room() {
        let token = minted(TokenKind::Room, "1", Some("r"), 500);
        let verdict = verify(&token, [&key()], 1_499).unwrap();
        assert_eq!(
            verdict,
            VerifiedToken { kind: TokenKind::Room, role: Role::Writer, uuid: Some("r".to_owned()) }
        );
        assert_eq!(verify(&token, [&key()], 1_500), Err(InvalidTokenError::Expired));
    }

    #[test]
    fn a_bad_token_says_why() {
        let good = minted(TokenKind::Room, "1", Some("r"), 0);
        let as_task = good.replacen("NETLESSROOM_", "NETLESSTASK_", 1);
        assert!(verify(&as_task, [&key()], 0).is_ok(), "the prefix is not signed");
        let as_sdk = good.replacen("NETLESSROOM_", "NETLESSSDK_", 1);
        assert_eq!(verify(&as_sdk, [&key()], 0), Err(InvalidTokenError::Format));
        let sdk_as_room =
            minted(TokenKind::Sdk, "0", None, 0).replacen("NETLESSSDK_", "NETLESSROOM_", 1);
        assert_eq!(verify(&sdk_as_room, [&key()], 0), Err(InvalidTokenError::Format));
        let no_role = minted(TokenKind::Sdk, "3", None, 0);
        assert_eq!(verify(&no_role, [&key()], 0), Err(InvalidTokenError::Format));
        let other = KeyPair::new("AK".to_owned(), &Secret::new("other".to_owned()));
        assert_eq!(verify(&good, [&other], 0), Err(InvalidTokenError::Signature));
        assert_eq!(verify(&good, [], 0), Err(InvalidTokenError::UnknownKey));
        for text in ["", "NETLESSROOM_", "netlessroom_YQ", "NETLESSROOM_!", "NETLESSROOM_YT1i"] {
            assert_eq!(verify(text, [&key()], 0), Err(InvalidTokenError::Format), "{text}");
        }
        let long = format!("NETLESSROOM_{}", "A".repeat(10_000));
        assert_eq!(verify(&long, [&key()], 0), Err(InvalidTokenError::Format));
    }
}
