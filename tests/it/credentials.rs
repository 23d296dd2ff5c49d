//! Which field of a request holds its credential, and the words for what is none, through the
//! real binary.

use crate::support::{Process, Setup, Upstream};

const ROOM: &str = "/v5/rooms/a";

fn start() -> (Process, Upstream) {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url()).start();
    (gateway, upstream)
}

#[test]
fn what_a_field_does_not_say_is_nothing_beside_a_good_credential() {
    let (gateway, _upstream) = start();
    let key = gateway.key.clone();
    let bearer = format!("Bearer {key}");
    for fields in [
        &[("token", &*key), ("Authorization", "Basic dXNlcjp3b3Jk")][..],
        &[("X-API-Key", &key), ("Authorization", "Digest username=\"a\"")],
        &[("token", &key), ("Authorization", "")],
        &[("token", &key), ("Authorization", "Bearer")],
        &[("token", ""), ("Authorization", &bearer)],
        &[("token", &key), ("X-API-Key", &key), ("Authorization", &bearer)],
    ] {
        let answer = gateway.client().request("GET", ROOM, fields, "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn alone_it_is_a_bad_credential() {
    let (gateway, upstream) = start();
    for fields in [
        &[("token", "")][..],
        &[("X-API-Key", "  ")],
        &[("Authorization", "")],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Basic dXNlcjp3b3Jk")],
        &[("Authorization", "Basic dXNlcjp3b3Jk"), ("token", "")],
    ] {
        let answer = gateway.client().request("GET", ROOM, fields, "");
        answer.assert_envelope(401, "invalid_token");
    }
    assert!(upstream.received().is_empty());
}

#[test]
fn two_credentials_that_disagree_are_named_by_their_fields() {
    let (gateway, _upstream) = start();
    let fields = [("Authorization", "Bearer eyJhbGciOiJub25lIn0.e30."), ("token", &*gateway.key)];
    let answer = gateway.client().request("GET", ROOM, &fields, "");
    answer.assert_envelope(400, "malformed_request");
    let message = answer.member("message");
    assert!(message.contains("in `Authorization` and in `token`"), "{message}");
}

#[test]
fn a_text_that_is_no_credential_is_named_for_what_it_is() {
    let (gateway, _upstream) = start();
    let quoted = format!("\"{}\"", gateway.key);
    let with_scheme = format!("Bearer {}", gateway.key);
    let twice = format!("Bearer Bearer {}", gateway.key);
    for (field, value, told) in [
        ("token", &*quoted, "quotation marks"),
        ("token", &with_scheme, "name of a scheme"),
        ("X-API-Key", &with_scheme, "name of a scheme"),
        ("Authorization", &twice, "name of a scheme"),
        ("token", "undefined", "`undefined`"),
        ("Authorization", "Bearer null", "`undefined`"),
        ("token", "WHITEcGFydG5lcl9pZD0xMjM0NTY3ODkw", "version 4"),
        ("token", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "no issuer"),
        ("token", "netlessroom_YWs9", "capital letters"),
        ("Authorization", &gateway.key, "the scheme is missing"),
    ] {
        let answer = gateway.client().request("GET", ROOM, &[(field, value)], "");
        answer.assert_envelope(401, "invalid_token");
        let message = answer.member("message");
        assert!(message.contains(told), "{field}: {message}");
        assert!(!message.contains(&gateway.key[22..60]), "{message}");
    }
    let answer = gateway.client().request("GET", "/v5/rooms/a?token=NETLESSROOM_YWs9", &[], "");
    answer.assert_envelope(401, "unauthenticated");
    assert!(
        answer.member("message").contains("in the query is not looked at"),
        "{}",
        answer.text()
    );
}
