//! Tests of HTTP/1.1 to the upstream: what is an answer, whatever pieces it comes in; the same
//! beside hyper's client; and whole exchanges over sockets.

mod answers;
mod beside_hyper;
mod exchanges;

use proptest::collection::vec;
use proptest::prelude::*;

use super::Buffers;
use super::response::ResponseParser;
use super::syntax::{ParseStep, ResponseSyntaxError};
use crate::upstream::connection::head::ResponseHead;

/// An answer, read to its end.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    head: ResponseHead,
    body: Vec<u8>,
    reusable: bool,
}

/// Reads an answer that comes in these pieces, after which the connection ends.
fn hear(pieces: &[&[u8]]) -> Result<Heard, ResponseSyntaxError> {
    let (mut reader, buffers) = (ResponseParser::default(), Buffers::default());
    reader.expect(false);
    let mut pieces = pieces.iter();
    let mut head = None;
    let mut body = Vec::new();
    loop {
        if head.is_none() {
            head = reader.head()?;
        }
        if let Some(head) = &head {
            match reader.body()? {
                ParseStep::Piece(piece) => {
                    assert!(!piece.is_empty());
                    body.extend_from_slice(&piece);
                    continue;
                }
                ParseStep::More => {}
                ParseStep::End => {
                    pieces.for_each(|piece| reader.buffer(&buffers).extend_from_slice(piece));
                    let reusable = reader.is_reusable();
                    return Ok(Heard { head: head.clone(), body, reusable });
                }
            }
        }
        match pieces.next() {
            Some(piece) => reader.buffer(&buffers).extend_from_slice(piece),
            None => reader.close()?,
        }
    }
}

/// The same bytes in other pieces.
fn split<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(1, |length| (*length).clamp(1, rest.len()));
        let (piece, more) = rest.split_at(length);
        pieces.push(piece);
        rest = more;
    }
    pieces
}

/// Answers as a server may send them.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let interims = vec(prop_oneof![Just("100 Continue"), Just("103 Early Hints")], 0..3);
    let status = prop_oneof![
        Just("200 OK"),
        Just("201 Created"),
        Just("204 No Content"),
        Just("304 Not Modified"),
        Just("404 "),
        Just("500 Oops, that was \u{e9}"),
    ];
    let fields = vec(
        prop_oneof![
            Just("Content-Type: application/json"),
            Just("content-type:text/html; charset=utf-8"),
            Just("Http1Connection: close"),
            Just("connection: keep-alive, x"),
            Just("Cache-Control: \t no-store \t"),
            Just("Retry-After: 7"),
            Just("Set-Cookie: a=b"),
            Just("X-Odd: \u{fc}"),
            Just("Content-Encoding: identity"),
        ],
        0..6,
    );
    let framing = prop_oneof![Just("length"), Just("chunked"), Just("close")];
    let chunks =
        vec((vec(any::<u8>(), 1..40), prop_oneof![Just(""), Just(";a=b"), Just(" ")]), 0..5);
    let trailers = prop_oneof![Just(""), Just("X-Trailer: 1\r\n"), Just("a: b\r\nc: d\r\n")];
    let minor = prop_oneof![4 => Just(1), 1 => Just(0)];
    (interims, status, fields, framing, chunks, trailers, minor).prop_map(
        |(interims, status, fields, framing, chunks, trailers, minor)| {
            let mut text = Vec::new();
            for interim in interims {
                text.extend_from_slice(format!("HTTP/1.1 {interim}\r\nlink: x\r\n\r\n").as_bytes());
            }
            text.extend_from_slice(format!("HTTP/1.{minor} {status}\r\n").as_bytes());
            fields
                .iter()
                .for_each(|field| text.extend_from_slice(format!("{field}\r\n").as_bytes()));
            let bodiless = ["204", "304"].iter().any(|none| status.starts_with(none));
            let body: Vec<u8> = chunks.iter().flat_map(|(data, _)| data.clone()).collect();
            match framing {
                _ if bodiless => text.extend_from_slice(b"\r\n"),
                "chunked" if minor == 1 => {
                    text.extend_from_slice(b"Transfer-Encoding: Chunked\r\n\r\n");
                    for (data, extension) in &chunks {
                        text.extend_from_slice(
                            format!("{:X}{extension}\r\n", data.len()).as_bytes(),
                        );
                        text.extend_from_slice(data);
                        text.extend_from_slice(b"\r\n");
                    }
                    text.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
                }
                "length" => {
                    text.extend_from_slice(
                        format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(),
                    );
                    text.extend_from_slice(&body);
                }
                _ => {
                    text.extend_from_slice(b"\r\n");
                    text.extend_from_slice(&body);
                }
            }
            text
        },
    )
}

/// Answers of which a part was lost, doubled or replaced by something that means something.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let odd = prop_oneof![
        Just(""),
        Just("\r"),
        Just("\n"),
        Just("\r\n"),
        Just("\r\n\r\n"),
        Just(" "),
        Just("0"),
        Just("5"),
        Just(":"),
        Just(";"),
        Just("\0"),
        Just("content-length: 3\r\n"),
        Just("transfer-encoding: chunked\r\n"),
        Just("transfer-encoding: gzip\r\n"),
        Just("+1"),
        Just("HTTP/1.1 200 OK\r\n\r\n"),
        Just("fffffffffffffffff"),
        Just(" folded: x\r\n"),
    ];
    (answer(), any::<prop::sample::Index>(), 0_usize..4, odd).prop_map(
        |(mut text, at, lost, odd)| {
            let at = at.index(text.len());
            let end = (at + lost).min(text.len());
            text.splice(at..end, odd.bytes());
            text
        },
    )
}
