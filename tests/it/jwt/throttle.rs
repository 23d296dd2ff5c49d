//! Addresses that have shown too many signatures which do not hold, and who must not suffer for it.

use serde_json::json;
use whiteboard_gateway::api::TokenKind;
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use super::{SCHOOL, School, status};
use crate::support::{Answer, Setup, Signer, Upstream, claims};

/// Three failures in an hour, from whatever these proxies say.
fn school(trusted: &str) -> School {
    let setup = Setup::new(&Upstream::json("200 OK", "{}").url())
        .with(&format!("[listen]\ntrusted_proxies = [{trusted}]\n"))
        .with("[limits]\nfailed_credentials = { rate = \"3/h\" }\n");
    School::of(setup, "profile = \"backend\"")
}

fn forged(count: usize) -> String {
    Signer::es256("a").token(&claims(SCHOOL, &json!({"sub": format!("mallory {count}")})))
}

/// A request that says who it is forwarded for.
fn forwarded(school: &School, address: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", address)];
    school.gateway.client().request("GET", "/v5/rooms/r", &headers, "")
}

#[test]
fn keys_and_verified_tokens_of_a_throttled_address_pass_and_others_wait() {
    let school = school("");
    // One connection, so one worker: each remembers for itself.
    let mut client = school.gateway.client();
    let known = school.token(&json!({}));
    assert_eq!(status(&mut client, &known), 200);
    let now = jiff::Timestamp::now().as_second();
    for count in 0..10 {
        let over = json!({"iat": now - 700, "exp": now - 100, "jti": count});
        let answer = client.call(&school.token(&over), "GET", "/v5/rooms/r", "");
        answer.assert_envelope(401, "expired_token");
    }
    let fresh = |sub: &str| school.token(&json!({"sub": sub}));
    assert_eq!(status(&mut client, &fresh("bob")), 200, "authentic and over counts for nothing");
    for count in 0..3 {
        let answer = client.call(&forged(count), "GET", "/v5/rooms/r", "");
        answer.assert_envelope(401, "invalid_token");
    }
    for token in [forged(3), fresh("eve")] {
        let answer = client.call(&token, "GET", "/v5/rooms/r", "");
        answer.assert_envelope(403, "rate_limited");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=1440).contains(&wait), "{wait}");
        assert!(answer.member("message").contains("too many credentials"), "{}", answer.text());
    }
    assert_eq!(status(&mut client, &known), 200);
    assert_eq!(status(&mut client, &fresh("bob")), 403, "another token, whoever's it is");
    let key = school.gateway.key.clone();
    assert_eq!(status(&mut client, &key), 200);
    // A wrong key is still told that it is wrong.
    let wrong = whiteboard_gateway::caller::generate(true).unwrap();
    assert_eq!(status(&mut client, wrong.expose()), 401);
}

#[test]
fn only_a_trusted_proxy_says_whose_failure_it_was() {
    let school = school("\"127.0.0.0/8\"");
    for count in 0..4 {
        let answer = forwarded(&school, "192.0.2.1", &forged(count));
        assert_eq!(answer.status, if count < 3 { 401 } else { 403 }, "{}", answer.text());
        let line = school.gateway.access_line(answer.header("x-request-id"));
        assert_eq!(line["client"], "192.0.2.1");
    }
    let good = |sub: &str| school.token(&json!({"sub": sub}));
    forwarded(&school, "192.0.2.1", &good("ada")).assert_envelope(403, "rate_limited");
    // What stands further left may have been made up.
    let two = "192.0.2.2, 192.0.2.1";
    forwarded(&school, two, &good("bob")).assert_envelope(403, "rate_limited");
    assert_eq!(forwarded(&school, "192.0.2.2", &good("eve")).status, 200);
}

#[test]
fn a_customer_of_ipv6_is_one_address() {
    let school = school("\"127.0.0.0/8\"");
    for count in 0..3 {
        let address = format!("2001:db8::{count}");
        assert_eq!(forwarded(&school, &address, &forged(count)).status, 401);
    }
    let token = school.token(&json!({}));
    forwarded(&school, "2001:db8::ffff:1", &token).assert_envelope(403, "rate_limited");
    assert_eq!(forwarded(&school, "2001:db8:0:1::1", &token).status, 200);
}

