//! What the upstream does wrong, and what the caller gets: always the envelope, never the fault.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Answer, Process, Received, Setup, Upstream, answer};

/// Deadlines short enough to be waited for.
const DEADLINES: &str = "[upstream]\nfirst_byte_timeout = \"400ms\"\nbetween_bytes_timeout = \"300ms\"\n\
    timeout = \"2s\"\nconnect_timeout = \"500ms\"\n";

fn gateway(url: &str) -> Process {
    Setup::new(url).replacing("[upstream]\n", DEADLINES).start()
}

fn get_room(gateway: &Process) -> Answer {
    gateway.call("GET", "/v5/rooms/a", "")
}

/// What the upstream sends before it closes, and the status, code and error type of RFC 9209 that
/// the caller gets. `received-status` stands where the failure is the upstream's own word.
const BROKEN: &[(&str, &str, u16, &str, &str)] = &[
    (
        "a page of a captive portal as success",
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>no</html>",
        500,
        "upstream_error",
        "http_protocol_error",
    ),
    ("nothing", "", 500, "upstream_error", "connection_terminated"),
    ("half a status line", "HTTP/1.1 20", 500, "upstream_error", "connection_terminated"),
    (
        "half a head",
        "HTTP/1.1 200 OK\r\ncontent-le",
        500,
        "upstream_error",
        "connection_terminated",
    ),
    ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", 500, "upstream_error", "http_protocol_error"),
    (
        "a broken field",
        "HTTP/1.1 200 OK\r\nbad field\r\n\r\n",
        500,
        "upstream_error",
        "http_protocol_error",
    ),
    (
        "a truncated body",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"a\"",
        500,
        "upstream_error",
        "http_response_incomplete",
    ),
    (
        "a bad chunk",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        500,
        "upstream_error",
        "http_response_incomplete",
    ),
    (
        "chunks without an end",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        500,
        "upstream_error",
        "http_response_incomplete",
    ),
    (
        "a redirect",
        "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
        500,
        "upstream_redirect",
        "http_protocol_error",
    ),
    (
        "a page of a CDN",
        "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>no</html>",
        500,
        "upstream_error",
        "received-status=502",
    ),
    (
        "an empty 500",
        "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n",
        500,
        "upstream_error",
        "received-status=500",
    ),
    (
        "an undocumented 5xx",
        "HTTP/1.1 599 Odd\r\ncontent-length: 0\r\n\r\n",
        500,
        "upstream_error",
        "received-status=599",
    ),
    (
        "an undocumented 4xx",
        "HTTP/1.1 418 Teapot\r\ncontent-length: 0\r\n\r\n",
        400,
        "upstream_refused",
        "received-status=418",
    ),
    (
        "too many requests",
        "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
        403,
        "rate_limited",
        "received-status=429",
    ),
    (
        "a room that is gone",
        "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n",
        404,
        "not_found",
        "received-status=410",
    ),
    (
        "not modified",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
        500,
        "upstream_redirect",
        "http_protocol_error",
    ),
    (
        "an encoding that was not asked for",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
        500,
        "upstream_error",
        "http_protocol_error",
    ),
    (
        "a token that it does not take",
        "HTTP/1.1 401 No\r\ncontent-length: 39\r\n\r\n{\"message\":\"invalid signature of token\"}",
        500,
        "upstream_credential",
        "proxy_configuration_error",
    ),
    ("a body for ever", "HTTP/1.1 200 OK\r\n\r\n{\"a\":1}", 200, "", ""),
];

