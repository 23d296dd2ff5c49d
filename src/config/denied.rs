//! `[[denied]]`: whiteboard tokens that are taken no more, though they hold.

use super::build::Build;
use super::file::section;
use crate::token::{DeniedToken, ProjectCredential, ProjectSettings, TokenHash};

section! {
    pub(super) struct DeniedSection {
        /// The access key that signed the token.
        access_key: Option<String>;
        /// The nonce in it, which the access log has as well.
        nonce: Option<String>;
        /// The SHA-256 of its canonical text, in hex: the token is denied in every encoding, and
        /// under either prefix.
        sha256: Option<TokenHash>;
    }
}

impl Build<'_> {
    /// A token; `None` when it is not clear which, which is reported.
    pub(super) fn denied(
        &mut self,
        DeniedSection { path, access_key, nonce, sha256 }: DeniedSection,
        projects: &[ProjectSettings],
    ) -> Option<DeniedToken> {
        match (access_key, nonce, sha256) {
            (Some(access_key), Some(nonce), None) => {
                let why = "is of no project here: no token that it signed is taken anyway";
                self.warn_if(!knows(projects, &access_key), &path.key("access_key"), why);
                Some(DeniedToken::Nonce { access_key, nonce })
            }
            (None, None, Some(hash)) => Some(DeniedToken::Sha256(hash)),
            _ => {
                let broken = self.any_removed(&path, &["access_key", "nonce", "sha256"]);
                let why = "must have access_key and nonce, or sha256 alone: those of the token, \
                           as the audit and `token inspect` write them";
                self.wrong_if(!broken, &path, why);
                None
            }
        }
    }
}

/// Whether an access key is one of a project; where a project is wrong, no one can say.
fn knows(projects: &[ProjectSettings], access_key: &str) -> bool {
    projects.iter().any(|project| match &project.credential {
        ProjectCredential::Keys(keys) => keys.iter().any(|key| key.access_key == access_key),
        ProjectCredential::SdkToken(_) => false,
    })
}
