//! What arrived: the last requests under `/v5`, so that a developer sees what a client, or the
//! gateway, really sent. Tokens are shown decoded, never as they came.

use std::collections::VecDeque;

use http::{HeaderMap, Version, request::Parts};
use serde_json::{Map, Value, json};

use super::access::presented;
use super::time::iso;
use crate::field::{SECRETS, TOKEN};
use crate::token::{Claims, KeyPair, kind_of, verify};

/// As many are remembered.
const KEPT: usize = 100;

/// The last requests, the newest first.
#[derive(Default)]
pub(super) struct RequestLog(VecDeque<Value>);

impl RequestLog {
    pub(super) fn add(&mut self, request: Value) {
        self.0.truncate(KEPT - 1);
        self.0.push_front(request);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn view(&self) -> Value {
        self.0.iter().cloned().collect()
    }
}

/// Describes a request.
pub(super) fn describe<'a>(
    head: &Parts,
    body_bytes: usize,
    tls: bool,
    keys: impl IntoIterator<Item = &'a KeyPair>,
    now_ms: u64,
) -> Value {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    json!({
        "at": iso(now_ms),
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "protocol": if head.version == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1" },
        "tls": tls,
        "region": text("region"),
        "headers": headers(&head.headers),
        "token": token(&head.headers, keys, now_ms),
        "bodyBytes": body_bytes,
    })
}

/// Every name; a value that is a secret, or looks like one of ours, is null.
fn headers(headers: &HeaderMap) -> Value {
    let mut shown = Map::new();
    for name in headers.keys() {
        let values: Vec<&str> =
            headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("")).collect();
        let secret = SECRETS.contains(&name.as_str()) || values.iter().any(|v| looks_secret(v));
        let value = if secret { Value::Null } else { values.join(", ").into() };
        shown.insert(name.as_str().to_owned(), value);
    }
    Value::Object(shown)
}

fn looks_secret(value: &str) -> bool {
    kind_of(value).is_some() || value.contains("wbg_") || value.contains("NETLESS")
}

/// What the token says, and whether it is to be believed; null when none came.
fn token<'a>(
    headers: &HeaderMap,
    keys: impl IntoIterator<Item = &'a KeyPair>,
    now_ms: u64,
) -> Value {
    if !headers.contains_key(TOKEN) {
        return Value::Null;
    }
    let read = presented(headers).and_then(|token| Ok((Claims::read(token)?, token)));
    let (claims, token) = match read {
        Ok(read) => read,
        Err(why) => return json!({ "verified": false, "why": why.to_string() }),
    };
    let mut shown = json!({
        "kind": claims.kind,
        "role": claims.role().map(crate::api::Role::as_str),
        "ak": claims.access_key(),
        "uuid": claims.uuid(),
        "expireAt": claims.expire_at().map(number),
        "nonce": claims.nonce(),
    });
    match verify(token, keys, now_ms) {
        Ok(_) => shown["verified"] = true.into(),
        Err(why) => {
            shown["verified"] = false.into();
            shown["why"] = why.to_string().into();
        }
    }
    shown
}

/// A number where the text is one.
fn number(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| text.into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TokenKind;
    use crate::token::{Secret, TokenFields};
    use http::Request;

    fn key() -> KeyPair {
        KeyPair::new("AK".to_owned(), &Secret::new("SK".to_owned()))
    }

    fn described(headers: &[(&str, &str)], now_ms: u64) -> Value {
        let mut request = Request::get("/v5/rooms?limit=1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        describe(&head, 7, true, [&key()], now_ms)
    }

    #[test]
    fn a_request_is_described_with_its_token_decoded() {
        let key = key();
        let minted = key.mint(
            TokenFields {
                kind: TokenKind::Room,
                role: "1",
                uuid: Some("r1"),
                lifespan_ms: 1000,
                nonce: "n1".to_owned(),
            },
            0,
        );
        let token = minted.token.expose();
        let seen = described(&[("token", token), ("region", "us-sv"), ("accept", "a")], 0);
        assert_eq!(
            (&seen["method"], &seen["path"], &seen["query"], &seen["bodyBytes"]),
            (&json!("GET"), &json!("/v5/rooms"), &json!("limit=1"), &json!(7))
        );
        assert_eq!(
            seen["headers"],
            json!({"token": null, "region": "us-sv", "accept": "a"}),
            "every name, no secret"
        );
        assert_eq!(
            seen["token"],
            json!({
                "kind": "room", "role": "writer", "ak": "AK", "uuid": "r1", "expireAt": 1000,
                "nonce": "n1", "verified": true,
            })
        );
        let late = described(&[("token", token)], 1000);
        assert_eq!(
            (&late["token"]["verified"], &late["token"]["why"]),
            (&json!(false), &json!("expired token"))
        );
        assert!(!late.to_string().contains(token));
    }

    #[test]
    fn no_secret_is_shown_wherever_it_stands() {
        let seen = described(
            &[("x-a", "NETLESSSDK_abc"), ("x-b", "Bearer wbg_test_abc"), ("cookie", "c=abc")],
            0,
        );
        assert!(!seen.to_string().contains("abc"), "{seen}");
        assert_eq!(seen["token"], Value::Null);
        let seen = described(&[("token", "wbg_test_abc")], 0);
        assert_eq!(seen["token"], json!({"verified": false, "why": "invalid format of token"}));
    }

    #[test]
    fn the_newest_is_first_and_the_oldest_forgotten() {
        let mut seen = RequestLog::default();
        for number in 0..150 {
            seen.add(json!(number));
        }
        let view = seen.view();
        let view = view.as_array().unwrap();
        assert_eq!((view.len(), &view[0], &view[99]), (100, &json!(149), &json!(50)));
        seen.clear();
        assert_eq!(seen.view(), json!([]));
    }
}
