//! `serve --sandbox` from its first line to its end: the greeting, which is pasted into shells, keys
//! and ports that stay, what is refused beside it, and what ends it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use whiteboard_gateway::caller;
use whiteboard_gateway::token::Claims;

use crate::support::{
    Client, PROMPT, Process, SHELLS, Setup, Terminal, binary, ended, pasted, wait_until,
};

/// The lines of the greeting that are to be pasted.
fn block(greeting: &str) -> &str {
    let from = greeting.find("export GATEWAY").unwrap();
    &greeting[from..greeting.find("\nGATEWAY is").unwrap()]
}

/// Looks whether a room was made, a token for it minted, and a ban refused.
fn assert_done(printed: &str) {
    let lines: Vec<&str> = printed.lines().map(str::trim).collect();
    let hex = |line: &str| line.len() == 32 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let room = lines.iter().find(|line| hex(line)).unwrap_or_else(|| panic!("no room: {printed}"));
    let token = lines.iter().find_map(|line| serde_json::from_str::<String>(line).ok());
    let claims = Claims::read(&token.unwrap_or_else(|| panic!("no token: {printed}"))).unwrap();
    assert_eq!(
        (claims.kind.as_str(), claims.uuid(), claims.role_digit()),
        ("room", Some(*room), "2")
    );
    let refusal = lines
        .iter()
        .find_map(|line| serde_json::from_str::<Value>(line).ok()?.as_object().cloned());
    let refusal = refusal.unwrap_or_else(|| panic!("no refusal: {printed}"));
    assert_eq!(refusal["code"], "forbidden", "{refusal:?}");
    assert!(refusal["message"].is_string() && refusal["requestId"].is_string(), "{refusal:?}");
}

#[test]
fn the_greeting_does_what_it_says_in_every_shell() {
    let gateway = Process::sandbox();
    let greeting = gateway.stdout();
    let folder = tempfile::tempdir().unwrap();
    for shell in SHELLS {
        let ran = pasted(&mut shell.command(folder.path()), block(&greeting));
        let (printed, errors) = (text(&ran.stdout), text(&ran.stderr));
        assert_eq!(ran.status.code(), Some(0), "{}: {printed}{errors}", shell.name);
        assert_eq!(printed.lines().count(), 6, "{}: {printed}", shell.name);
        assert_done(printed);
    }
}

/// With its first and last lines, which are no commands, as somebody pastes who takes all of it.
#[test]
fn the_whole_greeting_can_be_pasted_into_a_terminal() {
    let gateway = Process::sandbox();
    let greeting = gateway.stdout();
    let folder = tempfile::tempdir().unwrap();
    for shell in SHELLS {
        let mut terminal = Terminal::with(shell, folder.path());
        terminal.types(&greeting);
        terminal.types("echo \"end of $SANDBOX with $ADMIN\"\n");
        let end =
            format!("end of http://{} with http://{}", gateway.sandbox_address(), gateway.admin);
        wait_until(shell.name, || terminal.screen().contains(&end));
        assert_done(&terminal.screen().replace(PROMPT, ""));
    }
}

#[test]
fn the_addresses_in_the_greeting_are_those_that_a_shell_here_reaches() {
    for (listen, address) in [("0.0.0.0:0", "http://127.0.0.1:"), ("[::1]:0", "'http://[::1]:")] {
        let gateway = Process::sandbox_with(&[("WBG__LISTEN__ADDRESS", listen)]);
        assert!(gateway.exported("GATEWAY").starts_with(address), "{}", gateway.stdout());
        let folder = tempfile::tempdir().unwrap();
        for shell in SHELLS {
            assert_done(text(
                &pasted(&mut shell.command(folder.path()), block(&gateway.stdout())).stdout,
            ));
        }
    }
    let silent = [("WBG__ADMIN__ADDRESS", "off"), ("WBG__LISTEN__ADDRESS", "127.0.0.1:0")];
    let process = serving(&["serve", "--sandbox"], &silent);
    wait_until("it greets", || process.stdout().contains("Ctrl-C stops"));
    assert!(!process.stdout().contains("export ADMIN"), "{}", process.stdout());
}

// Keys and ports

