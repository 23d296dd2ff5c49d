//! The keys of a project, and what they mint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{Context, SHA256};
use http::HeaderValue;
use quick_cache::sync::Cache;

use super::acceptance::Acceptance;
use super::issued::{Nonce, NonceKey, nonce};
use super::{
    Claims, KeyPair, KeySettings, KeyState, Minted, ProjectCredential, ProjectSettings, TokenFields,
};
use crate::api::{Role, TokenKind, TokenRequest, is_uuid};
use crate::failure::{Code, Failure};

/// As many rooms are remembered with the key that works for them.
const ROOMS: usize = 100_000;

/// One whiteboard project, ready to mint.
pub struct Project {
    /// Its name in the configuration.
    pub name: String,
    /// Whether the service takes its tokens.
    pub acceptance: Acceptance,
    /// What it is known by where tokens are kept.
    pub(super) id: ProjectId,
    /// A digest of what it mints with.
    identity: [u8; 32],
    held: ProjectKeys,
}

/// Tokens of the gateway itself live ten minutes: clocks of others are wrong by more than one.
pub(super) const INJECTED_LIFESPAN_MS: u64 = 10 * 60 * 1000;

/// One project with one set of keys, as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProjectId(u64);

impl ProjectId {
    fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

enum ProjectKeys {
    /// Key pairs that sign: the active ones, in order.
    Keys {
        active: Vec<Signer>,
        /// What works for a room: a Room token must be signed with the access key that created
        /// the room, and where that is gone only an SDK token is left.
        rooms: Arc<Cache<Box<str>, KeyChoice>>,
    },
    /// A fixed SDK token, and when it ends, if it does: in milliseconds of Unix time.
    Fixed(HeaderValue, Option<u64>),
}

/// A key pair that signs, and what says in a nonce who gets a token.
struct Signer {
    pair: KeyPair,
    nonces: NonceKey,
}

/// The token that a request to the upstream needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Need<'a> {
    /// Its kind.
    pub kind: TokenKind,
    /// Its role.
    pub role: Role,
    /// The room or task.
    pub uuid: Option<&'a str>,
    /// Whether an SDK token will do where the service takes no Room token.
    pub or_sdk: bool,
}

impl Need<'_> {
    /// Whether an SDK token may be tried in place of a Room token: with it, a segment that is
    /// no id (`/v5/rooms/all`) could be anything that the service has at such a path.
    pub(super) fn may_be_sdk(&self) -> bool {
        self.or_sdk && self.kind == TokenKind::Room && self.uuid.is_some_and(is_uuid)
    }
}

/// By what token the upstream is asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyChoice {
    /// One of the kind that is needed, by the key of this place.
    Own(usize),
    /// An SDK token in place of a Room token, by the key of this place.
    Sdk(usize),
}

impl Default for KeyChoice {
    fn default() -> Self {
        Self::Own(0)
    }
}

impl KeyChoice {
    /// The place of the key.
    pub(super) const fn key(self) -> usize {
        match self {
            Self::Own(key) | Self::Sdk(key) => key,
        }
    }

    /// The need as this way meets it.
    pub(super) const fn need<'a>(self, need: &Need<'a>) -> Need<'a> {
        match self {
            Self::Own(_) => *need,
            Self::Sdk(_) => Need { kind: TokenKind::Sdk, uuid: None, ..*need },
        }
    }
}

/// Why a project cannot be made of what the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// No key is active.
    #[error("the project has no active key")]
    NoActiveKey,
    /// The fixed SDK token holds what no header can hold.
    #[error("the SDK token holds bytes that no token has")]
    NoToken,
}

