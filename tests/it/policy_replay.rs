//! `policy replay` over access lines that a gateway has written, and over what else may stand there.

use std::fs;
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::support::{Client, Setup, Upstream, binary, finished, wait_until};

fn replay(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.env("CLASSROOM_SK", "sandbox-secret-key");
    command.args(["policy", "replay"]).args(arguments);
    finished(command)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes a configuration, and says where.
fn file(setup: &Setup) -> String {
    setup.write();
    setup.path().to_str().unwrap().to_owned()
}

fn line(caller: &str, credential: &str, operation: &str, more: &str) -> String {
    format!(
        "{{\"time\":\"2026-11-03T00:00:00.000Z\",\"log\":\"access\",\"caller\":\"{caller}\",\
         \"credential\":\"{credential}\",\"operation\":\"{operation}\",{more}}}\n"
    )
}

const OK: &str = "\"status\":200,\"code\":\"ok\"";

#[test]
fn the_lines_of_a_gateway_are_decided_as_it_decided_them_and_what_a_change_does_is_said() {
    let upstream = Upstream::json("200 OK", "[]");
    let mut setup =
        Setup::new(&upstream.url()).with("[log]\naccess = \"./access.jsonl\"\ndecision = true\n");
    let student = setup.caller(
        "student",
        "allow = [\"rooms.get\", \"tokens.room\"]\nrooms = [\"a\"]\nrole = \"writer\"\n\
         max_lifespan = \"1h\"\nover_cap = { lifespan = \"refuse\" }",
    );
    let (new, same) = (setup.copy(), setup.copy());
    let gateway = setup.start();
    let mut client = Client::connect(gateway.address);
    let hour = r#"{"role":"reader","lifespan":3600000}"#;
    let more = r#"{"role":"reader","lifespan":3600001}"#;
    for (key, method, path, body) in [
        (&student, "GET", "/v5/rooms/a", ""),
        (&student, "GET", "/v5/rooms/b", ""),
        (&student, "GET", "/v5/rooms", ""),
        (&student, "POST", "/v5/tokens/rooms/a", hour),
        (&student, "POST", "/v5/tokens/rooms/a", more),
        (&gateway.key, "GET", "/v5/rooms", ""),
        (&gateway.key, "GET", "/v5/nowhere", ""),
    ] {
        client.call(key, method, path, body);
    }
    assert_eq!(client.request("GET", "/v5/rooms", &[("token", "no")], "").status, 401);
    let log = gateway.folder.path().join("access.jsonl");
    let written = || fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 8);
    wait_until("eight lines are there", written);
    let log = log.to_str().unwrap();

    let output = replay(&["--log", log, &file(&same)]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(said(&output), "6 same, 0 gained, 0 lost, 2 not decided by the policy\n");

    let new = new
        .set("profiles.student.rooms", crate::support::value("[\"b\"]"))
        .set("profiles.student.max_lifespan", "2h")
        .take_out("profiles.backend.allow", "rooms.*");
    let new = file(&new);
    let output = replay(&["--log", log, &new]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for expected in [
        "+ 1 of student: rooms.get, was refused by profiles.student.rooms\n",
        "- 1 of student: rooms.get, refused by profiles.student.rooms\n",
        "- 1 of student: tokens.room, refused by profiles.student.rooms\n",
        "- 1 of lessons: rooms.list, refused by profiles.backend.allow\n",
        "2 same, 1 gained, 3 lost, 2 not decided by the policy\n",
    ] {
        assert!(text.contains(expected), "{expected}{text}");
    }
    // From standard input, compressed, for machines.
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut packed, &fs::read(log).unwrap()).unwrap();
    let packed_file = gateway.folder.path().join("access.jsonl.1.gz");
    fs::write(&packed_file, packed.finish().unwrap()).unwrap();
    let mut command = Command::new(binary());
    command
        .env("CLASSROOM_SK", "sandbox-secret-key")
        .stdin(Stdio::from(fs::File::open(log).unwrap()));
    command.args(["policy", "replay", "--json", "--log", packed_file.to_str().unwrap(), "-"]);
    let output = command.arg(&new).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!([&json["same"], &json["gained"], &json["lost"]], [4, 2, 6], "{json}");
    assert_eq!((&json["notAsked"], &json["lines"]["access"]), (&4.into(), &16.into()));
    let lost = json["changes"].as_array().unwrap().iter().find(|one| one["caller"] == "lessons");
    assert_eq!(lost.unwrap()["requests"], 2);
}

#[test]
fn what_hangs_on_what_a_line_does_not_say_cannot_be_told() {
    let mut setup = Setup::new("http://127.0.0.1:9").with(
        "[issuers.school]\nissuer = \"https://idp.example.org\"\naudience = \"board\"\n\
         jwks = \"https://idp.example.org/keys\"\n\
         profile = { claim = \"role\", map = { pupil = \"student\", teacher = \"backend\" } }\n",
    );
    setup.caller(
        "student",
        "allow = [\"rooms.get\", \"scenes.list\", \"tokens.room\"]\nrooms = [\"a\"]\nrole = \"writer\"",
    );
    let setup = setup.set("projects.classroom.token_profile", "backend");
    let new = file(&setup);
    let forbidden = "\"status\":403,\"code\":\"forbidden\",\"rule\":\"profiles.student.allow\"";
    let role = "\"asked_role\":\"admin\",\"asked_lifespan_ms\":1000";
    let cases = [
        (line("student", "key", "rooms.get", OK), "1 cannot tell (1 by room)"),
        (line("student", "key", "rooms.get", &format!("\"room\":\"a\",{OK}")), "1 same"),
        (line("student", "key", "rooms.get", &format!("\"room\":\"b\",{OK}")), "1 lost"),
        (line("student", "key", "rooms.update", forbidden), "1 same"),
        (line("student", "key", "rooms.update", OK), "1 lost"),
        (line("student", "key", "scenes.list", forbidden), "1 cannot tell (1 by room)"),
        (
            line("student", "key", "tokens.room", &format!("\"room\":\"a\",{OK}")),
            "1 cannot tell (1 by role and lifespan)",
        ),
        (line("student", "key", "tokens.room", &format!("\"room\":\"a\",{role},{OK}")), "1 lost"),
        // Limits, bodies and the service refuse what the policy lets pass.
        (
            line(
                "student",
                "key",
                "rooms.list",
                "\"code\":\"rate_limited\",\"rule\":\"profiles.student.limit\"",
            ),
            "1 lost",
        ),
        (
            line(
                "lessons",
                "key",
                "rooms.get",
                "\"code\":\"not_found\",\"detail\":\"no room\",\"upstream_ms\":1",
            ),
            "1 same",
        ),
        // The claims are not in the line: a teacher may, a pupil may not.
        (line("school/ada", "jwt", "rooms.list", OK), "1 cannot tell (1 by claims)"),
        (line("nowhere/ada", "jwt", "rooms.list", OK), "1 lost"),
        (line("nobody", "key", "rooms.list", OK), "1 lost"),
        (line("student", "key", "rooms.gone", OK), "1 lost"),
        // Its role is not in the line, nor whether the room was its own.
        (
            line("room/x", "whiteboard_token", "rooms.update", &format!("\"room\":\"x\",{OK}")),
            "1 cannot tell (1 by token)",
        ),
        (
            line("room/x", "whiteboard_token", "rooms.get", &format!("\"room\":\"y\",{OK}")),
            "1 lost",
        ),
        (line("room/x", "whiteboard_token", "rooms.list", OK), "1 lost"),
    ];
    let log = setup.folder.path().join("log");
    for (line, expected) in cases {
        fs::write(&log, &line).unwrap();
        let text = said(&replay(&["--log", log.to_str().unwrap(), &new]));
        assert!(text.contains(expected), "{expected}: {line}{text}");
    }
}

#[test]
fn what_is_no_access_line_is_counted_and_a_configuration_that_is_wrong_is_said() {
    let setup = Setup::new("http://127.0.0.1:9");
    let new = file(&setup);
    let log = setup.folder.path().join("log");
    let good = line("lessons", "key", "rooms.list", OK);
    let text = [
        good.as_str(),
        "{\"log\":\"access\",\"version\":9}\n",
        "{\"event\":\"token\"}\n",
        "\"x\"\n[1]\nnull\n\n\u{feff}\n",
        "{\"log\":\"access\",\"time\":1,\"code\":2,\"caller\":{},\"operation\":[]}\n",
        &line("\\ud800\\u0000", "key", "rooms.get", OK),
        &line(
            "lessons",
            "key",
            "tokens.room",
            &format!("\"asked_role\":\"x\",\"asked_lifespan_ms\":-1,{OK}"),
        ),
        &good[..60],
    ];
    fs::write(&log, text.concat()).unwrap();
    let log = log.to_str().unwrap();
    let json: Value =
        serde_json::from_slice(&replay(&["--json", "--log", log, &new]).stdout).unwrap();
    assert_eq!(json["lines"]["broken"], 4, "{json}");
    assert_eq!((&json["lines"]["other"], &json["lines"]["unknownVersion"]), (&1.into(), &1.into()));
    let text = said(&replay(&["--log", log, &new]));
    assert!(text.contains("lines that are not counted: 4 no JSON"), "{text}");

    fs::write(setup.path(), "[profiles.a]\nalow = 1\n").unwrap();
    let output = replay(&["--log", log, &new]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("alow") && error.contains(&new), "{error}");
    let output = replay(&["--json", "--log", log, &new]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(json["errors"].to_string().contains("alow"), "{json}");
    // No configuration is named.
    let output = replay(&["--log", log]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("name the configuration"));
}
