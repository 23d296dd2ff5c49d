//! A caller that ends its sending side and waits, as `printf … | nc -N` does: it is answered, and
//! nothing is tried again for it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::frames::{END_STREAM, Frames, Outcome, get_fields};
use crate::support::{
    Answer, Client, Process, Setup, Upstream, answer, dial, scenario_delay, silent_until_gone,
    wait_until,
};

/// Short times, quick tries again, and one worker.
fn gateway(upstream: &Upstream) -> Process {
    let times = "[upstream]\nfirst_byte_timeout = \"700ms\"\ntimeout = \"5s\"\n";
    Setup::new(&upstream.url())
        .with(times)
        .set("listen.workers", 1)
        .with("[upstream.breaker]\nenabled = false\n[upstream.retry]\nbackoff = \"200ms\"\n")
        .start()
}

/// Sends a request and then, it may be, the end; gives the one answer, and how long it took.
fn call(gateway: &Process, (method, body): (&str, &str), ends: bool) -> (Answer, Duration) {
    let request = format!(
        "{method} /v5/rooms HTTP/1.1\r\nhost: g\r\ntoken: {}\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.key,
        body.len()
    );
    let (mut stream, begun) = (dial(gateway.address), Instant::now());
    stream.write_all(request.as_bytes()).unwrap();
    if ends {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    let mut client = Client::over(stream);
    let answered = client.answer(method).unwrap();
    let took = begun.elapsed();
    if ends {
        let mut rest = Vec::new();
        let mut stream: &TcpStream = client.stream();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "one answer, and the end");
    }
    (answered, took)
}

/// What an upstream does with each request; whether it keeps the connection.
type Act = fn(&mut TcpStream) -> bool;

const BUSY: Act = |stream| stream.write_all(answer("503 Busy", "{}").as_bytes()).is_ok();
const CLOSES: Act = |_| false;
const SILENT: Act = |stream| {
    silent_until_gone(stream);
    false
};

#[test]
fn nothing_is_tried_again_for_a_caller_that_has_ended_its_side() {
    for (what, act, code) in [
        ("is busy", BUSY, "upstream_error"),
        ("closes", CLOSES, "upstream_error"),
        ("is silent", SILENT, "upstream_timeout"),
    ] {
        for (ends, sent) in [(true, 1), (false, 3)] {
            let upstream = Upstream::scripted(move |_, stream| act(stream));
            let gateway = gateway(&upstream);
            let (answered, took) = call(&gateway, ("GET", ""), ends);
            answered.assert_envelope(500, code);
            assert_eq!(upstream.received().len(), sent, "it {what}, the caller ends: {ends}");
            if ends && code == "upstream_timeout" {
                let first_byte = Duration::from_millis(700);
                assert!((first_byte..2 * first_byte).contains(&took), "{took:?}");
            }
            let id = answered.header("x-request-id");
            assert_eq!(gateway.access_line(id)["upstream_attempts"], sent, "it {what}");
            assert_eq!(gateway.access_lines().len(), 1, "it {what}: {}", gateway.stdout());
        }
    }
}

#[test]
fn a_caller_that_ends_its_side_while_a_try_again_is_waited_for_gets_the_answer_that_there_is() {
    let upstream = Upstream::scripted(|_, stream| {
        let busy = "HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(busy.as_bytes()).is_ok()
    });
    let gateway = gateway(&upstream);
    let mut client = gateway.client();
    let request = format!("GET /v5/rooms HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n\r\n", gateway.key);
    client.send(request.as_bytes());
    wait_until("it is sent once", || upstream.received().len() == 1);
    client.stream().shutdown(Shutdown::Write).unwrap();
    let answered = client.answer("GET").unwrap();
    answered.assert_envelope(500, "upstream_error");
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn what_it_asked_for_is_answered_also_where_that_takes_its_time() {
    let upstream = Upstream::scripted(|request, stream| {
        scenario_delay(Duration::from_millis(300));
        let status = if request.line.starts_with("GET") { "200 OK" } else { "201 Created" };
        let long = format!("[\"{}\"]", "x".repeat(200_000));
        stream.write_all(answer(status, &long).as_bytes()).is_ok()
    });
    let gateway = gateway(&upstream);
    for (request, status) in [(("GET", ""), 200), (("POST", "{}"), 201)] {
        let (answered, _) = call(&gateway, request, true);
        assert_eq!((answered.status, answered.body.len()), (status, 200_004));
        assert_eq!(answered.header("connection"), "close");
    }
    wait_until("each has its line", || gateway.access_lines().len() == 2);
    assert!(gateway.access_lines().iter().all(|line| line["code"] == "ok"), "{}", gateway.stdout());
}

#[test]
fn a_token_that_is_refused_is_followed_by_the_next_one_in_the_same_time() {
    let refused = AtomicUsize::new(0);
    let upstream = Upstream::scripted(move |_, stream| {
        let told = match refused.fetch_add(1, Ordering::SeqCst) {
            0 => answer("401 No", "{\"message\":\"expired token\"}"),
            _ => answer("200 OK", "[]"),
        };
        stream.write_all(told.as_bytes()).is_ok()
    });
    let gateway = Setup::new(&upstream.url()).with_other_key().start();
    let (answered, _) = call(&gateway, ("GET", ""), true);
    assert_eq!(answered.status, 200, "nothing had been done: {}", answered.text());
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn the_same_holds_over_http2() {
    let upstream = Upstream::scripted(|_, stream| BUSY(stream));
    let gateway = gateway(&upstream);
    let mut frames = Frames::connect(gateway.address);
    let fields = get_fields("/v5/rooms", &gateway.key);
    frames.head(1, END_STREAM, &fields);
    frames.finish();
    assert_eq!(frames.outcome(1), Outcome::Answer("upstream_error".to_owned()));
    assert_eq!(upstream.received().len(), 1);
}
