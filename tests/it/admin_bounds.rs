//! The admin listener before those who are no operators: pages of other sites, and readers that
//! take nothing.

use std::time::{Duration, Instant};

use crate::support::frames::{END_STREAM, PREFACE, SETTINGS};
use crate::support::{Answer, Client, Frames, Process, Setup, Upstream, wait_until};

fn setup() -> Setup {
    Setup::new(&Upstream::json("200 OK", "[]").url())
}

fn ask(gateway: &Process, host: &str, path: &str) -> Answer {
    let mut client = Client::connect(gateway.admin);
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\n\r\n");
    client.send(request.as_bytes());
    client.answer("GET").unwrap()
}

#[test]
fn on_loopback_a_page_whose_name_was_pointed_here_is_shown_nothing() {
    let gateway = setup().start();
    for path in ["/budgets", "/openapi.json", "/", "/nowhere"] {
        ask(&gateway, "evil.example", path).assert_envelope(403, "forbidden");
        ask(&gateway, "localhost.evil.example", path).assert_envelope(403, "forbidden");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(ask(&gateway, "evil.example", path).status, 200, "{path}");
    }
    for host in ["localhost", "LOCALHOST:9090", "127.0.0.1:1", "[::1]"] {
        for path in ["/budgets", "/openapi.json", "/"] {
            assert_eq!(ask(&gateway, host, path).status, 200, "{host} {path}");
        }
    }
    // And over HTTP/2, where `:authority` names it.
    let mut frames = Frames::connect(gateway.admin);
    frames.head(1, END_STREAM, &head("/budgets", "evil.example"));
    let answer = frames.outcome(1);
    assert!(format!("{answer:?}").contains("forbidden"), "{answer:?}");
}

#[test]
fn elsewhere_it_answers_under_every_name() {
    let gateway = setup().set("admin.address", "0.0.0.0:0").start();
    for (path, status) in [("/budgets", 403), ("/openapi.json", 403), ("/", 200), ("/livez", 200)] {
        assert_eq!(ask(&gateway, "gateway.internal", path).status, status, "{path}");
    }
}

/// The head of a GET.
fn head<'a>(path: &'a str, authority: &'a str) -> [(&'a str, &'a str); 4] {
    [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", authority)]
}

/// How long the slowest of twenty probes takes.
fn slowest_probe(gateway: &Process) -> Duration {
    let probe = |_| {
        let asked = Instant::now();
        assert_eq!(gateway.admin("/livez").status, 200);
        asked.elapsed()
    };
    (0..20).map(probe).max().unwrap()
}

#[test]
fn readers_that_take_nothing_hold_up_no_probe_and_little_memory() {
    // Metrics of 200 profiles are a few hundred KiB.
    let profiles: String = (0..200)
        .map(|number| {
            format!("[profiles.p{number}]\nproject = \"classroom\"\nallow = [\"rooms.get\"]\n")
        })
        .collect();
    let gateway = setup().with(&profiles).start();
    let page = gateway.admin("/metrics").body.len();
    assert!(page > 100_000, "{page}");
    let alone = slowest_probe(&gateway);
    let before = gateway.memory();
    let mut readers = Vec::new();
    for _ in 0..20 {
        let mut reader = Frames::bare(gateway.admin);
        reader.write(PREFACE);
        // A window of nothing (RFC 9113 §6.5.2).
        reader.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        for stream in 0..100 {
            reader.head(1 + 2 * stream, END_STREAM, &head("/metrics", "a"));
        }
        readers.push(reader);
    }
    let slowest = slowest_probe(&gateway);
    // What this machine is late by anyway is not theirs.
    assert!(slowest < Duration::from_millis(800) + 2 * alone, "{slowest:?}, and {alone:?} alone");
    let grown = gateway.memory().saturating_sub(before);
    assert!(grown < 64, "{grown} MiB, by 2000 answers of {page} bytes");
    // Who reads is answered, if not at once.
    wait_until("there are metrics", || gateway.admin("/metrics").status == 200);
    drop(readers);
}

#[test]
fn metrics_come_as_plain_text_to_those_who_prefer_it() {
    let gateway = setup().start();
    let ask = |accept: &str| {
        let mut client = Client::connect(gateway.admin);
        client.request("GET", "/metrics", &[("accept", accept)], "")
    };
    let plain = ask("text/plain");
    assert_eq!(plain.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = plain.text();
    assert!(text.contains("# TYPE wbg_requests_total counter\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    let prometheus = ask("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3");
    assert!(prometheus.header("content-type").starts_with("application/openmetrics-text"));
    assert!(prometheus.text().ends_with("# EOF\n"));
}

#[test]
fn a_method_that_http_does_not_define_is_not_repeated() {
    let gateway = setup().start();
    let request = format!("{} /v5/rooms HTTP/1.1\r\nhost: a\r\n\r\n", gateway.key);
    let mut client = gateway.client();
    client.send(request.as_bytes());
    let answer = client.answer("GET").unwrap();
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!(line["method"], "_OTHER");
    assert!(!gateway.stdout().contains(&gateway.key) && !gateway.stderr().contains(&gateway.key));
}

#[test]
fn the_time_has_one_name_in_all_lines_and_a_field_tells_them_apart() {
    let gateway = setup().start();
    let answer = gateway.call("GET", "/v5/rooms", "");
    let access = gateway.access_line(answer.header("x-request-id"));
    assert_eq!(access["log"], "access");
    let events = gateway.stderr();
    assert!(events.lines().count() >= 2, "{events}");
    for line in events.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["log"], "events", "{line}");
        assert!(event["level"].is_string() && event["message"].is_string(), "{line}");
        for line in [&event, &access] {
            let time = line["time"].as_str().unwrap();
            assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        }
    }
}

#[test]
fn a_request_with_an_empty_body_in_chunks_keeps_its_connection_once_it_is_whole() {
    let gateway = setup().start();
    let mut client = Client::connect(gateway.admin);
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/nowhere", 404)]
    {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n");
        let head = format!("{head}transfer-encoding: chunked\r\n\r\n");
        client.send(format!("{head}0\r\n\r\n").as_bytes());
        let answer = client.answer("GET").unwrap();
        assert_eq!((answer.status, answer.header("connection")), (status, ""));
        // Nobody waits for the end of a body that nobody reads: the answer is the last one then.
        let mut early = Client::connect(gateway.admin);
        early.send(head.as_bytes());
        let answer = early.answer("GET").unwrap();
        assert_eq!((answer.status, answer.header("connection")), (status, "close"));
    }
}
