//! The audit: who got which token is on record, whatever happens to the file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use crate::support::{Answer, Process, Setup, Upstream, binary, scenario_delay, wait_until};

const ROOM: &str = "/v5/tokens/rooms/faed3130727911ebaea37759ee91947c";
const READER: &str = r#"{"lifespan":600000,"role":"reader"}"#;
const MODES: [&str; 2] = ["required", "best_effort"];

/// A gateway with an audit: tokens are minted by it alone, so it needs no upstream.
fn setup(file: &str, mode: &str) -> Setup {
    Setup::new("http://127.0.0.1:9").with(&section(file, mode))
}

fn section(file: &str, mode: &str) -> String {
    format!("[audit]\nfile = \"{file}\"\nmode = \"{mode}\"\n")
}

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The token that was answered.
fn token(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json().as_str().unwrap().to_owned()
}

/// The records of a file, each of which is whole.
fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How many records are whole in a file that is being written to.
fn whole(path: &Path) -> usize {
    fs::read(path).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count()
}

fn recorded(process: &Process, name: &str, count: usize) -> Vec<Value> {
    let path = process.folder.path().join(name);
    wait_until("the records are written", || whole(&path) >= count);
    let records = records(&path);
    assert_eq!(records.len(), count, "{records:#?}");
    records
}

fn counts(process: &Process, line: &str) -> bool {
    process.admin("/metrics").text().contains(&format!("{line}\n"))
}

