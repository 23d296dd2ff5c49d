//! `[[denied]]`: whiteboard tokens that are taken no more, though they hold.

use super::Build;
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::Written;
use crate::token::{DeniedToken, ProjectCredential, ProjectSettings};

impl Build<'_> {
    pub(super) fn denied(
        &mut self,
        raw: Vec<raw::Denied>,
        projects: &[ProjectSettings],
    ) -> Vec<DeniedToken> {
        let section = KeyPath::of(&["denied"]);
        let denied = raw.into_iter().enumerate().filter_map(|(index, raw)| {
            let path = section.index(index);
            self.denied_token(&path, raw, projects)
        });
        denied.collect()
    }

    fn denied_token(
        &mut self,
        path: &KeyPath,
        raw: raw::Denied,
        projects: &[ProjectSettings],
    ) -> Option<DeniedToken> {
        match (raw.access_key, raw.nonce, raw.sha256) {
            (Some(Written(access_key)), Some(Written(nonce)), None) => {
                if !knows(projects, &access_key) {
                    let why = "is of no project here: no token that it signed is taken anyway";
                    self.report.warn(&path.key("access_key"), why);
                }
                Some(DeniedToken::Nonce { access_key, nonce })
            }
            (None, None, Some(Written(hash))) => Some(DeniedToken::Sha256(hash)),
            _ => {
                let keys = ["access_key", "nonce", "sha256"].map(|key| path.key(key));
                if !keys.iter().any(|key| self.report.was_removed(key)) {
                    let why = "must have access_key and nonce, or sha256 alone: those of the token, \
                               as the audit and `token inspect` write them";
                    self.report.wrong(path, why);
                }
                None
            }
        }
    }
}

/// Whether an access key is one of a project; where a project is wrong, nobody can say.
fn knows(projects: &[ProjectSettings], access_key: &str) -> bool {
    projects.iter().any(|project| match &project.credential {
        ProjectCredential::Keys(keys) => keys.iter().any(|key| key.access_key == access_key),
        ProjectCredential::SdkToken(_) => false,
    })
}
