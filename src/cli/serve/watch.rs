//! The watch over the files that a configuration was read from.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Files, and how they were when they were read.
pub(super) struct Watch(Vec<(PathBuf, Option<FileIdentity>)>);

/// What changes when a file does: also when another is moved to its place, or when a symbolic link
/// on the way to it is turned, as container platforms do.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Watch {
    /// Watches files from now on.
    pub(super) fn over(files: Vec<PathBuf>) -> Self {
        Self(Vec::new()).followed_by(files)
    }

    /// Watches these files. One that was watched already is compared with how it was when it was
    /// last looked at: what changed while it was being read is still a change.
    pub(super) fn followed_by(&self, files: Vec<PathBuf>) -> Self {
        let watched = |path: PathBuf| {
            let before = self.0.iter().find(|(known, _)| *known == path);
            let seen = before.map_or_else(|| FileIdentity::of(&path), |(_, seen)| *seen);
            (path, seen)
        };
        Self(files.into_iter().map(watched).collect())
    }

    /// Whether any of them has changed since it was last asked.
    pub(super) fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.0 {
            let now = FileIdentity::of(path);
            changed |= now != *seen;
            *seen = now;
        }
        changed
    }
}

impl FileIdentity {
    fn of(path: &PathBuf) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let modified = (file.mtime(), file.mtime_nsec());
        Some(Self { device: file.dev(), inode: file.ino(), size: file.size(), modified })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_replaced_or_removed_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        fs::write(&path, "a").unwrap();
        let mut watch = Watch::over(vec![path.clone()]);
        assert!(!watch.changed());
        fs::write(&path, "ab").unwrap();
        assert!(watch.changed());
        assert!(!watch.changed());
        let other = folder.path().join("other");
        fs::write(&other, "cd").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(watch.changed());
        fs::remove_file(&path).unwrap();
        assert!(watch.changed());
        assert!(!watch.changed());
    }

    #[test]
    fn a_change_while_files_are_read_is_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        let secret = folder.path().join("secret");
        fs::write(&path, "a").unwrap();
        fs::write(&secret, "a").unwrap();
        let watch = Watch::over(vec![path.clone()]);
        fs::write(&path, "ab").unwrap();
        let mut watch = watch.followed_by(vec![path, secret]);
        assert!(watch.changed());
        assert!(!watch.changed());
    }
}
