//! What an upstream does wrong in TCP and in HTTP/1.1.

use std::sync::LazyLock;
use std::time::Duration;

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

/// A label of a name has at most 63 letters (RFC 1035 §2.3.4): nobody has to be asked.
fn no_name() -> Nowhere {
    Nowhere::at(format!("{}.invalid", "a".repeat(64)))
}

/// Nobody is connected to at a broadcast address, on whatever machine.
fn no_route() -> Nowhere {
    Nowhere::at("255.255.255.255:80".to_owned())
}

rows! {
    /// Before there is anything of HTTP.
    fn connections;
    refuses_connections =>
        Row::nowhere("refuses connections", Nowhere::refusing, REFUSED),
    is_at_an_address_to_which_no_route_leads =>
        Row::nowhere("is at an address to which no route leads", no_route, NO_ROUTE),
    has_a_name_that_does_not_resolve =>
        Row::nowhere("has a name that does not resolve", no_name, NO_NAME),
    is_at_an_address_that_says_nothing =>
        Row::nowhere("is at an address that says nothing", Nowhere::silent, NO_CONNECTION)
            .within(Bound::Connect),
    closes_each_connection_as_soon_as_it_stands =>
        Row::connected("closes each connection as soon as it stands", |_| Close, CLOSED),
    resets_each_connection_as_soon_as_it_stands =>
        Row::connected("resets each connection as soon as it stands", |_| Reset, CLOSED),
    accepts_and_reads_and_says_nothing =>
        Row::connected("accepts, and reads and says nothing", |_| Hold, NO_ANSWER)
            .within(Bound::FirstByte),
}

fn head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{WELL}")
}

fn many() -> String {
    (0..200).map(|at| format!("x-{at}: y\r\n")).collect()
}

