//! Request bodies as JSON objects, read strictly: one object, no member twice.
//!
//! RFC 8259 §4 leaves open which of two equal members counts, so the gateway and the upstream
//! could read two different requests out of one body.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::schema::word;
use crate::failure::{Code, Failure};

/// Parses a body that must be one JSON object.
///
/// # Errors
/// A [`Failure`] of code `invalid_body`: no JSON (with the position), something after it, no
/// object, a member twice, or nesting deeper than 128.
pub fn parse_object(body: &[u8]) -> Result<Map<String, Value>, Failure> {
    let mut parser = serde_json::Deserializer::from_slice(body);
    let value = Strict.deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    match value {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(Failure::new(
            Code::InvalidBody,
            format!("the body must be a JSON object, found {}", kind(&other)),
        )),
        Err(error) => Err(Failure::new(Code::InvalidBody, sentence(&error))),
    }
}

/// What serde_json found wrong. Its own texts hold no input but for our own "member twice".
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("the member") {
        return text;
    }
    format!("the body is not JSON: {text}")
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// A [`Value`] in which no object has a member twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                let name = word(&name);
                return Err(A::Error::custom(format!("the member `{name}` stands twice")));
            }
            let value = members.next_value_seed(Self)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        parse_object(body.as_bytes()).unwrap_err().message().to_owned()
    }

    #[test]
    fn an_object_is_taken_whole() {
        let object = parse_object(br#" {"a":[1,-2,2.5,null,true,"x\u0041"],"b":{}} "#).unwrap();
        assert_eq!(
            Value::Object(object),
            serde_json::json!({"a": [1, -2, 2.5, null, true, "xA"], "b": {}})
        );
    }

    #[test]
    fn everything_else_is_refused_with_the_reason() {
        assert!(refusal("[{}]").ends_with("found an array"));
        assert!(refusal(r#""text""#).ends_with("found a string"));
        assert!(refusal("").starts_with("the body is not JSON: EOF"));
        assert!(refusal("{} {}").starts_with("the body is not JSON: trailing"));
        assert!(refusal(r#"{"a":1,"a":2}"#).starts_with("the member `a` stands twice"));
        assert!(refusal(r#"{"a":[{"b":1,"b":1}]}"#).starts_with("the member `b` stands twice"));
        assert!(refusal(&format!("{{\"a\":{}", "[".repeat(200))).contains("recursion"));
        assert!(parse_object(b"{\"a\":\"\xff\"}").is_err());
    }
}
