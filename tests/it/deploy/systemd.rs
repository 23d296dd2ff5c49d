//! The systemd unit: valid, closed, and wide enough for what the gateway really does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{ran, read, seconds, stop};
use crate::support::{Client, Process, Setup, Upstream, binary, wait_until};

/// The unit with a binary that is there, in a place of its own.
fn installed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let unit = read("deploy/systemd/whiteboard-gateway.service");
    let there = unit.replace("ExecStart=whiteboard-gateway", &format!("ExecStart={}", binary()));
    assert_ne!(there, unit);
    fs::write(folder.path().join("whiteboard-gateway.service"), there).unwrap();
    let socket = read("deploy/systemd/whiteboard-gateway.socket");
    fs::write(folder.path().join("whiteboard-gateway.socket"), socket).unwrap();
    folder
}

/// The values of a setting, the last of which counts where it is no list.
fn setting(name: &str) -> Vec<String> {
    let unit = read("deploy/systemd/whiteboard-gateway.service");
    let start = format!("{name}=");
    let found: Vec<String> =
        unit.lines().filter_map(|line| Some(line.strip_prefix(&start)?.to_owned())).collect();
    assert!(!found.is_empty(), "no {name}");
    found
}

#[test]
fn the_units_are_valid() {
    let folder = installed();
    let units = ["service", "socket"].map(|kind| {
        let unit = folder.path().join(format!("whiteboard-gateway.{kind}"));
        unit.to_str().unwrap().to_owned()
    });
    let told = ran(Command::new("systemd-analyze").arg("verify").args(units));
    let ours: Vec<&str> = told.lines().filter(|line| line.contains("whiteboard-gateway")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}

#[test]
fn the_service_is_exposed_no_more_than_it_must_be() {
    let folder = installed();
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", "--threshold=20"]);
    let told = ran(command.arg(folder.path().join("whiteboard-gateway.service")));
    let overall = told.lines().find(|line| line.contains("Overall exposure level")).unwrap();
    let level = overall.split(": ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(level.parse::<f32>().unwrap() <= 1.2, "{overall}");
}

#[test]
fn a_stop_takes_no_longer_than_systemd_waits() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    // What it is unless somebody says otherwise.
    fs::write(&file, "").unwrap();
    let most = stop(&file);
    let given = seconds(&setting("TimeoutStopSec")[0]);
    assert!((most + 5..most + 20).contains(&given), "{given} s for {most} s");
}

#[test]
fn the_paths_of_the_configuration_are_those_of_the_unit() {
    let configuration = read("deploy/systemd/gateway.toml");
    for credential in setting("LoadCredential") {
        let (name, _) = credential.split_once(':').unwrap();
        let path = format!("/run/credentials/whiteboard-gateway.service/{name}");
        assert!(configuration.contains(&format!("file = \"{path}\"")), "nobody reads {path}");
    }
    let state = format!("/var/lib/{}/", setting("StateDirectory")[0]);
    let table: toml::Table = configuration.parse().unwrap();
    for section in ["audit", "budgets"] {
        let file = table[section]["file"].as_str().unwrap();
        assert!(file.starts_with(&state), "{section} cannot be written to {file}");
    }
}

/// The system calls of a group, with those of the groups in it.
fn group(name: &str) -> BTreeSet<String> {
    let told = ran(Command::new("systemd-analyze").args(["syscall-filter", name]));
    let mut calls = BTreeSet::new();
    for line in told.lines().filter(|line| line.starts_with("    ")) {
        match line.trim() {
            comment if comment.starts_with('#') => {}
            inner if inner.starts_with('@') => calls.extend(group(inner)),
            call => _ = calls.insert(call.to_owned()),
        }
    }
    calls
}

/// The system calls that the unit lets through.
fn allowed() -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for filter in setting("SystemCallFilter") {
        match filter.strip_prefix('~') {
            None => filter.split(' ').for_each(|name| calls.extend(group(name))),
            Some(names) => {
                for name in names.split(' ') {
                    let away = group(name);
                    calls.retain(|call| !away.contains(call));
                }
            }
        }
    }
    calls
}

