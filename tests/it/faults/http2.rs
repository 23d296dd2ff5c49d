//! What an upstream does wrong in HTTP/2.

use super::matrix::{Bound, Outcome, Row, broken, failure};
use super::tls::Shown;
use crate::support::faulty::{Fault, Then, Wire, head, well};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, block,
};

/// RFC 9113 §7.
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
pub(super) const REFUSED_STREAM: u32 = 7;

const CLOSED: Outcome = broken(
    "the whiteboard service closed the connection without an answer",
    "connection_terminated",
);
const BROKE_OFF: Outcome =
    broken("the whiteboard service's answer broke off", "http_response_incomplete");
const NO_ANSWER: Outcome = failure(
    500,
    "upstream_timeout",
    "the whiteboard service did not answer in time",
    "http_response_timeout",
);

pub(super) fn reset(frames: &mut Frames<Wire>, stream: u32, code: u32) -> Then {
    frames.send(RST_STREAM, 0, stream, &code.to_be_bytes());
    Then::Keep
}

/// Processes nothing above this stream.
pub(super) fn goaway(frames: &mut Frames<Wire>, last: u32) {
    let payload = [last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat();
    frames.send(GOAWAY, 0, 0, &payload);
}

pub(super) fn rows() -> Vec<Row> {
    let row = |name, act: fn(&mut Frames<Wire>, u32) -> Then, outcome| {
        Row::secure(name, Shown::Good, &["h2"], Fault::Stream(act), outcome)
    };
    let mute = |name, outcome| {
        let fault = Fault::Connection(|_| Then::Hold);
        Row::secure(name, Shown::Good, &["h2"], fault, outcome).unseen()
    };
    vec![
        mute("agrees on HTTP/2, and its SETTINGS never come", NO_ANSWER).within(Bound::FirstByte),
        // What is given up takes the connection with it: the next request must not meet it again.
        row(
            "goes silent on a connection of HTTP/2 that it has answered on",
            |frames, stream| {
                if stream > 1 {
                    return Then::Hold;
                }
                well(frames, stream);
                Then::Keep
            },
            NO_ANSWER,
        )
        .within(Bound::FirstByte)
        // A GET is asked again on another connection, and answered.
        .only(&["POST"])
        .kept(),
        // It is the caller's patience that outlasts the connection, not the other way round.
        mute("is silent on a connection of HTTP/2, and answers no ping", CLOSED)
            .within(Bound::Ping)
            .only(&["POST"]),
        Row::secure(
            "agrees on HTTP/2 and speaks HTTP/1.1",
            Shown::Good,
            &["h2"],
            Fault::Connection(|peer| {
                peer.says(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Then::Hold)
            }),
            CLOSED,
        )
        .unseen(),
        row(
            "sends GOAWAY in the midst of a request, and closes",
            |frames, stream| {
                goaway(frames, stream);
                Then::Close
            },
            CLOSED,
        ),
        row(
            "sends GOAWAY and answers what it has begun",
            |frames, stream| {
                goaway(frames, stream);
                well(frames, stream);
                Then::Keep
            },
            Outcome::Success,
        ),
        row(
            "sends GOAWAY before the request, and closes",
            |frames, _| {
                goaway(frames, 0);
                Then::Close
            },
            CLOSED,
        )
        .untouched(),
        row("refuses the stream", |frames, stream| reset(frames, stream, REFUSED_STREAM), CLOSED)
            .untouched(),
        row("resets the stream", |frames, stream| reset(frames, stream, INTERNAL_ERROR), CLOSED),
        row(
            "resets the stream after the head",
            |frames, stream| {
                head(frames, stream, &[]);
                reset(frames, stream, INTERNAL_ERROR)
            },
            BROKE_OFF,
        ),
        row(
            "resets the stream in the body",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, 0, stream, b"{\"uuid\":");
                reset(frames, stream, INTERNAL_ERROR)
            },
            BROKE_OFF,
        ),
        row(
            "sends less than the length that it gave, in HTTP/2",
            |frames, stream| {
                head(frames, stream, &[("content-length", "10")]);
                frames.send(DATA, END_STREAM, stream, b"{}");
                Then::Keep
            },
            BROKE_OFF,
        ),
        row(
            "stalls in the body, in HTTP/2",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, 0, stream, b"{\"uuid\":");
                Then::Keep
            },
            failure(
                500,
                "upstream_timeout",
                "the whiteboard service's answer came too slowly",
                "http_response_timeout",
            ),
        )
        .within(Bound::BetweenBytes),
        row(
            "sends CONTINUATION for ever",
            |frames, stream| {
                let field = block(&[("x", &"a".repeat(1000))]);
                frames.send(HEADERS, 0, stream, &block(&[(":status", "200")]));
                for _ in 0..10_000 {
                    frames.send(CONTINUATION, 0, stream, &field);
                }
                Then::Close
            },
            CLOSED,
        ),
        row(
            "sends a head without a status",
            |frames, stream| {
                frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x", "y")]));
                Then::Keep
            },
            CLOSED,
        ),
        row(
            "sends a frame that is over its size",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, END_STREAM, stream, &vec![b' '; 100_000]);
                Then::Keep
            },
            BROKE_OFF,
        ),
        row(
            "answers on HTTP/2 with what is no JSON",
            |frames, stream| {
                head(frames, stream, &[("content-type", "text/html")]);
                frames.send(DATA, END_STREAM, stream, b"<html>no</html>");
                Then::Keep
            },
            broken("the whiteboard service's answer is no JSON", "http_protocol_error"),
        ),
    ]
}
