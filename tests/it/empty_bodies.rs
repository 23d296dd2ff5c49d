//! A body is empty when it has no bytes, however it is framed: proxies and clients make an empty
//! body in chunks, or an empty DATA frame, of a request that has none.

use crate::support::frames::{DATA, END_STREAM};
use crate::support::{Client, Frames, Outcome, Process, Setup, Upstream};

/// Operations that a configuration adds, one of each kind of body.
const ADDED: &str = r#"
[[operations]]
name = "rooms.peek"
method = "GET"
path = "/v5/rooms/{uuid}/peek"
target = "room"
token = "room"
role = "reader"
body = "none"
[[operations]]
name = "rooms.import"
method = "POST"
path = "/v5/rooms/{uuid}/import"
target = "room"
token = "room"
role = "writer"
body = "opaque"
"#;

/// A method and path that takes no body, or one whose fields are all optional; and what it answers.
const WITHOUT: [(&str, &str, u16); 5] = [
    ("GET", "/v5/rooms", 200),
    ("GET", "/v5/rooms/r/peek", 200),
    ("DELETE", "/v5/projector/tasks/t", 200),
    ("POST", "/v5/rooms", 201),
    ("POST", "/v5/rooms/r/import", 201),
];

const REFUSALS: [&str; 3] = ["invalid_body", "malformed_request", "request_timeout"];

fn gateway(upstream: &Upstream) -> Process {
    Setup::new(&upstream.url()).with(ADDED).start()
}

/// Sends the head, and the body apart from it, as a proxy may.
fn chunked(client: &mut Client, line: &str, key: &str, body: &str) -> u16 {
    let head = format!(
        "{line} HTTP/1.1\r\nhost: g\r\ntoken: {key}\r\nregion: us-sv\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    client.send(head.as_bytes());
    client.send(body.as_bytes());
    client.answer("GET").expect("an answer").status
}

#[test]
fn an_empty_body_in_chunks_is_none() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    let mut client = gateway.client();
    for (method, path, status) in WITHOUT {
        let line = format!("{method} {path}");
        for empty in ["0\r\n\r\n", "0\r\nx-checksum: 0\r\n\r\n"] {
            // All on one connection, which stays in step.
            assert_eq!(chunked(&mut client, &line, &gateway.key, empty), status, "{line}");
        }
    }
    let framed =
        |name: &str| upstream.received().iter().filter(|r| !r.header(name).is_empty()).count();
    assert_eq!(framed("transfer-encoding"), 0, "the service is sent no body");
    for line in ["GET /v5/rooms", "DELETE /v5/projector/tasks/t", "GET /v5/rooms/r/peek"] {
        let mut client = gateway.client();
        assert_eq!(chunked(&mut client, line, &gateway.key, "1\r\n \r\n0\r\n\r\n"), 400, "{line}");
    }
}

#[test]
fn the_sandbox_and_the_admin_listener_take_an_empty_body_in_chunks_as_none() {
    let sandbox = Process::sandbox();
    let mut client = sandbox.client();
    for (line, status) in [("POST /v5/rooms", 201), ("GET /v5/rooms", 200)] {
        assert_eq!(chunked(&mut client, line, &sandbox.key, "0\r\n\r\n"), status, "{line}");
    }
    for line in ["GET /livez", "GET /readyz", "GET /metrics"] {
        let mut client = Client::connect(sandbox.admin);
        assert_eq!(chunked(&mut client, line, "", "0\r\n\r\n"), 200, "{line}");
    }
}

#[test]
fn an_empty_data_frame_at_the_end_is_no_body() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    let mut frames = Frames::connect(gateway.address);
    let mut stream = 1;
    let mut ask = |method: &str, path: &str, length: Option<&str>, body: &[u8]| {
        let mut fields = vec![
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "g"),
            ("token", gateway.key.as_str()),
        ];
        fields.extend(length.map(|length| ("content-length", length)));
        frames.head(stream, 0, &fields);
        frames.send(DATA, END_STREAM, stream, body);
        let outcome = frames.outcome(stream);
        stream += 2;
        outcome
    };
    for (method, path, _) in WITHOUT {
        for length in [None, Some("0")] {
            let outcome = ask(method, path, length, b"");
            assert!(
                matches!(&outcome, Outcome::Answer(body) if !REFUSALS.contains(&body.as_str())),
                "{method} {path} {length:?}: {outcome:?}"
            );
        }
    }
    let outcome = ask("GET", "/v5/rooms", None, b" ");
    assert_eq!(outcome, Outcome::Answer("invalid_body".to_owned()));
}
