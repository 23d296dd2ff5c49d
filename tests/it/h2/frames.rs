//! RFC 9113 §3, §4, §6 and §7: the connection's beginning and each kind of frame.

use super::case::{
    COMPRESSION, Case, FLOW_CONTROL, FRAME_SIZE, PROTOCOL, STREAM_CLOSED, Seen, begun, case, data,
    fatal, fields, get, head, more, ping, post, priority, reset, rst, settings, window, with,
};
use crate::support::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITIZED,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
};

/// A kind of frame that nobody knows.
const UNKNOWN: u8 = 0x16;

pub(super) fn cases() -> Vec<Case> {
    [beginning(), format(), bodies(), heads(), priorities_and_resets(), settled(), others()]
        .into_iter()
        .flatten()
        .collect()
}

fn beginning() -> Vec<Case> {
    let proper = [PREFACE, &settings(&[])].concat();
    vec![
        case("3.4", "a preface and settings", ping(), [Seen::Pong]).beginning(&proper),
        case("3.4", "the settings are acknowledged", [], [Seen::Acknowledged(1)])
            .beginning(&proper),
        case("3.4", "a preface that is none", [], fatal(PROTOCOL))
            .beginning(b"INVALID CONNECTION PREFACE\r\n\r\n"),
        case("3.4", "a preface, and no settings but a ping", [], fatal(PROTOCOL))
            .beginning([PREFACE, &ping()].concat()),
        case("3.4", "settings with values", ping(), [Seen::Pong])
            .beginning([PREFACE, &settings(&[(4, 65_535), (3, 100)])].concat()),
    ]
}