/// A gateway under `strace`, which stays out of its way: the process that is started is the gateway.
fn traced(setup: Setup, trace: &Path) -> Process {
    let serve = setup.command("serve");
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-q", "-o"]).arg(trace).arg(serve.get_program());
    command.args(serve.get_args());
    command.envs(serve.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Process::of(command, setup.folder, setup.key)
}

#[test]
fn everything_that_a_gateway_does_is_let_through() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url())
        .with("[audit]\nfile = \"./audit.jsonl\"\nmode = \"required\"\nsync = true\n")
        .with("[budgets]\nfile = \"./budgets.db\"\n")
        .with("[profiles.backend]\nbudgets = [{ of = \"tokens\", most = 9, per = \"day\" }]\n");
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let before = setup.configuration();
    let mut gateway = traced(setup, &trace);
    let asked = r#"{"role":"reader","lifespan":3600000}"#;
    assert_eq!(gateway.call("POST", "/v5/tokens/rooms/a", asked).status, 201);
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    assert_eq!(gateway.admin("/metrics").status, 200);
    gateway.reload(&before.clone().set("profiles.backend.max_lifespan", "12h"));
    // A name that is looked up, as that of the service is.
    let localhost = format!("http://localhost:{}", upstream.address.port());
    gateway.reload(&before.set("upstream.url", localhost));
    _ = gateway.call("GET", "/v5/rooms", "");
    gateway.signal("TERM");
    assert_eq!(gateway.wait(Duration::from_secs(20)).code(), Some(0));
    wait_until("the trace is whole", || {
        fs::read_to_string(&trace).is_ok_and(|trace| trace.contains("+++ exited with 0 +++"))
    });
    let trace = fs::read_to_string(&trace).unwrap();
    let lines = trace.lines().filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim()));
    let calls: Vec<&str> = lines.filter(|line| line.contains('(')).collect();
    let name = |call: &str| call.split('(').next().unwrap().to_owned();
    let word =
        |name: &String| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric());
    let made: BTreeSet<String> = calls.iter().map(|call| name(call)).filter(word).collect();
    assert!(
        made.len() > 40 && made.contains("epoll_wait") && made.contains("fdatasync"),
        "{made:?}"
    );
    let allowed = allowed();
    assert!(allowed.len() > 200, "{allowed:?}");
    let refused: Vec<&String> = made.difference(&allowed).collect();
    assert!(refused.is_empty(), "{refused:?}");
    // MemoryDenyWriteExecute and RestrictAddressFamilies.
    let families = setting("RestrictAddressFamilies");
    for call in calls {
        assert!(!(call.contains("PROT_WRITE") && call.contains("PROT_EXEC")), "{call}");
        if let Some(family) = call.strip_prefix("socket(") {
            let family = family.split(',').next().unwrap();
            let known = families[0].split(' ').any(|one| one == family);
            assert!(known || call.contains("AF_NETLINK"), "{call}");
        }
    }
}

/// The socket, as systemd hands it down by the name that the unit gives it.
#[test]
fn a_socket_of_the_unit_is_served() {
    let socket = read("deploy/systemd/whiteboard-gateway.socket");
    let named = socket.lines().find_map(|line| line.strip_prefix("FileDescriptorName=")).unwrap();
    let upstream = Upstream::json("200 OK", "[]");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = Setup::new(&upstream.url()).activated(&listener, named);
    let key = gateway.key.clone();
    let answer = Client::connect(address).request("GET", "/v5/rooms", &[("token", &key)], "");
    assert_eq!(answer.status, 200);
}

#[test]
fn the_shipped_budgets_and_audit_are_private_to_the_service() {
    assert_eq!(setting("UMask"), ["0077"]);
    assert_eq!(setting("StateDirectoryMode"), ["0700"]);
    assert_eq!(setting("User").len(), 1);
}
