//! TLS and HTTP/2, on both sides of the gateway: what is negotiated, what is refused and how, and
//! certificates that change while it serves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::frames::{self, END_HEADERS, END_STREAM};
use crate::support::{
    Answer, Authority, Client, Frames, Gate, Http2, Outcome, Process, Secured, Setup, Upstream,
    answer, binary, exchange, handshake, wait_until,
};

// In front: [listen.tls].

/// A gateway that speaks TLS, with a certificate for `localhost` in its folder.
fn encrypted(upstream: &Upstream, authority: &Authority) -> Process {
    let setup = Setup::new(&upstream.url())
        .with("[listen]\nhead_timeout = \"600ms\"\n")
        .with("[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
    authority.certify("localhost").write(setup.folder.path());
    setup.start()
}

fn list(client: &mut Client<Secured>, key: &str) -> Answer {
    client.request("GET", "/v5/rooms", &[("token", key)], "")
}

#[test]
fn the_client_chooses_the_version_of_http() {
    let upstream = Upstream::json("200 OK", "[]");
    let authority = Authority::new("authority");
    let gateway = encrypted(&upstream, &authority);
    for (offered, agreed) in [
        (&["http/1.1"][..], Some(&b"http/1.1"[..])),
        (&["h2", "http/1.1"], Some(b"h2")),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&[], None),
    ] {
        let stream = handshake(gateway.address, &authority, offered).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), agreed, "{offered:?}");
        if agreed != Some(b"h2") {
            let answer = list(&mut Client::over(stream), &gateway.key);
            assert_eq!((answer.status, answer.text().as_str()), (200, "[]"));
            let line = gateway.access_line(answer.header("x-request-id"));
            assert_eq!(line["protocol"], "1.1");
        }
    }
    let mut client = Http2::secure(gateway.address, &authority);
    let answer = client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "[]"));
    assert_eq!(gateway.access_line(answer.header("x-request-id"))["protocol"], "2");
    assert!(upstream.received()[2].header("via").starts_with("2.0 wbg-"));
    assert!(handshake(gateway.address, &authority, &["spdy/3"]).is_err(), "no other is spoken");
}

#[test]
fn plain_http_on_the_tls_port_is_told_to_use_https() {
    let upstream = Upstream::json("200 OK", "[]");
    let authority = Authority::new("authority");
    let gateway = encrypted(&upstream, &authority);
    for request in [
        "GET /v5/rooms HTTP/1.1\r\nHost: g\r\n\r\n",
        "POST /v5/rooms HTTP/1.1\r\nHost: g\r\nContent-Length: 2\r\n\r\n{}",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "garbage",
    ] {
        let answer = exchange(gateway.address, request.as_bytes()).unwrap();
        answer.assert_envelope(400, "malformed_request");
        assert!(answer.member("message").contains("https"), "{}", answer.text());
        assert_eq!(answer.header("connection"), "close");
    }
    let mut client = Client::over(handshake(gateway.address, &authority, &[]).unwrap());
    assert_eq!(list(&mut client, &gateway.key).status, 200);
}

/// What comes back on a connection until its end, and how long that takes.
fn told(gateway: &Process, sent: &[u8]) -> (Vec<u8>, Duration) {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(sent).unwrap();
    let mut told = Vec::new();
    // A reset is an end as well.
    _ = stream.read_to_end(&mut told);
    (told, begun.elapsed())
}

/// The content type of an alert (RFC 8446 §5.1).
const ALERT: u8 = 21;

#[test]
fn what_begins_like_a_handshake_and_is_none_gets_an_alert_alone() {
    let upstream = Upstream::json("200 OK", "[]");
    let authority = Authority::new("authority");
    let gateway = encrypted(&upstream, &authority);
    for sent in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x16garbage that goes on for a while and is no record",
        b"\x16\x03\x01\xff\xff\x01",
    ] {
        let (told, took) = told(&gateway, sent);
        assert!(told.first().is_none_or(|first| *first == ALERT), "{told:?}");
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    let mut client = Client::over(handshake(gateway.address, &authority, &[]).unwrap());
    assert_eq!(list(&mut client, &gateway.key).status, 200);
}