rows! {
    /// From the request to the end of the head.
    fn heads;
    reads_the_request_and_says_nothing =>
        Row::says("reads the request and says nothing", "", Hold, NO_ANSWER)
            .within(Bound::FirstByte),
    reads_the_request_and_closes =>
        Row::says("reads the request and closes", "", Close, CLOSED),
    reads_the_request_and_resets =>
        Row::says("reads the request and resets", "", Reset, CLOSED),
    closes_in_the_status_line =>
        Row::says("closes in the status line", "HTTP/1.1 20", Close, CLOSED),
    closes_in_the_head =>
        Row::says("closes in the head", "HTTP/1.1 200 OK\r\ncontent-le", Close, CLOSED),
    resets_in_the_head =>
        Row::says("resets in the head", "HTTP/1.1 200 OK\r\ncontent-le", Reset, CLOSED),
    stalls_in_the_head =>
        Row::says("stalls in the head", "HTTP/1.1 200 OK\r\ncontent-le", Hold, NO_ANSWER)
            .within(Bound::FirstByte),
    drips_a_head_forever =>
        Row::asked(
            "drips a head forever",
            Fault::Request(|peer| {
                peer.send(b"HTTP/1.1 200 OK\r\nx: ");
                peer.drips(b"a")
            }),
            NO_ANSWER,
        )
        .within(Bound::FirstByte),
    speaks_another_protocol =>
        Row::says("speaks another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n", Close, NO_HTTP),
    answers_as_http_0_9_did =>
        Row::says("answers as HTTP/0.9 did", "<html>no</html>\r\n", Close, NO_HTTP),
    sends_a_field_without_a_colon =>
        Row::says("sends a field without a colon", head("bad field"), Close, NO_HTTP),
    folds_a_field_over_two_lines =>
        Row::says("folds a field over two lines", head("x: a\r\n b"), Close, NO_HTTP),
    sends_a_nul_in_a_field =>
        Row::says("sends a NUL in a field", head("x: a\0b"), Close, NO_HTTP),
    gives_a_length_and_chunks =>
        Row::says(
            "gives a length and chunks",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\n{}\r\n0\r\n\r\n",
            Keep,
            NO_HTTP,
        ),
    gives_two_lengths =>
        Row::says(
            "gives two lengths",
            head("content-length: 15\r\ncontent-length: 14"),
            Keep,
            NO_HTTP,
        ),
    gives_a_negative_length =>
        Row::says("gives a negative length", head("content-length: -1"), Keep, NO_HTTP),
    gives_a_length_that_no_number_holds =>
        Row::says(
            "gives a length that no number holds",
            head("content-length: 99999999999999999999"),
            Keep,
            NO_HTTP,
        ),
    sends_a_transfer_coding_that_is_unknown =>
        Row::says(
            "sends a transfer coding that is unknown",
            head("transfer-encoding: x-odd"),
            Close,
            NO_HTTP,
        ),
    sends_200_fields =>
        Row::says("sends 200 fields", head(many().trim_end()), Keep, HEAD_TOO_LARGE),
    sends_a_field_over_64_kib =>
        Row::says(
            "sends a field over 64 KiB",
            head(&format!("x: {}", "a".repeat(200_000))),
            Keep,
            HEAD_TOO_LARGE,
        ),
    sends_fields_forever =>
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
    sends_an_interim_answer_now_and_then_and_never_its_own =>
        Row::asked(
            "sends an interim answer now and then, and never its own",
            Fault::Request(|peer| peer.drips(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")),
            NO_ANSWER,
        )
        .within(Bound::FirstByte),
    switches_to_another_protocol =>
        Row::says(
            "switches to another protocol",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            Keep,
            NO_HTTP,
        ),
    sends_20_interim_answers_before_its_own =>
        Row::says(
            "sends 20 interim answers before its own",
            "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(20) + &answer("200 OK", WELL),
            Keep,
            Outcome::Success,
        ),
}

fn page(status: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n\
         <html>no</html>"
    )
}

rows! {
    /// Answers that are whole, and none of success.
    fn statuses;
    sends_the_gateway_elsewhere =>
        Row::says(
            "sends the gateway elsewhere",
            "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
            Keep,
            REDIRECT,
        ),
    says_that_nothing_has_changed =>
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
    answers_502_with_a_page =>
        Row::says(
            "answers 502 with a page",
            page("502 Bad Gateway"),
            Keep,
            broken(
                "the whiteboard service answered with status 502 and no message",
                "received-status=502",
            ),
        ),
    answers_500_with_nothing =>
        Row::says(
            "answers 500 with nothing",
            answer("500 Oops", ""),
            Keep,
            broken(
                "the whiteboard service answered with status 500 and no message",
                "received-status=500",
            ),
        ),
    answers_500_with_json_that_has_no_message =>
        Row::says(
            "answers 500 with JSON that has no message",
            answer("500 Oops", "{\"trace\":7}"),
            Keep,
            broken(
                "the whiteboard service answered with status 500 and no message",
                "received-status=500",
            ),
        ),
    answers_503_in_its_own_words =>
        Row::says(
            "answers 503 in its own words",
            answer("503 Busy", "{\"message\":\"busy\"}"),
            Keep,
            broken("busy", "received-status=503"),
        ),
    answers_with_an_unknown_status =>
        Row::says(
            "answers with an unknown status",
            answer("599 Odd", ""),
            Keep,
            broken(
                "the whiteboard service answered with status 599 and no message",
                "received-status=599",
            ),
        ),
    answers_418 =>
        Row::says(
            "answers 418",
            answer("418 Teapot", ""),
            Keep,
            failure(
                400,
                "upstream_refused",
                "the whiteboard service answered with status 418 and no message",
                "received-status=418",
            ),
        ),
    answers_410 =>
        Row::says(
            "answers 410",
            answer("410 Gone", ""),
            Keep,
            failure(
                404,
                "not_found",
                "the whiteboard service answered with status 410 and no message",
                "received-status=410",
            ),
        ),
    answers_429 =>
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
    answers_200_with_a_page =>
        Row::says("answers 200 with a page", page("200 OK"), Keep, NO_JSON),
    answers_204 =>
        Row::says("answers 204", "HTTP/1.1 204 No Content\r\n\r\n", Keep, Outcome::Success),
    answers_200_with_nothing =>
        Row::says(
            "answers 200 with nothing",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Keep,
            Outcome::Success,
        ),
    encodes_its_answer_though_it_was_asked_not_to =>
        Row::says(
            "encodes its answer though it was asked not to",
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
            Keep,
            broken(
                "the whiteboard service's answer is encoded though it was asked not to be",
                "http_protocol_error",
            ),
        ),
    answers_before_it_has_read_the_body =>
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
}

fn chunked(rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{rest}")
}

const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"uuid\":";

fn long(rest: usize) -> String {
    format!("{LONG}\"{}", "x".repeat(rest))
}

rows! {
    /// From the end of the head on.
    fn bodies;
    closes_in_the_body =>
        Row::says("closes in the body", HALF, Close, BROKE_OFF),
    resets_in_the_body =>
        Row::says("resets in the body", HALF, Reset, BROKE_OFF),
    closes_after_the_head_of_a_body_with_a_length =>
        Row::says(
            "closes after the head of a body with a length",
            "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n",
            Close,
            BROKE_OFF,
        ),
    closes_in_the_body_of_a_failure =>
        Row::says(
            "closes in the body of a failure",
            "HTTP/1.1 500 Oops\r\ncontent-length: 15\r\n\r\n{\"mess",
            Close,
            BROKE_OFF,
        ),
    sends_a_chunk_without_a_size =>
        Row::says(
            "sends a chunk without a size",
            chunked("zz\r\n{}\r\n0\r\n\r\n"),
            Keep,
            BROKE_OFF,
        ),
    sends_a_chunk_with_a_size_that_no_number_holds =>
        Row::says(
            "sends a chunk with a size that no number holds",
            chunked("fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
            Keep,
            BROKE_OFF,
        ),
    sends_a_chunk_that_is_longer_than_its_size =>
        Row::says(
            "sends a chunk that is longer than its size",
            chunked("2\r\n{}{}\r\n0\r\n\r\n"),
            Keep,
            BROKE_OFF,
        ),
    sends_chunks_without_an_end =>
        Row::says("sends chunks without an end", chunked("2\r\n{}\r\n"), Close, BROKE_OFF),
    stalls_in_the_body =>
        Row::says("stalls in the body", HALF, Hold, TOO_SLOW).within(Bound::BetweenBytes),
    drips_a_body_forever =>
        Row::asked(
            "drips a body forever",
            Fault::Request(|peer| {
                peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 15000\r\n\r\n");
                peer.drips(b" ")
            }),
            TOO_SLOW,
        )
        .within(Bound::Total),
    // Whoever looks once more when the time is over finds more each time.
    drips_a_body_without_a_pause =>
        Row::asked(
            "drips a body without a pause",
            Fault::Request(|peer| {
                peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n");
                peer.drips_every(Duration::from_micros(200), b" ")
            }),
            TOO_SLOW,
        )
        .within(Bound::Total),
    closes_in_a_body_over_64_kib =>
        Row::says(
            "closes in a body over 64 KiB",
            long(300_000),
            Close,
            Outcome::Aborted("upstream_error"),
        ),
    stalls_in_a_body_over_64_kib =>
        Row::says(
            "stalls in a body over 64 KiB",
            long(300_000),
            Hold,
            Outcome::Aborted("upstream_timeout"),
        )
        .within(Bound::BetweenBytes),
    ends_its_answer_by_closing =>
        Row::says(
            "ends its answer by closing",
            format!("HTTP/1.1 200 OK\r\n\r\n{WELL}"),
            Close,
            Outcome::Success,
        ),
    answers_as_http_1_0_does =>
        Row::says(
            "answers as HTTP/1.0 does",
            format!("HTTP/1.0 200 OK\r\n\r\n{WELL}"),
            Close,
            Outcome::Success,
        ),
}

fn good() -> String {
    answer("200 OK", WELL)
}

/// The first request on a connection is answered; the next finds it closed.
const CLOSES: Fault = Fault::Request(|peer| match peer.before {
    0 => peer.says(answer("200 OK", WELL).as_bytes(), Keep),
    _ => Close,
});

rows! {
    /// Connections on which an answer came whole.
    fn connections_that_are_kept;
    says_more_than_its_answer =>
        Row::says(
            "says more than its answer",
            good() + "HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{\"uuid\":\"other\"}",
            Keep,
            Outcome::Success,
        ),
    // Whether a create that follows meets it is chance: see the last row.
    closes_after_its_answer_without_a_word =>
        Row::says("closes after its answer without a word", good(), Close, Outcome::Success)
            .only(&["GET"]),
    resets_after_its_answer =>
        Row::says("resets after its answer", good(), Reset, Outcome::Success).only(&["GET"]),
    closes_a_connection_that_was_kept_at_the_moment_of_use_a_read =>
        Row::asked(
            "closes a connection that was kept, at the moment of use (a read)",
            CLOSES,
            Outcome::Success,
        )
        .kept()
        .only(&["GET"]),
    closes_a_connection_that_was_kept_at_the_moment_of_use_a_create =>
        Row::asked(
            "closes a connection that was kept, at the moment of use (a create)",
            CLOSES,
            CLOSED,
        )
        .kept()
        .only(&["POST"]),
}
