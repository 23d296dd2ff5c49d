//! The commands, from the words of a command line to what is printed.

use std::fs;

use clap::CommandFactory as _;
use serde_json::{Value, json};

use super::argument::{lifespan, name};
use super::*;
use crate::api::{Lifespan, TokenKind};
use crate::caller::ApiKey;
use crate::token::{KeyPair, Secret, TokenFields, verify};

/// What a command printed, and how it went.
struct Ran {
    outcome: anyhow::Result<CommandOutcome>,
    output: String,
}

impl Ran {
    fn error(&self) -> String {
        format!("{:#}", self.outcome.as_ref().unwrap_err())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap()
    }

    /// The value of a line `name: value`.
    fn line(&self, name: &str) -> &str {
        let value = self.output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.output)).trim()
    }
}

const NOW: &str = "2026-11-25T00:00:00Z";
const SECRET_KEY: &str = "planted-secret-key";
const MINT: [&str; 8] =
    ["token", "mint", "--access-key", "AK", "--role", "reader", "--lifespan", "2h"];
const ROOM: [&str; 4] = ["--kind", "room", "--uuid", "faed3130727911ebaea37759ee91947c"];
const WITH_KEY: [&str; 2] = ["--secret-key-env", "SK"];

fn parse(words: &[&str]) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(["whiteboard-gateway"].iter().chain(words))
}

/// Runs a command line; the variable `SK` holds [`SECRET_KEY`].
fn run(words: &[&str], input: &str) -> Ran {
    run_at(NOW, words, input)
}

fn run_at(now: &str, words: &[&str], input: &str) -> Ran {
    let command_line = parse(words).unwrap_or_else(|why| panic!("{words:?}: {why}"));
    let mut output = Vec::new();
    let mut input = input.as_bytes();
    let outcome = command_line.command.run(&mut World {
        input: &mut input,
        output: &mut output,
        prompt: None,
        environment: &|name| (name == "SK").then(|| SECRET_KEY.to_owned()),
        now: now.parse().unwrap(),
    });
    Ran { outcome, output: String::from_utf8(output).unwrap() }
}

fn mint(more: &[&[&str]]) -> Ran {
    run(&[&MINT[..], &more.concat()].concat(), "")
}

fn room_token() -> String {
    mint(&[&ROOM, &WITH_KEY]).output.trim().to_owned()
}

// The command line itself.

#[test]
fn every_help_shows_an_example_that_can_be_parsed() {
    fn visit(command: &clap::Command, seen: &mut usize) {
        let mut command = command.clone();
        let help = command.render_long_help().to_string();
        let (_, example) = help.split_once("Example:\n  ").unwrap_or_else(|| panic!("{help}"));
        let (line, _) = example.split_once("\n\n").unwrap_or((example, ""));
        let line = line.replace("\\\n", " ");
        let words: Vec<&str> = line.split(" <").next().unwrap().split_whitespace().collect();
        if let Err(why) = parse(&words[1..]) {
            panic!("{line}: {why}");
        }
        *seen += 1;
        // `help` is clap's own.
        let ours = command.get_subcommands().filter(|command| command.get_name() != "help");
        ours.for_each(|command| visit(command, seen));
    }
    CommandLine::command().debug_assert();
    let mut seen = 0;
    visit(&CommandLine::command(), &mut seen);
    assert!(seen >= 9, "{seen}");
}

#[test]
fn a_lifespan_is_a_number_with_a_unit() {
    let millis = |text| lifespan(text).map(Lifespan::to_wire);
    assert_eq!(lifespan("0"), Ok(Lifespan::Permanent));
    for (text, expected) in
        [("1ms", 1), ("90s", 90_000), ("2h", 7_200_000), ("7d", 604_800_000), ("1h30m", 5_400_000)]
    {
        assert_eq!(millis(text), Ok(expected), "{text}");
    }
    for text in ["", "2", "h", "-2h", "0s", "2 parsecs", "999999y", "1ns", "0.4ms"] {
        assert!(millis(text).is_err(), "{text}: {:?}", millis(text));
    }
}

