//! What is wrong with a configuration, and what is doubtful.
//!
//! No message holds a line of the file or the value of a string: a secret may stand in the wrong
//! place.

use std::fmt;

use super::location::{KeyPath, Location, Locations};

/// So many problems are told at once.
const MOST: usize = 50;

/// Everything that was found wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub struct LoadError(Vec<SettingError>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SettingError {
    /// The line or variable.
    pub location: Location,
    /// What is wrong, what is allowed, and what may have been meant.
    pub message: String,
}

/// One thing that works and is doubtful.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The line or variable.
    pub location: Location,
    /// What is doubtful, and what would be better.
    pub message: String,
}

impl LoadError {
    /// The problems, in the order of their locations.
    pub fn iter(&self) -> impl Iterator<Item = &SettingError> {
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

impl fmt::Display for SettingError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.location, self.message)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.location, self.message)
    }
}

/// Collects while a configuration is read.
pub(crate) struct Report {
    pub(crate) locations: Locations,
    problems: Vec<SettingError>,
    warnings: Vec<Warning>,
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

    /// `message` follows the name of the key: "must be …", "is missing".
    pub(crate) fn wrong(&mut self, path: &KeyPath, message: impl fmt::Display) {
        self.wrong_at(self.locations.of(path), format!("`{path}` {message}"));
    }

    pub(crate) fn wrong_at(&mut self, location: Location, message: String) {
        if self.problems.len() < MOST {
            self.problems.push(SettingError { location, message });
        }
    }

    pub(crate) fn missing(&mut self, path: &KeyPath, allowed: impl fmt::Display) {
        if !self.was_removed(path) {
            self.wrong(path, format_args!("is missing: {allowed}"));
        }
    }

    pub(crate) fn warn(&mut self, path: &KeyPath, message: impl fmt::Display) {
        self.warn_at(self.locations.of(path), format!("`{path}` {message}"));
    }

    pub(crate) fn warn_at(&mut self, location: Location, message: String) {
        self.warnings.push(Warning { location, message });
    }

    pub(crate) fn removed(&mut self, path: KeyPath) {
        self.removed.push(path);
    }

    pub(crate) fn was_removed(&self, path: &KeyPath) -> bool {
        self.removed.iter().any(|removed| path.is_within(removed))
    }

    /// The warnings, when nothing is wrong.
    pub(crate) fn finish(mut self) -> Result<Vec<Warning>, LoadError> {
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
