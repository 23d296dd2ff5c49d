//! What counts in the end: each key with its value, and where that comes from.
//!
//! It is told from what the sections declare, and from what the file and the environment say; no
//! section knows of it. A secret is never told: not the text of a key that may hold one, and not
//! what stands before the `@` of any URL.

use std::fmt::Write as _;

use ::config::{Value, ValueKind};
use serde_json::{Map, Value as Json, json};

use super::file::document::from_environment;
use super::file::location::shown;
use super::file::{Files, KeyPath, Location, Report, document};
use super::schema::declared;
use super::{LoadError, Loaded, Source, load};

/// What stands where a secret would.
const MASK: &str = "********";

/// A configuration as it counts.
pub struct EffectiveConfiguration {
    file: String,
    /// The version of what was read.
    pub version: String,
    entries: Vec<ShownLine>,
}

/// A line of it.
enum ShownLine {
    /// A table, or an element of a list of tables, begins.
    Table {
        header: String,
    },
    ShownKey(ShownKey),
}

/// A key, and what it is.
struct ShownKey {
    path: KeyPath,
    name: String,
    /// `None` for what the gateway finds out by itself.
    value: Option<Json>,
    /// What that is, in words.
    usual: Option<String>,
    /// Where the value stands; `None` for a default.
    location: Option<Location>,
}

/// Reads a configuration as `serve` does, and tells what counts.
///
/// # LoadError
/// [`LoadError`] lists everything that is wrong with it.
pub fn show(
    source: &Source,
    environment: &[(String, String)],
) -> Result<EffectiveConfiguration, LoadError> {
    let Loaded { version, .. } = load(source, environment)?;
    let mut report = Report::new(source.name());
    let mut files = Files::new(source.directory());
    let tree = source.read(&mut report, &mut files);
    let tree = tree.and_then(|text| document::merge(&text, environment, &mut report, &mut files));
    let Some(tree) = tree else { return Err(report.into_errors()) };
    let mut walk = KeyWalk { report: &report, entries: Vec::new() };
    walk.section(&declared(), Some(&tree), &KeyPath::default(), "[");
    let entries = walk.entries;
    Ok(EffectiveConfiguration { file: source.name(), version, entries })
}

/// Through the declarations and what is written, side by side.
struct KeyWalk<'r> {
    report: &'r Report,
    entries: Vec<ShownLine>,
}

