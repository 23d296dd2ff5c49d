//! Bodies that pass through to the upstream as they come: of operations that the configuration adds.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::{Process, Setup, Upstream};

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
        thread::sleep(Duration::from_secs(20));
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
