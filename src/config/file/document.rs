//! The file and the environment, merged into one tree by the `config` crate.
//!
//! The file is parsed here rather than by `config`, which knows no lines, prints the source line
//! in its errors, and reads a key such as `"a[999999999]"` as an index to make room for: such keys
//! do not reach it.

use std::collections::BTreeMap;
use std::fmt;

use ::config::{Config, ConfigError, Environment, Map, Source, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::files::Files;
use super::location::{KeyPath, Location};
use super::report::Report;
use crate::text;

/// What the names of the configuration's variables begin with.
const PREFIX: &str = "WBG__";

/// How the names of these variables are written.
const FORM: &str = "write WBG__SECTION__KEY in upper case, with two underscores between";

/// Syntax errors beyond these are mostly consequences of the first.
const MOST_SYNTAX_ERRORS: usize = 3;

/// Merges the file and the environment; `None` when the file is no TOML.
pub(crate) fn merge(
    text: &str,
    environment: &[(String, String)],
    report: &mut Report,
    files: &mut Files,
) -> Option<Value> {
    let document = DocumentSource(parse(text, report)?);
    let variables = variables(environment, report);
    for (name, value) in variables.iter().collect::<BTreeMap<_, _>>() {
        files.hash(name.as_bytes());
        files.hash(value.as_bytes());
    }
    let variables = Environment::with_prefix("WBG").separator("__").source(Some(variables));
    match Config::builder().add_source(document).add_source(variables).build() {
        Ok(merged) => Some(merged.cache),
        // Both sources are in memory and were checked; its text may hold a value.
        Err(_) => {
            let location = Location::File(report.locations.file.clone());
            let why = "the file and the environment cannot be merged".to_owned();
            report.wrong_at(location, why, None);
            None
        }
    }
}

/// The variables of the configuration among all; each is remembered as the location of its key.
fn variables(environment: &[(String, String)], report: &mut Report) -> Map<String, String> {
    let mut taken = Map::new();
    for (name, value) in environment {
        let ours = name.get(..PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(PREFIX));
        if !ours {
            continue;
        }
        let rest = &name[PREFIX.len()..];
        let segments: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
        let upper = name.starts_with(PREFIX) && !rest.contains(|c: char| c.is_ascii_lowercase());
        if !upper || !segments.iter().all(|segment| is_bare(segment)) {
            let message = format!("the name of this variable is that of no key: {FORM}");
            let location = Location::Variable(super::location::shown(name));
            report.wrong_at(location, message, Some(FORM));
            continue;
        }
        let value = match text::value(value) {
            Ok(value) => value.to_owned(),
            Err(why) => {
                let location = Location::Variable(name.clone());
                report.wrong_at(location, format!("this variable {why}"), None);
                continue;
            }
        };
        let keys: Vec<&str> = segments.iter().map(String::as_str).collect();
        report.locations.variable(KeyPath::of(&keys), name.clone());
        taken.insert(name.clone(), value);
    }
    taken
}

fn parse(text: &str, report: &mut Report) -> Option<Map<String, Value>> {
    let lines = LineStarts::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let mut walk = Walk { lines, report, failed: false };
        let table = walk.table(table.into_inner(), &KeyPath::default());
        return (!walk.failed).then_some(table);
    }
    for error in errors.iter().take(MOST_SYNTAX_ERRORS) {
        let at = error.span().map_or(text.len(), |span| span.start);
        let location = Location::Line(report.locations.file.clone(), lines.line(at));
        // The parser's own words are fixed ones; only its `Display` shows the line.
        let column = lines.column(text, at);
        report.wrong_at(
            location,
            format!("this is no TOML, at column {column}: {}", error.message()),
            None,
        );
    }
    None
}

/// From the parser's values to those of `config`, remembering where each key stands.
struct Walk<'r> {
    lines: LineStarts,
    report: &'r mut Report,
    failed: bool,
}

impl Walk<'_> {
    fn table(&mut self, table: DeTable<'_>, path: &KeyPath) -> Map<String, Value> {
        let mut map = Map::new();
        // The parser sorts by name; where the order means something, it is that of the file.
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let line = self.lines.line(key.span().start);
            let key = key.into_inner().into_owned();
            let top = path.steps().is_empty();
            let path = path.key(&key);
            let value = self.value(value, &path, line);
            if top && !is_bare(&key) {
                self.report.wrong(&path, "is not a key here: none has such characters");
                continue;
            }
            map.insert(key, value);
        }
        map
    }

    fn value(&mut self, value: Spanned<DeValue<'_>>, path: &KeyPath, line: usize) -> Value {
        let table = matches!(value.get_ref(), DeValue::Table(_));
        self.report.locations.line(path.clone(), line, table);
        let kind = match value.into_inner() {
            DeValue::String(text) => ValueKind::String(text.into_owned()),
            DeValue::Boolean(value) => ValueKind::Boolean(value),
            DeValue::Integer(digits) => {
                match i64::from_str_radix(digits.as_str(), digits.radix()) {
                    Ok(number) => ValueKind::I64(number),
                    Err(_) => self.failed(path, "is a number that is too large"),
                }
            }
            DeValue::Float(digits) => match digits.as_str().parse() {
                Ok(number) => ValueKind::Float(number),
                Err(_) => self.failed(path, "is a number that is too large"),
            },
            // Written without quotes; what takes a time takes its text.
            DeValue::Datetime(time) => ValueKind::String(time.to_string()),
            DeValue::Table(table) => ValueKind::Table(self.table(table, path)),
            DeValue::Array(array) => {
                let values = array.into_iter().enumerate().map(|(index, value)| {
                    let line = self.lines.line(value.span().start);
                    self.value(value, &path.index(index), line)
                });
                ValueKind::Array(values.collect())
            }
        };
        Value::new(None, kind)
    }

    fn failed(&mut self, path: &KeyPath, why: &str) -> ValueKind {
        self.failed = true;
        self.report.wrong(path, why);
        ValueKind::Nil
    }
}

/// Whether `config` reads a key as that key alone, and not as a path or an index.
fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// Whether a value came from a variable, whose every value is a text.
pub(crate) fn from_environment(value: &Value) -> bool {
    // The file's values are made above, without an origin; `config` gives the others one.
    value.origin().is_some()
}

/// The file as a source. No `Debug` of its contents: secrets may stand in it.
#[derive(Clone)]
struct DocumentSource(Map<String, Value>);

impl fmt::Debug for DocumentSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("DocumentSource")
    }
}

impl Source for DocumentSource {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Where the lines of a text begin.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(after.map(|(at, _)| at + 1)).collect())
    }

    /// The line of an offset, counted from 1.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }

    /// The column of an offset, counted from 1 in characters.
    fn column(&self, text: &str, offset: usize) -> usize {
        let start = self.0.get(self.line(offset) - 1).copied().unwrap_or(0);
        text.get(start..offset).map_or(0, |before| before.chars().count()) + 1
    }
}
