//! Calls from browsers, as raw sockets see them: who may read an answer, preflights, and the SDK
//! token that no page may have.

use std::process::Command;

use crate::support::{Answer, Client, Process, Setup, Upstream, exchange, value, wait_until};
use whiteboard_gateway::api::Operations;

/// Where the app is that may call.
const APP: &str = "https://app.example.org";

const CORS: &str = "[cors]\norigins = [\"https://app.example.org\", \"https://*.school.example\", \
                    \"http://localhost:5173\"]\n";

const EXPOSED: &str = "x-request-id, traceresponse, ratelimit, ratelimit-policy, retry-after, \
                       whiteboard-granted, proxy-status, www-authenticate";

fn gateway(upstream: &Upstream) -> Process {
    Setup::new(&upstream.url()).with(CORS).start()
}

fn preflight(gateway: &Process, path: &str, origin: &str, method: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "content-type,token"),
    ];
    gateway.client().request("OPTIONS", path, &headers, "")
}

/// Asserts who may read an answer: pages of that origin, or none when it is empty.
#[track_caller]
fn assert_readable_by(answer: &Answer, origin: &str) {
    let told = format!("{} {:?}", answer.status, answer.headers);
    assert_eq!(answer.header("access-control-allow-origin"), origin, "{told}");
    assert!(answer.header("vary").starts_with("Origin"), "{told}");
    let exposed = if origin.is_empty() { "" } else { EXPOSED };
    assert_eq!(answer.header("access-control-expose-headers"), exposed, "{told}");
    assert!(!answer.has("access-control-allow-credentials"), "{told}");
    let times = |name: &str| answer.headers.iter().filter(|(own, _)| own == name).count();
    assert!(times("access-control-allow-origin") <= 1 && times("vary") == 1, "{told}");
}

#[test]
fn an_answer_can_be_read_by_pages_of_named_origins_alone() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    let key = gateway.key.clone();
    for (origin, readable) in [
        (APP, true),
        ("https://APP.example.org", true),
        ("https://klasse.school.example", true),
        ("https://a.b.school.example", true),
        ("http://localhost:5173", true),
        ("http://app.example.org", false),
        ("https://app.example.org:8443", false),
        ("https://app.example.org.evil.example", false),
        ("https://school.example", false),
        ("https://evilschool.example", false),
        ("https://evil.example/.school.example", false),
        ("http://localhost:51730", false),
        ("null", false),
        ("*", false),
        ("", false),
        ("https://\u{e9}.school.example", false),
    ] {
        for (token, status) in [(key.as_str(), 200), ("wrong", 401)] {
            let headers = [("token", token), ("origin", origin)];
            let answer = gateway.client().request("GET", "/v5/rooms/a", &headers, "");
            assert_eq!(answer.status, status, "{origin}");
            assert_readable_by(&answer, if readable { origin } else { "" });
        }
    }
    assert_readable_by(&gateway.call("GET", "/v5/rooms/a", ""), "");
}

#[test]
fn a_page_may_send_its_trace_where_traces_are_continued() {
    let fields = |more: &[(&str, &str)]| {
        let upstream = Upstream::json("200 OK", "{}");
        let mut setup = Setup::new(&upstream.url()).with(CORS);
        for (path, other) in more {
            setup = setup.set(path, value(other));
        }
        let answer = preflight(&setup.start(), "/v5/rooms/a", APP, "GET");
        answer.header("access-control-allow-headers").contains("traceparent, tracestate")
    };
    let traces = ("otlp.endpoint", "\"http://127.0.0.1:9\"");
    let vouched = ("profiles.backend.trust_traceparent", "true");
    let proxied = ("listen.trusted_proxies", "[\"10.0.0.0/8\"]");
    assert!(fields(&[traces, vouched]));
    assert!(fields(&[traces, proxied]));
    for without in [&[traces][..], &[vouched], &[proxied], &[]] {
        assert!(!fields(without), "{without:?}");
    }
}

