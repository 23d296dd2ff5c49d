//! The tokens that the gateway uses itself: the weakest that will do, kept for a while, and what
//! to try when the upstream does not take one.

use std::cell::RefCell;

use http::HeaderValue;
use quick_cache::Equivalent;
use quick_cache::unsync::Cache as BoundedCache;

use super::keyring::{INJECTED_LIFESPAN_MS, KeyChoice, ProjectId};
use super::{Need, Project};
use crate::api::{Role, TokenKind};
use crate::failure::Failure;

/// Tokens are reused until half of their life, so that one is never used close to its end.
const REUSE_MS: u64 = INJECTED_LIFESPAN_MS / 2;

/// As many are kept by a worker.
const KEPT: usize = 10_000;

/// The tokens that a worker keeps. Not shared, so there is no lock.
pub struct Cache {
    kept: RefCell<BoundedCache<CacheKey, CachedToken>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    project: ProjectId,
    key: usize,
    kind: TokenKind,
    role: Role,
    uuid: Option<Box<str>>,
}

#[derive(PartialEq, Eq, Hash)]
struct CacheKeyRef<'a> {
    project: ProjectId,
    key: usize,
    kind: TokenKind,
    role: Role,
    uuid: Option<&'a str>,
}

struct CachedToken {
    token: HeaderValue,
    reuse_until_ms: u64,
}

impl Equivalent<CacheKey> for CacheKeyRef<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        self.project == key.project
            && self.key == key.key
            && self.kind == key.kind
            && self.role == key.role
            && self.uuid == key.uuid.as_deref()
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self { kept: RefCell::new(BoundedCache::new(KEPT)) }
    }
}

impl Cache {
    /// Forgets the tokens of projects that are not among these, or mint with other keys now.
    pub fn retain<'a>(&self, projects: impl Iterator<Item = &'a Project>) {
        let ids: Vec<ProjectId> = projects.map(|project| project.id).collect();
        self.kept.borrow_mut().retain(|key, _| ids.contains(&key.project));
    }
}

/// What to show the upstream for one request, in the order of trying.
pub struct Credentials<'a> {
    project: &'a Project,
    need: Option<Need<'a>>,
    cache: &'a Cache,
    now_ms: u64,
    preferred: KeyChoice,
    /// How many ways were given up.
    tried: usize,
    /// Whether the last token of this way was minted for this request.
    fresh: bool,
    /// How many tokens were minted for this request.
    pub minted: u8,
}

impl<'a> Credentials<'a> {
    /// The credentials for a need; without one, for an operation that takes no token.
    pub fn new(
        project: &'a Project,
        need: Option<Need<'a>>,
        cache: &'a Cache,
        now_ms: u64,
    ) -> Self {
        let mut preferred = project.preferred(need.as_ref().and_then(room));
        if !need.as_ref().is_some_and(Need::may_be_sdk) {
            preferred = KeyChoice::Own(preferred.key());
        }
        Self { project, need, cache, now_ms, preferred, tried: 0, fresh: false, minted: 0 }
    }

    /// The first token to show; `None` when none is needed.
    ///
    /// # Errors
    /// `internal` when there is no randomness.
    pub fn first(&mut self) -> Result<Option<HeaderValue>, Failure> {
        let Some(need) = self.need else { return Ok(None) };
        if let Some(fixed) = self.project.fixed() {
            return Ok(Some(fixed.clone()));
        }
        if let Some(kept) = self.kept(self.preferred.key(), &self.preferred.need(&need)) {
            return Ok(Some(kept));
        }
        self.mint(self.preferred, &need).map(Some)
    }