/// Starts it without a look at its admin listener.
fn serving(arguments: &[&str], variables: &[(&str, &str)]) -> Process {
    let mut command = Command::new(binary());
    command.args(arguments).env("WBG__LOG__FORMAT", "json").envs(variables.iter().copied());
    Process::of_greeting(command)
}

const FREE: [(&str, &str); 2] =
    [("WBG__LISTEN__ADDRESS", "127.0.0.1:0"), ("WBG__ADMIN__ADDRESS", "127.0.0.1:0")];

#[test]
fn keys_and_the_port_stay_from_run_to_run_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sandbox.keys");
    // The port of a listener that is gone is free, as far as anybody can know.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let arguments =
        ["serve", "--sandbox", "--keys", file.to_str().unwrap(), "--sandbox-port", &port];
    let run = || {
        let mut gateway = serving(&arguments, &FREE);
        assert_eq!(gateway.sandbox_address().port().to_string(), port);
        let token = [("token", gateway.exported("KEY"))];
        let token = token.each_ref().map(|(name, value)| (*name, value.as_str()));
        let rooms = gateway.client().request("GET", "/v5/rooms", &token, "");
        assert_eq!(rooms.status, 200, "{}", rooms.text());
        let keys = ["KEY", "STUDENT_KEY", "WBG_ADMIN_KEY"].map(|name| gateway.exported(name));
        gateway.signal("INT");
        assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(0));
        keys
    };
    let first = run();
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may read it");
    let kept = fs::read_to_string(&file).unwrap();
    let [backend, student, operator] = &first;
    let lines = format!("KEY={backend}\nSTUDENT_KEY={student}\nWBG_ADMIN_KEY={operator}\n");
    assert_eq!(kept, lines);
    assert_eq!(run(), first);
    assert_eq!(fs::read_to_string(&file).unwrap(), kept);
    // Without the file each run has its own.
    assert_ne!(Process::sandbox().exported("KEY"), first[0]);
}

/// Runs it where it cannot start: what it says.
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(binary());
    command.args(arguments).envs(FREE).envs(variables.iter().copied());
    let ran = ended(command);
    assert_eq!((ran.status.code(), text(&ran.stdout)), (Some(2), ""), "{arguments:?}");
    text(&ran.stderr).to_owned()
}

#[test]
fn a_file_of_keys_that_cannot_be_used_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let live = caller::generate(true).unwrap().expose().to_owned();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("live"), format!("KEY={live}\n")).unwrap();
    fs::write(path("binary"), [b'K', 0xff, 0xfe]).unwrap();
    fs::write(path("wide"), [0xff, 0xfe, b'K', 0]).unwrap();
    for (name, why) in [
        ("empty", "`KEY` is missing: make one with `whiteboard-gateway key new --test`"),
        ("live", "`KEY` in line 1 is a key of another kind"),
        ("binary", "it is not UTF-8"),
        ("wide", "it is UTF-16"),
        ("no/such/folder", "cannot be made: No such file or directory"),
        (".", "cannot be read: it is a directory"),
    ] {
        let before = fs::read(path(name)).ok();
        let said = refused(&["serve", "--sandbox", "--keys", &path(name)], &[]);
        assert!(said.contains(why) && said.contains(&path(name)), "{name}: {said}");
        assert!(!said.contains(&live[9..]), "{said}");
        assert_eq!(fs::read(path(name)).ok(), before, "{name}");
    }
    assert!(refused(&["serve", "--sandbox", "--keys", "-"], &[]).contains("not `-`"));
}

#[test]
fn a_port_that_cannot_be_had_is_refused_by_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refused(&["serve", "--sandbox", "--sandbox-port", &port], &[]);
    for part in ["--sandbox-port", &port, "another process serves it"] {
        assert!(said.contains(part), "{said}");
    }
    let own = [("WBG__LISTEN__ADDRESS", "127.0.0.1:18089")];
    let said = refused(&["serve", "--sandbox", "--sandbox-port", "18089"], &own);
    assert!(said.contains("is the port of `listen.address` or `admin.address`"), "{said}");
}

// What cannot count beside it

