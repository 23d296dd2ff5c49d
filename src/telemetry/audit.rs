//! The audit: one JSON line for each token that a caller gets. It holds the SHA-256 of the token,
//! by which a leaked one is found, and never the token.
//!
//! A thread of its own writes them. `best_effort` keeps the lines of a worker and hands them over at
//! its tick, as access lines are; with `required` the line is in the file before the caller has the
//! token, and that request alone waits for it.

mod file;
mod operator;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::Metrics;
use super::access::time;
use super::member::member;
use crate::api::{Lifespan, Role, TokenKind};
use crate::metric::Metric;

pub use file::AuditLog;
pub use operator::OperatorAction;

/// Lines are handed over when so many bytes of them wait, or at the next tick.
const FULL: usize = 32 * 1024;

/// How long a token waits for its record where one is required.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where records go and how sure that must be, from the `[audit]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSettings {
    /// Where to.
    pub file: AuditFile,
    /// How sure.
    pub mode: AuditMode,
    /// With [`AuditMode::Required`]: a record counts as written when the disk has it.
    pub sync: bool,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditFile {
    /// Standard output, among the access lines if those go there as well.
    Stdout,
    /// A file, appended to.
    Path(PathBuf),
}

/// How sure a record must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditMode {
    /// A token is issued whatever becomes of its record; one that is lost is counted.
    #[default]
    BestEffort,
    /// No record, no token.
    Required,
}

/// The records of tokens.
pub const AUDIT: &[Metric<Metrics>] = &[
    Metric::counter(
        "wbg_audit_records",
        "Records of tokens that were written",
        &[],
        |metrics, out| {
            out.add(&[], &metrics.audit.records);
        },
    ),
    Metric::counter(
        "wbg_audit_lost",
        "Tokens handed out whose record could not be written",
        &[],
        |metrics, out| out.add(&[], &metrics.audit.lost),
    ),
    Metric::counter(
        "wbg_audit_failures",
        "Tokens not handed out since their record could not be written",
        &[],
        |metrics, out| out.add(&[], &metrics.audit.failed),
    ),
];

/// The SHA-256 of a token: enough to know it again, and not to use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TokenFingerprint([u8; 32]);

impl TokenFingerprint {
    /// The fingerprint of a token, from its text.
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for TokenFingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// Everything that is recorded of a token.
#[derive(Clone, Copy)]
pub struct TokenRecord<'a> {
    /// When it was asked for, in milliseconds of Unix time.
    pub at_ms: u64,
    /// The request that asked for it.
    pub request_id: &'a str,
    /// The address of the peer.
    pub client: IpAddr,
    /// Who got it.
    pub caller: Option<&'a str>,
    /// How that caller proved who it is: what makes a name one of a key, an issuer or a token.
    pub credential: Option<&'a str>,
    /// What granted it.
    pub rule: &'a str,
    /// The operation.
    pub operation: &'a str,
    /// Its kind.
    pub kind: TokenKind,
    /// The room or task that it opens.
    pub uuid: Option<&'a str>,
    /// Its role.
    pub role: Role,
    /// Its life.
    pub lifespan: Lifespan,
    /// When it ends, in milliseconds of Unix time.
    pub expire_at_ms: Option<u64>,
    /// Whether the caller asked for more.
    pub clamped: bool,
    /// The role that it asked for.
    pub asked_role: Role,
    /// The life that it asked for.
    pub asked_lifespan: Lifespan,
    /// The project.
    pub project: &'a str,
    /// The access key that signed it; `None` when the whiteboard service did.
    pub access_key: Option<&'a str>,
    /// Its nonce, where it can be read.
    pub nonce: Option<&'a str>,
    /// The token itself, in the only form in which it is ever written.
    pub fingerprint: TokenFingerprint,
}

/// Records the tokens that one worker issues.
pub struct AuditRecorder {
    ledger: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    waiting: RefCell<String>,
}

impl AuditRecorder {
    /// A trail for a worker.
    pub fn new(ledger: Arc<AuditLog>, metrics: Arc<Metrics>) -> Self {
        Self { ledger, metrics, waiting: RefCell::default() }
    }

    /// Whether there is no token without a record.
    pub fn is_required(&self) -> bool {
        self.ledger.mode() == AuditMode::Required
    }