impl Project {
    /// One of those before, with all that it knows of its tokens and rooms, where nothing changed by
    /// which it mints; otherwise a new one.
    ///
    /// # Errors
    /// [`ProjectError`]. The configuration has checked that before.
    pub fn followed_by<'a>(
        mut before: impl Iterator<Item = &'a Arc<Self>>,
        settings: &ProjectSettings,
    ) -> Result<Arc<Self>, ProjectError> {
        let identity = identity(settings);
        match before.find(|before| before.identity == identity) {
            Some(same) => Ok(Arc::clone(same)),
            None => Self::new(settings).map(Arc::new),
        }
    }

    /// Prepares the keys.
    ///
    /// # Errors
    /// [`ProjectError`]. The configuration has checked that before.
    pub fn new(settings: &ProjectSettings) -> Result<Self, ProjectError> {
        let held = match &settings.credential {
            ProjectCredential::Keys(keys) => {
                let signer = |key: &KeySettings| Signer {
                    pair: KeyPair::new(key.access_key.clone(), &key.secret_key),
                    nonces: NonceKey::derive(&key.secret_key),
                };
                let active: Vec<Signer> = signing(keys).map(signer).collect();
                if active.is_empty() {
                    return Err(ProjectError::NoActiveKey);
                }
                let rooms = Arc::new(Cache::new(ROOMS));
                ProjectKeys::Keys { active, rooms }
            }
            ProjectCredential::SdkToken(token) => {
                let value = HeaderValue::from_str(token.expose());
                // One that cannot be read here is the service's to judge.
                let end = Claims::read(token.expose()).ok().and_then(|claims| claims.ends_at_ms());
                ProjectKeys::Fixed(sensitive(value.map_err(|_| ProjectError::NoToken)?), end)
            }
        };
        let (name, acceptance) = (settings.name.clone(), Acceptance::default());
        Ok(Self { name, acceptance, id: ProjectId::next(), identity: identity(settings), held })
    }

    /// Mints what a caller was granted, with a nonce that says who that is; `caller` is the number
    /// that stays its own. `None` when only the upstream can (a fixed SDK token).
    ///
    /// # Errors
    /// `forbidden` for an access key that is not one of the project's, or for an SDK token where
    /// the project has no key; `internal` when there is no randomness.
    pub fn mint(
        &self,
        granted: &TokenRequest,
        uuid: Option<&str>,
        caller: u64,
        now_ms: u64,
    ) -> Result<Option<Minted<'_>>, Failure> {
        let ProjectKeys::Keys { active, .. } = &self.held else {
            if granted.kind == TokenKind::Sdk {
                let why = "this project has a fixed SDK token and no keys: it mints no SDK tokens";
                return Err(Failure::fixed(Code::Forbidden, why));
            }
            return Ok(None);
        };
        let key = match &granted.access_key {
            None => self.preferred(uuid.filter(|_| granted.kind == TokenKind::Room)).key(),
            Some(named) => {
                active.iter().position(|key| key.pair.access_key == *named).ok_or_else(|| {
                    let why =
                        "the access key in the body is none of this caller's project; leave it out";
                    Failure::fixed(Code::Forbidden, why)
                })?
            }
        };
        let lifespan_ms = i64::try_from(granted.lifespan.to_wire()).unwrap_or(i64::MAX);
        let TokenRequest { kind, role, .. } = *granted;
        let Signer { pair, nonces } = self.signer(key)?;
        let nonce = Nonce::mint(nonces, kind, caller, now_ms)?.to_string();
        Ok(Some(
            pair.mint(TokenFields { kind, role: role.digit(), uuid, lifespan_ms, nonce }, now_ms),
        ))
    }

    /// When the fixed SDK token ends, in milliseconds of Unix time; `None` for a project with keys
    /// and for a token without an end.
    pub const fn ends_at_ms(&self) -> Option<u64> {
        match &self.held {
            ProjectKeys::Fixed(_, end) => *end,
            ProjectKeys::Keys { .. } => None,
        }
    }

    pub(super) fn fixed(&self) -> Option<&HeaderValue> {
        match &self.held {
            ProjectKeys::Fixed(token, _) => Some(token),
            ProjectKeys::Keys { .. } => None,
        }
    }

    pub(super) fn active_keys(&self) -> usize {
        match &self.held {
            ProjectKeys::Keys { active, .. } => active.len(),
            ProjectKeys::Fixed(..) => 0,
        }
    }

    /// The way to try first: the one that worked for this room before.
    pub(super) fn preferred(&self, room: Option<&str>) -> KeyChoice {
        match (&self.held, room) {
            (ProjectKeys::Keys { rooms, .. }, Some(room)) => rooms.get(room).unwrap_or_default(),
            _ => KeyChoice::default(),
        }
    }

    pub(super) fn remember(&self, room: &str, way: KeyChoice) {
        if let ProjectKeys::Keys { rooms, .. } = &self.held {
            rooms.insert(room.into(), way);
        }
    }

    /// A token of each key that signs, or the fixed one: whoever asks whether the service takes a
    /// project's tokens wants to know it of all of them.
    ///
    /// # Errors
    /// `internal` when there is no randomness.
    pub fn token_of_each_key(
        &self,
        need: &Need<'_>,
        now_ms: u64,
    ) -> Result<Vec<HeaderValue>, Failure> {
        match self.fixed() {
            Some(fixed) => Ok(vec![fixed.clone()]),
            None => (0..self.active_keys()).map(|key| self.injected(key, need, now_ms)).collect(),
        }
    }

    /// A new token by which the gateway itself asks the service.
    pub(super) fn injected(
        &self,
        key: usize,
        need: &Need<'_>,
        now_ms: u64,
    ) -> Result<HeaderValue, Failure> {
        // Ten minutes fit into an i64.
        #[allow(clippy::cast_possible_wrap, reason = "a constant that fits")]
        let minted = self.sign(key, need, INJECTED_LIFESPAN_MS as i64, now_ms)?;
        let value = HeaderValue::from_str(minted.token.expose());
        let odd = |_| Failure::fixed(Code::Internal, "a minted token is no header value");
        value.map(sensitive).map_err(odd)
    }

    fn signer(&self, key: usize) -> Result<&Signer, Failure> {
        let signer = match &self.held {
            ProjectKeys::Keys { active, .. } => active.get(key),
            ProjectKeys::Fixed(..) => None,
        };
        signer.ok_or_else(|| Failure::fixed(Code::Internal, "there is no such key"))
    }

    /// Signs a token of the gateway's own.
    fn sign(
        &self,
        key: usize,
        need: &Need<'_>,
        lifespan_ms: i64,
        now_ms: u64,
    ) -> Result<Minted<'_>, Failure> {
        let Signer { pair, .. } = self.signer(key)?;
        Ok(pair.mint(
            TokenFields {
                kind: need.kind,
                role: need.role.digit(),
                uuid: need.uuid,
                lifespan_ms,
                nonce: nonce()?,
            },
            now_ms,
        ))
    }
}

