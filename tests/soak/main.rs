//! A soak: steady load on a gateway, while its configuration, certificates and keys change, its
//! upstream is restarted, and a second process takes over from it.
//!
//! What must hold is judged here and told in a table: no request fails by the gateway's fault, and
//! neither its memory nor its descriptors grow. `tests/soak/run` starts it.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod client;
mod identity;
mod load;
mod plan;
mod process;
mod report;
mod sample;
mod tally;
mod time;
mod tls;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;
use tokio::task::LocalSet;

use plan::Plan;

/// Steady load on a gateway while everything around it changes.
#[derive(Parser)]
#[command(name = "tests/soak/run", max_term_width = 100)]
struct CommandLine {
    /// How long the load lasts; half a minute at least.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// The gateway's binary.
    #[arg(long, overrides_with = "gateway")]
    gateway: PathBuf,
    /// How many callers there are; half of them speak HTTP/2.
    #[arg(long, default_value_t = 12)]
    callers: usize,
    /// How long a caller waits between two requests, in milliseconds.
    #[arg(long, default_value_t = 25)]
    pause: u64,
}

fn main() -> ExitCode {
    match run(&CommandLine::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Soaks and prints the report; whether all is well.
fn run(arguments: &CommandLine) -> anyhow::Result<bool> {
    ensure!((0.5..=10_000.0).contains(&arguments.minutes), "--minutes is half a minute at least");
    let plan = Plan {
        gateway: arguments.gateway.canonicalize()?,
        length: Duration::from_secs_f64(arguments.minutes * 60.0),
        callers: arguments.callers.max(2),
        pause: Duration::from_millis(arguments.pause),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let soaked = LocalSet::new().block_on(&runtime, Rc::new(plan).carry_out())?;
    print!("{}", soaked.report);
    if !soaked.well {
        println!("\nWhat the processes wrote is kept in {}", soaked.folder.keep().display());
    }
    Ok(soaked.well)
}
