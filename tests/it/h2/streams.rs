//! RFC 9113 §5 and §6.9: the states of streams, their numbers and their windows.

use super::case::{
    Case, FLOW_CONTROL, PROTOCOL, REFUSED, STREAM_CLOSED, Seen, case, data, fatal, fields, get,
    head, more, ping, post, priority, reset, rst, settings, window,
};
use crate::support::frames::{END_HEADERS, END_STREAM, block};

pub(super) fn cases() -> Vec<Case> {
    [idle(), half_closed(), closed(), numbers(), windows()].into_iter().flatten().collect()
}

fn idle() -> Vec<Case> {
    let code = [fatal(PROTOCOL), reset(STREAM_CLOSED)].concat();
    vec![
        case("5.1", "idle: PRIORITY", [priority(1, 0, 9), ping()].concat(), [Seen::Pong]),
        case("5.1", "idle: DATA", data(1, END_STREAM, b"a"), code),
        case("5.1", "idle: RST_STREAM", rst(1, 8), fatal(PROTOCOL)),
        case("5.1", "idle: WINDOW_UPDATE", window(1, 100), fatal(PROTOCOL)),
        case(
            "5.1",
            "idle: CONTINUATION",
            more(1, END_HEADERS, &block(&fields("GET"))),
            fatal(PROTOCOL),
        ),
    ]
}

fn half_closed() -> Vec<Case> {
    let closed = reset(STREAM_CLOSED);
    vec![
        case("5.1", "half closed: WINDOW_UPDATE", [get(1), window(1, 1)].concat(), [Seen::Answer]),
        case("5.1", "half closed: PRIORITY", [get(1), priority(1, 0, 9)].concat(), [Seen::Answer]),
        case("5.1", "half closed: RST_STREAM", [get(1), rst(1, 8), ping()].concat(), [Seen::Pong]),
        case(
            "5.1",
            "half closed: DATA",
            [get(1), data(1, END_STREAM, b"a")].concat(),
            closed.clone(),
        )
        .but(Seen::GoAway(PROTOCOL)),
        case("5.1", "half closed: HEADERS", [get(1), get(1)].concat(), closed.clone())
            .but(Seen::GoAway(PROTOCOL)),
        case(
            "5.1",
            "half closed: CONTINUATION",
            [get(1), more(1, END_HEADERS, &block(&fields("GET")))].concat(),
            [closed, fatal(PROTOCOL)].concat(),
        ),
        case(
            "5.1",
            "half closed by a body: DATA",
            [post(1), data(1, END_STREAM, b"{}"), data(1, END_STREAM, b"a")].concat(),
            reset(STREAM_CLOSED),
        )
        .but(Seen::GoAway(PROTOCOL)),
        case("5.1", "half closed: an answer still comes", get(1), [Seen::Answer]),
    ]
}

fn closed() -> Vec<Case> {
    let closed = reset(STREAM_CLOSED);
    let begun = block(&fields("GET"));
    vec![
        case(
            "5.1",
            "reset: DATA",
            [post(1), rst(1, 8), data(1, END_STREAM, b"a")].concat(),
            closed.clone(),
        ),
        case(
            "5.1",
            "reset: HEADERS",
            [post(1), rst(1, 8), get(1)].concat(),
            [closed.clone(), fatal(PROTOCOL)].concat(),
        ),
        case(
            "5.1",
            "reset: CONTINUATION",
            [post(1), rst(1, 8), more(1, END_HEADERS, &begun)].concat(),
            [closed.clone(), fatal(PROTOCOL)].concat(),
        ),
        case(
            "5.1",
            "reset: WINDOW_UPDATE",
            [get(1), rst(1, 8), window(1, 1), ping()].concat(),
            [Seen::Pong],
        ),
        case(
            "5.1",
            "reset: RST_STREAM",
            [get(1), rst(1, 8), rst(1, 8), ping()].concat(),
            [Seen::Pong],
        ),
        case(
            "5.1",
            "reset: PRIORITY",
            [get(1), rst(1, 8), priority(1, 0, 9), ping()].concat(),
            [Seen::Pong],
        ),
        case("5.1", "closed: PRIORITY", [priority(1, 0, 9), ping()].concat(), [Seen::Pong])
            .after(get(1)),
        case("5.1", "closed: WINDOW_UPDATE", [window(1, 1), ping()].concat(), [Seen::Pong])
            .after(get(1)),
        case("5.1", "closed: RST_STREAM", [rst(1, 8), ping()].concat(), [Seen::Pong]).after(get(1)),
        case("5.1", "closed: DATA", data(1, END_STREAM, b"a"), closed).after(get(1)),
        case("5.1", "closed: HEADERS", get(1), fatal(STREAM_CLOSED))
            .after(get(1))
            .but(Seen::GoAway(PROTOCOL)),
        case(
            "5.1",
            "closed: CONTINUATION",
            more(1, END_HEADERS, &begun),
            [fatal(STREAM_CLOSED), fatal(PROTOCOL)].concat(),
        )
        .after(get(1)),
        case("5.1", "closed: another stream", [get(3), ping()].concat(), [Seen::Pong])
            .after(get(1)),
    ]
}

