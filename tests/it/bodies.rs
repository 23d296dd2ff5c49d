//! What the world's clients send as a body: numbers in every notation, empty lists, byte order marks,
//! codings, forms; and what a developer is told of what is no JSON.

use crate::support::{Answer, Process, Received, Setup, Upstream, wait_until};

const ROOM: &str = "d07bcaf0a17911ea9d7e23232cddf42d";

struct Case {
    upstream: Upstream,
    gateway: Process,
    key: String,
}

impl Case {
    fn new(more: &str, profile: &str) -> Self {
        Self::changed(more, profile, |setup| setup)
    }

    fn changed(more: &str, profile: &str, change: impl FnOnce(Setup) -> Setup) -> Self {
        let upstream = Upstream::json("201 Created", "{}");
        let mut setup = Setup::new(&upstream.url()).with(more);
        let key = setup.caller("tester", profile);
        Self { upstream, gateway: change(setup).start(), key }
    }

    fn send(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut client = self.gateway.client();
        let fields: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: a\r\ntoken: {}\r\n{fields}content-length: {}\r\n\r\n",
            self.key,
            body.len()
        );
        client.send(&[head.as_bytes(), body].concat());
        client.answer(method).unwrap()
    }

    fn mint(&self, lifespan: &str) -> Answer {
        let body = format!(r#"{{"lifespan":{lifespan},"role":"reader"}}"#);
        self.send("POST", &format!("/v5/tokens/rooms/{ROOM}"), &[], body.as_bytes())
    }

    fn create(&self, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send("POST", "/v5/rooms", fields, body)
    }

    fn last(&self) -> Received {
        wait_until("it arrives", || !self.upstream.received().is_empty());
        self.upstream.received().pop().unwrap()
    }
}

/// Where what the tester may do stands.
const ALLOW: &str = "profiles.tester.allow";

const EVERYTHING: &str = r#"allow = ["rooms.*", "scenes.*", "conversions.*", "tokens.*"]
rooms = "any"
role = "admin"
"#;

/// What a token lives, in milliseconds; `None` for one that has no end.
fn life(answer: &Answer) -> Option<u64> {
    assert_eq!(answer.status, 201, "{}", answer.text());
    let token: String = serde_json::from_str(&answer.text()).unwrap();
    let claims = whiteboard_gateway::token::Claims::read(&token).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let end: u64 = claims.expire_at()?.parse().unwrap();
    Some(end - u64::try_from(now.as_millis()).unwrap())
}

#[test]
fn a_lifespan_is_its_value_and_never_means_no_end_beyond_the_cap() {
    let hour = 3_600_000;
    let near = |life: Option<u64>, wanted: u64| {
        life.is_some_and(|life| life <= wanted && life + 60_000 > wanted)
    };
    let case = Case::new("", &format!("{EVERYTHING}max_lifespan = \"24h\""));
    for number in ["3600000.0", "3.6e6", "36E5", "3600000"] {
        assert!(near(life(&case.mint(number)), hour), "{number}");
    }
    // Asked for permanent, and for what people write when they mean that.
    let never = [
        "0",
        "0.0",
        "-0",
        "9007199254740991",
        "9223372036854775807",
        "18446744073709551615",
        "1e300",
    ];
    for number in never {
        let answer = case.mint(number);
        assert!(near(life(&answer), 24 * hour), "{number}: the cap");
        assert_eq!(answer.header("whiteboard-granted"), "role=reader; lifespan=86400000");
    }
    for number in ["1.5", "-1", "\"3600000\"", "null", "true"] {
        case.mint(number).assert_envelope(400, "invalid_body");
    }
    let permanent = Case::new("", &format!("{EVERYTHING}max_lifespan = \"permanent\""));
    let strict = Case::new(
        "",
        &format!("{EVERYTHING}max_lifespan = \"24h\"\nover_cap = {{ lifespan = \"refuse\" }}"),
    );
    for number in never {
        assert_eq!(life(&permanent.mint(number)), None, "{number}");
        strict.mint(number).assert_envelope(403, "forbidden");
    }
}

#[test]
fn an_empty_list_and_a_byte_order_mark_are_taken_and_not_passed_on() {
    let case = Case::new("", EVERYTHING);
    for (body, arrives) in [
        (&b"[]"[..], "{}"),
        (b" [ ] \n", "{}"),
        (b"", "{}"),
        (b"\xef\xbb\xbf", "{}"),
        (b"\xef\xbb\xbf[]", "{}"),
        (b"\xef\xbb\xbf{\"limit\":1.0}", "{\"limit\":1.0}"),
    ] {
        assert_eq!(case.create(&[], body).status, 201, "{body:?}");
        assert_eq!(case.last().body, arrives.as_bytes(), "{body:?}");
    }
    let answer = case.send("POST", &format!("/v5/tokens/rooms/{ROOM}"), &[], b"[]");
    answer.assert_envelope(400, "invalid_body");
    assert_eq!(
        answer.member("message"),
        "the body must be an object with `lifespan`, `role`, found an empty list"
    );
}