#[test]
fn a_preflight_is_answered_before_anybody_is_asked_for_a_credential() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    for (_, row) in Operations::documented().iter() {
        let path = row.path.replace("{uuid}", "a");
        let answer = preflight(&gateway, &path, APP, row.method.as_str());
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        assert_readable_by(&answer, APP);
        let methods = answer.header("access-control-allow-methods");
        assert!(methods.split(", ").any(|method| method == row.method), "{path}: {methods}");
        assert_eq!(
            answer.header("access-control-allow-headers"),
            "authorization, content-type, region, token, x-api-key, x-request-id"
        );
        assert_eq!(answer.header("access-control-max-age"), "600");
        assert_eq!(
            answer.header("vary"),
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        );
        assert_eq!(answer.header("content-length"), "0");
    }
    assert_eq!(
        preflight(&gateway, "/v5/rooms/a", APP, "PATCH").header("access-control-allow-methods"),
        "GET, PATCH"
    );
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn a_preflight_is_recorded_and_is_no_call_of_its_operation() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    let answer = preflight(&gateway, "/v5/rooms/a", APP, "GET");
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!((&line["method"], &line["status"]), (&"OPTIONS".into(), &200.into()), "{line}");
    let metrics = gateway.admin("/metrics").text();
    assert!(metrics.contains("wbg_requests_total{operation=\"none\",code=\"ok\"} 1"), "{metrics}");
}

#[test]
fn a_preflight_for_what_is_not_there_is_told_so() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    for (path, method, code) in [
        ("/v5/nothing", "GET", "not_found"),
        ("/v5/rooms/a", "DELETE", "method_not_allowed"),
        ("/v5//rooms", "GET", "malformed_request"),
        ("/v5/rooms/a", "no method", "malformed_request"),
    ] {
        let answer = preflight(&gateway, path, APP, method);
        let status = if code == "not_found" { 404 } else { 400 };
        answer.assert_envelope(status, code);
        assert_readable_by(&answer, APP);
        assert_eq!(answer.header("allow") == "GET, PATCH", code == "method_not_allowed");
    }
}

#[test]
fn a_preflight_from_elsewhere_gets_no_leave_and_the_reason() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    for path in ["/v5/rooms/a", "/v5/nothing"] {
        let answer = preflight(&gateway, path, "https://evil.example", "GET");
        assert_eq!(answer.status, 200);
        assert!(answer.member("message").contains("cors.origins"), "{}", answer.text());
        assert!(!answer.text().contains("evil.example"));
        assert_readable_by(&answer, "");
        for name in ["methods", "headers"] {
            assert!(!answer.has(&format!("access-control-allow-{name}")), "{:?}", answer.headers);
        }
    }
    wait_until("whoever runs it can find out which", || {
        gateway.stderr().contains("https://evil.example")
    });
}

#[test]
fn options_without_the_question_of_a_browser_is_no_preflight() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    let key = gateway.key.as_str();
    for headers in [
        vec![("token", key), ("origin", APP)],
        vec![("token", key), ("access-control-request-method", "GET")],
    ] {
        let answer = gateway.client().request("OPTIONS", "/v5/rooms", &headers, "");
        answer.assert_envelope(400, "method_not_allowed");
    }
}

