//! Callers who show the Room or Task token that the gateway, or their own backend, gave them.

use serde_json::json;
use whiteboard_gateway::api::TokenKind;
use whiteboard_gateway::token::{Claims, KeyPair, Secret};

use crate::support::{Answer, EVERYTHING, Process, Setup, Upstream};

/// Under a profile that may do everything, so that it is the token which narrows.
fn gateway(upstream: &Upstream) -> Process {
    // A family of operations grants whoever is not good for all rooms only what is about a room.
    let allow = EVERYTHING.replace('[', "[\"tokens.task\", ");
    let profile = format!(
        "token_profile = \"participant\"\n[profiles.participant]\nproject = \"classroom\"\n\
         allow = {allow}\nrooms = \"any\"\nrole = \"writer\"\nmax_lifespan = \"24h\"\n\
         [profiles.backend]\n"
    );
    Setup::new(&upstream.url()).replacing("[profiles.backend]\n", &profile).start()
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
    let other = json!({"role": "reader", "lifespan": 1000}).to_string();
    call(&gateway, &token, "POST", "/v5/tokens/rooms/other", &other)
        .assert_envelope(404, "not_found");
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
    let ask = |role: &str| {
        let body = json!({"role": role, "lifespan": 1000}).to_string();
        call(&gateway, &token, "POST", "/v5/tokens/rooms/r", &body)
    };
    for role in ["writer", "admin"] {
        ask(role).assert_envelope(403, "forbidden");
    }
    assert_eq!(ask("reader").status, 201);
    // An admin's token is still within the profile, which is a writer's.
    let admin = minted(&gateway, "/v5/tokens/rooms/r", "admin", 600_000);
    let body = json!({"role": "admin", "lifespan": 1000}).to_string();
    let answer = call(&gateway, &admin, "POST", "/v5/tokens/rooms/r", &body);
    answer.assert_envelope(403, "forbidden");
}

#[test]
fn what_a_token_gets_lives_no_longer_than_it_does() {
    let gateway = gateway(&Upstream::json("200 OK", "{}"));
    let token = minted(&gateway, "/v5/tokens/rooms/r", "writer", 600_000);
    let end =
        |token: &str| Claims::read(token).unwrap().expire_at().unwrap().parse::<u64>().unwrap();
    for lifespan in [0, 3_600_000] {
        let body = json!({"role": "reader", "lifespan": lifespan}).to_string();
        let answer = call(&gateway, &token, "POST", "/v5/tokens/rooms/r", &body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert!(answer.header("whiteboard-granted").starts_with("role=reader; lifespan="));
        let next: String = serde_json::from_slice(&answer.body).unwrap();
        assert!(end(&next) <= end(&token), "{} {}", end(&next), end(&token));
    }
}

#[test]
fn a_task_token_opens_its_task() {
    let gateway = gateway(&Upstream::json("200 OK", "{}"));
    let token = minted(&gateway, "/v5/tokens/tasks/t", "reader", 600_000);
    let ask = |path: &str| {
        let body = json!({"role": "reader", "lifespan": 1000}).to_string();
        call(&gateway, &token, "POST", path, &body)
    };
    assert_eq!(ask("/v5/tokens/tasks/t").status, 201);
    ask("/v5/tokens/tasks/other").assert_envelope(404, "not_found");
    ask("/v5/tokens/rooms/t").assert_envelope(404, "not_found");
}

#[test]
fn only_tokens_that_our_keys_have_signed_and_that_are_not_over_are_taken() {
    let gateway = gateway(&Upstream::json("200 OK", "{}"));
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let mint = |access: &str, secret: &str, kind, uuid, at| {
        let key = KeyPair::new(access.to_owned(), &Secret::new(secret.to_owned()));
        let minted = key.mint(kind, "1", uuid, 60_000, "nonce".to_owned(), at);
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
