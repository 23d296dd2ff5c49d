//! What the process does besides answering: it takes a new configuration while it serves, it stops
//! in order, and it says why it does not start.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use whiteboard_gateway::token::Claims;

use crate::support::{
    Answer, Client, Gate, Process, Received, Setup, Upstream, answer, binary, ended, replace,
    scenario_delay, value, wait_until,
};

fn list(gateway: &Process, client: &mut Client) -> Answer {
    client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "")
}

/// The access key that signed what arrived.
fn access_key(received: &Received) -> String {
    Claims::read(received.header("token")).unwrap().access_key().to_owned()
}

// Reloading.

#[test]
fn a_kept_connection_sees_the_old_policy_and_then_the_new() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let stricter = setup.configuration().set("profiles.backend.role", "reader");
    let old = setup.configuration();
    let gateway = setup.start();
    let mut client = gateway.client();
    assert_eq!(list(&gateway, &mut client).status, 200);
    gateway.reload(&stricter);
    list(&gateway, &mut client).assert_envelope(403, "forbidden");
    gateway.reload(&old);
    assert_eq!(list(&gateway, &mut client).status, 200);
    assert_eq!(gateway.metric("wbg_config_reloads_total{result=\"loaded\"}"), 2.0);
}

#[test]
fn a_change_of_the_file_is_enough() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let stricter = setup.configuration().set("profiles.backend.role", "reader");
    let gateway = setup.start();
    let mut client = gateway.client();
    assert_eq!(list(&gateway, &mut client).status, 200);
    replace(&gateway.config_path(), &stricter.to_string());
    wait_until("the change is seen", || list(&gateway, &mut client).status == 403);
}

#[test]
fn a_broken_file_changes_nothing_and_is_told_without_its_secrets() {
    const SECRET: &str = "planted-secret-7Qw";
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let good = setup.configuration();
    let gateway = setup.start();
    let mut client = gateway.client();
    let version = gateway.admin("/readyz").json()["config"]["version"].clone();
    let secret_key = "projects.classroom.keys.0.secret_key";
    let set = |path: &str| good.clone().set(path, SECRET).to_string();
    let broken = [
        set("profiles.backend.role"),
        good.clone()
            .without("profiles.backend.role")
            .set("profiles.backend.roll", SECRET)
            .to_string(),
        good.clone().set(secret_key, value(&format!("{{ evn = \"{SECRET}\" }}"))).to_string(),
        format!("{}[rest]\nkey = \"{SECRET}", good.clone().without(secret_key)),
        set("profiles.backend.rooms"),
        set("profiles.backend.max_lifespan"),
        set("log.level"),
        set("profiles.backend.project"),
        format!("{SECRET} {good}"),
    ];
    for text in &broken {
        assert!(text.contains(SECRET));
        gateway.reload(text);
        assert_eq!(list(&gateway, &mut client).status, 200);
        assert_eq!(gateway.metric("wbg_config_reload_success"), 0.0);
        // The old one serves, so the process is ready all the same.
        let ready = gateway.admin("/readyz");
        assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()));
        let config = &ready.json()["config"];
        assert!(config["reload_error"].as_str().unwrap().contains("gateway.toml"), "{config}");
        assert_eq!(config["version"], version);
    }
    let failed = gateway.metric("wbg_config_reloads_total{result=\"failed\"}");
    assert_eq!(failed, gateway.reloads() as f64, "each is counted and logged");
    let log = gateway.until_logged("the configuration was not reloaded: the old one stays");
    for (place, text) in [
        ("the log", log),
        ("standard output", gateway.stdout()),
        ("/readyz", gateway.admin("/readyz").text()),
        ("/metrics", gateway.admin("/metrics").text()),
    ] {
        assert!(!text.contains(SECRET), "{place}: {text}");
    }
    gateway.reload(&good);
    assert_eq!(gateway.metric("wbg_config_reload_success"), 1.0);
    assert!(gateway.admin("/readyz").json()["config"]["reload_error"].is_null());
}

#[test]
fn a_broken_file_is_told_once() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let good = setup.configuration();
    let gateway = setup.start();
    // Past its first look at the file.
    gateway.reload(&good);
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    // A signal, and the watch that sees the same change within a second.
    gateway.reload("broken");
    scenario_delay(Duration::from_millis(1_500));
    assert_eq!(gateway.metric("wbg_config_reloads_total{result=\"failed\"}"), 1.0);
}

