//! The file of the audit: appended to by one thread, one write for each piece, and opened anew when
//! it was moved away or removed.
//!
//! A record that was written into a file which no one can find any more is no record: after each
//! write the file is asked whether it still has a name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{AuditFile, AuditMode, AuditSettings};
use crate::api::push_text;
use crate::telemetry::Metrics;
use crate::telemetry::access::{append_to, time};
use crate::telemetry::member::member;
use crate::telemetry::writer::{Destination, LineBatch, LineWriter, WriteError, count_lines};

/// How often the path is looked at, to see whether the file was moved away.
const LOOK: Duration = Duration::from_secs(1);

/// Where records go. Shared by all workers, and kept by a reload that does not change it.
pub struct AuditLog {
    /// What it was made of.
    pub settings: AuditSettings,
    metrics: Arc<Metrics>,
    /// Started when it is opened, or with the first record.
    writer: OnceLock<Result<LineWriter<AuditOutput>, String>>,
}

/// What records are written to.
struct AuditOutput {
    file: AuditFile,
    sync: bool,
    metrics: Arc<Metrics>,
    /// `None` before the first write, and while the file cannot be opened.
    open: Option<OpenFile>,
    /// When the path was last looked at.
    looked: Instant,
}

struct OpenFile {
    file: File,
    device: u64,
    inode: u64,
    /// The file ends in the middle of a line, since a disk was full: the next one must not be
    /// glued to it.
    torn: bool,
}

impl AuditLog {
    /// A ledger that is opened when it is first needed.
    pub const fn new(settings: AuditSettings, metrics: Arc<Metrics>) -> Self {
        Self { settings, metrics, writer: OnceLock::new() }
    }

    /// Opens it now, so that what is wrong is seen at the start; opens it anew when it is open.
    ///
    /// # Errors
    /// When the file cannot be opened, or not be synced where it shall be (its path is named), or
    /// no thread can be started.
    pub fn open(&self) -> io::Result<()> {
        let mut output = self.output();
        output.reopen()?;
        let mut output = Some(output);
        let writer = self.writer.get_or_init(|| start(output.take()));
        match (writer, output) {
            (Ok(writer), Some(output)) => writer.replace(output),
            (Ok(_), None) => {}
            (Err(error), _) => return Err(io::Error::other(error.clone())),
        }
        Ok(())
    }

    /// Waits until what was queued is written, and no longer than this; `false` when it was not.
    #[must_use]
    pub fn flush(&self, timeout: Duration) -> bool {
        match self.writer.get() {
            Some(Ok(writer)) => writer.flush(timeout),
            _ => true,
        }
    }

    pub(super) const fn mode(&self) -> AuditMode {
        self.settings.mode
    }

    /// Records that a reload lets someone do more than before, and what.
    pub fn reload(&self, at_ms: u64, version: &str, summary: &str, changes: &[String]) {
        let mut line = "{\"time\":\"".to_owned();
        time(at_ms, &mut line);
        line.push_str("\",\"event\":\"reload\"");
        member(&mut line, "version", Some(version));
        member(&mut line, "summary", Some(summary));
        line.push_str(",\"widened\":[");
        for (index, change) in changes.iter().enumerate() {
            line.push_str(if index == 0 { "" } else { "," });
            push_text(change, &mut line);
        }
        line.push_str("]}\n");
        self.write(line.into_bytes());
    }

    /// Queues whole lines; those that are not written are counted.
    pub(super) fn write(&self, bytes: Vec<u8>) {
        let count = count_lines(&bytes);
        if !self.writer().is_ok_and(|writer| writer.push(LineBatch { bytes, count })) {
            self.metrics.audit.lost.add_shared(count);
        }
    }

    /// Queues whole lines and waits until they are written.
    pub(super) async fn write_and_wait(&self, bytes: Vec<u8>, most: Duration) -> io::Result<()> {
        let full = || io::Error::other("too many records wait to be written already");
        let result =
            self.writer()?.push_and_wait(LineBatch { bytes, count: 1 }).ok_or_else(full)?;
        match timeout(most, result).await {
            Ok(Ok(written)) => written,
            Ok(Err(_)) => Err(io::Error::other("the thread that writes records has ended")),
            Err(_) => {
                let why = format!("it was not written within {} s", most.as_secs());
                Err(io::Error::new(ErrorKind::TimedOut, why))
            }
        }
    }

