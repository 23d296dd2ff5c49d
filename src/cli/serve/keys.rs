//! The API keys of the two callers of `serve --sandbox`: made for this run, or kept in a file from
//! one run to the next.
//!
//! The file has a line `NAME=key` for each, which a shell can read as well. No message repeats what
//! is in it: somebody may have put another key there.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use zeroize::Zeroizing;

use crate::caller::{self, ApiKey};
use crate::text;
use crate::token::Secret;

/// A caller of the sandbox. Its name is that of its profile as well.
#[derive(Clone)]
pub(super) struct SandboxKey {
    pub(super) caller: &'static str,
    /// The variable that the greeting exports, and the name in the file.
    pub(super) variable: &'static str,
    pub(super) key: Secret,
}

/// A backend that may do everything, and a student: callers and variables.
const CALLERS: [(&str, &str); 2] = [("backend", "KEY"), ("student", "STUDENT_KEY")];

/// What the keys of the sandbox begin with.
const TEST: &str = "wbg_test_";

/// Makes new keys.
pub(super) fn generate() -> anyhow::Result<[SandboxKey; 2]> {
    let key = || caller::generate(false).ok().context("the system gives no randomness");
    let [backend, student] = CALLERS;
    let named = |(caller, variable), key| SandboxKey { caller, variable, key };
    Ok([named(backend, key()?), named(student, key()?)])
}

/// The keys in a file; new ones are written to one that is not there.
pub(super) fn kept_in(path: &Path) -> anyhow::Result<[SandboxKey; 2]> {
    let file = path.display();
    ensure!(path != Path::new("-"), "--keys takes the name of a file, not `-`");
    match text::read(path) {
        Ok(bytes) => parse(&bytes).with_context(|| format!("--keys {file} cannot be used")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = generate()?;
            write(path, &keys).with_context(|| format!("--keys {file} cannot be made"))?;
            Ok(keys)
        }
        Err(error) => Err(error).with_context(|| format!("--keys {file} cannot be read")),
    }
}

/// A file that nobody else may read, and none at all when it cannot be written whole.
fn write(path: &Path, keys: &[SandboxKey; 2]) -> io::Result<()> {
    let mut text = Zeroizing::new(String::new());
    for SandboxKey { variable, key, .. } in keys {
        text.push_str(&format!("{variable}={}\n", key.expose()));
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.inspect_err(|_| _ = fs::remove_file(path))
}

fn parse(bytes: &[u8]) -> anyhow::Result<[SandboxKey; 2]> {
    const CURE: &str = "make one with `whiteboard-gateway key new --test`, or remove the file, and \
                        all are made anew";
    let text = text::decode(bytes).map_err(|why| anyhow!("it {why}"))?;
    let mut found: [Option<Secret>; 2] = [None, None];
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let at = CALLERS.iter().position(|(_, variable)| *variable == name.trim_end());
        let Some(at) = at else {
            bail!("line {number} is neither `KEY=wbg_test_…` nor `STUDENT_KEY=wbg_test_…`");
        };
        let name = CALLERS[at].1;
        ensure!(
            found[at].is_none(),
            "`{name}` stands there twice, the second time in line {number}"
        );
        let value = value.trim().trim_matches(['"', '\'']);
        ApiKey::parse(value)
            .with_context(|| format!("`{name}` in line {number} is no key: {CURE}"))?;
        ensure!(
            value.starts_with(TEST),
            "`{name}` in line {number} is a key for real use, and the sandbox takes keys that begin \
             with {TEST}: {CURE}"
        );
        found[at] = Some(Secret::new(value.to_owned()));
    }
    let missing = found.iter().position(Option::is_none).map(|at| CALLERS[at].1);
    let (None, [Some(backend), Some(student)]) = (missing, found) else {
        bail!("`{}` is missing: {CURE}", missing.unwrap_or_default());
    };
    let id = |key: &Secret| ApiKey::parse(key.expose()).ok().map(|key| key.id());
    ensure!(id(&backend) != id(&student), "`KEY` and `STUDENT_KEY` are one key: {CURE}");
    let named = |(caller, variable), key| SandboxKey { caller, variable, key };
    let [of_backend, of_student] = CALLERS;
    Ok([named(of_backend, backend), named(of_student, student)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text.as_bytes()).err().map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn a_file_is_read_as_a_shell_would_read_it() {
        let [a, b] = generate().unwrap();
        let (a, b) = (a.key.expose(), b.key.expose());
        for text in [
            format!("KEY={a}\nSTUDENT_KEY={b}\n"),
            format!("\u{feff}# ours\r\n\r\nexport STUDENT_KEY='{b}'\r\n  export KEY=\"{a}\""),
        ] {
            let [backend, student] = parse(text.as_bytes()).unwrap();
            assert_eq!((backend.key.expose(), student.key.expose()), (a, b));
            assert_eq!((backend.caller, student.caller), ("backend", "student"));
        }
    }

    #[test]
    fn a_broken_file_is_refused_with_its_line_and_without_its_contents() {
        let [a, b] = generate().unwrap();
        let (a, b) = (a.key.expose(), b.key.expose());
        let live = caller::generate(true).unwrap();
        let live = live.expose();
        let (short, other) = (&a[..a.len() - 1], format!("{}0", &a[..a.len() - 1]));
        for (text, part) in [
            (String::new(), "`KEY` is missing"),
            (format!("KEY={a}\n"), "`STUDENT_KEY` is missing"),
            (format!("{a}\n{b}\n"), "line 1 is neither"),
            (format!("KEY={a}\nPUPIL_KEY={b}\n"), "line 2 is neither"),
            (format!("KEY={a}\nKEY={b}\n"), "`KEY` stands there twice, the second time in line 2"),
            (format!("KEY={a}\nSTUDENT_KEY={a}\n"), "are one key"),
            (format!("\nKEY={live}\n"), "`KEY` in line 2 is a key for real use"),
            (format!("KEY={short}\n"), "`KEY` in line 1 is no key"),
            (format!("KEY={other}\n"), "`KEY` in line 1 is no key"),
            ("KEY=\n".to_owned(), "`KEY` in line 1 is no key"),
        ] {
            let said = refused(&text);
            assert!(said.contains(part), "{text}: {said}");
            assert!(!said.contains(&a[9..]) && !said.contains(&live[9..]), "{said}");
        }
    }
}