#[test]
fn what_was_counted_by_a_limit_is_kept_over_a_reload() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url())
        .with("[profiles.backend]\nlimit = { rate = \"3/h\", burst = 3 }\n");
    let changed = setup.configuration().set("profiles.backend.max_lifespan", "12h");
    let gateway = setup.start();
    let mut client = gateway.client();
    for left in ["\"caller\";r=2", "\"caller\";r=1"] {
        assert!(list(&gateway, &mut client).header("ratelimit").starts_with(left));
    }
    gateway.reload(&changed);
    assert!(list(&gateway, &mut client).header("ratelimit").starts_with("\"caller\";r=0"));
    list(&gateway, &mut client).assert_envelope(403, "rate_limited");
}

#[test]
fn nothing_goes_to_an_upstream_that_is_no_longer_configured() {
    let old = Upstream::json("200 OK", "[]");
    let new = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&old.url());
    let moved = setup
        .configuration()
        .set("upstream.url", new.url())
        .set("projects.classroom.keys.0.access_key", "other-project");
    let gateway = setup.start();
    // Connections on both workers, each with kept tokens and a kept connection to the old one.
    let mut clients: Vec<Client> = (0..16).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!(list(&gateway, client).status, 200);
    }
    let before = old.received().len();
    assert_eq!(before, clients.len());
    gateway.reload(&moved);
    for client in &mut clients {
        assert_eq!(list(&gateway, client).status, 200);
    }
    assert_eq!((old.received().len(), new.received().len()), (before, clients.len()));
    assert!(old.received().iter().all(|received| access_key(received) == "sandbox"));
    assert!(new.received().iter().all(|received| access_key(received) == "other-project"));
}

#[test]
fn a_rotated_access_log_is_opened_anew() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let path = setup.folder.path().join("access.log");
    let rotated = setup.folder.path().join("access.log.1");
    let setup = setup.with(&format!("[log]\naccess = \"{}\"\n", path.display()));
    let gateway = setup.start();
    let lines = |path| fs::read_to_string(path).unwrap_or_default().lines().count();
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    wait_until("the line is written", || lines(&path) == 1);
    fs::rename(&path, &rotated).unwrap();
    gateway.signal("HUP");
    wait_until("it has reloaded", || gateway.reloads() == 1);
    for _ in 0..2 {
        gateway.call("GET", "/v5/rooms", "");
    }
    wait_until("the lines are written", || lines(&path) == 2);
    assert_eq!(lines(&rotated), 1);
    assert_eq!(gateway.stdout(), "");
}

#[test]
fn what_only_a_start_can_change_is_warned_about() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let changed = setup.configuration().set("listen.workers", 1);
    let gateway = setup.start();
    let warned = || gateway.stderr().contains("[listen], [listeners] or [admin] has changed");
    gateway.signal("HUP");
    wait_until("it has reloaded", || gateway.reloads() == 1);
    assert!(!warned());
    gateway.reload(&changed);
    wait_until("the warning is logged", warned);
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
}

// Stopping.

/// An upstream that answers when the gate is open.
fn behind(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::scripted(move |_, stream| {
        gate.wait();
        stream.write_all(answer("200 OK", "[]").as_bytes()).is_ok()
    })
}

/// A client whose request is on its way to the upstream.
fn in_flight(gateway: &Process, upstream: &Upstream) -> Client {
    let before = upstream.received().len();
    let mut client = gateway.client();
    let request = format!("GET /v5/rooms HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n\r\n", gateway.key);
    client.send(request.as_bytes());
    wait_until("the upstream has it", || upstream.received().len() > before);
    client
}

fn refuses_connections(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

#[test]
fn a_request_in_flight_is_answered_before_the_process_ends() {
    let gate = Gate::default();
    let upstream = behind(&gate);
    let mut gateway = Setup::new(&upstream.url()).start();
    let mut slow = in_flight(&gateway, &upstream);
    let mut silent = gateway.client();
    let mut idle = gateway.client();
    assert_eq!(idle.request("GET", "/v5/nowhere", &[], "").status, 401);
    gateway.signal("TERM");
    wait_until("no connection is accepted", || refuses_connections(gateway.address));
    assert!(idle.is_closed() && silent.is_closed(), "nothing is asked on them");
    let ready = gateway.admin("/readyz");
    assert_eq!((ready.status, &ready.json()["draining"]), (503, &true.into()));
    assert_eq!(gateway.admin("/livez").status, 200);
    gate.open();
    let answer = slow.answer("GET").unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    assert!(slow.is_closed());
    assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(0));
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!(line["code"], "ok");
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT"), ("TERM", "INT")] {
        let gate = Gate::default();
        let upstream = behind(&gate);
        let mut gateway = Setup::new(&upstream.url()).start();
        let _slow = in_flight(&gateway, &upstream);
        gateway.signal(first);
        wait_until("it drains", || gateway.stderr().contains("requests in flight are finished"));
        gateway.signal(second);
        assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(130), "{first}, {second}");
    }
}

