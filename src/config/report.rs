//! What is wrong with a configuration, and what is doubtful.
//!
//! No message holds a line of the file or the value of a string: a secret may stand in the wrong
//! place.

use std::fmt;

use super::place::{KeyPath, Place, Places};

/// So many problems are told at once.
const MOST: usize = 50;

/// Everything that was found wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub struct Errors(Vec<Problem>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line or variable.
    pub place: Place,
    /// What is wrong, what is allowed, and what may have been meant.
    pub message: String,
}

/// One thing that works and is doubtful.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The line or variable.
    pub place: Place,
    /// What is doubtful, and what would be better.
    pub message: String,
}

impl Errors {
    /// The problems, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Errors {
    /// One paragraph each.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().enumerate() {
            let between = if place == 0 { "" } else { "\n\n" };
            write!(out, "{between}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.message)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.message)
    }
}

/// Collects while a configuration is read.
pub(super) struct Report {
    pub(super) places: Places,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
    /// What was wrong and taken out: that it is missing now is no second problem.
    removed: Vec<KeyPath>,
}

impl Report {
    pub(super) fn new(file: String) -> Self {
        Self {
            places: Places::new(file),
            problems: Vec::new(),
            warnings: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// `message` follows the name of the key: "must be …", "is missing".
    pub(super) fn wrong(&mut self, path: &KeyPath, message: impl fmt::Display) {
        self.wrong_at(self.places.of(path), format!("`{path}` {message}"));
    }

    pub(super) fn wrong_at(&mut self, place: Place, message: String) {
        self.problems.push(Problem { place, message });
    }

    pub(super) fn missing(&mut self, path: &KeyPath, allowed: impl fmt::Display) {
        if !self.was_removed(path) {
            self.wrong(path, format_args!("is missing: {allowed}"));
        }
    }

    pub(super) fn warn(&mut self, path: &KeyPath, message: impl fmt::Display) {
        let message = format!("`{path}` {message}");
        self.warnings.push(Warning { place: self.places.of(path), message });
    }

    pub(super) fn removed(&mut self, path: KeyPath) {
        self.removed.push(path);
    }

    pub(super) fn was_removed(&self, path: &KeyPath) -> bool {
        self.removed.iter().any(|removed| path.is_within(removed))
    }

    /// Whether nothing more need be looked for.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= MOST
    }

    /// The warnings, when nothing is wrong.
    pub(super) fn finish(mut self) -> Result<Vec<Warning>, Errors> {
        if self.problems.is_empty() {
            self.warnings.sort();
            return Ok(self.warnings);
        }
        Err(self.into_errors())
    }

    /// The problems, of which there is at least one.
    pub(super) fn into_errors(mut self) -> Errors {
        self.problems.sort();
        self.problems.dedup();
        Errors(self.problems)
    }
}
