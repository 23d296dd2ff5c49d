//! A configuration as values, in the order in which they were given: a test adds sections, and sets
//! keys and takes them away by their path. Each scalar stays as it is written.

use std::fmt::{self, Display};
use std::fs;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A configuration, valid or not, that is TOML.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Configuration(Value);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// As TOML writes it.
    Scalar(String),
    List(Vec<Self>),
    Table(Vec<(String, Self)>),
}

/// A value as it is written in TOML.
pub(crate) fn value(text: &str) -> Value {
    let Value::Table(mut table) = Value::read(&format!("value = {text}")) else { unreachable!() };
    table.remove(0).1
}

impl Configuration {
    pub(crate) fn read(text: &str) -> Self {
        Self(Value::read(text))
    }

    /// Adds sections, or keys to sections that are there. What is there already is changed by
    /// [`Self::set`].
    pub(crate) fn with(mut self, sections: &str) -> Self {
        let added = Value::read(sections);
        let Value::Table(entries) = &added else { unreachable!() };
        assert!(entries.iter().all(|(_, entry)| entry.is_section()), "of no section: {sections}");
        self.0.add(added, "");
        self
    }

    /// Sets a key, such as `listen.workers`, whether or not it is there.
    pub(crate) fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        *self.0.entry(path) = value.into();
        self
    }

    /// Takes away a key, a section, or an item of a list by its index, which must be there.
    pub(crate) fn without(mut self, path: &str) -> Self {
        let (above, key) = path.rsplit_once('.').unwrap_or(("", path));
        match self.0.entry(above) {
            Value::Table(table) => {
                let at = table.iter().position(|(name, _)| name == key);
                table.remove(at.unwrap_or_else(|| panic!("no {path}")));
            }
            Value::List(list) => _ = list.remove(key.parse().unwrap()),
            Value::Scalar(_) => panic!("no {path}"),
        }
        self
    }

    /// Adds to the end of a list.
    pub(crate) fn push(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.0.list(path).push(value.into());
        self
    }

    /// Takes an item out of a list, where it must be.
    pub(crate) fn take_out(mut self, path: &str, item: &str) -> Self {
        let (list, item) = (self.0.list(path), Value::from(item));
        let at = list.iter().position(|one| *one == item);
        list.remove(at.unwrap_or_else(|| panic!("no {item:?} in {path}")));
        self
    }

    /// The value of a key.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.clone().0.entry(path).clone()
    }

    /// Writes it into a file.
    pub(crate) fn write(&self, path: &Path) {
        fs::write(path, self.to_string()).unwrap();
    }
}

impl Value {
    fn read(text: &str) -> Self {
        let table = DeTable::parse(text).unwrap_or_else(|error| panic!("{error} in {text}"));
        Self::of_table(table.get_ref(), text)
    }

    fn of(value: &Spanned<DeValue<'_>>, text: &str) -> Self {
        match value.get_ref() {
            DeValue::Table(table) => Self::of_table(table, text),
            DeValue::Array(list) => {
                Self::List(list.iter().map(|one| Self::of(one, text)).collect())
            }
            _ => Self::Scalar(text[value.span()].to_owned()),
        }
    }

    fn of_table(table: &DeTable<'_>, text: &str) -> Self {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries.into_iter();
        Self::Table(
            entries.map(|(key, one)| (key.get_ref().to_string(), Self::of(one, text))).collect(),
        )
    }

    fn is_section(&self) -> bool {
        match self {
            Self::Scalar(_) => false,
            Self::List(list) => list.iter().all(|one| matches!(one, Self::Table(_))),
            Self::Table(_) => true,
        }
    }

    /// Adds the entries of a table, of which none but sections may be there.
    fn add(&mut self, other: Self, path: &str) {
        match (self, other) {
            (Self::Table(table), Self::Table(more)) => {
                for (key, value) in more {
                    match table.iter_mut().find(|(name, _)| *name == key) {
                        Some((_, there)) => there.add(value, &format!("{path}{key}.")),
                        None => table.push((key, value)),
                    }
                }
            }
            (Self::List(list), Self::List(more)) if Self::List(more.clone()).is_section() => {
                list.extend(more);
            }
            _ => panic!("{path} is there already"),
        }
    }

