//! `[projects.<name>]`: what opens a whiteboard project.

use std::collections::HashMap;

use jiff::SignedDuration;

use super::build::{Build, DeclaredNames};
use super::file::{KeyPath, section, word_types};
use super::placeholder::is_placeholder;
use super::profiles::is_too_high;
use super::secret::SecretSource;
use crate::api::{Access, Operation, Operations, Role, TokenKind};
use crate::clock::timestamp;
use crate::policy::{ProfileSettings, Reach};
use crate::telemetry::TokenFingerprint;
use crate::token::{
    self, Claims, KeySettings, KeyState, ProjectCredential, ProjectSettings, kind_of,
};

section! {
    pub(super) struct ProjectSection {
        keys: Option<Vec<ProjectKey>>;
        /// An SDK token from the console, a secret; the service then mints the other tokens.
        sdk_token: Option<SecretSource>;
        /// The profile, of this project, of callers that show a Room or Task token signed by one of
        /// the `keys` instead of an API key. Such a token is valid for its own room or task, with
        /// its own role, as long as it lives, and mints no other tokens. A family in `allow` grants
        /// it only operations on a room, so name `conversions.get` and the like. An SDK token is
        /// never a credential.
        token_profile: Option<String>;
    }
}

section! {
    pub(super) struct ProjectKey ("a table such as { access_key = \"…\", secret_key = { env = \"NAME\" } }") {
        /// An access key (AK) from the console.
        access_key: Option<String> | "the access key (AK)";
        /// Its secret key (SK), a secret.
        secret_key: Option<SecretSource> | "the secret key (SK)";
        /// `"active"`: signs and verifies tokens. `"verify_only"`: only verifies tokens that it
        /// signed. `"retired"`: neither.
        state: KeyState = "active";
    }
}

word_types!(KeyState);

