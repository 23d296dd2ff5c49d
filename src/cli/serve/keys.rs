//! The keys of `serve --sandbox`, of its two callers and of its operator: made for this run, or kept
//! in a file from one run to the next.
//!
//! The file has a line `NAME=key` for each, which a shell can read as well. No message repeats what
//! is in it: someone may have put another key there.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use zeroize::Zeroizing;

use crate::caller::{self, ApiKey};
use crate::text;
use crate::token::Secret;

/// The keys of a run.
#[derive(Clone)]
pub(super) struct SandboxKeys {
    /// A backend that may do everything, and a student.
    pub(super) callers: [SandboxKey; 2],
    pub(super) operator: SandboxKey,
}

/// The key of a caller, or of the operator.
#[derive(Clone)]
pub(super) struct SandboxKey {
    /// Whose it is; of a caller that is the name of its profile as well.
    pub(super) owner: &'static str,
    /// The variable that the greeting exports, and the name in the file.
    pub(super) variable: &'static str,
    pub(super) key: Secret,
}

/// Whose keys there are, and their variables. The commands for operators look for the last one.
const OWNERS: [(&str, &str); 3] =
    [("backend", "KEY"), ("student", "STUDENT_KEY"), ("operator", "WBG_ADMIN_KEY")];

/// Which of them is the operator's.
const OPERATOR: usize = 2;

/// What the keys of the sandbox begin with, and those of operators.
const TEST: &str = "wbg_test_";
const ADMIN: &str = "wbg_admin_";

/// Makes new keys.
pub(super) fn generate() -> anyhow::Result<SandboxKeys> {
    let key = || caller::generate(false).ok().context("the system gives no randomness");
    Ok(named([key()?, key()?, operators()?]))
}

fn operators() -> anyhow::Result<Secret> {
    caller::generate_for_operator().ok().context("the system gives no randomness")
}

fn named(keys: [Secret; 3]) -> SandboxKeys {
    let [backend, student, operator] = keys;
    let named = |at: usize, key| {
        let (owner, variable) = OWNERS[at];
        SandboxKey { owner, variable, key }
    };
    SandboxKeys {
        callers: [named(0, backend), named(1, student)],
        operator: named(OPERATOR, operator),
    }
}

/// The keys in a file; new ones are written to one that is not there, and that of the operator to one
/// that is older than operators.
pub(super) fn kept_in(path: &Path) -> anyhow::Result<SandboxKeys> {
    let file = path.display();
    ensure!(path != Path::new("-"), "--keys takes the name of a file, not `-`");
    match text::read(path) {
        Ok(bytes) => {
            let (callers, operator) =
                parse(&bytes).with_context(|| format!("--keys {file} cannot be used"))?;
            let [backend, student] = callers;
            if let Some(operator) = operator {
                return Ok(named([backend, student, operator]));
            }
            let keys = named([backend, student, operators()?]);
            let torn = bytes.last().is_some_and(|last| *last != b'\n');
            let add = || OpenOptions::new().append(true).open(path);
            add()
                .and_then(|file| write(file, torn, &[&keys.operator]))
                .with_context(|| format!("--keys {file} cannot be added to"))?;
            Ok(keys)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys = generate()?;
            let [backend, student] = &keys.callers;
            // A file that no one else may read, and none at all when it cannot be written whole.
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            made.and_then(|file| {
                let written = write(file, false, &[backend, student, &keys.operator]);
                written.inspect_err(|_| _ = fs::remove_file(path))
            })
            .with_context(|| format!("--keys {file} cannot be made"))?;
            Ok(keys)
        }
        Err(error) => Err(error).with_context(|| format!("--keys {file} cannot be read")),
    }
}

fn write(mut file: fs::File, after_a_line: bool, keys: &[&SandboxKey]) -> io::Result<()> {
    let mut text = Zeroizing::new(String::new());
    if after_a_line {
        text.push('\n');
    }
    for SandboxKey { variable, key, .. } in keys {
        text.push_str(&format!("{variable}={}\n", key.expose()));
    }
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all())
}