#[test]
fn a_handshake_that_stalls_is_ended_in_time() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = encrypted(&upstream, &Authority::new("authority"));
    let (told, took) = told(&gateway, b"\x16\x03\x01");
    assert_eq!(told, b"");
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_malformed_request_gets_the_envelope_over_tls_too() {
    let upstream = Upstream::json("200 OK", "[]");
    let authority = Authority::new("authority");
    let gateway = encrypted(&upstream, &authority);
    for (sent, code) in [
        ("GARBAGE\r\n\r\n", "malformed_request"),
        ("GET /v5/rooms HTTP/1.1\r\n\r\n", "malformed_request"),
        ("GET /v5/rooms HTTP/1.1\r\nHo", "request_timeout"),
    ] {
        let stream = handshake(gateway.address, &authority, &["http/1.1"]).unwrap();
        let mut client = Client::over(stream);
        client.send(sent.as_bytes());
        client.answer("GET").unwrap().assert_envelope(400, code);
        assert!(client.is_closed());
    }
}

/// The certificate that a new connection is shown.
fn shown(gateway: &Process, authority: &Authority) -> Vec<u8> {
    let stream = handshake(gateway.address, authority, &["http/1.1"]).unwrap();
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

#[test]
fn a_new_handshake_sees_the_new_certificate_and_an_old_connection_goes_on() {
    let upstream = Upstream::json("200 OK", "[]");
    let authority = Authority::new("authority");
    let gateway = encrypted(&upstream, &authority);
    let shown = || shown(&gateway, &authority);
    let before = shown();
    let mut old = Client::over(handshake(gateway.address, &authority, &[]).unwrap());
    assert_eq!(list(&mut old, &gateway.key).status, 200);
    // By the change of the files alone.
    authority.certify("localhost").write(gateway.folder.path());
    wait_until("the new certificate is shown", || shown() != before);
    assert_eq!(list(&mut old, &gateway.key).status, 200);

    // Files that do not fit together change nothing.
    let now = shown();
    let other = authority.certify("localhost");
    crate::support::replace(&gateway.folder.path().join("certificate.pem"), &other.pem);
    let before = gateway.reloads();
    gateway.signal("HUP");
    wait_until("it is told", || gateway.reloads() > before);
    gateway.until_logged("was not reloaded");
    assert!(shown() == now);
    assert_eq!(list(&mut old, &gateway.key).status, 200);
}

#[test]
fn a_new_certificate_does_not_count_where_the_rest_of_a_reload_fails() {
    let upstream = Upstream::json("200 OK", "[]");
    let authority = Authority::new("authority");
    let gateway = encrypted(&upstream, &authority);
    let shown = || shown(&gateway, &authority);
    let before = shown();
    let good = gateway.configuration();
    // Well written, and not to be had.
    gateway.reload(&good.clone().set("audit.file", "./missing/audit.jsonl"));
    let reloads = gateway.reloads();
    authority.certify("localhost").write(gateway.folder.path());
    gateway.signal("HUP");
    wait_until("it is told", || gateway.reloads() > reloads);
    assert_eq!(gateway.metric("wbg_config_reload_success"), 0.0);
    assert!(shown() == before);
    gateway.reload(&good);
    assert_eq!(gateway.metric("wbg_config_reload_success"), 1.0);
    assert!(shown() != before, "now it counts");
}

// HTTP/2, as it should be.

#[test]
fn http2_is_spoken_without_tls_by_prior_knowledge() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).start();
    let mut client = Http2::plain(gateway.address);
    let token = [("token", gateway.key.as_str())];
    for _ in 0..3 {
        let answer = client.request("GET", "/v5/rooms", &token, "").unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "[]"));
        assert!(!answer.has("connection"));
    }
}

