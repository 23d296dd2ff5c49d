//! Where a key stands: its path, and the line or variable that set it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// As many characters of a key are shown.
const SHOWN: usize = 64;

/// The path of a key: `profiles.student.allow[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct KeyPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl KeyPath {
    /// A path of keys alone.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key((*key).to_owned())).collect())
    }

    /// The path of a key below this one.
    pub(super) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// The path of an element below this one.
    pub(super) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    pub(super) fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// What this one is an element or key of.
    pub(super) fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }

    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl From<&serde_path_to_error::Path> for KeyPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let steps = path.iter().map_while(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        Self(steps.collect())
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(out, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if place == 0 { "" } else { "." };
                    write!(out, "{dot}{}", shown(key))?;
                }
            }
        }
        Ok(())
    }
}

/// A key as a message shows it: quoted unless it is bare, escaped, and not endless.
pub(super) fn shown(key: &str) -> String {
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
pub enum Place {
    /// A file as a whole.
    File(String),
    /// A line of a file, counted from 1.
    Line(String, usize),
    /// A variable of the environment.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => out.write_str(file),
            Self::Line(file, line) => write!(out, "{file}:{line}"),
            Self::Variable(name) => out.write_str(name),
        }
    }
}

/// The places of all keys.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) file: String,
    lines: HashMap<KeyPath, Written>,
    variables: BTreeMap<KeyPath, String>,
}

#[derive(Clone, Copy, Debug)]
struct Written {
    line: usize,
    /// How many keys were written before.
    order: usize,
    table: bool,
}

impl Places {
    pub(super) fn new(file: String) -> Self {
        Self { file, ..Self::default() }
    }

    /// Remembers a key of the file. Those of a table come in the order of the file.
    pub(super) fn line(&mut self, path: KeyPath, line: usize, table: bool) {
        let order = self.lines.len();
        self.lines.insert(path, Written { line, order, table });
    }

    /// What grows with the order of the keys of a table; `None` for one that a variable has set.
    pub(super) fn order(&self, path: &KeyPath) -> Option<usize> {
        let written = self.lines.get(path).filter(|_| !self.variables.contains_key(path))?;
        Some(written.order)
    }

    pub(super) fn variable(&mut self, path: KeyPath, name: String) {
        self.variables.insert(path, name);
    }

    /// The place of a key; of what it would be in, when it is missing.
    pub(super) fn of(&self, path: &KeyPath) -> Place {
        let mut at = Some(path.clone());
        while let Some(path) = at {
            if let Some(name) = self.variables.get(&path) {
                return Place::Variable(name.clone());
            }
            let written = self.lines.get(&path);
            // A variable that names a key below one that is no table has made it one.
            if written.is_none_or(|written| !written.table)
                && let Some((below, name)) = self.variables.range(&path..).next()
                && below.is_within(&path)
                && !path.0.is_empty()
            {
                return Place::Variable(name.clone());
            }
            if let Some(written) = written {
                return Place::Line(self.file.clone(), written.line);
            }
            at = path.parent();
        }
        Place::File(self.file.clone())
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
    fn the_place_is_that_of_what_set_the_key() {
        let mut places = Places::new("gateway.toml".to_owned());
        let listen = KeyPath::of(&["listen"]);
        places.line(listen.clone(), 1, true);
        places.line(listen.key("address"), 2, false);
        places.line(listen.key("share"), 3, false);
        places.variable(listen.key("share"), "WBG__LISTEN__SHARE".to_owned());
        places.variable(listen.key("address").key("x"), "WBG__LISTEN__ADDRESS__X".to_owned());
        for (path, place) in [
            (listen.clone(), "gateway.toml:1"),
            (listen.key("workers"), "gateway.toml:1"),
            (listen.key("share"), "WBG__LISTEN__SHARE"),
            (listen.key("address"), "WBG__LISTEN__ADDRESS__X"),
            (KeyPath::of(&["admin"]), "gateway.toml"),
        ] {
            assert_eq!(places.of(&path).to_string(), place, "{path}");
        }
    }
}
