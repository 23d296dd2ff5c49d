//! The file of the audit: appended to by all workers without a lock, one write for each piece, and
//! opened anew when it was moved away or removed.
//!
//! A record that was written into a file which nobody can find any more is no record: after each
//! write the file is asked whether it still has a name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use arc_swap::ArcSwapOption;

use super::{AuditFile, AuditMode, AuditSettings, lines};

/// How often the path is looked at, to see whether the file was moved away.
const LOOK_MS: u64 = 1_000;

/// Where records go. Shared by all workers; a reload makes another.
pub struct Ledger {
    settings: AuditSettings,
    /// `None` before the first write, and while the file cannot be opened.
    open: ArcSwapOption<Open>,
    made: Instant,
    /// When the path was last looked at, counted from `made`.
    looked_ms: AtomicU64,
}

struct Open {
    file: File,
    device: u64,
    inode: u64,
    /// The file ends in the middle of a line, since a disk was full: the next one must not be
    /// glued to it.
    torn: AtomicBool,
}

/// Some records were not written.
pub(super) struct Unwritten {
    /// Why.
    pub(super) error: io::Error,
    /// How many.
    pub(super) lines: u64,
}

impl Ledger {
    /// A ledger that is opened when it is first needed.
    #[must_use]
    pub fn new(settings: AuditSettings) -> Self {
        Self {
            settings,
            open: ArcSwapOption::empty(),
            made: Instant::now(),
            looked_ms: AtomicU64::new(0),
        }
    }

    /// Opens it now, so that what is wrong is seen at the start.
    ///
    /// # Errors
    /// When the file cannot be opened, or not be synced where it shall be; its path is named.
    pub fn open(&self) -> io::Result<()> {
        match &self.settings.file {
            AuditFile::Stdout => Ok(()),
            AuditFile::Path(path) => self.reopen(path).map(drop),
        }
    }

    pub(super) const fn mode(&self) -> AuditMode {
        self.settings.mode
    }

    /// Writes whole lines.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), Unwritten> {
        let none = |error| Unwritten { error, lines: lines(bytes) };
        let AuditFile::Path(path) = &self.settings.file else {
            let mut stdout = io::stdout().lock();
            return stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(none);
        };
        let mut open = self.current(path).map_err(none)?;
        open.append(bytes)?;
        if open.is_gone().map_err(none)? {
            open = self.reopen(path).map_err(none)?;
            open.append(bytes)?;
        }
        if self.settings.sync {
            open.file.sync_data().map_err(none)?;
        }
        Ok(())
    }

    /// The open file; another one when it is no longer the one at the path.
    fn current(&self, path: &Path) -> io::Result<Arc<Open>> {
        match self.open.load_full() {
            Some(open) if !self.is_time_to_look() || open.is_at(path) => Ok(open),
            _ => self.reopen(path),
        }
    }

    /// Whether the path has not been looked at for a while. Says so to one of those who ask.
    fn is_time_to_look(&self) -> bool {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        let before = self.looked_ms.load(Relaxed);
        now.saturating_sub(before) >= LOOK_MS
            && self.looked_ms.compare_exchange(before, now, Relaxed, Relaxed).is_ok()
    }

    /// Those who still write to the old file finish that: it is closed after the last of them.
    fn reopen(&self, path: &Path) -> io::Result<Arc<Open>> {
        let opened = Open::new(path, self.settings.sync).map(Arc::new).map_err(|error| {
            io::Error::new(error.kind(), format!("the audit file {}: {error}", path.display()))
        });
        self.open.store(opened.as_ref().ok().cloned());
        opened
    }
}

impl Open {
    /// Opens a file for appending; one that is made may be read by its owner alone.
    fn new(path: &Path, sync: bool) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
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
        Ok(Self { file, device, inode, torn: AtomicBool::new(torn) })
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

