//! What goes to the third party, and what comes back: allow-lists both ways.

use crate::support::{Setup, Upstream, wait_until};
use whiteboard_gateway::token::{Claims, KeyPair, Secret};

/// The token that arrived, verified.
fn claims(token: &str) -> Claims {
    let claims = Claims::read(token).unwrap();
    let key = KeyPair::new("sandbox".to_owned(), &Secret::new("sandbox-secret-key".to_owned()));
    assert!(claims.signed_by(&key));
    claims
}

#[test]
fn only_what_is_on_the_list_reaches_the_upstream() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url()).start();
    let key = gateway.key.clone();
    let bearer = format!("Bearer {key}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("cookie", "session=1"),
        ("x-api-key", &key),
        ("forwarded", "for=1.2.3.4"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("baggage", "a=b"),
        ("if-none-match", "\"x\""),
        ("accept-encoding", "gzip"),
        ("te", "trailers"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("proxy-authorization", "Basic YTpi"),
        ("user-agent", "curl/8"),
        ("x-request-id", "mine"),
        ("region", "sg"),
        ("via", "1.0 earlier"),
    ];
    let answer = gateway.client().request("GET", "/v5/rooms/a?x=1", &headers, "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = &upstream.received()[0];
    assert_eq!(received.line, "GET /v5/rooms/a HTTP/1.1");
    let mut names: Vec<&str> = received.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["accept", "accept-encoding", "host", "region", "token", "user-agent", "via"]
    );
    assert_eq!(received.header("host"), upstream.address.to_string());
    assert_eq!(received.header("region"), "sg");
    assert_eq!(received.header("accept-encoding"), "identity");
    assert!(received.header("user-agent").starts_with("whiteboard-gateway/"));
    let via = received.header("via");
    assert!(via.starts_with("1.0 earlier, 1.1 wbg-"), "{via}");
    assert_eq!(claims(received.header("token")).uuid(), Some("a"));
    assert!(!format!("{received:?}").contains(&key));
}

#[test]
fn only_what_is_on_the_list_reaches_the_caller() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\
         cache-control: max-age=1\r\nset-cookie: a=b\r\nserver: nginx\r\netag: \"x\"\r\n\
         alt-svc: h3\r\nstrict-transport-security: max-age=1\r\n\
         access-control-allow-origin: *\r\nx-powered-by: Express\r\nkeep-alive: timeout=5\r\n\
         x-request-id: theirs\r\n\r\n{}",
    );
    let gateway = Setup::new(&upstream.url()).start();
    let answer = gateway.call("GET", "/v5/rooms/a", "");
    let mut names: Vec<&str> = answer.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["cache-control", "content-length", "content-type", "date", "vary", "x-request-id"]
    );
    assert_ne!(answer.header("x-request-id"), "theirs");
}

#[test]
fn a_request_id_is_taken_from_trusted_peers_alone() {
    let upstream = Upstream::json("200 OK", "{}");
    let with_id = [("x-request-id", "from-the-proxy-1")];
    for (trusted, same) in [("10.0.0.0/8", false), ("127.0.0.0/8", true)] {
        let gateway = Setup::new(&upstream.url())
            .with(&format!("[listen]\ntrusted_proxies = [\"{trusted}\"]\n"))
            .start();
        let answer = gateway.client().request("GET", "/v5/rooms", &with_id, "");
        answer.assert_envelope(401, "unauthenticated");
        assert_eq!(answer.header("x-request-id") == "from-the-proxy-1", same, "{trusted}");
    }
}

