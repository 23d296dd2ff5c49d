//! `policy diff`, as whoever reviews a change runs it.

use std::process::{Command, Output};

use serde_json::Value;
use whiteboard_gateway::caller;

use crate::support::{Client, Setup, binary, finished, slot, wait_until};

fn setup() -> Setup {
    Setup::new("http://127.0.0.1:1").take_out("profiles.backend.allow", "tokens.sdk")
}

fn diff(old: &Setup, new: &Setup, more: &[&str]) -> Output {
    // A setup is written with its command.
    drop([old, new].map(|setup| setup.command("check")));
    let mut command = Command::new(binary());
    command.env("CLASSROOM_SK", "sandbox-secret-key");
    command.args(["policy", "diff"]).args(more).arg(old.path()).arg(new.path());
    finished(command)
}

#[test]
fn policy_diff_tells_with_1_that_rights_are_widened_and_with_0_that_they_are_not() {
    let narrow = setup().set("profiles.backend.max_lifespan", "2h");
    let narrow = narrow.with("[profiles.backend]\nlimit = { rate = \"1/s\" }\n");
    let wide = setup();
    for (old, new, code, last) in [
        (&narrow, &wide, 1, "rights are widened for 1 caller\n"),
        (&wide, &narrow, 0, "rights are narrowed for 1 caller\n"),
        (&wide, &wide, 0, "no one can do more or less than before\n"),
    ] {
        let said = diff(old, new, &[]);
        let text = String::from_utf8(said.stdout).unwrap();
        assert_eq!(said.status.code(), Some(code), "{text}");
        assert!(text.ends_with(last), "{text}");
    }
    let said = diff(&narrow, &wide, &[]);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("tokens for 1d at most, was 2h"), "{text}");
    assert!(text.contains("profiles.backend.limit: unlimited, was 1/s"), "{text}");
    let json: Value = serde_json::from_slice(&diff(&narrow, &wide, &["--json"]).stdout).unwrap();
    assert_eq!((&json["widened"], &json["narrowed"]), (&true.into(), &false.into()));
    let change = &json["groups"][0]["changes"][0];
    assert_eq!(change["before"]["lifespan"], 7_200_000);
    assert_eq!(change["after"]["lifespan"], 86_400_000);
}

#[test]
fn what_is_wrong_with_either_configuration_is_said_with_its_file_and_2() {
    let wrong = |key: &str| setup().with(&format!("[profiles.backend]\n{key} = 1\n"));
    let (old, new) = (wrong("alow"), wrong("rols"));
    let said = diff(&old, &new, &[]);
    let text = String::from_utf8(said.stderr).unwrap();
    assert_eq!((said.status.code(), said.stdout.as_slice()), (Some(2), &b""[..]), "{text}");
    for (setup, key) in [(&old, "alow"), (&new, "rols")] {
        let file = setup.path().display().to_string();
        assert!(text.lines().any(|line| line.contains(&file) && line.contains(key)), "{text}");
    }
    let json: Value = serde_json::from_slice(&diff(&old, &new, &["--json"]).stdout).unwrap();
    assert_eq!(json["errors"].as_array().unwrap().len(), 2, "{json}");
}

#[test]
fn a_reload_that_widens_rights_says_so_in_the_log_in_the_audit_and_in_the_status() {
    let viewer = caller::generate_for_operator().unwrap().expose().to_owned();
    let operators = format!("[operators.eyes]\nrole = \"viewer\"\nkeys = [{}]\n", slot(&viewer));
    let gateway = setup()
        .set("profiles.backend.max_lifespan", "2h")
        .with("[audit]\nfile = \"./audit.jsonl\"\n")
        .with(&operators)
        .start();
    let status = || {
        let mut client = Client::connect(gateway.admin);
        let status = client.call(&viewer, "GET", "/admin/v1/status", "").json();
        status["config"]["widened"].clone()
    };
    let widened = || gateway.stderr().contains("the reload widens rights");
    let audit = || std::fs::read_to_string(gateway.folder.path().join("audit.jsonl")).unwrap();
    let narrower = gateway.configuration().set("profiles.backend.max_lifespan", "1h");
    gateway.reload(&narrower);
    wait_until("it has reloaded", || gateway.reloads() == 1);
    assert!(status().is_null(), "{}", status());
    gateway.reload(&gateway.configuration().set("profiles.backend.max_lifespan", "24h"));
    wait_until("it is said", widened);
    let log = gateway.until_logged("the reload widens rights");
    assert_eq!(log.matches("the reload widens rights").count(), 1, "{log}");
    assert!(log.contains("tokens for 1d at most, was 1h"), "{log}");
    wait_until("it is recorded", || audit().ends_with('\n'));
    let record: Value = serde_json::from_str(audit().trim_end()).unwrap();
    assert_eq!(record["event"], "reload");
    assert_eq!(record["summary"], "rights are widened for 1 caller");
    let change = record["widened"][0].as_str().unwrap();
    assert!(change.starts_with("caller lessons (profile backend): + tokens."), "{change}");
    wait_until("the status has it", || !status().is_null());
    let status = status();
    assert_eq!(status["summary"], record["summary"]);
    assert_eq!(status["changes"][0], record["widened"][0]);
    assert_eq!((&status["more"], &status["version"]), (&0.into(), &record["version"]));
}