    fn writer(&self) -> io::Result<&LineWriter<AuditOutput>> {
        let writer = self.writer.get_or_init(|| start(Some(self.output())));
        writer.as_ref().map_err(|error| io::Error::other(error.clone()))
    }

    fn output(&self) -> AuditOutput {
        AuditOutput {
            file: self.settings.file.clone(),
            sync: self.settings.sync,
            metrics: Arc::clone(&self.metrics),
            open: None,
            looked: Instant::now(),
        }
    }
}

fn start(output: Option<AuditOutput>) -> Result<LineWriter<AuditOutput>, String> {
    let output = output.ok_or_else(|| "the audit is started already".to_owned())?;
    LineWriter::start("audit", output).map_err(|error| format!("the audit has no thread: {error}"))
}

impl Destination for AuditOutput {
    const LINES: Option<&'static str> = Some("audit records");

    fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        let none = |error| WriteError { error, lines: count_lines(lines) };
        if matches!(self.file, AuditFile::Stdout) {
            let mut stdout = io::stdout().lock();
            return stdout.write_all(lines).and_then(|()| stdout.flush()).map_err(none);
        }
        let open = self.current().map_err(none)?;
        open.append(lines)?;
        if open.is_gone().map_err(none)? {
            self.reopen().map_err(none)?;
            self.current().map_err(none)?.append(lines)?;
        }
        match &self.open {
            Some(open) if self.sync => open.file.sync_data().map_err(none),
            _ => Ok(()),
        }
    }

    fn count(&mut self, written: u64, lost: u64) {
        self.metrics.audit.records.add_shared(written);
        self.metrics.audit.lost.add_shared(lost);
    }
}

impl AuditOutput {
    /// The open file; another one when it is no longer the one at the path.
    fn current(&mut self) -> io::Result<&mut OpenFile> {
        let AuditFile::Path(path) = &self.file else {
            return Err(io::Error::other("standard output is no file"));
        };
        let look = self.looked.elapsed() >= LOOK;
        if look {
            self.looked = Instant::now();
        }
        if !self.open.as_ref().is_some_and(|open| !look || open.is_at(path)) {
            self.reopen()?;
        }
        self.open.as_mut().ok_or_else(|| io::Error::other("the audit file is not open"))
    }

    fn reopen(&mut self) -> io::Result<()> {
        let AuditFile::Path(path) = &self.file else { return Ok(()) };
        self.open = None;
        let opened = OpenFile::new(path, self.sync).map_err(|error| {
            io::Error::new(error.kind(), format!("the audit file {}: {error}", path.display()))
        });
        self.open = Some(opened?);
        Ok(())
    }
}

impl OpenFile {
    /// Opens a file for appending; one that is made may be read by its owner alone.
    fn new(path: &Path, sync: bool) -> io::Result<Self> {
        let file = append_to(path, OpenOptions::new().mode(0o600))?;
        let about = file.metadata()?;
        if sync {
            file.sync_data()?;
            // The name of a new file is of its directory.
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let torn = about.is_file() && about.len() > 0 && !ends_a_line(path, about.len());
        let (device, inode) = (about.dev(), about.ino());
        Ok(Self { file, device, inode, torn })
    }

    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path)
            .is_ok_and(|about| (about.dev(), about.ino()) == (self.device, self.inode))
    }

    /// Whether the file has no name any more: what is written to it is lost.
    fn is_gone(&self) -> io::Result<bool> {
        let about = self.file.metadata()?;
        Ok(about.is_file() && about.nlink() == 0)
    }

    /// Opened for appending, a piece that is written at once is not mixed with another process's.
    fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let none = |error| WriteError { error, lines: count_lines(bytes) };
        if self.torn {
            self.file.write_all(b"\n").map_err(none)?;
            self.torn = false;
        }
        let mut left = bytes;
        while !left.is_empty() {
            let error = match self.file.write(left) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    left = &left[written..];
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let done = &bytes[..bytes.len() - left.len()];
            self.torn = done.last().is_some_and(|byte| *byte != b'\n');
            return Err(WriteError { error, lines: count_lines(left) });
        }
        Ok(())
    }
}

