//! Where a key stands: its path, and the line or variable that set it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// As many characters of a key are shown.
const SHOWN: usize = 64;

/// The path of a key: `profiles.student.allow[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyPath(Vec<PathStep>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PathStep {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// A path of keys alone.
    pub(crate) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| PathStep::Key((*key).to_owned())).collect())
    }

    /// The path of a key below this one.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.then(PathStep::Key(key.to_owned()))
    }

    /// The path of an element below this one.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.then(PathStep::Index(index))
    }

    pub(crate) fn then(&self, step: PathStep) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    pub(crate) fn steps(&self) -> &[PathStep] {
        &self.0
    }

    /// The keys that it goes through, without the places in lists.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| match step {
            PathStep::Key(key) => Some(key.as_str()),
            PathStep::Index(_) => None,
        })
    }

    /// What this one is an element or key of.
    pub(crate) fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Index(index) => write!(out, "[{index}]")?,
                PathStep::Key(key) => {
                    let dot = if index == 0 { "" } else { "." };
                    write!(out, "{dot}{}", shown(key))?;
                }
            }
        }
        Ok(())
    }
}

/// A key as a message shows it: quoted unless it is bare, escaped, and not endless.
pub(crate) fn shown(key: &str) -> String {
    let mut text: String = key.chars().take(SHOWN).flat_map(char::escape_default).collect();
    if key.chars().nth(SHOWN).is_some() {
        text.push('…');
    }
    let bare =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if bare { text } else { format!("\"{text}\"") }
}

/// The line or variable that set a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Location {
    /// A file as a whole.
    File(String),
    /// A line of a file, counted from 1.
    Line(String, usize),
    /// A variable of the environment.
    Variable(String),
}

impl Location {
    /// The file, the line and the variable, as far as it has them.
    pub fn parts(&self) -> (Option<&str>, Option<usize>, Option<&str>) {
        match self {
            Self::File(file) => (Some(file), None, None),
            Self::Line(file, line) => (Some(file), Some(*line), None),
            Self::Variable(name) => (None, None, Some(name)),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => out.write_str(file),
            Self::Line(file, line) => write!(out, "{file}:{line}"),
            Self::Variable(name) => out.write_str(name),
        }
    }
}

/// The locations of all keys.
#[derive(Debug, Default)]
pub(crate) struct Locations {
    pub(crate) file: String,
    lines: HashMap<KeyPath, KeyLine>,
    variables: BTreeMap<KeyPath, String>,
}

#[derive(Clone, Copy, Debug)]
struct KeyLine {
    line: usize,
    /// How many keys were written before.
    order: usize,
    table: bool,
}

impl Locations {
    pub(crate) fn new(file: String) -> Self {
        Self { file, ..Self::default() }
    }

    /// Remembers a key of the file. Those of a table come in the order of the file.
    pub(crate) fn line(&mut self, path: KeyPath, line: usize, table: bool) {
        let order = self.lines.len();
        self.lines.insert(path, KeyLine { line, order, table });
    }

    /// What grows with the order of the keys of a table; `None` for one that a variable has set.
    pub(crate) fn order(&self, path: &KeyPath) -> Option<usize> {
        let written = self.lines.get(path).filter(|_| !self.variables.contains_key(path))?;
        Some(written.order)
    }

    /// Whether a key is written, or something below it is set by a variable.
    pub(crate) fn is_set(&self, path: &KeyPath) -> bool {
        let below = self.variables.range(path..).next();
        self.lines.contains_key(path) || below.is_some_and(|(below, _)| below.is_within(path))
    }

    pub(crate) fn variable(&mut self, path: KeyPath, name: String) {
        self.variables.insert(path, name);
    }

    /// The location of a key; of what it would be in, when it is missing.
    pub(crate) fn of(&self, path: &KeyPath) -> Location {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if let Some(name) = self.variables.get(&path) {
                return Location::Variable(name.clone());
            }
            let written = self.lines.get(&path);
            // A variable that names a key below one that is no table has made it one.
            if written.is_none_or(|written| !written.table)
                && let Some((below, name)) = self.variables.range(&path..).next()
                && below.is_within(&path)
                && !path.0.is_empty()
            {
                return Location::Variable(name.clone());
            }
            if let Some(written) = written {
                return Location::Line(self.file.clone(), written.line);
            }
            at = path.parent();
        }
        Location::File(self.file.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_as_it_would_be_written() {
        let path = KeyPath::of(&["profiles", "student"]).key("allow").index(2);
        assert_eq!(path.to_string(), "profiles.student.allow[2]");
        assert_eq!(KeyPath::of(&["a b", ""]).to_string(), r#""a b".""#.to_owned() + "\"");
        let odd = KeyPath::of(&[&"\u{1b}[31m".repeat(30)]).to_string();
        assert!(odd.starts_with(r#""\u{1b}[31m"#) && odd.ends_with("…\""), "{odd}");
    }

    #[test]
    fn the_location_is_that_of_what_set_the_key() {
        let mut locations = Locations::new("gateway.toml".to_owned());
        let listen = KeyPath::of(&["listen"]);
        locations.line(listen.clone(), 1, true);
        locations.line(listen.key("address"), 2, false);
        locations.line(listen.key("share"), 3, false);
        locations.variable(listen.key("share"), "WBG__LISTEN__SHARE".to_owned());
        locations.variable(listen.key("address").key("x"), "WBG__LISTEN__ADDRESS__X".to_owned());
        for (path, place) in [
            (listen.clone(), "gateway.toml:1"),
            (listen.key("workers"), "gateway.toml:1"),
            (listen.key("share"), "WBG__LISTEN__SHARE"),
            (listen.key("address"), "WBG__LISTEN__ADDRESS__X"),
            (KeyPath::of(&["admin"]), "gateway.toml"),
        ] {
            assert_eq!(locations.of(&path).to_string(), place, "{path}");
        }
    }
}
