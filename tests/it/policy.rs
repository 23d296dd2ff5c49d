//! `policy explain` and `policy test`: the gateway's own decision, on the command line.

use std::fs;
use std::process::{Command, Output};

use crate::support::{Setup, binary};

/// A configuration with a backend, a student, and an issuer whose pupils are students.
fn setup() -> Setup {
    let mut setup = Setup::new("http://127.0.0.1:9").with(
        "[issuers.school]\nissuer = \"https://idp.example.org\"\naudience = \"whiteboard\"\n\
         jwks = \"https://idp.example.org/keys\"\n\
         profile = { claim = \"role\", map = { pupil = \"student\", teacher = \"backend\" } }\n",
    );
    setup.caller(
        "student",
        "allow = [\"tokens.room\", \"rooms.*\"]\nrooms = { claim = \"rooms\" }\nrole = \"reader\"\n\
         max_lifespan = \"2h\"",
    );
    setup.write();
    setup
}

fn run(setup: &Setup, arguments: &[&str]) -> (Output, String) {
    let mut command = Command::new(binary());
    command.args(["policy"]).args(arguments).arg("--config").arg(setup.path());
    let output = command.env("CLASSROOM_SK", "sk").output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

#[test]
fn a_refusal_is_explained_rule_by_rule() {
    let setup = setup();
    let (output, text) = run(&setup, &["explain", "--caller", "student", "patch", "/v5/rooms/a"]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for line in [
        "not_found: there is no such room for this caller",
        "caller student, operation rooms.update",
        "no  profiles.student.allow[0] = \"tokens.room\": names another operation",
        "yes profiles.student.allow[1] = \"rooms.*\": grants `rooms.update`",
        "no  profiles.student.rooms: there is no such room for this caller",
        "no  profiles.student.role: `rooms.update` needs the role admin",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn claims_are_decided_as_if_their_token_had_come() {
    let setup = setup();
    let claims = setup.folder.path().join("claims.json");
    fs::write(&claims, r#"{"sub":"ada","role":"pupil","rooms":["a"]}"#).unwrap();
    let claims = claims.to_str().unwrap();
    let ask = |path: &str| {
        let arguments = [
            "explain",
            "--issuer",
            "school",
            "--claims",
            claims,
            "POST",
            path,
            "--role",
            "reader",
            "--lifespan",
            "7d",
            "--json",
        ];
        let (output, text) = run(&setup, &arguments);
        (output.status.code(), serde_json::from_str::<serde_json::Value>(&text).unwrap())
    };
    let (code, verdict) = ask("/v5/tokens/rooms/a");
    assert_eq!(code, Some(0), "{verdict}");
    assert_eq!(verdict["caller"], "school/ada");
    assert_eq!(verdict["grant"], "role=reader; lifespan=7200000");
    let (code, verdict) = ask("/v5/tokens/rooms/b");
    assert_eq!((code, verdict["decision"].as_str()), (Some(1), Some("not_found")));
}

const EXPECTATIONS: &str = r#"
[[case]]
name = "a backend may list rooms"
caller = "lessons"
request = "GET /v5/rooms"
expect = "allow"

[[case]]
issuer = "school"
claims = { sub = "ada", role = "pupil", rooms = ["a"] }
request = "POST /v5/tokens/rooms/a"
role = "writer"
lifespan = "1h"
expect = "forbidden"
rule = "profiles.student.role"

[[case]]
issuer = "school"
claims = { sub = "mallory", role = "headmaster" }
request = "GET /v5/rooms"
expect = "forbidden"

[[case]]
issuer = "school"
claims = { sub = "grace", role = "teacher" }
request = "POST /v5/tokens/rooms/a"
lifespan = "1h"
expect = "allow"
grant = "role=reader; lifespan=3600000"
"#;

#[test]
fn expectations_that_are_met_pass_and_a_change_of_policy_fails_them() {
    let setup = setup();
    let file = setup.folder.path().join("expectations.toml");
    fs::write(&file, EXPECTATIONS).unwrap();
    let file = file.to_str().unwrap();
    let (output, text) = run(&setup, &["test", file]);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.ends_with("4 passed, 0 failed\n"), "{text}");
    setup.configuration().set("profiles.student.role", "writer").write(&setup.path());
    let (output, text) = run(&setup, &["test", file]);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("FAILED  school: POST /v5/tokens/rooms/a"), "{text}");
    assert!(text.contains("expected forbidden, found allow"), "{text}");
}

#[test]
fn what_cannot_be_asked_is_an_error() {
    let setup = setup();
    let file = setup.folder.path().join("expectations.toml");
    for (text, part) in [
        ("", "missing field `case`"),
        (
            "[[case]]\ncaller = \"lessons\"\nrequest = \"GET\"\nexpect = \"allow\"",
            "a method and a path",
        ),
        (
            "[[case]]\ncaller = \"nobody\"\nrequest = \"GET /\"\nexpect = \"allow\"",
            "no caller `nobody`",
        ),
        ("[[case]]\nrequest = \"GET /\"\nexpect = \"allow\"", "say who asks"),
        ("[[case]]\ncaler = \"lessons\"\nrequest = \"GET /\"\nexpect = \"allow\"", "caler"),
    ] {
        fs::write(&file, text).unwrap();
        let (output, _) = run(&setup, &["test", file.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(part), "{part} in {error}");
    }
}

#[test]
fn a_name_that_is_nearly_one_is_told_which_was_meant() {
    let setup = setup();
    let claims = setup.folder.path().join("claims.json");
    fs::write(&claims, "{}").unwrap();
    let (claims, request) = (claims.to_str().unwrap(), ["GET", "/v5/rooms/a"]);
    for (who, told) in [
        (
            &["--caller", "lesson"][..],
            "no caller `lesson` with a credential: did you mean `lessons`?",
        ),
        (&["--issuer", "schol", "--claims", claims], "no issuer `schol`: did you mean `school`?"),
        (&["--caller", "elsewhere"], "no caller `elsewhere` with a credential: there are lessons"),
    ] {
        let (output, _) = run(&setup, &[&["explain"], who, &request[..]].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(told), "{told} in {error}");
    }
}