#[test]
fn what_could_only_be_ignored_beside_the_sandbox_is_refused() {
    for (name, value, key) in [
        ("WBG__UPSTREAM__URL", "https://api.netless.link", "`upstream.url`"),
        ("WBG__UPSTREAM__CA", "/etc/ssl/certs/ca.pem", "`upstream.ca`"),
        ("WBG__UPSTREAM__HTTP2", "false", "`upstream.http2`"),
        ("WBG__PROJECTS__SANDBOX__SDK_TOKEN", "NETLESSSDK_x", "stands beside keys"),
        ("WBG__CALLERS__BACKEND__PROFILE", "student", "`callers`"),
    ] {
        let said = refused(&["serve", "--sandbox"], &[(name, value)]);
        assert!(said.contains(name) && said.contains(key), "{name}: {said}");
        assert!(!said.contains("NETLESSSDK_x"), "{said}");
    }
    let said = refused(&["serve", "--sandbox"], &[("WBG__UPSTREAM__URL", "http://127.0.0.1:1")]);
    assert!(said.contains("means nothing with --sandbox") && said.contains("--config"), "{said}");
    for flags in [["--keys", "a"], ["--sandbox-port", "1"]] {
        let said = refused(&[&["serve"][..], &flags].concat(), &[]);
        assert!(said.contains("--sandbox"), "{said}");
    }
    let said = refused(&["serve", "--sandbox", "--config", "gateway.toml"], &[]);
    assert!(said.contains("cannot be used with"), "{said}");
}

