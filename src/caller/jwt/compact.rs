//! The compact form of a signed token (RFC 7515 §7.1), read more strictly than it must be.
//!
//! Whatever two readers could understand differently is refused here, before any key is looked
//! at: the cost of a refusal is that of decoding at most 8 KiB.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::api::{Json, Object, parse_object, printable};

use super::error::InvalidJwtError;
use super::{Algorithm, MAX_TOKEN_BYTES};

/// The longest key id, in bytes. It is opaque: never a path, a query or a log line.
pub(super) const MAX_KEY_ID_BYTES: usize = 256;

/// A token whose form is right. Nothing in it is proved.
pub(super) struct Compact<'a> {
    pub(super) header: Header<'a>,
    pub(super) claims: Object<'a>,
    /// What the signature is over.
    pub(super) signed: &'a [u8],
    pub(super) signature: &'a [u8],
}

/// The parameters of the header that are looked at; `jku`, `jwk`, `x5u` and `x5c`, by which a
/// token would choose its own key, are not.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<Cow<'a, str>>,
    pub(super) typ: Option<Cow<'a, str>>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart. Its parts are decoded to `decoded`, from which what they say borrows.
    pub(super) fn parse(token: &'a str, decoded: &'a mut Vec<u8>) -> Result<Self, InvalidJwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidJwtError::TooLong(token.len()));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidJwtError::Parts);
        };
        let signed = token.as_bytes().get(..header.len() + 1 + claims.len());
        // As many bytes are more than it decodes to.
        decoded.resize(token.len(), 0);
        let (header, room) = decode("the header", header, decoded)?;
        let header = Header::read(&object("the header", header)?)?;
        let (claims, room) = decode("the claims", claims, room)?;
        let claims = object("the claims", claims)?;
        let (signature, _) = decode("the signature", signature, room)?;
        Ok(Self { header, claims, signed: signed.ok_or(InvalidJwtError::Parts)?, signature })
    }
}

impl<'a> Header<'a> {
    fn read(header: &Object<'a>) -> Result<Self, InvalidJwtError> {
        for (name, why) in NEVER {
            if header.contains(name) {
                return Err(InvalidJwtError::Header(name, why));
            }
        }
        let text = |name| match header.get(name) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text)),
            Some(_) => Err(InvalidJwtError::Header(name, "is not a string")),
        };
        let algorithm = text("alg")?.ok_or(InvalidJwtError::Header("alg", "is missing"))?;
        let key_id = text("kid")?;
        if key_id.is_some_and(|id| id.len() > MAX_KEY_ID_BYTES) {
            return Err(InvalidJwtError::Header("kid", "has more than 256 bytes"));
        }
        Ok(Self {
            algorithm: algorithm
                .parse()
                .map_err(|_| InvalidJwtError::Algorithm(printable(algorithm)))?,
            key_id: key_id.cloned(),
            typ: text("typ")?.cloned(),
        })
    }
}

/// Parameters that change what the token means, in ways that are not taken here.
const NEVER: [(&str, &str); 5] = [
    ("crit", "names extensions, and none is understood"),
    ("b64", "is an extension that is not understood"),
    ("zip", "says that the token is compressed"),
    ("enc", "says that the token is encrypted"),
    ("cty", "says that the token holds another"),
];

fn object<'a>(part: &'static str, bytes: &'a [u8]) -> Result<Object<'a>, InvalidJwtError> {
    parse_object(bytes).map_err(|failure| {
        let why = failure.message();
        InvalidJwtError::Json(match why.strip_prefix("the body") {
            Some(rest) => format!("{part}{rest}"),
            None => format!("{part}: {why}"),
        })
    })
}

/// Decodes a part to the begin of `room`; what is left of that is for the next. The engine refuses
/// padding and trailing bits: one text for each sequence of bytes, so that a token has one digest.
fn decode<'a>(
    part: &'static str,
    text: &str,
    room: &'a mut [u8],
) -> Result<(&'a [u8], &'a mut [u8]), InvalidJwtError> {
    let decoded =
        URL_SAFE_NO_PAD.decode_slice(text, room).map_err(|_| InvalidJwtError::Base64(part))?;
    let (bytes, room) = room.split_at_mut(decoded);
    Ok((bytes, room))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
        format!("{header}.{claims}.c2ln")
    }

    fn refusal(token: &str) -> InvalidJwtError {
        Compact::parse(token, &mut Vec::new()).err().unwrap()
    }

    #[test]
    fn a_token_is_taken_apart() {
        let text = token(r#"{"alg":"ES256","kid":"a","jku":"https://evil.example"}"#, r#"{"a":1}"#);
        let mut decoded = Vec::new();
        let compact = Compact::parse(&text, &mut decoded).unwrap();
        assert_eq!(compact.header.algorithm, Algorithm::Es256);
        assert_eq!(compact.header.key_id.as_deref(), Some("a"));
        assert_eq!(compact.claims.get("a").and_then(Json::as_u64), Some(1));
        assert_eq!(compact.signature, b"sig");
        assert!(text.as_bytes().starts_with(compact.signed));
        assert_eq!(text.len(), compact.signed.len() + ".c2ln".len());
    }

    #[test]
    fn a_refusal_tells_the_part_and_what_is_wrong_with_it() {
        assert_eq!(refusal("a.b"), InvalidJwtError::Parts);
        assert_eq!(refusal("a.b.c.d.e"), InvalidJwtError::Parts);
        assert_eq!(refusal("e30=.e30.aa"), InvalidJwtError::Base64("the header"));
        let why = refusal(&token("[]", "{}")).to_string();
        assert_eq!(why, "the header must be a JSON object, found an array");
        let why = refusal(&token(r#"{"alg":"ES256"}"#, r#"{"sub":"a","sub":"b"}"#)).to_string();
        assert!(why.starts_with("the claims: the member `sub` stands twice"), "{why}");
        let why = refusal(&token(r#"{"alg":"ES256","crit":[]}"#, "{}"));
        assert!(matches!(why, InvalidJwtError::Header("crit", _)), "{why:?}");
    }
}