#[test]
fn no_answer_in_http2_has_a_connection_field() {
    let upstream = Upstream::json("200 OK", "[]");
    let authority = Authority::new("authority");
    let gateway = encrypted(&upstream, &authority);
    let mut client = Http2::secure(gateway.address, &authority);
    let token = ("token", gateway.key.as_str());
    let long = format!("{{\"name\":\"{}\"}}", "a".repeat(300_000));
    let big = "a".repeat(20_000);
    for (method, path, headers, body, status, code) in [
        ("GET", "/v5/rooms", vec![token], "", 200, ""),
        ("GET", "/v5/rooms", vec![], "", 401, "unauthenticated"),
        ("GET", "/v5/Rooms", vec![token], "", 404, "not_found"),
        ("GET", "/v5/rooms/%2e%2e", vec![token], "", 400, "malformed_request"),
        ("PUT", "/v5/rooms", vec![token], "", 400, "method_not_allowed"),
        ("TRACE", "/v5/rooms", vec![token], "", 400, "malformed_request"),
        ("GET", "/v5/rooms", vec![token, ("x-big", &big)], "", 400, "too_large"),
        ("POST", "/v5/rooms", vec![token], &long, 400, "too_large"),
        ("GET", "/v5/rooms", vec![token, ("host", "elsewhere")], "", 400, "malformed_request"),
        ("GET", "/v5/rooms", vec![token], "", 200, ""),
    ] {
        let answer = client.request(method, path, &headers, body).expect(code);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        if !code.is_empty() {
            answer.assert_envelope(status, code);
        }
        assert!(!answer.has("connection"), "{:?}", answer.headers);
    }
    // HTTP/1 says it, where the connection ends.
    let mut client = Client::over(handshake(gateway.address, &authority, &[]).unwrap());
    client.send(b"TRACE /v5/rooms HTTP/1.1\r\nhost: g\r\n\r\n");
    assert_eq!(client.answer("TRACE").unwrap().header("connection"), "close");
}

#[test]
fn a_stream_in_flight_is_answered_when_the_process_stops() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::scripted(move |_, stream| {
        held.wait();
        stream.write_all(answer("200 OK", "[]").as_bytes()).is_ok()
    });
    let mut gateway = Setup::new(&upstream.url()).start();
    let (address, key) = (gateway.address, gateway.key.clone());
    let asking = thread::spawn(move || {
        let mut client = Http2::plain(address);
        let answer = client.request("GET", "/v5/rooms", &[("token", &key)], "").unwrap();
        (answer.status, client.is_closed())
    });
    wait_until("the upstream has it", || upstream.received().len() == 1);
    gateway.signal("TERM");
    wait_until("it accepts nothing more", || TcpStream::connect(address).is_err());
    gate.open();
    assert_eq!(asking.join().unwrap(), (200, true));
    assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(0));
}

// HTTP/2, as it should not be. What never becomes a request cannot get the envelope: h2 resets the
// stream (RFC 9113 §8.1.1), or ends the connection (§5.4.1).

const PROTOCOL_ERROR: u32 = 1;

/// A head of a caller with a good key, changed.
fn head<'a>(key: &'a str, change: &[(&'a str, Option<&'a str>)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/v5/rooms"),
        (":authority", "gateway"),
        ("token", key),
    ];
    for (name, value) in change {
        match value {
            None => fields.retain(|(own, _)| own != name),
            // Pseudo-fields come first (RFC 9113 §8.3).
            Some(value) if name.starts_with(':') => fields.insert(0, (name, value)),
            Some(value) => fields.push((name, value)),
        }
    }
    fields
}

fn answered(code: &str) -> Outcome {
    Outcome::Answer(code.to_owned())
}

