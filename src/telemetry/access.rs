//! The access log: one line a request, buffered by the worker and written by a thread of the log's
//! own.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use jiff::fmt::temporal::DateTimePrinter;

use super::decision::{DecisionPart, WouldPart};
use super::member::member;
use super::writer::{Destination, LineWriter, WriteError, count_lines};
use super::{AccessLog, Metrics, OperationCounts, Outcome, ProfileCounts, Settings, has_colors};
use crate::api::push_text;
use crate::clock::timestamp;
use crate::failure::Code;
use crate::overview::FailureSeen;
use crate::trace::TraceId;

/// Everything that is recorded of a request.
pub struct AccessLine<'a> {
    /// When it came, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Its id.
    pub request_id: &'a str,
    /// The id of its trace, where there are traces; whether or not it is recorded.
    pub trace_id: Option<TraceId>,
    /// The address of the client.
    pub client: IpAddr,
    /// The listener that it came by, where there are several.
    pub listener: Option<&'a str>,
    /// `1.1` or `2`.
    pub protocol: &'static str,
    /// Its method; `None` for what never became a request.
    pub method: Option<&'a str>,
    /// The caller, once known.
    pub caller: Option<&'a str>,
    /// Its number, by which it is counted.
    pub caller_number: Option<u64>,
    /// How it proved who it is: `key`, `certificate`.
    pub credential: Option<&'static str>,
    /// The id of its API key.
    pub key_id: Option<&'a str>,
    /// The nonce of its whiteboard token.
    pub nonce: Option<&'a str>,
    /// The operation, with its counters.
    pub operation: &'a OperationCounts,
    /// The counters of the caller's profile, once known.
    pub profile: Option<&'a ProfileCounts>,
    /// The status that the caller got; `None` when it went away before.
    pub status: Option<StatusCode>,
    /// What came of it.
    pub outcome: Outcome,
    /// The rule that refused.
    pub rule: Option<&'a str>,
    /// What the shadow of the caller's profile would have decided, where it has one.
    pub would: Option<WouldPart<'a>>,
    /// What the policy was asked, where that is logged.
    pub decision: Option<DecisionPart<'a>>,
    /// By what the service knows the request, where it failed: its support asks for that.
    pub upstream_request_id: Option<&'a str>,
    /// The region that the service said then.
    pub upstream_region: Option<&'a str>,
    /// What only the log may know.
    pub detail: Option<&'a str>,
    /// From its head to the end of the answer.
    pub took: Duration,
    /// What the upstream did.
    pub upstream: Option<UpstreamPart>,
    /// The bytes of the answer's body.
    pub bytes: u64,
}

/// What the upstream did for a request.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamPart {
    /// From the first try until the answer's head or the last failure.
    pub took: Duration,
    /// The status that it gave.
    pub status: Option<StatusCode>,
    /// How many requests it was sent.
    pub attempts: u8,
}

/// Where access lines go. Shared by all workers.
pub struct Sink {
    pub(super) target: ArcSwap<AccessTarget>,
    metrics: Arc<Metrics>,
}

pub(super) struct AccessTarget {
    settings: AccessLog,
    /// `None` for nowhere.
    pub(super) writer: Option<Arc<LineWriter<AccessOutput>>>,
    pub(super) text: bool,
    pub(super) colors: bool,
    /// Someone is watching: lines are not held back.
    pub(super) at_once: bool,
}

/// What access lines are written to.
pub(super) struct AccessOutput {
    to: To,
    metrics: Arc<Metrics>,
}

enum To {
    Stdout,
    File(File),
}

impl Sink {
    /// Opens it, and starts what writes to it.
    ///
    /// # Errors
    /// When the file cannot be opened (its path is named), or no thread can be started.
    pub fn open(settings: &Settings, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let target = AccessTarget::open(settings, metrics, None)?;
        Ok(Self { target: ArcSwap::from_pointee(target), metrics: Arc::clone(metrics) })
    }

    /// Opens it anew: the file may have been rotated, the settings may have changed.
    ///
    /// # Errors
    /// As [`Sink::open`]; the old one stays then.
    pub fn reopen(&self, settings: &Settings) -> io::Result<()> {
        let target = AccessTarget::open(settings, &self.metrics, Some(&self.target.load()))?;
        self.target.store(Arc::new(target));
        Ok(())
    }

    /// Waits until what was queued is written, and no longer than this; `false` when it was not.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        self.target.load().writer.as_ref().is_none_or(|writer| writer.flush(timeout))
    }
}

