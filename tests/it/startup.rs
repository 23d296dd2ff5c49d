//! What a process says of itself when it starts, where it listens and why it cannot, and `--version`.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::support::{Client, Setup, Upstream, binary, ended, value};

/// As it is, or with changes that no commit has.
fn is_commit(text: &str) -> bool {
    let text = text.strip_suffix("+dirty").unwrap_or(text);
    text == "unknown" || (text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[test]
fn the_first_line_says_what_runs() {
    let upstream = Upstream::json("200 OK", "{}");
    let mut setup = Setup::new(&upstream.url());
    _ = setup.key_of("reports", "backend");
    let gateway = setup.with("[profiles.student]\nproject = \"classroom\"\n").start();
    let log = gateway.stderr();
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&first["message"], &first["level"]), (&"starting".into(), &"INFO".into()), "{log}");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert!(is_commit(first["commit"].as_str().unwrap()), "{first}");
    assert!(!first["build"].as_str().unwrap().is_empty(), "{first}");
    assert!(first["config"].as_str().unwrap().ends_with("gateway.toml"), "{first}");
    assert_eq!(first["upstream"], upstream.url().as_str());
    let counts = ["callers", "profiles", "issuers"].map(|name| first[name].as_u64().unwrap());
    assert_eq!(counts, [2, 2, 0]);
}

#[test]
fn the_version_names_the_commit_and_the_kind_of_build() {
    let output = Command::new(binary()).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let rest = said.strip_prefix(concat!("whiteboard-gateway ", env!("CARGO_PKG_VERSION")));
    let inner = rest.and_then(|rest| rest.trim_end().strip_prefix(" (commit ")).unwrap();
    let (commit, build) = inner.strip_suffix(" build)").unwrap().split_once(", ").unwrap();
    assert!(is_commit(commit), "{said}");
    assert!(!build.is_empty(), "{said}");
}

#[test]
fn the_metrics_name_the_build_that_the_version_names() {
    let gateway = Setup::new(&Upstream::json("200 OK", "{}").url()).start();
    let log = gateway.stderr();
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let metrics = gateway.admin("/metrics").text();
    let info = metrics.lines().find(|line| line.starts_with("wbg_build_info{")).unwrap();
    for name in ["version", "commit", "build"] {
        let label = format!("{name}={}", first[name]);
        assert!(info.contains(&label), "{label} is not in {info}");
    }
}

/// A configuration that listens here, and has its admin listener there.
fn listening(upstream: &Upstream, address: &str, admin: &str) -> Setup {
    Setup::new(&upstream.url())
        .set("listen.address", value(address))
        .set("admin.address", value(admin))
}

#[test]
fn both_families_are_served_on_one_port() {
    let upstream = Upstream::json("200 OK", "[]");
    let Ok(probe) = TcpListener::bind("[::]:0") else {
        eprintln!("NOT RUN: there is no IPv6 here");
        return;
    };
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    for both in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"], ["127.0.0.1", "[::1]"]] {
        let [first, second] = both.map(|address| format!("\"{address}:{port}\""));
        let setup = listening(&upstream, &format!("[{first}, {second}]"), "\"127.0.0.1:0\"");
        let mut gateway = setup.start();
        for address in ["127.0.0.1", "[::1]"] {
            let mut client = Client::connect(format!("{address}:{port}").parse().unwrap());
            let answer = client.call(&gateway.key, "GET", "/v5/rooms", "");
            assert_eq!(answer.status, 200, "{both:?} {address}: {}", answer.text());
        }
        gateway.signal("TERM");
        gateway.wait(Duration::from_secs(10));
    }
}

/// Who has the address is said, and what leads somewhere: no key for an address that has none.
#[test]
fn an_address_that_is_taken_is_said_to_be_whose_it_is() {
    let upstream = Upstream::json("200 OK", "[]");
    let other = listening(&upstream, "\"127.0.0.1:0\"", "\"127.0.0.1:0\"").start();
    let outgoing = TcpStream::connect(other.address).unwrap();
    let (theirs, connection) = (other.address, outgoing.local_addr().unwrap());
    // Nobody's.
    let ours = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let share = "`listen.share = true`";
    let everywhere = SocketAddr::from(([0, 0, 0, 0], ours.port()));
    for (listen, admin, says, hints) in [
        (theirs, None, "another process serves it", Some(share)),
        (connection, None, "an outgoing connection has this port", None),
        (ours, Some(theirs), "another process serves it", None),
        (ours, Some(connection), "an outgoing connection has this port", None),
        (ours, Some(everywhere), "this process listens there already", None),
    ] {
        let quoted = |address: SocketAddr| format!("\"{address}\"");
        let admin = admin.map_or_else(|| "\"127.0.0.1:0\"".to_owned(), quoted);
        let setup = listening(&upstream, &quoted(listen), &admin);
        let output = ended(setup.command("serve"));
        let said = String::from_utf8(output.stderr).unwrap();
        let last = said.lines().last().unwrap();
        assert_eq!(output.status.code(), Some(2), "{last}");
        assert!(last.contains(says), "{listen} {admin}: {last}");
        assert_eq!(last.contains(share), hints.is_some(), "{listen} {admin}: {last}");
    }
}
