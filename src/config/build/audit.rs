//! `[audit]`: where it is recorded who got which token.

use super::{Build, copied, or};
use crate::api::{Access, Operations};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::Written;
use crate::policy::ProfileSettings;
use crate::telemetry::{AuditFile, AuditMode, AuditSettings};

impl Build<'_> {
    /// The audit; `None` without the section, which is warned about where somebody may have tokens.
    pub(super) fn audit(
        &mut self,
        raw: Option<raw::Audit>,
        profiles: &[ProfileSettings],
        operations: &Operations,
    ) -> Option<AuditSettings> {
        let path = KeyPath::of(&["audit"]);
        let Some(raw) = raw else {
            if !self.embedded && !self.report.was_removed(&path) && mints(profiles, operations) {
                let why = "is left out, and callers may have tokens: of one that leaks nobody can \
                           tell who got it; write for example file = \"./audit.jsonl\" in [audit]";
                self.report.warn(&path, why);
            }
            return None;
        };
        let mode = or(raw.mode, AuditMode::default());
        let sync = copied(&raw.sync, false);
        let Some(Written(place)) = raw.file else {
            self.report.missing(&path.key("file"), "\"stdout\", or the path of a file");
            return None;
        };
        let file = match place.0 {
            AuditFile::Path(path) => AuditFile::Path(self.files.path(&path)),
            AuditFile::Stdout => AuditFile::Stdout,
        };
        if sync && (mode != AuditMode::Required || file == AuditFile::Stdout) {
            let why = "is only for a file with mode = \"required\": nothing waits for the disk \
                       otherwise";
            self.report.wrong(&path.key("sync"), why);
        }
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