#[test]
fn a_malformed_stream_is_reset_and_where_ours_speaks_first_it_gets_the_envelope() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).start();
    let key = gateway.key.as_str();
    let reset = Outcome::Reset(PROTOCOL_ERROR);
    // What is no field at all is to h2 a header block that is broken, and so the connection.
    let goaway = Outcome::GoAway(PROTOCOL_ERROR);
    let (big, huge) = ("a".repeat(20_000), "a".repeat(70_000));
    let late = [(":method", "GET"), ("token", key), (":path", "/v5/rooms"), (":scheme", "http")];
    let cases = [
        ("a name in upper case", head(key, &[("X-Upper", Some("1"))]), goaway.clone()),
        ("a name that is none", head(key, &[("x y", Some("1"))]), goaway.clone()),
        ("a line break in a value", head(key, &[("x", Some("1\r\ny: 2"))]), goaway.clone()),
        ("no :method", head(key, &[(":method", None)]), reset.clone()),
        (
            "a method that is none",
            head(key, &[(":method", None), (":method", Some("G ET"))]),
            goaway.clone(),
        ),
        ("no :path", head(key, &[(":path", None)]), reset.clone()),
        ("an empty :path", head(key, &[(":path", None), (":path", Some(""))]), reset.clone()),
        ("no :scheme", head(key, &[(":scheme", None)]), reset.clone()),
        ("a :path twice", head(key, &[(":path", Some("/v5/rooms"))]), reset.clone()),
        ("a pseudo-field that is none", head(key, &[(":odd", Some("1"))]), goaway),
        ("a pseudo-field of answers", head(key, &[(":status", Some("200"))]), reset.clone()),
        ("a pseudo-field behind a field", late.to_vec(), reset.clone()),
        ("connection", head(key, &[("connection", Some("close"))]), reset.clone()),
        ("keep-alive", head(key, &[("keep-alive", Some("1"))]), reset.clone()),
        ("transfer-encoding", head(key, &[("transfer-encoding", Some("chunked"))]), reset.clone()),
        ("te that is not trailers", head(key, &[("te", Some("gzip"))]), reset.clone()),
        ("a length and no body", head(key, &[("content-length", Some("2"))]), reset),
        ("a head over 16 KiB", head(key, &[("x", Some(&big))]), answered("too_large")),
        // Four times our bound: h2's own answer, 431 without a body.
        ("a head over 64 KiB", head(key, &[("x", Some(&huge))]), answered("")),
        ("no authority", head(key, &[(":authority", None)]), answered("malformed_request")),
        ("two hosts", head(key, &[("host", Some("other"))]), answered("malformed_request")),
        ("two tokens", head(key, &[("token", Some(key))]), answered("malformed_request")),
        (
            "a path that is none",
            head(key, &[(":path", None), (":path", Some("/v5//rooms"))]),
            answered("malformed_request"),
        ),
        ("no credential", head(key, &[("token", None)]), answered("unauthenticated")),
    ];
    let nobody = head(key, &[("token", None)]);
    let mut wrong = Vec::new();
    for (name, fields, expected) in cases {
        let mut connection = Frames::connect(gateway.address);
        connection.head(1, END_STREAM, &fields);
        let outcome = connection.outcome(1);
        // A stream that is reset does not end the others' connection.
        connection.head(3, END_STREAM, &nobody);
        let next = match expected {
            Outcome::GoAway(_) => Outcome::Closed,
            _ => answered("unauthenticated"),
        };
        if (&outcome, &connection.outcome(3)) != (&expected, &next) {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(upstream.received().len(), 0, "{:?}", upstream.received());
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
}

#[test]
fn a_broken_connection_is_told_goodbye_and_a_fresh_one_works() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).start();
    let good = frames::block(&head(&gateway.key, &[]));
    let both = END_STREAM | END_HEADERS;
    let window: &[u8] = &[0x7f, 255, 255, 255];
    let broken: [(&str, u8, u8, u32, &[u8]); 13] = [
        ("data without a stream", frames::DATA, 0, 0, b"x"),
        ("data on a stream that is idle", frames::DATA, 0, 5, b"x"),
        ("a frame that is too large", frames::DATA, 0, 1, &[0; 20_000]),
        ("a head on an even stream", frames::HEADERS, both, 2, &good),
        ("a head on stream 0", frames::HEADERS, both, 0, &good),
        ("a head that is no HPACK", frames::HEADERS, both, 1, &[0xff; 16]),
        ("an index of nothing", frames::HEADERS, both, 1, &[0xc6]),
        ("settings of a wrong size", frames::SETTINGS, 0, 0, &[0; 5]),
        ("settings on a stream", frames::SETTINGS, 0, 1, &[]),
        ("a ping of a wrong size", frames::PING, 0, 0, &[0; 4]),
        ("a promise of a client", frames::PUSH_PROMISE, END_HEADERS, 1, &[0; 4]),
        ("a continuation of nothing", frames::CONTINUATION, END_HEADERS, 1, &good),
        ("a window beyond all", frames::WINDOW_UPDATE, 0, 0, window),
    ];
    let mut wrong = Vec::new();
    for (name, kind, flags, stream, payload) in broken {
        let mut connection = Frames::connect(gateway.address);
        connection.send(kind, flags, stream, payload);
        let outcome = connection.outcome(1);
        if !matches!(outcome, Outcome::GoAway(code) if code != 0) {
            wrong.push(format!("{name}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(upstream.received().len(), 0, "{:?}", upstream.received());
    let answer =
        Http2::plain(gateway.address).request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
    assert_eq!(answer.unwrap().status, 200);
}

#[test]
fn a_preface_that_is_none_is_answered_in_http1() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).with("[listen]\nhead_timeout = \"600ms\"\n").start();
    for (sent, code) in [
        ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "malformed_request"),
        ("PRI * HTTP/1.1\r\nHost: g\r\n\r\n", "malformed_request"),
        ("PRI * HTTP/2.0\r\n\r\nS", "request_timeout"),
    ] {
        let answer = exchange(gateway.address, sent.as_bytes()).unwrap();
        answer.assert_envelope(400, code);
    }
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn a_flood_of_streams_that_are_reset_ends_the_connection() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).start();
    let mut connection = Frames::connect(gateway.address);
    for stream in (1..20_000).step_by(2) {
        connection.head(stream, END_STREAM, &head(&gateway.key, &[]));
        connection.send(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    const ENHANCE_YOUR_CALM: u32 = 11;
    let outcome = connection.outcome(19_999);
    assert!(
        [Outcome::GoAway(ENHANCE_YOUR_CALM), Outcome::Closed].contains(&outcome),
        "{outcome:?}"
    );
    assert!(upstream.received().len() < 5_000, "{}", upstream.received().len());
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
}

#[test]
fn streams_over_the_bound_are_refused_and_the_others_are_answered() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::scripted(move |_, stream| {
        held.wait();
        stream.write_all(answer("200 OK", "[]").as_bytes()).is_ok()
    });
    let gateway = Setup::new(&upstream.url()).with("[listen]\nmax_streams = 2\n").start();
    let mut connection = Frames::connect(gateway.address);
    for stream in [1, 3, 5] {
        connection.head(stream, END_STREAM, &head(&gateway.key, &[]));
    }
    const REFUSED_STREAM: u32 = 7;
    assert_eq!(connection.outcome(5), Outcome::Reset(REFUSED_STREAM));
    gate.open();
    assert_eq!(connection.outcome(1), answered("[]"));
}

