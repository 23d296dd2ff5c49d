//! The sandbox's fault switch, driven through the gateway as a developer would, and what callers
//! get; and projects whose credentials are not the plain case of one key pair.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whiteboard_gateway::api::{Role, TokenKind};
use whiteboard_gateway::sandbox::{self, Sandbox};
use whiteboard_gateway::server;
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::support::{Answer, Client, EVERYTHING, Process, Setup, binary, value};

/// The sandbox alone, with these arguments, and a client of its own paths.
fn sandbox(arguments: &[&str]) -> (Process, Client) {
    let mut command = Command::new(binary());
    command.args(["sandbox", "--listen", "127.0.0.1:0"]).args(arguments);
    let sandbox = Process::of_sandbox(command);
    let control = Client::connect(sandbox.address);
    (sandbox, control)
}

fn in_front_of(sandbox: &Process) -> Setup {
    Setup::new(&format!("http://{}", sandbox.address))
}

fn set(control: &mut Client, fault: &Value) {
    let answer = control.request("PUT", "/sandbox/faults", &[], &fault.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// How many requests under `/v5` have come since the last time.
fn seen(control: &mut Client) -> Vec<Value> {
    let seen = control.request("GET", "/sandbox/requests", &[], "").json();
    control.request("DELETE", "/sandbox/requests", &[], "");
    seen.as_array().unwrap().clone()
}

/// A fault, the operation that it hits, and what the caller gets: status, code, and a part of
/// `Proxy-Status`; and how many requests arrived.
struct Case {
    fault: Value,
    operation: &'static str,
    status: u16,
    code: &'static str,
    proxy_status: &'static str,
    requests: usize,
}

fn case(
    fault: Value,
    operation: &'static str,
    (status, code): (u16, &'static str),
    proxy_status: &'static str,
    requests: usize,
) -> Case {
    Case { fault, operation, status, code, proxy_status, requests }
}

fn cases() -> Vec<Case> {
    let error = (500, "upstream_error");
    let (get, create) = ("rooms.get", "rooms.create");
    vec![
        // Each way in which the switch can be set; what becomes of an answer is in `faults`.
        case(json!({"status": 503}), create, error, "received-status=503", 1),
        case(json!({"status": 404}), get, (404, "not_found"), "received-status=404", 1),
        case(json!({"body": "empty"}), create, (201, ""), "", 1),
        case(json!({"status": 502, "body": "html"}), create, error, "received-status=502", 1),
        case(json!({"body": "truncated"}), create, error, "http_response_incomplete", 1),
        // Ours to mend: the kept token, a fresh one, for a room one of the project; then it is told.
        case(
            json!({"token_error": true}),
            get,
            (500, "upstream_credential"),
            "proxy_configuration_error",
            3,
        ),
        case(
            json!({"token_error": true}),
            create,
            (500, "upstream_credential"),
            "proxy_configuration_error",
            2,
        ),
        case(
            json!({"redirect": "http://127.0.0.1:1/elsewhere"}),
            get,
            (500, "upstream_redirect"),
            "http_protocol_error",
            1,
        ),
        // What must not be sent twice is not.
        case(json!({"close": true}), create, error, "connection_terminated", 1),
        case(
            json!({"latency": "5s"}),
            create,
            (500, "upstream_timeout"),
            "http_response_timeout",
            1,
        ),
    ]
}

#[test]
fn each_fault_reaches_the_caller_in_the_documented_form() {
    let (sandbox, mut control) = sandbox(&[]);
    let gateway = in_front_of(&sandbox)
        .with("[upstream]\nfirst_byte_timeout = \"400ms\"\n")
        // What is asked again is another test's.
        .with("[upstream.retry]\nattempts = 1\n")
        // One, so that what is kept from one request is there for the next.
        .set("listen.workers", 1)
        .start();
    let room = gateway.call("POST", "/v5/rooms", "{}").member("uuid");
    let ask = |operation: &str| match operation {
        "rooms.create" => gateway.call("POST", "/v5/rooms", "{}"),
        _ => gateway.call("GET", &format!("/v5/rooms/{room}"), ""),
    };
    for Case { mut fault, operation, status, code, proxy_status, requests } in cases() {
        fault["operations"] = json!([operation]);
        // So that a token is kept, whatever became of those before.
        assert!(ask(operation).status < 300);
        set(&mut control, &fault);
        seen(&mut control);
        let answer = ask(operation);
        assert_eq!(answer.status, status, "{fault}: {}", answer.text());
        if code.is_empty() {
            assert_eq!((answer.text().as_str(), answer.has("proxy-status")), ("{}", false));
        } else {
            answer.assert_envelope(status, code);
            let told = answer.header("proxy-status");
            assert!(told.contains(proxy_status), "{fault}: {told}");
            assert!(!answer.text().contains("html"), "{fault}: {}", answer.text());
        }
        assert_eq!(seen(&mut control).len(), requests, "{fault}");
        control.request("DELETE", "/sandbox/faults", &[], "");
        let answer = ask("rooms.get");
        assert_eq!(answer.status, 200, "all is well again after {fault}: {}", answer.text());
    }
}

#[test]
fn an_upstream_that_closes_is_asked_again_where_that_is_safe() {
    let (sandbox, mut control) = sandbox(&[]);
    let gateway = in_front_of(&sandbox).start();
    let token = [("token", gateway.key.as_str())];
    let mut client = gateway.client();
    let room = client.request("POST", "/v5/rooms", &token, "{}").member("uuid");
    let path = format!("/v5/rooms/{room}");
    assert_eq!(client.request("GET", &path, &token, "").status, 200);
    set(&mut control, &json!({"close": true, "count": 1}));
    // On a connection that was kept nobody knows whether it had ended before.
    let answer = client.request("GET", &path, &token, "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!(line["upstream_attempts"], 2);
}

#[test]
fn what_a_retry_after_says_reaches_the_caller() {
    let (sandbox, mut control) = sandbox(&[]);
    let gateway = in_front_of(&sandbox).start();
    for fault in
        [json!({"status": 429, "retry_after": 7}), json!({"status": 503, "retry_after": 7})]
    {
        set(&mut control, &fault);
        let answer = gateway.call("GET", "/v5/rooms", "");
        assert!(answer.status >= 400);
        assert_eq!(answer.header("retry-after"), "7", "{fault}");
    }
}

#[test]
fn an_answer_that_is_late_but_in_time_is_an_answer() {
    let (sandbox, mut control) = sandbox(&[]);
    let gateway = in_front_of(&sandbox).start();
    set(&mut control, &json!({"latency": "300ms", "count": 1}));
    let begun = Instant::now();
    let answer = gateway.call("POST", "/v5/rooms", "{}");
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let line = gateway.access_line(answer.header("x-request-id"));
    assert!(line["upstream_ms"].as_f64().unwrap() >= 300.0, "{line}");
}

#[test]
fn a_fault_that_hits_so_many_times_is_over_then() {
    let (sandbox, mut control) = sandbox(&[]);
    let gateway = in_front_of(&sandbox).start();
    set(&mut control, &json!({"operations": ["rooms.list"], "status": 500, "count": 2}));
    let statuses: Vec<u16> = (0..3).map(|_| gateway.call("GET", "/v5/rooms", "").status).collect();
    assert_eq!(statuses, [500, 500, 200], "a failure of the service is not hidden by trying again");
    let shown = control.request("GET", "/sandbox/faults", &[], "").json();
    assert_eq!((&shown["hits"], &shown["left"]), (&json!(2), &json!(0)));
}

// Credentials.

/// A gateway whose project has these access keys, the first of them first.
fn with_keys(url: &str, keys: &[&str]) -> Process {
    let entry = |key: &&str| {
        value(&format!("{{ access_key = \"{key}\", secret_key = {{ env = \"CLASSROOM_SK\" }} }}"))
    };
    let entries: Vec<_> = keys.iter().map(entry).collect();
    Setup::new(url).set("projects.classroom.keys", entries).start()
}

fn attempts(gateway: &Process, answer: &Answer) -> u64 {
    let line = gateway.access_line(answer.header("x-request-id"));
    line["upstream_attempts"].as_u64().unwrap()
}

#[test]
fn a_room_of_the_old_key_is_found_and_which_key_that_was_is_remembered() {
    let (sandbox, mut control) = sandbox(&["--strict-keys"]);
    let url = format!("http://{}", sandbox.address);
    let room = with_keys(&url, &["sandbox"]).call("POST", "/v5/rooms", "{}").member("uuid");
    let path = format!("/v5/rooms/{room}");
    // The new key stands first, and the service does not know the room by it.
    let gateway = with_keys(&url, &["new-key", "sandbox"]);
    seen(&mut control);
    let first = gateway.call("GET", &path, "");
    assert_eq!((first.status, attempts(&gateway, &first)), (200, 2), "{}", first.text());
    let arrived = seen(&mut control);
    let keys: Vec<&Value> = arrived.iter().map(|one| &one["token"]["ak"]).collect();
    assert_eq!(keys, ["sandbox", "new-key"], "the newest first");
    // On whichever worker, and for another role.
    for _ in 0..8 {
        assert_eq!(gateway.call("GET", &path, "").status, 200);
    }
    assert_eq!(seen(&mut control).len(), 8, "none of them was tried twice");
    let banned = gateway.call("PATCH", &path, r#"{"isBan":true}"#);
    assert_eq!((banned.status, attempts(&gateway, &banned)), (201, 1));
    let minted = gateway.call(
        "POST",
        &format!("/v5/tokens{}", path.trim_start_matches("/v5")),
        r#"{"lifespan":1000,"role":"reader"}"#,
    );
    let token = minted.json().as_str().unwrap().to_owned();
    let claims = whiteboard_gateway::token::Claims::read(&token).unwrap();
    assert_eq!(claims.access_key(), "sandbox", "what callers get is signed by it as well");
}

#[test]
fn with_two_keys_that_the_service_knows_each_room_keeps_its_own() {
    // Both are good for the project; a Room token must be signed by the one that made the room.
    let secret = || Secret::new("sandbox-secret-key".to_owned());
    let keys = ["old-key", "new-key"].map(|key| (key.to_owned(), secret())).to_vec();
    let settings = sandbox::Settings { strict_keys: true, ..sandbox::Settings::new(keys) };
    let listen = server::Settings {
        bounds: server::Bounds { drain: Duration::from_secs(1), ..server::Bounds::default() },
        ..server::Settings::plain("sandbox", ([127, 0, 0, 1], 0).into(), 1)
    };
    let running = Sandbox::new(settings).start(&listen, listen.open().unwrap()).unwrap();
    let url = format!("http://{}", running.addresses()[0]);
    let old = with_keys(&url, &["old-key"]).call("POST", "/v5/rooms", "{}").member("uuid");
    let gateway = with_keys(&url, &["new-key", "old-key"]);
    let new = gateway.call("POST", "/v5/rooms", "{}");
    assert_eq!((new.status, attempts(&gateway, &new)), (201, 1));
    for (room, tries) in [(old.as_str(), [2, 1]), (new.member("uuid").as_str(), [1, 1])] {
        for expected in tries {
            let answer = gateway.call("GET", &format!("/v5/rooms/{room}"), "");
            assert_eq!((answer.status, attempts(&gateway, &answer)), (200, expected));
        }
    }
    drop(gateway);
    running.drain();
}

#[test]
fn a_project_with_a_console_token_alone_has_the_service_mint() {
    let (sandbox, mut control) = sandbox(&[]);
    let key = KeyPair::new("sandbox".to_owned(), &Secret::new("sandbox-secret-key".to_owned()));
    let now = jiff::Timestamp::now().as_millisecond().try_into().unwrap();
    let role = Role::Admin.digit();
    let console = key.mint(
        TokenFields {
            kind: TokenKind::Sdk,
            role,
            uuid: None,
            lifespan_ms: 3_600_000,
            nonce: "nonce".to_owned(),
        },
        now,
    );
    let mut setup =
        in_front_of(&sandbox).with("[projects.console]\nsdk_token = { file = \"console\" }\n");
    fs::write(setup.folder.path().join("console"), console.token.expose()).unwrap();
    let rights =
        format!("allow = {EVERYTHING}\nrooms = \"any\"\nrole = \"writer\"\nmax_lifespan = \"1h\"");
    let caller = setup.caller("console", &rights);
    let gateway = setup
        .set("profiles.console.project", "console")
        // The key that has signed the token is of one project alone.
        .set("projects.classroom.keys.0.access_key", "elsewhere")
        .start();
    let ask = |method: &str, path: &str, body: &str| {
        gateway.client().request(method, path, &[("token", &caller)], body)
    };
    let room = ask("POST", "/v5/rooms", "{}").member("uuid");
    let path = format!("/v5/tokens/rooms/{room}");

    // A Room token comes from the service, within the caps of the caller.
    seen(&mut control);
    let minted = ask(
        "POST",
        &path,
        r#"{"lifespan":0,"role":"reader","accessKey":"sandbox","secretAccessKey":"x"}"#,
    );
    assert_eq!(minted.status, 201, "{}", minted.text());
    assert_eq!(minted.header("whiteboard-granted"), "role=reader; lifespan=3600000");
    let token = minted.json().as_str().unwrap().to_owned();
    let claims = whiteboard_gateway::token::Claims::read(&token).unwrap();
    assert!(claims.signed_by(&key));
    assert_eq!(
        (claims.kind.as_str(), claims.role_digit(), claims.uuid()),
        ("room", "2", Some(room.as_str()))
    );
    let arrived = seen(&mut control);
    assert_eq!((arrived.len(), &arrived[0]["path"]), (1, &json!(path)));
    assert_eq!(
        (&arrived[0]["token"]["kind"], &arrived[0]["token"]["nonce"]),
        (&json!("sdk"), &json!("nonce"))
    );
    ask("POST", &path, r#"{"lifespan":1,"role":"admin"}"#).assert_envelope(403, "forbidden");

    // An SDK token would take the keys, which nobody here has.
    let refused = ask("POST", "/v5/tokens/teams", r#"{"lifespan":1000,"role":"reader"}"#);
    refused.assert_envelope(403, "forbidden");
    assert!(refused.member("message").contains("fixed SDK token"), "{}", refused.text());
    assert!(seen(&mut control).is_empty());

    // Everything else is done with the console's token.
    assert_eq!(ask("GET", &format!("/v5/rooms/{room}"), "").status, 200);
    let arrived = seen(&mut control);
    assert_eq!(
        (&arrived[0]["token"]["kind"], &arrived[0]["token"]["nonce"]),
        (&json!("sdk"), &json!("nonce"))
    );
}

#[test]
fn a_console_token_whose_time_is_over_is_told_as_ours() {
    let (sandbox, mut control) = sandbox(&[]);
    let key = KeyPair::new("sandbox".to_owned(), &Secret::new("sandbox-secret-key".to_owned()));
    let old = key.mint(
        TokenFields {
            kind: TokenKind::Sdk,
            role: Role::Admin.digit(),
            uuid: None,
            lifespan_ms: 1000,
            nonce: "nonce".to_owned(),
        },
        0,
    );
    let setup = in_front_of(&sandbox)
        .without("projects.classroom.keys")
        .set("projects.classroom.sdk_token.file", "console");
    fs::write(setup.folder.path().join("console"), old.token.expose()).unwrap();
    let gateway = setup.start();
    let answer = gateway.call("GET", "/v5/rooms", "");
    answer.assert_envelope(500, "upstream_credential");
    assert_eq!(seen(&mut control).len(), 1, "there is no other to try");
}

#[test]
fn the_sandbox_takes_every_fault_of_the_page() {
    let (_sandbox, mut control) = sandbox(&[]);
    let faults: Vec<Value> = crate::docs::Page::read("docs/sandbox.md")
        .rows_of("\n## Faults\n")
        .iter()
        .filter_map(|row| serde_json::from_str(&row[0]).ok())
        .collect();
    assert!(faults.len() >= 5, "{faults:?}");
    for fault in faults {
        set(&mut control, &fault);
    }
}

/// The body that the service was seen to write has no `message`, and names its machines.
#[test]
fn a_failure_as_the_service_was_seen_to_write_it_goes_out_as_a_documented_one() {
    let (sandbox, mut control) = sandbox(&[]);
    let gateway = in_front_of(&sandbox).start();
    let get = || gateway.call("GET", "/v5/rooms/unknown", "");
    for (fault, status, title) in [
        (json!({"form": "observed"}), 404, "room not found"),
        (
            json!({"form": "observed", "status": 403, "message": "service not enable"}),
            403,
            "service not enable",
        ),
        (json!({"form": "observed", "status": 500, "message": "it broke"}), 500, "it broke"),
    ] {
        set(&mut control, &fault);
        let direct = [("token", sdk_token()), ("region", "eu".to_owned())];
        let direct = direct.each_ref().map(|(name, value)| (*name, value.as_str()));
        let direct = control.request("GET", "/v5/rooms/unknown", &direct, "");
        let error = &direct.json()["error"];
        assert_eq!((direct.status, &error["title"]), (status, &json!(title)), "{}", direct.text());
        assert_eq!((&error["messages"], &error["region"]), (&json!([]), &json!("eu")));
        assert!(error["requestId"].is_string() && error["traceStack"].is_array());
        assert!(direct.json().get("message").is_none());

        let answer = get();
        assert_eq!((answer.status, answer.member("message")), (status, title.to_owned()));
        assert!(answer.json().get("error").is_none(), "{}", answer.text());
        assert!(!answer.text().contains("shunt-api"), "{}", answer.text());
        let line = gateway.access_line(answer.header("x-request-id"));
        assert_eq!(line["upstream_region"], "us-sv", "{line}");
        assert_eq!(line["upstream_request_id"].as_str().unwrap().len(), 32, "{line}");
    }
    // What succeeds is as it was.
    set(&mut control, &json!({"form": "observed"}));
    assert_eq!(gateway.call("POST", "/v5/rooms", "").status, 201);
}

/// An SDK token of the sandbox's project.
fn sdk_token() -> String {
    let key = KeyPair::new("sandbox".to_owned(), &Secret::new("sandbox-secret-key".to_owned()));
    let minted = key.mint(
        TokenFields {
            kind: TokenKind::Sdk,
            role: Role::Admin.digit(),
            uuid: None,
            lifespan_ms: 0,
            nonce: "n".to_owned(),
        },
        0,
    );
    minted.token.expose().to_owned()
}

#[test]
fn a_conversion_fails_with_the_code_and_text_that_its_resource_names() {
    let (sandbox, _) = sandbox(&["--pace", "1ms"]);
    let gateway = in_front_of(&sandbox).start();
    let page = crate::docs::Page::read("docs/sandbox.md");
    let rows = page.rows_of("\n## Codes of conversions\n");
    assert_eq!(rows.len(), 36, "{rows:?}");
    for row in rows {
        let (code, text) = (&row[0], &row[1]);
        let body = json!({"type": "static", "resource": format!("https://h/fail-{code}.pdf")});
        let task = gateway.call("POST", "/v5/projector/tasks", &body.to_string()).member("uuid");
        let mut got = json!({});
        crate::support::wait_until("it has failed", || {
            got = gateway.call("GET", &format!("/v5/projector/tasks/{task}"), "").json();
            got["status"] == "Fail"
        });
        assert_eq!((&got["errorCode"], &got["errorMessage"]), (&json!(code), &json!(text)));
    }
}

/// A full queue is a limit answer, whichever way the service writes it.
#[test]
fn a_full_queue_is_a_limit_in_both_forms() {
    let (sandbox, mut control) = sandbox(&["--pace", "1h"]);
    let gateway = in_front_of(&sandbox).start();
    let start = || {
        let body = r#"{"type":"static","resource":"https://h/a.pdf"}"#;
        gateway.call("POST", "/v5/projector/tasks", body)
    };
    // As many as a queue takes.
    for _ in 0..100 {
        assert_eq!(start().status, 201);
    }
    // The service's own code passes where it has one.
    for (form, code) in [("documented", "2010203"), ("observed", "rate_limited")] {
        set(&mut control, &json!({"form": form, "retry_after": 7}));
        let refused = start();
        refused.assert_envelope(403, code);
        let line = gateway.access_line(refused.header("x-request-id"));
        assert_eq!(line["code"], "rate_limited", "{line}");
        assert_eq!(refused.header("retry-after"), "7");
        assert_eq!(refused.member("message"), "the number of tasks exceeds limit");
    }
}