fn signing(keys: &[KeySettings]) -> impl Iterator<Item = &KeySettings> {
    keys.iter().filter(|key| key.state == KeyState::Active)
}

/// A digest of what a project mints with, which tells one from another and nothing of its secrets.
fn identity(settings: &ProjectSettings) -> [u8; 32] {
    let mut digest = Context::new(&SHA256);
    let mut add = |text: &str| {
        digest.update(&text.len().to_be_bytes());
        digest.update(text.as_bytes());
    };
    add(&settings.name);
    match &settings.credential {
        ProjectCredential::Keys(keys) => signing(keys).for_each(|key| {
            add(&key.access_key);
            add(key.secret_key.expose());
        }),
        ProjectCredential::SdkToken(token) => add(token.expose()),
    }
    let mut identity = [0; 32];
    identity.copy_from_slice(digest.finish().as_ref());
    identity
}

/// Marked so that no library prints it.
fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Lifespan;
    use crate::token::{Claims, Nonce, Secret};

    fn project(states: &[KeyState]) -> Project {
        let key = |(index, state): (usize, &KeyState)| KeySettings {
            access_key: format!("AK{index}"),
            secret_key: Secret::new(format!("SK{index}")),
            state: *state,
        };
        let keys = states.iter().enumerate().map(key).collect();
        let credential = ProjectCredential::Keys(keys);
        Project::new(&ProjectSettings { name: "p".to_owned(), credential, token_profile: None })
            .ok()
            .unwrap()
    }

    fn request(access_key: Option<&str>) -> TokenRequest {
        TokenRequest {
            kind: TokenKind::Room,
            role: Role::Reader,
            lifespan: Lifespan::Millis(5_000),
            access_key: access_key.map(str::to_owned),
        }
    }

    fn access_key(project: &Project, asked: Option<&str>) -> Result<String, String> {
        let minted = project.mint(&request(asked), Some("r"), 7, 1_000);
        let minted = minted.map_err(|failure| failure.code().name().to_owned())?.unwrap();
        assert_eq!(minted.expire_at_ms, Some(6_000));
        let nonce = Nonce::read(&minted.nonce).unwrap();
        assert_eq!((nonce.kind(), nonce.minted_at()), (Some(TokenKind::Room), 1));
        Ok(Claims::read(minted.token.expose()).unwrap().access_key().to_owned())
    }

    #[test]
    fn the_first_active_key_signs_unless_another_is_named() {
        let project = project(&[KeyState::VerifyOnly, KeyState::Active, KeyState::Active]);
        assert_eq!(access_key(&project, None).as_deref(), Ok("AK1"));
        assert_eq!(access_key(&project, Some("AK2")).as_deref(), Ok("AK2"));
        assert_eq!(access_key(&project, Some("AK0")), Err("forbidden".to_owned()));
    }

    #[test]
    fn the_key_that_works_for_a_room_is_remembered() {
        let project = project(&[KeyState::Active, KeyState::Active]);
        project.remember("r", KeyChoice::Own(1));
        assert_eq!(access_key(&project, None).as_deref(), Ok("AK1"));
    }

    #[test]
    fn a_project_with_a_fixed_token_mints_nothing_itself() {
        let credential = ProjectCredential::SdkToken(Secret::new("NETLESSSDK_x".to_owned()));
        let settings = ProjectSettings { name: "p".to_owned(), credential, token_profile: None };
        let project = Project::new(&settings).ok().unwrap();
        assert!(project.mint(&request(None), Some("r"), 7, 0).is_ok_and(|minted| minted.is_none()));
        let sdk = TokenRequest { kind: TokenKind::Sdk, ..request(None) };
        assert_eq!(project.mint(&sdk, None, 7, 0).err().map(|f| f.code()), Some(Code::Forbidden));
        assert_eq!(project.ends_at_ms(), None, "what cannot be read is the service's to judge");
    }

    #[test]
    fn a_fixed_token_is_known_by_its_end() {
        let pair = KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()));
        let ends = |lifespan_ms| {
            let nonce = nonce().unwrap();
            let minted = pair.mint(
                TokenFields { kind: TokenKind::Sdk, role: "0", uuid: None, lifespan_ms, nonce },
                1_000,
            );
            let credential = ProjectCredential::SdkToken(minted.token);
            let settings =
                ProjectSettings { name: "p".to_owned(), credential, token_profile: None };
            Project::new(&settings).ok().unwrap().ends_at_ms()
        };
        assert_eq!(ends(5_000), Some(6_000));
        assert_eq!(ends(0), None);
    }
}
