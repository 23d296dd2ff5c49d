//! `usage`: who did what how often, added up from access lines.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::access_log::{self, AccessRecord, LineCounts, unescaped};
use super::outcome::CommandOutcome;
use super::world::World;
use crate::failure::Code;

/// So many rows are kept apart; whoever comes then is one of the rest.
const ROWS: usize = 100_000;

/// How the rest is called.
const REST: &str = "(others)";

/// The arguments of `usage`.
#[derive(Args)]
pub struct UsageArgs {
    /// Files of access lines, also rotated ones that gzip has compressed; `-` for standard input.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub log: Vec<PathBuf>,
    /// What to add up by.
    #[arg(long, value_delimiter = ',', default_values = ["caller", "operation"])]
    pub by: Vec<UsageKey>,
    /// Of this month alone, such as 2026-11, in UTC as the lines are.
    #[arg(long, value_parser = month)]
    pub month: Option<String>,
    /// Print comma-separated values.
    #[arg(long)]
    pub csv: bool,
    /// Print a JSON object.
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
}

/// What requests are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UsageKey {
    /// Who called.
    Caller,
    /// What they asked for.
    Operation,
    /// What came of it.
    Code,
}

/// What is counted of the requests of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    requests: u64,
    /// They succeeded.
    ok: u64,
    /// They were refused, by the gateway or by the service, for what the caller did.
    refused: u64,
    /// The gateway or the service failed.
    failed: u64,
    /// The caller went away.
    gone: u64,
    /// Of the bodies of the answers.
    bytes: u64,
}

/// The rows, by the texts that they are of with a zero between them: none of them holds one.
struct Usage<'a> {
    by: &'a [UsageKey],
    month: Option<&'a str>,
    rows: HashMap<Box<[u8]>, Used>,
    rest: Used,
    key: Vec<u8>,
}

/// Exit code 0 when every line was counted, 1 when lines were passed over that may have been access
/// lines.
pub(super) fn run(args: &UsageArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let mut by = args.by.clone();
    by.dedup();
    ensure!(by.len() == args.by.len() && by.len() <= 3, "--by names something twice");
    let mut usage = Usage {
        by: &by,
        month: args.month.as_deref(),
        rows: HashMap::new(),
        rest: Used::default(),
        key: Vec::new(),
    };
    let counts = access_log::read(&args.log, world.input, &mut |record| usage.add(record))?;
    let rows = usage.sorted();
    let names: Vec<&str> = by.iter().map(|key| key.as_str()).collect();
    if args.json {
        let told = json(&names, &rows, args.month.as_deref(), &counts);
        writeln!(world.output, "{told:#}")?;
    } else if args.csv {
        write!(world.output, "{}", csv(&names, &rows))?;
    } else {
        write!(world.output, "{}", table(&names, &rows))?;
    }
    if let Some(said) = counts.passed_over().filter(|_| !args.json) {
        // Beside a table for people; what reads CSV has the exit code.
        if !args.csv {
            writeln!(world.output, "{said}")?;
        }
    }
    Ok(if counts.is_incomplete() { CommandOutcome::No } else { CommandOutcome::Done })
}

impl Usage<'_> {
    fn add(&mut self, record: &AccessRecord<'_>) {
        let time = record.time.unwrap_or_default();
        if self.month.is_some_and(|month| !time.starts_with(month.as_bytes())) {
            return;
        }
        self.key.clear();
        for (index, by) in self.by.iter().enumerate() {
            if index > 0 {
                self.key.push(0);
            }
            let text = match by {
                UsageKey::Caller => record.caller,
                UsageKey::Operation => record.operation,
                UsageKey::Code => record.code,
            };
            self.key.extend_from_slice(text.unwrap_or(b"-"));
        }
        if let Some(used) = self.rows.get_mut(self.key.as_slice()) {
            used.add(record);
        } else if self.rows.len() < ROWS {
            self.rows.entry(self.key.as_slice().into()).or_default().add(record);
        } else {
            self.rest.add(record);
        }
    }

    /// The rows, those of the most requests first, and the rest.
    fn sorted(self) -> Vec<(Vec<String>, Used)> {
        let rows = self.rows.iter().map(|(key, used)| (texts(key), *used));
        let mut rows: Vec<(Vec<String>, Used)> = rows.collect();
        rows.sort_unstable_by(|(a, one), (b, other)| {
            other.requests.cmp(&one.requests).then_with(|| a.cmp(b))
        });
        if self.rest.requests > 0 {
            rows.push((vec![REST.to_owned(); self.by.len()], self.rest));
        }
        rows
    }
}