    /// What is at a path, made where it is not there.
    fn entry(&mut self, path: &str) -> &mut Self {
        let steps = path.split('.').filter(|step| !step.is_empty());
        steps.fold(self, |value, step| match value {
            Self::Table(table) => {
                let at = table.iter().position(|(name, _)| name == step);
                let at = at.unwrap_or_else(|| {
                    table.push((step.to_owned(), Self::Table(Vec::new())));
                    table.len() - 1
                });
                &mut table[at].1
            }
            Self::List(list) => &mut list[step.parse::<usize>().unwrap()],
            Self::Scalar(scalar) => panic!("{path} is in {scalar}"),
        })
    }

    fn list(&mut self, path: &str) -> &mut Vec<Self> {
        match self.entry(path) {
            Self::List(list) => list,
            other => panic!("{path} is no list: {other:?}"),
        }
    }

    /// Writes a table as a section, with those below it.
    fn write(&self, path: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Table(table) = self else { unreachable!("a section is a table") };
        let is_below = |value: &Self| matches!(value, Self::Table(_));
        let own = || table.iter().filter(|(_, value)| !is_below(value));
        if own().next().is_some() || table.is_empty() {
            if !path.is_empty() {
                writeln!(f, "[{path}]")?;
            }
            own().try_for_each(|(key, value)| writeln!(f, "{} = {value}", Key(key)))?;
        }
        table.iter().filter(|(_, value)| is_below(value)).try_for_each(|(key, value)| {
            let dot = if path.is_empty() { "" } else { "." };
            value.write(&format!("{path}{dot}{}", Key(key)), f)
        })
    }
}

impl Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write("", f)
    }
}

/// In one line.
impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(text) => f.write_str(text),
            Self::List(list) => {
                let list: Vec<String> = list.iter().map(Self::to_string).collect();
                write!(f, "[{}]", list.join(", "))
            }
            Self::Table(table) => {
                let entries = table.iter().map(|(key, value)| format!("{} = {value}", Key(key)));
                write!(f, "{{ {} }}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A key, in quotes where it needs them.
struct Key<'a>(&'a str);

impl Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !self.0.is_empty() && self.0.chars().all(is_bare) {
            f.write_str(self.0)
        } else {
            quoted(self.0).fmt(f)
        }
    }
}

/// A text as TOML has it: JSON's escapes are among its own.
fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Scalar(quoted(text).to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Scalar(number.to_string())
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Self::Scalar(is.to_string())
    }
}

impl<T: Into<Self>> From<Vec<T>> for Value {
    fn from(list: Vec<T>) -> Self {
        Self::List(list.into_iter().map(Into::into).collect())
    }
}

#[test]
fn a_configuration_stays_as_it_is_but_for_what_is_changed() {
    let text = "[listen]\nworkers = 2\n[projects.a-b]\nkeys = [{ z = 1e3, a = \"x\" }]\n\
                [profiles.\"c d\"]\nallow = [\"b\", \"a\"]\nrooms = { claim = \"r\" }\n\
                [[denied]]\nsha256 = \"0\"\n";
    let configuration = Configuration::read(text);
    let written = configuration.to_string();
    assert_eq!(Configuration::read(&written).to_string(), written);
    assert!(written.contains("{ z = 1e3, a = \"x\" }"), "{written}");
    let changed = configuration
        .set("listen.workers", 1)
        .with("[listen]\nshare = true\n[[denied]]\nsha256 = \"1\"\n")
        .take_out("profiles.c d.allow", "b")
        .set("projects.a-b.keys.0.a", "y")
        .without("profiles.c d.rooms");
    let expected = "[listen]\nworkers = 1\nshare = true\n[projects.a-b]\n\
                    keys = [{ z = 1e3, a = \"y\" }]\n[profiles.\"c d\"]\nallow = [\"a\"]\n";
    let written = changed.to_string();
    assert!(written.contains(expected), "{written}");
    assert_eq!(changed.get("denied"), value("[{ sha256 = \"0\" }, { sha256 = \"1\" }]"));
}
