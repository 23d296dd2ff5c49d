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

fn row(name: &'static str, act: fn(&mut Frames<Wire>, u32) -> Then, outcome: Outcome) -> Row {
    Row::secure(name, Shown::Good, &["h2"], Fault::Stream(act), outcome)
}

rows! {
    pub(super) fn rows;
    // A connection stands when both sides have begun: nothing is sent before.
    agrees_on_http_2_and_its_settings_never_come =>
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
    goes_silent_on_a_connection_of_http_2_that_it_has_answered_on =>
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
    is_silent_on_a_connection_of_http_2_and_answers_no_ping =>
        row("is silent on a connection of HTTP/2, and answers no ping", |_, _| Then::Hold, CLOSED)
            .within(Bound::Ping)
            .only(&["POST"]),
    agrees_on_http_2_and_speaks_http_1_1 =>
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
    sends_goaway_in_the_midst_of_a_request_and_closes =>
        row(
            "sends GOAWAY in the midst of a request, and closes",
            |frames, stream| {
                goaway(frames, stream);
                Then::Close
            },
            CLOSED,
        ),
    sends_goaway_and_answers_what_it_has_begun =>
        row(
            "sends GOAWAY and answers what it has begun",
            |frames, stream| {
                goaway(frames, stream);
                well(frames, stream);
                Then::Keep
            },
            Outcome::Success,
        ),
    sends_goaway_before_the_request_and_closes =>
        row(
            "sends GOAWAY before the request, and closes",
            |frames, _| {
                goaway(frames, 0);
                Then::Close
            },
            CLOSED,
        )
        .untouched(),
    refuses_the_stream =>
        row("refuses the stream", |frames, stream| reset(frames, stream, REFUSED_STREAM), CLOSED)
            .untouched(),
    resets_the_stream =>
        row("resets the stream", |frames, stream| reset(frames, stream, INTERNAL_ERROR), CLOSED),
    resets_the_stream_after_the_head =>
        row(
            "resets the stream after the head",
            |frames, stream| {
                head(frames, stream, &[]);
                reset(frames, stream, INTERNAL_ERROR)
            },
            BROKE_OFF,
        ),
    resets_the_stream_in_the_body =>
        row(
            "resets the stream in the body",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, 0, stream, b"{\"uuid\":");
                reset(frames, stream, INTERNAL_ERROR)
            },
            BROKE_OFF,
        ),
    sends_less_than_the_length_that_it_gave_in_http_2 =>
        row(
            "sends less than the length that it gave, in HTTP/2",
            |frames, stream| {
                head(frames, stream, &[("content-length", "10")]);
                frames.send(DATA, END_STREAM, stream, b"{}");
                Then::Keep
            },
            NO_HTTP,
        ),
    sends_more_than_the_length_that_it_gave_in_http_2 =>
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
    takes_the_stream_back_in_the_body =>
        row(
            "takes the stream back in the body",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, 0, stream, b"{}");
                reset(frames, stream, CANCEL)
            },
            BROKE_OFF,
        ),
    resets_the_stream_without_an_error_before_the_end_of_the_body =>
        row(
            "resets the stream without an error before the end of the body",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, 0, stream, b"{}");
                reset(frames, stream, NO_ERROR)
            },
            BROKE_OFF,
        ),
    resets_the_stream_without_an_error_after_its_answer =>
        row(
            "resets the stream without an error after its answer",
            |frames, stream| {
                well(frames, stream);
                reset(frames, stream, NO_ERROR)
            },
            Outcome::Success,
        ),
    sends_goaway_in_the_body_and_closes =>
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
    stalls_in_the_body_in_http_2 =>
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
    sends_continuation_forever =>
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
    sends_a_head_that_is_over_its_bound_in_http_2 =>
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
    sends_a_head_without_a_status =>
        row(
            "sends a head without a status",
            |frames, stream| {
                frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("x", "y")]));
                Then::Keep
            },
            NO_HTTP,
        ),
    sends_a_head_with_a_name_in_capital_letters_in_http_2 =>
        row(
            "sends a head with a name in capital letters, in HTTP/2",
            |frames, stream| {
                head(frames, stream, &[("X-Room", "a")]);
                frames.send(DATA, END_STREAM, stream, b"{}");
                Then::Keep
            },
            NO_HTTP,
        ),
    sends_a_field_of_the_connection_in_http_2 =>
        row(
            "sends a field of the connection in HTTP/2",
            |frames, stream| {
                head(frames, stream, &[("transfer-encoding", "chunked")]);
                frames.send(DATA, END_STREAM, stream, b"{}");
                Then::Keep
            },
            NO_HTTP,
        ),
    sends_a_body_before_its_head_in_http_2 =>
        row(
            "sends a body before its head, in HTTP/2",
            |frames, stream| {
                frames.send(DATA, END_STREAM, stream, b"{}");
                Then::Keep
            },
            NO_HTTP,
        ),
    sends_a_frame_that_is_over_its_size =>
        row(
            "sends a frame that is over its size",
            |frames, stream| {
                head(frames, stream, &[]);
                frames.send(DATA, END_STREAM, stream, &vec![b' '; 100_000]);
                Then::Keep
            },
            NO_HTTP,
        ),
    answers_on_http_2_with_what_is_no_json =>
        row(
            "answers on HTTP/2 with what is no JSON",
            |frames, stream| {
                head(frames, stream, &[("content-type", "text/html")]);
                frames.send(DATA, END_STREAM, stream, b"<html>no</html>");
                Then::Keep
            },
            broken("the whiteboard service's answer is no JSON", "http_protocol_error"),
        ),
}
