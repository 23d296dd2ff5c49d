//! Forgery: of a token that was minted, only another writing of the same fields verifies.
//!
//! An input is what to mint, as `KIND ROLE LIFESPAN`, then lines for the uuid and the nonce, then
//! the kind that the forged prefix names, then lines that change the text inside the base64, as
//! `PLACE BYTES-REMOVED TEXT-PUT-THERE`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use whiteboard_gateway::api::{Role, TokenKind};
use whiteboard_gateway::token::{
    Claims, InvalidTokenError, KeyPair, Secret, TokenFields, kind_of, verify,
};

const NOW_MS: u64 = 1_700_000_000_000;

/// One input.
pub fn run(input: &str) {
    _ = attempt(input);
}

fn attempt(input: &str) -> Option<()> {
    let mut lines = input.split('\n');
    let mut words = lines.next()?.split(' ');
    let kind = kind(words.next()?)?;
    let role: Role = words.next()?.parse().ok()?;
    let lifespan_ms = words.next()?.parse().ok()?;
    let uuid = lines.next().filter(|_| kind != TokenKind::Sdk);
    let nonce = lines.next()?.to_owned();
    let claimed = lines.next().and_then(self::kind).unwrap_or(kind);
    if kind != TokenKind::Sdk && uuid.is_none() {
        return None;
    }

    let key = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
    let minted =
        key.mint(TokenFields { kind, role: role.digit(), uuid, lifespan_ms, nonce }, NOW_MS);
    let token = minted.token.expose();
    let Ok(claims) = Claims::read(token) else {
        // Ids and nonces that are asked for are bounded long before.
        assert!(token.len() > 8 * 1024, "a minted token is read");
        return None;
    };
    assert_eq!(kind_of(token), Some(kind));
    let verdict = verify(token, [&key], NOW_MS).expect("a minted token verifies");
    assert_eq!((verdict.kind, verdict.role, verdict.uuid.as_deref()), (kind, role, uuid));
    if let Some(end) = minted.expire_at_ms {
        assert_eq!(verify(token, [&key], end), Err(InvalidTokenError::Expired));
    }
    let other = KeyPair::new("AK".to_owned(), &Secret::new("another".to_owned()));
    assert_eq!(verify(token, [&other], NOW_MS), Err(InvalidTokenError::Signature));

    let forged = forged(token, claimed, lines)?;
    if verify(&forged, [&key], NOW_MS).is_ok() {
        // The prefix is not under the signature: between rooms and tasks it may change.
        let mut read = Claims::read(&forged).expect("what verifies is read");
        assert_eq!(read.kind == TokenKind::Sdk, kind == TokenKind::Sdk);
        read.kind = kind;
        assert_eq!(read, claims, "{forged}");
    }
    Some(())
}

fn kind(name: &str) -> Option<TokenKind> {
    TokenKind::ALL.into_iter().find(|kind| kind.as_str() == name)
}

fn forged<'a>(
    token: &str,
    claimed: TokenKind,
    edits: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let (_, encoded) = token.split_once('_')?;
    let mut payload = URL_SAFE_NO_PAD.decode(encoded).expect("a minted token is base64url");
    for edit in edits {
        let mut parts = edit.splitn(3, ' ');
        let from = parts.next()?.parse::<usize>().ok()?.min(payload.len());
        let gone = parts.next()?.parse::<usize>().ok()?;
        let to = from.saturating_add(gone).min(payload.len());
        payload.splice(from..to, parts.next()?.bytes());
    }
    let prefix = claimed.as_str().to_ascii_uppercase();
    Some(format!("NETLESS{prefix}_{}", URL_SAFE_NO_PAD.encode(payload)))
}
