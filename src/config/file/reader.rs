//! From the tree to the values of sections, and to the JSON Schema of both.
//!
//! Not by the deserializer of `config`, which makes numbers into strings without a word and whose
//! errors hold values. What is wrong is reported where it stands, and the rest is read on, so that
//! one run reports everything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use ::config::{Map, Value, ValueKind};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, DeserializeOwned, IntoDeserializer as _};
use serde_json::Value as Json;

use super::document::from_environment;
use super::location::KeyPath;
use super::report::Report;
use crate::api::nearest;

/// What is wrong with a value, or what is allowed; holds nothing of the value.
pub(crate) type ValueError = Cow<'static, str>;

/// What can be read from a tree.
pub(crate) trait FromTree: Sized {
    /// Reads it; `None` when it is wrong, which is reported.
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self>;

    /// What it is where its key is omitted; `None` for what has no default of its own.
    fn absent(_path: &KeyPath, _report: &mut Report) -> Option<Self> {
        None
    }

    /// What an editor is told of it.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// A value of one form, which is parsed from what the file writes.
pub(crate) trait Parse: Sized {
    /// What is allowed; follows "must be".
    const ALLOWED: &'static str = "";

    /// A regular expression, of ECMA-262, that each of its texts matches; an editor is told it.
    const PATTERN: &'static str = "";
    /// Why it is no number without more.
    const NO_INTEGER: &'static str = "found an integer";

    /// How it is written where it is no text; a variable's text is taken for that as well.
    const NATURE: Nature = Nature::Text;

    /// The same as [`Parse::ALLOWED`], of a type that is made of several.
    fn allowed() -> ValueError {
        Self::ALLOWED.into()
    }

    /// From a text.
    fn text(_text: &str) -> Result<Self, ValueError> {
        Err("found a string".into())
    }

    /// From a whole number.
    fn integer(_number: i64) -> Result<Self, ValueError> {
        Err(Self::NO_INTEGER.into())
    }

    /// From `true` or `false`.
    fn boolean(_value: bool) -> Result<Self, ValueError> {
        Err("found a boolean".into())
    }

    /// What an editor is told of it.
    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        let kind = match Self::NATURE {
            Nature::Text => "string",
            Nature::Integer => "integer",
            Nature::Boolean => "boolean",
        };
        let mut schema = json_schema!({ "type": kind, "title": Self::allowed() });
        if !Self::PATTERN.is_empty() {
            schema.insert("pattern".to_owned(), Self::PATTERN.into());
        }
        schema
    }
}

/// How a value is written.
#[derive(Clone, Copy)]
pub(crate) enum Nature {
    Text,
    Integer,
    Boolean,
}

/// A value in the tree, and the path of its key.
pub(crate) struct Node<'a> {
    value: Cow<'a, Value>,
    pub(crate) path: KeyPath,
}

/// What a value is.
pub(crate) enum Notation<'a> {
    Text(&'a str),
    Integer(i64),
    Boolean(bool),
    List(Vec<Node<'a>>),
    Table(&'a Map<String, Value>),
    Point,
    Nothing,
}

impl Notation<'_> {
    pub(crate) const fn found(&self) -> &'static str {
        match self {
            Self::Text(_) => "found a string",
            Self::Integer(_) => "found an integer",
            Self::Boolean(_) => "found a boolean",
            Self::List(_) => "found a list",
            Self::Table(_) => "found a table",
            Self::Point => "found a number with a point",
            Self::Nothing => "found something else",
        }
    }
}

impl<'a> Node<'a> {
    pub(crate) const fn new(value: &'a Value, path: KeyPath) -> Self {
        Self { value: Cow::Borrowed(value), path }
    }

    fn of(kind: ValueKind, path: KeyPath) -> Self {
        Self { value: Cow::Owned(Value::new(None, kind)), path }
    }