#[test]
fn whatever_the_upstream_sends_the_caller_gets_the_documented_form() {
    for (name, sent, status, code, error) in BROKEN.iter().copied() {
        let upstream = Upstream::scripted(move |_, stream| {
            // The peer may have closed by then.
            _ = stream.write_all(sent.as_bytes());
            false
        });
        let gateway = gateway(&upstream.url());
        let answer = get_room(&gateway);
        if code.is_empty() {
            assert_eq!(answer.status, status, "{name}: {}", answer.text());
            continue;
        }
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        answer.assert_envelope(status, code);
        assert!(answer.header("proxy-status").contains(error), "{name}: {:?}", answer.headers);
        if name == "too many requests" {
            assert_eq!(answer.header("retry-after"), "7");
        }
        assert!(!answer.text().contains("html"), "{name}: {}", answer.text());
        let line = gateway.access_line(answer.header("x-request-id"));
        assert_eq!(
            (line["status"].as_u64(), line["code"].as_str()),
            (Some(u64::from(status)), Some(code)),
            "{name}"
        );
    }
}

#[test]
fn an_endless_head_is_cut_off() {
    let upstream = Upstream::scripted(|_, stream| {
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        let field = format!("x: {}\r\n", "a".repeat(1000));
        for _ in 0..1000 {
            if stream.write_all(field.as_bytes()).is_err() {
                break;
            }
        }
        false
    });
    let gateway = gateway(&upstream.url());
    let answer = get_room(&gateway);
    answer.assert_envelope(500, "upstream_error");
    assert!(answer.header("proxy-status").contains("http_response_header_section_size"));
}

#[test]
fn interim_answers_are_dropped() {
    let upstream = Upstream::scripted(|_, stream| {
        for _ in 0..20 {
            _ = stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
        }
        stream.write_all(answer("200 OK", "{\"uuid\":\"a\"}").as_bytes()).is_ok()
    });
    let gateway = gateway(&upstream.url());
    let answer = get_room(&gateway);
    assert_eq!((answer.status, answer.member("uuid").as_str()), (200, "a"));
    assert!(!answer.has("link"));
}

#[test]
fn an_upstream_that_refuses_or_has_no_name_is_told_as_that() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, error) in [
        (format!("http://{free}"), "connection_refused"),
        ("http://no-such-host.invalid".to_owned(), "dns_error"),
    ] {
        let gateway = gateway(&url);
        let answer = get_room(&gateway);
        assert_eq!(answer.status, 500, "{}", answer.text());
        let proxy_status = answer.header("proxy-status");
        assert!(
            proxy_status.contains(error) || proxy_status.contains("connection_timeout"),
            "{proxy_status}"
        );
    }
}

#[test]
fn a_port_that_speaks_no_tls_is_told_as_that() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream.url().replace("http:", "https:"));
    let answer = get_room(&gateway);
    answer.assert_envelope(500, "upstream_error");
    assert!(answer.header("proxy-status").contains("tls_protocol_error"), "{:?}", answer.headers);
}

/// How long until the answer, and the answer.
fn timed(gateway: &Process) -> (Answer, Duration) {
    let begun = Instant::now();
    (get_room(gateway), begun.elapsed())
}

