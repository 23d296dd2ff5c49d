//! What the way of a request costs, in instructions and allocations: each step alone, and whole
//! requests through the built binary. Neither depends on how busy the machine is.
//!
//!   cargo bench --bench way               counts, and compares with benches/budgets.toml
//!   cargo bench --bench way -- --write    counts, and makes what it counted the budgets
//!   … -- --compare A B 12                 counts requests through two binaries, and fails unless B
//!                                         takes at least 12 % less
//!
//! valgrind's callgrind counts. The profile of benches is built without LTO, to be quick: what
//! ships takes somewhat less.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench may panic and prints"
)]

mod budgets;
mod callgrind;
mod compare;
mod credentials;
mod requests;
mod steps;

use std::path::Path;
use std::process::ExitCode;
use std::thread;

use budgets::Budgets;
use compare::Comparison;
use credentials::Credentials;

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The argument with which this program starts itself under callgrind, followed by a folder.
const STEPS: &str = "--steps";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [STEPS, folder] = &*arguments {
        steps::run(&Credentials::read(Path::new(folder)), &mut |_, step| measured(step));
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let credentials = Credentials::make(folder.path());
    if let Some(comparison) = Comparison::read(&arguments) {
        let holds = comparison.holds(&credentials, folder.path());
        return if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_whiteboard-gateway"));
    let (steps, requests) = thread::scope(|scope| {
        let steps = scope.spawn(|| count_steps(&credentials, folder.path()));
        let requests = requests::count(&credentials, folder.path(), binary);
        (steps.join().unwrap(), requests)
    });
    let counted = Budgets { steps, requests };
    if arguments.contains(&"--write") {
        counted.write();
        return ExitCode::SUCCESS;
    }
    if counted.within(&Budgets::read()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What callgrind counts: it is told this function by name, so it must stay one.
#[inline(never)]
fn measured(step: &mut dyn FnMut()) {
    for _ in 0..steps::TIMES {
        step();
    }
}

fn count_steps(credentials: &Credentials, folder: &Path) -> budgets::Counts {
    let out = folder.join("steps");
    let parts = ["--dump-before", "--dump-after"].map(|option| format!("{option}=way::measured"));
    let mut program = callgrind::command(&out, &parts, &std::env::current_exe().unwrap());
    assert!(program.arg(STEPS).arg(folder).status().unwrap().success(), "the steps do not run");
    let mut names = Vec::new();
    steps::run(credentials, &mut |name, _| names.push(name.to_owned()));
    // Each step is a part of its own, and so is what comes before it.
    let part = |at: usize| callgrind::read(&out.with_extension((2 * at + 2).to_string()));
    names.into_iter().enumerate().map(|(at, name)| (name, part(at).per(steps::TIMES))).collect()
}