#[test]
fn each_token_operation_leaves_one_record_with_the_hash_of_its_token() {
    for mode in MODES {
        let gateway = setup("./audit.jsonl", mode).start();
        let calls = [
            ("/v5/tokens/teams", r#"{"lifespan":0,"role":"admin"}"#),
            (ROOM, READER),
            ("/v5/tokens/tasks/1234", r#"{"lifespan":5000,"role":"writer"}"#),
        ];
        let answers = calls.map(|(path, body)| gateway.call("POST", path, body));
        let mut records = recorded(&gateway, "audit.jsonl", 3);
        // Workers that keep their lines do not write them in the order of the requests.
        let place = |record: &Value| {
            answers.iter().position(|one| record["request_id"] == one.header("x-request-id"))
        };
        records.sort_by_key(|record| place(record).expect("one of these"));
        for (answer, expected) in answers.iter().zip(&records) {
            assert_eq!(expected["token_sha256"], sha256(&token(answer)));
            assert_eq!(expected["caller"], "lessons");
            assert_eq!(expected["rule"], "profiles.backend");
            assert_eq!(expected["project"], "classroom");
            assert_eq!(expected["access_key"], "sandbox");
            assert_eq!(expected["client"], "127.0.0.1");
            assert_eq!(expected["nonce"].as_str().unwrap().len(), 36);
        }
        let member = |name: &str| records.iter().map(|one| one[name].clone()).collect::<Vec<_>>();
        assert_eq!(member("operation"), ["tokens.sdk", "tokens.room", "tokens.task"]);
        assert_eq!(member("kind"), ["sdk", "room", "task"]);
        assert_eq!(member("role"), ["admin", "reader", "writer"]);
        assert_eq!(member("lifespan_ms"), [86_400_000, 600_000, 5_000]);
        assert_eq!(member("asked_lifespan_ms"), [0, 600_000, 5_000]);
        assert_eq!(member("clamped"), [true, false, false]);
        assert_eq!(records[1]["room"], "faed3130727911ebaea37759ee91947c");
        assert_eq!(records[2]["task"], "1234");
        assert!(records.iter().all(|one| one["expire_at"].is_string()));
        let text = fs::read_to_string(gateway.folder.path().join("audit.jsonl")).unwrap();
        for answer in &answers {
            let token = token(answer);
            let (_, secret) = token.split_once('_').unwrap();
            assert!(!text.contains(secret) && !gateway.stdout().contains(secret), "{text}");
        }
        assert!(!text.contains("NETLESS"), "{text}");
        assert!(counts(&gateway, "wbg_audit_records_total 3"));
        assert!(counts(&gateway, "wbg_audit_lost_total 0"));
    }
}

#[test]
fn what_is_refused_leaves_no_record() {
    let mut setup = setup("./audit.jsonl", "required");
    let pupil = setup.caller(
        "pupil",
        "allow = [\"tokens.room\"]\nrooms = [\"own\"]\nlimit = { rate = \"2/h\" }",
    );
    let gateway = setup.start();
    let ask = |key: &str, path: &str, body: &str| {
        gateway.client().request("POST", path, &[("token", key)], body).status
    };
    assert_eq!(ask("wbg_test_nobody", ROOM, READER), 401);
    assert_eq!(ask(&pupil, "/v5/tokens/teams", READER), 403, "not allowed");
    assert_eq!(ask(&pupil, ROOM, READER), 404, "not their room");
    let own = "/v5/tokens/rooms/own";
    assert_eq!(ask(&gateway.key, own, r#"{"lifespan":-1,"role":"reader"}"#), 400);
    assert_eq!(ask(&pupil, own, r#"{"lifespan":1000,"role":"admin"}"#), 403, "over the cap");
    assert_eq!(ask(&pupil, own, READER), 201, "the only one");
    assert_eq!(ask(&pupil, own, READER), 403, "over the limit, which refusals count for as well");
    assert_eq!(recorded(&gateway, "audit.jsonl", 1)[0]["caller"], "pupil");
}

#[test]
fn a_token_that_the_service_mints_is_recorded_too() {
    let mut command = Command::new(binary());
    command.args(["sandbox", "--listen", "127.0.0.1:0"]);
    let sandbox = Process::of_sandbox(command);
    let mut command = Command::new(binary());
    command.args(["token", "mint", "--kind", "sdk", "--role", "admin", "--lifespan", "1h"]);
    command.args(["--access-key", "sandbox", "--secret-key-env", "SK"]);
    let minted = command.env("SK", "sandbox-secret-key").output().unwrap();
    let sdk_token = String::from_utf8(minted.stdout).unwrap();
    for mode in MODES {
        let gateway = Setup::new(&format!("http://{}", sandbox.address))
            .with_sdk_token(sdk_token.trim())
            .with(&section("./audit.jsonl", mode))
            .start();
        let room = gateway.call("POST", "/v5/rooms", "{}").member("uuid");
        let answer = gateway.call("POST", &format!("/v5/tokens/rooms/{room}"), READER);
        let record = &recorded(&gateway, "audit.jsonl", 1)[0];
        assert_eq!(record["token_sha256"], sha256(&token(&answer)));
        assert_eq!(record["room"], room.as_str());
        assert!(record["access_key"].is_null(), "{record}");
        assert!(record["nonce"].is_string() && record["expire_at"].is_string(), "{record}");
    }
}

#[test]
fn an_answer_without_a_token_is_refused_where_a_record_is_required() {
    let upstream = Upstream::json("201 Created", r#"{"token":"NETLESSROOM_hidden"}"#);
    for (mode, status) in [("required", 500), ("best_effort", 201)] {
        let gateway = Setup::new(&upstream.url())
            .with_sdk_token("NETLESSSDK_console")
            .with(&section("./audit.jsonl", mode))
            .start();
        let answer = gateway.call("POST", ROOM, READER);
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 500 {
            answer.assert_envelope(500, "upstream_error");
            assert!(!answer.text().contains("hidden"), "{}", answer.text());
        } else {
            assert!(counts(&gateway, "wbg_audit_lost_total 1"));
        }
    }
}

#[test]
fn without_a_record_there_is_no_token_where_one_is_required() {
    for (profile, status) in [("documented", 500), ("extended", 503)] {
        let errors = format!("[errors]\nprofile = \"{profile}\"\n");
        let gateway = setup("/dev/full", "required").with(&errors).start();
        for _ in 0..2 {
            let answer = gateway.call("POST", ROOM, READER);
            answer.assert_envelope(status, "audit_unavailable");
            assert!(!answer.text().contains("NETLESS"), "{}", answer.text());
            assert_eq!(answer.header("retry-after"), "1");
        }
        assert!(counts(&gateway, "wbg_audit_failures_total 2"));
        assert!(counts(&gateway, "wbg_audit_records_total 0"));
        assert!(counts(&gateway, "wbg_tokens_minted_total{for=\"caller\"} 0"));
    }
}

#[test]
fn a_directory_that_is_removed_ends_the_tokens_until_it_is_back() {
    let setup = setup("./audit/tokens.jsonl", "required");
    let directory = setup.folder.path().join("audit");
    fs::create_dir(&directory).unwrap();
    let gateway = setup.start();
    token(&gateway.call("POST", ROOM, READER));
    fs::remove_dir_all(&directory).unwrap();
    let answer = gateway.call("POST", ROOM, READER);
    answer.assert_envelope(500, "audit_unavailable");
    assert!(!answer.text().contains("audit/tokens"), "paths are the log's business");
    fs::create_dir(&directory).unwrap();
    token(&gateway.call("POST", ROOM, READER));
    recorded(&gateway, "audit/tokens.jsonl", 1);
}

#[test]
fn best_effort_hands_out_the_token_and_counts_the_lost_record() {
    let gateway = setup("/dev/full", "best_effort").start();
    token(&gateway.call("POST", ROOM, READER));
    wait_until("the loss is counted", || counts(&gateway, "wbg_audit_lost_total 1"));
    wait_until("it is told", || gateway.stderr().contains("audit records could not be written"));
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_the_start() {
    let setup = setup("./missing/audit.jsonl", "best_effort");
    setup.write();
    let run = |command: &str| {
        let mut gateway = Command::new(binary());
        gateway.args([command, "--config"]).arg(setup.path()).env("CLASSROOM_SK", "x");
        gateway.output().unwrap()
    };
    let said = run("serve");
    assert_eq!(said.status.code(), Some(2));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("the audit file") && said.contains("missing/audit.jsonl"), "{said}");
    assert_ne!(run("check").status.code(), Some(2), "a check opens nothing");
}

#[test]
fn records_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let gateway = setup("./audit.jsonl", "required").start();
    let about = fs::metadata(gateway.folder.path().join("audit.jsonl")).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
}

/// Asks for tokens on several connections until it is told to stop; gives the tokens' hashes.
fn ask_until(gateway: &Process, stop: &AtomicBool) -> Vec<String> {
    let hashes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.client();
                let mut own = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let headers = [("token", gateway.key.as_str())];
                    own.push(sha256(&token(&client.request("POST", ROOM, &headers, READER))));
                    // Some hundreds a second are load enough.
                    scenario_delay(Duration::from_millis(5));
                }
                hashes.lock().unwrap().extend(own);
            });
        }
    });
    hashes.into_inner().unwrap()
}

