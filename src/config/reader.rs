//! From the tree to the raw types, by serde.
//!
//! A deserializer of our own, because `config`'s makes numbers into strings without a word and
//! its errors hold values. This one's error type cannot hold any.

use std::fmt;

use ::config::{Value, ValueKind};
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};

use super::document::from_environment;
use super::place::{KeyPath, Step};
use super::raw;
use super::report::Report;
use crate::api::nearest;

/// Reads the tree. What is wrong is reported, taken out, and the rest read again, so that one run
/// tells everything.
pub(super) fn read(mut tree: Value, report: &mut Report) -> raw::File {
    loop {
        let error = match serde_path_to_error::deserialize(Reader(&tree)) {
            Ok(file) => return file,
            Err(error) => error,
        };
        let path = KeyPath::from(error.path());
        report.wrong(&path, error.inner());
        match remove(&mut tree, &path) {
            Some(removed) if !report.is_full() => report.removed(removed),
            _ => {
                // Nothing is left to read: everything is as removed.
                report.removed(KeyPath::default());
                return raw::File::default();
            }
        }
    }
}

/// Takes out a key, or the whole list that an element is in; says what was taken out.
fn remove(tree: &mut Value, path: &KeyPath) -> Option<KeyPath> {
    let last = path.steps().iter().rposition(|step| matches!(step, Step::Key(_)))?;
    let mut at = tree;
    let mut removed = KeyPath::default();
    for step in &path.steps()[..last] {
        at = match (step, &mut at.kind) {
            (Step::Key(key), ValueKind::Table(table)) => table.get_mut(key)?,
            (Step::Index(index), ValueKind::Array(array)) => array.get_mut(*index)?,
            _ => return None,
        };
        removed = removed.then(step.clone());
    }
    match (&path.steps()[last], &mut at.kind) {
        (Step::Key(key), ValueKind::Table(table)) => table.remove(key)?,
        _ => return None,
    };
    Some(removed.then(path.steps()[last].clone()))
}

/// Why a value is not taken. Follows the name of the key, and holds nothing of the value.
#[derive(Debug)]
pub(super) enum Why {
    /// There is no such key.
    Unknown { near: Option<&'static str>, known: &'static [&'static str] },
    /// It is of another type.
    Type { allowed: String, found: &'static str },
    /// What a type of ours says.
    Said(String),
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { near: Some(near), .. } => {
                write!(out, "is not a key here: did you mean `{near}`?")
            }
            Self::Unknown { near: None, known } => {
                write!(out, "is not a key here: the keys are {}", known.join(", "))
            }
            Self::Type { allowed, found } => write!(out, "must be {allowed}, found {found}"),
            Self::Said(text) => out.write_str(text),
        }
    }
}

impl std::error::Error for Why {}

impl de::Error for Why {
    /// Called by the raw types alone, whose texts are fixed.
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::Said(text.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        // Serde's words for what TOML calls otherwise.
        let allowed = match allowed.to_string().as_str() {
            "a map" => "a table".to_owned(),
            "a sequence" => "a list".to_owned(),
            other => other.to_owned(),
        };
        Self::Type { allowed, found: kind_of(found) }
    }

    fn invalid_value(found: Unexpected<'_>, allowed: &dyn Expected) -> Self {
        Self::Type { allowed: allowed.to_string(), found: kind_of(found) }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::Unknown { near: nearest(field, known.iter().copied()), known }
    }
}

const fn kind_of(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number with a point",
        Unexpected::Str(_) => "a string",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        _ => "something else",
    }
}

/// Reads a value of the tree.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a Value);

impl<'a> Reader<'a> {
    /// The text of a variable.
    fn variable(self) -> Option<&'a str> {
        match &self.0.kind {
            ValueKind::String(text) if from_environment(self.0) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Why;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Why> {
        match &self.0.kind {
            ValueKind::Boolean(value) => visitor.visit_bool(*value),
            ValueKind::I64(number) => visitor.visit_i64(*number),
            ValueKind::Float(number) => visitor.visit_f64(*number),
            ValueKind::String(text) => visitor.visit_borrowed_str(text),
            ValueKind::Array(values) => {
                visitor.visit_seq(SeqDeserializer::new(values.iter().map(Reader)))
            }
            ValueKind::Table(table) => {
                // In order, so that the same file has the same first error.
                let mut entries: Vec<_> =
                    table.iter().map(|(key, value)| (key.as_str(), Reader(value))).collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                visitor.visit_map(MapDeserializer::new(entries.into_iter()))
            }
            // Neither the file nor the environment makes these.
            ValueKind::Nil | ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_) => {
                visitor.visit_unit()
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Why> {
        match self.variable().and_then(|text| text.parse().ok()) {
            Some(value) => visitor.visit_bool(value),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Why> {
        match self.variable().and_then(|text| text.parse().ok()) {
            Some(number) => visitor.visit_i64(number),
            None => self.deserialize_any(visitor),
        }
    }

    /// A variable holds a list as texts with commas between.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Why> {
        match self.variable() {
            Some(text) => visitor.visit_seq(SeqDeserializer::new(
                text.split(',').map(str::trim).filter(|one| !one.is_empty()),
            )),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Why> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Why> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Why> for Reader<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The first thing that is wrong with a tree: how tests ask the types for their keys.
#[cfg(test)]
pub(super) fn first_error(tree: &Value) -> Option<Why> {
    serde_path_to_error::deserialize::<_, raw::File>(Reader(tree))
        .err()
        .map(serde_path_to_error::Error::into_inner)
}
