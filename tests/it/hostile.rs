//! Malformed and hostile requests on raw sockets: each gets the envelope, the upstream sees none
//! of them, and the next request on a fresh connection works.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::{Answer, Client, Process, Setup, Upstream, exchange, read_answer};

/// What is sent, and the status and code that come back.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    status: u16,
    code: &'static str,
}

fn case(name: &'static str, text: impl AsRef<[u8]>, status: u16, code: &'static str) -> Case {
    Case { name, bytes: text.as_ref().to_vec(), status, code }
}

/// A request of a caller with a good key, with these lines in its head and this body.
fn good(line: &str, key: &str, fields: &str, body: &str) -> String {
    format!("{line}\r\nHost: gateway\r\ntoken: {key}\r\n{fields}\r\n{body}")
}

const MALFORMED: &str = "malformed_request";

fn request_lines(key: &str) -> Vec<Case> {
    let rest = format!("\r\nHost: g\r\ntoken: {key}\r\n\r\n");
    let line = |text: &str| format!("{text}{rest}");
    vec![
        case("no request line at all", "GARBAGE\r\n\r\n", 400, MALFORMED),
        case("a method alone", "GET\r\n\r\n", 400, MALFORMED),
        case("HTTP/0.9", "GET /v5/rooms\r\n\r\n", 400, MALFORMED),
        case("a version that is none", line("GET /v5/rooms HTTP/9.9"), 400, MALFORMED),
        case("a version in lower case", line("GET /v5/rooms http/1.1"), 400, MALFORMED),
        case("a space in the method", line("G ET /v5/rooms HTTP/1.1"), 400, MALFORMED),
        case("a NUL in the method", line("G\0ET /v5/rooms HTTP/1.1"), 400, MALFORMED),
        case("two spaces", line("GET  /v5/rooms HTTP/1.1"), 400, MALFORMED),
        case("a space in the target", line("GET /v5/ro oms HTTP/1.1"), 400, MALFORMED),
        case("a control character in the target", line("GET /v5/\x01 HTTP/1.1"), 400, MALFORMED),
        case("a target without a slash", line("GET v5/rooms HTTP/1.1"), 400, MALFORMED),
        case("OPTIONS *", line("OPTIONS * HTTP/1.1"), 400, MALFORMED),
        case("TRACE", line("TRACE /v5/rooms HTTP/1.1"), 400, MALFORMED),
        case("CONNECT", line("CONNECT g:443 HTTP/1.1"), 400, MALFORMED),
        case("an unknown method", line("BREW /v5/rooms HTTP/1.1"), 400, "method_not_allowed"),
        case("a method in lower case", line("get /v5/rooms HTTP/1.1"), 400, "method_not_allowed"),
        case("a method of another path", line("PUT /v5/rooms HTTP/1.1"), 400, "method_not_allowed"),
        case(
            "OPTIONS that is no preflight",
            line("OPTIONS /v5/rooms HTTP/1.1"),
            400,
            "method_not_allowed",
        ),
        case("a TLS handshake", b"\x16\x03\x01\x00\x05hello\r\n\r\n", 400, MALFORMED),
        case(
            "a target that is too long",
            line(&format!("GET /v5/rooms/{} HTTP/1.1", "a".repeat(9_000))),
            400,
            "too_large",
        ),
    ]
}