    /// Records a token. With [`AuditMode::Required`] it waits until the record is written, for
    /// [`WRITE_TIMEOUT`] at most; other requests of the worker go on meanwhile.
    ///
    /// # Errors
    /// With [`AuditMode::Required`], when the record is not written: the token must not be issued.
    pub async fn record(&self, record: &TokenRecord<'_>) -> io::Result<()> {
        if self.is_required() {
            let mut line = String::new();
            record.json(&mut line);
            let written = self.ledger.write_and_wait(line.into_bytes(), WRITE_TIMEOUT).await;
            match &written {
                Ok(()) => self.metrics.audit.records.add_shared(1),
                Err(_) => self.metrics.audit.failed.add_shared(1),
            }
            return written;
        }
        let mut waiting = self.waiting.borrow_mut();
        record.json(&mut waiting);
        if waiting.len() >= FULL {
            drop(waiting);
            self.flush();
        }
        Ok(())
    }

    /// A token was issued of which nothing could be recorded.
    pub fn lost(&self, why: &str) {
        self.metrics.audit.lost.add_shared(1);
        tracing::error!(why, "a token was handed out without a record of it");
    }

    /// Hands the records that wait to the thread that writes them.
    pub fn flush(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.is_empty() {
            self.ledger.write(std::mem::take(&mut *waiting).into_bytes());
        }
    }
}

impl Drop for AuditRecorder {
    /// A request that was under way when the configuration changed may have left a record here.
    fn drop(&mut self) {
        self.flush();
    }
}

impl TokenRecord<'_> {
    /// Every record has every member, but for the room or task.
    fn json(&self, out: &mut String) {
        out.push_str("{\"time\":\"");
        time(self.at_ms, out);
        // Writing to a String cannot fail.
        _ = write!(out, "\",\"event\":\"token\",\"client\":\"{}\"", self.client);
        member(out, "request_id", Some(self.request_id));
        or_null(out, "caller", self.caller);
        or_null(out, "credential", self.credential);
        member(out, "rule", Some(self.rule));
        member(out, "operation", Some(self.operation));
        _ = write!(out, ",\"kind\":\"{}\"", self.kind);
        match self.kind {
            TokenKind::Sdk => {}
            TokenKind::Room => or_null(out, "room", self.uuid),
            TokenKind::Task => or_null(out, "task", self.uuid),
        }
        _ = write!(out, ",\"role\":\"{}\",\"lifespan_ms\":{}", self.role, self.lifespan.to_wire());
        match self.expire_at_ms {
            None => out.push_str(",\"expire_at\":null"),
            Some(at) => {
                out.push_str(",\"expire_at\":\"");
                time(at, out);
                out.push('"');
            }
        }
        _ = write!(
            out,
            ",\"clamped\":{},\"asked_role\":\"{}\",\"asked_lifespan_ms\":{}",
            self.clamped,
            self.asked_role,
            self.asked_lifespan.to_wire()
        );
        member(out, "project", Some(self.project));
        or_null(out, "access_key", self.access_key);
        or_null(out, "nonce", self.nonce);
        _ = writeln!(out, ",\"token_sha256\":\"{}\"}}", self.fingerprint);
    }
}