fn numbers() -> Vec<Case> {
    // Each is open, since its body has not ended; the service reads none of them.
    let many: Vec<u8> = (0..150).flat_map(|number| post(2 * number + 1)).collect();
    vec![
        case("5.1.1", "an even number", get(2), fatal(PROTOCOL)),
        case(
            "5.1.1",
            "a number below the last",
            [get(5), get(3)].concat(),
            [fatal(PROTOCOL), fatal(STREAM_CLOSED)].concat(),
        ),
        case("5.1.1", "numbers with gaps", [get(9), get(1_001), ping()].concat(), [Seen::Pong]),
        case("5.1.1", "the largest number", [get((1 << 31) - 1), ping()].concat(), [Seen::Pong]),
        case(
            "5.1.2",
            "more streams than were offered",
            many,
            [reset(REFUSED), reset(PROTOCOL)].concat(),
        ),
        case("8.1", "a request without a body", get(1), [Seen::Answer]),
        case("8.1", "HEAD", head(1, END_STREAM, &block(&fields("HEAD"))), [Seen::Answer]),
        case("8.1", "POST", [post(1), data(1, END_STREAM, b"{}")].concat(), [Seen::Answer]),
        case(
            "8.1",
            "POST with trailers",
            [post(1), data(1, 0, b"{}"), head(1, END_STREAM, &block(&[("x-sum", "1")]))].concat(),
            [Seen::Answer],
        ),
    ]
}

fn windows() -> Vec<Case> {
    const MOST: u32 = (1 << 31) - 1;
    let size = |size: u32| settings(&[(4, size)]);
    vec![
        case("6.9.1", "a window of one byte", [size(1), get(1)].concat(), [Seen::Pieces(vec![1])]),
        case(
            "6.9.1",
            "a window of none, and then of two",
            [size(0), get(1), window(1, 2)].concat(),
            [Seen::Pieces(vec![2])],
        ),
        case(
            "6.9.1",
            "no window, and no answer but its head",
            [size(0), get(1), ping()].concat(),
            [Seen::Answer],
        ),
        case(
            "6.9.1",
            "a connection's window over the most",
            window(0, MOST).repeat(2),
            fatal(FLOW_CONTROL),
        ),
        case(
            "6.9.1",
            "a stream's window over the most",
            [post(1), window(1, MOST), window(1, MOST)].concat(),
            reset(FLOW_CONTROL),
        ),
        case(
            "6.9.2",
            "windows that grow with SETTINGS",
            [size(0), get(1), size(1)].concat(),
            [Seen::Pieces(vec![1])],
        ),
        case(
            "6.9.2",
            "a window below zero",
            // 3 - 3 + 2, and then 2 more: what is sent after the first is one byte.
            [size(3), get(1), size(2), window(1, 1)].concat(),
            [Seen::Pieces(vec![3]), Seen::Pieces(vec![2, 1]), Seen::Pieces(vec![3])],
        ),
        case(
            "6.5.3",
            "the last of several values counts",
            [settings(&[(4, 100), (4, 1)]), get(1)].concat(),
            [Seen::Pieces(vec![1])],
        ),
        case(
            "6.9.2",
            "SETTINGS that make a window too large",
            [post(1), window(1, MOST - 65_535), size(65_536)].concat(),
            fatal(FLOW_CONTROL),
        ),
    ]
}