/// Whether the last byte of a file ends a line. A file that cannot be read does not: an empty line
/// too many does no harm.
fn ends_a_line(path: &Path, length: u64) -> bool {
    let mut last = [0];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, length - 1));
    read.is_ok() && last == *b"\n"
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    struct Audit {
        folder: tempfile::TempDir,
        output: AuditOutput,
    }

    fn output(path: &Path, sync: bool) -> AuditOutput {
        let file = AuditFile::Path(path.to_owned());
        let settings = AuditSettings { file, mode: AuditMode::Required, sync };
        AuditLog::new(settings, Arc::new(Metrics::new(1))).output()
    }

    impl Audit {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("audit")).unwrap();
            let output = output(&folder.path().join("audit/tokens.jsonl"), true);
            Self { folder, output }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join("audit").join(name)
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap()
        }

        fn write(&mut self, line: &str) -> Result<(), String> {
            self.output.write(line.as_bytes()).map_err(|failed| failed.error.to_string())
        }

        /// Makes it time to look.
        fn later(&mut self) {
            self.output.looked -= LOOK;
        }
    }

    #[test]
    fn a_new_file_is_its_owners_alone() {
        let mut audit = Audit::new();
        audit.output.reopen().unwrap();
        let about = fs::metadata(audit.path("tokens.jsonl")).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_there_is_appended_to_and_keeps_its_mode() {
        let mut audit = Audit::new();
        fs::write(audit.path("tokens.jsonl"), "before\n").unwrap();
        fs::set_permissions(audit.path("tokens.jsonl"), Permissions::from_mode(0o640)).unwrap();
        audit.write("one\n").unwrap();
        assert_eq!(audit.text("tokens.jsonl"), "before\none\n");
        let about = fs::metadata(audit.path("tokens.jsonl")).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_line_that_was_cut_short_does_not_spoil_the_next() {
        let mut audit = Audit::new();
        fs::write(audit.path("tokens.jsonl"), "{\"half").unwrap();
        audit.write("one\n").unwrap();
        audit.write("two\n").unwrap();
        assert_eq!(audit.text("tokens.jsonl"), "{\"half\none\ntwo\n");
    }

    #[test]
    fn after_a_move_the_old_file_is_written_until_the_path_is_looked_at() {
        let mut audit = Audit::new();
        audit.write("one\n").unwrap();
        fs::rename(audit.path("tokens.jsonl"), audit.path("tokens.jsonl.1")).unwrap();
        audit.write("two\n").unwrap();
        assert!(!audit.path("tokens.jsonl").exists());
        audit.later();
        audit.write("three\n").unwrap();
        assert_eq!(audit.text("tokens.jsonl.1"), "one\ntwo\n");
        assert_eq!(audit.text("tokens.jsonl"), "three\n");
    }

    #[test]
    fn a_record_is_never_left_in_a_file_that_was_removed() {
        let mut audit = Audit::new();
        audit.write("one\n").unwrap();
        fs::remove_file(audit.path("tokens.jsonl")).unwrap();
        audit.write("two\n").unwrap();
        assert_eq!(audit.text("tokens.jsonl"), "two\n");
    }

    #[test]
    fn a_directory_that_is_removed_is_an_error_until_it_is_back() {
        let mut audit = Audit::new();
        audit.write("one\n").unwrap();
        fs::remove_dir_all(audit.path("")).unwrap();
        for _ in 0..2 {
            let said = audit.write("two\n").unwrap_err();
            assert!(said.contains("audit/tokens.jsonl"), "{said}");
        }
        fs::create_dir(audit.path("")).unwrap();
        audit.write("three\n").unwrap();
        assert_eq!(audit.text("tokens.jsonl"), "three\n");
    }

    #[test]
    fn what_is_not_written_is_counted_by_lines() {
        let mut output = output(Path::new("/dev/full"), false);
        let failed = output.write(b"one\ntwo\n").unwrap_err();
        assert_eq!((failed.lines, failed.error.kind()), (2, ErrorKind::StorageFull));
    }
}