fn or_null(out: &mut String, name: &str, value: Option<&str>) {
    match value {
        Some(_) => member(out, name, value),
        None => _ = write!(out, ",\"{name}\":null"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::metric::{MetricSet, TextFormat};

    const TOKEN: &str = "NETLESSROOM_planted";

    fn record<'a>() -> TokenRecord<'a> {
        TokenRecord {
            at_ms: 1_700_000_000_123,
            request_id: "r-1",
            client: "127.0.0.1".parse().unwrap(),
            caller: Some("lessons"),
            credential: Some("key"),
            rule: "profiles.backend",
            operation: "tokens.room",
            kind: TokenKind::Room,
            uuid: Some("faed"),
            role: Role::Reader,
            lifespan: Lifespan::Millis(60_000),
            expire_at_ms: Some(1_700_000_060_123),
            clamped: true,
            asked_role: Role::Reader,
            asked_lifespan: Lifespan::Permanent,
            project: "classroom",
            access_key: Some("AK"),
            nonce: Some("n\"\n"),
            fingerprint: TokenFingerprint::of(TOKEN),
        }
    }

    fn trail(path: &Path, mode: AuditMode) -> AuditRecorder {
        let file = AuditFile::Path(path.to_owned());
        let metrics = Arc::new(Metrics::new(1));
        let ledger = AuditLog::new(AuditSettings { file, mode, sync: false }, Arc::clone(&metrics));
        AuditRecorder::new(Arc::new(ledger), metrics)
    }

    /// Records and waits, where that is required.
    fn recorded(trail: &AuditRecorder) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(trail.record(&record()))
    }

    /// Everything that was handed over is written, or is not.
    fn settle(trail: &AuditRecorder) {
        trail.flush();
        assert!(trail.ledger.flush(Duration::from_secs(60)));
    }

    fn counts(trail: &AuditRecorder, text: &str) -> bool {
        let mut set = MetricSet::default();
        set.read(AUDIT, &*trail.metrics);
        set.text(TextFormat::OpenMetrics).contains(&format!("{text}\n"))
    }

    #[test]
    fn a_record_is_one_json_object_without_the_token() {
        let mut out = String::new();
        record().json(&mut out);
        assert_eq!(out.matches('\n').count(), 1);
        assert!(!out.contains("planted"), "{out}");
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "time": "2023-11-14T22:13:20.123Z", "event": "token", "client": "127.0.0.1",
                "request_id": "r-1", "caller": "lessons", "credential": "key",
                "rule": "profiles.backend",
                "operation": "tokens.room", "kind": "room", "room": "faed", "role": "reader",
                "lifespan_ms": 60_000, "expire_at": "2023-11-14T22:14:20.123Z", "clamped": true,
                "asked_role": "reader", "asked_lifespan_ms": 0, "project": "classroom",
                "access_key": "AK", "nonce": "n\"\n",
                "token_sha256": TokenFingerprint::of(TOKEN).to_string(),
            })
        );
    }

    #[test]
    fn a_record_says_what_is_not_known() {
        let mut out = String::new();
        let unknown = TokenRecord {
            kind: TokenKind::Task,
            caller: None,
            expire_at_ms: None,
            access_key: None,
            nonce: None,
            ..record()
        };
        unknown.json(&mut out);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&value["task"], value.get("room")), (&"faed".into(), None));
        for name in ["caller", "expire_at", "access_key", "nonce"] {
            assert!(value[name].is_null() && value.get(name).is_some(), "{name} in {out}");
        }
    }

    #[test]
    fn the_fingerprint_is_what_sha256sum_says() {
        assert_eq!(
            TokenFingerprint::of("abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_required_record_is_written_before_anything_else_happens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let trail = trail(&path, AuditMode::Required);
        recorded(&trail).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert!(counts(&trail, "wbg_audit_records_total 1"));
    }

    #[test]
    fn a_required_record_that_cannot_be_written_is_an_error_and_counted() {
        let trail = trail(Path::new("/dev/full"), AuditMode::Required);
        assert!(recorded(&trail).is_err());
        assert!(counts(&trail, "wbg_audit_failures_total 1"));
        assert!(counts(&trail, "wbg_audit_records_total 0"));
        assert!(counts(&trail, "wbg_audit_lost_total 0"), "no token was handed out");
    }

    #[test]
    fn a_record_of_best_effort_waits_for_the_tick() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let trail = trail(&path, AuditMode::BestEffort);
        recorded(&trail).unwrap();
        recorded(&trail).unwrap();
        assert!(!path.exists());
        settle(&trail);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert!(counts(&trail, "wbg_audit_records_total 2"));
        recorded(&trail).unwrap();
        let ledger = Arc::clone(&trail.ledger);
        drop(trail);
        assert!(ledger.flush(Duration::from_secs(60)));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3, "dropped with it");
    }

    #[test]
    fn a_record_of_best_effort_that_cannot_be_written_is_counted_as_lost() {
        let trail = trail(Path::new("/dev/full"), AuditMode::BestEffort);
        recorded(&trail).unwrap();
        recorded(&trail).unwrap();
        settle(&trail);
        assert!(counts(&trail, "wbg_audit_lost_total 2"));
        assert!(counts(&trail, "wbg_audit_records_total 0"));
    }
}
