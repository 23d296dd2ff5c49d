//! The sandbox as its users meet it: over real sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::api::{Role, TABLE, TokenKind};
use crate::clock::now_ms;
use crate::server;
use crate::token::{KeyPair, TokenFields};
use serde_json::Value;

/// A sandbox that runs until the test ends.
struct Served {
    address: SocketAddr,
    running: Option<server::Running>,
}

/// An answer, read until the connection was closed.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    fn message(&self) -> (u16, String) {
        (self.status, self.json()["message"].as_str().unwrap().to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.drain();
        }
    }
}

fn settings(pace: Duration) -> Settings {
    let key = |ak: &str, sk: &str| (ak.to_owned(), Secret::new(sk.to_owned()));
    Settings { pace, ..Settings::new(vec![key("AK1", "SK1"), key("AK2", "SK2")]) }
}

fn listening() -> server::Settings {
    server::Settings::plain("sandbox", ([127, 0, 0, 1], 0).into(), 2)
}

fn serve(settings: Settings) -> Served {
    let running = Sandbox::new(settings).start(&listening(), listening().open().unwrap()).unwrap();
    Served { address: running.addresses()[0], running: Some(running) }
}

fn token_of(number: u8, kind: TokenKind, role: Role, uuid: Option<&str>) -> String {
    let pair = KeyPair::new(format!("AK{number}"), &Secret::new(format!("SK{number}")));
    let minted = pair.mint(
        TokenFields { kind, role: role.digit(), uuid, lifespan_ms: 60_000, nonce: "n".to_owned() },
        now_ms(),
    );
    minted.token.expose().to_owned()
}

fn sdk() -> String {
    token_of(1, TokenKind::Sdk, Role::Admin, None)
}

impl Served {
    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = body.len();
        request.push_str(&format!("content-length: {length}\r\nconnection: close\r\n\r\n{body}"));
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        let mut raw = Vec::new();
        // A connection that is closed early is what some tests ask for.
        _ = socket.read_to_end(&mut raw);
        let raw = String::from_utf8_lossy(&raw).into_owned();
        let (head, body) = raw.split_once("\r\n\r\n").unwrap_or_default();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let (head, body) = (head.to_owned(), body.to_owned());
        Answer { status: status.unwrap_or_default(), head, body }
    }

    fn call(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, &[("token", token), ("region", "us-sv")], body)
    }

    fn control(&self, method: &str, path: &str, body: &str) -> Answer {
        self.send(method, path, &[], body)
    }

    fn room(&self) -> String {
        let room = self.call(&sdk(), "POST", "/v5/rooms", "");
        assert_eq!(room.status, 201, "{room:?}");
        room.json()["uuid"].as_str().unwrap().to_owned()
    }

    fn conversion(&self, body: &Value) -> String {
        let started = self.call(&sdk(), "POST", "/v5/projector/tasks", &body.to_string());
        assert_eq!(started.status, 201, "{started:?}");
        started.json()["uuid"].as_str().unwrap().to_owned()
    }
}