impl KeyWalk<'_> {
    /// A table with these keys, its own ones before the tables in it.
    fn section(&mut self, schema: &Json, value: Option<&Value>, path: &KeyPath, bracket: &str) {
        let Some(properties) = schema["properties"].as_object() else { return };
        if !path.steps().is_empty() {
            self.begin(path, bracket);
        }
        let inner = |name: &str| value.and_then(|value| member(value, name));
        let (tables, keys): (Vec<_>, Vec<_>) =
            properties.iter().partition(|(_, schema)| is_table(schema));
        for (name, schema) in keys {
            self.key(schema, inner(name), &path.key(name), name);
        }
        for (name, schema) in tables {
            self.table(schema, inner(name), &path.key(name));
        }
    }

    fn begin(&mut self, path: &KeyPath, bracket: &str) {
        let close = bracket.replace('[', "]");
        let header = format!("{bracket}{}{close}", without_indices(path));
        self.entries.push(ShownLine::Table { header });
    }

    fn table(&mut self, schema: &Json, value: Option<&Value>, path: &KeyPath) {
        if let Some(of_each) = schema.get("additionalProperties").filter(|one| one.is_object()) {
            let Some(table) = value.and_then(as_table) else { return };
            let names = self.in_order(table, path);
            if names.is_empty() {
                return;
            }
            if !is_table(of_each) {
                self.begin(path, "[");
            }
            for (name, value) in names {
                let path = path.key(name);
                match is_table(of_each) {
                    true => self.section(of_each, Some(value), &path, "["),
                    false => self.key(of_each, Some(value), &path, name),
                }
            }
        } else if let Some(of_each) = schema.get("items") {
            let elements = value.map(|value| &value.kind);
            let Some(ValueKind::Array(elements)) = elements else { return };
            for (index, element) in elements.iter().enumerate() {
                self.section(of_each, Some(element), &path.index(index), "[[");
            }
        } else if value.is_some() || schema["x-optional"].is_null() {
            self.section(schema, value, path, "[");
        }
    }

    fn key(&mut self, schema: &Json, value: Option<&Value>, path: &KeyPath, name: &str) {
        let text = |name: &str| schema[name].as_str().map(str::to_owned);
        let mut key = ShownKey {
            path: path.clone(),
            name: name.to_owned(),
            value: None,
            usual: text("x-default"),
            location: None,
        };
        match value {
            Some(value) => {
                key.location = Some(self.report.locations.of(path));
                key.value = Some(self.masked(schema, value, path));
            }
            None => key.value = schema.get("default").cloned(),
        }
        if key.value.is_some() || key.usual.is_some() {
            self.entries.push(ShownLine::ShownKey(key));
        }
    }

    /// A value as the file would write it, without what is secret in it.
    fn masked(&self, schema: &Json, value: &Value, path: &KeyPath) -> Json {
        match &value.kind {
            ValueKind::String(_) if holds_secret(schema) => MASK.into(),
            ValueKind::String(text) if from_environment(value) => of_variable(schema, text),
            ValueKind::String(text) => without_userinfo(text).into(),
            ValueKind::Boolean(value) => (*value).into(),
            ValueKind::I64(number) => (*number).into(),
            ValueKind::Float(number) => (*number).into(),
            ValueKind::Array(elements) => {
                let each = elements.iter().enumerate();
                each.map(|(index, one)| self.masked(&Json::Null, one, &path.index(index))).collect()
            }
            ValueKind::Table(table) => {
                let members = self.in_order(table, path).into_iter();
                let member = |(name, value): (&String, &Value)| {
                    (name.clone(), self.masked(&Json::Null, value, &path.key(name)))
                };
                Json::Object(members.map(member).collect())
            }
            // Neither the file nor the environment makes these.
            ValueKind::Nil | ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_) => {
                Json::Null
            }
        }
    }

    /// The members of a table, as the file has them; those of variables by name, behind.
    fn in_order<'t>(
        &self,
        table: &'t ::config::Map<String, Value>,
        path: &KeyPath,
    ) -> Vec<(&'t String, &'t Value)> {
        let mut members: Vec<_> = table.iter().collect();
        let order = |name: &str| self.report.locations.order(&path.key(name)).unwrap_or(usize::MAX);
        members.sort_by_key(|(name, _)| (order(name), (*name).clone()));
        members
    }
}

/// Whether a schema is of a table of keys, of such tables by names, or of a list of such.
fn is_table(schema: &Json) -> bool {
    let nested = |name| schema.get(name).is_some_and(is_table);
    let by_names = schema.get("additionalProperties").is_some_and(Json::is_object);
    schema["properties"].is_object() || by_names || nested("items")
}

/// Whether a text that stands there may be a secret.
fn holds_secret(schema: &Json) -> bool {
    let forms = schema["anyOf"].as_array();
    schema["x-secret"] == true || forms.is_some_and(|forms| forms.iter().any(holds_secret))
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    as_table(value)?.get(name)
}

const fn as_table(value: &Value) -> Option<&::config::Map<String, Value>> {
    match &value.kind {
        ValueKind::Table(table) => Some(table),
        _ => None,
    }
}

/// The value that a variable's text is, as the file would write it.
fn of_variable(schema: &Json, text: &str) -> Json {
    let read = match schema["type"].as_str() {
        Some("integer") => text.parse::<i64>().ok().map(Json::from),
        Some("boolean") => text.parse::<bool>().ok().map(Json::from),
        Some("array") => {
            let texts = text.split(',').map(str::trim).filter(|one| !one.is_empty());
            Some(texts.map(|one| Json::from(without_userinfo(one))).collect())
        }
        _ => None,
    };
    read.unwrap_or_else(|| without_userinfo(text).into())
}

