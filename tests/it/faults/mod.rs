//! What the upstream does wrong, and what the caller gets: always the envelope, never the fault.
//!
//! The matrix has a row for each fault, each a test of its own, and `docs/faults.md` shows it. Here is
//! what no row can say.

#[macro_use]
mod matrix;
mod again;
mod http1;
mod http2;
mod tls;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use matrix::{Outcome, Row};
pub(crate) use tls::Shown;

use crate::docs::Page;
use crate::support::{Answer, Process, Setup, Upstream, answer, scenario_delay};

/// The whole matrix, in the order of the page.
fn rows() -> Vec<Row> {
    [http1::rows(), tls::rows(), http2::rows()].into_iter().flatten().collect()
}

/// A row as the page shows it.
fn shown(row: &Row) -> String {
    let (gets, message, error) = match row.outcome {
        Outcome::Success => ("its answer".to_owned(), String::new(), String::new()),
        Outcome::Failure { status, code, message, error } => {
            (format!("{status} `{code}`"), message.to_owned(), format!("`{error}`"))
        }
        Outcome::Aborted(code) => (
            format!("an answer that breaks off; `{code}` in the log"),
            String::new(),
            String::new(),
        ),
    };
    format!("| {} | {gets} | {message} | {error} | {} |", row.name, row.bound.name())
}

#[test]
fn the_page_of_faults_is_the_matrix() {
    let page = Page::read("docs/faults.md");
    let rows: Vec<String> = rows().iter().map(shown).collect();
    let table = rows.join("\n");
    assert!(page.contains(&table), "the table of docs/faults.md is to be:\n{table}");
    assert!(rows.len() >= 25, "{} rows", rows.len());
}

fn get_room(gateway: &Process) -> Answer {
    gateway.call("GET", "/v5/rooms/a", "")
}

#[test]
fn a_long_answer_streams() {
    let body = format!("\"{}\"", "x".repeat(299_998));
    let upstream = Upstream::json("200 OK", &body);
    let gateway = Setup::new(&upstream.url()).start();
    let answer = get_room(&gateway);
    assert_eq!((answer.status, answer.text() == body), (200, true));
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!((line["code"].as_str(), line["bytes"].as_u64()), (Some("ok"), Some(300_000)));
}

#[test]
fn a_connection_that_the_upstream_closed_while_idle_is_never_noticed() {
    let upstream = Upstream::scripted(|_, stream| {
        // Promises to keep the connection, and closes it.
        _ = stream.write_all(answer("200 OK", "{}").as_bytes());
        false
    });
    let gateway = Setup::new(&upstream.url()).start();
    let mut client = gateway.client();
    for _ in 0..50 {
        let answer = client.request("GET", "/v5/rooms/a", &[("token", &gateway.key)], "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Where the next request meets it on the connection, nobody could tell that it is not its answer.
#[test]
fn what_the_upstream_says_unasked_is_given_to_nobody() {
    let said = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&said);
    let upstream = Upstream::scripted(move |request, stream| {
        let own = format!("{{\"uuid\":\"{}\"}}", request.line.len());
        _ = stream.write_all(answer("200 OK", &own).as_bytes());
        scenario_delay(Duration::from_millis(50));
        // The gateway may have closed by then.
        _ = stream.write_all(answer("200 OK", "{\"uuid\":\"other\"}").as_bytes());
        count.fetch_add(1, Ordering::SeqCst);
        true
    });
    let gateway = Setup::new(&upstream.url()).set("listen.workers", 1).start();
    for asked in 0..4 {
        crate::support::wait_until("it has said more", || said.load(Ordering::SeqCst) == asked);
        let (method, body) = [("GET", ""), ("PATCH", r#"{"isBan":true}"#)][asked % 2];
        let answer = gateway.call(method, "/v5/rooms/a", body);
        assert_ne!(answer.member("uuid"), "other");
        assert!([200, 201].contains(&answer.status), "{}", answer.text());
    }
}

#[test]
fn a_storm_of_interim_answers_is_over_in_time() {
    let upstream = Upstream::scripted(|_, stream| {
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(64);
        while stream.write_all(hints.as_bytes()).is_ok() {
            scenario_delay(Duration::from_millis(1));
        }
        false
    });
    let deadline = "[upstream]\nfirst_byte_timeout = \"400ms\"\n";
    let gateway = Setup::new(&upstream.url()).with(deadline).set("log.level", "info").start();
    let begun = Instant::now();
    let answer = get_room(&gateway);
    // What ends it, its length or its time, depends on how fast it comes.
    let code = answer.member("code");
    assert!(["upstream_error", "upstream_timeout"].contains(&code.as_str()), "{code}");
    answer.assert_envelope(500, &code);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn a_token_in_what_the_upstream_says_is_taken_out() {
    let upstream = Upstream::scripted(|request, stream| {
        let told = format!("{{\"message\":\"cannot use {}\"}}", request.header("token"));
        stream.write_all(answer("400 Bad Request", &told).as_bytes()).is_ok()
    });
    let gateway = Setup::new(&upstream.url()).start();
    let answer = get_room(&gateway);
    assert_eq!(answer.member("message"), "cannot use NETLESSROOM_…");
}

#[test]
fn the_extended_profile_says_it_with_more_statuses() {
    let upstream = Upstream::json("503 Busy", "");
    let gateway = Setup::new(&upstream.url()).with("[errors]\nprofile = \"extended\"\n").start();
    get_room(&gateway).assert_envelope(502, "upstream_error");
    gateway.call("PUT", "/v5/rooms", "").assert_envelope(405, "method_not_allowed");
    let long = format!("{{\"name\":\"{}\"}}", "a".repeat(300_000));
    let answer = gateway.call("POST", "/v5/rooms", &long);
    answer.assert_envelope(413, "too_large");
}

#[test]
fn a_creation_goes_on_when_its_caller_goes_away_and_is_recorded() {
    let (go, held) = channel();
    let held = Mutex::new(held);
    let upstream = Upstream::scripted(move |_, stream| {
        held.lock().unwrap().recv().unwrap();
        stream.write_all(answer("201 Created", "{}").as_bytes()).is_ok()
    });
    let gateway = Setup::new(&upstream.url()).start();
    for turn in 1..=3 {
        let mut client = gateway.client();
        let token = format!("token: {}", gateway.key);
        client.send(
            format!(
                "POST /v5/rooms HTTP/1.1\r\nhost: g\r\n{token}\r\ncontent-length: 2\r\n\r\n{{}}"
            )
            .as_bytes(),
        );
        crate::support::wait_until("it has arrived", || upstream.received().len() == turn);
        client.reset();
        let gone = |line: &serde_json::Value| line["code"] == "caller_gone";
        crate::support::wait_until("the caller's leaving is recorded", || {
            gateway.access_lines().iter().filter(|line| gone(line)).count() == turn
        });
        go.send(()).unwrap();
    }
    go.send(()).unwrap();
    // The connection to the upstream was not cut: it is used again.
    assert_eq!(gateway.call("POST", "/v5/rooms", "{}").status, 201);
    assert!(upstream.connections() <= 4, "{}", upstream.connections());
}