#[test]
fn a_lesson_goes_from_a_room_to_a_converted_file() {
    let sandbox = serve(settings(Duration::from_millis(100)));
    let uuid = sandbox.room();
    let room = format!("/v5/rooms/{uuid}");
    let writer = token_of(1, TokenKind::Room, Role::Writer, Some(&uuid));
    assert_eq!(sandbox.call(&writer, "GET", &room, "").json()["isBan"], false);
    let listed = sandbox.call(&sdk(), "GET", &format!("/v5/rooms/?beginUUID={uuid}&limit=1"), "");
    assert_eq!((listed.status, &listed.json()[0]["uuid"]), (200, &json!(uuid)));

    let scenes = r#"{"path":"/math","scenes":[{"name":"1"},{"name":"2"}]}"#;
    let added = sandbox.call(&writer, "POST", &format!("{room}/scenes"), scenes);
    assert_eq!((added.status, added.json()), (201, json!({})));
    let state = format!("{room}/scene-state");
    let switched = sandbox.call(&writer, "PATCH", &state, r#"{"scenePath":"/math/2"}"#);
    assert_eq!(
        (switched.status, switched.json()["currentScenePath"].clone()),
        (201, json!(["math", "2"]))
    );
    let scenes = sandbox.call(&writer, "GET", &format!("{room}/scenes?sceneDir=%2Fmath"), "");
    assert_eq!(scenes.json(), json!(["/math/1", "/math/2"]));

    let size = r#"{"width":10,"height":10}"#;
    let picture = sandbox.call(&writer, "POST", &format!("{room}/screenshots"), size);
    assert_eq!(picture.status, 201);
    let url = picture.json()["url"].as_str().unwrap().to_owned();
    let file = url.strip_prefix(&format!("http://{}", sandbox.address)).unwrap();
    assert!(sandbox.control("GET", file, "").head.contains("image/png"));
    let pictures = sandbox.call(&writer, "POST", &format!("{room}/screenshot-list"), size);
    assert_eq!(pictures.json().as_array().unwrap().len(), 2, "the current directory");

    let task = sandbox.conversion(&json!({"resource": "https://h/a.pdf", "type": "static"}));
    let path = format!("/v5/projector/tasks/{task}");
    let reader = token_of(1, TokenKind::Task, Role::Reader, Some(&task));
    let mut seen = Vec::new();
    let finished = loop {
        let view = sandbox.call(&reader, "GET", &path, "").json();
        let status = view["status"].as_str().unwrap().to_owned();
        if seen.last() != Some(&status) {
            seen.push(status);
        }
        if view["status"] == "Finished" {
            break view;
        }
    };
    // A busy machine may miss a step, but never sees one out of turn.
    let steps = ["Waiting", "Converting", "Finished"];
    assert!(seen.iter().is_sorted_by_key(|one| steps.iter().position(|step| step == one)));
    assert_eq!(finished["convertedPercentage"], 100);

    let banned = sandbox.call(&sdk(), "PATCH", &room, r#"{"isBan":true}"#);
    assert_eq!((banned.status, banned.json()["isBan"].clone()), (201, json!(true)));
}

#[test]
fn every_operation_of_the_table_is_served() {
    let sandbox = serve(settings(Duration::from_secs(60)));
    let room = sandbox.room();
    let mut done = Vec::new();
    for row in TABLE.iter() {
        let body = match row.name.as_ref() {
            "tokens.sdk" => {
                r#"{"accessKey":"AK2","secretAccessKey":"SK2","lifespan":1,"role":"reader"}"#
            }
            "tokens.room" | "tokens.task" => r#"{"lifespan":600,"role":"reader"}"#,
            "rooms.update" => r#"{"isBan":false}"#,
            "screenshots.scene" | "screenshots.directory" => r#"{"width":1,"height":1}"#,
            "scenes.add" => r#"{"path":"/","scenes":[]}"#,
            "scenes.switch" => r#"{"scenePath":"/init"}"#,
            "conversions.start" | "legacy_conversions.start" => {
                r#"{"resource":"https://h/a.pptx","type":"dynamic"}"#
            }
            "conversions.prioritize" => r#"{"priority":"lowest"}"#,
            _ => "",
        };
        let task = match row.name.as_ref() {
            "legacy_conversions.get" => {
                let start = r#"{"resource":"a","type":"dynamic"}"#;
                let started = sandbox.call(&sdk(), "POST", "/v5/services/conversion/tasks", start);
                started.json()["uuid"].as_str().unwrap().to_owned()
            }
            name if name.starts_with("conversions.") => {
                sandbox.conversion(&json!({"resource": "a", "type": "dynamic"}))
            }
            _ => room.clone(),
        };
        let mut path = row.path.replace("{uuid}", &task);
        if row.name == "legacy_conversions.get" {
            path.push_str("?type=dynamic");
        }
        let answer = sandbox.call(&sdk(), row.method.as_str(), &path, body);
        assert_eq!(answer.status, row.success.as_u16(), "{}: {answer:?}", row.name);
        done.push(answer);
    }
    let minted: Value = done[1].json();
    assert!(minted.as_str().unwrap().starts_with("NETLESSROOM_"), "a bare JSON string");
    assert_eq!(done[18].json()["progress"]["currentStep"], "Extracting");
}

#[test]
fn what_is_wrong_is_told_as_the_service_does() {
    let sandbox = serve(settings(Duration::ZERO));
    let room = sandbox.room();
    let path = format!("/v5/rooms/{room}");
    let (admin, sg) = (sdk(), [("token", sdk()), ("region", "sg".to_owned())]);
    let sg = sg.each_ref().map(|(name, value)| (*name, value.as_str()));
    let with = |headers: &[(&str, &str)]| sandbox.send("GET", &path, headers, "").message();
    assert_eq!(with(&[("region", "us-sv")]), (401, "invalid format of token".to_owned()));
    assert_eq!(with(&[("token", &admin)]), (400, "the header `region` is required".to_owned()));
    let twice = [("token", admin.as_str()), ("region", "us-sv"), ("region", "sg")];
    assert_eq!(with(&twice), (400, "the header `region` stands twice".to_owned()));
    assert!(with(&[("token", &admin), ("region", "mars")]).1.starts_with("unknown region"));
    assert_eq!(with(&sg), (404, "room not found".to_owned()), "a room lives in its region");
    let call = |method, path: &str, body| sandbox.call(&admin, method, path, body);
    assert_eq!(call("GET", "/v5/rooms/none", "").message().0, 404);
    assert_eq!(call("PATCH", &path, r#"{"isBan":1}"#).message().0, 400);
    assert_eq!(call("GET", "/v5/projector/tasks/none", "").json()["code"], "2010605");
    assert_eq!(call("GET", "/v5/nothing", "").status, 404);
    assert_eq!(call("GET", "/nothing", "").status, 404);
    let message = sandbox.call(&admin, "POST", "/v5/rooms", &" ".repeat(1024 * 1024 + 1)).message();
    assert!(message.0 == 400 && message.1.contains("over 1048576 bytes"), "{message:?}");
    let refused = call("GET", "/v5/nothing", "").json();
    assert_eq!(refused.as_object().unwrap().len(), 1, "not the gateway's envelope");
}

#[test]
fn a_malformed_request_is_told_with_a_message_alone() {
    let sandbox = serve(settings(Duration::ZERO));
    let answer = sandbox.send("GET", "/v5/rooms", &[("transfer-encoding", "gzip")], "");
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json().as_object().unwrap().len(), 1, "{answer:?}");
    assert!(!answer.head.contains("proxy-status"));
}

#[test]
fn a_token_is_minted_for_whoever_has_the_keys_or_a_role_as_high() {
    let sandbox = serve(settings(Duration::ZERO));
    let teams = |body: &str| sandbox.send("POST", "/v5/tokens/teams", &[("region", "us-sv")], body);
    let sdk = |secret: &str| {
        let body = json!({
            "accessKey": "AK1", "secretAccessKey": secret, "lifespan": 60_000, "role": "writer",
        });
        teams(&body.to_string())
    };
    assert_eq!(sdk("wrong").status, 401);
    assert!(teams(r#"{"lifespan":1,"role":"admin"}"#).message().1.contains("`accessKey`"));
    let writer = sdk("SK1").json().as_str().unwrap().to_owned();
    let mint = |role: &str, ak: &str| {
        let body = json!({"lifespan": 60_000, "role": role, "ak": ak}).to_string();
        sandbox.call(&writer, "POST", "/v5/tokens/rooms/r1", &body)
    };
    let forbidden = (403, "token access role tokens.room forbidden".to_owned());
    assert_eq!(mint("admin", "AK1").message(), forbidden);
    assert_eq!(mint("reader", "AK9").status, 400);
    let room = mint("reader", "AK2");
    let claims = crate::token::Claims::read(room.json().as_str().unwrap()).unwrap();
    assert_eq!((claims.kind, claims.role()), (TokenKind::Room, Some(Role::Reader)));
    assert_eq!((claims.access_key(), claims.uuid()), ("AK2", Some("r1")));
}

#[test]
fn with_strict_keys_a_room_token_is_signed_by_the_key_that_created_the_room() {
    for strict_keys in [false, true] {
        let sandbox = serve(Settings { strict_keys, ..settings(Duration::ZERO) });
        let uuid = sandbox.room();
        let get = |number| {
            let token = token_of(number, TokenKind::Room, Role::Writer, Some(&uuid));
            sandbox.call(&token, "GET", &format!("/v5/rooms/{uuid}"), "")
        };
        assert_eq!(get(1).status, 200);
        let other = get(2);
        assert_eq!(other.status, if strict_keys { 401 } else { 200 });
        if strict_keys {
            assert_eq!(other.message().1, "invalid signature of token");
        }
        let sdk = token_of(2, TokenKind::Sdk, Role::Writer, None);
        assert_eq!(sandbox.call(&sdk, "GET", &format!("/v5/rooms/{uuid}"), "").status, 200);
    }
}

#[test]
fn each_fault_goes_wrong_as_it_says() {
    let sandbox = serve(settings(Duration::ZERO));
    let path = format!("/v5/rooms/{}", sandbox.room());
    let hit = |fault: &str| {
        let set = sandbox.control("PUT", "/sandbox/faults", fault);
        assert_eq!(set.status, 200, "{fault}: {set:?}");
        sandbox.call(&sdk(), "GET", &path, "")
    };
    let answer = hit(r#"{"status":429,"retry_after":3}"#);
    assert!(answer.status == 429 && answer.head.contains("retry-after: 3"), "{answer:?}");
    let answer = hit(r#"{"status":502,"body":"html"}"#);
    assert!(answer.status == 502 && answer.body.starts_with("<html>"), "{answer:?}");
    let answer = hit(r#"{"body":"empty"}"#);
    assert!(answer.status == 200 && answer.body.is_empty(), "{answer:?}");
    let answer = hit(r#"{"token_error":true}"#);
    assert_eq!(answer.message(), (401, "invalid signature of token".to_owned()));
    let answer = hit(r#"{"redirect":"http://elsewhere.invalid/"}"#);
    assert!(answer.status == 307 && answer.head.contains("elsewhere.invalid"), "{answer:?}");
    let answer = hit(r#"{"body":"truncated"}"#);
    let promised = answer.head.lines().find_map(|line| line.strip_prefix("content-length: "));
    assert!(answer.status == 200 && !answer.body.is_empty(), "{answer:?}");
    assert!(promised.unwrap().parse::<usize>().unwrap() > answer.body.len(), "{answer:?}");
    let answer = hit(r#"{"close":true}"#);
    assert!(answer.head.is_empty() && answer.body.is_empty(), "{answer:?}");
    let begun = std::time::Instant::now();
    assert_eq!(hit(r#"{"latency":"50ms"}"#).status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(sandbox.control("GET", "/sandbox/faults", "").json()["hits"], 1);
    assert_eq!(sandbox.control("DELETE", "/sandbox/faults", "").json(), json!({"fault": null}));
    assert_eq!(sandbox.call(&sdk(), "GET", &path, "").status, 200);
    assert_eq!(sandbox.control("PUT", "/sandbox/faults", r#"{"stat":500}"#).status, 400);
    assert_eq!(sandbox.control("POST", "/sandbox/faults", "{}").status, 400);
}

#[test]
fn what_arrived_can_be_read_without_its_token() {
    let sandbox = serve(settings(Duration::ZERO));
    let uuid = sandbox.room();
    let token = token_of(2, TokenKind::Room, Role::Reader, Some(&uuid));
    sandbox.call(&token, "GET", &format!("/v5/rooms/{uuid}?a=b"), "");
    let requests = sandbox.control("GET", "/sandbox/requests", "");
    assert!(!requests.body.contains(&token));
    let last = &requests.json()[0];
    assert_eq!((&last["query"], &last["region"]), (&json!("a=b"), &json!("us-sv")));
    let seen = &last["token"];
    assert_eq!((&seen["kind"], &seen["role"]), (&json!("room"), &json!("reader")));
    assert_eq!((&seen["uuid"], &seen["verified"]), (&json!(uuid), &json!(true)));
    assert_eq!(requests.json()[1]["token"]["kind"], "sdk");
    assert_eq!(sandbox.control("DELETE", "/sandbox/requests", "").json(), json!([]));
    assert!(sandbox.control("GET", "/", "").json()["control"].is_object());
    assert_eq!(sandbox.control("GET", "/sandbox/requests", "").json(), json!([]));
}

#[test]
fn a_browser_may_call_it_from_anywhere() {
    let sandbox = serve(settings(Duration::ZERO));
    let preflight = [("origin", "http://app"), ("access-control-request-method", "PATCH")];
    let answer = sandbox.send("OPTIONS", "/v5/rooms/a", &preflight, "");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type, region, token"), "{answer:?}");
    let refused = sandbox.send("GET", "/v5/rooms/a", &[], "");
    assert!(refused.head.contains("access-control-allow-origin: *"), "{refused:?}");
    assert!(!sandbox.control("GET", "/", "").head.contains("access-control"));
}

#[test]
fn a_webhook_is_called_when_a_conversion_ends() {
    let sandbox = serve(settings(Duration::from_millis(20)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/hook", listener.local_addr().unwrap());
    let resource = "https://h/fail.pptx";
    let body = json!({"resource": resource, "type": "dynamic", "webhookEndpoint": endpoint});
    let task = sandbox.conversion(&body);
    let (mut socket, _) = listener.accept().unwrap();
    let mut got = String::new();
    let mut piece = [0; 1024];
    while !got.ends_with("}}") {
        let count = socket.read(&mut piece).unwrap();
        got.push_str(std::str::from_utf8(&piece[..count]).unwrap());
    }
    let notice: Value = serde_json::from_str(got.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&notice["code"], &notice["data"]["taskId"]), (&json!(2_050_101), &json!(task)));
}

mod encrypted {
    use super::*;
    use bytes::Bytes;
    use http::{Request, Version};
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};

    #[tokio::test]
    async fn it_speaks_http_2_under_tls() {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
        std::fs::write(&certificate, certified.cert.pem()).unwrap();
        std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        let mut listening = listening();
        listening.listeners[0].tls = Some(server::TlsSettings::of(certificate, key));
        let listeners = listening.open().unwrap();
        let running = Sandbox::new(settings(Duration::ZERO)).start(&listening, listeners).unwrap();
        let address = running.addresses()[0];
        let served = Served { address, running: Some(running) };

        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, socket).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        let driving = tokio::spawn(connection);
        let get = |path: &str| {
            let uri = format!("https://localhost:{}{path}", address.port());
            Request::get(uri).body(Full::<Bytes>::default()).unwrap()
        };
        let answer = sender.send_request(get("/v5/rooms")).await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_2, 401));
        let requests = sender.send_request(get("/sandbox/requests")).await.unwrap();
        let requests = requests.into_body().collect().await.unwrap().to_bytes();
        let requests: Value = serde_json::from_slice(&requests).unwrap();
        let last = &requests[0];
        assert_eq!((&last["protocol"], &last["tls"]), (&json!("HTTP/2"), &json!(true)));

        for fault in [r#"{"body":"truncated"}"#, r#"{"close":true}"#] {
            let uri = format!("https://localhost:{}/sandbox/faults", address.port());
            let put = Request::put(uri).body(Full::from(fault)).unwrap();
            assert_eq!(sender.send_request(put).await.unwrap().status().as_u16(), 200);
            let broken = match sender.send_request(get("/v5/rooms")).await {
                Ok(answer) => answer.into_body().collect().await.is_err(),
                Err(_) => true,
            };
            assert!(broken, "{fault}: the stream is reset");
        }
        drop(sender);
        _ = driving.await;
        // The sandbox waits for its connections to close, which this thread's tasks do.
        tokio::task::spawn_blocking(move || drop(served)).await.unwrap();
    }
}