impl Used {
    fn add(&mut self, record: &AccessRecord<'_>) {
        self.requests += 1;
        self.bytes += number(record.bytes);
        match record.code.unwrap_or_default() {
            b"ok" => self.ok += 1,
            b"caller_gone" => self.gone += 1,
            code => {
                let known = Code::all().find(|known| known.name().as_bytes() == code);
                // A code of another version: its status says whose doing it was.
                let of_the_caller = known.map_or_else(
                    || record.status.is_some_and(|status| status.starts_with(b"4")),
                    Code::is_of_the_caller,
                );
                *if of_the_caller { &mut self.refused } else { &mut self.failed } += 1;
            }
        }
    }

    const fn columns(&self) -> [(&'static str, u64); 6] {
        [
            ("requests", self.requests),
            ("ok", self.ok),
            ("refused", self.refused),
            ("failed", self.failed),
            ("gone", self.gone),
            ("bytes", self.bytes),
        ]
    }
}

impl UsageKey {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Operation => "operation",
            Self::Code => "code",
        }
    }
}

/// The texts of a key.
fn texts(key: &[u8]) -> Vec<String> {
    key.split(|byte| *byte == 0).map(|raw| unescaped(raw).into_owned()).collect()
}

/// A number of digits; anything else is none.
fn number(digits: Option<&[u8]>) -> u64 {
    let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn month(text: &str) -> Result<String, &'static str> {
    let day = format!("{text}-01").parse::<jiff::civil::Date>();
    day.map(|_| text.to_owned()).map_err(|_| "a month is a year and a month, such as 2026-11")
}

fn json(
    names: &[&str],
    rows: &[(Vec<String>, Used)],
    month: Option<&str>,
    counts: &LineCounts,
) -> Value {
    let rows = rows.iter().map(|(texts, used)| {
        let keys = names.iter().zip(texts).map(|(name, text)| ((*name).to_owned(), json!(text)));
        let counted = used.columns().map(|(name, count)| (name.to_owned(), json!(count)));
        Value::Object(keys.chain(counted).collect())
    });
    let rows: Vec<Value> = rows.collect();
    json!({ "by": names, "month": month, "rows": rows, "lines": counts.json() })
}

/// As RFC 4180 has it.
fn csv(names: &[&str], rows: &[(Vec<String>, Used)]) -> String {
    let mut text = names.join(",");
    for (name, _) in Used::default().columns() {
        text.push(',');
        text.push_str(name);
    }
    text.push_str("\r\n");
    for (keys, used) in rows {
        let keys: Vec<String> = keys.iter().map(|key| quoted(key)).collect();
        text.push_str(&keys.join(","));
        for (_, count) in used.columns() {
            // Writing to a String cannot fail.
            _ = write!(text, ",{count}");
        }
        text.push_str("\r\n");
    }
    text
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// For people. Texts are escaped: a terminal must not obey them.
fn table(names: &[&str], rows: &[(Vec<String>, Used)]) -> String {
    let columns = Used::default().columns().map(|(name, _)| name.to_owned());
    let head = names.iter().map(|name| (*name).to_owned()).chain(columns).collect();
    let mut lines: Vec<Vec<String>> = vec![head];
    for (keys, used) in rows {
        let keys = keys.iter().map(|key| key.escape_debug().to_string());
        lines.push(keys.chain(used.columns().map(|(_, count)| count.to_string())).collect());
    }
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..names.len() + 6).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < names.len() { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