/// A text without what stands before the `@` of a URL in it.
fn without_userinfo(text: &str) -> String {
    // A proxy may be written without its scheme.
    if let Some((user, host)) = text.rsplit_once('@').filter(|_| !text.contains("://"))
        && user.contains(':')
    {
        return format!("{MASK}@{host}");
    }
    let mut parts = text.split("://");
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['/', ',', '?', '#']).unwrap_or(part.len());
        let rest = part[..end].rfind('@').map_or(part, |at| &part[at..]);
        let mask = if rest.len() == part.len() { "" } else { MASK };
        _ = write!(told, "://{mask}{rest}");
    }
    told
}

impl EffectiveConfiguration {
    /// As TOML, which loads again but for its secrets; each line ends with where it comes from. A
    /// default is a comment: some keys may be written only beside others. With `changed` there are
    /// no defaults.
    pub fn toml(&self, changed: bool) -> String {
        let mut text = format!("# {}, version {}\n", self.file, self.version);
        let mut header = None;
        for entry in &self.entries {
            match entry {
                ShownLine::Table { header: next } => header = Some(next),
                ShownLine::ShownKey(key) if changed && key.location.is_none() => {}
                ShownLine::ShownKey(key) => {
                    if let Some(header) = header.take() {
                        _ = write!(text, "\n{header}\n");
                    }
                    text += &key.line();
                }
            }
        }
        text
    }

    /// As a JSON object.
    pub fn json(&self, changed: bool) -> Json {
        let keys = self.entries.iter().filter_map(|entry| match entry {
            ShownLine::ShownKey(key) if !changed || key.location.is_some() => Some(key.json()),
            _ => None,
        });
        let keys: Vec<Json> = keys.collect();
        json!({ "file": self.file, "version": self.version, "keys": keys })
    }
}

impl ShownKey {
    fn line(&self) -> String {
        match (&self.value, &self.location) {
            (Some(value), Some(location)) => {
                format!("{} = {}  # {location}\n", quoted(&self.name), inline(value))
            }
            (Some(value), None) => {
                format!("#{} = {}  # default\n", quoted(&self.name), inline(value))
            }
            (None, _) => {
                format!("#{}: {}\n", self.name, self.usual.as_deref().unwrap_or_default())
            }
        }
    }

    fn json(&self) -> Json {
        let (file, line, variable) = match &self.location {
            Some(location) => location.parts(),
            None => (None, None, None),
        };
        let from = match &self.location {
            None => "default",
            Some(Location::Variable(_)) => "variable",
            Some(_) => "file",
        };
        json!({
            "key": self.path.to_string(), "value": self.value, "usual": self.usual,
            "from": from, "file": file, "line": line, "variable": variable,
        })
    }
}

/// A value in one line of TOML.
fn inline(value: &Json) -> String {
    match value {
        Json::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(inline).collect();
            format!("[{}]", elements.join(", "))
        }
        Json::Object(members) => table(members),
        Json::String(text) => string(text),
        other => other.to_string(),
    }
}

fn table(members: &Map<String, Json>) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("{} = {}", quoted(name), inline(value)))
        .collect();
    if members.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", members.join(", ")) }
}

/// A basic string of TOML, which is one of JSON but for this character.
fn string(text: &str) -> String {
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// A key, in quotes where it is not bare.
fn quoted(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { string(name) }
}

/// A path as a header writes it: an element of a list is its list.
fn without_indices(path: &KeyPath) -> String {
    let keys = path.keys().map(|key| if shown(key) == key { key.to_owned() } else { string(key) });
    keys.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_an_at_sign_is_not_told() {
        for (text, told) in [
            ("redis://:secret@a:1/0", "redis://********@a:1/0"),
            (
                "redis://u:a@b@host, redis://v:x@other",
                "redis://********@host, redis://********@other",
            ),
            ("https://a.org/@x", "https://a.org/@x"),
            ("a@b", "a@b"),
            ("user:secret@proxy:3128", "********@proxy:3128"),
        ] {
            assert_eq!(without_userinfo(text), told);
        }
    }

    #[test]
    fn a_text_is_written_as_toml_reads_it() {
        for text in ["a", "a \"b\" \\", "line\nend\t\u{1}\u{7f}", "ä🎓"] {
            let toml = format!("{} = {}", quoted(text), string(text));
            let read: Json = toml::from_str(&toml).unwrap_or_else(|why| panic!("{toml}: {why}"));
            assert_eq!(read[text], text);
        }
    }
}