    /// The next token, when the upstream did not take the one before: a fresh one, then the next
    /// key of the project, then for a room an SDK token of each key. `None` when there is no other.
    ///
    /// # Errors
    /// `internal` when there is no randomness.
    pub fn another(&mut self) -> Result<Option<HeaderValue>, Failure> {
        let Some(need) = self.need.filter(|_| self.project.fixed().is_none()) else {
            return Ok(None);
        };
        if self.fresh {
            let Some(refused) = self.way(&need) else { return Ok(None) };
            self.forget(refused.key(), &refused.need(&need));
            self.tried += 1;
        }
        match self.way(&need) {
            Some(way) => self.mint(way, &need).map(Some),
            None => Ok(None),
        }
    }

    /// The upstream took the last token: which way that was is remembered for the room.
    pub fn accepted(&self) {
        if self.tried > 0
            && let Some(need) = &self.need
            && let (Some(room), Some(way)) = (room(need), self.way(need))
        {
            self.project.remember(room, way);
        }
    }

    /// The way that is being tried: the preferred one, then the others in order.
    fn way(&self, need: &Need<'_>) -> Option<KeyChoice> {
        let keys = self.project.active_keys();
        let own = (1..=keys).map(|next| KeyChoice::Own((self.preferred.key() + next) % keys));
        let sdk = (0..keys).map(KeyChoice::Sdk).filter(|_| need.may_be_sdk());
        let others = own.chain(sdk).filter(|way| *way != self.preferred);
        std::iter::once(self.preferred).chain(others).nth(self.tried)
    }

    fn mint(&mut self, way: KeyChoice, need: &Need<'_>) -> Result<HeaderValue, Failure> {
        self.fresh = true;
        self.fresh(way.key(), &way.need(need))
    }

    fn kept(&self, key: usize, need: &Need<'_>) -> Option<HeaderValue> {
        let cache = self.cache.kept.borrow();
        let kept = cache.get(&self.reference(key, need))?;
        (self.now_ms < kept.reuse_until_ms).then(|| kept.token.clone())
    }

    fn forget(&self, key: usize, need: &Need<'_>) {
        self.cache.kept.borrow_mut().remove(&self.reference(key, need));
    }

    fn fresh(&mut self, key: usize, need: &Need<'_>) -> Result<HeaderValue, Failure> {
        let token = self.project.injected(key, need, self.now_ms)?;
        self.minted += 1;
        let kept = CachedToken { token: token.clone(), reuse_until_ms: self.now_ms + REUSE_MS };
        let owner = CacheKey {
            project: self.project.id,
            key,
            kind: need.kind,
            role: need.role,
            uuid: need.uuid.map(Into::into),
        };
        self.cache.kept.borrow_mut().insert(owner, kept);
        Ok(token)
    }

    const fn reference<'b>(&self, key: usize, need: &Need<'b>) -> CacheKeyRef<'b> {
        let Need { kind, role, uuid, or_sdk: _ } = *need;
        CacheKeyRef { project: self.project.id, key, kind, role, uuid }
    }
}

