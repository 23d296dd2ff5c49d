//! Chaos: a gateway behind real proxies, before a service and a store, with one fault or two at a
//! time in what is around it, while honest callers ask.
//!
//! What may be answered during which fault is in `table.rs`; everything else is a failure of the
//! gateway, and so is every request without an answer. `tests/chaos/run` starts it.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod account;
#[path = "../soak/client.rs"]
mod client;
mod course;
mod fronts;
#[path = "../soak/identity.rs"]
mod identity;
mod load;
mod machine;
mod peers;
#[path = "../soak/process.rs"]
#[allow(dead_code, reason = "the soak takes more of it")]
mod process;
mod provider;
mod report;
mod scene;
mod service;
mod store;
mod table;
#[path = "../soak/time.rs"]
mod time;
#[path = "../soak/tls.rs"]
#[allow(dead_code, reason = "the soak takes more of it")]
mod tls;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use tokio::task::LocalSet;

use course::Plan;
use table::{Fault, TABLE};

/// Faults around a gateway, one and two at a time, and an account of every request.
#[derive(Parser)]
#[command(name = "tests/chaos/run", max_term_width = 100)]
struct CommandLine {
    /// For how long scenes begin.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Which faults come in which order; another one each time when left out.
    #[arg(long)]
    seed: Option<u64>,
    /// The gateway's binary.
    #[arg(long, required_unless_present = "table", overrides_with = "gateway")]
    gateway: Option<PathBuf>,
    /// These faults alone, by their names.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How many callers there are by each way.
    #[arg(long, default_value_t = 2)]
    callers: usize,
    /// How long a caller waits between two requests, in milliseconds.
    #[arg(long, default_value_t = 150)]
    pause: u64,
    /// Print the table of the faults.
    #[arg(long)]
    table: bool,
}

fn main() -> ExitCode {
    match run(CommandLine::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs and prints the report; whether all is well.
fn run(arguments: CommandLine) -> anyhow::Result<bool> {
    let table = table::markdown();
    let page = fs::read_to_string(scene::root().join("docs/chaos.md"))?;
    if arguments.table {
        print!("{table}");
        return Ok(true);
    }
    ensure!(page.contains(&table), "docs/chaos.md has another table than `--table` prints");
    let named = |name: &String| {
        let row = TABLE.iter().find(|row| row.name == name);
        row.map(|row| row.fault).with_context(|| format!("there is no fault `{name}`"))
    };
    let plan = Plan {
        gateway: arguments.gateway.context("--gateway is left out")?.canonicalize()?,
        length: Duration::from_secs_f64(arguments.minutes.clamp(0.1, 10_000.0) * 60.0),
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        only: arguments.only.iter().map(named).collect::<anyhow::Result<Vec<Fault>>>()?,
        callers: arguments.callers.max(1),
        pause: Duration::from_millis(arguments.pause),
    };
    println!("seed {}\n\n{table}", plan.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ran = LocalSet::new().block_on(&runtime, plan.carry_out())?;
    print!("{}", ran.report);
    if !ran.well {
        println!("\nWhat the processes wrote is kept in {}", ran.folder.keep().display());
    }
    Ok(ran.well)
}
