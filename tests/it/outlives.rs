//! What belongs to the service outlives a reload that is not about it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use whiteboard_gateway::token::Claims;

use crate::support::{
    Process, Setup, Upstream, Value, answer, silent_until_gone, value, wait_until,
};

/// Rewrites the configuration and waits until it counts.
fn change(gateway: &Process, path: &str, value: impl Into<Value>) {
    gateway.reload(&gateway.configuration().set(path, value));
}

/// One worker, so that what each has for itself is the same for every request.
fn setup(upstream: &Upstream) -> Setup {
    Setup::new(&upstream.url()).set("listen.workers", 1)
}

fn read(gateway: &Process) -> u16 {
    gateway.call("GET", "/v5/rooms/faed3130727911ebaea37759ee91947c", "").status
}

#[test]
fn tokens_and_the_key_of_a_room_outlive_every_reload_that_does_not_change_their_project() {
    // It takes the second key of the project alone.
    let upstream = Upstream::scripted(|request, stream| {
        let told = match Claims::read(request.header("token")).unwrap().access_key() {
            "other" => answer("200 OK", "{}"),
            _ => answer("401 No", "{\"message\":\"invalid signature of token\"}"),
        };
        stream.write_all(told.as_bytes()).is_ok()
    });
    let gateway = setup(&upstream).with_other_key().start();
    assert_eq!(read(&gateway), 200);
    assert_eq!(upstream.received().len(), 2, "it was found out which key it is");
    let token = upstream.received()[1].header("token").to_owned();
    for (path, other) in [
        ("profiles.backend.max_lifespan", "\"23h\""),
        ("upstream.first_byte_timeout", "\"9s\""),
        (
            "projects.another.keys",
            "[{ access_key = \"x\", secret_key = { env = \"CLASSROOM_SK\" } }]",
        ),
    ] {
        change(&gateway, path, value(other));
        let before = upstream.received().len();
        assert_eq!(read(&gateway), 200);
        let received = upstream.received();
        assert_eq!(received.len(), before + 1, "{other}");
        assert_eq!(received[before].header("token"), token, "{other}");
    }
    // What changes the project does not: the one key that is left is asked for a new token.
    gateway.reload(&gateway.configuration().without("projects.classroom.keys.0"));
    let before = upstream.received().len();
    assert_eq!(read(&gateway), 200);
    let received = upstream.received();
    assert_eq!(received.len(), before + 1);
    assert_ne!(received[before].header("token"), token);
}

#[test]
fn a_breaker_outlives_a_reload_that_changes_its_times_or_adds_a_region() {
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let upstream = Upstream::scripted(move |_, stream| {
        let status = if failing.load(Ordering::SeqCst) { "500 Oops" } else { "200 OK" };
        stream.write_all(answer(status, "{}").as_bytes()).is_ok()
    });
    let breaker = "[upstream.breaker]\nfailures = 3\nopen = \"20s\"\n";
    let gateway = setup(&upstream).with(breaker).start();
    wait_until("it opens", || {
        read(&gateway);
        gateway.admin("/readyz").json()["breakers"]["us-sv"] == "open"
    });
    let asked = upstream.received().len();
    for (path, other) in [
        ("upstream.breaker.open", "\"15s\""),
        ("upstream.timeout", "\"14s\""),
        ("upstream.regions", "[\"xx-new\"]"),
    ] {
        change(&gateway, path, value(other));
        let refused = gateway.call("GET", "/v5/rooms/a", "");
        refused.assert_envelope(500, "upstream_unavailable");
    }
    assert_eq!(upstream.received().len(), asked);
}

/// Begins a read that the service does not finish.
fn hold(gateway: &Process) -> std::net::TcpStream {
    let mut stream = std::net::TcpStream::connect(gateway.address).unwrap();
    let request =
        format!("GET /v5/rooms/long HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n\r\n", gateway.key);
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn counts_and_connections_outlive_a_reload_that_changes_bounds_and_times() {
    let upstream = Upstream::scripted(|request, stream| {
        if request.line.contains("/long") {
            silent_until_gone(stream);
            return false;
        }
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    });
    let bound = "[upstream]\nmax_in_flight = 3\nmin_in_flight = 1\n";
    let gateway = setup(&upstream).with(bound).start();
    assert_eq!(read(&gateway), 200);
    change(&gateway, "upstream.between_bytes_timeout", "4s");
    assert_eq!(read(&gateway), 200);
    assert_eq!(upstream.connections(), 1, "what was idle is used");
    let held = [hold(&gateway), hold(&gateway)];
    wait_until("both are there", || upstream.received().len() == 4);
    for (path, other, status) in [
        ("upstream.max_in_flight", "2", 500),
        ("upstream.timeout", "\"14s\"", 500),
        ("upstream.max_in_flight", "3", 200),
    ] {
        change(&gateway, path, value(other));
        assert_eq!(read(&gateway), status, "{other}");
    }
    drop(held);
}