    /// What it is. A number is its value: templates write whole ones as `1000.0` and `1e6`.
    pub(crate) fn form(&self) -> Notation<'_> {
        // Below 2^53, where each whole number has a notation of its own.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        match &self.value.kind {
            ValueKind::String(text) => Notation::Text(text),
            ValueKind::I64(number) => Notation::Integer(*number),
            #[allow(clippy::cast_possible_truncation, reason = "it is whole, and fits")]
            ValueKind::Float(number) if number.fract() == 0.0 && number.abs() < EXACT => {
                Notation::Integer(*number as i64)
            }
            ValueKind::Float(_) => Notation::Point,
            ValueKind::Boolean(value) => Notation::Boolean(*value),
            ValueKind::Array(values) => {
                let elements = values.iter().enumerate();
                let node = |(index, value)| Node::new(value, self.path.index(index));
                Notation::List(elements.map(node).collect())
            }
            ValueKind::Table(table) => Notation::Table(table),
            // Neither the file nor the environment makes these.
            ValueKind::Nil | ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_) => {
                Notation::Nothing
            }
        }
    }

    /// The elements of a list, which a variable holds as texts with commas between.
    fn list(&self) -> Result<Vec<Node<'_>>, &'static str> {
        match self.form() {
            Notation::List(nodes) => Ok(nodes),
            Notation::Text(text) if from_environment(&self.value) => {
                let texts = text.split(',').map(str::trim).filter(|one| !one.is_empty());
                let node =
                    |(index, text): (usize, &str)| Node::of(text.into(), self.path.index(index));
                Ok(texts.enumerate().map(node).collect())
            }
            other => Err(other.found()),
        }
    }

    /// Reports that the value is wrong: what is allowed, and why this one is not.
    pub(crate) fn refuse<T>(&self, allowed: &str, why: &str, report: &mut Report) -> Option<T> {
        // "found a string" reads on from a comma; a sentence of ours is set apart.
        let between = if why.starts_with("found ") { ", " } else { ": " };
        let near =
            why.split_once("; did you mean ").map(|(_, near)| format!("did you mean {near}"));
        let hint = near.unwrap_or_else(|| format!("must be {allowed}"));
        report.wrong_with(&self.path, format_args!("must be {allowed}{between}{why}"), hint);
        None
    }

    /// The table that it is. Keys that none of these is are reported.
    pub(crate) fn table(
        &self,
        allowed: &str,
        keys: &[KeyDeclaration],
        report: &mut Report,
    ) -> Option<&Map<String, Value>> {
        let table = match self.form() {
            Notation::Table(table) => table,
            other => return self.refuse(allowed, other.found(), report),
        };
        let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
        for unknown in table.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = match nearest(unknown, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys are {}", known.join(", ")),
            };
            report.wrong(&self.path.key(unknown), format_args!("is not a key here: {hint}"));
        }
        Some(table)
    }

    /// The value of a key of this table: what is written, or else its default.
    pub(crate) fn key<T: FromTree>(
        &self,
        table: &Map<String, Value>,
        key: &KeyDeclaration,
        report: &mut Report,
    ) -> Option<T> {
        let path = self.path.key(key.name);
        if let Some(value) = table.get(key.name) {
            let read = T::read(&Node::new(value, path.clone()), report);
            if read.is_some() {
                return read;
            }
            report.removed(path.clone());
        } else if let Some(what) = key.missing {
            report.missing(&path, what);
        }
        match &key.default {
            Some(Json::String(text)) => T::read(&Node::of(text.as_str().into(), path), report),
            Some(Json::Bool(value)) => T::read(&Node::of((*value).into(), path), report),
            Some(Json::Number(number)) => {
                T::read(&Node::of(number.as_i64().unwrap_or(0).into(), path), report)
            }
            _ => T::absent(&path, report),
        }
    }
}

/// A key of a section, as [`section!`] declares it.
pub(crate) struct KeyDeclaration {
    pub(crate) name: &'static str,
    /// The lines of its row in `docs/configuration.md`.
    pub(crate) about: &'static [&'static str],
    pub(crate) default: Option<Json>,
    /// What it is when it is omitted, in the words of the page.
    pub(crate) usual: Option<&'static str>,
    /// What is said when it is missing; `None` for a key that may be.
    pub(crate) missing: Option<&'static str>,
}

