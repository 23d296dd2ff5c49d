//! The JSON Schema of the file, made of what the sections declare.
//!
//! As declared it holds what the page of the configuration says, in Markdown, and members of ours
//! (`x-range`, `x-default`, `x-optional`, `x-secret`). What is printed holds what editors of TOML know: draft 7,
//! which is the newest that they share, without references, beside which it knows no other word.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::file::FromTree as _;
use super::sections::WholeFile;

/// What the members of ours begin with.
const OURS: &str = "x-";

/// The schema with what only we read.
pub(crate) fn declared() -> Value {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    WholeFile::schema(&mut SchemaGenerator::new(settings)).to_value()
}

/// The JSON Schema of the file, for editors. Where a variable sets a key, the file may lack it.
pub fn schema() -> Value {
    let mut schema = declared();
    publish(&mut schema);
    let mut whole = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The configuration of whiteboard-gateway",
    });
    if let (Some(whole), Value::Object(schema)) = (whole.as_object_mut(), schema) {
        whole.extend(schema);
    }
    whole
}

/// Makes a schema, and those in it, what an editor reads.
fn publish(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    describe(members);
    members.retain(|name, _| !name.starts_with(OURS));
    words(members);
    for (name, value) in members {
        match (name.as_str(), value) {
            ("items" | "additionalProperties", schema) => publish(schema),
            ("properties", Value::Object(schemas)) => schemas.values_mut().for_each(publish),
            ("anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter_mut().for_each(publish),
            _ => {}
        }
    }
}

/// One text of what is said of a key: its meaning, its range, and what it is when it is omitted.
fn describe(members: &mut Map<String, Value>) {
    let said = |name: &str| members.get(name).and_then(Value::as_str);
    let parts = [
        said("description").map(without_links),
        said("x-range").map(|range| format!("{range}.")),
        said("x-default").map(|usual| format!("Without it: {usual}.")),
    ];
    let text: Vec<String> = parts.into_iter().flatten().collect();
    if !text.is_empty() {
        members.insert("description".to_owned(), text.join(" ").into());
    }
}

/// A text of Markdown whose links, which lead from page to page, are their words alone.
fn without_links(text: &str) -> String {
    let mut parts = text.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut before, part| {
        if let Some(at) = before.rfind('[') {
            before.remove(at);
        }
        before + part.split_once(')').map_or("", |(_, after)| after)
    })
}

/// Words, each of which has a schema of its own, as a list of words.
fn words(members: &mut Map<String, Value>) {
    let Some(Value::Array(forms)) = members.get("oneOf") else { return };
    let words: Option<Vec<Value>> = forms.iter().map(|form| form.get("const").cloned()).collect();
    if let Some(words) = words {
        members.remove("oneOf");
        members.insert("enum".to_owned(), words.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_its_words() {
        for (text, told) in [
            ("no link", "no link"),
            ("a [hand-over](production.md#a). b", "a hand-over. b"),
            ("[a](b) and [c](d)", "a and c"),
            ("a list `keys[]` of [them](x)", "a list `keys[]` of them"),
        ] {
            assert_eq!(without_links(text), told);
        }
    }
}
