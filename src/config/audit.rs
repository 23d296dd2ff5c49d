//! `[audit]`: where it is recorded who got which token.

use super::build::Build;
use super::file::{KeyPath, Parse, ValueError, not_among, section, word_types};
use super::log;
use crate::api::{Access, Operations};
use crate::policy::ProfileSettings;
use crate::telemetry::{AuditFile, AuditMode, AuditSettings};

section! {
    pub(super) struct AuditSection {
        /// Where records go: `"stdout"`, or the path of a file, with a `/` in it.
        file: Option<AuditFile> | "\"stdout\", or the path of a file";
        /// `"best_effort"`: a token is issued even if its record is lost, and lost records are
        /// counted. `"required"`: no record, no token.
        mode: AuditMode = "best_effort";
        /// With a file and `"required"`: whether a record counts as written only when the disk has
        /// it.
        sync: bool = false;
    }
}

word_types!(AuditMode);

impl Parse for AuditFile {
    const ALLOWED: &'static str = "\"stdout\", or the path of a file, with a `/` in it";
    const PATTERN: &'static str = "^(stdout|.*/.*[^/])$";

    fn text(text: &str) -> Result<Self, ValueError> {
        match text {
            "stdout" => Ok(Self::Stdout),
            _ => log::path(text).map(Self::Path).ok_or_else(|| not_among(text, ["stdout"])),
        }
    }
}

impl Build<'_> {
    /// The audit; `None` without the section, which is warned about where someone may have tokens.
    pub(super) fn audit(
        &mut self,
        section: Option<AuditSection>,
        profiles: &[ProfileSettings],
        operations: &Operations,
    ) -> Option<AuditSettings> {
        let path = KeyPath::of(&["audit"]);
        let Some(AuditSection { file, mode, sync, .. }) = section else {
            let why = "is left out, and callers may have tokens: of one that leaks nobody can \
                       tell who got it; write for example file = \"./audit.jsonl\" in [audit]";
            let lost = !self.embedded && !self.was_removed(&path) && mints(profiles, operations);
            self.warn_if(lost, &path, why);
            return None;
        };
        let file = match file? {
            AuditFile::Path(path) => AuditFile::Path(self.files.path(&path)),
            AuditFile::Stdout => AuditFile::Stdout,
        };
        let waits = mode == AuditMode::Required && file != AuditFile::Stdout;
        let why = "is only for a file with mode = \"required\": nothing waits for the disk \
                   otherwise";
        self.wrong_if(sync && !waits, &path.key("sync"), why);
        Some(AuditSettings { file, mode, sync })
    }
}

/// Whether the callers of any profile may have tokens.
fn mints(profiles: &[ProfileSettings], operations: &Operations) -> bool {
    let mut rows = operations.iter().map(|(_, row)| row);
    rows.any(|row| {
        let granted = |profile: &ProfileSettings| profile.granted_by(row).is_some();
        matches!(row.access, Access::Mints(_)) && profiles.iter().any(granted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_to_a_file_or_to_standard_output() {
        assert!(matches!(AuditFile::text("stdout"), Ok(AuditFile::Stdout)));
        assert!(AuditFile::text("off").is_err());
    }
}
