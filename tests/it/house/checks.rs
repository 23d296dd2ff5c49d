//! What continuous integration runs is what the README says, within half an hour.

use std::collections::BTreeMap;
use std::fs;

use super::root;
use crate::docs::Page;

/// What it takes on two cores, without what is installed.
const BOUND: u64 = 30 * 60;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The steps of `tests/run` with their budgets in seconds.
fn steps() -> BTreeMap<String, u64> {
    let script = read("tests/run");
    let steps = script.lines().filter_map(|line| line.trim_start().strip_prefix("step '"));
    let step = |line: &str| {
        let (name, rest) = line.split_once("' ").unwrap();
        let budget = rest.split_whitespace().next().unwrap();
        (name.to_owned(), budget.parse().unwrap_or_else(|_| panic!("{name} has no budget")))
    };
    steps.map(step).collect()
}

#[test]
fn the_budgets_of_the_checks_are_written_down_and_make_half_an_hour() {
    let steps = steps();
    let row = |row: Vec<String>| (row[0].clone(), row[1].parse().unwrap());
    let page = Page::read("CONTRIBUTING.md");
    let written: BTreeMap<String, u64> =
        page.table("\n| step | budget |").into_iter().map(row).collect();
    assert_eq!(written, steps, "the table in CONTRIBUTING.md is not that of tests/run");
    let installed = steps["what the tests need"];
    assert!(steps.values().sum::<u64>() - installed <= BOUND, "{steps:?}");
}

#[test]
fn ci_runs_the_two_commands_of_the_readme() {
    let readme = Page::read("README.md");
    let block = |heading: &str| readme.section(heading).texts("sh")[0].to_owned();
    assert_eq!(block("\n## Quick start\n"), "cargo run -- serve --sandbox\n");
    assert_eq!(block("\n## Tests\n"), "tests/run\n");
    // The first is that of the README, whatever it is: `tests/run` reads it there.
    let script = read("tests/run");
    assert!(script.contains("README.md") && steps().contains_key("the quick start of the README"));
    let ci = read(".ci/run");
    let commands: Vec<&str> = ci.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(commands[1].starts_with("exec ") && commands[1].contains("/tests/run\""), "{ci}");
}

#[test]
fn the_readme_names_the_version_of_rust_that_the_build_needs() {
    let manifest = read("Cargo.toml");
    let (_, version) = manifest.split_once("rust-version = \"").unwrap();
    let version = version.split('"').next().unwrap();
    assert!(Page::read("README.md").contains(&format!("Rust {version} or newer")));
}