/// Declares a section: its keys, and of each what `docs/configuration.md` says, its type, and what
/// holds when it is omitted: `= default`, `=> "what that means"`, or `| "what must be there"`.
macro_rules! section {
    ($(#[$about:meta])* $vis:vis struct $name:ident $(($allowed:literal))? { $(
        $(#[doc = $doc:literal])*
        $key:ident $(as $word:literal)? : $type:ty $(= $default:literal)? $(=> $usual:literal)? $(| $missing:literal)?;
    )* }) => {
        $(#[$about])*
        $vis struct $name {
            #[allow(dead_code, reason = "not every section is reported on as a whole")]
            pub(crate) path: $crate::config::file::location::KeyPath,
            $($(#[doc = $doc])* pub(crate) $key: $type,)*
        }

        impl $name {
            fn keys() -> Vec<$crate::config::file::reader::KeyDeclaration> {
                vec![$($crate::config::file::reader::KeyDeclaration {
                    name: section!(@name $key $($word)?),
                    about: &[$($doc),*],
                    default: section!(@default $($default)?),
                    usual: section!(@option $($usual)?),
                    missing: section!(@option $($missing)?),
                }),*]
            }
        }

        impl $crate::config::file::reader::FromTree for $name {
            fn read(
                node: &$crate::config::file::reader::Node<'_>,
                report: &mut $crate::config::file::report::Report,
            ) -> Option<Self> {
                let keys = Self::keys();
                let table = node.table(section!(@allowed $($allowed)?), &keys, report)?;
                let mut keys = keys.iter();
                Some(Self {
                    path: node.path.clone(),
                    $($key: node.key(table, keys.next()?, report)?,)*
                })
            }

            fn absent(
                path: &$crate::config::file::location::KeyPath,
                report: &mut $crate::config::file::report::Report,
            ) -> Option<Self> {
                let empty = ::config::Value::new(None, ::config::Map::<String, String>::new());
                Self::read(&$crate::config::file::reader::Node::new(&empty, path.clone()), report)
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let values = vec![$(<$type as $crate::config::file::reader::FromTree>::schema(generator)),*];
                $crate::config::file::reader::table_schema(Self::keys(), values)
            }
        }
    };
    (@name $key:ident) => { stringify!($key) };
    (@name $key:ident $word:literal) => { $word };
    (@allowed) => { "a table" };
    (@allowed $allowed:literal) => { $allowed };
    (@option) => { None };
    (@option $text:literal) => { Some($text) };
    (@default) => { None };
    (@default $value:literal) => { Some(serde_json::Value::from($value)) };
}
pub(crate) use section;

/// The schema of a table of these keys and values.
pub(crate) fn table_schema(keys: Vec<KeyDeclaration>, values: Vec<Schema>) -> Schema {
    let required = keys.iter().filter(|key| key.missing.is_some()).map(|key| key.name);
    let required: Vec<&str> = required.collect();
    let mut properties = serde_json::Map::new();
    for (key, mut schema) in keys.into_iter().zip(values) {
        let about: Vec<&str> = key.about.iter().map(|line| line.trim()).collect();
        let said = [
            ("description", (!about.is_empty()).then(|| about.join(" ").into())),
            ("default", key.default),
            ("x-default", key.usual.map(Json::from)),
        ];
        for (name, value) in said {
            value.and_then(|value| schema.insert(name.to_owned(), value));
        }
        properties.insert(key.name.to_owned(), schema.into());
    }
    json_schema!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false
    })
}

/// The schema of whatever has one of these.
pub(crate) fn any_of(schemas: impl IntoIterator<Item = Schema>) -> Schema {
    let schemas: Vec<Schema> = schemas.into_iter().collect();
    json_schema!({ "anyOf": schemas })
}

impl<T: Parse> FromTree for T {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let form = node.form();
        let variable = if from_environment(&node.value) { Self::NATURE } else { Nature::Text };
        let parsed = match (&form, variable) {
            (Notation::Text(text), Nature::Integer) => match text.parse() {
                Ok(number) => Self::integer(number),
                Err(_) => Self::text(text),
            },
            (Notation::Text(text), Nature::Boolean) => match text.parse() {
                Ok(value) => Self::boolean(value),
                Err(_) => Self::text(text),
            },
            (Notation::Text(text), Nature::Text) => Self::text(text),
            (Notation::Integer(number), _) => Self::integer(*number),
            (Notation::Boolean(value), _) => Self::boolean(*value),
            (other, _) => Err(other.found().into()),
        };
        parsed.or_else(|why| node.refuse(&Self::allowed(), &why, report).ok_or(())).ok()
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        <T as Parse>::schema(generator)
    }
}