fn format() -> Vec<Case> {
    let unknown = frame(UNKNOWN, 0, 0, &[0; 8]);
    let long = vec![b'a'; 16_385];
    let request = block(&fields("GET"));
    vec![
        case("4.1", "a frame of an unknown kind", [unknown.clone(), ping()].concat(), [Seen::Pong]),
        case(
            "4.1",
            "a flag without a meaning",
            frame(PING, 0x16, 0, super::case::WORD),
            [Seen::Pong],
        ),
        case("4.1", "the reserved bit", frame(PING, 0, 1 << 31, super::case::WORD), [Seen::Pong]),
        case(
            "4.2",
            "DATA of 16,384 bytes",
            [post(1), data(1, END_STREAM, &long[1..])].concat(),
            [Seen::Answer],
        ),
        case(
            "4.2",
            "DATA over the size",
            [post(1), data(1, END_STREAM, &long)].concat(),
            reset(FRAME_SIZE),
        ),
        case(
            "4.2",
            "HEADERS over the size",
            head(1, END_STREAM, &with("GET", &[("a", &"b".repeat(16_400))])),
            fatal(FRAME_SIZE),
        ),
        case(
            "4.3",
            "a header block that is broken",
            head(1, END_STREAM, b"\x40"),
            fatal(COMPRESSION),
        )
        .but(Seen::GoAway(PROTOCOL)),
        case(
            "4.3",
            "PRIORITY within a header block",
            [begun(1, END_STREAM, &request), priority(1, 0, 1), more(1, END_HEADERS, &[])].concat(),
            fatal(PROTOCOL),
        ),
        case(
            "4.3",
            "HEADERS of another stream within a header block",
            [begun(1, END_STREAM, &request), get(3)].concat(),
            fatal(PROTOCOL),
        ),
        case("5.5", "an extension", [unknown.clone(), get(1)].concat(), [Seen::Answer]),
        case(
            "5.5",
            "an extension within a header block",
            [begun(1, END_STREAM, &request), unknown].concat(),
            fatal(PROTOCOL),
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let padded =
        |pad: u8, rest: &[u8]| frame(DATA, PADDED | END_STREAM, 1, &[&[pad], rest].concat());
    vec![
        case("6.1", "DATA", [post(1), data(1, END_STREAM, b"{}")].concat(), [Seen::Answer]),
        case(
            "6.1",
            "DATA in two frames",
            [post(1), data(1, 0, b"{"), data(1, END_STREAM, b"}")].concat(),
            [Seen::Answer],
        ),
        case("6.1", "DATA with padding", [post(1), padded(3, b"{}abc")].concat(), [Seen::Answer]),
        case("6.1", "DATA on stream 0", data(0, END_STREAM, b"a"), fatal(PROTOCOL)),
        case(
            "6.1",
            "DATA with more padding than frame",
            [post(1), padded(6, b"test")].concat(),
            fatal(PROTOCOL),
        ),
        case(
            "6.1",
            "DATA after the end of the request",
            [get(1), data(1, END_STREAM, b"a")].concat(),
            reset(STREAM_CLOSED),
        )
        .but(Seen::GoAway(PROTOCOL)),
    ]
}

fn heads() -> Vec<Case> {
    let request = block(&fields("GET"));
    let ending = END_STREAM | END_HEADERS;
    let padded = |pad: u8, rest: &[u8]| [&[pad], request.as_slice(), rest].concat();
    let prioritized = |on: u32| [on.to_be_bytes().as_slice(), &[15], &request].concat();
    let piece = |from: usize, to: usize| &request[from..to];
    let long = request.len();
    vec![
        case("6.2", "HEADERS", get(1), [Seen::Answer]),
        case(
            "6.2",
            "HEADERS with padding",
            frame(HEADERS, ending | PADDED, 1, &padded(2, &[0, 0])),
            [Seen::Answer],
        ),
        case(
            "6.2",
            "HEADERS with a priority",
            frame(HEADERS, ending | PRIORITIZED, 1, &prioritized(0)),
            [Seen::Answer],
        ),
        case("6.2", "HEADERS on stream 0", head(0, END_STREAM, &request), fatal(PROTOCOL)),
        case(
            "6.2",
            "HEADERS with more padding than frame",
            frame(HEADERS, ending | PADDED, 1, &padded(255, &[])),
            fatal(PROTOCOL),
        ),
        case(
            "5.3.1",
            "HEADERS that depend on themselves",
            frame(HEADERS, ending | PRIORITIZED, 1, &prioritized(1)),
            [reset(PROTOCOL), vec![Seen::Answer]].concat(),
        ),
        case(
            "6.10",
            "CONTINUATION",
            [begun(1, END_STREAM, piece(0, 5)), more(1, END_HEADERS, piece(5, long))].concat(),
            [Seen::Answer],
        ),
        case(
            "6.10",
            "CONTINUATION twice",
            [
                begun(1, END_STREAM, piece(0, 5)),
                more(1, 0, piece(5, 10)),
                more(1, END_HEADERS, piece(10, long)),
            ]
            .concat(),
            [Seen::Answer],
        ),
        case(
            "6.10",
            "DATA within a header block",
            [begun(1, 0, &request), data(1, END_STREAM, b"a")].concat(),
            fatal(PROTOCOL),
        ),
        case(
            "6.10",
            "CONTINUATION on stream 0",
            [begun(1, END_STREAM, &request), more(0, END_HEADERS, &[])].concat(),
            fatal(PROTOCOL),
        ),
        case(
            "6.10",
            "CONTINUATION of another stream",
            [begun(1, END_STREAM, &request), more(3, END_HEADERS, &[])].concat(),
            fatal(PROTOCOL),
        ),
        case(
            "6.10",
            "CONTINUATION after a whole header block",
            [post(1), more(1, END_HEADERS, &request)].concat(),
            fatal(PROTOCOL),
        ),
        case(
            "6.10",
            "CONTINUATION after the last CONTINUATION",
            [begun(1, 0, &request), more(1, END_HEADERS, &[]), more(1, END_HEADERS, &[])].concat(),
            fatal(PROTOCOL),
        ),
        case(
            "6.10",
            "CONTINUATION after DATA",
            [post(1), data(1, 0, b"a"), more(1, END_HEADERS, &request)].concat(),
            fatal(PROTOCOL),
        ),
        case(
            "6.6",
            "PUSH_PROMISE of a client",
            [post(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2], &request[..]].concat())]
                .concat(),
            fatal(PROTOCOL),
        ),
    ]
}

