//! Bodies that pass through to the upstream as they come: of operations that the configuration adds.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::faults::Shown;
use crate::support::faulty::{Fault, Faulty, Then};
use crate::support::{Answer, Process, Setup, Upstream, scenario_delay, silent_until_gone};

const UPLOAD: &str = "[[operations]]\nname = \"rooms.import\"\nmethod = \"POST\"\n\
    path = \"/v5/rooms/{uuid}/import\"\ntarget = \"room\"\ntoken = \"room\"\nrole = \"writer\"\n\
    body = \"opaque\"\n";

fn gateway(upstream: &Upstream) -> Process {
    Setup::new(&upstream.url()).with(UPLOAD).start()
}

/// The head of an upload, with this field of framing.
fn head(gateway: &Process, framing: &str) -> Vec<u8> {
    let token = &gateway.key;
    format!("POST /v5/rooms/r/import HTTP/1.1\r\nhost: g\r\ntoken: {token}\r\n{framing}\r\n\r\n")
        .into_bytes()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Reads up to the end of a head, and no further.
fn skip_head(stream: &TcpStream) {
    // One byte at a time: what follows is not to be taken.
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
}

#[test]
fn an_upload_passes_through_with_its_length_or_in_chunks() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = gateway(&upstream);
    let body: Vec<u8> = (0..200_000_u32).flat_map(|i| [i as u8]).collect();
    let mut client = gateway.client();

    let length = format!("content-length: {}", body.len());
    client.send(&[head(&gateway, &length), body.clone()].concat());
    assert_eq!(client.answer("POST").unwrap().status, 201);

    client.send(&head(&gateway, "transfer-encoding: chunked"));
    body.chunks(30_000).for_each(|piece| client.send(&chunk(piece)));
    // The trailers of a caller are nothing to the upstream.
    client.send(b"0\r\nx-trailer: 1\r\n\r\n");
    assert_eq!(client.answer("POST").unwrap().status, 201);

    let received = upstream.received();
    assert_eq!(received[0].header("content-length"), body.len().to_string());
    assert_eq!(received[1].header("transfer-encoding"), "chunked");
    assert!(received.iter().all(|request| request.body == body));
    assert_eq!(upstream.connections(), 1, "the connection was kept");
}

#[test]
fn an_upload_that_is_refused_before_its_end_is_answered_before_its_end() {
    let upstream = Upstream::raw(|mut stream| {
        skip_head(&stream);
        let told = "{\"message\":\"too big\"}";
        let length = told.len();
        let answer = format!("HTTP/1.1 413 Large\r\ncontent-length: {length}\r\n\r\n{told}");
        _ = stream.write_all(answer.as_bytes());
        // Takes no more, and does not close either.
        scenario_delay(Duration::from_secs(20));
    });
    let gateway = gateway(&upstream);
    for framing in ["content-length: 200000", "transfer-encoding: chunked"] {
        let mut client = gateway.client();
        client.send(&head(&gateway, framing));
        client.send(&chunk(b"the rest never comes"));
        let answer = client.answer("POST").unwrap();
        answer.assert_envelope(400, "upstream_refused");
        assert_eq!(answer.member("message"), "too big");
    }
}

#[test]
fn an_upload_that_breaks_off_is_no_whole_request_to_the_upstream() {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::raw(move |mut stream| {
        let mut received = Vec::new();
        _ = stream.read_to_end(&mut received);
        tell.send(received).unwrap();
    });
    let gateway = gateway(&upstream);
    let too_long = chunk(&[b'x'; 60_000]).repeat(5);
    for (rest, code) in [(&b"no chunk\r\n"[..], "malformed_request"), (&too_long, "too_large")] {
        let mut client = gateway.client();
        client.send(&head(&gateway, "transfer-encoding: chunked"));
        client.send(&chunk(b"begun"));
        client.send(rest);
        client.answer("POST").unwrap().assert_envelope(400, code);
        let received = told.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(received.starts_with(b"POST /v5/rooms/r/import HTTP/1.1\r\n"));
        assert!(!received.ends_with(b"0\r\n\r\n"), "it looks whole");
    }
}

/// What is said of an upload that stops after its first piece, and when.
fn stalled(gateway: &Process) -> (Answer, Duration) {
    let mut client = gateway.client();
    client.send(&head(gateway, "transfer-encoding: chunked"));
    client.send(&chunk(b"the rest never comes"));
    let begun = Instant::now();
    (client.answer("POST").unwrap(), begun.elapsed())
}

/// A gateway that takes little, and loses its patience with uploads by one of two keys.
fn hasty(setup: Setup, body: &str, first_byte: &str) -> Process {
    let times = format!("[upstream]\nfirst_byte_timeout = \"{first_byte}\"\n");
    setup
        .with(&times)
        .with(&format!("[body]\nmax_bytes = \"10KiB\"\ntimeout = \"{body}\"\n[upstream.breaker]\nfailures = 1\n"))
        .with(UPLOAD)
        .start()
}

#[test]
fn an_upload_that_stops_is_the_fault_of_its_caller_and_not_of_the_service() {
    let tls = Shown::Good.tls(&["h2"]);
    let http2 = Faulty::start(Fault::Stream(|_, _| Then::Keep), Some(tls));
    let plain = Upstream::json("200 OK", "{}");
    for (body, first_byte) in [("600ms", "20s"), ("20s", "600ms")] {
        let secure = Setup::new(&format!("https://{}", http2.address));
        let trusts = Shown::trusted(secure.folder.path());
        let secure = secure.with(&format!("[upstream]\n{trusts}"));
        for setup in [Setup::new(&plain.url()), secure] {
            let gateway = hasty(setup, body, first_byte);
            let (answer, took) = stalled(&gateway);
            answer.assert_envelope(400, "request_timeout");
            assert!(took < Duration::from_secs(10), "{took:?}");
            // One failure of the service would be enough for it not to be asked.
            assert_eq!(gateway.admin("/readyz").json()["breakers"].to_string(), "{}");
        }
    }
}

#[test]
fn an_upload_that_is_too_large_is_told_so_over_http2_as_well() {
    let tls = Shown::Good.tls(&["h2"]);
    let upstream = Faulty::start(Fault::Stream(|_, _| Then::Keep), Some(tls));
    let setup = Setup::new(&format!("https://{}", upstream.address));
    let trusts = Shown::trusted(setup.folder.path());
    let setup = setup.with(&format!("[upstream]\n{trusts}"));
    let gateway = hasty(setup, "20s", "20s");
    let mut client = gateway.client();
    client.send(&head(&gateway, "transfer-encoding: chunked"));
    client.send(&chunk(&[b'x'; 11_000]));
    client.answer("POST").unwrap().assert_envelope(400, "too_large");
}

#[test]
fn a_service_that_says_nothing_to_a_whole_upload_is_at_fault() {
    let upstream = Upstream::scripted(|_, stream| {
        silent_until_gone(stream);
        false
    });
    let gateway = hasty(Setup::new(&upstream.url()), "20s", "600ms");
    for framing in ["content-length: 4", "transfer-encoding: chunked"] {
        let mut client = gateway.client();
        client.send(&head(&gateway, framing));
        let whole = if framing.starts_with('c') {
            b"body".to_vec()
        } else {
            [&chunk(b"body")[..], b"0\r\n\r\n"].concat()
        };
        client.send(&whole);
        let answer = client.answer("POST").unwrap();
        let code = answer.member("code");
        assert!(["upstream_timeout", "upstream_unavailable"].contains(&code.as_str()), "{code}");
    }
    assert!(gateway.admin("/readyz").json()["breakers"]["us-sv"].is_string());
}
