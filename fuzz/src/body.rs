//! Request bodies: what is taken is what serde_json reads, with no member twice; every operation
//! checks every body; and a checked token body asks for a token.
//!
//! An input is a body.

use super::assert_presentable;
use serde_json::Value;
use whiteboard_gateway::api::{
    Access, BodySpec, Object, TABLE, TokenRequest, UnknownFields, check_object, parse_object,
};

/// One input.
pub fn run(body: &[u8]) {
    let loose: Result<Value, _> = serde_json::from_slice(body);
    let object = match (parse_object(body), loose) {
        (Ok(strict), Ok(loose)) => {
            assert_eq!(Value::Object(strict.clone().into()), loose);
            strict
        }
        (Ok(_), Err(why)) => panic!("taken though it is no JSON: {why}"),
        (Err(failure), loose) => {
            let twice = failure.message().starts_with("the member `");
            assert!(twice || !matches!(loose, Ok(Value::Object(_))), "{failure}");
            return assert_presentable(&failure);
        }
    };
    for operation in TABLE.iter() {
        let BodySpec::Json(fields) = operation.body else { continue };
        let strict = check_object(&object, fields, UnknownFields::Refuse);
        let passed = check_object(&object, fields, UnknownFields::Pass);
        if let Err(failure) = &strict {
            assert_presentable(failure);
        }
        match passed {
            Ok(()) => asked(operation.access, &object),
            Err(failure) => {
                assert_presentable(&failure);
                assert!(strict.is_err(), "{} is stricter when it is to pass", operation.name);
            }
        }
    }
}

/// A token that is asked for is asked for in the same words of the upstream.
fn asked(access: Access, object: &Object<'_>) {
    let Access::Mints(kind) = access else { return };
    let asks = TokenRequest::from_checked(kind, object).expect("a checked body asks for a token");
    assert!(asks.lifespan.to_wire() <= i64::MAX as u64);
    let sent = asks.to_body();
    let sent = parse_object(&sent).expect("what is sent is an object");
    assert_eq!(sent.iter().count(), 2, "role and life alone, never a key");
    let again = TokenRequest::from_checked(kind, &sent).expect("what is sent asks for a token");
    assert_eq!(again, TokenRequest { access_key: None, ..asks });
}
