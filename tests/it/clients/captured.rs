//! The calls that real clients send, with the base URL changed and the gateway's key where their
//! token was: what they read from the answers must be there.

use serde_json::Value;

use crate::support::{Answer, Client, Process};

fn call(
    gateway: &Process,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut all = vec![("token", gateway.key.as_str())];
    all.extend_from_slice(headers);
    gateway.client().request(method, path, &all, body)
}

/// What axios sends.
const AXIOS: &[(&str, &str)] = &[
    ("accept", "application/json, text/plain, */*"),
    ("user-agent", "axios/0.21.2"),
    ("content-type", "application/json"),
    ("region", "cn-hz"),
    ("connection", "keep-alive"),
];

#[test]
fn a_node_backend_of_netless_finds_what_it_reads() {
    let gateway = Process::sandbox();
    let room = call(&gateway, "POST", "/v5/rooms", AXIOS, r#"{"isRecord":true,"limit":0}"#);
    assert_eq!(room.status, 201, "{}", room.text());
    let uuid = room.member("uuid");
    let banned = call(&gateway, "PATCH", &format!("/v5/rooms/{uuid}"), AXIOS, r#"{"isBan":true}"#);
    assert_eq!(banned.status, 201);
    for member in ["uuid", "teamUUID", "isRecord", "isBan", "limit", "createdAt"] {
        assert!(!banned.json()[member].is_null(), "{member} in {}", banned.text());
    }
    for body in [
        r#"{"resource":"https://a/b.pptx","type":"dynamic","scale":1.2,"preview":true,"imageCompressionLevel":1}"#,
        r#"{"resource":"https://a/b.pdf","type":"static","scale":2.4,"preview":true}"#,
    ] {
        let task = call(&gateway, "POST", "/v5/projector/tasks", AXIOS, body);
        assert_eq!(task.status, 201, "{}", task.text());
        let path = format!("/v5/projector/tasks/{}", task.member("uuid"));
        // No Content-Type on a GET.
        let got = call(&gateway, "GET", &path, &[("region", "cn-hz")], "");
        assert_eq!(got.status, 200, "{}", got.text());
        let status = got.member("status");
        assert!(["Waiting", "Converting", "Finished"].contains(&status.as_str()), "{status}");
    }
    let legacy = r#"{"resource":"https://a/b.pdf","type":"static","pack":true,"canvasVersion":false,"scale":2.4}"#;
    let task = call(&gateway, "POST", "/v5/services/conversion/tasks", AXIOS, legacy);
    let path = format!("/v5/services/conversion/tasks/{}?type=static", task.member("uuid"));
    let got = call(&gateway, "GET", &path, AXIOS, "");
    assert_eq!(got.status, 200, "{}", got.text());
    assert!(got.json()["progress"].is_object(), "{}", got.text());
}

#[test]
fn its_malformed_calls_get_a_clean_400_and_never_reach_the_service() {
    let gateway = Process::sandbox();
    let mut sandbox = Client::connect(gateway.sandbox_address());
    let json = ("content-type", "application/json");
    for (method, path, headers, body) in [
        (
            "PATCH",
            "/v5/rooms/undefined",
            vec![json, ("region", "us-sv"), ("region", "a1b2")],
            r#"{"isBan":true}"#,
        ),
        (
            "POST",
            "/v5/services/conversion/tasks",
            vec![json],
            r#"[{"resource":"https://a/b.pdf","type":"static"}]"#,
        ),
        (
            "POST",
            "/v5/projector/tasks",
            vec![json],
            r#"{"0":{"resource":"https://a/b"},"preview":true,"pack":false}"#,
        ),
        (
            "POST",
            "/v5/projector/tasks",
            vec![json],
            r#"{"resource":"https://a/b","preview":true,"pack":false}"#,
        ),
        ("GET", "/v5/services/conversion/tasks/abc,static?type=undefined", vec![], ""),
    ] {
        let answer = call(&gateway, method, path, &headers, body);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(!answer.member("message").is_empty());
    }
    let seen = sandbox.request("GET", "/sandbox/requests", &[], "");
    assert_eq!(seen.json(), Value::Array(Vec::new()));
}

#[test]
fn a_browser_demo_finds_json_in_every_success() {
    let gateway = Process::sandbox();
    let headers =
        [("content-type", "application/json"), ("accept", "application/json"), ("region", "us-sv")];
    let room = call(&gateway, "POST", "/v5/rooms", &headers, "").member("uuid");
    let shot = r#"{"path":"/init","width":144,"height":104}"#;
    let answer = call(&gateway, "POST", &format!("/v5/rooms/{room}/screenshots"), &headers, shot);
    assert!(answer.member("url").starts_with("http"), "{}", answer.text());
    let body = r#"{"type":"dynamic","preview":true,"scale":2,"resource":"https://a/b.pptx"}"#;
    let task = call(&gateway, "POST", "/v5/projector/tasks", &headers, body).member("uuid");
    let path = format!("/v5/projector/tasks/{task}?uuid={task}");
    let answer = call(&gateway, "GET", &path, &headers, "");
    assert!(answer.json()["status"].is_string(), "{}", answer.text());
    let path = format!("/v5/tokens/tasks/{task}");
    let answer = call(&gateway, "POST", &path, &headers, r#"{"lifespan":0,"role":"admin"}"#);
    assert!(answer.json().as_str().unwrap().starts_with("NETLESSTASK_"));
    // What fails is read as JSON, and the text is looked for in `error`, `errorMessage`, `message`.
    let answer = call(&gateway, "GET", "/v5/projector/tasks/none", &headers, "");
    assert_eq!(answer.status, 404);
    assert!(answer.json()["error"].is_null() && answer.json()["message"].is_string());
}

#[test]
fn the_web_sdk_finds_the_title_of_a_failed_poll() {
    let gateway = Process::sandbox();
    let path = "/v5/services/conversion/tasks/none?type=static";
    let answer = call(&gateway, "GET", path, &[("region", "us-sv")], "");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["title"], answer.json()["message"]);
    // Also where nobody is known yet: most of its failures are tokens that have expired.
    let answer = gateway.client().request("GET", path, &[("token", "NETLESSTASK_old")], "");
    answer.assert_envelope(401, "invalid_token");
    assert_eq!(answer.json()["error"]["title"], answer.json()["message"]);
    // Also where the gateway refuses.
    let path = "/v5/services/conversion/tasks/none";
    let answer = call(&gateway, "GET", path, &[], "");
    answer.assert_envelope(400, "malformed_request");
    assert!(answer.json()["error"]["title"].is_string());
}

#[test]
fn the_mobile_sdks_get_exactly_201_and_a_json_string() {
    let gateway = Process::sandbox();
    let android =
        [("content-type", "application/json; charset=utf-8"), ("accept-encoding", "gzip")];
    let room = call(&gateway, "POST", "/v5/rooms", &android, r#"{"limit":0,"isRecord":true}"#);
    assert_eq!(room.status, 201);
    let path = format!("/v5/tokens/rooms/{}", room.member("uuid"));
    let token = call(&gateway, "POST", &path, &android, r#"{"lifespan":0,"role":"admin"}"#);
    assert_eq!((token.status, token.header("content-type")), (201, "application/json"));
    assert!(token.json().as_str().unwrap().starts_with("NETLESSROOM_"));
    let body = r#"{"resource":"https://a/b.pdf","type":"static","preview":false,"scale":1.2,"outputFormat":"png","pack":false}"#;
    let task = call(&gateway, "POST", "/v5/services/conversion/tasks", &android, body);
    assert_eq!(task.member("type"), "static", "{}", task.text());
    // iOS: no region, no Accept.
    let body = r#"{"name":"a","limit":110,"isRecord":true}"#;
    let room = call(&gateway, "POST", "/v5/rooms", &[], body);
    assert_eq!(room.status, 201);
    let path = format!("/v5/tokens/rooms/{}", room.member("uuid"));
    assert_eq!(
        call(&gateway, "POST", &path, &[], r#"{"lifespan":600000,"role":"reader"}"#).status,
        201
    );
}

#[test]
fn small_web_apps_create_rooms_without_a_body() {
    let gateway = Process::sandbox();
    for headers in [vec![("content-type", "application/json")], vec![]] {
        assert_eq!(call(&gateway, "POST", "/v5/rooms", &headers, "").status, 201);
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(call(&gateway, "POST", "/v5/rooms", &form, r#"{"isRecord":false}"#).status, 201);
    let answer = call(&gateway, "GET", "/v5/rooms/?beginUUID=0&limit=2&page=7", &[], "");
    assert_eq!((answer.status, answer.json().as_array().unwrap().len()), (200, 2));
}

#[test]
fn a_client_that_sends_the_keys_of_the_project_is_told_what_to_send() {
    let gateway = Process::sandbox();
    let body = r#"{"accessKey":"sandbox","secretAccessKey":"sandbox-secret-key","lifespan":1,"role":"admin"}"#;
    let answer = gateway.client().request("POST", "/v5/tokens/teams", &[], body);
    answer.assert_envelope(401, "unauthenticated");
    let message = answer.member("message");
    assert!(message.contains("key of this gateway"), "{message}");
    assert!(message.contains("leave the access and secret keys of the project out"), "{message}");
}

#[test]
fn a_success_of_the_service_passes_unknown_fields() {
    let gateway = Process::sandbox();
    let answer = call(&gateway, "POST", "/v5/rooms", &[], r#"{"name":"x","colour":"red"}"#);
    assert_eq!(answer.status, 201);
    assert_eq!(answer.member("name"), "x");
    assert!(answer.json()["appUUID"].is_string());
}