#[test]
fn a_process_that_is_told_to_stop_says_so_and_serves_until_load_balancers_know() {
    let upstream = Upstream::json("200 OK", "[]");
    let mut gateway = Setup::new(&upstream.url()).set("listen.pre_drain", "800ms").start();
    gateway.signal("TERM");
    wait_until("it is not ready", || gateway.admin("/readyz").status == 503);
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200, "a new connection is served");
    assert!(gateway.wait(Duration::from_secs(5)).success());
}

#[test]
fn what_hangs_is_cut_when_the_drain_time_is_over_and_recorded() {
    let gate = Gate::default();
    let upstream = behind(&gate);
    let mut gateway = Setup::new(&upstream.url()).with("[listen]\ndrain = \"300ms\"\n").start();
    let mut slow = in_flight(&gateway, &upstream);
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(0));
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    assert!(slow.answer("GET").is_none());
    wait_until("its log is read", || gateway.stderr().contains("\"stopped\""));
    assert!(gateway.stderr().contains("the drain time is over"), "{}", gateway.stderr());
    wait_until("the access line is written", || {
        gateway.access_lines().iter().any(|line| line["code"] == "caller_gone")
    });
}

#[test]
fn a_process_that_has_nothing_to_do_stops_at_once() {
    let upstream = Upstream::json("200 OK", "[]");
    let mut gateway = Setup::new(&upstream.url()).start();
    let kept: Vec<Client> = (0..20).map(|_| gateway.client()).collect();
    let begun = Instant::now();
    gateway.signal("INT");
    assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(kept);
}

// Starting.

/// What a command that cannot serve tells.
fn refusal(command: Command) -> String {
    let ran = ended(command);
    assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(2), &b""[..]));
    String::from_utf8(ran.stderr).unwrap()
}

#[test]
fn an_address_that_is_taken_is_a_clear_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for section in ["listen", "admin"] {
        let setup =
            Setup::new("http://127.0.0.1:1").set(&format!("{section}.address"), address.as_str());
        let told = refusal(setup.command("serve"));
        assert!(told.contains("error: ") && told.contains(&address), "{told}");
        assert!(told.contains("another process serves it"), "{told}");
    }
}

#[test]
fn two_processes_can_share_a_port_when_both_say_so() {
    let upstream = Upstream::json("200 OK", "[]");
    let sharing = |address: &str| {
        Setup::new(&upstream.url()).set("listen.share", true).set("listen.address", address)
    };
    let mut first = sharing("127.0.0.1:0").start();
    let second = sharing(&first.address.to_string());
    let key = second.key.clone();
    let second = second.start();
    assert_eq!(first.address, second.address);
    first.signal("TERM");
    assert_eq!(first.wait(Duration::from_secs(5)).code(), Some(0));
    for _ in 0..8 {
        let answer = second.client().request("GET", "/v5/rooms", &[("token", &key)], "");
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn without_a_configuration_it_says_what_there_is_to_say() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary());
    command.arg("serve").current_dir(folder.path());
    let told = refusal(command);
    for part in ["error: ", "--config", "--sandbox", "gateway.toml"] {
        assert!(told.contains(part), "{told}");
    }
    let mut command = Command::new(binary());
    command.args(["serve", "--config", "no-such-file.toml"]).current_dir(folder.path());
    assert!(refusal(command).contains("no-such-file.toml"));
}

#[test]
fn the_configuration_in_the_working_directory_is_found() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    setup.write();
    let mut command = Command::new(binary());
    command.arg("serve").current_dir(setup.folder.path());
    command.env("CLASSROOM_SK", "sandbox-secret-key");
    let gateway = Process::of(command, setup.folder, setup.key);
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
}
