//! Whiteboard tokens as they come: no text makes the reader fail, and one that verifies says just
//! what was signed.
//!
//! An input is a token. The seeds are those of other implementations, signed with the keys below;
//! what the fuzzer makes of them verifies only where nothing was changed but the encoding.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;
use whiteboard_gateway::api::TokenKind;
use whiteboard_gateway::token::{
    Claims, InvalidTokenError, KeyPair, Secret, TokenFields, kind_of, verify,
};

/// When nothing has expired yet, in milliseconds of Unix time.
const NOW_MS: u64 = 0;

/// What signed most of `tests/token-vectors.json`, whose access keys are as odd as they can be.
const SECRET_KEY: &str = "n2vK8wQxR5tYcB1mZ4pL7sD0fG3hJ6aE";

static KEYS: LazyLock<Vec<KeyPair>> = LazyLock::new(|| {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/token-vectors.json"))
        .expect("the vectors are JSON");
    let vectors = vectors["vectors"].as_array().expect("the vectors are an array");
    let signed = vectors.iter().filter(|vector| vector["sk"] == SECRET_KEY);
    let names: BTreeSet<&str> = signed.filter_map(|vector| vector["ak"].as_str()).collect();
    let pair = |name: &str| KeyPair::new(name.to_owned(), &Secret::new(SECRET_KEY.to_owned()));
    names.into_iter().map(pair).collect()
});

/// One input.
pub fn run(token: &str) {
    let read = Claims::read(token);
    let verified = verify(token, KEYS.iter(), NOW_MS);
    let claims = match read {
        Ok(claims) => claims,
        Err(why) => {
            assert_eq!(why, InvalidTokenError::Format);
            assert_eq!(verified, Err(InvalidTokenError::Format));
            return;
        }
    };
    assert_eq!(kind_of(token), Some(claims.kind));
    assert_eq!(claims.role().map(|role| role.digit()), claims.role().map(|_| claims.role_digit()));
    let Ok(verdict) = verified else { return };
    assert!(!claims.expired(NOW_MS));
    assert_eq!(Some(verdict.role), claims.role());
    assert_eq!(verdict.uuid.as_deref(), claims.uuid());
    assert_eq!(verdict.uuid.is_none(), claims.kind == TokenKind::Sdk);
    assert!(KEYS.iter().any(|key| claims.signed_by(key)));
    // Minted from the same fields, it is the same token: no field more was signed, none less.
    let key = KEYS.iter().find(|key| claims.signed_by(key)).unwrap();
    let lifespan_ms = claims.expire_at().map_or(0, |at| at.parse().unwrap());
    let minted = key.mint(
        TokenFields {
            kind: claims.kind,
            role: claims.role_digit(),
            uuid: claims.uuid(),
            lifespan_ms,
            nonce: claims.nonce().to_owned(),
        },
        NOW_MS,
    );
    assert_eq!(Claims::read(minted.token.expose()), Ok(claims));
}
