//! `[projects.<name>]`: what opens a whiteboard project.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};

use super::profiles::is_too_high;
use super::{Build, Names, copied};
use crate::api::{Access, Operations, Role, TokenKind};
use crate::config::place::KeyPath;
use crate::config::placeholder::is_placeholder;
use crate::config::raw;
use crate::config::value::Written;
use crate::policy::{ProfileSettings, Reach};
use crate::telemetry::Fingerprint;
use crate::token::{
    Claims, KeySettings, KeyState, Project, ProjectCredential, ProjectSettings, Secret, kind_of,
};

/// A token that ends within a week is worth a word.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Build<'_> {
    pub(super) fn projects(
        &mut self,
        raw: BTreeMap<String, raw::Project>,
        names: &Names,
        profiles: &[ProfileSettings],
        operations: &Operations,
    ) -> Vec<ProjectSettings> {
        let section = KeyPath::of(&["projects"]);
        let mut seen = HashMap::new();
        let projects = raw.into_iter().filter_map(|(name, mut raw)| {
            let path = section.key(&name);
            let token_profile = self.token_profile(&path, &name, &mut raw, names, profiles);
            if let Some(shown) = &token_profile {
                self.check_participants(&path.key("token_profile"), shown, profiles, operations);
            }
            let role = profiles.iter().filter(|one| one.project == name).map(|one| one.role).max();
            let credential = self.project(&path, raw, role)?;
            self.check_owner(&path, &credential, &mut seen);
            let settings = ProjectSettings { name, credential, token_profile };
            // The keyring's own checks are the last word.
            if let Err(why) = Project::new(&settings) {
                self.report.wrong(&path, format_args!("cannot be used: {why}"));
            }
            Some(settings)
        });
        projects.collect()
    }

    /// The profile of callers that show a Room or Task token of this project.
    fn token_profile(
        &mut self,
        path: &KeyPath,
        project: &str,
        raw: &mut raw::Project,
        names: &Names,
        profiles: &[ProfileSettings],
    ) -> Option<String> {
        let name = raw.token_profile.take()?;
        let path = path.key("token_profile");
        if raw.sdk_token.is_some() && raw.keys.is_none() {
            let why = "takes keys: without them the gateway cannot check a token of this project";
            self.report.wrong(&path, why);
            return None;
        }
        let name = self.refer(&path, Some(name), &names.profiles)?;
        let profile = profiles.iter().find(|profile| profile.name == name);
        // An empty one is reported with the profile.
        if let Some(profile) = profile.filter(|one| !one.project.is_empty())
            && profile.project != project
        {
            let why = "is a profile of another project: a token of this one would open that one";
            self.report.wrong(&path, why);
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
            let wider: Vec<&str> = operations
                .iter()
                .map(|(_, row)| row)
                .filter(|row| {
                    shown.granted_to(row, Reach::OwnToken).is_some()
                        && !is_too_high(row, minter)
                        && !is_too_high(row, shown)
                        && minter.granted_by(row).is_none()
                })
                .map(|row| &*row.name)
                .collect();
            if !wider.is_empty() {
                let why = format_args!(
                    "is wider than `profiles.{}`, whose callers mint such tokens and have by them \
                     what they have not themselves: {}",
                    minter.name,
                    wider.join(", ")
                );
                self.report.warn(path, why);
            }
        }
        self.check_wide(path, shown, Reach::OwnToken, operations);
    }

    /// An access key is of one project: whose profile would a token have that it signed? The service
    /// signs by that of an SDK token what it mints for whoever shows it.
    fn check_owner(
        &mut self,
        path: &KeyPath,
        credential: &ProjectCredential,
        seen: &mut HashMap<Fingerprint, KeyPath>,
    ) {
        let mut owned_by = |access_key: &str, path: KeyPath| {
            let other = seen.insert(Fingerprint::of(access_key), path)?;
            let why = "an access key is of one project, or nobody could say whose a token is that \
                       it signed";
            Some(format!("is that of `{other}`: {why}"))
        };
        match credential {
            ProjectCredential::Keys(keys) => {
                for (index, key) in keys.iter().enumerate() {
                    let path = path.key("keys").index(index);
                    if let Some(why) = owned_by(&key.access_key, path.clone()) {
                        self.report.wrong(&path.key("access_key"), why);
                    }
                }
            }
            ProjectCredential::SdkToken(token) => {
                let path = path.key("sdk_token");
                // One that cannot be read is nobody else's either.
                let claims = Claims::read(token.expose());
                let signer = claims.as_ref().map_or_else(|_| token.expose(), Claims::access_key);
                if let Some(why) = owned_by(signer, path.clone()) {
                    self.report.wrong(&path, format_args!("has an access key that {why}"));
                }
            }
        }
    }

    /// `role` is the highest of the profiles that lead to the project.
    fn project(
        &mut self,
        path: &KeyPath,
        raw: raw::Project,
        role: Option<Role>,
    ) -> Option<ProjectCredential> {
        match (raw.keys, raw.sdk_token) {
            (Some(keys), None) => self.project_keys(&path.key("keys"), keys),
            (None, Some(token)) => self.sdk_token(&path.key("sdk_token"), token, role),
            (Some(_), Some(_)) => {
                let why = "stands beside keys: with keys the gateway mints by itself and needs no \
                           SDK token; write one of them";
                self.report.wrong(&path.key("sdk_token"), why);
                None
            }
            (None, None) => {
                let removed = ["keys", "sdk_token"].map(|key| path.key(key));
                if !removed.iter().any(|key| self.report.was_removed(key)) {
                    let why = "has no credential: write keys = [{ access_key, secret_key }], or \
                               sdk_token for one that the console made";
                    self.report.wrong(path, why);
                }
                None
            }
        }
    }

    fn project_keys(
        &mut self,
        path: &KeyPath,
        raw: Vec<raw::ProjectKey>,
    ) -> Option<ProjectCredential> {
        let written = raw.len();
        let mut keys: Vec<KeySettings> = Vec::with_capacity(written);
        for (index, raw) in raw.into_iter().enumerate() {
            let path = path.index(index);
            let state = copied(&raw.state, KeyState::default());
            let secret = match raw.secret_key {
                Some(secret) => self.secret(&path.key("secret_key"), secret),
                None => {
                    self.report.missing(&path.key("secret_key"), "the secret key (SK)");
                    None
                }
            };
            let access = self.access_key(&path.key("access_key"), raw.access_key, &keys);
            if let (Some(access_key), Some(secret_key)) = (access, secret) {
                keys.push(KeySettings { access_key, secret_key, state });
            }
        }
        // What is wrong with a key is told already; how many are active is then not known.
        if keys.len() < written {
            return None;
        }
        if !keys.iter().any(|key| key.state == KeyState::Active) {
            self.report.wrong(path, "has no active key: at least one must sign tokens");
            return None;
        }
        Some(ProjectCredential::Keys(keys))
    }

    fn access_key(
        &mut self,
        path: &KeyPath,
        raw: Option<Written<String>>,
        before: &[KeySettings],
    ) -> Option<String> {
        let Some(Written(access_key)) = raw else {
            self.report.missing(path, "the access key (AK)");
            return None;
        };
        if access_key.is_empty() || !access_key.chars().all(|c| c.is_ascii_graphic()) {
            self.report.wrong(path, "is no access key: it has printable characters and no spaces");
            return None;
        }
        let why = "the service will refuse every request of this project; write the access key \
                   (AK) of your project from the Agora console";
        self.check_placeholder(path, is_placeholder(&access_key), why);
        if before.iter().any(|key| key.access_key == access_key) {
            self.report.wrong(path, "is that of another key of this project");
            return None;
        }
        Some(access_key)
    }

    fn sdk_token(
        &mut self,
        path: &KeyPath,
        raw: raw::Secret,
        needed: Option<Role>,
    ) -> Option<ProjectCredential> {
        let token: Secret = self.secret(path, raw)?;
        if kind_of(token.expose()) != Some(TokenKind::Sdk) {
            self.report.wrong(path, "is no SDK token: those begin with NETLESSSDK_");
            return None;
        }
        // What is doubtful here the service has to judge: it may know better.
        match Claims::read(token.expose()) {
            Err(_) => {
                let why = "cannot be read: the service will hardly take it; copy it from the \
                           console again";
                self.report.warn(path, why);
            }
            Ok(claims) => self.doubt(path, &claims, needed),
        }
        Some(ProjectCredential::SdkToken(token))
    }

    fn doubt(&mut self, path: &KeyPath, claims: &Claims, needed: Option<Role>) {
        if let Some(end) = claims.ends_at_ms() {
            let end = i64::try_from(end).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
            match end.map(|end| (end, end.duration_since(self.now))) {
                Some((end, left)) if left.is_zero() || left.is_negative() => {
                    let why = format!("has ended at {end}: every request that needs it will fail");
                    self.report.warn(path, why);
                }
                Some((end, left)) if left < SOON => {
                    let why = format!("ends at {end}: make another in the console before that");
                    self.report.warn(path, why);
                }
                _ => {}
            }
        }
        if let (Some(role), Some(needed)) = (claims.role(), needed)
            && role < needed
        {
            let why = format!(
                "has the role {role}, and a profile of this project the role {needed}: the \
                 service will refuse what that needs"
            );
            self.report.warn(path, why);
        }
    }
}