/// A token that ends within a week is worth a word.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Build<'_> {
    /// A project; `seen` are the access keys of others.
    pub(super) fn project(
        &mut self,
        (name, mut section): (String, ProjectSection),
        names: &DeclaredNames,
        (profiles, operations): (&[ProfileSettings], &Operations),
        seen: &mut HashMap<TokenFingerprint, KeyPath>,
    ) -> Option<ProjectSettings> {
        let path = section.path.clone();
        let token_profile = self.token_profile(&name, &mut section, names, profiles);
        if let Some(shown) = &token_profile {
            self.check_participants(&path.key("token_profile"), shown, profiles, operations);
        }
        let role = profiles.iter().filter(|one| one.project == name).map(|one| one.role).max();
        let credential = self.credential(section, role)?;
        self.check_owner(&path, &credential, seen);
        let settings = ProjectSettings { name, credential, token_profile };
        // The keyring's own checks are the last word.
        if let Err(why) = token::Project::new(&settings) {
            self.wrong(&path, format_args!("cannot be used: {why}"));
        }
        Some(settings)
    }

    /// The profile of callers that show a Room or Task token of this project.
    fn token_profile(
        &mut self,
        project: &str,
        section: &mut ProjectSection,
        names: &DeclaredNames,
        profiles: &[ProfileSettings],
    ) -> Option<String> {
        let name = section.token_profile.take()?;
        let path = section.path.key("token_profile");
        if section.sdk_token.is_some() && section.keys.is_none() {
            let why = "takes keys: without them the gateway cannot check a token of this project";
            self.wrong(&path, why);
            return None;
        }
        let name = self.refer(&path, Some(name), &names.profiles)?;
        let profile = profiles.iter().find(|profile| profile.name == name);
        // An empty one is reported with the profile.
        if let Some(profile) = profile.filter(|one| !one.project.is_empty())
            && profile.project != project
        {
            let why = "is a profile of another project: a token of this one would open that one";
            self.wrong(&path, why);
            return None;
        }
        self.check_rooms(&path, &name, profiles, "a whiteboard token");
        Some(name)
    }

    /// Warns where a Room or Task token gives its holder what those who may mint it have not.
    fn check_participants(
        &mut self,
        path: &KeyPath,
        name: &str,
        profiles: &[ProfileSettings],
        operations: &Operations,
    ) {
        let Some(shown) = profiles.iter().find(|profile| profile.name == name) else { return };
        let mints = |profile: &&ProfileSettings| {
            profile.project == shown.project
                && operations.iter().any(|(_, row)| {
                    let minted =
                        matches!(row.access, Access::Mints(TokenKind::Room | TokenKind::Task));
                    minted && profile.granted_by(row).is_some()
                })
        };
        for minter in profiles.iter().filter(mints) {
            let wider = |row: &&Operation| {
                shown.granted_to(row, Reach::OwnToken).is_some()
                    && !is_too_high(row, minter)
                    && !is_too_high(row, shown)
                    && minter.granted_by(row).is_none()
            };
            let wider = operations.iter().map(|(_, row)| row).filter(wider);
            let wider: Vec<&str> = wider.map(|row| &*row.name).collect();
            let why = format_args!(
                "is wider than `profiles.{}`, whose callers mint such tokens and have by them \
                 what they have not themselves: {}",
                minter.name,
                wider.join(", ")
            );
            self.warn_if(!wider.is_empty(), path, why);
        }
        self.check_wide(path, shown, Reach::OwnToken, operations);
    }

    /// An access key is of one project: whose profile would a token have that it signed? The service
    /// signs by that of an SDK token what it mints for whoever shows it.
    fn check_owner(
        &mut self,
        path: &KeyPath,
        credential: &ProjectCredential,
        seen: &mut HashMap<TokenFingerprint, KeyPath>,
    ) {
        let mut owned_by = |access_key: &str, path: KeyPath| {
            let other = seen.insert(TokenFingerprint::of(access_key), path)?;
            let why = "an access key is of one project, or nobody could say whose a token is that \
                       it signed";
            Some(format!("is that of `{other}`: {why}"))
        };
        match credential {
            ProjectCredential::Keys(keys) => {
                for (index, key) in keys.iter().enumerate() {
                    let path = path.key("keys").index(index);
                    if let Some(why) = owned_by(&key.access_key, path.clone()) {
                        self.wrong(&path.key("access_key"), why);
                    }
                }
            }
            ProjectCredential::SdkToken(token) => {
                let path = path.key("sdk_token");
                // One that cannot be read is no one else's either.
                let claims = Claims::read(token.expose());
                let signer = claims.as_ref().map_or_else(|_| token.expose(), Claims::access_key);
                if let Some(why) = owned_by(signer, path.clone()) {
                    self.wrong(&path, format_args!("has an access key that {why}"));
                }
            }
        }
    }

    /// `role` is the highest of the profiles that lead to the project.
    fn credential(
        &mut self,
        section: ProjectSection,
        role: Option<Role>,
    ) -> Option<ProjectCredential> {
        let ProjectSection { path, keys, sdk_token, .. } = section;
        match (keys, sdk_token) {
            (Some(keys), None) => self.project_keys(&path.key("keys"), keys),
            (None, Some(token)) => self.sdk_token(&path.key("sdk_token"), token, role),
            (Some(_), Some(_)) => {
                let why = "stands beside keys: with keys the gateway mints by itself and needs no \
                           SDK token; write one of them";
                self.wrong(&path.key("sdk_token"), why);
                None
            }
            (None, None) => {
                let why = "has no credential: write keys = [{ access_key, secret_key }], or \
                           sdk_token for one that the console made";
                self.wrong_if(!self.any_removed(&path, &["keys", "sdk_token"]), &path, why);
                None
            }
        }
    }

    fn project_keys(
        &mut self,
        path: &KeyPath,
        pairs: Vec<ProjectKey>,
    ) -> Option<ProjectCredential> {
        let written = pairs.len();
        let mut keys: Vec<KeySettings> = Vec::with_capacity(written);
        for ProjectKey { path, access_key, secret_key, state } in pairs {
            let secret = secret_key.and_then(|one| self.secret(&path.key("secret_key"), one));
            let access = self.access_key(&path.key("access_key"), access_key, &keys);
            if let (Some(access_key), Some(secret_key)) = (access, secret) {
                keys.push(KeySettings { access_key, secret_key, state });
            }
        }
        // What is wrong with a key is told already; how many are active is then not known.
        if keys.len() < written {
            return None;
        }
        let active = keys.iter().any(|key| key.state == KeyState::Active);
        self.wrong_if(!active, path, "has no active key: at least one must sign tokens");
        active.then_some(ProjectCredential::Keys(keys))
    }

    fn access_key(
        &mut self,
        path: &KeyPath,
        written: Option<String>,
        before: &[KeySettings],
    ) -> Option<String> {
        let access_key = written?;
        if access_key.is_empty() || !access_key.chars().all(|c| c.is_ascii_graphic()) {
            self.wrong(path, "is no access key: it has printable characters and no spaces");
            return None;
        }
        let why = "the service will refuse every request of this project; write the access key \
                   (AK) of your project from the Agora console";
        self.check_placeholder(path, is_placeholder(&access_key), why);
        if before.iter().any(|key| key.access_key == access_key) {
            self.wrong(path, "is that of another key of this project");
            return None;
        }
        Some(access_key)
    }

    fn sdk_token(
        &mut self,
        path: &KeyPath,
        source: SecretSource,
        needed: Option<Role>,
    ) -> Option<ProjectCredential> {
        let token = self.secret(path, source)?;
        if kind_of(token.expose()) != Some(TokenKind::Sdk) {
            self.wrong(path, "is no SDK token: those begin with NETLESSSDK_");
            return None;
        }
        // What is doubtful here the service has to judge: it may know better.
        match Claims::read(token.expose()) {
            Err(_) => {
                let why = "cannot be read: the service will hardly take it; copy it from the \
                           console again";
                self.warn(path, why);
            }
            Ok(claims) => self.doubt(path, &claims, needed),
        }
        Some(ProjectCredential::SdkToken(token))
    }

    fn doubt(&mut self, path: &KeyPath, claims: &Claims, needed: Option<Role>) {
        if let Some(end) = claims.ends_at_ms() {
            match timestamp(end).map(|end| (end, end.duration_since(self.now))) {
                Some((end, left)) if left.is_zero() || left.is_negative() => {
                    let why = format!("has ended at {end}: every request that needs it will fail");
                    self.warn(path, why);
                }
                Some((end, left)) if left < SOON => {
                    let why = format!("ends at {end}: make another in the console before that");
                    self.warn(path, why);
                }
                _ => {}
            }
        }
        if let (Some(role), Some(needed)) = (claims.role(), needed)
            && role < needed
        {
            let why = format_args!(
                "has the role {role}, and a profile of this project the role {needed}: the \
                 service will refuse what that needs"
            );
            self.warn(path, why);
        }
    }
}
