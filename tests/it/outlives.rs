//! What belongs to the service outlives a reload that is not about it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use whiteboard_gateway::token::Claims;

use crate::support::{Process, Setup, Upstream, answer, wait_until};

/// Rewrites the configuration and waits until it counts.
fn change(gateway: &Process, part: &str, other: &str) {
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    assert!(text.contains(part), "{part} in {text}");
    gateway.reload(&text.replace(part, other));
}

/// One worker, so that what each has for itself is the same for every request.
fn setup(upstream: &Upstream) -> Setup {
    Setup::new(&upstream.url()).replacing("workers = 2", "workers = 1")
}

fn read(gateway: &Process) -> u16 {
    gateway.call("GET", "/v5/rooms/faed3130727911ebaea37759ee91947c", "").status
}

const OTHER_KEY: &str = ", { access_key = \"other\", secret_key = { env = \"CLASSROOM_SK\" } }";

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
    let gateway = setup(&upstream)
        .replacing(
            "env = \"CLASSROOM_SK\" } }",
            &format!("env = \"CLASSROOM_SK\" }} }}{OTHER_KEY}"),
        )
        .start();
    assert_eq!(read(&gateway), 200);
    assert_eq!(upstream.received().len(), 2, "it was found out which key it is");
    let token = upstream.received()[1].header("token").to_owned();
    for (part, other) in [
        ("max_lifespan = \"24h\"", "max_lifespan = \"23h\""),
        ("[upstream]\n", "[upstream]\nfirst_byte_timeout = \"9s\"\n"),
        (
            "[projects.classroom]",
            "[projects.another]\nkeys = [{ access_key = \"x\", secret_key = \
            { env = \"CLASSROOM_SK\" } }]\n[projects.classroom]",
        ),
    ] {
        change(&gateway, part, other);
        let before = upstream.received().len();
        assert_eq!(read(&gateway), 200);
        let received = upstream.received();
        assert_eq!(received.len(), before + 1, "{other}");
        assert_eq!(received[before].header("token"), token, "{other}");
    }
    // What changes the project does not: the one key that is left is asked for a new token.
    change(&gateway, "{ access_key = \"sandbox\", secret_key = { env = \"CLASSROOM_SK\" } }, ", "");
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
    for (part, other) in [
        ("open = \"20s\"", "open = \"15s\""),
        ("[upstream]\n", "[upstream]\ntimeout = \"14s\"\n"),
        ("[upstream]\n", "[upstream]\nregions = [\"xx-new\"]\n"),
    ] {
        change(&gateway, part, other);
        let refused = gateway.call("GET", "/v5/rooms/a", "");
        refused.assert_envelope(500, "upstream_unavailable");
    }
    assert_eq!(upstream.received().len(), asked);
}
