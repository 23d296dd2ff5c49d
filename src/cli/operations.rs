//! `operations`: the table of operations, for people, programs and the README.

use std::io::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::outcome::CommandOutcome;
use super::world::World;
use crate::api::{Access, Operation, Operations, listing};

/// The arguments of `operations`.
#[derive(Args)]
#[group(multiple = false)]
pub struct OperationsArgs {
    /// Print a JSON array.
    #[arg(long)]
    pub json: bool,
    /// Print the Markdown table that stands in the README.
    #[arg(long)]
    pub markdown: bool,
}

/// Prints the table.
pub(super) fn run(args: &OperationsArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let operations = Operations::documented();
    let out = &mut world.output;
    if args.markdown {
        write!(out, "{}", listing::markdown(&operations))?;
    } else if args.json {
        let rows: Value = operations.iter().map(|(_, operation)| json(operation)).collect();
        writeln!(out, "{rows:#}")?;
    } else {
        write!(out, "{}", aligned(&operations))?;
    }
    Ok(CommandOutcome::Done)
}

/// Columns as wide as their widest cell.
fn aligned(operations: &Operations) -> String {
    let mut rows = vec![listing::COLUMNS.map(str::to_owned)];
    rows.extend(operations.iter().map(|(_, operation)| listing::cells(operation)));
    let widths: [usize; listing::COLUMNS.len()] = std::array::from_fn(|column| {
        rows.iter().map(|row| row[column].len()).max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: String = cells.map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn json(operation: &Operation) -> Value {
    let access = match operation.access {
        Access::Mints(kind) => json!({ "mints": kind }),
        Access::Needs(kind, role) => json!({ "token": kind, "role": role }),
        Access::Open => json!({}),
    };
    let [.., body, _] = listing::cells(operation);
    json!({
        "name": operation.name,
        "feature": operation.feature.as_str(),
        "method": operation.method.as_str(),
        "path": operation.path,
        "access": access,
        "body": body,
        "success": operation.success.as_u16(),
        "idempotent": operation.idempotent,
        "deprecated": operation.deprecated,
        "summary": operation.summary,
    })
}
