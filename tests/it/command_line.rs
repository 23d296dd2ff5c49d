//! The built binary as a shell sees it: exit codes, and which stream says what.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::house::{files, root};

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_whiteboard-gateway"))
}

fn run(words: &[&str], input: &str) -> Output {
    let mut command = binary();
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The pipe may be closed already: not every command reads it.
    _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_exit_code_tells_done_from_no_and_no_from_an_error() {
    for (words, input, code) in [
        (&["operations"][..], "", 0),
        (&["key", "--help"], "", 0),
        (&["--version"], "", 0),
        (&["token", "inspect", "-"], "hello", 1),
        (&["key", "hash"], "no key", 2),
        (&["key", "hash"], "", 2),
        (&["operations", "--json", "--markdown"], "", 2),
        (&["no-such-command"], "", 2),
        (&[], "", 2),
    ] {
        let ran = run(words, input);
        assert_eq!(ran.status.code(), Some(code), "{words:?}: {}", text(&ran.stderr));
        if code == 2 {
            assert_eq!(text(&ran.stdout), "", "an error is not an answer");
            assert!(!ran.stderr.is_empty(), "{words:?}");
        } else {
            assert_eq!(text(&ran.stderr), "", "an answer is not an error");
        }
    }
}

#[test]
fn an_error_is_one_line_that_says_what_to_do() {
    let ran = run(&["key", "hash"], "wbg_live_half");
    assert_eq!(
        text(&ran.stderr),
        "error: standard input holds no API key: an API key has the form \
         wbg_live_<id>_<secret>_<checksum>\n"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    for words in [&["openapi"][..], &["operations"], &["key", "new"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ran = binary().args(words).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(text(&ran.stderr), "", "{words:?}");
        assert_eq!(ran.status.code(), Some(0), "{words:?}");
    }
}

#[test]
fn no_example_puts_a_token_on_the_command_line() {
    let mut shown = 0;
    for path in files(&root()) {
        let name = path.extension().unwrap_or_default();
        let tests = path.starts_with(root().join("tests"));
        if tests || ![Some("md"), Some("rs"), Some("sh")].contains(&name.to_str()) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for command in ["whiteboard-gateway token inspect ", "whiteboard-gateway jwt inspect "] {
            for (_, rest) in text.match_indices(command).map(|(at, _)| text.split_at(at)) {
                let next = rest[command.len()..].split_whitespace().next().unwrap_or_default();
                // Everybody on the machine reads what a process was started with.
                let is_read = next.starts_with(['<', '-']) || next.starts_with("token.jwt");
                assert!(is_read, "{path:?}: {command}{next}");
                shown += 1;
            }
        }
    }
    assert!(shown > 2, "the examples were not found");
}
