//! The configuration: a TOML file and the environment in, the settings of each module out.
//!
//! What the file says (`raw`) and what a module needs are two types; the second is built once,
//! here, and no module imports this one. Everything that is wrong is told at once, each with its
//! file, line and key, and never with the value of a string: a secret may stand anywhere.

mod admin;
mod audit;
mod body;
mod budgets;
mod build;
mod callers;
mod certificates;
mod claim;
mod command;
mod cors;
mod denied;
mod egress;
mod errors;
mod file;
mod issuers;
mod limits;
mod listen;
mod log;
mod number;
mod operations;
mod operators;
mod otlp;
mod placeholder;
mod profiles;
mod projects;
mod reminders;
mod schema;
mod secret;
mod sections;
mod show;
mod socket_file;
mod store;
#[cfg(test)]
mod tests;
mod tls;
mod upstream;
mod value;

use std::path::{Path, PathBuf};

use crate::text;

pub use command::end_commands;
pub use file::location::Location;
pub use file::report::{Diagnostic, LoadError};
pub use schema::schema;
pub use sections::Settings;
pub use show::{EffectiveConfiguration, show};

use file::{Files, FromTree as _, KeyPath, Node, Report, document};
use sections::WholeFile;

/// Where [`search`] looks.
const USUAL: [&str; 2] = ["gateway.toml", "/etc/whiteboard-gateway/gateway.toml"];

/// The configuration of `serve --sandbox`.
pub const SANDBOX: Source =
    Source::Embedded { name: "sandbox.toml", text: include_str!("../../config/sandbox.toml") };

/// A configuration that was read.
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// What is doubtful about it.
    pub warnings: Vec<Diagnostic>,
    /// Every file that was read: a change of any of them is a change of the configuration.
    pub files: Vec<PathBuf>,
    /// Twelve hex digits that change with what was read; no secret can be found from them.
    pub version: String,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A text of ours. What no one could change about it is not warned about.
    Embedded {
        /// What messages call it.
        name: &'static str,
        /// The TOML.
        text: &'static str,
    },
}

/// There is no configuration in the usual places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no configuration: neither {} in this directory nor {}. {}", USUAL[0], USUAL[1],
    self.hint()
)]
pub struct SearchError;

impl SearchError {
    /// What to do instead.
    pub const fn hint(&self) -> &'static str {
        "Name one with --config FILE, or try the gateway without any: --sandbox"
    }
}

/// The configuration in the usual places: `gateway.toml` in the working directory, then
/// `/etc/whiteboard-gateway/gateway.toml`.
///
/// # Errors
/// [`SearchError`] says what to do instead.
pub fn search() -> Result<PathBuf, SearchError> {
    USUAL.iter().map(PathBuf::from).find(|path| path.is_file()).ok_or(SearchError)
}

/// The variables of this process.
pub fn environment() -> Vec<(String, String)> {
    text::variables()
}

/// Reads, merges and checks a configuration. Starts nothing.
///
/// # Errors
/// [`LoadError`] lists everything that is wrong.
pub fn load(source: &Source, environment: &[(String, String)]) -> Result<Loaded, LoadError> {
    load_at(source, environment, jiff::Timestamp::now())
}

fn load_at(
    source: &Source,
    environment: &[(String, String)],
    now: jiff::Timestamp,
) -> Result<Loaded, LoadError> {
    let mut report = Report::new(source.name());
    let mut files = Files::new(source.directory());
    let Some(settings) = settings(source, environment, now, &mut report, &mut files) else {
        return Err(report.into_errors());
    };
    let warnings = report.finish()?;
    let (files, version) = files.finish();
    Ok(Loaded { settings, warnings, files, version })
}

/// The settings, as far as they can be made; `None` when there is nothing to make them of.
fn settings(
    source: &Source,
    environment: &[(String, String)],
    now: jiff::Timestamp,
    report: &mut Report,
    files: &mut Files,
) -> Option<Settings> {
    let text = source.read(report, files)?;
    let tree = document::merge(&text, environment, report, files)?;
    let sections = WholeFile::read(&Node::new(&tree, KeyPath::default()), report)?;
    let embedded = matches!(source, Source::Embedded { .. });
    let sandbox = *source == SANDBOX;
    let mut build = build::Build { report, files, environment, embedded, sandbox, now };
    build.settings(sections)
}

impl Source {
    /// What messages call it.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Embedded { name, .. } => (*name).to_owned(),
        }
    }

    /// What relative paths in it start at.
    fn directory(&self) -> PathBuf {
        match self {
            Self::File(path) => path.parent().map(Path::to_owned).unwrap_or_default(),
            Self::Embedded { .. } => PathBuf::new(),
        }
    }

    fn read(&self, report: &mut Report, files: &mut Files) -> Option<String> {
        let path = match self {
            Self::File(path) => path,
            Self::Embedded { text, .. } => {
                files.hash(text.as_bytes());
                return Some((*text).to_owned());
            }
        };
        let location = Location::File(self.name());
        match files.read(path) {
            Ok(bytes) => match text::decode(&bytes) {
                Ok(text) => return Some(text.to_owned()),
                Err(why) => report.wrong_at(location, format!("this file {why}"), None),
            },
            Err(why) => {
                let hint = "name a file that this user may read: --config FILE";
                let why = format!("this file cannot be read: {why}");
                report.wrong_at(location, why, Some(hint));
            }
        }
        None
    }
}
