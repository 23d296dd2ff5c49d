//! A caller's own whiteboard token: a Room or Task token that a key of ours has signed speaks for
//! its room or task, with its role, until it ends or is denied.

use std::sync::Arc;

use crate::api::{RoomId, Target, TaskId, TokenKind};
use crate::clock::timestamp;
use crate::failure::{Code, Failure};
use crate::policy::{Rights, Rooms};
use crate::token::{
    self, Claims, DeniedToken, DenyList, InvalidTokenError, KeyPair, KeyState, Nonce,
    ProjectCredential,
};

use super::identified_caller::IdentifiedCaller;
use super::throttle::CredentialAttempt;
use super::{Caller, Credential, Validity, number_of};

/// The projects whose Room and Task tokens are a credential.
#[derive(Default)]
pub(super) struct Participants {
    projects: Vec<Participant>,
    denied: DenyList,
}

struct Participant {
    /// Keys that sign, and those that only verify what they signed before.
    keys: Vec<KeyPair>,
    profile: usize,
}

impl Participants {
    /// # Errors
    /// The name of a profile that is not there.
    pub(super) fn new(
        projects: &[token::ProjectSettings],
        denied: &[DeniedToken],
        profile: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, String> {
        let mut participants = Vec::new();
        for project in projects {
            let (Some(name), ProjectCredential::Keys(keys)) =
                (&project.token_profile, &project.credential)
            else {
                continue;
            };
            let known = keys.iter().filter(|key| key.state != KeyState::Retired);
            participants.push(Participant {
                keys: known
                    .map(|key| KeyPair::new(key.access_key.clone(), &key.secret_key))
                    .collect(),
                profile: profile(name).ok_or_else(|| name.clone())?,
            });
        }
        Ok(Self { projects: participants, denied: DenyList::new(denied) })
    }

    /// Verifies a token. An SDK token is never a credential: it opens the whole project, and
    /// whoever has one has too much already.
    pub(super) fn identify(
        &self,
        token: &str,
        kind: TokenKind,
        now: jiff::Timestamp,
        attempt: &CredentialAttempt<'_>,
    ) -> Result<IdentifiedCaller, Failure> {
        if kind == TokenKind::Sdk {
            return Err(refused(
                "an SDK token is no credential here: it opens the whole project; send a key of \
                 this gateway in its place",
            ));
        }
        if self.projects.is_empty() {
            return Err(refused(
                "a whiteboard token is no credential here: send a key of this gateway in its place",
            ));
        }
        let now_ms = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let claims = Claims::read(token).map_err(invalid)?;
        let ours = self
            .projects
            .iter()
            .find(|one| one.keys.iter().any(|key| key.access_key == claims.access_key()));
        let project = ours.ok_or_else(|| invalid(InvalidTokenError::UnknownKey))?;
        let verdict = token::verify(token, &project.keys, now_ms).map_err(|why| {
            if why == InvalidTokenError::Signature {
                attempt.failed();
            }
            invalid(why)
        })?;
        if claims.is_renamed() {
            let why = "it was minted as a token of another kind, and its prefix was changed";
            return Err(refused("this whiteboard token is not valid here").with_detail(why));
        }
        if self.denied.denies(&claims) {
            let why = "this whiteboard token was withdrawn: get another";
            return Err(refused(why).with_rule("denied".to_owned()));
        }
        // Whoever can verify a token has its `uuid` checked by `verify`: it is there.
        let uuid = verdict.uuid.as_deref().unwrap_or_default();
        let only = match verdict.kind {
            TokenKind::Room => RoomId::new(uuid).ok().map(Target::Room),
            TokenKind::Task => TaskId::new(uuid).ok().map(Target::Task),
            TokenKind::Sdk => None,
        };
        let only = only.ok_or_else(|| invalid(InvalidTokenError::Format))?;
        let name = format!("{}/{uuid}", verdict.kind);
        let caller = Arc::new(Caller {
            number: number(&claims),
            name,
            rights: Rights {
                rooms: Rooms::Any,
                only: Some(only),
                role: Some(verdict.role),
                ..Rights::of_profile(project.profile)
            },
            credential: Credential::WhiteboardToken { nonce: printable(claims.nonce()) },
            key_end: None,
        });
        // An end that no calendar has is further away than anything is remembered.
        let until = claims.ends_at_ms().and_then(timestamp);
        Ok(IdentifiedCaller { caller, validity: Validity::until(until) })
    }
}

/// What limits count such a caller by: who got the token, where the nonce says that, so that
/// whoever can have many has no more by them; else the token itself. Under each access key, since
/// the hash of a caller is another under each.
fn number(claims: &Claims) -> u64 {
    match Nonce::read(claims.nonce()) {
        Some(nonce) => {
            let caller = format!("{:010x}", nonce.caller());
            number_of(&["issued", claims.access_key(), &caller])
        }
        None => number_of(&["whiteboard", claims.access_key(), claims.nonce()]),
    }
}

/// A nonce for logs. Ours and those of the official libraries are shorter than what is kept.
fn printable(nonce: &str) -> Box<str> {
    const LONGEST: usize = 64;
    nonce.chars().take(LONGEST).collect::<String>().into()
}

fn refused(why: &'static str) -> Failure {
    Failure::invalid_credential(Code::InvalidToken, why)
}

/// Only whoever holds a token that was good is told that its time is over.
fn invalid(why: InvalidTokenError) -> Failure {
    let failure = match why {
        InvalidTokenError::Expired => {
            Failure::invalid_credential(Code::ExpiredToken, "this whiteboard token has expired")
        }
        _ => refused("this whiteboard token is not valid here"),
    };
    failure.with_detail(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Role;
    use crate::token::{KeySettings, ProjectSettings, Secret, TokenFields};

    fn participants() -> Participants {
        let key = |name: &str, state| KeySettings {
            access_key: name.to_owned(),
            secret_key: Secret::new(format!("{name}-secret")),
            state,
        };
        let credential = ProjectCredential::Keys(vec![
            key("new", KeyState::Active),
            key("old", KeyState::VerifyOnly),
            key("gone", KeyState::Retired),
        ]);
        let settings = ProjectSettings {
            name: "p".to_owned(),
            credential,
            token_profile: Some("guest".to_owned()),
        };
        Participants::new(&[settings], &[], |name| (name == "guest").then_some(7)).ok().unwrap()
    }

    fn mint(access_key: &str, kind: TokenKind, uuid: Option<&str>, lifespan_ms: i64) -> String {
        let secret = Secret::new(format!("{access_key}-secret"));
        let key = KeyPair::new(access_key.to_owned(), &secret);
        let minted = key
            .mint(TokenFields { kind, role: "1", uuid, lifespan_ms, nonce: "n".to_owned() }, 1_000);
        minted.token.expose().to_owned()
    }

    fn identify(token: &str, now_ms: i64) -> Result<Arc<Caller>, &'static str> {
        let kind = token::kind_of(token).unwrap();
        let now = jiff::Timestamp::from_millisecond(now_ms).unwrap();
        let identified = participants().identify(token, kind, now, &CredentialAttempt::UNCOUNTED);
        identified.map(|verdict| verdict.caller).map_err(|failure| failure.code().name())
    }

    #[test]
    fn a_token_speaks_for_its_room_and_role_as_long_as_it_lives() {
        let room = mint("old", TokenKind::Room, Some("r"), 5_000);
        let caller = identify(&room, 2_000).unwrap();
        assert_eq!(caller.name, "room/r");
        assert_eq!(caller.rights.profile, Some(7));
        assert_eq!(caller.rights.only, Some(Target::Room(RoomId::new("r").unwrap())));
        assert_eq!(caller.rights.role, Some(Role::Writer));
        assert_eq!(identify(&room, 6_000), Err("expired_token"));
        let task = mint("new", TokenKind::Task, Some("t"), 0);
        let caller = identify(&task, 2_000).unwrap();
        assert_eq!(caller.rights.only, Some(Target::Task(TaskId::new("t").unwrap())));
    }

    #[test]
    fn everything_else_is_refused() {
        let room = mint("new", TokenKind::Room, Some("r"), 0);
        for token in [
            mint("gone", TokenKind::Room, Some("r"), 0),
            mint("stranger", TokenKind::Room, Some("r"), 0),
            mint("new", TokenKind::Sdk, None, 0),
            mint("new", TokenKind::Room, None, 0),
            mint("new", TokenKind::Room, Some("a/b"), 0),
            room[..room.len() - 3].to_owned(),
            "NETLESSROOM_".to_owned(),
        ] {
            assert_eq!(identify(&token, 2_000), Err("invalid_token"), "{token}");
        }
    }
}
