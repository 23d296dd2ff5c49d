//! Programs under callgrind, and what it counted.

use std::fs;
use std::ops::Sub;
use std::path::Path;
use std::process::Command;

/// The functions by which memory is allocated, as the allocator names them.
const ALLOCATES: [&str; 7] = [
    "mi_malloc",
    "mi_zalloc",
    "mi_calloc",
    "mi_realloc",
    "mi_malloc_aligned",
    "mi_zalloc_aligned",
    "mi_realloc_aligned",
];

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) instructions: u64,
    pub(crate) allocations: u64,
}

impl Count {
    /// For one of so many.
    pub(crate) fn per(self, times: u64) -> Self {
        let one = |all: u64| (all + times / 2) / times;
        Self { instructions: one(self.instructions), allocations: one(self.allocations) }
    }
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, less: Self) -> Self {
        Self {
            instructions: self.instructions.saturating_sub(less.instructions),
            allocations: self.allocations.saturating_sub(less.allocations),
        }
    }
}

/// A program under callgrind, whose counts go to a file.
pub(crate) fn command(out: &Path, options: &[String], program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind", "--error-exitcode=0"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.args(options).arg(program);
    command
}

/// Reads what was counted: the sum of all instructions, and the calls to the allocator from
/// outside of it.
pub(crate) fn read(path: &Path) -> Count {
    let text = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("callgrind has written no {}: {error}", path.display()));
    let mut count = Count::default();
    // A name stands in full where it comes first, and as its number from then on.
    let mut allocators = Vec::new();
    let mut inside = Vec::new();
    let (mut within, mut called) = (false, false);
    for line in text.lines() {
        if let Some(total) = line.strip_prefix("totals: ") {
            count.instructions = total.trim().parse().unwrap();
        } else if let Some((call, name)) = named(line) {
            let (number, full) = name.split_once(' ').unwrap_or((name, ""));
            if ALLOCATES.contains(&full) {
                allocators.push(number);
            }
            if full.trim_start_matches('_').starts_with("mi_") {
                inside.push(number);
            }
            if call {
                called = allocators.contains(&number);
            } else {
                within = inside.contains(&number);
            }
        } else if let Some(calls) = line.strip_prefix("calls=")
            && called
            && !within
        {
            count.allocations += calls.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    count
}

/// A line that names a function: whether it is one that is called, and its name.
fn named(line: &str) -> Option<(bool, &str)> {
    line.strip_prefix("cfn=")
        .map(|name| (true, name))
        .or_else(|| line.strip_prefix("fn=").map(|name| (false, name)))
}