#[test]
fn what_else_is_configured_beside_the_sandbox_counts() {
    let gateway = Process::sandbox_with(&[
        ("WBG__UPSTREAM__REGION", "ap-new"),
        ("WBG__UPSTREAM__REGIONS", "ap-new"),
        ("WBG__PROFILES__BACKEND__ROLE", "writer"),
    ]);
    let room = gateway.call("POST", "/v5/rooms", "");
    assert_eq!(room.status, 201, "{}", room.text());
    let seen =
        Client::connect(gateway.sandbox_address()).request("GET", "/sandbox/requests", &[], "");
    assert_eq!(seen.json()[0]["region"], "ap-new", "{}", seen.text());
    let path = format!("/v5/rooms/{}", room.member("uuid"));
    gateway.call("PATCH", &path, r#"{"isBan":true}"#).assert_envelope(403, "forbidden");
}

// Own tokens

/// As the official demo does, which polls its conversion with the Task token that it was given.
#[test]
fn own_room_and_task_tokens_are_taken() {
    let gateway = Process::sandbox();
    let with = |token: &str, method: &str, path: &str, body: &str| {
        gateway.client().request(method, path, &[("token", token)], body)
    };
    let minted = |path: &str, role: &str| {
        let body = format!(r#"{{"lifespan":0,"role":"{role}"}}"#);
        gateway.call("POST", path, &body).json().as_str().unwrap().to_owned()
    };
    let resource = r#"{"resource":"https://a/b.pptx","type":"dynamic"}"#;
    for (start, poll) in
        [("/v5/projector/tasks", ""), ("/v5/services/conversion/tasks", "?type=dynamic")]
    {
        let task = gateway.call("POST", start, resource).member("uuid");
        let token = minted(&format!("/v5/tokens/tasks/{task}"), "reader");
        let polled = with(&token, "GET", &format!("{start}/{task}{poll}"), "");
        assert_eq!(polled.status, 200, "{}", polled.text());
    }
    let room = gateway.call("POST", "/v5/rooms", "").member("uuid");
    let path = format!("/v5/rooms/{room}");
    let scenes = r#"{"path":"/a","scenes":[{"name":"1"}]}"#;
    // By the role of the token itself, as at the service.
    for (role, read, ban) in [("reader", 403, 403), ("writer", 200, 403), ("admin", 200, 201)] {
        let token = minted(&format!("/v5/tokens/rooms/{room}"), role);
        assert_eq!(with(&token, "GET", &path, "").status, read, "{role}");
        let added = with(&token, "POST", &format!("{path}/scenes"), scenes).status;
        assert_eq!(added, if read == 200 { 201 } else { 403 }, "{role}");
        assert_eq!(with(&token, "PATCH", &path, r#"{"isBan":true}"#).status, ban, "{role}");
        assert_eq!(with(&token, "GET", "/v5/rooms/another", "").status, 404);
        assert_eq!(with(&token, "GET", "/v5/rooms", "").status, 403);
    }
}

// SIGHUP

#[test]
fn a_hangup_ends_a_sandbox_and_reloads_a_configuration() {
    let mut sandbox = Process::sandbox();
    sandbox.signal("HUP");
    assert_eq!(sandbox.wait(Duration::from_secs(5)).code(), Some(0));
    let gateway = Setup::new("http://127.0.0.1:1").start();
    gateway.signal("HUP");
    wait_until("it has reloaded", || gateway.reloads() == 1);
    assert_eq!(gateway.admin("/livez").status, 200);
}

/// Starts a command in a terminal, with its log in a file, and gives the log's path.
fn in_terminal(command: &str, folder: &Path) -> Terminal {
    let variables = FREE.map(|(name, value)| format!("{name}={value}")).join(" ");
    let command =
        format!("exec env {variables} WBG__LOG__FORMAT=json CLASSROOM_SK=x {command} 2>log >out");
    let terminal = Terminal::running(&command, folder);
    wait_until("it listens", || log(folder).matches("\"listening\"").count() == 2);
    terminal
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// The process that wrote the log, by the address that it serves.
fn answers(folder: &Path) -> bool {
    let log = log(folder);
    let line = log.lines().find(|line| line.contains("\"listener\":\"admin\"")).unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    let address: std::net::SocketAddr = event["address"].as_str().unwrap().parse().unwrap();
    let answers = std::net::TcpStream::connect(address).is_ok();
    answers && Client::connect(address).request("GET", "/livez", &[], "").status == 200
}

#[test]
fn a_terminal_that_closes_ends_what_runs_in_it() {
    let setup = Setup::new("http://127.0.0.1:1");
    setup.write();
    for serve in ["--sandbox".to_owned(), format!("--config {}", setup.path().display())] {
        let folder = tempfile::tempdir().unwrap();
        let terminal = in_terminal(&format!("{} serve {serve}", binary()), folder.path());
        assert!(answers(folder.path()));
        terminal.close();
        wait_until("it ends", || log(folder.path()).contains("\"stopped\""));
        wait_until("nobody listens", || !answers(folder.path()));
        assert!(!log(folder.path()).contains("reloaded"), "{}", log(folder.path()));
    }
}

#[test]
fn a_terminal_that_is_there_lets_a_configuration_be_reloaded() {
    let setup = Setup::new("http://127.0.0.1:1");
    setup.write();
    let folder = tempfile::tempdir().unwrap();
    let serve =
        format!("sh -c 'echo $$ >id; exec {} serve --config {}'", binary(), setup.path().display());
    let _terminal = in_terminal(&serve, folder.path());
    let id = fs::read_to_string(folder.path().join("id")).unwrap();
    assert!(Command::new("kill").args(["-HUP", id.trim()]).status().unwrap().success());
    wait_until("it has reloaded", || log(folder.path()).contains("was reloaded"));
    assert!(answers(folder.path()));
}

#[test]
fn what_is_to_outlive_its_terminal_does() {
    let setup = Setup::new("http://127.0.0.1:1");
    setup.write();
    for serve in ["--sandbox".to_owned(), format!("--config {}", setup.path().display())] {
        let folder = tempfile::tempdir().unwrap();
        let command = format!("sh -c 'echo $$ >id; exec nohup {} serve {serve}'", binary());
        let terminal = in_terminal(&command, folder.path());
        terminal.close();
        let id = fs::read_to_string(folder.path().join("id")).unwrap();
        if serve != "--sandbox" {
            wait_until("it has reloaded", || log(folder.path()).contains("was reloaded"));
        }
        assert!(Command::new("kill").args(["-HUP", id.trim()]).status().unwrap().success());
        assert!(answers(folder.path()), "{}", log(folder.path()));
        assert!(Command::new("kill").args(["-TERM", id.trim()]).status().unwrap().success());
        wait_until("it ends", || log(folder.path()).contains("\"stopped\""));
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