#[test]
fn a_proxy_that_nobody_named_is_noticed() {
    let upstream = Upstream::json("200 OK", "[]");
    for (trusted, noticed) in [("", 1), ("trusted_proxies = [\"127.0.0.1\"]\n", 0)] {
        let gateway = Setup::new(&upstream.url()).with(&format!("[listen]\n{trusted}")).start();
        for client in ["1.1.1.1", "1.1.1.1", "2.2.2.2", "3.3.3.3"] {
            let token = gateway.key.clone();
            let headers = [("token", token.as_str()), ("x-forwarded-for", client)];
            let answer = gateway.client().request("GET", "/v5/rooms", &headers, "");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let told = || gateway.stderr().matches("names no proxy").count();
        wait_until("it is told", || told() >= noticed);
        assert_eq!(told(), noticed, "{}", gateway.stderr());
    }
}

#[test]
fn the_request_id_can_be_sent_on() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url()).with("[upstream]\nsend_request_id = true\n").start();
    let answer = gateway.call("GET", "/v5/rooms/a", "");
    assert_eq!(upstream.received()[0].header("x-request-id"), answer.header("x-request-id"));
}

#[test]
fn a_body_is_forwarded_as_it_came_and_labelled_as_json() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = Setup::new(&upstream.url()).start();
    let body = " {\"isRecord\" : false, \"colour\":\"rot\"} ";
    for label in ["application/json; charset=utf-8", "application/x-www-form-urlencoded"] {
        let headers = [("token", gateway.key.as_str()), ("content-type", label)];
        assert_eq!(gateway.client().request("POST", "/v5/rooms", &headers, body).status, 201);
    }
    assert_eq!(gateway.call("POST", "/v5/rooms", "").status, 201);
    let received = upstream.received();
    assert_eq!(received[0].body, body.as_bytes());
    assert_eq!(received[2].body, b"{}");
    for request in &received {
        assert_eq!(request.header("content-type"), "application/json");
    }
}

#[test]
fn a_strict_gateway_refuses_other_labels_and_unknown_fields() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = Setup::new(&upstream.url())
        .with("[body]\ncontent_type = \"strict\"\nunknown_fields = \"refuse\"\n")
        .start();
    let headers = [("token", gateway.key.as_str()), ("content-type", "text/plain")];
    let answer = gateway.client().request("POST", "/v5/rooms", &headers, "{}");
    answer.assert_envelope(400, "unsupported_media_type");
    let answer = gateway.call("POST", "/v5/rooms", "{\"colour\":1}");
    answer.assert_envelope(400, "invalid_body");
    assert!(answer.member("message").contains("`colour`"), "{}", answer.text());
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn an_operation_of_the_configuration_is_forwarded_unread() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 3\r\n\r\n\0\x01\x02",
    );
    let gateway = Setup::new(&upstream.url())
        .with(
            "[[operations]]\nname = \"scenes.export\"\nmethod = \"POST\"\n\
             path = \"/v5/rooms/{uuid}/scenes-export/\"\ntarget = \"room\"\ntoken = \"room\"\n\
             role = \"reader\"\nbody = \"opaque\"\n",
        )
        .start();
    let headers = [("token", gateway.key.as_str()), ("content-type", "application/x-odd")];
    let path = "/v5/rooms/r/scenes-export?a=1&b=2";
    let answer = gateway.client().request("POST", path, &headers, "\u{1}odd");
    assert_eq!((answer.status, answer.body.as_slice()), (201, &b"\0\x01\x02"[..]));
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    let received = &upstream.received()[0];
    assert_eq!(received.line, "POST /v5/rooms/r/scenes-export/?a=1&b=2 HTTP/1.1");
    assert_eq!(received.header("content-type"), "application/x-odd");
    assert_eq!(received.body, b"\x01odd");
    let claims = claims(received.header("token"));
    assert_eq!(
        (claims.kind.as_str(), claims.role_digit(), claims.uuid()),
        ("room", "2", Some("r"))
    );
}

#[test]
fn an_answer_can_be_a_problem_document() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url()).start();
    let headers = [("accept", "application/problem+json")];
    let answer = gateway.client().request("GET", "/v5/rooms", &headers, "");
    answer.assert_envelope(401, "unauthenticated");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["status"], 401);
}