impl AccessTarget {
    /// What writes to the same goes on doing so, behind what is queued.
    fn open(
        settings: &Settings,
        metrics: &Arc<Metrics>,
        before: Option<&Self>,
    ) -> io::Result<Self> {
        let to = match &settings.access {
            AccessLog::Stdout => Some(To::Stdout),
            AccessLog::File(path) => Some(To::File(append(path)?)),
            AccessLog::Off => None,
        };
        let terminal = matches!(to, Some(To::Stdout)) && io::stdout().is_terminal();
        let before = before.filter(|before| before.settings == settings.access);
        let writer = match to.map(|to| AccessOutput { to, metrics: Arc::clone(metrics) }) {
            None => None,
            Some(output) => Some(match before.and_then(|before| before.writer.as_ref()) {
                Some(writer) => {
                    writer.replace(output);
                    Arc::clone(writer)
                }
                None => Arc::new(LineWriter::start("access-log", output)?),
            }),
        };
        let text = settings.format.is_text(terminal);
        let colors = text && has_colors(terminal);
        Ok(Self { settings: settings.access.clone(), writer, text, colors, at_once: terminal })
    }
}

impl Destination for AccessOutput {
    const LINES: Option<&'static str> = Some("access lines");

    fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        let written = match &mut self.to {
            To::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(lines).and_then(|()| stdout.flush())
            }
            // Opened for appending: what several processes write does not mix.
            To::File(file) => file.write_all(lines),
        };
        written.map_err(|error| WriteError { error, lines: count_lines(lines) })
    }

    fn count(&mut self, _: u64, lost: u64) {
        self.metrics.access_lines_lost.add_shared(lost);
    }
}

fn append(path: &Path) -> io::Result<File> {
    append_to(path, &mut OpenOptions::new()).map_err(|error| {
        io::Error::new(error.kind(), format!("the access log {}: {error}", path.display()))
    })
}

/// Opens a file for appending, and makes it when it is not there. A named pipe is opened for both
/// directions: that waits for no reader, and one that comes later finds what was written.
pub(super) fn append_to(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    match fs::metadata(path) {
        Ok(about) if about.file_type().is_fifo() => {
            OpenOptions::new().read(true).write(true).open(path)
        }
        _ => options.create(true).append(true).open(path),
    }
}

impl AccessLine<'_> {
    pub(super) fn failure(&self, code: Code) -> FailureSeen<'_> {
        FailureSeen {
            at_ms: self.at_ms,
            request_id: self.request_id,
            client: self.client,
            caller: self.caller,
            operation: self.operation.name(),
            status: self.status.map(|status| status.as_u16()),
            code,
            rule: self.rule,
            message: self.detail,
        }
    }

    pub(super) fn json(&self, out: &mut String) {
        let mut digits = itoa::Buffer::new();
        out.push_str("{\"time\":\"");
        time(self.at_ms, out);
        out.push_str("\",\"log\":\"access\",\"request_id\":\"");
        out.push_str(self.request_id);
        // Writing to a String cannot fail.
        if let Some(trace) = &self.trace_id {
            _ = write!(out, "\",\"trace_id\":\"{trace}");
        }
        out.push_str("\",\"client\":\"");
        address(self.client, out);
        if let Some(listener) = self.listener {
            // A name of the configuration, of letters, digits and hyphens.
            out.push_str("\",\"listener\":\"");
            out.push_str(listener);
        }
        out.push_str("\",\"protocol\":\"");
        out.push_str(self.protocol);
        out.push('"');
        member(out, "method", self.method);
        member(out, "caller", self.caller);
        member(out, "credential", self.credential);
        member(out, "key_id", self.key_id);
        member(out, "nonce", self.nonce);
        member(out, "operation", self.operation.name());
        if let Some(status) = &self.status {
            out.push_str(",\"status\":");
            out.push_str(status.as_str());
        }
        member(out, "code", Some(self.outcome.name()));
        member(out, "rule", self.rule);
        member(out, "detail", self.detail);
        if let Some(would) = &self.would {
            would.json(out);
        }
        if let Some(decision) = &self.decision {
            decision.json(out);
        }
        out.push_str(",\"duration_ms\":");
        millis(self.took, out);
        if let Some(upstream) = &self.upstream {
            out.push_str(",\"upstream_ms\":");
            millis(upstream.took, out);
            if let Some(status) = &upstream.status {
                out.push_str(",\"upstream_status\":");
                out.push_str(status.as_str());
            }
            out.push_str(",\"upstream_attempts\":");
            out.push_str(digits.format(upstream.attempts));
        }
        member(out, "upstream_request_id", self.upstream_request_id);
        member(out, "upstream_region", self.upstream_region);
        out.push_str(",\"bytes\":");
        out.push_str(digits.format(self.bytes));
        out.push_str("}\n");
    }

    /// For people; `colors` where a terminal shows them.
    pub(super) fn text(&self, colors: bool, out: &mut String) {
        time(self.at_ms, out);
        let caller = plain(self.caller.unwrap_or("-"));
        let operation = self.operation.name().unwrap_or("-");
        let status = self.status.as_ref().map_or("-", StatusCode::as_str);
        let (method, code) = (self.method.unwrap_or("-"), self.outcome.name());
        let color = self.status.filter(|_| colors).map_or("", color);
        let end = if color.is_empty() { "" } else { "\x1b[0m" };
        _ = write!(out, " {caller} {method} {operation} {color}{status}{end} {code} ");
        millis(self.took, out);
        out.push_str("ms");
        if let Some(upstream) = &self.upstream {
            let status = upstream.status.as_ref().map_or("-", StatusCode::as_str);
            _ = write!(out, " upstream={status}/");
            millis(upstream.took, out);
            out.push_str("ms");
        }
        for (name, value) in [
            ("listener", self.listener),
            ("nonce", self.nonce),
            ("rule", self.rule),
            ("detail", self.detail),
            ("would", self.would.map(|one| one.would)),
            ("would_rule", self.would.and_then(|one| one.rule)),
            ("would_granted", self.would.and_then(|one| one.granted)),
            ("profile", self.decision.and_then(|one| one.profile)),
            ("room", self.decision.and_then(|one| one.room)),
            ("upstream_request_id", self.upstream_request_id),
            ("upstream_region", self.upstream_region),
        ] {
            if let Some(value) = value {
                _ = write!(out, " {name}={}", visible(value));
            }
        }
        if let Some((role, lifespan)) = self.decision.and_then(|one| one.asked) {
            _ = write!(out, " asked_role={role} asked_lifespan_ms={}", lifespan.to_wire());
        }
        if let Some(trace) = &self.trace_id {
            _ = write!(out, " trace={trace}");
        }
        _ = writeln!(out, " bytes={} client={} id={}", self.bytes, self.client, self.request_id);
    }
}