#[test]
fn a_rotation_under_load_loses_nothing() {
    for mode in MODES {
        let gateway = setup("./audit.jsonl", mode).start();
        let path = |name: &str| gateway.folder.path().join(name);
        let stop = AtomicBool::new(false);
        let hashes = thread::scope(|scope| {
            let asking = scope.spawn(|| ask_until(&gateway, &stop));
            let rotated = scope.spawn(|| {
                for turn in 0..2 {
                    wait_until("there are records", || whole(&path("audit.jsonl")) > 0);
                    fs::rename(path("audit.jsonl"), path(&format!("audit.jsonl.{turn}"))).unwrap();
                    wait_until("there is a new file", || path("audit.jsonl").exists());
                }
            });
            let rotated = rotated.join();
            stop.store(true, Ordering::Relaxed);
            rotated.unwrap();
            asking.join().unwrap()
        });
        let files = ["audit.jsonl", "audit.jsonl.0", "audit.jsonl.1"];
        let all = || files.iter().flat_map(|name| records(&path(name))).collect::<Vec<_>>();
        let count = || files.iter().map(|name| whole(&path(name))).sum::<usize>();
        wait_until("all is written", || count() >= hashes.len());
        let told: BTreeSet<String> =
            all().iter().map(|one| one["token_sha256"].as_str().unwrap().to_owned()).collect();
        assert_eq!(all().len(), hashes.len(), "{mode}");
        assert_eq!(told, hashes.into_iter().collect(), "{mode}");
    }
}

