//! What is recorded: the log, the access line of each request, metrics, the audit of each token.
//!
//! Nothing here ever holds a query string, a body, a token or a key.

mod access;
mod audit;
mod decision;
mod log;
mod member;
mod metrics;
mod recorder;
mod writer;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::text::variable;

pub use access::{AccessLine, Sink, UpstreamPart};
pub use audit::{
    AUDIT, AuditFile, AuditLog, AuditMode, AuditRecorder, AuditSettings, OperatorAction,
    TokenFingerprint, TokenRecord, WRITE_TIMEOUT,
};
pub use decision::{DecisionPart, WouldPart};
pub use log::{LogError, Logs, init};
pub use metrics::{
    LINES, Metrics, OperationCounts, Outcome, PROCESS, ProfileCounts, REQUESTS, ShadowCounts,
    ShadowResult, memory_limit,
};
pub use recorder::{Recorder, WallClock};

/// What is logged and how, from the `[log]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The least level of the gateway's own events.
    pub level: LogLevel,
    /// How lines look.
    pub format: Format,
    /// Where access lines go.
    pub access: AccessLog,
}

/// The level of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Only what needs someone.
    Error,
    /// And what may need someone.
    Warn,
    /// And what happened.
    #[default]
    Info,
    /// And why.
    Debug,
    /// Everything; still no secret.
    Trace,
}

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where access lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Standard output.
    #[default]
    Stdout,
    /// A file, appended to; opened anew on reload, so that it can be rotated.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// Whether what goes to a terminal has colours: unless `NO_COLOR` says otherwise, as
/// <https://no-color.org> asks for.
fn has_colors(terminal: bool) -> bool {
    terminal && variable("NO_COLOR").is_none_or(|value| value.is_empty())
}