#[test]
fn a_stranger_cannot_blame_another_address() {
    let school = school("\"10.0.0.0/8\"");
    for count in 0..3 {
        assert_eq!(forwarded(&school, &format!("192.0.2.{count}"), &forged(count)).status, 401);
    }
    let token = school.token(&json!({}));
    forwarded(&school, "192.0.2.99", &token).assert_envelope(403, "rate_limited");
}

/// Three failures in an hour for every address.
fn throttled() -> School {
    school("")
}

fn spend(school: &School) {
    let mut client = school.gateway.client();
    for count in 0..3 {
        let answer = client.call(&forged(count), "GET", "/v5/rooms/r", "");
        answer.assert_envelope(401, "invalid_token");
    }
    let answer = client.call(&forged(3), "GET", "/v5/rooms/r", "");
    answer.assert_envelope(403, "rate_limited");
}

#[test]
fn whatever_is_refused_before_a_signature_locks_no_one_out() {
    let school = throttled();
    let mut client = school.gateway.client();
    let wrong_key = whiteboard_gateway::caller::generate(true).unwrap();
    let signer = Signer::es256("a");
    let now = jiff::Timestamp::now().as_second();
    let stranger = signer.token(&claims("https://stranger.example", &json!({})));
    for token in [
        "x".to_owned(),
        "a.b.c".to_owned(),
        "x".repeat(9000),
        wrong_key.expose().to_owned(),
        "NETLESSROOM_x".to_owned(),
        stranger,
        school.token(&json!({"aud": "another"})),
        school.token(&json!({"exp": now + 1_000_000})),
        signer.token(&claims(SCHOOL, &json!({"iss": 7}))),
        Signer::es256("unknown").token(&claims(SCHOOL, &json!({}))),
    ] {
        for _ in 0..10 {
            let answer = client.call(&token, "GET", "/v5/rooms/r", "");
            answer.assert_envelope(401, "invalid_token");
        }
    }
    assert_eq!(status(&mut client, &school.token(&json!({"sub": "newcomer"}))), 200);
}

#[test]
fn a_token_that_held_is_verified_by_every_worker_whatever_its_address_has_spent() {
    let school = throttled();
    let known = school.token(&json!({}));
    assert_eq!(status(&mut school.gateway.client(), &known), 200);
    spend(&school);
    for connection in 0..12 {
        let mut client = school.gateway.client();
        assert_eq!(status(&mut client, &known), 200, "connection {connection}");
    }
    let new = school.token(&json!({"sub": "newcomer"}));
    assert_eq!(status(&mut school.gateway.client(), &new), 403);
}

#[test]
fn what_held_is_remembered_over_a_reload() {
    let school = throttled();
    let known = school.token(&json!({}));
    assert_eq!(status(&mut school.gateway.client(), &known), 200);
    let gateway = &school.gateway;
    gateway.reload(&gateway.configuration().set("profiles.another.project", "classroom"));
    spend(&school);
    assert_eq!(status(&mut school.gateway.client(), &known), 200);
}

#[test]
fn an_authentic_token_that_is_over_costs_nothing_again() {
    let school = throttled();
    let now = jiff::Timestamp::now().as_second();
    let over = school.token(&json!({"iat": now - 700, "exp": now - 100}));
    let ask = || school.gateway.client().call(&over, "GET", "/v5/rooms/r", "");
    ask().assert_envelope(401, "expired_token");
    spend(&school);
    for _ in 0..8 {
        ask().assert_envelope(401, "expired_token");
    }
}

#[test]
fn a_whiteboard_token_whose_signature_does_not_hold_counts_and_a_good_one_is_taken() {
    let setup = Setup::new(&Upstream::json("200 OK", "{}").url())
        .set("projects.classroom.token_profile", "backend")
        .with("[limits]\nfailed_credentials = { rate = \"3/h\" }\n");
    let school = School::of(setup, "profile = \"backend\"");
    let token = |secret: &str| {
        let key = KeyPair::new("sandbox".to_owned(), &Secret::new(secret.to_owned()));
        let minted = key.mint(
            TokenFields {
                kind: TokenKind::Room,
                role: "1",
                uuid: Some("r"),
                lifespan_ms: 0,
                nonce: "n".to_owned(),
            },
            0,
        );
        minted.token.expose().to_owned()
    };
    let mut client = school.gateway.client();
    for _ in 0..3 {
        assert_eq!(status(&mut client, &token("another secret")), 401);
    }
    assert_eq!(status(&mut client, &school.token(&json!({}))), 403);
    assert_eq!(status(&mut client, &token("sandbox-secret-key")), 200);
}