#[test]
fn a_reload_takes_another_file_at_once_and_loses_nothing() {
    for mode in MODES {
        let setup = setup("./audit.jsonl", mode);
        let (key, text) = (setup.key.clone(), setup.configuration());
        let gateway = setup.start();
        // One connection, whose worker takes up the new configuration between two requests.
        let mut client = gateway.client();
        let mut ask = || token(&client.request("POST", ROOM, &[("token", &key)], READER));
        ask();
        gateway.reload(&text.clone().set("audit.file", "./other.jsonl"));
        ask();
        recorded(&gateway, "audit.jsonl", 1);
        recorded(&gateway, "other.jsonl", 1);
        gateway.reload(&text.clone().set("audit.file", "./missing/audit.jsonl"));
        ask();
        recorded(&gateway, "other.jsonl", 2);
        let path = |name: &str| gateway.folder.path().join(name);
        fs::rename(path("other.jsonl"), path("other.jsonl.1")).unwrap();
        gateway.reload(&text.clone().set("audit.file", "./other.jsonl"));
        ask();
        recorded(&gateway, "other.jsonl", 1);
        gateway.reload(&text.without("audit"));
        ask();
        assert_eq!(recorded(&gateway, "other.jsonl.1", 2).len(), 2);
        recorded(&gateway, "other.jsonl", 1);
    }
}

#[test]
fn what_waits_is_written_when_the_process_stops() {
    let mut gateway = setup("./audit.jsonl", "best_effort").start();
    token(&gateway.call("POST", ROOM, READER));
    gateway.signal("TERM");
    gateway.wait(Duration::from_secs(20));
    assert_eq!(records(&gateway.folder.path().join("audit.jsonl")).len(), 1);
}

#[test]
fn records_can_go_to_standard_output() {
    let gateway = setup("stdout", "required").start();
    let answer = gateway.call("POST", ROOM, READER);
    let hash = sha256(&token(&answer));
    let told = |line: &Value| line["event"] == "token" && line["token_sha256"] == hash.as_str();
    wait_until("it is told", || gateway.access_lines().iter().any(told));
}

fn inspect(token: &str, files: &[PathBuf], more: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(["token", "inspect", token]).args(more);
    files.iter().for_each(|file| _ = command.arg("--audit").arg(file));
    command.output().unwrap()
}

#[test]
fn it_is_found_who_got_a_token_that_leaked() {
    let gateway = setup("./audit.jsonl", "required").start();
    let leaked = gateway.call("POST", ROOM, READER);
    let path = gateway.folder.path().join("audit.jsonl");
    let rotated = gateway.folder.path().join("audit.jsonl.1");
    fs::rename(&path, &rotated).unwrap();
    gateway.reload(&fs::read_to_string(gateway.config_path()).unwrap());
    let other = token(&gateway.call("POST", ROOM, READER));
    let files = [path.clone(), rotated.clone()];

    let ran = inspect(&token(&leaked), &files, &[]);
    assert_eq!(ran.status.code(), Some(0));
    let told = String::from_utf8(ran.stdout).unwrap();
    for line in [
        "handed to:  lessons".to_owned(),
        "granted by: profiles.backend".to_owned(),
        "for room:   faed3130727911ebaea37759ee91947c".to_owned(),
        format!("request id: {}", leaked.header("x-request-id")),
        "searched:   2 records in 2 files".to_owned(),
    ] {
        assert!(told.contains(&format!("{line}\n")), "{line} in\n{told}");
    }

    assert_eq!(inspect(&token(&leaked), &[path], &[]).status.code(), Some(1), "not in that one");
    let ran = inspect(&other, std::slice::from_ref(&rotated), &["--json"]);
    assert_eq!(ran.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!((&told["audit"]["found"], &told["good"]), (&false.into(), &true.into()));

    // A line that a full disk has cut short.
    let whole = fs::read_to_string(&rotated).unwrap();
    fs::write(&rotated, format!("{}\n{whole}", &whole[..50])).unwrap();
    let ran = inspect(&token(&leaked), &files, &["--json"]);
    assert_eq!(ran.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(told["audit"]["records"][0]["caller"], "lessons");
    assert_eq!((&told["audit"]["found"], &told["audit"]["broken"]), (&true.into(), &1.into()));

    let ran = inspect(&other, &[gateway.folder.path().join("no-such-file")], &[]);
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8(ran.stderr).unwrap().contains("no-such-file"));
}
