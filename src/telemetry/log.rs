//! The gateway's own events: `tracing` to standard error, text on a terminal and JSON elsewhere.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use super::{Format, Level, Settings};

/// The running log, whose level can be changed.
pub struct Logs(reload::Handle<Targets, Registry>);

impl Level {
    const fn as_tracing(self) -> tracing::Level {
        match self {
            Self::Error => tracing::Level::ERROR,
            Self::Warn => tracing::Level::WARN,
            Self::Info => tracing::Level::INFO,
            Self::Debug => tracing::Level::DEBUG,
            Self::Trace => tracing::Level::TRACE,
        }
    }
}

impl Format {
    /// Whether lines are text, where `terminal` says what they go to.
    #[must_use]
    pub const fn is_text(self, terminal: bool) -> bool {
        match self {
            Self::Auto => terminal,
            Self::Text => true,
            Self::Json => false,
        }
    }
}

/// Starts the log of this process.
///
/// # Errors
/// When one is running already.
pub fn init(settings: &Settings) -> Result<Logs, tracing_subscriber::util::TryInitError> {
    let (filter, handle) = reload::Layer::new(targets(settings.level));
    let terminal = stderr().is_terminal();
    let lines = if settings.format.is_text(terminal) {
        fmt::layer().with_writer(stderr).with_ansi(terminal).with_target(false).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(stderr).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(Logs(handle))
}

impl Logs {
    /// Sets another level.
    pub fn set_level(&self, level: Level) {
        // It fails only when the subscriber is gone, and then there is nobody to tell.
        _ = self.0.reload(targets(level));
    }
}

/// The level is that of the gateway's own events: what libraries say below a warning may hold
/// header fields, and so secrets.
fn targets(level: Level) -> Targets {
    Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("whiteboard_gateway", level.as_tracing())
}