/// A type whose values are words, as serde writes them.
pub(crate) trait Word: DeserializeOwned + JsonSchema {}

/// Says which types are words.
macro_rules! word_types {
    ($($type:ty),+ $(,)?) => { $(impl $crate::config::file::reader::Word for $type {})+ };
}
pub(crate) use word_types;

impl<T: Word> Parse for T {
    fn allowed() -> ValueError {
        let words = match word::<T>("") {
            Ok(_) => &[],
            Err(UnknownWordError(words)) => words,
        };
        let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        match quoted.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => quoted.concat(),
        }
        .into()
    }

    fn text(text: &str) -> Result<Self, ValueError> {
        word(text).map_err(|UnknownWordError(words)| not_among(text, words.iter().copied()))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<T>()
    }
}

/// That a text is none of these, and which it is nearly.
pub(crate) fn not_among<'n>(text: &str, names: impl IntoIterator<Item = &'n str>) -> ValueError {
    match nearest(text, names) {
        Some(near) => format!("found another string; did you mean \"{near}\"?").into(),
        None => "found another string".into(),
    }
}

fn word<T: Word>(text: &str) -> Result<T, UnknownWordError> {
    T::deserialize(text.into_deserializer())
}

/// A text is none of these words.
#[derive(Debug, thiserror::Error)]
#[error("this is no word here")]
struct UnknownWordError(&'static [&'static str]);

impl de::Error for UnknownWordError {
    fn custom<T: fmt::Display>(_text: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_text: &str, words: &'static [&'static str]) -> Self {
        Self(words)
    }
}

impl<T: FromTree> FromTree for Option<T> {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        T::read(node, report).map(Some)
    }

    fn absent(_path: &KeyPath, _report: &mut Report) -> Option<Self> {
        Some(None)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = T::schema(generator);
        schema.insert("x-optional".to_owned(), true.into());
        schema
    }
}

impl<T: FromTree> FromTree for Vec<T> {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let nodes = node.list().or_else(|found| node.refuse("a list", found, report).ok_or(()));
        // Each is read, so that all that is wrong is reported.
        let read: Vec<Option<T>> =
            nodes.ok()?.iter().map(|element| T::read(element, report)).collect();
        read.into_iter().collect()
    }

    fn absent(_path: &KeyPath, _report: &mut Report) -> Option<Self> {
        Some(Self::new())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator) })
    }
}

/// Whatever the names of its keys.
impl<T: FromTree> FromTree for BTreeMap<String, T> {
    fn read(node: &Node<'_>, report: &mut Report) -> Option<Self> {
        let table = match node.form() {
            Notation::Table(table) => table,
            other => return node.refuse("a table", other.found(), report),
        };
        let mut map = Self::new();
        for (name, value) in table {
            let path = node.path.key(name);
            match T::read(&Node::new(value, path.clone()), report) {
                Some(value) => _ = map.insert(name.clone(), value),
                None => report.removed(path),
            }
        }
        Some(map)
    }

    fn absent(_path: &KeyPath, _report: &mut Report) -> Option<Self> {
        Some(Self::new())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": T::schema(generator) })
    }
}
