//! What hangs outside of the process (a pipe that nobody reads, a file that may not grow, a thread
//! that cannot be had) holds up neither requests nor the end of the process.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Client, Process, Setup, Upstream, wait_until};

/// As many requests write more than the 64 KiB that a pipe holds.
const MANY: usize = 600;

/// Where a room's tokens are asked for, and how.
const TOKENS: &str = "/v5/tokens/rooms/d07bcaf0a17911ea9d7e23232cddf42d";
const LIFE: &str = r#"{"lifespan":60000,"role":"reader"}"#;

/// A named pipe that nobody reads.
fn named_pipe(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path.to_str().unwrap().to_owned()
}

/// The command, started by a shell with this line, in which it is `"$@"`.
fn by_shell(command: &Command, line: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", line, "sh"]).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

fn serves(gateway: &Process, requests: usize) {
    let mut client = gateway.client();
    for _ in 0..requests {
        let answer = client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
        assert_eq!(answer.status, 200);
    }
}

/// Tells it to stop, and how long that took. All these have a drain time of 1 s.
fn stop(gateway: &mut Process) -> Duration {
    let begun = Instant::now();
    gateway.signal("TERM");
    gateway.wait(Duration::from_secs(20));
    begun.elapsed()
}

/// With its access lines in a file, or a pipe, of its folder.
fn writing_to(setup: Setup, name: &str) -> Setup {
    let path = setup.folder.path().join(name);
    setup.set("log.access", path.display().to_string())
}

fn setup(upstream: &Upstream) -> Setup {
    Setup::new(&upstream.url()).set("listen.drain", "1s")
}

#[test]
fn nobody_reads_standard_output() {
    let upstream = Upstream::json("200 OK", "[]");
    for audit in ["", "[audit]\nfile = \"stdout\"\n"] {
        let setup = setup(&upstream).with(audit);
        let pipe = named_pipe(setup.folder.path(), "stdout");
        let command = by_shell(&setup.command("serve"), &format!(r#"exec "$@" 1<>{pipe}"#));
        let mut gateway = Process::of(command, setup.folder, setup.key);
        // On both workers: each has its own queue of connections.
        (0..4).for_each(|_| serves(&gateway, MANY / 4));
        let minted = gateway.call("POST", TOKENS, LIFE);
        assert_eq!(minted.status, 201, "{}", minted.text());
        assert_eq!(gateway.admin("/livez").status, 200);
        assert!(stop(&mut gateway) < Duration::from_secs(4));
        let log = gateway.stderr();
        assert!(log.contains("the last access lines or audit records are lost"), "{log}");
    }
}

#[test]
fn nobody_reads_standard_error() {
    let upstream = Upstream::json("200 OK", "[]");
    // Where it listens cannot be read in its log.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let setup = writing_to(setup(&upstream), "access.log");
    let (access, key) = (setup.folder.path().join("access.log"), setup.key.clone());
    let setup = setup.set("listen.address", free.to_string());
    let pipe = named_pipe(setup.folder.path(), "stderr");
    let mut command = by_shell(&setup.command("serve"), &format!(r#"exec "$@" 2<>{pipe}"#));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut gateway = Running(command.spawn().unwrap());
    wait_until("it serves", || TcpStream::connect(free).is_ok());
    let mut client = Client::connect(free);
    for _ in 0..MANY {
        assert_eq!(client.request("GET", "/v5/rooms", &[("token", &key)], "").status, 200);
    }
    wait_until("its lines are written", || {
        fs::read_to_string(&access).is_ok_and(|lines| lines.lines().count() >= MANY)
    });
    let (begun, id) = (Instant::now(), gateway.0.id().to_string());
    assert!(Command::new("kill").arg(id).status().unwrap().success());
    wait_until("it ends", || gateway.0.try_wait().unwrap().is_some());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn nobody_reads_a_named_pipe_for_access_lines() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = writing_to(setup(&upstream), "access");
    named_pipe(setup.folder.path(), "access");
    let text = setup.configuration();
    let mut gateway = setup.start();
    serves(&gateway, MANY);
    gateway.reload(&text);
    assert_eq!(gateway.metric("wbg_config_reload_success"), 1.0);
    serves(&gateway, 10);
    assert!(stop(&mut gateway) < Duration::from_secs(4));
}

#[test]
fn a_required_record_that_is_not_taken_holds_up_its_token_alone() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = setup(&upstream);
    let pipe = named_pipe(setup.folder.path(), "audit");
    let setup = setup.with(&format!("[audit]\nfile = \"{pipe}\"\nmode = \"required\"\n"));
    let mut gateway = setup.start();
    let mint = |gateway: &Process| gateway.call("POST", TOKENS, LIFE);
    // Until the pipe is full.
    let refused = (0..MANY).map(|_| mint(&gateway)).find(|answer| answer.status != 201);
    let refused = refused.expect("a record is not taken at last");
    refused.assert_envelope(500, "audit_unavailable");
    let mut waiting = gateway.client();
    let head = format!("host: a\r\ntoken: {}\r\ncontent-length: {}", gateway.key, LIFE.len());
    waiting.send(format!("POST {TOKENS} HTTP/1.1\r\n{head}\r\n\r\n{LIFE}").as_bytes());
    let begun = Instant::now();
    (0..4).for_each(|_| serves(&gateway, 5));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    waiting.answer("POST").unwrap().assert_envelope(500, "audit_unavailable");
    assert!(stop(&mut gateway) < Duration::from_secs(5));
}

#[test]
fn a_file_that_may_not_grow_costs_lines_and_not_the_process() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = writing_to(setup(&upstream), "access.log");
    let command = by_shell(&setup.command("serve"), r#"ulimit -f 8; exec "$@""#);
    let mut gateway = Process::of(command, setup.folder, setup.key);
    for _ in 0..3 {
        serves(&gateway, 50);
        wait_until("lines are lost", || gateway.metric("wbg_access_lines_lost_total") > 0.0);
    }
    let log = gateway.until_logged("access lines could not be written");
    assert_eq!(log.matches("access lines could not be written").count(), 1, "{log}");
    assert!(stop(&mut gateway) < Duration::from_secs(4));
}

#[test]
fn no_more_threads_are_needed_to_stop() {
    let upstream = Upstream::json("200 OK", "[]");
    let mut gateway = setup(&upstream).start();
    serves(&gateway, 1);
    let names = fs::read_dir(format!("/proc/{}/task", gateway.id())).unwrap();
    let names: Vec<_> =
        names.map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap()).collect();
    for name in ["drain", "end", "reload", "log", "access-log"] {
        assert!(
            names.iter().any(|one| one.trim() == name),
            "{name} is there from the start: {names:?}"
        );
    }
    assert!(stop(&mut gateway) < Duration::from_secs(4));
}

#[test]
fn a_reload_that_failed_for_a_passing_reason_is_tried_again() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = setup(&upstream);
    let secret = setup.folder.path().join("secret");
    let other = setup
        .configuration()
        .without("projects.classroom.keys.0.secret_key")
        .set("projects.classroom.keys.0.secret_key.file", secret.display().to_string());
    let gateway = setup.start();
    gateway.reload(&other);
    assert_eq!(gateway.metric("wbg_config_reload_success"), 0.0);
    fs::write(&secret, "sandbox-secret-key").unwrap();
    wait_until("it is tried again", || gateway.metric("wbg_config_reload_success") == 1.0);
    let log = gateway.until_logged("was not reloaded");
    assert_eq!(log.matches("was not reloaded").count(), 1, "said once: {log}");
}
