//! The borders of messages are taken by the letter: what two servers could read differently is a
//! 400 and the end of the connection, whatever the parser below would let pass.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use crate::support::frames::{END_HEADERS, END_STREAM, HEADERS, block, get_fields};
use crate::support::{
    Client, Frames, Outcome, Process, Setup, Upstream, dial, read_answer, scenario_delay,
    wait_until,
};

const CODED: &str = "Transfer-Encoding: chunked\r\n";

fn post(key: &str, fields: &str, body: &str) -> String {
    format!("POST /v5/rooms HTTP/1.1\r\nHost: g\r\ntoken: {key}\r\n{fields}\r\n{body}")
}

fn get(key: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: g\r\ntoken: {key}\r\n\r\n")
}

/// What is refused, with a good key.
fn refused(key: &str) -> Vec<(&'static str, String)> {
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    let other = "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n";
    let chunked = |body: &str| post(key, CODED, body);
    vec![
        ("a length and a coding", post(key, both, "2\r\n{}\r\n0\r\n\r\n")),
        ("a coding and a length", post(key, other, "2\r\n{}\r\n0\r\n\r\n")),
        ("two equal lengths", post(key, "Content-Length: 2\r\nContent-Length: 2\r\n", "{}")),
        ("LF after the request line", get(key, "/v5/rooms").replacen("\r\n", "\n", 1)),
        ("LF after a field", post(key, "X: 1\nContent-Length: 2\r\n", "{}")),
        ("LF at the end of the head", get(key, "/v5/rooms").replacen("\r\n\r\n", "\r\n\n", 1)),
        ("LF everywhere", get(key, "/v5/rooms").replace("\r\n", "\n")),
        ("LF before the request line", format!("\n{}", get(key, "/v5/rooms"))),
        ("LF after a chunk size", chunked("2\n{}\r\n0\r\n\r\n")),
        ("LF after a chunk", chunked("2\r\n{}\n0\r\n\r\n")),
        ("LF in the trailers", chunked("2\r\n{}\r\n0\r\nt: 1\n\r\n")),
        ("an extension with a LF", chunked("2;a\nb\r\n{}\r\n0\r\n\r\n")),
        ("an extension without a name", chunked("2;\r\n{}\r\n0\r\n\r\n")),
        ("an extension that is no token", chunked("2;a b\r\n{}\r\n0\r\n\r\n")),
        ("a quoted text without an end", chunked("2;a=\"b\r\n{}\r\n0\r\n\r\n")),
        ("a blank after a size", chunked("2 \r\n{}\r\n0\r\n\r\n")),
        ("a size with 0x", chunked("0x2\r\n{}\r\n0\r\n\r\n")),
        ("a size of many digits", chunked("00000000000000002\r\n{}\r\n0\r\n\r\n")),
        ("a byte over 0x7F in the path", get(key, "/v5/rooms/\u{e9}")),
        ("a byte over 0x7F in the query", get(key, "/v5/rooms?a=\u{e9}")),
        ("a fragment", get(key, "/v5/rooms#a")),
    ]
}

fn gateway(upstream: &Upstream) -> Process {
    Setup::new(&upstream.url()).start()
}

#[test]
fn what_two_servers_could_read_differently_is_refused_and_ends_the_connection() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = gateway(&upstream);
    for (name, text) in refused(&gateway.key) {
        for split in [text.len(), 1] {
            let mut client = gateway.client();
            for piece in text.as_bytes().chunks(split) {
                // It may have been refused at an earlier byte.
                _ = client.try_send(piece);
            }
            let answer = client.answer("POST").unwrap_or_else(|| panic!("{name}: no answer"));
            answer.assert_envelope(400, "malformed_request");
            assert_eq!(answer.header("connection"), "close", "{name}");
            assert!(client.is_closed(), "{name}");
        }
    }
    assert_eq!(upstream.received().len(), 0, "{:?}", upstream.received());
}

#[test]
fn what_hides_behind_two_framings_is_never_served() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = gateway(&upstream);
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    let hidden = get(&gateway.key, "/v5/rooms/hidden");
    let mut client = gateway.client();
    client.send(post(&gateway.key, both, &format!("2\r\n{{}}\r\n0\r\n\r\n{hidden}")).as_bytes());
    client.answer("POST").unwrap().assert_envelope(400, "malformed_request");
    assert!(client.is_closed());
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn requests_before_a_malformed_one_are_answered() {
    let upstream = Upstream::scripted(|_, stream| {
        scenario_delay(Duration::from_millis(100));
        stream.write_all(crate::support::answer("200 OK", "[]").as_bytes()).is_ok()
    });
    let gateway = gateway(&upstream);
    let good = get(&gateway.key, "/v5/rooms");
    let mut client = gateway.client();
    client.send(format!("{good}{good}{}", good.replace("\r\n", "\n")).as_bytes());
    assert_eq!(client.answer("GET").unwrap().status, 200);
    assert_eq!(client.answer("GET").unwrap().status, 200);
    client.answer("GET").unwrap().assert_envelope(400, "malformed_request");
    assert!(client.is_closed());
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn what_the_grammar_has_passes() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = gateway(&upstream);
    let mut client = gateway.client();
    let extensions = "2;a ; b = c;d=\"e\\\";\"\r\n{}\r\n0;z\r\nt: 1\r\n\r\n";
    for text in [
        post(&gateway.key, CODED, extensions),
        post(&gateway.key, "Transfer-Encoding:\tCHUNKED \r\n", "1\r\n{\r\n01\r\n}\r\n000\r\n\r\n"),
        format!("\r\n{}", post(&gateway.key, "Content-Length: 002\r\n", "{}")),
    ] {
        for byte in text.as_bytes() {
            client.send(&[*byte]);
        }
        assert_eq!(client.answer("POST").unwrap().status, 201, "{text}");
        client.send(text.as_bytes());
        assert_eq!(client.answer("POST").unwrap().status, 201, "{text}");
    }
    assert!(upstream.received().iter().all(|request| request.body == b"{}"));
    let old = format!("POST /v5/rooms HTTP/1.0\r\ntoken: {}\r\n\r\n", gateway.key);
    let mut stream = dial(gateway.address);
    stream.write_all(old.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 201 "), "health checks send no Host: {answer}");
}

#[test]
fn a_byte_over_0x7f_in_a_path_of_http2_is_refused() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = gateway(&upstream);
    let mut frames = Frames::connect(gateway.address);
    let fields = get_fields("/v5/rooms/\u{e9}", &gateway.key);
    frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields));
    let refused = [Outcome::Answer("malformed_request".to_owned()), Outcome::Reset(1)];
    let outcome = frames.outcome(1);
    assert!(refused.contains(&outcome), "{outcome:?}");
    assert_eq!(upstream.received().len(), 0);
}

