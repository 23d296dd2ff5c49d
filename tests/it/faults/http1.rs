//! What an upstream does wrong in TCP and in HTTP/1.1.

use std::sync::LazyLock;

use super::matrix::{Bound, Nowhere, Outcome, Row, broken, failure};
use crate::support::answer;
use crate::support::faulty::{Fault, Then, WELL};

use Then::{Close, Hold, Keep, Reset};

const NO_HTTP: Outcome =
    broken("the whiteboard service's answer is no HTTP", "http_protocol_error");
const NO_JSON: Outcome =
    broken("the whiteboard service's answer is no JSON", "http_protocol_error");
const CLOSED: Outcome = broken(
    "the whiteboard service closed the connection without an answer",
    "connection_terminated",
);
const BROKE_OFF: Outcome =
    broken("the whiteboard service's answer broke off", "http_response_incomplete");
const HEAD_TOO_LARGE: Outcome = broken(
    "the head of the whiteboard service's answer is too large",
    "http_response_header_section_size",
);
const NO_ANSWER: Outcome = failure(
    500,
    "upstream_timeout",
    "the whiteboard service did not answer in time",
    "http_response_timeout",
);
const TOO_SLOW: Outcome = failure(
    500,
    "upstream_timeout",
    "the whiteboard service's answer came too slowly",
    "http_response_timeout",
);
const REDIRECT: Outcome = failure(
    500,
    "upstream_redirect",
    "the whiteboard service sent the gateway elsewhere; it does not go",
    "http_protocol_error",
);
const NO_ROUTE: Outcome =
    broken("the whiteboard service could not be reached", "destination_unavailable");
const REFUSED: Outcome =
    broken("the whiteboard service refused the connection", "connection_refused");
const NO_NAME: Outcome = broken("the whiteboard service's name could not be resolved", "dns_error");
const NO_CONNECTION: Outcome = failure(
    500,
    "upstream_timeout",
    "the whiteboard service could not be connected to in time",
    "connection_timeout",
);

/// More than is read before the caller gets a byte, and not all that is promised.
const LONG: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n";

/// A body that does not arrive in one piece.
static LARGE: LazyLock<String> = LazyLock::new(|| format!("{{{}}}", " ".repeat(200_000)));

pub(super) fn rows() -> Vec<Row> {
    [connections(), heads(), statuses(), bodies(), connections_that_are_kept()]
        .into_iter()
        .flatten()
        .collect()
}

/// Before there is anything of HTTP.
fn connections() -> Vec<Row> {
    // A label of a name has at most 63 letters (RFC 1035 §2.3.4): nobody has to be asked.
    let no_name = || Nowhere::at(format!("{}.invalid", "a".repeat(64)));
    // Nobody is connected to at a broadcast address, on whatever machine.
    let no_route = || Nowhere::at("255.255.255.255:80".to_owned());
    vec![
        Row::nowhere("refuses connections", Nowhere::refusing, REFUSED),
        Row::nowhere("is at an address to which no route leads", no_route, NO_ROUTE),
        Row::nowhere("has a name that does not resolve", no_name, NO_NAME),
        Row::nowhere("is at an address that says nothing", Nowhere::silent, NO_CONNECTION)
            .within(Bound::Connect),
        Row::connected("closes each connection as soon as it stands", |_| Close, CLOSED),
        Row::connected("resets each connection as soon as it stands", |_| Reset, CLOSED),
        Row::connected("accepts, and reads and says nothing", |_| Hold, NO_ANSWER)
            .within(Bound::FirstByte),
    ]
}

