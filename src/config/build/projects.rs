//! `[projects.<name>]`: what opens a whiteboard project.

use std::collections::BTreeMap;

use super::{Build, copied};
use crate::api::TokenKind;
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::Written;
use crate::token::{
    KeySettings, KeyState, Project, ProjectCredential, ProjectSettings, Secret, kind_of,
};

impl Build<'_> {
    pub(super) fn projects(&mut self, raw: BTreeMap<String, raw::Project>) -> Vec<ProjectSettings> {
        let section = KeyPath::of(&["projects"]);
        let projects = raw.into_iter().filter_map(|(name, raw)| {
            let path = section.key(&name);
            let credential = self.project(&path, raw)?;
            let settings = ProjectSettings { name, credential, token_profile: None };
            // The keyring's own checks are the last word.
            if let Err(why) = Project::new(&settings) {
                self.report.wrong(&path, format_args!("cannot be used: {why}"));
            }
            Some(settings)
        });
        projects.collect()
    }

    fn project(&mut self, path: &KeyPath, raw: raw::Project) -> Option<ProjectCredential> {
        match (raw.keys, raw.sdk_token) {
            (Some(keys), None) => self.project_keys(&path.key("keys"), keys),
            (None, Some(token)) => self.sdk_token(&path.key("sdk_token"), token),
            (Some(_), Some(_)) => {
                let why = "has keys and sdk_token: with keys the gateway mints by itself and \
                           needs no SDK token; write one of them";
                self.report.wrong(path, why);
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
        if before.iter().any(|key| key.access_key == access_key) {
            self.report.wrong(path, "is that of another key of this project");
            return None;
        }
        Some(access_key)
    }

    fn sdk_token(&mut self, path: &KeyPath, raw: raw::Secret) -> Option<ProjectCredential> {
        let token: Secret = self.secret(path, raw)?;
        if kind_of(token.expose()) != Some(TokenKind::Sdk) {
            self.report.wrong(path, "is no SDK token: those begin with NETLESSSDK_");
            return None;
        }
        Some(ProjectCredential::SdkToken(token))
    }
}
