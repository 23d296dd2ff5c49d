//! The binary: parse the command line, run the command, turn its error into a message and an exit
//! code. Everything else is in the library, where tests reach it.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use whiteboard_gateway::cli::{self, CommandLine};

/// Chosen by memory rather than by speed: it gives pages back that a burst of connections took.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run(CommandLine::parse()) {
        Ok(outcome) => outcome.into(),
        // Whoever read our output has seen enough, as `head` has: nothing went wrong.
        Err(error) if cli::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed as well there is no one left to tell.
            _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(cli::FAILED)
        }
    }
}