#[test]
fn an_upstream_that_never_answers_is_given_up_in_time() {
    let upstream = Upstream::raw(|stream: TcpStream| {
        thread::sleep(Duration::from_secs(10));
        drop(stream);
    });
    let gateway = gateway(&upstream.url());
    let (answer, took) = timed(&gateway);
    answer.assert_envelope(500, "upstream_timeout");
    assert!(answer.header("proxy-status").contains("http_response_timeout"));
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn an_answer_that_drips_is_given_up_in_time() {
    let upstream = Upstream::scripted(|_, stream| {
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{");
        thread::sleep(Duration::from_secs(5));
        false
    });
    let gateway = gateway(&upstream.url());
    let (answer, took) = timed(&gateway);
    answer.assert_envelope(500, "upstream_timeout");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn an_answer_that_drips_for_ever_meets_the_total_deadline() {
    let upstream = Upstream::scripted(|_, stream| {
        _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
        for _ in 0..100 {
            thread::sleep(Duration::from_millis(100));
            if stream.write_all(b" ").is_err() {
                break;
            }
        }
        false
    });
    let gateway = gateway(&upstream.url());
    let (answer, took) = timed(&gateway);
    answer.assert_envelope(500, "upstream_timeout");
    assert!(took >= Duration::from_millis(1900) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_long_answer_streams_and_a_break_in_it_aborts_it() {
    let whole = "x".repeat(300_000);
    let body = whole.clone();
    let upstream = Upstream::scripted(move |request, stream| {
        let promised = if request.line.contains("/broken") { body.len() + 1 } else { body.len() };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {promised}\r\n\r\n");
        _ = stream.write_all(head.as_bytes());
        _ = stream.write_all(body.as_bytes());
        promised == body.len()
    });
    let gateway = gateway(&upstream.url());
    let answer = get_room(&gateway);
    assert_eq!((answer.status, answer.text() == whole), (200, true));
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!((line["code"].as_str(), line["bytes"].as_u64()), (Some("ok"), Some(300_000)));

    let mut client = gateway.client();
    client.send(
        format!("GET /v5/rooms/broken HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n\r\n", gateway.key)
            .as_bytes(),
    );
    assert!(client.answer("GET").is_none(), "it ends before its promised end");
    crate::support::wait_until("the break is recorded", || {
        gateway.access_lines().iter().any(|line| line["code"] == "upstream_error")
    });
}

#[test]
fn a_connection_that_the_upstream_closed_while_idle_is_never_noticed() {
    let upstream = Upstream::scripted(|_, stream| {
        // Promises to keep the connection, and closes it.
        _ = stream.write_all(answer("200 OK", "{}").as_bytes());
        false
    });
    let gateway = gateway(&upstream.url());
    let mut client = gateway.client();
    for _ in 0..50 {
        let answer = client.request("GET", "/v5/rooms/a", &[("token", &gateway.key)], "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn what_must_not_happen_twice_is_sent_once() {
    let upstream = Upstream::scripted(|request: &Received, stream| {
        if request.line.starts_with("GET") {
            return stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok();
        }
        false
    });
    let gateway = gateway(&upstream.url());
    let mut client = gateway.client();
    let token = [("token", gateway.key.as_str())];
    // The connection is warm: what breaks now breaks after it was sent.
    assert_eq!(client.request("GET", "/v5/rooms/a", &token, "").status, 200);
    let answer = client.request("POST", "/v5/rooms", &token, "{}");
    answer.assert_envelope(500, "upstream_error");
    let posts = upstream.received().iter().filter(|r| r.line.starts_with("POST")).count();
    assert_eq!(posts, 1);
}

#[test]
fn a_token_in_what_the_upstream_says_is_taken_out() {
    let upstream = Upstream::scripted(|request, stream| {
        let told = format!("{{\"message\":\"cannot use {}\"}}", request.header("token"));
        stream.write_all(answer("400 Bad Request", &told).as_bytes()).is_ok()
    });
    let gateway = gateway(&upstream.url());
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
    let upstream = Upstream::scripted(|_, stream| {
        thread::sleep(Duration::from_millis(200));
        stream.write_all(answer("201 Created", "{}").as_bytes()).is_ok()
    });
    let gateway = gateway(&upstream.url());
    for _ in 0..3 {
        let mut client = gateway.client();
        let token = format!("token: {}", gateway.key);
        client.send(
            format!(
                "POST /v5/rooms HTTP/1.1\r\nhost: g\r\n{token}\r\ncontent-length: 2\r\n\r\n{{}}"
            )
            .as_bytes(),
        );
        crate::support::wait_until("it has arrived", || !upstream.received().is_empty());
        drop(client);
        crate::support::wait_until("the caller's leaving is recorded", || {
            gateway.access_lines().iter().any(|line| line["code"] == "caller_gone")
        });
    }
    // The connection to the upstream was not cut: it is used again.
    assert_eq!(gateway.call("POST", "/v5/rooms", "{}").status, 201);
    assert!(upstream.connections() <= 4, "{}", upstream.connections());
}
