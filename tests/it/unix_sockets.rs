//! The service and the store behind Unix sockets.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{Redis, Setup, ended, value, wait_until};

/// A service that answers each request on a Unix socket, and remembers heads.
fn service(path: &Path) -> Arc<Mutex<Vec<String>>> {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = UnixListener::bind(path).unwrap();
    let seen = Arc::clone(&heads);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                let mut reader = BufReader::new(socket.try_clone().unwrap());
                let (mut socket, mut head, mut line) = (socket, String::new(), String::new());
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    head.push_str(&line);
                    if line == "\r\n" {
                        seen.lock().unwrap().push(std::mem::take(&mut head));
                        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";
                        if socket.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                    line.clear();
                }
            });
        }
    });
    heads
}

#[test]
fn the_service_is_spoken_to_over_a_unix_socket_which_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.sock");
    let heads = service(&path);
    let setup = Setup::new(&format!("unix:{}", path.display()));
    // A proxy is not asked, and would not answer.
    let setup = setup.with("[egress]\nproxy = \"http://127.0.0.1:9\"\n");
    let checked = setup.copy();
    let gateway = setup.start();
    for _ in 0..3 {
        let answered = gateway.call("GET", "/v5/rooms", "");
        assert_eq!(answered.status, 200, "{}", answered.text());
    }
    let head = heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /v5/rooms http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: localhost\r\n"), "{head}");
    let mut check = checked.command("check");
    check.arg("--online");
    let online = String::from_utf8(ended(check).stdout).unwrap();
    let named = format!("the service at unix:{}", path.display());
    assert!(online.lines().any(|line| line.contains("ok ") && line.contains(&named)), "{online}");
}

#[test]
fn a_unix_socket_that_cannot_be_connected_to_is_named_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    drop(UnixListener::bind(at("left")).unwrap());
    fs::write(at("file"), "").unwrap();
    for (name, said) in [
        ("absent", "is whoever listens there running"),
        ("left", "no one listens there any more"),
        ("file", "no one listens there any more"),
    ] {
        let gateway = Setup::new(&format!("unix:{}", at(name).display())).start();
        let answered = gateway.call("GET", "/v5/rooms", "");
        answered.assert_envelope(500, "upstream_error");
        let line = gateway.access_line(answered.header("x-request-id"));
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains(&at(name).display().to_string()), "{detail}");
        assert!(detail.contains(said), "{detail}");
    }
    let long = format!("unix:/{}", "x".repeat(199));
    for (url, said) in [
        (long.as_str(), "has at most 103 bytes, and this one has 200"),
        ("unix:service.sock", "is absolute"),
        ("unix:@service", "an abstract Unix socket"),
    ] {
        for key in ["upstream.url", "store.url"] {
            let setup = Setup::new("http://127.0.0.1:9").set(key, url);
            let output = ended(setup.command("check"));
            let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(told.contains(key) && told.contains(said), "{key} {url}: {told}");
        }
    }
}

#[test]
fn limits_are_counted_in_a_redis_behind_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (path, upstream) = (folder.path().join("redis.sock"), folder.path().join("service.sock"));
    let _heads = service(&upstream);
    let socket = format!("unixsocket {}", path.display());
    let _redis = Redis::with(&[&socket, "unixsocketperm 600"]);
    let start = || {
        let limit = value("{ rate = \"2/h\", burst = 2 }");
        Setup::new(&format!("unix:{}", upstream.display()))
            .with(&format!(
                "[store]\nurl = \"redis+unix://{}?db=2\"\nlease = false\n",
                path.display()
            ))
            .set("profiles.backend.shared_limit", limit)
            .start()
    };
    let (one, other) = (start(), start());
    let answers = |gateway: &crate::support::Process| gateway.call("GET", "/v5/rooms", "").status;
    wait_until("both count there", || {
        [&one, &other].iter().all(|one| one.admin("/readyz").text().contains("\"answers\":true"))
    });
    assert_eq!([answers(&one), answers(&other), answers(&one)], [200, 200, 403]);
}
