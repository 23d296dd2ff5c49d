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
const CANCEL: u32 = 8;

const CLOSED: Outcome = broken(
    "the whiteboard service closed the connection without an answer",
    "connection_terminated",
);
const BROKE_OFF: Outcome =
    broken("the whiteboard service's answer broke off", "http_response_incomplete");
const NO_HTTP: Outcome =
    broken("the whiteboard service's answer is no HTTP", "http_protocol_error");
const HEAD_TOO_LARGE: Outcome = broken(
    "the head of the whiteboard service's answer is too large",
    "http_response_header_section_size",
);
const NO_CONNECTION: Outcome = failure(
    500,
    "upstream_timeout",
    "the whiteboard service could not be connected to in time",
    "connection_timeout",
);
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
    vec![
        // A connection stands when both sides have begun: nothing is sent before.
        Row::secure(
            "agrees on HTTP/2, and its SETTINGS never come",
            Shown::Good,
            &["h2"],
            Fault::Connection(|_| Then::Hold),
            NO_CONNECTION,
        )
        .never_arrives()
        .within(Bound::Connect),
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
        row("is silent on a connection of HTTP/2, and answers no ping", |_, _| Then::Hold, CLOSED)
            .within(Bound::Ping)
            .only(&["POST"]),
        Row::secure(
            "agrees on HTTP/2 and speaks HTTP/1.1",
            Shown::Good,
            &["h2"],
            Fault::Connection(|peer| {
                peer.says(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Then::Hold)
            }),
            broken("the whiteboard service does not speak HTTP", "http_protocol_error"),
        )
        .never_arrives(),
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
            NO_HTTP,
        ),
        row(
            "sends more than the length that it gave, in HTTP/2",
            |frames, stream| {
                head(frames, stream, &[("content-length", "2")]);
                frames.send(DATA, END_STREAM, stream, b"{\"a\":1}");
                Then::Keep
            },
            NO_HTTP,
        ),
        // What no length was given of is not whole because nothing more comes.
        row(
            "takes the stream back in the body",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, 0, stream, b"{}");
                reset(frames, stream, CANCEL)
            },
            BROKE_OFF,
        ),
        row(
            "resets the stream without an error before the end of the body",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, 0, stream, b"{}");
                reset(frames, stream, NO_ERROR)
            },
            BROKE_OFF,
        ),
        row(
            "resets the stream without an error after its answer",
            |frames, stream| {
                well(frames, stream);
                reset(frames, stream, NO_ERROR)
            },
            Outcome::Success,
        ),
        row(
            "sends GOAWAY in the body, and closes",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, 0, stream, b"{\"uuid\":");
                goaway(frames, stream);
                Then::Close
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
            "sends CONTINUATION forever",
            |frames, stream| {
                let field = block(&[("x", &"a".repeat(1000))]);
                frames.send(HEADERS, 0, stream, &block(&[(":status", "200")]));
                for _ in 0..10_000 {
                    frames.send(CONTINUATION, 0, stream, &field);
                }
                Then::Close
            },
            HEAD_TOO_LARGE,
        ),
        row(
            "sends a head that is over its bound, in HTTP/2",
            |frames, stream| {
                let fields: Vec<(String, String)> =
                    (0..70).map(|number| (format!("x-{number}"), "a".repeat(1000))).collect();
                let fields = fields.iter().map(|(name, value)| (&**name, &**value));
                let fields: Vec<_> = [(":status", "200")].into_iter().chain(fields).collect();
                frames.head(stream, END_STREAM, &fields);
                Then::Keep
            },
            HEAD_TOO_LARGE,
        ),
        row(
            "sends a head without a status",
            |frames, stream| {
                frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x", "y")]));
                Then::Keep
            },
            NO_HTTP,
        ),
        row(
            "sends a head with a name in capital letters, in HTTP/2",
            |frames, stream| {
                head(frames, stream, &[("X-Room", "a")]);
                frames.send(DATA, END_STREAM, stream, b"{}");
                Then::Keep
            },
            NO_HTTP,
        ),
        row(
            "sends a field of the connection in HTTP/2",
            |frames, stream| {
                head(frames, stream, &[("transfer-encoding", "chunked")]);
                frames.send(DATA, END_STREAM, stream, b"{}");
                Then::Keep
            },
            NO_HTTP,
        ),
        row(
            "sends a body before its head, in HTTP/2",
            |frames, stream| {
                frames.send(DATA, END_STREAM, stream, b"{}");
                Then::Keep
            },
            NO_HTTP,
        ),
        row(
            "sends a frame that is over its size",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, END_STREAM, stream, &vec![b' '; 100_000]);
                Then::Keep
            },
            NO_HTTP,
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