/// The colour of a status: green where all is well, yellow where the caller could have done better,
/// red for what operators look into.
fn color(status: StatusCode) -> &'static str {
    match status {
        status if status.is_success() => "\x1b[32m",
        status if status.is_client_error() => "\x1b[33m",
        _ => "\x1b[31m",
    }
}

/// A word as it is; anything that could be taken for more than a word as JSON.
fn plain(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(visible(text))
    }
}

/// A text as JSON, with everything escaped that is not seen or that moves what stands around it, as
/// marks of direction do: a subject is chosen by someone else.
fn visible(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    push_text(text, &mut json);
    if json.is_ascii() {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    let mut units = [0; 2];
    for character in json.chars() {
        if character.is_ascii() || character.escape_debug().count() == 1 {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut units) {
                _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
    out
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn time(at_ms: u64, out: &mut String) {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
    // Writing to a String cannot fail.
    _ = PRINTER.print_timestamp(&timestamp(at_ms).unwrap_or_default(), out);
}

/// An address, without the detour over a formatter for the many that are short.
fn address(client: IpAddr, out: &mut String) {
    let IpAddr::V4(client) = client else {
        // Writing to a String cannot fail.
        _ = write!(out, "{client}");
        return;
    };
    let mut digits = itoa::Buffer::new();
    for (index, octet) in client.octets().into_iter().enumerate() {
        if index > 0 {
            out.push('.');
        }
        out.push_str(digits.format(octet));
    }
}

/// Milliseconds with three decimals, without the detour over a float.
fn millis(duration: Duration, out: &mut String) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let mut digits = itoa::Buffer::new();
    out.push_str(digits.format(micros / 1000));
    out.push('.');
    let rest = micros % 1000;
    out.push_str(if rest < 10 {
        "00"
    } else if rest < 100 {
        "0"
    } else {
        ""
    });
    out.push_str(digits.format(rest));
}

#[cfg(test)]
mod tests {
    use super::super::Recorder;
    use super::*;

    fn line<'a>(method: &'a str, operation: &'a OperationCounts) -> AccessLine<'a> {
        AccessLine {
            at_ms: 1_700_000_000_123,
            request_id: "r-1",
            trace_id: TraceId::parse(b"0af7651916cd43dd8448eb211c80319c"),
            client: "127.0.0.1".parse().unwrap(),
            listener: None,
            protocol: "1.1",
            method: Some(method),
            caller: Some("lessons"),
            caller_number: Some(7),
            credential: Some("key"),
            key_id: Some("4fJ2abcdABCD"),
            nonce: Some("n-1"),
            operation,
            profile: None,
            status: Some(StatusCode::FORBIDDEN),
            outcome: Outcome::Failed(Code::Forbidden),
            rule: Some("profiles.student.role"),
            would: None,
            decision: None,
            upstream_request_id: None,
            upstream_region: None,
            detail: Some("the upstream said \"no\"\n"),
            took: Duration::from_micros(1_234),
            upstream: Some(UpstreamPart {
                took: Duration::from_micros(900),
                status: Some(StatusCode::OK),
                attempts: 1,
            }),
            bytes: 12,
        }
    }

    #[test]
    fn a_line_is_one_json_object() {
        let metrics = Metrics::new(1);
        let operation = metrics.operation("rooms.get");
        let mut out = String::new();
        line("GET", &operation).json(&mut out);
        assert_eq!(out.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "time": "2023-11-14T22:13:20.123Z", "log": "access", "request_id": "r-1",
                "trace_id": "0af7651916cd43dd8448eb211c80319c", "client": "127.0.0.1",
                "protocol": "1.1", "method": "GET", "caller": "lessons", "credential": "key",
                "key_id": "4fJ2abcdABCD", "nonce": "n-1",
                "operation": "rooms.get", "status": 403, "code": "forbidden", "rule": "profiles.student.role",
                "detail": "the upstream said \"no\"\n", "duration_ms": 1.234, "upstream_ms": 0.9,
                "upstream_status": 200, "upstream_attempts": 1, "bytes": 12
            })
        );
    }

    #[test]
    fn what_is_not_seen_is_escaped_for_people() {
        for (text, shown) in [
            ("school/ada", "school/ada"),
            ("school/Zoë 老师", "\"school/Zoë 老师\""),
            ("school/\u{202e}ada\u{2066}", "\"school/\\u202eada\\u2066\""),
            ("a\u{200b}\u{feff}\u{2028}b\u{a0}", "\"a\\u200b\\ufeff\\u2028b\\u00a0\""),
            ("a\u{e0001}b", "\"a\\udb40\\udc01b\""),
            ("a\u{9b}31m\u{1b}", "\"a\\u009b31m\\u001b\""),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn a_line_for_people_is_one_line_too() {
        let metrics = Metrics::new(1);
        let operation = metrics.operation("rooms.get");
        let mut out = String::new();
        line("GET", &operation).text(false, &mut out);
        assert_eq!(out.matches('\n').count(), 1, "{out}");
        assert!(
            out.starts_with(
                "2023-11-14T22:13:20.123Z lessons GET rooms.get 403 forbidden 1.234ms upstream=200/0.900ms"
            ),
            "{out}"
        );
    }

    #[test]
    fn a_terminal_shows_statuses_in_colours() {
        let metrics = Metrics::new(1);
        let operation = metrics.operation("rooms.get");
        for (status, shown) in [
            (StatusCode::CREATED, " \x1b[32m201\x1b[0m "),
            (StatusCode::FORBIDDEN, " \x1b[33m403\x1b[0m "),
            (StatusCode::BAD_GATEWAY, " \x1b[31m502\x1b[0m "),
        ] {
            let line = AccessLine { status: Some(status), ..line("GET", &operation) };
            let mut out = String::new();
            line.text(true, &mut out);
            assert!(out.contains(shown), "{out:?}");
            out.clear();
            line.text(false, &mut out);
            assert!(!out.contains('\x1b'), "{out:?}");
        }
    }

    #[test]
    fn a_rotated_file_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let settings = Settings { access: AccessLog::File(path.clone()), ..Settings::default() };
        let metrics = Arc::new(Metrics::new(1));
        let sink = Arc::new(Sink::open(&settings, &metrics).unwrap());
        let recorder = Recorder::new(metrics, 0, Arc::clone(&sink));
        let operation = recorder.metrics.operation("rooms.get");
        recorder.record(&line("GET", &operation));
        recorder.flush();
        assert!(sink.flush(Duration::from_secs(60)));
        fs::rename(&path, folder.path().join("access.log.1")).unwrap();
        sink.reopen(&settings).unwrap();
        recorder.record(&line("PUT", &operation));
        recorder.flush();
        assert!(sink.flush(Duration::from_secs(60)));
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.contains("\"PUT\"") && !written.contains("\"GET\""), "{written}");
        let missing = AccessLog::File(folder.path().join("no/such/access.log"));
        let error = sink.reopen(&Settings { access: missing, ..settings }).unwrap_err();
        assert!(error.to_string().contains("no/such/access.log"), "{error}");
    }
}
