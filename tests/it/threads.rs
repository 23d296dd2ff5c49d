//! A process that may have no more threads serves, fetches keys and stops as ever: what it needs
//! later is there from the start.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Configuration, Gate, Issuer, Process, Setup, Signer, Upstream, answer, binary, wait_until,
};

const ROOM: &str = "/v5/rooms/d07bcaf0a17911ea9d7e23232cddf42d";

/// The limit of threads is one of users, and root has none: where the tests run as root, the gateway
/// runs as somebody with no other process.
fn start(setup: Setup) -> Process {
    let serve = setup.command("serve");
    if !is_root() {
        return Process::of(serve, setup.folder, setup.key);
    }
    let user = user();
    give(setup.folder.path(), user);
    // The build's folder may be root's alone; an open file is not looked for by its path.
    let line = format!("exec \"$@\" 3<{}", binary());
    let mut command = Command::new("sh");
    command.args(["-c", &line, "sh"]).args(as_user()).arg("/proc/self/fd/3").args(serve.get_args());
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Process::of(command, setup.folder, setup.key)
}

/// Who is nobody else.
fn user() -> u32 {
    40_000 + std::process::id() % 20_000
}

/// What runs a command as that user.
fn as_user() -> [String; 4] {
    let user = user();
    let [uid, gid] = ["uid", "gid"].map(|kind| format!("--re{kind}={user}"));
    ["setpriv".to_owned(), uid, gid, "--clear-groups".to_owned()]
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn give(folder: &Path, user: u32) {
    chown(folder, Some(user), Some(user)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        chown(entry.unwrap().path(), Some(user), Some(user)).unwrap();
    }
}

/// From now on it can start no thread.
fn no_more_threads(gateway: &Process) {
    // Whose it is may lower its limit, whatever the rights of root are here.
    let mut words = if is_root() { as_user().to_vec() } else { Vec::new() };
    words.extend(["prlimit", "--nproc=1:1", "--pid"].map(str::to_owned));
    words.push(gateway.id().to_string());
    assert!(Command::new(&words[0]).args(&words[1..]).status().unwrap().success());
}

/// What a reload would need a thread for is refused, which shows that there are none.
fn shows_that_there_are_none(gateway: &Process, configuration: &Configuration) {
    let audit = gateway.folder.path().join("audit.jsonl");
    gateway.reload(&configuration.clone().set("audit.file", audit.display().to_string()));
    assert_eq!(gateway.metric("wbg_config_reload_success"), 0.0);
    gateway.until_logged("Resource temporarily unavailable");
    gateway.reload(configuration);
    assert_eq!(gateway.metric("wbg_config_reload_success"), 1.0);
}

#[test]
fn a_stop_without_threads_finishes_what_is_in_flight() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::scripted(move |_, stream| {
        held.wait();
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    });
    let setup = Setup::new(&upstream.url());
    let configuration = setup.configuration();
    let mut gateway = start(setup);
    no_more_threads(&gateway);
    shows_that_there_are_none(&gateway, &configuration);
    thread::scope(|scope| {
        let asked = scope.spawn(|| gateway.call("GET", ROOM, ""));
        wait_until("it is in flight", || !upstream.received().is_empty());
        gateway.signal("TERM");
        let address = gateway.address;
        wait_until("it accepts nothing more", || TcpStream::connect(address).is_err());
        gate.open();
        let answered = asked.join().unwrap();
        assert_eq!(answered.status, 200, "{}", answered.text());
    });
    let begun = Instant::now();
    let status = gateway.wait(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn keys_are_fetched_and_names_resolved_without_threads() {
    let upstream = Upstream::json("200 OK", "{}");
    let [old, new] = ["old", "new"].map(|id| Arc::new(Signer::es256(id)));
    let issuer = Issuer::serving(&[Arc::clone(&old)]);
    // By a name, so that connections need the resolver.
    let port = upstream.address.port();
    let setup = Setup::new(&format!("http://localhost:{port}"));
    let folder = setup.folder.path().to_owned();
    let setup = setup.with(&issuer.section("school", &folder, "profile = \"backend\""));
    let configuration = setup.configuration();
    let gateway = start(setup);
    no_more_threads(&gateway);
    shows_that_there_are_none(&gateway, &configuration);
    let status = |signer: &Signer| {
        let token = signer.token(&issuer.claims(&json!({})));
        gateway.client().call(&token, "GET", ROOM, "").status
    };
    wait_until("its keys are fetched", || status(&old) == 200);
    issuer.publish(&[Arc::clone(&new)]);
    wait_until("a key that is new is fetched", || status(&new) == 200);
    let ready = gateway.admin("/readyz").json();
    assert_eq!(ready["issuers"]["school"]["usable"], true, "{ready}");
    assert!(ready["issuers"]["school"]["error"].is_null(), "{ready}");
}
