//! Answers of HTTP/1.1 as they come from the upstream: the pieces that one comes in change nothing,
//! its body is what its framing says, and only what is sure to be over is followed by another.
//!
//! An input is two lengths of pieces, a byte each, whether the request was a HEAD, and the answer.

use whiteboard_gateway::upstream::{
    Buffers, ParseStep, ResponseHead, ResponseParser, ResponseSyntaxError,
};

/// An answer, read until its end.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    head: ResponseHead,
    promised: Option<u64>,
    body: Vec<u8>,
    reusable: bool,
}

/// One input.
pub fn run(input: &[u8]) {
    let [first, second, bodiless, answer @ ..] = input else { return };
    let bodiless = *bodiless == b'H';
    let whole = hear(&[answer], bodiless);
    let pieces = split(answer, [*first, *second].map(|length| usize::from(length).max(1)));
    assert_eq!(hear(&pieces, bodiless), whole, "in pieces, and at once");
    if let Ok(heard) = whole {
        assert!(heard.body.len() <= answer.len());
        assert!(heard.promised.is_none_or(|length| length == heard.body.len() as u64));
        assert!(!heard.head.status.is_informational());
        let none = bodiless || [204, 304].contains(&heard.head.status.as_u16());
        assert!(!none || heard.body.is_empty(), "a body where none can be");
        // What can be used again has told its length, in the present version, and nothing more.
        assert!(!heard.reusable || answer.ends_with(&heard.body) || answer.ends_with(b"\r\n\r\n"));
    }
}

fn hear(pieces: &[&[u8]], bodiless: bool) -> Result<Heard, ResponseSyntaxError> {
    let (mut reader, buffers) = (ResponseParser::default(), Buffers::default());
    reader.expect(bodiless);
    let mut pieces = pieces.iter();
    let mut head = None;
    let mut body = Vec::new();
    loop {
        if head.is_none() {
            head = reader.head()?.map(|head| (head, reader.left()));
        }
        if let Some((head, promised)) = &head {
            match reader.body()? {
                ParseStep::Piece(piece) => {
                    assert!(!piece.is_empty(), "a piece of nothing");
                    body.extend_from_slice(&piece);
                    continue;
                }
                ParseStep::More => {}
                ParseStep::End => {
                    pieces.for_each(|piece| reader.buffer(&buffers).extend_from_slice(piece));
                    let (head, promised) = (head.clone(), *promised);
                    return Ok(Heard { head, promised, body, reusable: reader.is_reusable() });
                }
            }
        }
        match pieces.next() {
            Some(piece) => reader.buffer(&buffers).extend_from_slice(piece),
            None => reader.close()?,
        }
    }
}

fn split(mut bytes: &[u8], lengths: [usize; 2]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for length in lengths.into_iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}