/// Sends all, ends the sending side, and reads the answers up to the end.
fn half_closed(address: std::net::SocketAddr, text: &str) -> Vec<u16> {
    let mut stream = dial(address);
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut reader = std::io::BufReader::new(stream);
    std::iter::from_fn(|| read_answer(&mut reader, false)).map(|answer| answer.status).collect()
}

#[test]
fn the_end_behind_a_whole_request_is_no_malformed_request() {
    let upstream = Upstream::scripted(|_, stream| {
        scenario_delay(Duration::from_millis(50));
        stream.write_all(crate::support::answer("201 Created", "{}").as_bytes()).is_ok()
    });
    let gateway = gateway(&upstream);
    let length = post(&gateway.key, "Content-Length: 2\r\n", "{}");
    let chunked = post(&gateway.key, CODED, "2\r\n{}\r\n0\r\n\r\n");
    for text in [&length, &chunked] {
        for _ in 0..5 {
            assert_eq!(half_closed(gateway.address, text), [201]);
        }
    }
    assert_eq!(half_closed(gateway.address, &length.repeat(3)), [201, 201, 201]);
    assert_eq!(upstream.received().len(), 13);
    wait_until("each has an access line", || gateway.access_lines().len() >= 13);
    assert_eq!(gateway.access_lines().len(), 13, "and no second one: {}", gateway.stdout());
    let live = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
    for _ in 0..60 {
        assert_eq!(half_closed(gateway.admin, live), [200]);
    }
    assert_eq!(half_closed(gateway.address, &post("x", "Content-Length: 2\r\n", "{}")), [401]);
    assert_eq!(half_closed(gateway.address, &length[..length.len() - 1]), [400]);
    assert_eq!(half_closed(gateway.address, &length[..20]), [400]);
}

#[test]
fn the_end_behind_a_whole_request_of_http2_is_not_its_end() {
    let upstream = Upstream::scripted(|_, stream| {
        scenario_delay(Duration::from_millis(100));
        stream.write_all(crate::support::answer("200 OK", "[1]").as_bytes()).is_ok()
    });
    let gateway = gateway(&upstream);
    let fields = get_fields("/v5/rooms", &gateway.key);
    // Of many, some ends come before the gateway has looked at the request, and some after.
    let mut all: Vec<_> = (0..30).map(|_| Frames::connect(gateway.address)).collect();
    for frames in &mut all {
        frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields));
        frames.finish();
    }
    for mut frames in all {
        assert_eq!(frames.outcome(1), Outcome::Answer("[1]".to_owned()));
    }
}

/// Sends so many bytes in pieces, over about this time, and then reads the answer.
fn writes_first(client: &mut Client, head: &str, bytes: usize, time: Duration) -> Option<u16> {
    client.send(head.as_bytes());
    let pieces = 20;
    for _ in 0..pieces {
        client.try_send(&vec![b' '; bytes / pieces]).ok()?;
        scenario_delay(time / pieces as u32);
    }
    client.answer("POST").map(|answer| answer.status)
}

#[test]
fn an_early_answer_reaches_a_peer_that_writes_first() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = gateway(&upstream);
    thread::scope(|scope| {
        for (key, bytes, status) in [
            ("", 100_000, 401),
            (gateway.key.as_str(), 400_000, 400),
            ("wbg_live_none", 100_000, 401),
        ] {
            for framing in [format!("Content-Length: {bytes}\r\n"), CODED.to_owned()] {
                let gateway = &gateway;
                scope.spawn(move || {
                    let mut head = post(key, &framing, "");
                    let mut rest = bytes;
                    if framing == CODED {
                        head.push_str(&format!("{bytes:x}\r\n"));
                        rest -= rest % 20;
                    }
                    let mut client = gateway.client();
                    let time = Duration::from_millis(1_500);
                    let seen = writes_first(&mut client, &head, rest, time);
                    assert_eq!(seen, Some(status), "{bytes} bytes, {framing}");
                });
            }
        }
    });
}
