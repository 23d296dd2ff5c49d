//! `docs/migrate.md`: its lines for a backend run as they stand on the page, the old way and the
//! new one, and what it says of calls that do not pass is what they get.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::docs::Page;
use crate::support::{Process, Setup, binary};

/// A language: the word after its fence, the file that its lines are, and how that is run.
const LANGUAGES: [(&str, &str, &[&str]); 5] = [
    ("js", "backend.mjs", &["node"]),
    ("python", "backend.py", &["/usr/bin/python3"]),
    ("php", "backend.php", &["php"]),
    ("go", "backend.go", &["go", "run"]),
    ("java", "Backend.java", &["java", "-XX:TieredStopAtLevel=1"]),
];

/// Runs the lines with the two variables that the page names.
fn run(command: &[&str], file: &Path, url: &str, token: &str) -> Output {
    let mut program = Command::new(command[0]);
    program.args(&command[1..]).arg(file);
    program.env("WHITEBOARD_URL", url).env("WHITEBOARD_TOKEN", token);
    program.output().unwrap_or_else(|error| panic!("tests/run brings {command:?}: {error}"))
}

/// An SDK token of the sandbox, as a backend with its AK and SK makes it.
fn sdk_token() -> String {
    let mut mint = Command::new(binary());
    mint.args(["token", "mint", "--kind", "sdk", "--role", "admin", "--lifespan", "10m"]);
    mint.args(["--access-key", "sandbox", "--secret-key-env", "SK"]);
    let output = mint.env("SK", "sandbox-secret-key").output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[track_caller]
fn the_lines_run_both_ways(language: &str) {
    let (_, name, command) = LANGUAGES.into_iter().find(|one| one.0 == language).unwrap();
    let page = Page::read("docs/migrate.md");
    let lines = page.texts(language);
    let [lines] = lines[..] else { panic!("one block of {language}, not {}", lines.len()) };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, lines).unwrap();

    let gateway = Process::sandbox();
    let ways = [
        (gateway.exported("SANDBOX"), sdk_token()),
        (gateway.exported("GATEWAY"), gateway.exported("KEY")),
    ];
    for (url, token) in &ways {
        let output = run(command, &file, url, token);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{language} at {url}: {errors}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let (room, token) = printed.trim().split_once(' ').expect("a room and a token");
        // The token opens the room, whoever signed it.
        let mut client = gateway.client();
        let scenes =
            client.request("GET", &format!("/v5/rooms/{room}/scenes"), &[("token", token)], "");
        assert_eq!((scenes.status, scenes.text().as_str()), (200, r#"["/init"]"#), "{printed}");
    }

    let refused = run(command, &file, &ways[1].0, "wbg_test_of_someone_else");
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && errors.contains("API key"), "{language}: {errors}");
}

#[test]
fn the_lines_for_node_run_both_ways() {
    the_lines_run_both_ways("js");
}

#[test]
fn the_lines_for_python_run_both_ways() {
    the_lines_run_both_ways("python");
}

#[test]
fn the_lines_for_php_run_both_ways() {
    the_lines_run_both_ways("php");
}

#[test]
fn the_lines_for_go_run_both_ways() {
    the_lines_run_both_ways("go");
}

#[test]
fn the_lines_for_java_run_both_ways() {
    the_lines_run_both_ways("java");
}

#[test]
fn every_call_to_move_to_is_an_operation_of_the_gateway() {
    let page = Page::read("docs/migrate.md");
    let output = Command::new(binary()).args(["operations", "--json"]).output().unwrap();
    let operations: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let known = |method: &str, path: &str| {
        let mut operations = operations.as_array().unwrap().iter();
        operations.any(|one| one["method"] == method && one["path"] == path)
    };
    let rows = page.rows_of("\n## From version 4\n");
    assert_eq!(rows.len(), 12);
    for row in rows {
        let call = row[1].split('`').next().unwrap().split('?').next().unwrap();
        let (method, path) = call.split_once(' ').unwrap();
        assert!(known(method, path), "{call}");
    }
}

#[test]
fn calls_that_the_page_says_do_not_pass_are_refused_as_it_says() {
    let setup = Setup::new("http://127.0.0.1:9");
    let gateway = setup.start();
    let pair = r#"{"accessKey":"sandbox","secretAccessKey":"s","lifespan":0,"role":"admin"}"#;
    let teams = gateway.client().request("POST", "/v5/tokens/teams", &[], pair);
    assert_eq!((teams.status, teams.member("code").as_str()), (401, "unauthenticated"));
    let minted = gateway.call("POST", "/v5/tokens/teams", pair);
    assert_eq!(minted.status, 201, "{}", minted.text());
    let sdk = minted.json().as_str().unwrap().to_owned();
    let shown = gateway.client().request("GET", "/v5/rooms", &[("token", &sdk)], "");
    assert_eq!((shown.status, shown.member("code").as_str()), (401, "invalid_token"));

    let page = Page::read("docs/migrate.md");
    for row in page.rows_of("\n## From version 4\n") {
        let call = row[0].split('`').next().unwrap().split('?').next().unwrap();
        let (method, path) = call.split_once(' ').unwrap();
        let refused = gateway.call(method, path, "{}");
        assert_eq!((refused.status, refused.member("code").as_str()), (404, "not_found"), "{call}");
    }
    let token = [("token", "WHITEcGFydG5lcl9pZD0")];
    let refused = gateway.client().request("POST", "/v5/rooms", &token, "");
    assert_eq!(refused.status, 401);
    let message = refused.member("message");
    assert!(message.contains("version 4"), "{message}");
}
