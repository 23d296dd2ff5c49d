//! As a service of systemd, or of what speaks as it does: what the manager is told, and the sockets
//! that it hands down.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

use crate::support::{Client, Process, Setup, Upstream, activated, finished, wait_until};

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket }
    }

    /// The next thing that it is told, signs of life passed over.
    fn told(&self) -> String {
        loop {
            let mut buffer = [0; 4096];
            let count = self.socket.recv(&mut buffer).expect("it is told something");
            let text = String::from_utf8(buffer[..count].to_vec()).unwrap();
            if text != "WATCHDOG=1\n" {
                return text;
            }
        }
    }
}

fn told_to(setup: &Setup, address: &str) -> Command {
    let mut command = setup.command("serve");
    command.env("NOTIFY_SOCKET", address);
    command
}

#[test]
fn the_manager_is_told_of_start_reload_and_stop() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let good = setup.configuration();
    let path = setup.folder.path().join("notify");
    let manager = Manager::new(UnixDatagram::bind(&path).unwrap());
    let command = told_to(&setup, path.to_str().unwrap());
    let mut gateway = Process::of(command, setup.folder, setup.key);

    let ready = manager.told();
    let status = format!("READY=1\nSTATUS=serves on {}, configuration ", gateway.address);
    assert!(ready.starts_with(&status), "{ready}");

    gateway.reload("broken");
    assert!(manager.told().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    let failed = manager.told();
    assert!(failed.starts_with(&status) && failed.contains("gateway.toml"), "{failed}");
    assert_eq!(failed.lines().count(), 2, "{failed}");

    // The signal and the change of the file may each have begun one.
    gateway.reload(&good);
    let reloaded = |told: &str| told.starts_with(&status) && !told.contains("cannot be used");
    while !reloaded(&manager.told()) {}

    gateway.signal("TERM");
    let mut told = manager.told();
    while told.starts_with("RELOADING=1\n") || reloaded(&told) {
        told = manager.told();
    }
    assert_eq!(told, "STOPPING=1\nSTATUS=not ready, and still serving\n");
    assert_eq!(manager.told(), "STOPPING=1\nSTATUS=requests in flight are finished\n");
    assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn a_watchdog_gets_signs_of_life_over_an_abstract_socket_too() {
    let setup = Setup::new("http://127.0.0.1:1");
    let name = format!("wbg-test-{}", setup.folder.path().file_name().unwrap().to_str().unwrap());
    let address = UnixAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut command = told_to(&setup, &format!("@{name}"));
    command.env("WATCHDOG_USEC", "800000");
    let gateway = Process::of(command, setup.folder, setup.key);
    let mut alive = 0;
    while alive < 3 {
        let mut buffer = [0; 4096];
        let count = manager.recv(&mut buffer).expect("it goes on");
        alive += usize::from(&buffer[..count] == b"WATCHDOG=1\n");
    }
    drop(gateway);
}

#[test]
fn a_manager_that_cannot_be_told_is_no_reason_not_to_serve() {
    let upstream = Upstream::json("200 OK", "[]");
    for address in ["/nowhere/at/all", "vsock:2:1"] {
        let setup = Setup::new(&upstream.url());
        let command = told_to(&setup, address);
        let gateway = Process::of(command, setup.folder, setup.key);
        assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
        gateway.until_logged("the service manager c");
    }
}

// Sockets that are handed down.

fn socket() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_socket_that_is_handed_down_is_served_and_no_other() {
    let upstream = Upstream::json("200 OK", "[]");
    let (listener, address) = socket();
    let setup = Setup::new(&upstream.url());
    let key = setup.key.clone();
    // Somebody comes before the process has been started.
    let mut early = Client::connect(address);
    early.send(format!("GET /v5/rooms HTTP/1.1\r\nhost: g\r\ntoken: {key}\r\n\r\n").as_bytes());
    let gateway = setup.activated(&listener, "http");
    assert_eq!(gateway.address, address);
    assert_eq!(gateway.stderr().matches("\"listener\":\"listen\"").count(), 1);
    assert_eq!(early.answer("GET").unwrap().status, 200);
    // Each worker accepts from it.
    for _ in 0..8 {
        assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    }
}

#[test]
fn a_socket_without_a_name_takes_the_place_of_the_address_that_it_has() {
    let upstream = Upstream::json("200 OK", "[]");
    let (listener, address) = socket();
    let setup = Setup::new(&upstream.url()).set("listen.address", address.to_string());
    let gateway = setup.activated(&listener, "gateway.socket");
    assert_eq!(gateway.address, address);
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
}

#[test]
fn a_socket_can_be_the_admin_listeners() {
    let upstream = Upstream::json("200 OK", "[]");
    let (listener, address) = socket();
    let gateway = Setup::new(&upstream.url()).activated(&listener, "admin");
    assert_eq!(gateway.admin, address);
    assert_eq!(gateway.admin("/livez").status, 200);
}

#[test]
fn what_cannot_be_used_of_what_is_handed_down_is_a_clear_error() {
    let setup = Setup::new("http://127.0.0.1:1");
    let serve = setup.command("serve");
    let (listener, address) = socket();
    let told = |command: Command| {
        let output = finished(command);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let told_of = told(activated(&serve, &listener, "gateway.socket"));
    assert!(told_of.contains(&format!("a socket at {address}")), "{told_of}");
    assert!(told_of.contains("name it `http`, `admin` or as one of [listeners]"), "{told_of}");

    let mut command = activated(&serve, &listener, "http");
    command.stdin(File::open("/dev/null").unwrap());
    let told_of = told(command);
    assert!(told_of.contains("the socket \"http\" of LISTEN_FDS"), "{told_of}");

    let connected = TcpStream::connect(address).unwrap();
    let mut command = activated(&serve, &listener, "http");
    command.stdin(std::os::fd::OwnedFd::from(connected));
    let told_of = told(command);
    assert!(told_of.contains("does not listen"), "{told_of}");
}

#[test]
fn what_was_meant_for_another_process_is_left_alone() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let mut command = setup.command("serve");
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").env("LISTEN_FDNAMES", "http");
    let gateway = Process::of(command, setup.folder, setup.key);
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    wait_until("it listens", || gateway.admin("/livez").status == 200);
}
