//! Secrets, and the other files that the configuration names.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::Build;
use crate::config::place::{KeyPath, Place};
use crate::config::placeholder::is_placeholder;
use crate::config::raw;
use crate::config::value::Written;
use crate::config::word::FilePath;
use crate::text;
use crate::token::Secret;

impl Build<'_> {
    /// Finds a secret where the configuration says it is; `None` when it is not there, which is
    /// reported.
    pub(super) fn secret(&mut self, path: &KeyPath, raw: raw::Secret) -> Option<Secret> {
        let (path, secret) = match raw {
            raw::Secret::Inline(secret) => {
                let in_file = !matches!(self.report.places.of(path), Place::Variable(_));
                if in_file && !self.embedded {
                    let why = "is in the file itself: write { env = \"NAME\" } or \
                               { file = \"path\" }, so that the file can be shown and kept";
                    self.report.warn(path, why);
                }
                (path.clone(), secret)
            }
            raw::Secret::Variable(name) => {
                let path = path.key("env");
                let Some((_, value)) = self.environment.iter().find(|(set, _)| *set == name) else {
                    self.report.wrong(&path, "names a variable that is not set");
                    return None;
                };
                self.files.hash(value.as_bytes());
                (path, Secret::new(value.clone()))
            }
            raw::Secret::File(file) => {
                let path = path.key("file");
                let file = self.files.path(&file.0);
                let bytes = self.readable(&path, &file)?;
                self.private(&path, &file);
                match text::decode(&bytes) {
                    Ok(text) => (path, Secret::new(text.to_owned())),
                    Err(why) => {
                        self.report.wrong(&path, format_args!("names a file that {why}"));
                        return None;
                    }
                }
            }
        };
        match text::value(secret.expose()) {
            Ok("") => self.report.wrong(&path, "is an empty secret"),
            Ok(value) => {
                let why = "whoever it is for will refuse it; put the real secret there";
                self.check_placeholder(&path, is_placeholder(value), why);
                return Some(Secret::new(value.to_owned()));
            }
            Err(why) => self.report.wrong(&path, format_args!("is a secret that {why}")),
        }
        None
    }

    /// The bytes of a file; `None` when it cannot be read, which is reported without its path: a
    /// secret may stand there by mistake.
    pub(super) fn readable(&mut self, path: &KeyPath, file: &Path) -> Option<Zeroizing<Vec<u8>>> {
        match self.files.read(file) {
            Ok(bytes) => Some(bytes),
            Err(why) => {
                let why = format_args!(
                    "names a file that cannot be read: {why} (a relative path starts at the \
                     directory of the configuration)"
                );
                self.report.wrong(path, why);
                None
            }
        }
    }

    /// The certificates of a PEM file; `None` where none is named, or it holds none.
    pub(super) fn certificates(
        &mut self,
        path: &KeyPath,
        raw: &Option<Written<FilePath>>,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let file = self.files.path(&raw.as_ref()?.0.0);
        let bytes = self.readable(path, &file)?;
        let pem = match text::pem(&bytes) {
            Ok(pem) => pem,
            Err(why) => {
                self.report.wrong(path, format_args!("names a file that {why}"));
                return None;
            }
        };
        let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        match certificates {
            Ok(certificates) if !certificates.is_empty() => Some(certificates),
            _ => {
                self.report.wrong(path, "names a file without a certificate in PEM form");
                None
            }
        }
    }

    /// Warns when others may read the file of a secret.
    pub(super) fn private(&mut self, path: &KeyPath, file: &Path) {
        if readable_by_others(file) && !self.is_credential(file) {
            let why = "names a file that its group or everybody may read: `chmod 600` it";
            self.report.warn(path, why);
        }
    }

    /// Whether a service manager keeps the file for this process alone. Its directory is closed to
    /// others, and the list of who may read the file shows as a right of its group.
    fn is_credential(&self, file: &Path) -> bool {
        let mut variables = self.environment.iter();
        let directory = variables.find(|(name, _)| name == "CREDENTIALS_DIRECTORY");
        directory.is_some_and(|(_, directory)| !directory.is_empty() && file.starts_with(directory))
    }
}

/// Whether others may read the file who need not.
#[cfg(unix)]
fn readable_by_others(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let exposed = |metadata: std::fs::Metadata| {
        let ours = metadata.uid() == rustix::process::geteuid().as_raw();
        is_exposed(metadata.mode(), ours)
    };
    file.metadata().is_ok_and(exposed)
}

/// A file of another user, root above all, that a group may read was given to that group so that the
/// gateway can read it: secrets are laid out so for a service, by hand and by container platforms.
#[cfg(unix)]
const fn is_exposed(mode: u32, ours: bool) -> bool {
    let (group, everybody) = (mode & 0o040 != 0, mode & 0o004 != 0);
    everybody || (group && ours)
}

#[cfg(not(unix))]
fn readable_by_others(_file: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_exposed_to_everybody_and_to_the_group_of_whoever_could_close_it() {
        for (mode, ours, exposed) in [
            (0o600, true, false),
            (0o400, false, false),
            (0o640, true, true),
            (0o440, true, true),
            (0o440, false, false),
            (0o640, false, false),
            (0o644, true, true),
            (0o644, false, true),
            (0o604, false, true),
        ] {
            assert_eq!(is_exposed(mode, ours), exposed, "{mode:o}, ours: {ours}");
        }
    }
}