#[test]
fn a_page_can_read_every_refusal() {
    let upstream = Upstream::scripted(|request, stream| {
        use std::io::Write as _;
        // The room `gone` is where the service breaks down.
        !request.line.contains("gone")
            && stream.write_all(crate::support::answer("200 OK", "{}").as_bytes()).is_ok()
    });
    let mut setup = Setup::new(&upstream.url()).with(CORS);
    let pupil = setup.caller(
        "pupil",
        "allow = [\"rooms.get\", \"tokens.room\"]\nrooms = [\"a\", \"gone\"]\nrole = \"writer\"\n\
         limit = { rate = \"3/h\" }",
    );
    let gateway = setup.start();
    let call = |method: &str, path: &str, token: &str, body: &str| {
        let headers = [("origin", APP), ("token", token)];
        gateway.client().request(method, path, &headers, body)
    };
    let readable = |answer: &Answer, status, code: &str| {
        answer.assert_envelope(status, code);
        assert_readable_by(answer, APP);
    };
    let nameless = gateway.client().request("GET", "/v5/rooms/a", &[("origin", APP)], "");
    readable(&nameless, 401, "unauthenticated");
    readable(&call("GET", "/v5/rooms/a", "", ""), 401, "invalid_token");
    readable(&call("GET", "/v5/rooms/a", "wrong", ""), 401, "invalid_token");
    readable(&call("PATCH", "/v5/rooms/a", &pupil, "{}"), 403, "forbidden");
    readable(&call("GET", "/v5/rooms/b", &pupil, ""), 404, "not_found");
    readable(&call("GET", "/v5/rooms/gone", &pupil, ""), 500, "upstream_error");
    readable(&call("POST", "/v5/tokens/rooms/a", &pupil, "no JSON"), 400, "invalid_body");
    let minted = call("POST", "/v5/tokens/rooms/a", &pupil, "{\"role\":\"reader\",\"lifespan\":0}");
    assert_eq!(minted.status, 201);
    assert_readable_by(&minted, APP);
    assert_eq!(minted.header("whiteboard-granted"), "role=reader; lifespan=3600000");
    let limited = call("GET", "/v5/rooms/a", &pupil, "");
    readable(&limited, 403, "rate_limited");
    assert!(limited.has("retry-after") && limited.has("ratelimit"), "{:?}", limited.headers);
}

#[test]
fn a_page_can_read_what_never_became_a_request_where_its_origin_was_read() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    let origin = format!("origin: {APP}\r\n");
    let long = "a".repeat(9_000);
    for (request, readable) in [
        (format!("GET /v5/rooms HTTP/1.1\r\nhost: a\r\nhost: b\r\n{origin}\r\n"), true),
        (format!("GET /v5/{long} HTTP/1.1\r\nhost: a\r\n{origin}\r\n"), true),
        (format!("TRACE / HTTP/1.1\r\nhost: a\r\n{origin}\r\n"), true),
        // What is no HTTP has no fields.
        (format!("GET /v5/rooms\r\nhost: a\r\n{origin}\r\n"), false),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{origin}x: {long}{long}\r\n\r\n"), false),
    ] {
        let answer = exchange(gateway.address, request.as_bytes()).unwrap();
        assert_eq!(answer.status, 400);
        assert_readable_by(&answer, if readable { APP } else { "" });
    }
}

#[test]
fn what_the_upstream_says_about_origins_is_not_passed_on() {
    let fields = "access-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\n\
                  access-control-expose-headers: set-cookie\r\nvary: accept\r\n";
    for (status, long) in [("200 OK", false), ("200 OK", true), ("404 Not Found", false)] {
        let body = format!("{{\"message\":\"{}\"}}", "x".repeat(if long { 100_000 } else { 1 }));
        let upstream = Upstream::answering(format!(
            "HTTP/1.1 {status}\r\n{fields}content-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ));
        let gateway = gateway(&upstream);
        let headers = [("token", gateway.key.as_str()), ("origin", APP)];
        let answer = gateway.client().request("GET", "/v5/rooms/a", &headers, "");
        assert!(status.starts_with(&answer.status.to_string()));
        assert_readable_by(&answer, APP);
        assert!(answer.header("vary").starts_with("Origin"), "{:?}", answer.headers);
        let headers = [("token", gateway.key.as_str()), ("origin", "https://evil.example")];
        let answer = gateway.client().request("GET", "/v5/rooms/a", &headers, "");
        assert_readable_by(&answer, "");
    }
}

#[test]
fn without_origins_no_answer_speaks_of_them() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url()).start();
    let headers = [("token", gateway.key.as_str()), ("origin", APP)];
    let read = gateway.client().request("GET", "/v5/rooms/a", &headers, "");
    let asked = preflight(&gateway, "/v5/rooms/a", APP, "GET");
    asked.assert_envelope(401, "unauthenticated");
    for answer in [read, asked] {
        let cors = |name: &str| name.starts_with("access-control-");
        assert!(!answer.header("vary").contains("Origin"), "{:?}", answer.headers);
        assert!(!answer.headers.iter().any(|(name, _)| cors(name)), "{:?}", answer.headers);
    }
}

