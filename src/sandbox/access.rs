//! Whether a token opens an operation: its signature, time, kind, role, and room or task.
//!
//! The service takes more than the gateway sends: where the table names a Room or Task token as
//! the weakest that will do, an SDK token of a writer or admin is taken as well.

use http::HeaderMap;

use super::refusal::SandboxError;
use crate::api::{Access, Operation, Role, Target, TokenKind};
use crate::field::TOKEN;
use crate::token::{Claims, InvalidTokenError, KeyPair, verify};

/// A token that opens the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AcceptedToken {
    pub(super) kind: TokenKind,
    pub(super) role: Role,
    /// The access key that signed it.
    pub(super) access_key: String,
}

/// The text of the one `token` header; two of them are no token.
pub(super) fn presented(headers: &HeaderMap) -> Result<&str, InvalidTokenError> {
    let mut tokens = headers.get_all(TOKEN).iter();
    match (tokens.next(), tokens.next()) {
        (Some(token), None) => token.to_str().map_err(|_| InvalidTokenError::Format),
        _ => Err(InvalidTokenError::Format),
    }
}

/// Lets a request in; `None` for an operation that takes no token.
pub(super) fn check<'a>(
    operation: &Operation,
    target: &Target,
    headers: &HeaderMap,
    keys: impl IntoIterator<Item = &'a KeyPair>,
    now_ms: u64,
) -> Result<Option<AcceptedToken>, SandboxError> {
    let (kind, least) = match operation.access {
        Access::Open | Access::Mints(TokenKind::Sdk) => return Ok(None),
        // Which role it may ask for is read from the body.
        Access::Mints(TokenKind::Room | TokenKind::Task) => (TokenKind::Sdk, Role::Reader),
        Access::Needs(kind, least) => (kind, least),
    };
    let token = presented(headers)?;
    let access_key = Claims::read(token)?.access_key().to_owned();
    let verdict = verify(token, keys, now_ms)?;
    let least = match verdict.kind {
        // No page lets a reader of the whole project read a room or a task.
        TokenKind::Sdk if kind != TokenKind::Sdk => least.max(Role::Writer),
        _ => least,
    };
    let too_low = || SandboxError::Role(operation.name.to_string());
    match verdict.kind {
        TokenKind::Sdk => {}
        own if own == kind && verdict.uuid.as_deref() == target.uuid() => {}
        _ => {
            return Err(match target {
                Target::Project => too_low(),
                Target::Room(_) => SandboxError::OtherRoom,
                Target::Task(_) => SandboxError::OtherTask,
            });
        }
    }
    if verdict.role < least {
        return Err(too_low());
    }
    Ok(Some(AcceptedToken { kind: verdict.kind, role: verdict.role, access_key }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Operations, TABLE};
    use crate::token::{Secret, TokenFields};

    fn key() -> KeyPair {
        KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()))
    }

    fn token(kind: TokenKind, role: Role, uuid: Option<&str>) -> String {
        let key = key();
        let minted = key.mint(
            TokenFields {
                kind,
                role: role.digit(),
                uuid,
                lifespan_ms: 1000,
                nonce: "n".to_owned(),
            },
            0,
        );
        minted.token.expose().to_owned()
    }

    fn opened(
        operation: &str,
        tokens: &[&str],
        now_ms: u64,
    ) -> Result<Option<AcceptedToken>, String> {
        let operations = Operations::documented();
        let row = TABLE.iter().find(|row| row.name == operation).unwrap();
        let matched = operations.find(&row.method, &row.path.replace("{uuid}", "u1")).unwrap();
        let mut headers = HeaderMap::new();
        for token in tokens {
            headers.append(TOKEN, token.parse().unwrap());
        }
        check(matched.operation, &matched.target, &headers, [&key()], now_ms)
            .map_err(|refusal| format!("{} {refusal}", refusal.status().as_u16()))
    }

    /// The matrix of Agora's page on token authentication: for each operation the least role
    /// of an SDK, a Room and a Task token that opens it. Written by hand, so that a wrong row of the table shows.
    const MATRIX: [(&str, [Option<Role>; 3]); 18] = [
        ("tokens.room", [Some(Role::Reader), None, None]),
        ("tokens.task", [Some(Role::Reader), None, None]),
        ("rooms.create", [Some(Role::Writer), None, None]),
        ("rooms.list", [Some(Role::Writer), None, None]),
        ("rooms.get", [Some(Role::Writer), Some(Role::Writer), None]),
        ("rooms.update", [Some(Role::Admin), Some(Role::Admin), None]),
        ("screenshots.scene", [Some(Role::Writer), Some(Role::Writer), None]),
        ("screenshots.directory", [Some(Role::Writer), Some(Role::Writer), None]),
        ("scenes.list", [Some(Role::Writer), Some(Role::Writer), None]),
        ("scenes.add", [Some(Role::Writer), Some(Role::Writer), None]),
        ("scenes.switch", [Some(Role::Writer), Some(Role::Writer), None]),
        ("conversions.start", [Some(Role::Writer), None, None]),
        ("conversions.list", [Some(Role::Writer), None, None]),
        ("conversions.get", [Some(Role::Writer), None, Some(Role::Reader)]),
        ("conversions.cancel", [Some(Role::Admin), None, None]),
        ("conversions.prioritize", [Some(Role::Writer), None, None]),
        ("legacy_conversions.start", [Some(Role::Writer), None, None]),
        ("legacy_conversions.get", [Some(Role::Writer), None, Some(Role::Reader)]),
    ];

    #[test]
    fn each_operation_opens_to_the_documented_tokens_and_no_others() {
        assert_eq!(MATRIX.len() + 1, TABLE.len(), "one operation takes no token");
        for (operation, [sdk, room, task]) in MATRIX {
            for role in Role::ALL {
                for (kind, uuid, least) in [
                    (TokenKind::Sdk, None, sdk),
                    (TokenKind::Room, Some("u1"), room),
                    (TokenKind::Task, Some("u1"), task),
                ] {
                    let opens = opened(operation, &[&token(kind, role, uuid)], 0).is_ok();
                    let should = least.is_some_and(|least| role >= least);
                    assert_eq!(opens, should, "{operation} by {kind} {role}");
                }
            }
        }
    }

    #[test]
    fn a_refusal_has_the_documented_text() {
        let room = |role| token(TokenKind::Room, role, Some("u1"));
        let other = token(TokenKind::Room, Role::Admin, Some("u2"));
        let task = token(TokenKind::Task, Role::Admin, Some("u2"));
        let sdk = token(TokenKind::Sdk, Role::Admin, None);
        for (operation, tokens, now_ms, text) in [
            ("rooms.get", vec![], 0, "401 invalid format of token"),
            ("rooms.get", vec!["wbg_live_1"], 0, "401 invalid format of token"),
            ("rooms.get", vec![sdk.as_str(), sdk.as_str()], 0, "401 invalid format of token"),
            ("rooms.get", vec![sdk.as_str()], 1000, "401 expired token"),
            ("rooms.get", vec![&sdk[..sdk.len() - 2]], 0, "401 invalid signature of token"),
            ("rooms.get", vec![other.as_str()], 0, "403 token access room forbidden"),
            ("rooms.get", vec![task.as_str()], 0, "403 token access room forbidden"),
            ("conversions.get", vec![task.as_str()], 0, "403 token access task forbidden"),
            (
                "rooms.create",
                vec![&room(Role::Admin)],
                0,
                "403 token access role rooms.create forbidden",
            ),
            (
                "rooms.update",
                vec![&room(Role::Writer)],
                0,
                "403 token access role rooms.update forbidden",
            ),
        ] {
            assert_eq!(opened(operation, &tokens, now_ms).unwrap_err(), text, "{operation}");
        }
        assert_eq!(opened("tokens.sdk", &[], 0), Ok(None));
    }

    #[test]
    fn a_pass_says_who_signed() {
        let pass = opened("rooms.get", &[&token(TokenKind::Room, Role::Writer, Some("u1"))], 0);
        let expected = AcceptedToken {
            kind: TokenKind::Room,
            role: Role::Writer,
            access_key: "AK".to_owned(),
        };
        assert_eq!(pass, Ok(Some(expected)));
    }
}