/// A gateway that has little patience with idle peers.
fn impatient(upstream: &Upstream) -> Process {
    Setup::new(&upstream.url())
        .with("[listen]\nidle_timeout = \"600ms\"\nwrite_timeout = \"600ms\"\n")
        .start()
}

fn assert_all_gone(gateway: &Process) {
    wait_until("they are gone", || gateway.metric("wbg_connections") == 0.0);
}

#[test]
fn an_idle_connection_ends_though_its_peer_answers_not_even_a_ping() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = impatient(&upstream);
    let _nothing = Frames::connect(gateway.address);
    let mut half = Frames::connect(gateway.address);
    half.send(frames::HEADERS, END_STREAM, 1, &frames::block(&head(&gateway.key, &[])));
    wait_until("they are there", || gateway.metric("wbg_connections") == 2.0);
    assert_all_gone(&gateway);
}

#[test]
fn a_peer_that_takes_nothing_of_its_answer_does_not_hold_it_for_ever() {
    let upstream = Upstream::scripted(|_, stream| {
        let promised = 64 << 20;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {promised}\r\n\r\n");
        let sent = stream.write_all(head.as_bytes());
        // A text of JSON: what is none is not passed on.
        let mut piece = [b'x'; 1 << 16];
        piece[0] = b'"';
        let begun = sent.and_then(|()| stream.write_all(&piece));
        piece[0] = b'x';
        begun.is_ok() && (1..promised >> 16).all(|_| stream.write_all(&piece).is_ok())
    });
    let gateway = impatient(&upstream);
    let mut slow = gateway.client();
    slow.send(
        format!("GET /v5/rooms HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n\r\n", gateway.key).as_bytes(),
    );
    // In HTTP/2 by a window of nothing (SETTINGS_INITIAL_WINDOW_SIZE, RFC 9113 §6.5.2).
    let mut closed = Frames::connect(gateway.address);
    closed.send(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    closed.head(1, END_STREAM, &head(&gateway.key, &[]));
    wait_until("both are asked for", || upstream.received().len() == 2);
    assert_all_gone(&gateway);
    wait_until("it is recorded", || {
        let lines = gateway.access_lines();
        lines.len() == 2 && lines.iter().all(|line| line["code"] == "caller_gone")
    });
}

// Behind: the upstream over TLS.

/// `sandbox` with a certificate.
fn sandbox(certified: &crate::support::Identity) -> Process {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certified.write(folder.path());
    let mut command = Command::new(binary());
    command.args(["sandbox", "--listen", "127.0.0.1:0", "--certificate"]).arg(certificate);
    command.arg("--key").arg(key);
    Process::of_sandbox(command)
}

/// A gateway in front of it that trusts this authority, with more lines for `[upstream]`.
fn in_front_of(sandbox: &Process, authority: &Authority, more: &str) -> Process {
    let setup = Setup::new(&format!("https://localhost:{}", sandbox.address.port()));
    let ca = authority.write(setup.folder.path());
    let lines = format!("[upstream]\nca = \"{}\"\n{more}", ca.display());
    setup.with(&lines).start()
}

#[test]
fn the_upstream_is_spoken_to_in_http2_over_tls_unless_it_is_switched_off() {
    let authority = Authority::new("authority");
    let sandbox = sandbox(&authority.certify("localhost"));
    let mut look = Client::over(handshake(sandbox.address, &authority, &[]).unwrap());
    for (more, protocol) in [("", "HTTP/2"), ("http2 = false\n", "HTTP/1")] {
        let gateway = in_front_of(&sandbox, &authority, more);
        let mut client = gateway.client();
        let token = [("token", gateway.key.as_str())];
        for _ in 0..3 {
            let answer = client.request("POST", "/v5/rooms", &token, "{\"isRecord\":false}");
            assert_eq!(answer.status, 201, "{}", answer.text());
            let room = format!("/v5/rooms/{}", answer.member("uuid"));
            assert_eq!(client.request("GET", &room, &token, "").status, 200);
        }
        let seen = look.request("GET", "/sandbox/requests", &[], "").json();
        look.request("DELETE", "/sandbox/requests", &[], "");
        let seen = seen.as_array().unwrap();
        assert_eq!(seen.len(), 6);
        for one in seen {
            assert_eq!(
                (&one["protocol"], &one["tls"], &one["token"]["verified"]),
                (&protocol.into(), &true.into(), &true.into())
            );
        }
        gateway.until_metric("wbg_upstream_connects_total{result=\"opened\"}", 1.0);
    }
}

#[test]
fn an_upstream_whose_certificate_is_not_to_be_trusted_is_not_spoken_to() {
    let authority = Authority::new("authority");
    let another = Authority::new("authority");
    for (name, certified) in [
        ("expired", authority.certify_expired("localhost")),
        ("another name", authority.certify("elsewhere.example")),
        ("an authority that is not trusted", another.certify("localhost")),
    ] {
        let sandbox = sandbox(&certified);
        let gateway = in_front_of(&sandbox, &authority, "");
        let answer = gateway.call("GET", "/v5/rooms", "");
        answer.assert_envelope(500, "upstream_error");
        let told = answer.header("proxy-status");
        assert!(told.contains("error=tls_certificate_error"), "{name}: {told}");
        let line = gateway.access_line(answer.header("x-request-id"));
        assert!(line["detail"].as_str().unwrap().contains("certificate"), "{name}: {line}");
    }
}

#[test]
fn a_stream_that_the_upstream_breaks_off_is_told_and_the_connection_goes_on() {
    let authority = Authority::new("authority");
    let sandbox = sandbox(&authority.certify("localhost"));
    let gateway = in_front_of(&sandbox, &authority, "");
    let mut control = Client::over(handshake(sandbox.address, &authority, &[]).unwrap());
    let mut client = gateway.client();
    let token = [("token", gateway.key.as_str())];
    assert_eq!(client.request("POST", "/v5/rooms", &token, "{}").status, 201);
    for (fault, error) in [
        (r#"{"close":true}"#, "connection_terminated"),
        (r#"{"body":"truncated"}"#, "http_response_incomplete"),
    ] {
        control.request("PUT", "/sandbox/faults", &[], fault);
        let answer = client.request("POST", "/v5/rooms", &token, "{}");
        answer.assert_envelope(500, "upstream_error");
        assert!(answer.header("proxy-status").contains(error), "{:?}", answer.headers);
        control.request("DELETE", "/sandbox/faults", &[], "");
        assert_eq!(client.request("POST", "/v5/rooms", &token, "{}").status, 201);
    }
    gateway.until_metric("wbg_upstream_connects_total{result=\"opened\"}", 1.0);
}