fn fields(key: &str) -> Vec<Case> {
    let with = |fields: &str| good("GET /v5/rooms HTTP/1.1", key, fields, "");
    let many: String = (0..120).map(|number| format!("x-{number}: 1\r\n")).collect();
    let big: String =
        (0..40).map(|number| format!("x-{number}: {}\r\n", "a".repeat(500))).collect();
    vec![
        case("a space before the colon", with("X : 1\r\n"), 400, MALFORMED),
        case("a folded field", with("X: 1\r\n 2\r\n"), 400, MALFORMED),
        case("a NUL in a value", with("X: a\0b\r\n"), 400, MALFORMED),
        case("a bare CR in a value", with("X: a\rb\r\n"), 400, MALFORMED),
        case("a field without a name", with(": 1\r\n"), 400, MALFORMED),
        case("a field without a colon", with("X 1\r\n"), 400, MALFORMED),
        case("a parenthesis in a name", with("X(1): 1\r\n"), 400, MALFORMED),
        case("a name that is not ASCII", with("Ü: 1\r\n"), 400, MALFORMED),
        case("more than 100 fields", with(&many), 400, "too_large"),
        case("a head over 16 KiB", with(&big), 400, "too_large"),
        case("Connection names the token", with("Connection: close, Token\r\n"), 400, MALFORMED),
        case("Connection names the host", with("Connection: host\r\n"), 400, MALFORMED),
        case("an expectation that is none", with("Expect: a-miracle\r\n"), 400, MALFORMED),
        case("two regions", with("region: sg\r\nregion: sg\r\n"), 400, MALFORMED),
        case("an unknown region", with("region: mars\r\n"), 400, MALFORMED),
        case("two tokens", with(&format!("token: {key}\r\n")), 400, MALFORMED),
        case("credentials that disagree", with("x-api-key: wbg_live_x\r\n"), 400, MALFORMED),
        case(
            "two Authorization lines",
            with(&format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {key}\r\n")),
            400,
            MALFORMED,
        ),
        case(
            "another scheme",
            "GET /v5/rooms HTTP/1.1\r\nHost: g\r\nAuthorization: Basic YTpi\r\n\r\n",
            401,
            "invalid_token",
        ),
        case(
            "a credential that is not ASCII",
            "GET /v5/rooms HTTP/1.1\r\nHost: g\r\ntoken: \u{fc}\r\n\r\n",
            401,
            "invalid_token",
        ),
        case("no credential", "GET /v5/rooms HTTP/1.1\r\nHost: g\r\n\r\n", 401, "unauthenticated"),
        case("it has been here before", with("Via: 1.1 wbg-test\r\n"), 500, "loop_detected"),
        case(
            "it has been here before, among others",
            with("Via: 1.0 a, 1.1 wbg-test, 2 b\r\n"),
            500,
            "loop_detected",
        ),
    ]
}

fn hosts(key: &str) -> Vec<Case> {
    let with = |line: &str, hosts: &str| format!("{line}\r\ntoken: {key}\r\n{hosts}\r\n");
    let plain = "GET /v5/rooms HTTP/1.1";
    vec![
        case("no Host", with(plain, ""), 400, MALFORMED),
        case("two Hosts", with(plain, "Host: a\r\nHost: a\r\n"), 400, MALFORMED),
        case("a space in the Host", with(plain, "Host: a b\r\n"), 400, MALFORMED),
        case("user information in the Host", with(plain, "Host: u@a\r\n"), 400, MALFORMED),
        case("a port that is none", with(plain, "Host: a:b\r\n"), 400, MALFORMED),
        case("an empty Host", with(plain, "Host:\r\n"), 400, MALFORMED),
        case(
            "a target of another host",
            with("GET http://b/v5/rooms HTTP/1.1", "Host: a\r\n"),
            400,
            MALFORMED,
        ),
        case(
            "user information in the target",
            with("GET http://u@a/v5/rooms HTTP/1.1", "Host: a\r\n"),
            400,
            MALFORMED,
        ),
    ]
}

fn framing(key: &str) -> Vec<Case> {
    let post = |fields: &str, body: &str| good("POST /v5/rooms HTTP/1.1", key, fields, body);
    vec![
        case(
            "two lengths",
            post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"),
            400,
            MALFORMED,
        ),
        case("a list of lengths", post("Content-Length: 2, 3\r\n", "{}"), 400, MALFORMED),
        case("a signed length", post("Content-Length: +2\r\n", "{}"), 400, MALFORMED),
        case("a negative length", post("Content-Length: -2\r\n", "{}"), 400, MALFORMED),
        case("a length that is no number", post("Content-Length: two\r\n", "{}"), 400, MALFORMED),
        case(
            "a length beyond all numbers",
            post("Content-Length: 99999999999999999999999\r\n", "{}"),
            400,
            MALFORMED,
        ),
        case("the identity coding", post("Transfer-Encoding: identity\r\n", "{}"), 400, MALFORMED),
        case(
            "gzip, then chunked",
            post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
            400,
            MALFORMED,
        ),
        case(
            "a coding twice",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            400,
            MALFORMED,
        ),
        case(
            "chunked in HTTP/1.0",
            good("POST /v5/rooms HTTP/1.0", key, "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            400,
            MALFORMED,
        ),
        case(
            "a chunk size that is none",
            post("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"),
            400,
            MALFORMED,
        ),
        case(
            "a chunk size that overflows",
            post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{}\r\n"),
            400,
            MALFORMED,
        ),
        case(
            "a chunk longer than its size",
            post("Transfer-Encoding: chunked\r\n", "2\r\n{}{}\r\n0\r\n\r\n"),
            400,
            MALFORMED,
        ),
        case("a body over the bound", post("Content-Length: 300000\r\n", ""), 400, "too_large"),
        case(
            "a body on a GET",
            good("GET /v5/rooms HTTP/1.1", key, "Content-Length: 2\r\n", "{}"),
            400,
            "invalid_body",
        ),
        case(
            "a body on a DELETE",
            good(
                "DELETE /v5/projector/tasks/a HTTP/1.1",
                key,
                "Transfer-Encoding: chunked\r\n",
                "2\r\n{}\r\n0\r\n\r\n",
            ),
            400,
            "invalid_body",
        ),
    ]
}

fn paths(key: &str) -> Vec<Case> {
    let get = |path: &str| good(&format!("GET {path} HTTP/1.1"), key, "", "");
    let mut cases: Vec<Case> = [
        ("an encoded slash", "/v5/rooms/a%2Fb"),
        ("an encoded backslash", "/v5/rooms/a%5cb"),
        ("an encoded NUL", "/v5/rooms/%00"),
        ("an encoded line break", "/v5/rooms/%0d%0a"),
        ("a dot segment", "/v5/rooms/../rooms"),
        ("an encoded dot segment", "/v5/rooms/%2e%2e"),
        ("an empty segment", "/v5//rooms"),
        ("two slashes at the end", "/v5/rooms//"),
        ("a broken encoding", "/v5/rooms/%zz"),
        ("half an encoding", "/v5/rooms/%4"),
        ("bytes that are not UTF-8", "/v5/rooms/%ff"),
        ("a query that is not UTF-8", "/v5/rooms?beginUUID=%ff"),
        ("a limit that is none", "/v5/rooms?limit=many"),
        ("a limit twice", "/v5/rooms?limit=1&limit=2"),
    ]
    .into_iter()
    .map(|(name, path)| case(name, get(path), 400, MALFORMED))
    .collect();
    for (name, path) in [
        ("a path in upper case", "/v5/Rooms"),
        ("another version", "/v6/rooms"),
        ("nothing", "/"),
        ("more than there is", "/v5/rooms/a/b/c"),
        ("an undocumented operation", "/v5/configs/regions"),
    ] {
        cases.push(case(name, get(path), 404, "not_found"));
    }
    cases
}

fn bodies(key: &str) -> Vec<Case> {
    let post = |path: &str, body: &str| {
        let length = format!("Content-Length: {}\r\n", body.len());
        good(&format!("POST {path} HTTP/1.1"), key, &length, body)
    };
    let deep = format!("{{\"a\":{}", "[".repeat(5_000));
    let mut cases = Vec::new();
    for (name, body) in [
        ("no JSON", "isRecord=true"),
        ("half an object", "{\"isRecord\":true"),
        ("an array", "[{}]"),
        ("a text", "\"{}\""),
        ("a number", "1"),
        ("two objects", "{}{}"),
        ("a member twice", "{\"limit\":1,\"limit\":2}"),
        ("a wrong type", "{\"isRecord\":\"yes\"}"),
        ("a name in another case", "{\"isrecord\":true}"),
        ("a number out of range", "{\"limit\":-1}"),
        ("nesting without end", deep.as_str()),
    ] {
        cases.push(case(name, post("/v5/rooms", body), 400, "invalid_body"));
    }
    cases.push(case(
        "no type",
        post("/v5/projector/tasks", "{\"resource\":\"https://a/b\"}"),
        400,
        "invalid_body",
    ));
    cases.push(case(
        "a body that is required",
        post("/v5/rooms/a/scenes", ""),
        400,
        "invalid_body",
    ));
    let mut not_utf8 =
        good("POST /v5/rooms HTTP/1.1", key, "Content-Length: 12\r\n", "").into_bytes();
    not_utf8.extend_from_slice(b"{\"name\":\"\xff\"}");
    cases.push(Case {
        name: "JSON that is not UTF-8",
        bytes: not_utf8,
        status: 400,
        code: "invalid_body",
    });
    cases
}

fn setup(upstream: &Upstream) -> Setup {
    Setup::new(&upstream.url())
        .with("[upstream]\nvia = \"wbg-test\"\n")
        .with("[listen]\nhead_timeout = \"600ms\"\nidle_timeout = \"1500ms\"\n")
        .with("[body]\ntimeout = \"600ms\"\n")
}

fn assert_works(gateway: &Process) {
    let answer = gateway.call("GET", "/v5/rooms", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn each_malformed_request_gets_the_envelope_and_the_upstream_sees_none() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = setup(&upstream).start();
    let key = gateway.key.as_str();
    let cases: Vec<Case> =
        [request_lines(key), fields(key), hosts(key), framing(key), paths(key), bodies(key)]
            .into_iter()
            .flatten()
            .collect();
    assert!(cases.len() >= 90, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = exchange(gateway.address, &case.bytes);
        let told = answer.as_ref().map(|answer| (answer.status, answer.member("code")));
        if told != Some((case.status, case.code.to_owned())) {
            wrong.push(format!("{}: {told:?}", case.name));
            continue;
        }
        let answer = answer.unwrap();
        answer.assert_envelope(case.status, case.code);
        assert!(!answer.text().contains(key), "{}: {}", case.name, answer.text());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(upstream.received().len(), 0, "{:?}", upstream.received());
    assert_works(&gateway);
}

#[test]
fn a_head_refusal_has_no_body_and_names_the_methods() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = setup(&upstream).start();
    let mut client = gateway.client();
    let answer = client.request("HEAD", "/v5/rooms", &[("token", &gateway.key)], "");
    assert_eq!((answer.status, answer.header("allow")), (400, "POST, GET"));
    // The connection is still in step: the body was not sent.
    let answer = client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
    assert_eq!(answer.status, 200);
}

#[test]
fn a_second_error_on_a_kept_connection_gets_the_envelope_too() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = setup(&upstream).start();
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
        assert_eq!(answer.status, 200);
    }
    client.send(b"GET /v5/rooms HTTP/1.1\r\nHost : g\r\n\r\n");
    client.answer("GET").unwrap().assert_envelope(400, MALFORMED);
    assert!(client.is_closed());
}

#[test]
fn a_body_that_breaks_off_gets_the_envelope() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = setup(&upstream).start();
    let head =
        good("POST /v5/rooms HTTP/1.1", &gateway.key, "Content-Length: 20\r\n", "{\"limit\"");
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let answer = read_answer(&mut std::io::BufReader::new(stream), false).unwrap();
    answer.assert_envelope(400, MALFORMED);
    assert_eq!(upstream.received().len(), 0);
}