#[test]
fn what_is_no_json_is_named_for_what_it_is() {
    let case = Case::new("", EVERYTHING);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let gzip = [("content-encoding", "gzip")];
    let utf_16: Vec<u8> = "{\"limit\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (fields, body, code, said) in [
        (
            &gzip[..],
            &b"\x1f\x8b\x08"[..],
            "unsupported_media_type",
            "gzip-coded and must come plain",
        ),
        (&[], b"\x1f\x8b\x08\0", "invalid_body", "gzip-coded and must come plain"),
        (&form, b"limit=1", "invalid_body", "form"),
        (&[], b"limit=1&name=a", "invalid_body", "form"),
        (
            &[("content-type", "multipart/form-data; boundary=x")],
            b"--x\r\n",
            "invalid_body",
            "multipart",
        ),
        (&[], &utf_16, "invalid_body", "UTF-16"),
        (&[], b"{\"name\":\"\xd6\xd0\"}", "invalid_body", "not UTF-8"),
        (&[], b"{'limit': 1}", "invalid_body", "double"),
    ] {
        let answer = case.create(fields, body);
        answer.assert_envelope(400, code);
        assert!(answer.member("message").contains(said), "{}", answer.text());
    }
    // Labels alone say nothing against a body that is JSON, and an empty field says nothing.
    for fields in [&form[..], &[("content-encoding", "")], &[("content-encoding", "identity")]] {
        assert_eq!(case.create(fields, b"{\"limit\":1}").status, 201, "{fields:?}");
    }
    assert_eq!(case.upstream.received().len(), 3, "what was refused was sent nowhere");
    let extended = Case::new("[errors]\nprofile = \"extended\"\n", EVERYTHING);
    extended.create(&gzip, b"{}").assert_envelope(415, "unsupported_media_type");
}

#[test]
fn a_coding_travels_with_the_bytes_that_it_describes() {
    let added = "[[operations]]\nname = \"added.upload\"\nmethod = \"POST\"\n\
                 path = \"/v5/rooms/{uuid}/uploads\"\ntarget = \"room\"\ntoken = \"room\"\n\
                 role = \"writer\"\nbody = \"opaque\"\n";
    let case = Case::changed(added, EVERYTHING, |setup| {
        setup.take_out(ALLOW, "tokens.*").push(ALLOW, "added.upload")
    });
    let path = format!("/v5/rooms/{ROOM}/uploads");
    let label = ("content-type", "application/octet-stream");
    let answer = case.send("POST", &path, &[label, ("content-encoding", "gzip")], b"\x1f\x8b\x08");
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(case.last().header("content-encoding"), "gzip");
    let part = ("content-range", "bytes 0-2/9");
    let answer = case.send("POST", &path, &[label, part], b"abc");
    answer.assert_envelope(400, "malformed_request");
    assert!(answer.member("message").contains("Content-Range"), "{}", answer.text());
}

#[test]
fn a_secret_key_in_a_body_is_ignored_even_where_unknown_fields_are_refused() {
    let strict = "[body]\nunknown_fields = \"refuse\"\n";
    let case = Case::changed(strict, EVERYTHING, |setup| setup.push(ALLOW, "tokens.sdk"));
    let body =
        br#"{"accessKey":"sandbox","secretAccessKey":"planted","lifespan":60000,"role":"reader"}"#;
    assert_eq!(case.send("POST", "/v5/tokens/teams", &[], body).status, 201);
    let unknown = br#"{"lifespan":60000,"role":"reader","colour":1}"#;
    case.send("POST", "/v5/tokens/teams", &[], unknown).assert_envelope(400, "invalid_body");
}

#[test]
fn a_wrong_path_or_method_is_told_the_right_one() {
    let case = Case::new("", EVERYTHING);
    let task = "/v5/projector/tasks/8c2e8e70a17911ea9d7e23232cddf42d";
    let answer = case.send("PUT", task, &[], b"{\"priority\":\"highest\"}");
    answer.assert_envelope(400, "method_not_allowed");
    let message = answer.member("message");
    assert!(message.contains("PUT is for /v5/projector/tasks/{uuid}/priority"), "{message}");
    for path in ["/v4/rooms", "/rooms", "/room"] {
        let answer = case.send("GET", path, &[], b"");
        answer.assert_envelope(404, "not_found");
        assert!(answer.member("message").contains("begin with /v5"), "{}", answer.text());
    }
}
