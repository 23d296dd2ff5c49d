//! The gateway's own events: `tracing` to standard error, text on a terminal and JSON elsewhere.
//!
//! A thread of its own writes them, so that a standard error that takes nothing holds up nothing.

use std::fmt::{self as format, Write as _};
use std::io::{self, IsTerminal as _, Write as _, stderr};
use std::sync::Arc;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use super::access::time;
use super::member::member;
use super::writer::{Destination, LineBatch, LineWriter, WriteError, count_lines};
use super::{Format, LogLevel, Metrics, Settings, has_colors};
use crate::clock::now_ms;

/// How long the last events may take when the log ends.
const LAST: Duration = Duration::from_secs(1);

/// The running log, whose level can be changed.
pub struct Logs {
    filter: reload::Handle<Targets, Registry>,
    queue: LogQueue,
    is_watched: bool,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// One is running already.
    #[error(transparent)]
    Running(#[from] tracing_subscriber::util::TryInitError),
    /// The process may have no more threads.
    #[error("the log has no thread: {0}")]
    Thread(#[from] io::Error),
}

/// Takes events from whichever thread they happen on.
#[derive(Clone)]
struct LogQueue {
    writer: Arc<LineWriter<StandardError>>,
    metrics: Arc<Metrics>,
}

struct StandardError {
    metrics: Arc<Metrics>,
}

/// An event as one line of JSON, whose time has the name and form that it has in access lines.
struct JsonLines;

/// Writes the fields of an event as members.
struct EventMembers<'a>(&'a mut String);

impl LogLevel {
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
    pub const fn is_text(self, terminal: bool) -> bool {
        match self {
            Self::Auto => terminal,
            Self::Text => true,
            Self::Json => false,
        }
    }
}

/// Starts the log of this process. Lines that standard error does not take are counted.
///
/// # Errors
/// [`LogError`].
pub fn init(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Logs, LogError> {
    let output = StandardError { metrics: Arc::clone(metrics) };
    let writer = Arc::new(LineWriter::start("log", output)?);
    let queue = LogQueue { writer, metrics: Arc::clone(metrics) };
    let (filter, handle) = reload::Layer::new(targets(settings.level));
    let terminal = stderr().is_terminal();
    let text = settings.format.is_text(terminal);
    let lines = if text {
        let colors = has_colors(terminal);
        fmt::layer().with_writer(queue.clone()).with_ansi(colors).with_target(false).boxed()
    } else {
        fmt::layer().event_format(JsonLines).with_writer(queue.clone()).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(Logs { filter: handle, queue, is_watched: text && terminal })
}

impl Logs {
    /// Sets another level.
    pub fn set_level(&self, level: LogLevel) {
        // It fails only when the subscriber is gone, and then there is no one to tell.
        _ = self.filter.reload(targets(level));
    }

    /// Whether someone reads it at a terminal.
    pub const fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Waits until what was queued is written, and no longer than this; `false` when it was not.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.queue.writer.flush(timeout)
    }
}

/// Whoever ends the process with an error writes to standard error as well, behind the log.
impl Drop for Logs {
    fn drop(&mut self) {
        // With no one to read them, the last lines are lost.
        _ = self.flush(LAST);
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> format::Result {
        let mut line = String::from("{\"time\":\"");
        time(now_ms(), &mut line);
        line.push('"');
        member(&mut line, "log", Some("events"));
        member(&mut line, "level", Some(event.metadata().level().as_str()));
        event.record(&mut EventMembers(&mut line));
        member(&mut line, "target", Some(event.metadata().target()));
        line.push_str("}\n");
        writer.write_str(&line)
    }
}

impl EventMembers<'_> {
    fn bare(&mut self, field: &Field, value: impl format::Display) {
        // Writing to a String cannot fail.
        _ = write!(self.0, ",\"{}\":{value}", field.name());
    }
}

impl Visit for EventMembers<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn format::Debug) {
        member(self.0, field.name(), Some(&format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        member(self.0, field.name(), Some(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        self.bare(field, serde_json::Value::from(value));
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl io::Write for &LogQueue {
    /// An event comes as one piece, which ends a line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if !self.writer.push(LineBatch { bytes: line.to_vec(), count: 1 }) {
            self.metrics.log_lines_lost.add_shared(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Destination for StandardError {
    const LINES: Option<&'static str> = None;

    fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        let failed = |error| WriteError { error, lines: count_lines(lines) };
        stderr().write_all(lines).map_err(failed)
    }

    fn count(&mut self, _: u64, lost: u64) {
        self.metrics.log_lines_lost.add_shared(lost);
    }
}

/// The level is that of the gateway's own events: what libraries say below a warning may hold
/// header fields, and so secrets.
fn targets(level: LogLevel) -> Targets {
    Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("whiteboard_gateway", level.as_tracing())
}