/// Sends what is there and nothing more, and gives the answer and how long it took.
fn stalled(gateway: &Process, bytes: &str) -> (Answer, Duration) {
    let mut client = Client::connect(gateway.address);
    let begun = std::time::Instant::now();
    client.send(bytes.as_bytes());
    (client.answer("POST").expect("an answer"), begun.elapsed())
}

#[test]
fn a_head_or_body_that_does_not_arrive_in_time_gets_the_envelope() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = setup(&upstream).start();
    let head = "POST /v5/rooms HTTP/1.1\r\nHost: g\r\n";
    let body = good("POST /v5/rooms HTTP/1.1", &gateway.key, "Content-Length: 20\r\n", "{");
    for bytes in ["P", "PRI * HTTP/2.0\r\n", head, &body] {
        let (answer, took) = stalled(&gateway, bytes);
        answer.assert_envelope(400, "request_timeout");
        assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
    }
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = setup(&upstream).start();
    let mut silent = Client::connect(gateway.address);
    assert!(silent.answer("GET").is_none());
    let mut kept = gateway.client();
    assert_eq!(kept.request("GET", "/v5/rooms", &[("token", &gateway.key)], "").status, 200);
    assert!(kept.answer("GET").is_none(), "an idle connection is closed");
}

#[test]
fn requests_in_a_row_on_one_write_are_answered_in_order() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = setup(&upstream).start();
    let one = good("GET /v5/rooms HTTP/1.1", &gateway.key, "", "");
    let bad = good("GET /v5/Rooms HTTP/1.1", &gateway.key, "", "");
    let mut client = gateway.client();
    client.send(format!("{one}{bad}{one}").as_bytes());
    let statuses: Vec<u16> = (0..3).map(|_| client.answer("GET").unwrap().status).collect();
    assert_eq!(statuses, [200, 404, 200]);
}

#[test]
fn expect_100_continue_is_met() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = setup(&upstream).start();
    let head = good(
        "POST /v5/rooms HTTP/1.1",
        &gateway.key,
        "Content-Length: 2\r\nExpect: 100-continue\r\n",
        "",
    );
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    let answer = read_answer(&mut std::io::BufReader::new(stream), false).unwrap();
    assert_eq!(answer.status, 201);
}