#[test]
fn origins_change_with_a_reload_on_connections_that_are_kept() {
    let upstream = Upstream::json("200 OK", "{}");
    let setup = Setup::new(&upstream.url()).with(CORS);
    let text = setup.configuration();
    let gateway = setup.start();
    let mut kept = gateway.client();
    let ask = |client: &mut Client, origin: &str| {
        let headers = [("token", gateway.key.as_str()), ("origin", origin)];
        let answer = client.request("GET", "/v5/rooms/a", &headers, "");
        answer.header("access-control-allow-origin").to_owned()
    };
    let other = "https://other.example.org";
    assert_eq!((ask(&mut kept, APP), ask(&mut kept, other)), (APP.to_owned(), String::new()));
    gateway.reload(&text.clone().set("cors.origins.0", other));
    assert_eq!((ask(&mut kept, APP), ask(&mut kept, other)), (String::new(), other.to_owned()));
    gateway.reload(&text.clone().set("cors.origins.0", "https://app.example.org/with/a/path"));
    assert_eq!(ask(&mut kept, other), other, "a broken file changes nothing");
    gateway.reload(&text.without("cors"));
    assert_eq!(ask(&mut kept, other), "");
}

#[test]
fn pages_are_answered_over_http2_as_well() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    let url = format!("http://{}/v5/rooms/a", gateway.address);
    let origin = format!("origin: {APP}");
    for (method, more, status) in
        [("OPTIONS", "access-control-request-method: GET", "200"), ("GET", "accept: */*", "401")]
    {
        let words = ["-si", "--http2-prior-knowledge", "-X", method, "-H", &origin, "-H", more];
        let curl = Command::new("curl").args(words).arg(&url).output().unwrap();
        let answer = String::from_utf8(curl.stdout).unwrap();
        assert!(answer.starts_with(&format!("HTTP/2 {status}")), "{answer}");
        assert!(answer.contains(&format!("access-control-allow-origin: {APP}\r\n")), "{answer}");
    }
}

#[test]
fn an_sdk_token_in_a_browser_is_refused_warned_about_and_counted() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    const SECRET: &str = "NETLESSSDK_YWs9c2VjcmV0";
    let bearer = format!("Bearer {SECRET}");
    for (headers, browser) in [
        (vec![("token", SECRET), ("origin", APP)], true),
        (vec![("token", SECRET), ("origin", "https://evil.example")], true),
        (vec![("authorization", bearer.as_str()), ("sec-fetch-site", "same-origin")], true),
        // A backend that moves here; the second is one in Node.
        (vec![("token", SECRET)], false),
        (vec![("token", SECRET), ("sec-fetch-mode", "cors")], false),
        (vec![("token", "NETLESSROOM_YWs9"), ("origin", APP)], false),
    ] {
        let answer = gateway.client().request("GET", "/v5/rooms/a", &headers, "");
        answer.assert_envelope(401, "invalid_token");
        let told = answer.member("message").contains("came from a browser");
        assert_eq!(told, browser, "{headers:?}: {}", answer.text());
        if browser {
            let id = answer.header("x-request-id");
            let warns = |line: &str| line.contains("a browser sent an SDK") && line.contains(id);
            wait_until("it is warned about", || gateway.stderr().lines().any(warns));
        }
    }
    let metrics = gateway.admin("/metrics").text();
    assert!(metrics.contains("\nwbg_browser_sdk_tokens_total 3\n"), "{metrics}");
    assert!(!gateway.stderr().contains("YWs9c2VjcmV0") && !gateway.stdout().contains("YWs9"));
    assert_eq!(upstream.received().len(), 0);
}
