//! Unix sockets that are listened on: by curl, with their rights, through a hand-over, and where they
//! cannot be.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::{Process, Setup, Upstream, binary, ended, value, wait_until};

/// A gateway with a listener of that name at this path, besides a port.
fn with_socket(upstream: &Upstream, path: &Path, more: &str) -> Setup {
    Setup::new(&upstream.url())
        .with(&format!("[listeners.local]\naddress = \"unix:{}\"\n{more}", path.display()))
}

fn curl(path: &Path, arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-s", "--unix-socket"]).arg(path).args(arguments);
    String::from_utf8(curl.output().unwrap().stdout).unwrap()
}

fn list(path: &Path, key: &str) -> String {
    curl(path, &["-H", &format!("token: {key}"), "http://localhost/v5/rooms"])
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

#[test]
fn curl_reaches_the_gateway_and_the_admin_listener_by_their_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let [local, admin] = ["local.sock", "admin.sock"].map(|name| folder.path().join(name));
    let upstream = Upstream::json("200 OK", "[]");
    // Somebody died there.
    drop(UnixListener::bind(&local).unwrap());
    let setup = with_socket(&upstream, &local, "socket_mode = \"0600\"\n");
    let setup = setup.set("admin.address", format!("unix:{}", admin.display()).as_str());
    let mut command = setup.command("serve");
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    wait_until("it listens", || UnixStream::connect(&admin).is_ok());
    assert_eq!(list(&local, &setup.key), "[]");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&local), mode(&admin)), (0o600, 0o660));
    assert_eq!(curl(&admin, &["http://localhost/livez"]).trim(), "{\"alive\":true}");
    assert!(curl(&admin, &["http://evil.example/budgets"]).contains("forbidden"));
    // As a container engine asks.
    let mut health = Command::new(binary());
    health.arg("health").env("WBG__ADMIN__ADDRESS", format!("unix:{}", admin.display()));
    let output = ended(health);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let mut health = Command::new(binary());
    health.args(["health", &format!("unix:{}", local.with_file_name("no.sock").display())]);
    let output = ended(health);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    wait_until("it ends", || child.try_wait().unwrap().is_some());
    assert!(!local.exists() && !admin.exists(), "they go with it");
    let mut lines = String::new();
    child.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    assert!(lines.contains("\"client\":\"127.0.0.1\",\"listener\":\"local\""), "{lines}");
}

#[test]
fn peers_of_a_socket_are_one_address_unless_the_proxy_protocol_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("local.sock");
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = with_socket(&upstream, &path, "proxy_protocol = [\"127.0.0.1\"]\n")
        .set("listen.max_connections_per_address", value("2"))
        .start();
    let ask = |address: &str| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = format!(
            "PROXY TCP4 {address} 10.0.0.1 1 80\r\nGET /v5/rooms HTTP/1.1\r\nhost: a\r\ntoken: {}\r\n\r\n",
            gateway.key
        );
        // Whatever pieces it comes in.
        for piece in request.as_bytes().chunks(9) {
            stream.write_all(piece).unwrap();
        }
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (stream, String::from_utf8(status[9..].to_vec()).unwrap())
    };
    let kept: Vec<_> = ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(ask).into();
    assert!(kept.iter().all(|(_, status)| status == "200"));
    assert_ne!(ask("192.0.2.1").1, "200");
    wait_until("the lines name them", || {
        gateway.access_lines().iter().any(|line| line["client"] == "192.0.2.2")
    });
}

#[test]
fn a_second_process_takes_the_path_over_and_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("local.sock");
    let upstream = Upstream::json("200 OK", "[]");
    let mut old = with_socket(&upstream, &path, "share = true\n").start();
    assert_eq!(list(&path, &old.key), "[]");
    // One that does not say so is refused, by name.
    let refused = with_socket(&upstream, &path, "");
    let output = ended(refused.command("serve"));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("another process serves it"), "{}", said(&output));
    assert!(said(&output).contains("`listeners.local.share = true`"), "{}", said(&output));
    let new: Process = with_socket(&upstream, &path, "share = true\n").start();
    old.signal("INT");
    assert_eq!(old.wait(Duration::from_secs(20)).code(), Some(0));
    assert_eq!(list(&path, &new.key), "[]", "the path is the new one's");
}

#[test]
fn where_a_socket_cannot_be_is_told_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::json("200 OK", "[]");
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let mut cases = vec![
        (file.clone(), "a file that is no socket is there"),
        (folder.path().join("no/a.sock"), "its directory is not there"),
    ];
    if fs::write(closed.join("probe"), "").is_err() {
        cases.push((closed.join("a.sock"), "this process may not make it there"));
    }
    for (path, why) in cases {
        let output = ended(with_socket(&upstream, &path, "").command("serve"));
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(why), "{}", said(&output));
        assert!(said(&output).contains(path.to_str().unwrap()), "{}", said(&output));
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    let long = folder.path().join("x".repeat(200));
    for (path, more, why) in [
        (long, "", "at most 103 bytes"),
        (folder.path().join("a.sock"), "socket_mode = \"rw\"\n", "rights in octal digits"),
        (folder.path().join("a.sock"), "socket_owner = \"no-such-user\"\n", "names no user"),
    ] {
        let output = ended(with_socket(&upstream, &path, more).command("check"));
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(why), "{}", said(&output));
    }
}
