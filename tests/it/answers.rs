//! What of the service's answers reaches a caller: JSON whatever it is labelled, nothing that the
//! gateway sent, nothing of the service's inside, and nothing that a cache could give to another.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use whiteboard_gateway::token::{Claims, TokenFields};

use crate::support::{Answer, Client, Process, Setup, Upstream, answer, wait_until};

const ROOM: &str = "/v5/rooms/r";

/// An upstream whose next answer is what a test says, made of the token that it was shown.
#[derive(Clone)]
struct Script(Arc<Mutex<Answering>>);

/// The bytes of an answer, by the token that was shown.
type Answering = Box<dyn Fn(&str) -> Vec<u8> + Send>;

impl Script {
    fn start() -> (Self, Upstream) {
        let script = Self(Arc::new(Mutex::new(Box::new(|_| answer("200 OK", "{}").into_bytes()))));
        let says = script.clone();
        let upstream = Upstream::scripted(move |request, stream| {
            let bytes = says.0.lock().unwrap()(request.header("token"));
            stream.write_all(&bytes).is_ok()
        });
        (script, upstream)
    }

    fn says(&self, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) {
        *self.0.lock().unwrap() = Box::new(answer);
    }
}

fn calm(upstream: &Upstream) -> Process {
    Setup::new(&upstream.url())
        .with("[upstream.breaker]\nenabled = false\n[upstream.retry]\nattempts = 1\n")
        .start()
}

