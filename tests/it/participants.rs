//! Callers who show the Room or Task token that the gateway, or their own backend, gave them.

use serde_json::json;
use whiteboard_gateway::api::TokenKind;
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::support::{Answer, EVERYTHING, Process, Setup, Upstream};

/// Under a profile that may do everything, so that it is the token which narrows.
fn gateway(upstream: &Upstream) -> Process {
    let profile = format!(
        "[projects.classroom]\ntoken_profile = \"participant\"\n\
         [profiles.participant]\nproject = \"classroom\"\n\
         allow = {EVERYTHING}\nrooms = \"any\"\nrole = \"writer\"\nmax_lifespan = \"24h\"\n"
    );
    // A family of operations grants whoever is not good for all rooms only what is about a room.
    let allow = "profiles.participant.allow";
    let setup = Setup::new(&upstream.url()).with(&profile);
    setup.push(allow, "tokens.task").push(allow, "conversions.get").start()
}

/// The token that the backend mints for a room or task.
fn minted(gateway: &Process, path: &str, role: &str, lifespan: u64) -> String {
    let body = json!({"role": role, "lifespan": lifespan}).to_string();
    let answer = gateway.call("POST", path, &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn call(gateway: &Process, token: &str, method: &str, path: &str, body: &str) -> Answer {
    gateway.client().request(method, path, &[("token", token)], body)
}

#[test]
fn a_room_token_opens_its_room_and_nothing_else() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = gateway(&upstream);
    let token = minted(&gateway, "/v5/tokens/rooms/r", "writer", 600_000);
    let answer = call(&gateway, &token, "GET", "/v5/rooms/r", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!(line["caller"], "room/r");
    // What goes on is a token of the gateway's own.
    assert_ne!(upstream.received()[0].header("token"), token);
    for path in ["/v5/rooms/other", "/v5/rooms/other/scenes"] {
        call(&gateway, &token, "GET", path, "").assert_envelope(404, "not_found");
    }
    for (method, path, body) in [
        ("GET", "/v5/rooms", ""),
        ("POST", "/v5/rooms", "{}"),
        ("POST", "/v5/tokens/teams", r#"{"accessKey":"sandbox","lifespan":1000,"role":"reader"}"#),
    ] {
        let answer = call(&gateway, &token, method, path, body);
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text());
        answer.assert_envelope(403, "forbidden");
    }
    assert_eq!(upstream.received().len(), 1);
    assert!(!gateway.stdout().contains("NETLESS") && !gateway.stderr().contains(&token));
}

#[test]
fn a_reader_stays_a_reader() {
    let gateway = gateway(&Upstream::json("200 OK", "{}"));
    let token = minted(&gateway, "/v5/tokens/rooms/r", "reader", 600_000);
    let ban = call(&gateway, &token, "PATCH", "/v5/rooms/r", r#"{"isBan":true}"#);
    ban.assert_envelope(403, "forbidden");
    // An admin's token is still within the profile, which is a writer's.
    let admin = minted(&gateway, "/v5/tokens/rooms/r", "admin", 600_000);
    let ban = call(&gateway, &admin, "PATCH", "/v5/rooms/r", r#"{"isBan":true}"#);
    ban.assert_envelope(403, "forbidden");
    assert_eq!(call(&gateway, &admin, "GET", "/v5/rooms/r", "").status, 200);
}

/// As in the API's own matrix; else it would be a way to a longer life, and to as many limits of
/// its own as it likes.
#[test]
fn a_whiteboard_token_mints_no_others() {
    let gateway = gateway(&Upstream::json("200 OK", "{}"));
    let room = minted(&gateway, "/v5/tokens/rooms/r", "writer", 600_000);
    let task = minted(&gateway, "/v5/tokens/tasks/t", "writer", 600_000);
    let body = json!({"role": "reader", "lifespan": 1000}).to_string();
    for (token, path) in [
        (&room, "/v5/tokens/rooms/r"),
        (&room, "/v5/tokens/rooms/other"),
        (&room, "/v5/tokens/tasks/r"),
        (&task, "/v5/tokens/tasks/t"),
        (&task, "/v5/tokens/rooms/t"),
    ] {
        call(&gateway, token, "POST", path, &body).assert_envelope(403, "forbidden");
    }
}

#[test]
fn a_task_token_opens_its_task() {
    let gateway = gateway(&Upstream::json("200 OK", "{}"));
    let token = minted(&gateway, "/v5/tokens/tasks/t", "reader", 600_000);
    let get = |path: &str| call(&gateway, &token, "GET", path, "");
    assert_eq!(get("/v5/projector/tasks/t").status, 200);
    get("/v5/projector/tasks/other").assert_envelope(404, "not_found");
    get("/v5/rooms/t").assert_envelope(404, "not_found");
}

#[test]
fn only_tokens_that_our_keys_have_signed_and_that_are_not_over_are_taken() {
    let gateway = gateway(&Upstream::json("200 OK", "{}"));
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let mint = |access: &str, secret: &str, kind, uuid, at| {
        let key = KeyPair::new(access.to_owned(), &Secret::new(secret.to_owned()));
        let minted = key.mint(
            TokenFields { kind, role: "1", uuid, lifespan_ms: 60_000, nonce: "nonce".to_owned() },
            at,
        );
        minted.token.expose().to_owned()
    };
    let secret = "sandbox-secret-key";
    let room = Some("r");
    let good = mint("sandbox", secret, TokenKind::Room, room, now);
    assert_eq!(call(&gateway, &good, "GET", "/v5/rooms/r", "").status, 200);
    let over = mint("sandbox", secret, TokenKind::Room, room, now - 120_000);
    call(&gateway, &over, "GET", "/v5/rooms/r", "").assert_envelope(401, "expired_token");
    let sdk = mint("sandbox", secret, TokenKind::Sdk, None, now);
    for (token, what) in [
        (mint("sandbox", "another", TokenKind::Room, room, now), "signed by another"),
        (mint("stranger", secret, TokenKind::Room, room, now), "of another access key"),
        (mint("sandbox", "another", TokenKind::Room, room, now - 120_000), "forged and over"),
        (mint("sandbox", secret, TokenKind::Room, None, now), "for no room"),
        (mint("sandbox", secret, TokenKind::Room, Some("../r"), now), "for a path"),
        (good.replace("NETLESSROOM_", "NETLESSSDK_"), "renamed an SDK token"),
        (sdk.replace("NETLESSSDK_", "NETLESSROOM_"), "an SDK token renamed"),
        (good[..good.len() - 2].to_owned(), "truncated"),
        ("NETLESSROOM_".to_owned(), "empty"),
    ] {
        let answer = call(&gateway, &token, "GET", "/v5/rooms/r", "");
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        answer.assert_envelope(401, "invalid_token");
    }
    let answer = call(&gateway, &sdk, "GET", "/v5/rooms/r", "");
    answer.assert_envelope(401, "invalid_token");
    assert!(answer.member("message").contains("an SDK token is no credential here"));
}

#[test]
fn without_a_profile_for_them_whiteboard_tokens_are_no_credential() {
    let gateway = Setup::new(&Upstream::json("200 OK", "{}").url()).start();
    let token = minted(&gateway, "/v5/tokens/rooms/r", "writer", 600_000);
    let answer = call(&gateway, &token, "GET", "/v5/rooms/r", "");
    answer.assert_envelope(401, "invalid_token");
}