fn priorities_and_resets() -> Vec<Case> {
    vec![
        case("6.3", "PRIORITY of 1", [priority(1, 0, 0), get(1)].concat(), [Seen::Answer]),
        case("6.3", "PRIORITY of 256", [priority(1, 0, 255), get(1)].concat(), [Seen::Answer]),
        case(
            "6.3",
            "PRIORITY on another stream",
            [priority(3, 1, 9), get(1)].concat(),
            [Seen::Answer],
        ),
        case(
            "6.3",
            "PRIORITY alone on another",
            [priority(1, 1 << 31, 9), get(1)].concat(),
            [Seen::Answer],
        ),
        case("6.3", "PRIORITY on stream 0", priority(0, 1, 9), fatal(PROTOCOL)),
        case(
            "6.3",
            "PRIORITY of four bytes",
            [post(1), frame(PRIORITY, 0, 1, &[128, 0, 0, 1])].concat(),
            reset(FRAME_SIZE),
        ),
        case("5.3.1", "PRIORITY on itself", [post(1), priority(1, 1, 9)].concat(), reset(PROTOCOL)),
        case("6.4", "RST_STREAM", [get(1), rst(1, 8), ping()].concat(), [Seen::Pong]),
        case("6.4", "RST_STREAM on stream 0", rst(0, 8), fatal(PROTOCOL)),
        case("6.4", "RST_STREAM on an idle stream", rst(1, 8), fatal(PROTOCOL)),
        case(
            "6.4",
            "RST_STREAM of three bytes",
            [post(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
            fatal(FRAME_SIZE),
        ),
        case(
            "7",
            "RST_STREAM with an unknown code",
            [get(1), rst(1, 255), ping()].concat(),
            [Seen::Pong],
        ),
    ]
}

fn settled() -> Vec<Case> {
    vec![
        case("6.5", "SETTINGS", settings(&[(3, 10)]), [Seen::Acknowledged(2)]),
        case(
            "6.5",
            "an acknowledgement with a payload",
            frame(SETTINGS, ACK, 0, &[0]),
            fatal(FRAME_SIZE),
        ),
        case(
            "6.5",
            "SETTINGS on a stream",
            frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 9]),
            fatal(PROTOCOL),
        ),
        case(
            "6.5",
            "SETTINGS of three bytes",
            frame(SETTINGS, 0, 0, &[0, 3, 0]),
            fatal(FRAME_SIZE),
        ),
        case(
            "6.5",
            "an acknowledgement of nothing",
            frame(SETTINGS, ACK, 0, &[]).repeat(2),
            fatal(PROTOCOL),
        ),
        case("6.5.2", "ENABLE_PUSH that is neither 0 nor 1", settings(&[(2, 2)]), fatal(PROTOCOL)),
        case(
            "6.5.2",
            "INITIAL_WINDOW_SIZE over the most",
            settings(&[(4, 1 << 31)]),
            fatal(FLOW_CONTROL),
        )
        .but(Seen::GoAway(PROTOCOL)),
        case("6.5.2", "MAX_FRAME_SIZE under the least", settings(&[(5, 16_383)]), fatal(PROTOCOL)),
        case("6.5.2", "MAX_FRAME_SIZE over the most", settings(&[(5, 1 << 24)]), fatal(PROTOCOL)),
        case(
            "6.5.2",
            "a setting that nobody knows",
            [settings(&[(255, 1)]), ping()].concat(),
            [Seen::Pong],
        ),
    ]
}

fn others() -> Vec<Case> {
    let goaway =
        |stream: u32, code: u32| frame(GOAWAY, 0, stream, &[[0; 4], code.to_be_bytes()].concat());
    let over = [Seen::Pong, Seen::GoAway(0), Seen::Closed];
    vec![
        case("6.7", "PING", ping(), [Seen::Pong]),
        case(
            "6.7",
            "PING that acknowledges nothing",
            [frame(PING, ACK, 0, b"unasked!"), ping()].concat(),
            [Seen::Pong],
        ),
        case("6.7", "PING on a stream", frame(PING, 0, 1, &[0; 8]), fatal(PROTOCOL)),
        case(
            "5.4.1",
            "a broken PING ends the connection",
            frame(PING, 0, 3, &[0; 8]),
            fatal(PROTOCOL),
        ),
        case("6.7", "PING of six bytes", frame(PING, 0, 0, &[0; 6]), fatal(FRAME_SIZE)),
        case("6.8", "GOAWAY", [goaway(0, 0), ping()].concat(), over.clone()),
        case("6.8", "GOAWAY on a stream", goaway(1, 0), fatal(PROTOCOL)),
        case(
            "7",
            "GOAWAY with an unknown code",
            [goaway(0, 255), ping()].concat(),
            [over.as_slice(), &[Seen::GoAway(255)]].concat(),
        ),
        case(
            "6.9",
            "WINDOW_UPDATE of the connection",
            [window(0, 1), ping()].concat(),
            [Seen::Pong],
        ),
        case(
            "6.9",
            "WINDOW_UPDATE of a stream",
            [post(1), window(1, 1), data(1, 1, b"{}")].concat(),
            [Seen::Answer],
        ),
        case("6.9", "WINDOW_UPDATE of the connection by 0", window(0, 0), fatal(PROTOCOL)),
        case(
            "6.9",
            "WINDOW_UPDATE of a stream by 0",
            [post(1), window(1, 0)].concat(),
            reset(PROTOCOL),
        ),
        case(
            "6.9",
            "WINDOW_UPDATE of three bytes",
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1]),
            fatal(FRAME_SIZE),
        ),
    ]
}
