//! What the settings of every section are built with: the report, the files, and the names that
//! sections refer to.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::file::{Files, KeyPath, Report};
use super::placeholder::is_example_host;
use super::value::FilePath;
use crate::api::nearest;
use crate::text;

pub(super) struct Build<'a> {
    pub(super) report: &'a mut Report,
    pub(super) files: &'a mut Files,
    pub(super) environment: &'a [(String, String)],
    /// Whether the file is one of ours.
    pub(super) embedded: bool,
    /// Whether it is that of `serve --sandbox`.
    pub(super) sandbox: bool,
    pub(super) now: jiff::Timestamp,
}

impl Build<'_> {
    pub(super) fn wrong(&mut self, path: &KeyPath, why: impl Display) {
        self.report.wrong(path, why);
    }

    pub(super) fn wrong_if(&mut self, wrong: bool, path: &KeyPath, why: impl Display) {
        if wrong {
            self.report.wrong(path, why);
        }
    }

    pub(super) fn warn(&mut self, path: &KeyPath, why: impl Display) {
        self.report.warn(path, why);
    }

    pub(super) fn warn_if(&mut self, doubtful: bool, path: &KeyPath, why: impl Display) {
        if doubtful {
            self.report.warn(path, why);
        }
    }

    /// Whether a key was wrong, so that its absence is no second problem.
    pub(super) fn was_removed(&self, path: &KeyPath) -> bool {
        self.report.was_removed(path)
    }

    /// Whether any of these keys of a table was wrong.
    pub(super) fn any_removed(&self, path: &KeyPath, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.was_removed(&path.key(key)))
    }

    /// Whether a key is written, and right.
    pub(super) fn is_set(&self, path: &KeyPath) -> bool {
        self.report.locations.is_set(path) && !self.was_removed(path)
    }

    /// Warns of a value that an example has in place of a real one; `consequence` says what
    /// comes of it, and what to write.
    pub(super) fn check_placeholder(&mut self, path: &KeyPath, is_one: bool, consequence: &str) {
        let why = format_args!("is a placeholder of an example: {consequence}");
        self.warn_if(is_one && !self.embedded, path, why);
    }

    /// The same for a host that someone is asked at.
    pub(super) fn check_host(&mut self, path: &KeyPath, host: &str) {
        let why = "its host is of a domain that documentation alone has (RFC 2606), so nobody \
                   answers there";
        self.check_placeholder(path, is_example_host(host), why);
    }

    /// Names are what logs, metrics and variables call a thing; a variable's are in one case.
    pub(super) fn check_name(&mut self, path: &KeyPath, name: &str) {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = name.starts_with(letter)
            && name.chars().all(|c| letter(c) || "_-".contains(c))
            && name.len() <= 64;
        let why = "has a name that cannot be: a name begins with a small letter or digit and \
                   goes on with those, hyphens and underscores, 64 at most (variables of the \
                   environment know no case)";
        self.wrong_if(!good, path, why);
    }

    /// The names of a section's tables, those with something wrong in them included.
    pub(super) fn declared<'n>(
        &mut self,
        section: &'static str,
        names: impl Iterator<Item = &'n String>,
    ) -> Declared {
        let names: BTreeSet<String> = names.cloned().collect();
        for name in &names {
            self.check_name(&KeyPath::of(&[section, name]), name);
        }
        Declared { section, names }
    }

    /// The name that a key refers to, when it is there.
    pub(super) fn refer(
        &mut self,
        path: &KeyPath,
        name: Option<String>,
        to: &Declared,
    ) -> Option<String> {
        let name = name?;
        let broken = self.was_removed(&KeyPath::of(&[to.section, &name]));
        if to.names.contains(&name) || broken {
            return Some(name);
        }
        let names = to.names.iter().map(String::as_str);
        let hint = match nearest(&name, names.clone()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None if to.names.is_empty() => format!("there is no [{}.…]", to.section),
            None => {
                format!("the {} are {}", to.section, names.collect::<Vec<_>>().join(", "))
            }
        };
        let one = to.section.trim_end_matches('s');
        self.wrong(path, format_args!("names no {one}: {hint}"));
        None
    }

    /// Where a file is: relative paths start at the directory of the configuration.
    pub(super) fn path(&self, file: &FilePath) -> PathBuf {
        self.files.path(&file.0)
    }

    /// The bytes of a file; `None` when it cannot be read, which is reported without its path: a
    /// secret may stand there by mistake.
    pub(super) fn readable(&mut self, path: &KeyPath, file: &Path) -> Option<Zeroizing<Vec<u8>>> {
        let read = self.files.read(file).map_err(|why| {
            const HINT: &str = "a relative path starts at the directory of the configuration";
            let why = format_args!("names a file that cannot be read: {why} ({HINT})");
            self.report.wrong_with(path, why, HINT.to_owned());
        });
        read.ok()
    }

    /// The certificates of a PEM file; `None` where none is named, or it holds none.
    pub(super) fn certificates(
        &mut self,
        path: &KeyPath,
        file: Option<&FilePath>,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let file = self.path(file?);
        let bytes = self.readable(path, &file)?;
        let pem = text::pem(&bytes);
        let pem =
            pem.map_err(|why| self.wrong(path, format_args!("names a file that {why}"))).ok()?;
        let read = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
        let certificates = read.ok().filter(|certificates| !certificates.is_empty());
        let why = "names a file without a certificate in PEM form";
        self.wrong_if(certificates.is_none(), path, why);
        certificates
    }

    /// Warns when others may read the file of a secret.
    pub(super) fn private(&mut self, path: &KeyPath, file: &Path) {
        let why = "names a file that its group or everybody may read: `chmod 600` it";
        self.warn_if(readable_by_others(file) && !self.is_credential(file), path, why);
    }

    /// Whether a service manager keeps the file for this process alone. Its directory is closed to
    /// others, and the list of who may read the file shows as a right of its group.
    fn is_credential(&self, file: &Path) -> bool {
        let mut variables = self.environment.iter();
        let directory = variables.find(|(name, _)| name == "CREDENTIALS_DIRECTORY");
        directory.is_some_and(|(_, directory)| !directory.is_empty() && file.starts_with(directory))
    }
}

/// The names of a section, whatever is wrong with what they name.
pub(super) struct Declared {
    pub(super) section: &'static str,
    pub(super) names: BTreeSet<String>,
}

/// The names that others refer to.
pub(super) struct DeclaredNames {
    pub(super) projects: Declared,
    pub(super) profiles: Declared,
    /// The projects that a fixed SDK token opens, and no key.
    pub(super) with_sdk_token: BTreeSet<String>,
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

#[cfg(test)]
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