/// From the request to the end of the head.
fn heads() -> Vec<Row> {
    let head = |fields: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{WELL}");
    let many = || (0..200).map(|at| format!("x-{at}: y\r\n")).collect::<String>();
    vec![
        Row::says("reads the request and says nothing", "", Hold, NO_ANSWER)
            .within(Bound::FirstByte),
        Row::says("reads the request and closes", "", Close, CLOSED),
        Row::says("reads the request and resets", "", Reset, CLOSED),
        Row::says("closes in the status line", "HTTP/1.1 20", Close, CLOSED),
        Row::says("closes in the head", "HTTP/1.1 200 OK\r\ncontent-le", Close, CLOSED),
        Row::says("resets in the head", "HTTP/1.1 200 OK\r\ncontent-le", Reset, CLOSED),
        Row::says("stalls in the head", "HTTP/1.1 200 OK\r\ncontent-le", Hold, NO_ANSWER)
            .within(Bound::FirstByte),
        Row::asked(
            "drips a head forever",
            Fault::Request(|peer| {
                peer.send(b"HTTP/1.1 200 OK\r\nx: ");
                peer.drips(b"a")
            }),
            NO_ANSWER,
        )
        .within(Bound::FirstByte),
        Row::says("speaks another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n", Close, NO_HTTP),
        Row::says("answers as HTTP/0.9 did", "<html>no</html>\r\n", Close, NO_HTTP),
        Row::says("sends a field without a colon", head("bad field"), Close, NO_HTTP),
        Row::says("folds a field over two lines", head("x: a\r\n b"), Close, NO_HTTP),
        Row::says("sends a NUL in a field", head("x: a\0b"), Close, NO_HTTP),
        Row::says(
            "gives a length and chunks",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\n{}\r\n0\r\n\r\n",
            Keep,
            NO_HTTP,
        ),
        Row::says(
            "gives two lengths",
            head("content-length: 15\r\ncontent-length: 14"),
            Keep,
            NO_HTTP,
        ),
        Row::says("gives a negative length", head("content-length: -1"), Keep, NO_HTTP),
        Row::says(
            "gives a length that no number holds",
            head("content-length: 99999999999999999999"),
            Keep,
            NO_HTTP,
        ),
        Row::says(
            "sends a transfer coding that is unknown",
            head("transfer-encoding: x-odd"),
            Close,
            NO_HTTP,
        ),
        Row::says("sends 200 fields", head(many().trim_end()), Keep, HEAD_TOO_LARGE),
        Row::says(
            "sends a field over 64 KiB",
            head(&format!("x: {}", "a".repeat(200_000))),
            Keep,
            HEAD_TOO_LARGE,
        ),
        Row::asked(
            "sends fields forever",
            Fault::Request(|peer| {
                peer.send(b"HTTP/1.1 200 OK\r\n");
                let field = format!("x: {}\r\n", "a".repeat(1000));
                while peer.send(field.as_bytes()) {}
                Close
            }),
            HEAD_TOO_LARGE,
        ),
        Row::asked(
            "sends an interim answer now and then, and never its own",
            Fault::Request(|peer| peer.drips(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")),
            NO_ANSWER,
        )
        .within(Bound::FirstByte),
        Row::says(
            "switches to another protocol",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            Keep,
            NO_HTTP,
        ),
        Row::says(
            "sends 20 interim answers before its own",
            "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(20) + &answer("200 OK", WELL),
            Keep,
            Outcome::Success,
        ),
    ]
}

/// Answers that are whole, and none of success.
fn statuses() -> Vec<Row> {
    let told = |status: &str, body: &str| answer(status, body);
    let page = |status: &str| {
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n\
             <html>no</html>"
        )
    };
    vec![
        Row::says(
            "sends the gateway elsewhere",
            "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
            Keep,
            REDIRECT,
        ),
        Row::says(
            "says that nothing has changed",
            "HTTP/1.1 304 Not Modified\r\n\r\n",
            Keep,
            failure(
                500,
                "upstream_error",
                "the whiteboard service answered 304 (not modified), which was not asked for",
                "http_protocol_error",
            ),
        ),
        Row::says(
            "answers 502 with a page",
            page("502 Bad Gateway"),
            Keep,
            broken(
                "the whiteboard service answered with status 502 and no message",
                "received-status=502",
            ),
        ),
        Row::says(
            "answers 500 with nothing",
            told("500 Oops", ""),
            Keep,
            broken(
                "the whiteboard service answered with status 500 and no message",
                "received-status=500",
            ),
        ),
        Row::says(
            "answers 500 with JSON that has no message",
            told("500 Oops", "{\"trace\":7}"),
            Keep,
            broken(
                "the whiteboard service answered with status 500 and no message",
                "received-status=500",
            ),
        ),
        Row::says(
            "answers 503 in its own words",
            told("503 Busy", "{\"message\":\"busy\"}"),
            Keep,
            broken("busy", "received-status=503"),
        ),
        Row::says(
            "answers with an unknown status",
            told("599 Odd", ""),
            Keep,
            broken(
                "the whiteboard service answered with status 599 and no message",
                "received-status=599",
            ),
        ),
        Row::says(
            "answers 418",
            told("418 Teapot", ""),
            Keep,
            failure(
                400,
                "upstream_refused",
                "the whiteboard service answered with status 418 and no message",
                "received-status=418",
            ),
        ),
        Row::says(
            "answers 410",
            told("410 Gone", ""),
            Keep,
            failure(
                404,
                "not_found",
                "the whiteboard service answered with status 410 and no message",
                "received-status=410",
            ),
        ),
        Row::says(
            "answers 429",
            "HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n",
            Keep,
            failure(
                403,
                "rate_limited",
                "the whiteboard service answered with status 429 and no message",
                "received-status=429",
            ),
        ),
        Row::says("answers 200 with a page", page("200 OK"), Keep, NO_JSON),
        Row::says("answers 204", "HTTP/1.1 204 No Content\r\n\r\n", Keep, Outcome::Success),
        Row::says(
            "answers 200 with nothing",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Keep,
            Outcome::Success,
        ),
        Row::says(
            "encodes its answer though it was asked not to",
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
            Keep,
            broken(
                "the whiteboard service's answer is encoded though it was asked not to be",
                "http_protocol_error",
            ),
        ),
        Row::connected(
            "answers before it has read the body",
            |peer| {
                peer.reads_head();
                let told = answer("413 Large", "{\"message\":\"too long\"}");
                peer.says(told.replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes(), Hold)
            },
            failure(400, "upstream_refused", "too long", "received-status=413"),
        )
        .only(&["POST"])
        .with_body(&LARGE),
    ]
}

/// From the end of the head on.
fn bodies() -> Vec<Row> {
    let chunked =
        |rest: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{rest}");
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"uuid\":";
    let long = |rest: usize| format!("{LONG}\"{}", "x".repeat(rest));
    vec![
        Row::says("closes in the body", half, Close, BROKE_OFF),
        Row::says("resets in the body", half, Reset, BROKE_OFF),
        Row::says(
            "closes after the head of a body with a length",
            "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n",
            Close,
            BROKE_OFF,
        ),
        Row::says(
            "closes in the body of a failure",
            "HTTP/1.1 500 Oops\r\ncontent-length: 15\r\n\r\n{\"mess",
            Close,
            BROKE_OFF,
        ),
        Row::says(
            "sends a chunk without a size",
            chunked("zz\r\n{}\r\n0\r\n\r\n"),
            Keep,
            BROKE_OFF,
        ),
        Row::says(
            "sends a chunk with a size that no number holds",
            chunked("fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
            Keep,
            BROKE_OFF,
        ),
        Row::says(
            "sends a chunk that is longer than its size",
            chunked("2\r\n{}{}\r\n0\r\n\r\n"),
            Keep,
            BROKE_OFF,
        ),
        Row::says("sends chunks without an end", chunked("2\r\n{}\r\n"), Close, BROKE_OFF),
        Row::says("stalls in the body", half, Hold, TOO_SLOW).within(Bound::BetweenBytes),
        Row::asked(
            "drips a body forever",
            Fault::Request(|peer| {
                peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 15000\r\n\r\n");
                peer.drips(b" ")
            }),
            TOO_SLOW,
        )
        .within(Bound::Total),
        Row::says(
            "closes in a body over 64 KiB",
            long(300_000),
            Close,
            Outcome::Aborted("upstream_error"),
        ),
        Row::says(
            "stalls in a body over 64 KiB",
            long(300_000),
            Hold,
            Outcome::Aborted("upstream_timeout"),
        )
        .within(Bound::BetweenBytes),
        Row::says(
            "ends its answer by closing",
            format!("HTTP/1.1 200 OK\r\n\r\n{WELL}"),
            Close,
            Outcome::Success,
        ),
        Row::says(
            "answers as HTTP/1.0 does",
            format!("HTTP/1.0 200 OK\r\n\r\n{WELL}"),
            Close,
            Outcome::Success,
        ),
    ]
}

/// Connections on which an answer came whole.
fn connections_that_are_kept() -> Vec<Row> {
    let good = || answer("200 OK", WELL);
    // The first request on a connection is answered; the next finds it closed.
    let closes = Fault::Request(|peer| match peer.before {
        0 => peer.says(answer("200 OK", WELL).as_bytes(), Keep),
        _ => Close,
    });
    vec![
        Row::says(
            "says more than its answer",
            good() + "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"uuid\":\"other\"}",
            Keep,
            Outcome::Success,
        ),
        // Whether a create that follows meets it is chance: see the last row.
        Row::says("closes after its answer without a word", good(), Close, Outcome::Success)
            .only(&["GET"]),
        Row::says("resets after its answer", good(), Reset, Outcome::Success).only(&["GET"]),
        Row::asked(
            "closes a connection that was kept, at the moment of use (a read)",
            closes.clone(),
            Outcome::Success,
        )
        .kept()
        .only(&["GET"]),
        Row::asked(
            "closes a connection that was kept, at the moment of use (a create)",
            closes,
            CLOSED,
        )
        .kept()
        .only(&["POST"]),
    ]
}