fn labelled(status: &str, label: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{label}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

#[test]
fn a_success_is_json_whatever_it_is_labelled_and_however_long_it_is() {
    let (script, upstream) = Script::start();
    let gateway = calm(&upstream);
    let long = format!("{{\"name\":\"{}\"}}", "<b>x</b>".repeat(20_000));
    for body in ["\"NETLESSROOM_a\"", "{\"name\":\"<script>\"}", long.as_str()] {
        for label in ["content-type: text/html\r\n", "content-type: image/svg+xml\r\n", ""] {
            let bytes = labelled("200 OK", label, body.as_bytes());
            script.says(move |_| bytes.clone());
            let answer = gateway.call("GET", ROOM, "");
            assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
            assert_eq!(answer.text(), body);
        }
    }
    let marked = labelled("200 OK", "", "\u{feff}{\"a\":1}".as_bytes());
    script.says(move |_| marked.clone());
    assert_eq!(gateway.call("GET", ROOM, "").text(), "{\"a\":1}");
}

#[test]
fn what_is_no_json_in_its_first_64_kib_is_an_upstream_error_and_later_it_breaks_off() {
    let (script, upstream) = Script::start();
    let gateway = calm(&upstream);
    let page = format!("<html>{}", "x".repeat(200_000));
    for body in ["<html>", "{\"a\":1", "{} {}", "{\"a\":\u{1}}", page.as_str()] {
        let bytes = labelled("200 OK", "content-type: application/json\r\n", body.as_bytes());
        script.says(move |_| bytes.clone());
        gateway.call("GET", ROOM, "").assert_envelope(500, "upstream_error");
    }
    let late = format!("[\"{}\", <html>]", "x".repeat(100_000));
    let cut = format!("[\"{}", "x".repeat(100_000));
    for body in [late, cut] {
        let bytes = labelled("200 OK", "", body.as_bytes());
        script.says(move |_| bytes.clone());
        let mut client = gateway.client();
        let head = format!("GET {ROOM} HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n\r\n", gateway.key);
        client.send(head.as_bytes());
        assert!(client.answer("GET").is_none(), "it ends before its promised end");
        wait_until("it is recorded", || {
            let mut lines = gateway.access_lines().into_iter();
            lines.any(|line| line["code"] == "upstream_error" && line["status"] == 200)
        });
    }
}

#[test]
fn a_message_is_found_wherever_these_services_put_it() {
    let (script, upstream) = Script::start();
    let gateway = calm(&upstream);
    let cut = format!("{{\"message\":\"cut\",\"stack\":\"{}\"}}", "x".repeat(200_000));
    for (body, message) in [
        (r#"{"message":["a must be b","c must be d"]}"#, "a must be b; c must be d"),
        (r#"{"message":{"message":"inside"}}"#, "inside"),
        (r#"{"code":1,"msg":"short"}"#, "short"),
        (r#"{"detail":"problem"}"#, "problem"),
        (r#"{"detail":[{"loc":["a"],"msg":"field required"}]}"#, "field required"),
        (r#"{"errors":[{"message":"first"},{"message":"second"}]}"#, "first"),
        (r#"{"error":{"message":"deep"}}"#, "deep"),
        (r#"{"error":{"title":"titled"}}"#, "titled"),
        (r#""bare""#, "bare"),
        ("\u{feff}{\"message\":\"marked\"}", "marked"),
        (r#"{"message":"half \ud83d"}"#, "half \u{fffd}"),
        (r#"{"message":null,"msg":"other"}"#, "other"),
        (r#"{"message":7,"errorMessage":"typed"}"#, "typed"),
        (cut.as_str(), "cut"),
        ("{}", "the whiteboard service answered with status 400 and no message"),
        ("<html>", "the whiteboard service answered with status 400 and no message"),
    ] {
        let bytes = labelled("400 Bad", "", body.as_bytes());
        script.says(move |_| bytes.clone());
        let answer = gateway.call("GET", ROOM, "");
        answer.assert_envelope(
            400,
            if body.contains("\"code\":1,") { "" } else { "upstream_refused" },
        );
        assert_eq!(answer.member("message"), message, "{body}");
    }
}

#[test]
fn of_a_failure_only_what_is_on_the_list_passes() {
    let (script, upstream) = Script::start();
    let gateway = calm(&upstream);
    let public = json!({"error": {
        "title": "team not registration with uuid: x", "messages": [], "requestId": "svc-1",
        "region": "us-sv", "traceStack": ["us-sv-shunt-api-7"],
    }});
    let bytes = labelled("404 Not Found", "", public.to_string().as_bytes());
    script.says(move |_| bytes.clone());
    let answer = gateway.call("GET", ROOM, "");
    answer.assert_envelope(404, "not_found");
    assert_eq!(answer.member("message"), "team not registration with uuid: x");
    let members: Vec<String> = answer.json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["message", "code", "requestId"]);
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!(
        (&line["upstream_request_id"], &line["upstream_region"]),
        (&json!("svc-1"), &json!("us-sv"))
    );
    assert!(!line.to_string().contains("shunt-api"), "{line}");
    // It is for whoever looks for a cause.
    gateway.until_logged("us-sv-shunt-api-7");

    let legacy = gateway.call("GET", "/v5/services/conversion/tasks/t?type=dynamic", "");
    assert_eq!(legacy.json()["error"], json!({"title": "team not registration with uuid: x"}));

    let told = json!({"message": "m", "code": {"a": 1}, "errorCode": "2010605", "errorMessage": null,
        "stack": "at pod", "requestId": "svc", "type": "x", "rule": "y"});
    let bytes = labelled("400 Bad", "", told.to_string().as_bytes());
    script.says(move |_| bytes.clone());
    let mut body = gateway.call("GET", ROOM, "").json();
    let ours = body.as_object_mut().unwrap().remove("requestId");
    assert_ne!(ours, Some(json!("svc")));
    assert_eq!(body, json!({"message": "m", "code": "upstream_refused", "errorCode": "2010605"}));
}

#[test]
fn a_304_is_called_what_it_is_and_an_empty_coding_is_none() {
    let (script, upstream) = Script::start();
    let gateway = calm(&upstream);
    script.says(|_| b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec());
    let answer = gateway.call("GET", ROOM, "");
    answer.assert_envelope(500, "upstream_error");
    assert!(answer.member("message").contains("304"), "{}", answer.text());
    script.says(|_| labelled("200 OK", "content-encoding: \r\n", b"{}"));
    assert_eq!(gateway.call("GET", ROOM, "").status, 200);
}

/// Every way in which the service could write down what it was shown.
fn echoes(token: &str) -> Vec<String> {
    let payload = token.split_once('_').unwrap().1;
    let decoded = base64_decoded(payload);
    let escaped: String = payload.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    vec![
        token.to_owned(),
        payload.to_owned(),
        decoded,
        token.replace('_', "%5F"),
        token.replace('_', "\\u005f"),
        token.to_lowercase(),
        escaped,
    ]
}

fn base64_decoded(payload: &str) -> String {
    use base64::Engine as _;
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    String::from_utf8(decoded).unwrap()
}

#[track_caller]
fn assert_hidden(text: &str, token: &str) {
    let payload = token.split_once('_').unwrap().1.to_lowercase();
    let decoded = base64_decoded(token.split_once('_').unwrap().1);
    let signature = decoded.split('&').find_map(|pair| pair.strip_prefix("sig=")).unwrap();
    let plain = serde_json::from_str::<Value>(text)
        .map_or_else(|_| text.to_owned(), |value| value.to_string());
    for text in [text.to_lowercase(), plain.to_lowercase(), text.to_lowercase().replace("%5f", "_")]
    {
        assert!(!text.contains(&payload) && !text.contains(signature), "{text}");
    }
}

#[test]
fn what_the_gateway_sent_comes_back_to_nobody() {
    let (script, upstream) = Script::start();
    let gateway = calm(&upstream);
    for which in 0..7 {
        for (status, filler) in [("403 Forbidden", 0), ("200 OK", 0), ("200 OK", 70_000)] {
            script.says(move |token| {
                let echo = &echoes(token)[which];
                let body = format!("{{\"message\":\"{} bad {echo} sent\"}}", "x ".repeat(filler));
                // In pieces, so that it stands across their borders.
                let mut chunked =
                    format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n");
                for piece in body.as_bytes().chunks(97) {
                    chunked.push_str(&format!(
                        "{:x}\r\n{}\r\n",
                        piece.len(),
                        std::str::from_utf8(piece).unwrap()
                    ));
                }
                (chunked + "0\r\n\r\n").into_bytes()
            });
            let answer = gateway.call("GET", ROOM, "");
            assert_eq!(answer.status, status[..3].parse::<u16>().unwrap());
            let token = upstream.received().last().unwrap().header("token").to_owned();
            assert_hidden(&answer.text(), &token);
            let (text, echo) = (answer.text(), &echoes(&token)[which]);
            assert!(text.contains("bad") && text.contains("sent"), "{text}");
            if status == "200 OK" {
                assert!(text.contains('*'), "{text}");
                let length =
                    format!("{{\"message\":\"{} bad {echo} sent\"}}", "x ".repeat(filler)).len();
                assert_eq!(answer.body.len(), length);
            }
            assert_hidden(&gateway.stdout(), &token);
            assert_hidden(&gateway.stderr(), &token);
        }
    }
}

#[test]
fn nor_does_what_an_attempt_before_was_sent_with() {
    let (script, upstream) = Script::start();
    let gateway = Setup::new(&upstream.url())
        .with_other_key()
        .with("[upstream.breaker]\nenabled = false\n[upstream.retry]\nattempts = 1\n")
        .start();
    for (status, filler) in [("403 Forbidden", 0), ("200 OK", 0), ("200 OK", 70_000)] {
        for which in 0..7 {
            // A room that no key is known to open yet.
            let room = format!("/v5/rooms/r{}-{filler}-{which}", &status[..3]);
            let shown = Arc::new(Mutex::new(Vec::<String>::new()));
            let seen = Arc::clone(&shown);
            script.says(move |token| {
                let mut seen = seen.lock().unwrap();
                seen.push(token.to_owned());
                let claims = Claims::read(token).unwrap();
                if claims.access_key() != "other" {
                    return labelled("401 Unauthorized", "", b"{\"message\":\"expired token\"}");
                }
                let echo = &echoes(&seen[0])[which];
                let body = format!("{{\"message\":\"{} bad {echo} sent\"}}", "x ".repeat(filler));
                labelled(status, "", body.as_bytes())
            });
            let answer = gateway.call("GET", &room, "");
            assert_eq!(answer.status, status[..3].parse::<u16>().unwrap(), "{}", answer.text());
            let shown = shown.lock().unwrap();
            assert!(shown.len() >= 2, "{shown:?}");
            for token in shown.iter() {
                assert_hidden(&answer.text(), token);
                assert_hidden(&gateway.stderr(), token);
            }
            assert!(answer.text().contains("bad") && answer.text().contains("sent"));
        }
    }
}

#[test]
fn a_token_that_the_service_minted_is_the_callers_own() {
    let key = whiteboard_gateway::token::KeyPair::new(
        "AK".to_owned(),
        &whiteboard_gateway::token::Secret::new("SK".to_owned()),
    );
    let mint = |kind, uuid| {
        key.mint(
            TokenFields { kind, role: "0", uuid, lifespan_ms: 0, nonce: "n".to_owned() },
            1_000,
        )
        .token
        .expose()
        .to_owned()
    };
    use whiteboard_gateway::api::TokenKind;
    let (fixed, minted) = (mint(TokenKind::Sdk, None), mint(TokenKind::Room, Some("r")));
    let (script, upstream) = Script::start();
    let body = format!("\"{minted}\"");
    script.says(move |_| labelled("200 OK", "content-type: text/html\r\n", body.as_bytes()));
    let gateway = Setup::new(&upstream.url())
        .with_sdk_token(&fixed)
        .take_out("profiles.backend.allow", "tokens.sdk")
        .start();
    let answer = gateway.call("POST", "/v5/tokens/rooms/r", r#"{"role":"reader","lifespan":1000}"#);
    assert_eq!((answer.status, answer.json()), (201, json!(minted)));
    assert!(Claims::read(&minted).is_ok());
    assert_eq!(answer.header("content-type"), "application/json");
}

#[test]
fn an_authorized_answer_is_private_and_varies_by_the_credential() {
    let (script, upstream) = Script::start();
    let gateway = calm(&upstream);
    let get = |fields: &'static str| -> Answer {
        script.says(move |_| labelled("200 OK", fields, b"{}"));
        gateway.call("GET", ROOM, "")
    };
    for (fields, said) in [
        ("", "private"),
        ("cache-control: public, max-age=600\r\n", "private"),
        ("cache-control: s-maxage=600\r\nvary: token\r\n", "private"),
        ("cache-control: No-Cache, max-age=0\r\n", "private, no-cache"),
        ("cache-control: private\r\ncache-control: no-store\r\n", "no-store"),
        ("expires: Wed, 01 Jan 2098 00:00:00 GMT\r\n", "private"),
    ] {
        let answer = get(fields);
        assert_eq!((answer.status, answer.header("cache-control")), (200, said), "{fields}");
        let vary = answer.header("vary").to_ascii_lowercase();
        for name in ["authorization", "token", "x-api-key"] {
            assert!(vary.split(", ").any(|one| one == name), "{vary}");
        }
    }
    let odd = get("set-cookie: a=b\r\nserver: x\r\netag: \"1\"\r\nage: 7\r\nalt-svc: h3\r\n\
                   access-control-allow-origin: *\r\nstrict-transport-security: max-age=1\r\n");
    let mut names: Vec<&str> = odd.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let passed =
        ["cache-control", "content-length", "content-type", "date", "vary", "x-request-id"];
    assert_eq!(names, passed);
    let minted = gateway.call("POST", "/v5/tokens/rooms/r", r#"{"role":"reader","lifespan":1000}"#);
    assert_eq!(minted.header("cache-control"), "no-store");
    assert!(minted.header("vary").contains("token"));
}

/// nginx as a cache in front of the gateway, on a free port; killed with the test.
struct Nginx {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn before(gateway: &Process) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error;\n\
             events {{}}\nhttp {{ access_log off; client_body_temp_path {at}/b;\n\
             proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u;\n\
             scgi_temp_path {at}/s; proxy_cache_path {at}/cache keys_zone=z:1m;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_cache z;\n\
             add_header X-Cache $upstream_cache_status; proxy_pass http://{}; }} }} }}\n",
            gateway.address
        );
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("/usr/sbin/nginx")
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx, of Debian's package nginx-light");
        wait_until("nginx listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, port, _folder: folder }
    }

    fn get(&self, headers: &[(&str, &str)]) -> Answer {
        let mut client = Client::connect(([127, 0, 0, 1], self.port).into());
        client.request("GET", ROOM, headers, "")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_cache_in_front_gives_nobody_the_room_of_another() {
    let (script, upstream) = Script::start();
    let gateway = calm(&upstream);
    let nginx = Nginx::before(&gateway);
    let fields = "cache-control: public, max-age=600\r\nvary: token\r\nexpires: Wed, 01 Jan 2098 00:00:00 GMT\r\n";
    script.says(move |_| labelled("200 OK", fields, b"{\"uuid\":\"r\"}"));
    let own = nginx.get(&[("token", &gateway.key)]);
    assert_eq!((own.status, own.header("x-cache")), (200, "MISS"));
    for headers in [&[][..], &[("token", "wbg_live_none")]] {
        let other = nginx.get(headers);
        assert_eq!(other.status, 401, "{}: {}", other.header("x-cache"), other.text());
    }
}