/// The keys of the callers, and that of the operator where there is one.
fn parse(bytes: &[u8]) -> anyhow::Result<([Secret; 2], Option<Secret>)> {
    const CURE: &str = "make one with `whiteboard-gateway key new --test`, or remove the file, and \
                        all are made anew";
    let text = text::decode(bytes).map_err(|why| anyhow!("it {why}"))?;
    let mut found: [Option<Secret>; 3] = [None, None, None];
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let at = OWNERS.iter().position(|(_, variable)| *variable == name.trim_end());
        let Some(at) = at else {
            bail!(
                "line {number} is neither `KEY=wbg_test_…`, nor `STUDENT_KEY=wbg_test_…`, nor \
                 `WBG_ADMIN_KEY=wbg_admin_…`"
            );
        };
        let name = OWNERS[at].1;
        ensure!(
            found[at].is_none(),
            "`{name}` stands there twice, the second time in line {number}"
        );
        let value = value.trim().trim_matches(['"', '\'']);
        ApiKey::parse(value)
            .with_context(|| format!("`{name}` in line {number} is no key: {CURE}"))?;
        let begins = if at == OPERATOR { ADMIN } else { TEST };
        ensure!(
            value.starts_with(begins),
            "`{name}` in line {number} is a key of another kind, and the sandbox takes there what \
             begins with {begins}: {CURE}"
        );
        found[at] = Some(Secret::new(value.to_owned()));
    }
    let missing = found.iter().take(OPERATOR).position(Option::is_none).map(|at| OWNERS[at].1);
    let (None, [Some(backend), Some(student), operator]) = (missing, found) else {
        bail!("`{}` is missing: {CURE}", missing.unwrap_or_default());
    };
    let id = |key: &Secret| ApiKey::parse(key.expose()).ok().map(|key| key.id());
    ensure!(id(&backend) != id(&student), "`KEY` and `STUDENT_KEY` are one key: {CURE}");
    Ok(([backend, student], operator))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text.as_bytes()).err().map_or_else(String::new, |error| format!("{error:#}"))
    }

    #[test]
    fn a_file_is_read_as_a_shell_would_read_it() {
        let SandboxKeys { callers: [a, b], operator } = generate().unwrap();
        let (a, b, c) = (a.key.expose(), b.key.expose(), operator.key.expose());
        for text in [
            format!("KEY={a}\nSTUDENT_KEY={b}\n"),
            format!("\u{feff}# ours\r\n\r\nexport STUDENT_KEY='{b}'\r\n  export KEY=\"{a}\""),
        ] {
            let ([backend, student], operator) = parse(text.as_bytes()).unwrap();
            assert_eq!((backend.expose(), student.expose()), (a, b));
            assert!(operator.is_none());
            let (_, operator) = parse(format!("{text}\nWBG_ADMIN_KEY={c}").as_bytes()).unwrap();
            assert_eq!(operator.unwrap().expose(), c);
        }
    }

    /// A file of before there were operators gets the key of one, and keeps what it has.
    #[test]
    fn a_file_without_the_key_of_the_operator_is_added_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let SandboxKeys { callers: [a, b], .. } = generate().unwrap();
        let old = format!("KEY={}\nSTUDENT_KEY={}", a.key.expose(), b.key.expose());
        fs::write(&path, &old).unwrap();
        let first = kept_in(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{old}\nWBG_ADMIN_KEY={}\n", first.operator.key.expose()));
        let second = kept_in(&path).unwrap();
        assert_eq!(second.operator.key.expose(), first.operator.key.expose());
    }

    #[test]
    fn a_broken_file_is_refused_with_its_line_and_without_its_contents() {
        let SandboxKeys { callers: [a, b], .. } = generate().unwrap();
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
            (format!("\nKEY={live}\n"), "`KEY` in line 2 is a key of another kind"),
            (format!("WBG_ADMIN_KEY={a}\n"), "in line 1 is a key of another kind"),
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