#[test]
fn a_name_is_one_that_the_environment_can_spell() {
    for good in ["lessons", "my-app", "a_1", "7"] {
        assert_eq!(name(good).as_deref(), Ok(good));
    }
    for bad in ["", "Lessons", "-a", "_a", "a.b", "a b", "ä", "a\"]"] {
        assert!(name(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_secret_key_is_never_an_argument() {
    for words in [&["--secret-key", SECRET_KEY][..], &["--secret-key=planted-secret-key"]] {
        let why = parse(&[&MINT[..], &ROOM, words].concat()).err().unwrap();
        assert!(!why.to_string().contains(SECRET_KEY), "{why}");
    }
    let both = [&MINT[..], &ROOM, &WITH_KEY, &["--secret-key-file", "sk"]].concat();
    assert!(parse(&both).is_err(), "one source only");
}

// API keys.

#[test]
fn a_new_key_is_printed_once_with_what_to_paste() {
    let ran = run(&["key", "new", "--name", "lessons", "--profile", "teachers"], "");
    let text = ran.output.lines().find_map(|line| line.strip_prefix("  wbg_")).unwrap();
    let text = format!("wbg_{text}");
    let key = ApiKey::parse(&text).ok().unwrap();
    let (id, digest) = (key.id(), key.digest());
    assert!(text.starts_with("wbg_live_"));
    assert_eq!(
        ran.output,
        format!(
            "The API key, shown this once and stored nowhere:\n\n  {text}\n\n\
             id:     {id}\ndigest: {digest}\n\n\
             Paste into the configuration:\n\n\
             [callers.lessons]\nprofile = \"teachers\"\n\
             keys = [\n  {{ id = \"{id}\", digest = \"{digest}\" }},\n]\n"
        )
    );
}

#[test]
fn what_is_to_paste_is_toml() {
    let document = run(&["key", "new", "--test", "--json"], "").json();
    assert!(document["key"].as_str().unwrap().starts_with("wbg_test_"));
    let pasted: toml::Table = document["toml"].as_str().unwrap().parse().unwrap();
    let caller = &pasted["callers"]["my-app"];
    assert_eq!(caller["profile"].as_str(), Some("backend"));
    assert_eq!(caller["keys"][0]["id"].as_str(), document["id"].as_str());
    assert_eq!(caller["keys"][0]["digest"].as_str(), document["digest"].as_str());
}

#[test]
fn a_key_is_hashed_to_what_was_printed_with_it() {
    let new = run(&["key", "new", "--json"], "").json();
    let key = new["key"].as_str().unwrap();
    let hashed = run(&["key", "hash"], &format!("  {key}\r\n"));
    assert_eq!(hashed.line("id"), new["id"].as_str().unwrap());
    assert_eq!(hashed.line("digest"), new["digest"].as_str().unwrap());
    assert!(!hashed.output.contains(key));
    let mut as_json = run(&["key", "hash", "--json"], key).json();
    as_json["key"] = json!(key);
    assert_eq!(as_json, new);
}

#[test]
fn what_is_no_key_is_refused_and_not_repeated() {
    let new = run(&["key", "new", "--json"], "").json();
    let key = new["key"].as_str().unwrap();
    let typo = key.replace(&key[20..26], "zzzzzz");
    assert!(run(&["key", "hash"], "").error().contains("holds nothing"));
    assert!(run(&["key", "hash"], &typo).error().contains("checksum"));
    let ran = run(&["key", "hash", key], key);
    assert!(ran.error().contains("standard input"), "{}", ran.error());
    for ran in [run(&["key", "hash"], &typo), ran] {
        assert!(!ran.error().contains(&key[30..60]) && ran.output.is_empty());
    }
}

// Whiteboard tokens.

#[test]
fn a_minted_token_is_good() {
    let token = room_token();
    let key = KeyPair::new("AK".to_owned(), &Secret::new(SECRET_KEY.to_owned()));
    assert!(verify(&token, [&key], 1_764_000_000_000).is_ok());
    let ran = run(&[&["token", "inspect", &token][..], &WITH_KEY].concat(), "");
    assert_eq!(ran.outcome.as_ref().ok(), Some(&CommandOutcome::Done));
    for (name, value) in [
        ("kind", "room"),
        ("role", "reader"),
        ("room", "faed3130727911ebaea37759ee91947c"),
        ("access key", "AK"),
        ("expires", "2026-11-25T02:00:00Z, in 2h"),
        ("signature", "holds"),
    ] {
        assert_eq!(ran.line(name), value);
    }
    assert!(ran.output.ends_with("\ngood\n"));
}

#[test]
fn a_secret_key_comes_from_a_variable_a_file_or_standard_input() {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::write(&path, format!("{SECRET_KEY}\n")).unwrap();
    let from_file = mint(&[&ROOM, &["--secret-key-file", path.to_str().unwrap()]]);
    let from_input = run(&[&MINT[..], &ROOM].concat(), "planted-secret-key\n");
    for minted in [from_file, from_input] {
        let inspect = ["token", "inspect", "-", "--secret-key-env", "SK"];
        assert_eq!(run(&inspect, &minted.output).line("signature"), "holds");
    }
}

#[test]
fn a_missing_secret_key_is_an_error_that_repeats_nothing() {
    // A secret in place of the variable's name or of the path.
    for option in ["--secret-key-env", "--secret-key-file"] {
        let ran = mint(&[&ROOM, &[option, SECRET_KEY]]);
        assert!(ran.error().contains(option), "{}", ran.error());
        assert!(!ran.error().contains(SECRET_KEY), "{}", ran.error());
    }
    assert!(mint(&[&ROOM]).error().contains("standard input holds nothing"));
}

#[test]
fn a_kind_says_whether_a_token_is_for_a_room_a_task_or_the_project() {
    for words in [&["--kind", "room"][..], &["--kind", "task"], &["--kind", "sdk", "--uuid", "a"]] {
        assert!(mint(&[words, &WITH_KEY]).error().contains("--uuid"));
    }
    assert!(mint(&[&["--kind", "task", "--uuid", "a/b"], &WITH_KEY]).outcome.is_err());
    let document = mint(&[&["--kind", "sdk", "--json"], &WITH_KEY]).json();
    assert!(document["token"].as_str().unwrap().starts_with("NETLESSSDK_"));
    assert_eq!(document["expireAt"], "2026-11-25T02:00:00Z");
    assert_eq!(document["uuid"], Value::Null);
}

#[test]
fn a_token_is_not_good_under_another_key_or_after_its_time() {
    let token = room_token();
    let inspect = [&["token", "inspect", &token][..], &WITH_KEY].concat();
    let late = run_at("2026-11-28T03:00:01Z", &inspect, "");
    assert_eq!(late.outcome.as_ref().ok(), Some(&CommandOutcome::No));
    assert_eq!(late.line("expires"), "2026-11-25T02:00:00Z, 3d 1h 1s ago");
    assert_eq!(late.line("not good"), "expired token");

    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::write(&path, "another").unwrap();
    let other = ["token", "inspect", &token, "--secret-key-file", path.to_str().unwrap(), "--json"];
    let ran = run_at("2026-11-28T03:00:01Z", &other, "");
    assert_eq!(ran.outcome.as_ref().ok(), Some(&CommandOutcome::No));
    let document = ran.json();
    assert_eq!(document["signature"], "fails");
    assert_eq!(document["problems"], json!(["invalid signature of token", "expired token"]));
}

#[test]
fn the_answer_of_a_token_operation_is_inspected_as_it_is() {
    let token = room_token();
    let ran = run(&["token", "inspect"], &format!("\"{token}\"\n"));
    assert_eq!(ran.output, run(&["token", "inspect", &token], "").output);
    assert!(ran.output.contains("room"), "{}", ran.output);
}

#[test]
fn without_a_key_the_signature_is_not_checked() {
    let ran = run(&["token", "inspect", &room_token()], "");
    assert_eq!(ran.outcome.as_ref().ok(), Some(&CommandOutcome::Done));
    assert!(ran.line("signature").starts_with("not checked"));
    assert!(ran.output.ends_with("good, as far as can be seen\n"));
}

#[test]
fn what_is_no_token_is_not_good() {
    for text in ["hello", "NETLESSROOM_", "NETLESSROOM_YWs9YQ"] {
        let ran = run(&["token", "inspect", text], "");
        assert_eq!(ran.outcome.as_ref().ok(), Some(&CommandOutcome::No));
        assert_eq!(ran.output, "not good: invalid format of token\n");
    }
    assert_eq!(run(&["token", "inspect", "hello", "--json"], "").json()["good"], false);
}

#[test]
fn a_terminal_does_not_obey_a_token() {
    let key = KeyPair::new("A\u{1b}[2J".to_owned(), &Secret::new(SECRET_KEY.to_owned()));
    let minted = key.mint(
        TokenFields {
            kind: TokenKind::Room,
            role: "\u{7}",
            uuid: Some("\u{9b}"),
            lifespan_ms: 0,
            nonce: "n\r".to_owned(),
        },
        0,
    );
    let ran = run(&[&["token", "inspect", minted.token.expose()][..], &WITH_KEY].concat(), "");
    assert!(ran.output.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", ran.output);
    assert_eq!(ran.line("access key"), "A\\u{1b}[2J");
    assert_eq!(ran.line("expires"), "never; it is permanent");
    assert!(ran.line("not good").starts_with("the role is none of"));
}

#[test]
fn inspection_and_the_gateway_agree_on_what_is_good() {
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/token-vectors.json")).unwrap();
    let now_ms = NOW.parse::<jiff::Timestamp>().unwrap().as_millisecond().unsigned_abs();
    let (mut good, mut bad) = (0, 0);
    for vector in vectors["vectors"].as_array().unwrap() {
        let token = vector["token"].as_str().unwrap();
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let secret_key = vector["sk"].as_str().unwrap();
        fs::write(&path, secret_key).unwrap();
        let key = KeyPair::new(
            vector["ak"].as_str().unwrap().to_owned(),
            &Secret::new(secret_key.trim().to_owned()),
        );
        if secret_key.trim().is_empty() {
            continue;
        }
        // And the same fields under the prefix of another kind, which is not signed.
        let (prefix, rest) = token.split_once('_').unwrap();
        let other = if prefix == "NETLESSSDK" { "NETLESSROOM" } else { "NETLESSSDK" };
        for token in [token.to_owned(), format!("{other}_{rest}")] {
            let words = ["token", "inspect", &token, "--secret-key-file", path.to_str().unwrap()];
            let inspected = run(&words, "").outcome.unwrap();
            let verified = verify(&token, [&key], now_ms);
            assert_eq!(inspected == CommandOutcome::Done, verified.is_ok(), "{}", vector["note"]);
            *(if verified.is_ok() { &mut good } else { &mut bad }) += 1;
        }
    }
    assert!(good > 10 && bad > 10, "{good} good, {bad} bad");
}

// The table.

#[test]
fn the_table_is_printed_for_people_for_programs_and_for_the_readme() {
    let aligned = run(&["operations"], "").output;
    assert_eq!(aligned.lines().count(), 20);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = aligned.lines().map(words).collect();
    assert_eq!(rows[6], ["rooms.get", "GET", "/v5/rooms/{uuid}", "room", "writer", "none", "200"]);
    assert!(aligned.lines().all(|line| line == line.trim_end()));
    let rows = run(&["operations", "--json"], "").json();
    assert_eq!(rows.as_array().unwrap().len(), 19);
    assert_eq!(rows[3]["access"], json!({ "token": "sdk", "role": "writer" }));
    let markdown = run(&["operations", "--markdown"], "").output;
    assert_eq!(markdown.lines().count(), 21);
}

#[test]
fn the_openapi_document_goes_where_it_is_wanted() {
    let printed = run(&["openapi"], "");
    assert_eq!(printed.json()["openapi"], "3.1.0");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("openapi.json");
    let ran = run(&["openapi", "--output", path.to_str().unwrap()], "");
    assert_eq!((ran.output.as_str(), fs::read_to_string(&path).unwrap()), ("", printed.output));
    let nowhere = folder.path().join("no/such.json");
    assert!(run(&["openapi", "-o", nowhere.to_str().unwrap()], "").error().contains("such.json"));
}
