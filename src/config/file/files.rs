//! Every file that a configuration is made of: read once, remembered, and hashed.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::text;

/// So many bytes of the hash are told: fewer bits than a secret key has. All secrets are hashed
/// together, so that trying which one gives this version means guessing every one of them.
const VERSION_BYTES: usize = 6;

/// The files that were read so far.
pub(crate) struct Files {
    /// What relative paths start at.
    base: PathBuf,
    read: Vec<PathBuf>,
    digest: Context,
}

impl Files {
    pub(crate) fn new(base: PathBuf) -> Self {
        Self { base, read: Vec::new(), digest: Context::new(&SHA256) }
    }

    /// A path of the configuration: relative ones start at its own directory.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.base.join(path)
    }

    /// The directory of the configuration; empty for that of the process.
    pub(crate) fn directory(&self) -> &Path {
        &self.base
    }

    /// Reads a file; its bytes are wiped when dropped.
    ///
    /// # Errors
    /// Why it cannot be read, without its name.
    pub(crate) fn read(&mut self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        let bytes = text::read(path)?;
        self.hash(path.as_os_str().as_encoded_bytes());
        self.hash(&bytes);
        if !self.read.iter().any(|other| other == path) {
            self.read.push(path.to_owned());
        }
        Ok(bytes)
    }

    /// Makes the version depend on something that is no file.
    pub(crate) fn hash(&mut self, bytes: &[u8]) {
        // With its length, so that no two lists of texts are hashed as the same bytes.
        self.digest.update(&bytes.len().to_be_bytes());
        self.digest.update(bytes);
    }

    /// The files, and the version of what they held.
    pub(crate) fn finish(self) -> (Vec<PathBuf>, String) {
        let digest = self.digest.finish();
        let version = digest.as_ref().iter().take(VERSION_BYTES);
        (self.read, version.map(|byte| format!("{byte:02x}")).collect())
    }
}
