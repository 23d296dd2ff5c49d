//! `[log]`: what is logged, how, and where each request gets its line.

use std::path::PathBuf;

use super::build::Build;
use super::file::{Parse, ValueError, not_among, section, word_types};
use crate::telemetry::{AccessLog, Format, LogLevel, Settings};

section! {
    pub(super) struct LogSection {
        /// `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`.
        level: LogLevel = "info";
        /// `"text"`, `"json"`, or `"auto"`: text on a terminal, JSON elsewhere.
        format: Format = "auto";
        /// Where the access lines go: `"stdout"`, `"off"`, or the path of a file, with a `/` in it.
        access: AccessLog = "stdout";
        /// Whether access lines also have [what the policy was
        /// asked](production.md#the-access-log): the profile, the room, and the role and lifespan
        /// of a token that is asked for. `policy replay` decides more of such lines.
        decision: bool = false;
    }
}

word_types!(LogLevel, Format);

impl Parse for AccessLog {
    const ALLOWED: &'static str = "\"stdout\", \"off\", or the path of a file, with a `/` in it";
    const PATTERN: &'static str = "^(stdout|off|.*/.*[^/])$";

    fn text(text: &str) -> Result<Self, ValueError> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "off" => Ok(Self::Off),
            _ => path(text).map(Self::File).ok_or_else(|| not_among(text, ["stdout", "off"])),
        }
    }
}

/// A path among words: with a slash, so that a mistyped word is not taken for a file.
pub(super) fn path(text: &str) -> Option<PathBuf> {
    let path = text.contains('/') && !text.ends_with('/') && !text.contains('\0');
    path.then(|| PathBuf::from(text))
}

impl Build<'_> {
    pub(super) fn log(&self, section: LogSection) -> Settings {
        let access = match section.access {
            AccessLog::File(path) => AccessLog::File(self.files.path(&path)),
            other => other,
        };
        Settings { level: section.level, format: section.format, access }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_is_no_file() {
        assert!(matches!(AccessLog::text("./access.log"), Ok(AccessLog::File(_))));
        let said = AccessLog::text("stdotu").err().unwrap();
        assert!(said.contains("did you mean \"stdout\"?"), "{said}");
        assert!(AccessLog::text("access.log").is_err());
    }
}
