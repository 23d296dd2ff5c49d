//! What is wrong with a configuration, and what is doubtful.
//!
//! No message holds a line of the file or the value of a string: a secret may stand in the wrong
//! place.

use std::fmt;

use serde_json::{Value, json};

use super::location::{KeyPath, Location, Locations};

/// So many problems are told at once.
const MOST: usize = 50;

/// Everything that was found wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub struct LoadError(Vec<Diagnostic>);

/// One thing that is wrong, or one that works and is doubtful.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The line or variable.
    pub location: Location,
    /// The path of the key, where it is about one.
    pub key: Option<String>,
    /// What is wrong, what is allowed, and what may have been meant.
    pub message: String,
    /// The part of the message that says what to write.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// One about a key of a file, which nothing says the line of.
    pub fn of_file(file: String, key: Option<&str>, message: String) -> Self {
        Self { location: Location::File(file), key: key.map(str::to_owned), message, hint: None }
    }

    /// For programs. A member that there is nothing for is `null`.
    pub fn json(&self) -> Value {
        let (file, line, variable) = self.location.parts();
        json!({
            "file": file, "line": line, "variable": variable, "key": self.key,
            "message": self.message, "hint": self.hint,
        })
    }
}

impl LoadError {
    /// The problems, in the order of their locations.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.0.iter()
    }
}

impl fmt::Display for LoadError {
    /// One paragraph each.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { "\n\n" };
            write!(out, "{between}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.location, self.message)
    }
}

/// Collects while a configuration is read.
pub(crate) struct Report {
    pub(crate) locations: Locations,
    problems: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// What was wrong and taken out: that it is missing now is no second problem.
    removed: Vec<KeyPath>,
}

impl Report {
    pub(crate) fn new(file: String) -> Self {
        Self {
            locations: Locations::new(file),
            problems: Vec::new(),
            warnings: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// `message` follows the name of the key: "must be …", "is missing". After a colon it says what
    /// to write.
    pub(crate) fn wrong(&mut self, path: &KeyPath, message: impl fmt::Display) {
        let found = self.diagnostic(path, message);
        self.add(found);
    }

    /// The same, where what to write stands elsewhere in the message.
    pub(crate) fn wrong_with(&mut self, path: &KeyPath, message: impl fmt::Display, hint: String) {
        let found = Diagnostic { hint: Some(hint), ..self.diagnostic(path, message) };
        self.add(found);
    }

    /// What is about no key.
    pub(crate) fn wrong_at(&mut self, location: Location, message: String, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        self.add(Diagnostic { location, key: None, message, hint });
    }

    fn add(&mut self, found: Diagnostic) {
        if self.problems.len() < MOST {
            self.problems.push(found);
        }
    }

    fn diagnostic(&self, path: &KeyPath, message: impl fmt::Display) -> Diagnostic {
        let (key, message) = (path.to_string(), message.to_string());
        let hint = message.split_once(": ").map(|(_, hint)| hint.to_owned());
        let message = format!("`{key}` {message}");
        Diagnostic { location: self.locations.of(path), key: Some(key), message, hint }
    }

    pub(crate) fn missing(&mut self, path: &KeyPath, allowed: impl fmt::Display) {
        if !self.was_removed(path) {
            self.wrong(path, format_args!("is missing: {allowed}"));
        }
    }

    pub(crate) fn warn(&mut self, path: &KeyPath, message: impl fmt::Display) {
        let found = self.diagnostic(path, message);
        self.warnings.push(found);
    }

    /// What is about no key of the file.
    pub(crate) fn warn_at(&mut self, location: Location, message: String) {
        self.warnings.push(Diagnostic { location, key: None, message, hint: None });
    }

    pub(crate) fn removed(&mut self, path: KeyPath) {
        self.removed.push(path);
    }

    pub(crate) fn was_removed(&self, path: &KeyPath) -> bool {
        self.removed.iter().any(|removed| path.is_within(removed))
    }

    /// The warnings, when nothing is wrong.
    pub(crate) fn finish(mut self) -> Result<Vec<Diagnostic>, LoadError> {
        if self.problems.is_empty() {
            self.warnings.sort();
            return Ok(self.warnings);
        }
        Err(self.into_errors())
    }

    /// The problems, of which there is at least one.
    pub(crate) fn into_errors(mut self) -> LoadError {
        self.problems.sort();
        self.problems.dedup();
        LoadError(self.problems)
    }
}
