//! Tokens that were given out and come back: who got them, what they count for, and how one that
//! leaked is refused.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use whiteboard_gateway::api::TokenKind;
use whiteboard_gateway::token::{Claims, KeyPair, Nonce, Secret, TokenFields};

use crate::support::{Answer, Process, Setup, Upstream, finished};

const ROOM: &str = "faed3130727911ebaea37759ee91947c";

/// What a minter may do, and what its tokens may.
fn setup(upstream: &Upstream, limit: &str) -> (Setup, [String; 2]) {
    let mut setup = Setup::new(&upstream.url())
        .set("projects.classroom.token_profile", "participant")
        .with(&format!(
            "[profiles.participant]\nproject = \"classroom\"\n\
             allow = [\"rooms.get\", \"conversions.get\"]\nrooms = \"any\"\nrole = \"writer\"\n{limit}\n\
             [audit]\nfile = \"./audit.jsonl\"\nmode = \"required\"\n"
        ));
    let minter = "allow = [\"tokens.*\"]\nrooms = \"any\"\nrole = \"writer\"";
    let ada = setup.caller("ada", minter);
    let bob = setup.key_of("bob", "ada");
    (setup, [ada, bob])
}

fn mint(gateway: &Process, key: &str, path: &str) -> String {
    let body = json!({"role": "writer", "lifespan": 600_000}).to_string();
    let answer = gateway.client().call(key, "POST", path, &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn room_token(gateway: &Process, key: &str) -> String {
    mint(gateway, key, &format!("/v5/tokens/rooms/{ROOM}"))
}

fn get(gateway: &Process, token: &str) -> Answer {
    gateway.client().call(token, "GET", &format!("/v5/rooms/{ROOM}"), "")
}

fn nonce(token: &str) -> Option<Nonce> {
    Nonce::read(Claims::read(token).unwrap().nonce())
}

fn audit(gateway: &Process) -> Vec<Value> {
    let text = fs::read_to_string(gateway.folder.path().join("audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A token that a back end of somebody's own signs, with the nonce of an official library.
fn of_a_back_end(kind: TokenKind, nonce: &str) -> String {
    let key = KeyPair::new("sandbox".to_owned(), &Secret::new("sandbox-secret-key".to_owned()));
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let minted = key.mint(
        TokenFields {
            kind,
            role: "1",
            uuid: Some(ROOM),
            lifespan_ms: 600_000,
            nonce: nonce.to_owned(),
        },
        now,
    );
    minted.token.expose().to_owned()
}

#[test]
fn a_token_that_a_caller_gets_says_in_its_nonce_what_it_is_when_it_was_minted_and_for_whom() {
    let upstream = Upstream::json("200 OK", "{}");
    let (setup, [ada, bob]) = setup(&upstream, "");
    let gateway = setup.start();
    let before = jiff::Timestamp::now().as_second();
    let paths = [format!("/v5/tokens/rooms/{ROOM}"), format!("/v5/tokens/tasks/{ROOM}")];
    let [room, task] = paths.each_ref().map(|path| nonce(&mint(&gateway, &ada, path)).unwrap());
    let sdk = r#"{"role":"reader","lifespan":1000}"#;
    let sdk = gateway.call("POST", "/v5/tokens/teams", sdk).body;
    let sdk = nonce(&serde_json::from_slice::<String>(&sdk).unwrap()).unwrap();
    let kinds = [sdk, room, task].map(Nonce::kind);
    assert_eq!(kinds, TokenKind::ALL.map(Some));
    let now = jiff::Timestamp::now().as_second();
    for one in [sdk, room, task] {
        assert!((before..=now).contains(&i64::from(one.minted_at())), "{one}");
    }
    let [other, bobs] = [&ada, &bob].map(|key| nonce(&room_token(&gateway, key)).unwrap());
    assert_eq!((room.caller(), room.caller()), (task.caller(), other.caller()));
    assert_ne!(room.caller(), bobs.caller());
    assert_ne!(room, other, "each has one of its own");
    // The gateway's own tokens are for nobody.
    get(&gateway, &room_token(&gateway, &ada));
    let shown = upstream.received()[0].header("token").to_owned();
    assert_eq!(nonce(&shown), None, "{shown}");
}

#[test]
fn a_token_whose_prefix_was_changed_is_no_credential() {
    let (setup, [ada, _]) = setup(&Upstream::json("200 OK", "{}"), "");
    let gateway = setup.start();
    let room = room_token(&gateway, &ada);
    let task = mint(&gateway, &ada, &format!("/v5/tokens/tasks/{ROOM}"));
    let query = format!("/v5/projector/tasks/{ROOM}");
    let ask = |token: &str, path: &str| gateway.client().call(token, "GET", path, "");
    assert_eq!(get(&gateway, &room).status, 200);
    assert_eq!(ask(&task, &query).status, 200);
    let refused = get(&gateway, &task.replace("NETLESSTASK_", "NETLESSROOM_"));
    refused.assert_envelope(401, "invalid_token");
    let line = gateway.access_line(refused.header("x-request-id"));
    assert!(line["detail"].as_str().unwrap().contains("its prefix was changed"), "{line}");
    let refused = ask(&room.replace("NETLESSROOM_", "NETLESSTASK_"), &query);
    refused.assert_envelope(401, "invalid_token");
    // Of one that somebody else signed nobody can tell.
    for nonce in ["n", "9f2b8f0c-0d3e-11ed-861d-0242ac120002", "17000036000001234"] {
        let own = of_a_back_end(TokenKind::Room, nonce);
        assert_eq!(get(&gateway, &own).status, 200, "{nonce}");
        let renamed = own.replace("NETLESSROOM_", "NETLESSTASK_");
        assert_eq!(ask(&renamed, &query).status, 200, "{nonce}");
    }
}

#[test]
fn many_tokens_of_one_caller_have_its_limit_and_no_more() {
    let limit = "limit = { rate = \"5/d\" }";
    let (setup, [ada, bob]) = setup(&Upstream::json("200 OK", "{}"), limit);
    let gateway = setup.start();
    let mut passed = 0;
    for _ in 0..8 {
        let answer = get(&gateway, &room_token(&gateway, &ada));
        passed += usize::from(answer.status == 200);
        if answer.status != 200 {
            answer.assert_envelope(403, "rate_limited");
            assert_eq!(answer.json()["rule"], "profiles.participant.limit");
        }
    }
    assert_eq!(passed, 5, "by whichever of its tokens");
    assert_eq!(get(&gateway, &room_token(&gateway, &bob)).status, 200, "another caller's");
    let [one, other] = ["n", "m"].map(|nonce| of_a_back_end(TokenKind::Room, nonce));
    assert_eq!([&one, &other].map(|token| get(&gateway, token).status), [200, 200]);
}

#[test]
fn the_access_line_names_the_nonce_that_the_audit_knows() {
    let (setup, [ada, _]) = setup(&Upstream::json("200 OK", "{}"), "");
    let gateway = setup.start();
    let token = room_token(&gateway, &ada);
    let line = gateway.access_line(get(&gateway, &token).header("x-request-id"));
    assert_eq!(line["credential"], "whiteboard_token");
    let record = &audit(&gateway)[0];
    assert_eq!((&record["caller"], &record["credential"]), (&"ada".into(), &"key".into()));
    assert_eq!(line["nonce"], record["nonce"]);
    // One that somebody else made can be long and hold anything.
    let odd = format!("\u{1b}[2J\"\n{}", "n".repeat(2_000));
    let answer = get(&gateway, &of_a_back_end(TokenKind::Room, &odd));
    let line = gateway.access_line(answer.header("x-request-id"));
    assert_eq!(line["nonce"].as_str().unwrap(), &odd[..64]);
}

/// Other texts that verify as the same token.
fn texts(token: &str) -> Vec<String> {
    let (prefix, encoded) = token.split_at("NETLESSROOM_".len());
    let payload = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap();
    let reversed = payload.split('&').rev().collect::<Vec<_>>().join("&");
    let escaped = payload.replace("role=", "r%6Fle=");
    let mut texts = vec![token.to_owned(), format!("{prefix}{}", URL_SAFE.encode(&payload))];
    texts.extend(
        [reversed, escaped].map(|text| format!("{prefix}{}", URL_SAFE_NO_PAD.encode(text))),
    );
    texts
}

#[test]
fn a_leaked_token_is_refused_at_once_in_every_text_that_it_has() {
    for by_hash in [false, true] {
        let (setup, [ada, _]) = setup(&Upstream::json("200 OK", "{}"), "");
        let before = setup.configuration();
        let gateway = setup.start();
        let (leaked, other) = (room_token(&gateway, &ada), room_token(&gateway, &ada));
        for text in texts(&leaked) {
            assert_eq!(get(&gateway, &text).status, 200, "{text}");
        }
        let record = &audit(&gateway)[0];
        let denied = if by_hash {
            format!("sha256 = {}", record["token_sha256"])
        } else {
            format!("access_key = {}\nnonce = {}", record["access_key"], record["nonce"])
        };
        gateway.reload(&before.clone().with(&format!("[[denied]]\n{denied}\n")));
        for text in texts(&leaked) {
            let refused = get(&gateway, &text);
            refused.assert_envelope(401, "invalid_token");
            assert!(refused.member("message").contains("was withdrawn"), "{}", refused.text());
            let line = gateway.access_line(refused.header("x-request-id"));
            assert_eq!(line["rule"], "denied", "{line}");
        }
        assert_eq!(get(&gateway, &other).status, 200);
        gateway.reload(&before);
        assert_eq!(get(&gateway, &leaked).status, 200);
    }
}

#[test]
fn what_is_denied_is_named_wholly_or_refused() {
    let with = |denied: &str| {
        let (setup, _) = setup(&Upstream::json("200 OK", "{}"), "");
        let output = finished(setup.with(&format!("[[denied]]\n{denied}\n")).command("check"));
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out + &err)
    };
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for (denied, told) in [
        (String::new(), "`denied[0]` must have access_key and nonce, or sha256 alone"),
        ("nonce = \"n\"".to_owned(), "`denied[0]` must have access_key and nonce"),
        (format!("nonce = \"n\"\naccess_key = \"sandbox\"\nsha256 = \"{hash}\""), "sha256 alone"),
        ("sha256 = \"NETLESSROOM_planted\"".to_owned(), "the hash of a token is 64 hex digits"),
    ] {
        let (code, said) = with(&denied);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(told), "{denied}: {said}");
        assert!(!said.contains("planted"), "{said}");
    }
    let (code, said) = with("access_key = \"stranger\"\nnonce = \"n\"");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`denied[0].access_key` is of no project here"), "{said}");
    let (_, said) = with(&format!("sha256 = \"{hash}\""));
    assert!(!said.contains("denied"), "{said}");
}

#[test]
fn a_refusal_by_a_limit_names_its_rule() {
    for (profile, more, rule) in [
        ("limit = { rate = \"1/d\" }", "", "profiles.backend.limit"),
        ("shared_limit = { rate = \"1/d\" }", "", "profiles.backend.shared_limit"),
        ("", "[limits]\ngateway = { rate = \"1/d\" }\n", "limits.gateway"),
    ] {
        let setup = Setup::new(&Upstream::json("200 OK", "{}").url())
            .with(&format!("[profiles.backend]\n{profile}\n"))
            .with(more);
        let gateway = setup.start();
        assert_eq!(gateway.call("GET", "/v5/rooms/a", "").status, 200);
        let refused = gateway.call("GET", "/v5/rooms/a", "");
        refused.assert_envelope(403, "rate_limited");
        assert_eq!(refused.json()["rule"], rule);
        let line = gateway.access_line(refused.header("x-request-id"));
        assert_eq!(line["rule"], rule);
    }
}
