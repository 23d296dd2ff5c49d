//! Who got a token that has leaked: the records of the audit are searched for its SHA-256.
//!
//! Files are read a line at a time, however large they are. A line that is no record, as a full
//! disk or a crash leaves it, is counted and passed over.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::TokenKind;
use crate::telemetry::TokenFingerprint;
use crate::text;
use crate::token::{Claims, TokenHash};

/// No record is longer; a line that is will not be kept in memory.
const LONGEST: u64 = 64 * 1024;

/// How a record begins.
const BEGINNING: &[u8] = b"{\"time\":";

/// A search, and what it has found.
pub(super) struct Search {
    /// Of its text as it was given.
    fingerprint: String,
    /// Of the texts that it may have had when it was handed out.
    others: Vec<String>,
    found: Vec<Value>,
    records: u64,
    broken: u64,
    files: usize,
}

/// What is looked at of each line.
#[derive(Deserialize)]
struct AuditLine<'a> {
    #[serde(borrow)]
    token_sha256: Option<Cow<'a, str>>,
}

impl Search {
    /// Searches files; `None` when there are none.
    pub(super) fn through(files: &[PathBuf], token: &str) -> anyhow::Result<Option<Self>> {
        if files.is_empty() {
            return Ok(None);
        }
        let mut search = Self::of(token);
        for path in files {
            let unreadable = || format!("the audit file {} cannot be read", path.display());
            let file = File::open(path).with_context(unreadable)?;
            search
                .read(BufReader::with_capacity(LONGEST as usize, file))
                .with_context(unreadable)?;
        }
        Ok(Some(search))
    }

    fn of(token: &str) -> Self {
        let fingerprint = TokenFingerprint::of(token).to_string();
        // The prefix is not signed, and padding and the like are not either.
        let claims = Claims::read(token).ok();
        let canonical = |claims: &Claims| {
            TokenKind::ALL.map(|kind| TokenHash::of(claims, kind).to_string()).to_vec()
        };
        let others = claims.as_ref().map(canonical).unwrap_or_default();
        Self { fingerprint, others, found: Vec::new(), records: 0, broken: 0, files: 0 }
    }

    /// Whether anybody got the token.
    pub(super) const fn has_found(&self) -> bool {
        !self.found.is_empty()
    }

    fn read(&mut self, mut input: impl BufRead) -> io::Result<()> {
        self.files += 1;
        let mut line = Vec::new();
        loop {
            line.clear();
            if input.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST {
                input.skip_until(b'\n')?;
                self.broken += 1;
            } else if !line.trim_ascii().is_empty() {
                self.look_at(text::without_bom(&line));
            }
        }
    }

    fn look_at(&mut self, line: &[u8]) {
        if self.is_json(line) {
            return;
        }
        self.broken += 1;
        // A record that was cut short may have a whole one glued to it.
        let begins = line.windows(BEGINNING.len()).rposition(|part| part == BEGINNING);
        if let Some(at) = begins.filter(|at| *at > 0) {
            self.is_json(&line[at..]);
        }
    }

    /// Whether a line is whole; whatever it is about, among access lines for example.
    fn is_json(&mut self, line: &[u8]) -> bool {
        let Ok(AuditLine { token_sha256 }) = serde_json::from_slice(line) else { return false };
        self.records += u64::from(token_sha256.is_some());
        if token_sha256.is_some_and(|told| self.is_meant(&told))
            && let Ok(record) = serde_json::from_slice(line)
            && !self.found.contains(&record)
        {
            self.found.push(record);
        }
        true
    }

    fn is_meant(&self, hash: &str) -> bool {
        hash == self.fingerprint || self.others.iter().any(|other| other == hash)
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        json!({
            "found": self.has_found(),
            "tokenSha256": self.fingerprint,
            "records": self.found,
            "files": self.files,
            "searched": self.records,
            "broken": self.broken,
        })
    }
}

/// The texts of a record are escaped: a terminal must not obey them.
impl fmt::Display for Search {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.found.is_empty() {
            writeln!(out, "handed to:  nobody that these records tell of")?;
        }
        for record in &self.found {
            for (label, name) in [
                ("handed to:  ", "caller"),
                ("time:       ", "time"),
                ("client:     ", "client"),
                ("request id: ", "request_id"),
                ("granted by: ", "rule"),
                ("for room:   ", "room"),
                ("for task:   ", "task"),
            ] {
                if let Some(value) = record.get(name) {
                    let text = value.as_str().unwrap_or("unknown");
                    writeln!(out, "{label}{}", text.escape_debug())?;
                }
            }
        }
        let Self { records, files, broken, .. } = self;
        write!(out, "searched:   {records} records in {files} files")?;
        match broken {
            0 => writeln!(out),
            _ => writeln!(out, "; lines that are no whole record: {broken}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(token: &str) -> String {
        let fingerprint = TokenFingerprint::of(token);
        format!(
            "{{\"time\":\"2026-11-25T00:00:00.000Z\",\"caller\":\"lessons\",\"room\":\"r\\u001b\",\
             \"token_sha256\":\"{fingerprint}\"}}\n"
        )
    }

    fn search(text: &str) -> Search {
        let mut search = Search::of("leaked");
        // A buffer smaller than a line.
        search.read(BufReader::with_capacity(16, text.as_bytes())).unwrap();
        search
    }

    #[test]
    fn the_record_of_the_token_is_found_among_others() {
        let text = [record("a"), record("leaked"), record("b")].concat();
        let found = search(&text);
        assert_eq!((found.found.len(), found.records, found.broken), (1, 3, 0));
        assert_eq!(found.found[0]["caller"], "lessons");
        let told = found.to_string();
        assert!(told.contains("handed to:  lessons\n"), "{told}");
        assert!(told.contains("for room:   r\\u{1b}\n"), "{told}");
        assert!(!search(&record("a")).has_found());
    }

    #[test]
    fn lines_that_are_no_records_are_counted_and_passed_over() {
        let half = &record("leaked")[..40];
        let long = "x".repeat(3 * LONGEST as usize);
        let text = [half, "\n", "no json\n", "\n", &long, "\n", &record("leaked")].concat();
        let found = search(&text);
        assert_eq!((found.found.len(), found.records, found.broken), (1, 1, 3));
    }

    #[test]
    fn a_record_that_is_glued_to_half_of_another_is_found() {
        let found = search(&[&record("a")[..40], &record("leaked")].concat());
        assert_eq!((found.found.len(), found.broken), (1, 1));
    }

    #[test]
    fn access_lines_among_the_records_are_no_broken_ones() {
        let found = search(&["{\"time\":\"t\",\"status\":201}\n", &record("leaked")].concat());
        assert_eq!((found.found.len(), found.records, found.broken), (1, 1, 0));
    }

    #[test]
    fn the_last_line_needs_no_end_and_what_is_told_twice_is_one() {
        let found = search([record("leaked"), record("leaked")].concat().trim_end());
        assert_eq!((found.found.len(), found.records), (1, 2));
    }
}