fn room<'a>(need: &Need<'a>) -> Option<&'a str> {
    need.uuid.filter(|_| need.kind == TokenKind::Room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Claims, KeySettings, KeyState, ProjectCredential, ProjectSettings, Secret};

    fn project(keys: usize) -> Project {
        let key = |index: usize| KeySettings {
            access_key: format!("AK{index}"),
            secret_key: Secret::new("SK".to_owned()),
            state: KeyState::Active,
        };
        let credential = ProjectCredential::Keys((0..keys).map(key).collect());
        Project::new(&ProjectSettings { name: "p".to_owned(), credential, token_profile: None })
            .ok()
            .unwrap()
    }

    const ROOM: Need<'_> = need("d07bcaf0a17911ea9d7e23232cddf42d");

    const fn need(uuid: &str) -> Need<'_> {
        Need { kind: TokenKind::Room, role: Role::Writer, uuid: Some(uuid), or_sdk: true }
    }

    /// A token's kind and key, in short.
    fn told(token: Option<HeaderValue>) -> String {
        let Some(token) = token else { return "-".to_owned() };
        assert!(token.is_sensitive());
        let claims = Claims::read(token.to_str().unwrap()).unwrap();
        format!("{} {}", claims.kind, claims.access_key())
    }

    #[test]
    fn a_token_is_kept_for_half_of_its_life() {
        let (project, cache) = (project(1), Cache::default());
        let at = |now_ms| {
            Credentials::new(&project, Some(ROOM), &cache, now_ms).first().unwrap().unwrap()
        };
        let first = at(0);
        assert_eq!(at(299_999), first);
        let second = at(300_000);
        assert_ne!(second, first);
        let claims = Claims::read(second.to_str().unwrap()).unwrap();
        assert_eq!(claims.expire_at(), Some("900000"), "ten minutes after it was minted");
        assert_eq!((claims.role(), claims.uuid()), (Some(Role::Writer), ROOM.uuid));
    }

    #[test]
    fn a_refused_token_is_followed_by_a_fresh_one_the_next_key_and_an_sdk_token() {
        let (project, cache) = (project(2), Cache::default());
        told(Credentials::new(&project, Some(ROOM), &cache, 0).first().unwrap());
        let mut tried = Credentials::new(&project, Some(ROOM), &cache, 1);
        let kept = tried.first().unwrap();
        let fresh = tried.another().unwrap();
        assert_ne!(kept, fresh);
        assert_eq!([told(kept), told(fresh)], ["room AK0", "room AK0"]);
        assert_eq!(told(tried.another().unwrap()), "room AK1");
        assert_eq!(told(tried.another().unwrap()), "sdk AK0");
        assert_eq!(told(tried.another().unwrap()), "sdk AK1");
        assert_eq!(told(tried.another().unwrap()), "-");
        assert_eq!(told(tried.another().unwrap()), "-");
    }

    #[test]
    fn a_room_that_only_an_sdk_token_opens_gets_one_at_once_next_time() {
        let (project, cache) = (project(2), Cache::default());
        let mut tried = Credentials::new(&project, Some(ROOM), &cache, 0);
        let mut shown = told(tried.first().unwrap());
        while shown != "sdk AK1" {
            shown = told(tried.another().unwrap());
        }
        tried.accepted();
        let mut later = Credentials::new(&project, Some(ROOM), &cache, 1);
        assert_eq!(told(later.first().unwrap()), "sdk AK1");
        assert_eq!(later.minted, 0, "the one that was taken is kept");
        // Should it fail one day, everything is retried.
        let rest: Vec<String> = (0..5).map(|_| told(later.another().unwrap())).collect();
        assert_eq!(rest, ["sdk AK1", "room AK0", "room AK1", "sdk AK0", "-"]);
    }

    /// Every token that is tried, in short.
    fn tried(project: &Project, need: Need<'_>) -> Vec<String> {
        let cache = Cache::default();
        let mut credentials = Credentials::new(project, Some(need), &cache, 0);
        let first = told(credentials.first().unwrap());
        let others = std::iter::repeat_with(|| told(credentials.another().unwrap()));
        std::iter::once(first).chain(others.take_while(|told| told != "-")).collect()
    }

    #[test]
    fn an_sdk_token_is_tried_for_what_has_the_form_of_a_room_and_nothing_else() {
        let project = project(1);
        for room in [
            "d07bcaf0a17911ea9d7e23232cddf42d",
            "D07BCAF0A17911EA9D7E23232CDDF42D",
            "d07bcaf0-a179-11ea-9d7e-23232cddf42d",
        ] {
            assert_eq!(tried(&project, need(room)), ["room AK0", "sdk AK0"], "{room}");
        }
        for room in [
            "all",
            "search?x=1",
            "d07bcaf0a17911ea9d7e23232cddf42",
            "d07bcaf0a17911ea9d7e23232cddf42dd",
            "d07bcaf0a17911ea9d7e23232cddf42g",
            "d07bcaf0a179-11ea-9d7e-23232cddf42d",
            "{d07bcaf0-a179-11ea-9d7e-23232cddf42d}",
            "urn:uuid:d07bcaf0-a179-11ea-9d7e-23232cddf42d",
            "d07bcaf0-a179-11ea-9d7e-23232cddf4é",
        ] {
            assert_eq!(tried(&project, need(room)), ["room AK0"], "{room}");
        }
        let narrow = Need { or_sdk: false, ..ROOM };
        assert_eq!(tried(&project, narrow), ["room AK0"]);
        // Also where one is known to open the room.
        project.remember(ROOM.uuid.unwrap(), KeyChoice::Sdk(0));
        assert_eq!(tried(&project, narrow), ["room AK0"]);
        assert_eq!(tried(&project, ROOM), ["sdk AK0", "room AK0"]);
    }

    #[test]
    fn the_key_that_was_taken_is_tried_first_next_time() {
        let (project, cache) = (project(2), Cache::default());
        let mut tried = Credentials::new(&project, Some(ROOM), &cache, 0);
        tried.first().unwrap();
        assert_eq!(told(tried.another().unwrap()), "room AK1", "the first one was fresh already");
        tried.accepted();
        let mut later = Credentials::new(&project, Some(ROOM), &cache, 0);
        assert_eq!(told(later.first().unwrap()), "room AK1");
    }

    #[test]
    fn tokens_outlive_a_reload_that_does_not_change_their_project() {
        let keys = |count: usize, secret: &str| {
            let key = |index: usize| KeySettings {
                access_key: format!("AK{index}"),
                secret_key: Secret::new(secret.to_owned()),
                state: KeyState::Active,
            };
            let credential = ProjectCredential::Keys((0..count).map(key).collect());
            ProjectSettings { name: "p".to_owned(), credential, token_profile: None }
        };
        let before = Project::followed_by([].iter(), &keys(2, "SK")).ok().unwrap();
        let cache = Cache::default();
        let first = |project: &Project| {
            Credentials::new(project, Some(ROOM), &cache, 0).first().unwrap().unwrap()
        };
        let token = first(&before);
        before.remember(ROOM.uuid.unwrap(), KeyChoice::Own(1));
        let (retired, profiled) = (keys(3, "SK"), keys(2, "SK"));
        let ProjectCredential::Keys(mut three) = retired.credential else { panic!("no keys") };
        three[2].state = KeyState::Retired;
        let retired = ProjectSettings { credential: ProjectCredential::Keys(three), ..keys(0, "") };
        let profiled = ProjectSettings { token_profile: Some("x".to_owned()), ..profiled };
        for same in [keys(2, "SK"), retired, profiled] {
            let same = Project::followed_by([&before].into_iter(), &same).ok().unwrap();
            cache.retain([&*same].into_iter());
            assert_eq!(
                same.preferred(ROOM.uuid),
                KeyChoice::Own(1),
                "what worked for a room is known"
            );
            let kept = Credentials::new(&same, Some(ROOM), &cache, 0).kept(0, &ROOM);
            assert_eq!(kept.as_ref(), Some(&token));
        }
        for other in [keys(1, "SK"), keys(2, "other"), keys(3, "SK")] {
            let other = Project::followed_by([&before].into_iter(), &other).ok().unwrap();
            assert_eq!(other.preferred(ROOM.uuid), KeyChoice::default());
            assert_ne!(first(&other), token);
        }
        let other = Project::followed_by([].iter(), &keys(2, "SK")).ok().unwrap();
        cache.retain([&*other].into_iter());
        assert_eq!(cache.kept.borrow().len(), 0, "nothing is kept of a project that is gone");
    }

    #[test]
    fn without_a_need_there_is_no_token() {
        let (project, cache) = (project(1), Cache::default());
        let mut none = Credentials::new(&project, None, &cache, 0);
        assert_eq!(told(none.first().unwrap()), "-");
        assert_eq!(told(none.another().unwrap()), "-");
    }
}