    /// Opened for appending, a piece that is written at once is not mixed with another's.
    fn append(&self, bytes: &[u8]) -> Result<(), Unwritten> {
        let none = |error| Unwritten { error, lines: lines(bytes) };
        if self.torn.swap(false, Relaxed) {
            (&self.file).write_all(b"\n").map_err(|error| {
                self.torn.store(true, Relaxed);
                none(error)
            })?;
        }
        let mut left = bytes;
        while !left.is_empty() {
            let error = match (&self.file).write(left) {
                Ok(0) => ErrorKind::WriteZero.into(),
                Ok(written) => {
                    left = &left[written..];
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => error,
            };
            let done = &bytes[..bytes.len() - left.len()];
            if done.last().is_some_and(|byte| *byte != b'\n') {
                self.torn.store(true, Relaxed);
            }
            return Err(Unwritten { error, lines: lines(left) });
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
    use std::time::Duration;

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
        ledger: Ledger,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("audit")).unwrap();
            let file = AuditFile::Path(folder.path().join("audit/tokens.jsonl"));
            let settings = AuditSettings { file, mode: AuditMode::Required, sync: true };
            Self { folder, ledger: Ledger::new(settings) }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join("audit").join(name)
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap()
        }

        fn write(&self, line: &str) -> Result<(), String> {
            self.ledger.write(line.as_bytes()).map_err(|unwritten| unwritten.error.to_string())
        }

        /// Makes it time to look.
        fn later(&mut self) {
            self.ledger.made -= Duration::from_millis(LOOK_MS + 1);
        }
    }

    #[test]
    fn a_new_file_is_its_owners_alone() {
        let place = Place::new();
        place.ledger.open().unwrap();
        let about = fs::metadata(place.path("tokens.jsonl")).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_there_is_appended_to_and_keeps_its_mode() {
        let place = Place::new();
        fs::write(place.path("tokens.jsonl"), "before\n").unwrap();
        fs::set_permissions(place.path("tokens.jsonl"), Permissions::from_mode(0o640)).unwrap();
        place.write("one\n").unwrap();
        assert_eq!(place.text("tokens.jsonl"), "before\none\n");
        let about = fs::metadata(place.path("tokens.jsonl")).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_line_that_was_cut_short_does_not_spoil_the_next() {
        let place = Place::new();
        fs::write(place.path("tokens.jsonl"), "{\"half").unwrap();
        place.write("one\n").unwrap();
        place.write("two\n").unwrap();
        assert_eq!(place.text("tokens.jsonl"), "{\"half\none\ntwo\n");
    }

    #[test]
    fn after_a_move_the_old_file_is_written_until_the_path_is_looked_at() {
        let mut place = Place::new();
        place.write("one\n").unwrap();
        fs::rename(place.path("tokens.jsonl"), place.path("tokens.jsonl.1")).unwrap();
        place.write("two\n").unwrap();
        assert!(!place.path("tokens.jsonl").exists());
        place.later();
        place.write("three\n").unwrap();
        assert_eq!(place.text("tokens.jsonl.1"), "one\ntwo\n");
        assert_eq!(place.text("tokens.jsonl"), "three\n");
    }

    #[test]
    fn a_record_is_never_left_in_a_file_that_was_removed() {
        let place = Place::new();
        place.write("one\n").unwrap();
        fs::remove_file(place.path("tokens.jsonl")).unwrap();
        place.write("two\n").unwrap();
        assert_eq!(place.text("tokens.jsonl"), "two\n");
    }

    #[test]
    fn a_directory_that_is_removed_is_an_error_until_it_is_back() {
        let place = Place::new();
        place.write("one\n").unwrap();
        fs::remove_dir_all(place.path("")).unwrap();
        for _ in 0..2 {
            let said = place.write("two\n").unwrap_err();
            assert!(said.contains("audit/tokens.jsonl"), "{said}");
        }
        fs::create_dir(place.path("")).unwrap();
        place.write("three\n").unwrap();
        assert_eq!(place.text("tokens.jsonl"), "three\n");
    }

    #[test]
    fn what_is_not_written_is_counted_by_lines() {
        let file = AuditFile::Path("/dev/full".into());
        let settings = AuditSettings { file, mode: AuditMode::BestEffort, sync: false };
        let unwritten = Ledger::new(settings).write(b"one\ntwo\n").unwrap_err();
        assert_eq!((unwritten.lines, unwritten.error.kind()), (2, ErrorKind::StorageFull));
    }
}
