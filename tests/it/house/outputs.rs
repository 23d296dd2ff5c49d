//! What others rely on and no type holds: the names of metrics and of what is logged, the words of
//! configuration errors, the help texts. Each is kept in a file of `tests/it/outputs`, so that nobody
//! changes one without seeing it.
//!
//! To change one on purpose, run the tests with `UPDATE_OUTPUTS=1` and read the difference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use whiteboard_gateway::config::{Source, load};

use super::{files, root};
use crate::docs::{Page, of_every_part};
use crate::support::{Setup, binary};

/// Compares with the file of that name, or writes it when it is to be changed.
#[track_caller]
fn assert_kept(name: &str, there: &str) {
    let path = root().join("tests/it/outputs").join(name);
    if std::env::var_os("UPDATE_OUTPUTS").is_some() {
        fs::write(&path, there).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (old, new) = (lines(&kept), lines(there));
    let gone: Vec<_> = old.difference(&new).collect();
    let added: Vec<_> = new.difference(&old).collect();
    assert!(
        kept == there,
        "tests/it/outputs/{name} keeps another output. If the change is meant, run this test with \
         UPDATE_OUTPUTS=1.\ngone: {gone:#?}\nnew: {added:#?}"
    );
}

/// The names of the labels of a sample.
fn labels(sample: &str) -> BTreeSet<&str> {
    let inside = sample.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
    let pairs = inside.map_or("", |(inside, _)| inside).split("\",");
    pairs.filter_map(|pair| pair.split_once('=')).map(|(name, _)| name).collect()
}

#[test]
fn the_metrics_keep_their_names_types_labels_and_help() {
    let (_issuer, gateway) = of_every_part();
    let text = gateway.admin("/metrics").text();
    let mut kept = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with("# EOF")) {
        if line.starts_with('#') {
            kept.insert(line.to_owned());
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            kept.insert(format!("{name} {:?}", labels(line)));
        }
    }
    assert!(kept.len() > 100, "{text}");
    assert_kept("metrics.txt", &kept.iter().fold(String::new(), |text, line| text + line + "\n"));
}

#[test]
fn the_access_line_and_the_audit_keep_their_fields() {
    let gateway = Setup::new("http://127.0.0.1:9")
        .with("[audit]\nfile = \"./audit.jsonl\"\nmode = \"required\"\n")
        .with("[otlp]\nendpoint = \"http://127.0.0.1:9\"\n")
        .start();
    let asked = r#"{"role":"reader","lifespan":3600000}"#;
    let minted = gateway.call("POST", "/v5/tokens/teams", asked);
    let failed = gateway.call("GET", "/v5/rooms/a", "");
    let refused = gateway.client().request("GET", "/v5/rooms", &[("token", "no")], "");
    assert_eq!((minted.status, failed.status, refused.status), (201, 500, 401));
    let mut text = String::new();
    for (name, answer) in [("minted", minted), ("failed", failed), ("refused", refused)] {
        let line = gateway.access_line(answer.header("x-request-id"));
        _ = writeln!(text, "access, {name}: {}", members(&line));
    }
    let audit = fs::read_to_string(gateway.folder.path().join("audit.jsonl")).unwrap();
    let record = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
    _ = writeln!(text, "audit: {}", members(&record));
    assert_kept("lines.txt", &text);
}

/// The names of the members, in their order, with what is inside of them.
fn members(value: &serde_json::Value) -> String {
    let object = value.as_object().unwrap().iter();
    let names = object.map(|(name, value)| match value.is_object() {
        true => format!("{name}({})", members(value)),
        false => name.clone(),
    });
    names.collect::<Vec<_>>().join(" ")
}

/// What the gateway logs of itself: the level, the fields and the words of each event.
#[test]
fn the_log_keeps_its_fields_and_words() {
    let mut events = BTreeSet::new();
    for path in files(&root().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        for level in ["error", "warn", "info", "debug", "trace"] {
            let start = format!("tracing::{level}!(");
            for (at, _) in text.match_indices(&start) {
                let inside = arguments(&text[at + start.len()..]);
                events.insert(format!("{level} {}", inside.join(", ")));
            }
        }
    }
    assert!(events.len() > 30, "{events:?}");
    let text = events.iter().fold(String::new(), |text, event| text + event + "\n");
    assert_kept("log.txt", &text);
}

/// The fields of an event without their values, and its words.
fn arguments(text: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut all = vec![String::new()];
    for c in text.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            '(' | '{' | '[' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => break,
            ')' | '}' | ']' if !quoted => depth -= 1,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        if c == ',' && depth == 0 && !quoted {
            all.push(String::new());
        } else if let Some(last) = all.last_mut() {
            last.push(c);
        }
    }
    let names = all.iter().map(|one| {
        let one = one.split_whitespace().collect::<Vec<_>>().join(" ").replace("\\ ", "");
        match one.starts_with('"') {
            true => one,
            false => one.split(" = ").next().unwrap().trim_start_matches(['%', '?']).to_owned(),
        }
    });
    names.filter(|one| !one.is_empty()).collect()
}

#[test]
fn an_event_is_read_with_its_fields_and_words() {
    let text = "%why, task = f(a, \")\"), ?x.y, \"a \\\n   word, {}\", z); more()";
    assert_eq!(arguments(text), ["why", "task", "x.y", "\"a word, {}\"", "z"]);
}

/// What is said of each key when its value is of a wrong kind or out of any range.
#[test]
fn the_errors_of_each_key_keep_their_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let mut text = String::new();
    for row in Page::read("docs/configuration.md").rows_of("\n## Keys\n") {
        let key = row[0].replace("NAME", "a");
        for value in ["[[]]", "-1", "\"\\u0001\""] {
            let line = match key.split_once("[].") {
                Some((list, member)) => format!("{list} = [{{ {member} = {value} }}]"),
                None => format!("{key} = {value}"),
            };
            fs::write(&path, &line).unwrap();
            let said = match load(&Source::File(path.clone()), &[]) {
                Ok(_) => String::new(),
                Err(errors) => errors.iter().map(|error| format!("    {error}\n")).collect(),
            };
            let file = format!("{}:1: ", path.display());
            let said =
                said.replace(&file, "").replace(&format!("{}/", folder.path().display()), "");
            _ = write!(text, "{line}\n{said}");
        }
    }
    assert_kept("configuration_errors.txt", &text);
}

/// The help of a command and of those below it.
fn help(words: &[&str], text: &mut String) {
    let mut command = Command::new(binary());
    let output = command.args(words).arg("--help").env("COLUMNS", "100").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines = said.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    _ = writeln!(text, "$ whiteboard-gateway {} --help\n{lines}\n", words.join(" "));
    let commands = said.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let listed = commands.lines().take_while(|line| !line.is_empty());
    for line in listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        help(&[words, &[name]].concat(), text);
    }
}

#[test]
fn the_help_texts_are_kept() {
    let mut text = String::new();
    help(&[], &mut text);
    assert!(text.matches("$ ").count() > 10, "{text}");
    assert_kept("help.txt", &text);
}
