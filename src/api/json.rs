//! JSON read strictly, as bodies and claims are: one object, no member twice.
//!
//! RFC 8259 §4 leaves open which of two equal members counts, so the gateway and the upstream
//! could read two different requests out of one body.
//!
//! What is read borrows its texts from where they stand, and an object is a list of its members:
//! most have a handful, and to hash the name of each would cost more than all the rest.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::failure::{Code, Failure, escaped};

/// Of so many members the names are compared one by one; of more they are looked up, since a body
/// may have thousands.
const FEW: usize = 16;

/// A JSON value in which no object has a member twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text, borrowed unless something in it is escaped.
    Text(Cow<'a, str>),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(Object<'a>),
}

/// A JSON object: its members, in the order in which they stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

/// Parses a body that must be one JSON object.
///
/// # Errors
/// A [`Failure`] of code `invalid_body`: no JSON (with the position), something after it, no
/// object, a member twice, or nesting deeper than 128.
pub fn parse_object(body: &[u8]) -> Result<Object<'_>, Failure> {
    let read = match std::str::from_utf8(body) {
        Ok(text) => read(serde_json::Deserializer::from_str(text)),
        // Only this one says where it is no text.
        Err(_) => read(serde_json::Deserializer::from_slice(body)),
    };
    match read {
        Ok(Json::Object(object)) => Ok(object),
        Ok(other) => Err(Failure::new(
            Code::InvalidBody,
            format!("the body must be a JSON object, found {}", other.kind()),
        )),
        Err(error) => Err(Failure::new(Code::InvalidBody, sentence(&error))),
    }
}

fn read<'a, R: serde_json::de::Read<'a>>(
    mut parser: serde_json::Deserializer<R>,
) -> Result<Json<'a>, serde_json::Error> {
    let value = Strict.deserialize(&mut parser)?;
    parser.end().map(|()| value)
}

/// What serde_json found wrong. Its own texts hold no input but for our own "member twice".
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("the member") {
        return text;
    }
    format!("the body is not JSON: {text}")
}

/// A whole number that is not negative, as [`Json::as_u64`] reads one.
pub fn whole(value: &Value) -> Option<u64> {
    Json::from(value).as_u64()
}

/// Writes a text as JSON.
pub fn push_text(text: &str, out: &mut String) {
    out.push('"');
    out.push_str(&escaped(text));
    out.push('"');
}

impl<'a> Object<'a> {
    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// Whether there is such a member.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The text of a member that is one.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The members, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json<'a>)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

impl<'a> Json<'a> {
    /// What it is, for people.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one and not negative. What counts is its value and not how it is
    /// written: `3600000.0` and `3.6e6` are whole.
    pub fn as_u64(&self) -> Option<u64> {
        self.as_whole().and_then(|number| u64::try_from(number).ok())
    }

    /// The number, if it is whole; one that is beyond the type is taken to its end.
    pub fn as_whole(&self) -> Option<i128> {
        let Self::Number(number) = self else { return None };
        if let Some(number) = number.as_i64() {
            return Some(number.into());
        }
        if let Some(number) = number.as_u64() {
            return Some(number.into());
        }
        let number = number.as_f64()?;
        // A cast takes what is beyond the type to its end, which is far beyond every bound here.
        #[allow(clippy::cast_possible_truncation, reason = "only what is whole is cast")]
        (number.fract() == 0.0).then_some(number as i128)
    }

    /// The items, if it is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }
}

impl<'a> From<&'a Map<String, Value>> for Object<'a> {
    fn from(map: &'a Map<String, Value>) -> Self {
        Self(map.iter().map(|(name, value)| (name.as_str().into(), value.into())).collect())
    }
}

impl<'a> From<&'a Value> for Json<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(text) => Self::Text(text.as_str().into()),
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Object(map) => Self::Object(map.into()),
        }
    }
}

impl From<Object<'_>> for Map<String, Value> {
    fn from(object: Object<'_>) -> Self {
        object.0.into_iter().map(|(name, value)| (name.into_owned(), value.into())).collect()
    }
}

impl From<Json<'_>> for Value {
    fn from(value: Json<'_>) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(number) => Self::Number(number),
            Json::Text(text) => Self::String(text.into_owned()),
            Json::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Json::Object(object) => Self::Object(object.into()),
        }
    }
}

/// Reads a [`Json`].
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Json<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Json<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut members = Vec::new();
        let mut names = HashSet::new();
        while let Some(name) = map.next_key_seed(MemberName)? {
            if stands(&name, &members, &mut names) {
                let name = word(&name);
                return Err(A::Error::custom(format!("the member `{name}` stands twice")));
            }
            members.push((name, map.next_value_seed(Self)?));
        }
        Ok(Json::Object(Object(members)))
    }
}

/// Whether a name stands among the members already. `names` holds theirs where they are many.
fn stands(name: &str, members: &[(Cow<'_, str>, Json<'_>)], names: &mut HashSet<String>) -> bool {
    if members.len() < FEW {
        return members.iter().any(|(other, _)| other == name);
    }
    if names.is_empty() {
        names.extend(members.iter().map(|(name, _)| name.clone().into_owned()));
    }
    !names.insert(name.to_owned())
}

/// Reads the name of a member.
struct MemberName;

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for MemberName {
    type Value = Cow<'de, str>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the name of a member")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// A caller's text, when it is a word as people write them; anything else may be a secret in the
/// wrong place.
pub(super) fn word(text: &str) -> &str {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if plain && text.len() <= 24 { text } else { "…" }
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
            Value::Object(object.into()),
            serde_json::json!({"a": [1, -2, 2.5, null, true, "xA"], "b": {}})
        );
    }

    #[test]
    fn a_member_that_stands_twice_is_found_among_many() {
        let members = |count| (0..count).map(|n| format!("\"n{n}\":{n}")).collect::<Vec<_>>();
        for count in [1, 15, 16, 17, 1000] {
            let mut members = members(count);
            let text = format!("{{{}}}", members.join(","));
            assert_eq!(parse_object(text.as_bytes()).unwrap().iter().count(), count);
            for at in [0, count / 2, count - 1] {
                // The same name, once as it is and once with a letter escaped.
                for name in [format!("n{at}"), format!("\\u006e{at}")] {
                    members.push(format!("\"{name}\":0"));
                    let text = format!("{{{}}}", members.join(","));
                    assert!(refusal(&text).contains("stands twice"), "{count}: {name}");
                    members.pop();
                }
            }
        }
    }

    #[test]
    fn a_text_is_written_as_it_would_be_read() {
        for text in ["", "plain", "with \"quotes\"", "a\\b", "line\nbreak", "\u{1f}", "über\u{7f}"]
        {
            let mut out = String::new();
            push_text(text, &mut out);
            assert_eq!(out, Value::from(text).to_string());
        }
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
