//! What continuous integration runs is what the README says, within half an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use super::{files, root};
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
    assert_eq!(block("\n## Quick start\n"), "cargo run --release -- serve --sandbox\n");
    assert_eq!(block("\n## Tests\n"), "tests/run\n");
    // `tests/run` reads the first there, and runs it without the minutes that `--release` takes.
    let script = read("tests/run");
    assert!(script.contains("README.md") && steps().contains_key("the quick start of the README"));
    let ci = read(".ci/run");
    let commands: Vec<&str> = ci.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    assert!(commands[1].starts_with("exec ") && commands[1].contains("/tests/run\""), "{ci}");
}

/// Also one that a wrapper has started, which has ended itself.
#[test]
fn a_process_that_tests_leave_behind_is_found_and_named() {
    let script = read("tests/run");
    let function = |name: &str| {
        let (_, rest) = script.split_once(&format!("\n{name}() {{\n")).unwrap();
        format!("{name}() {{\n{}\n}}\n", rest.split("\n}\n").next().unwrap())
    };
    let functions = function("left_behind") + &function("nothing_is_left_behind");
    let run = format!("{}.checks", std::process::id());
    let looks = || {
        let looks =
            format!("set -euo pipefail\nexport TESTS_RUN={run}\n{functions}nothing_is_left_behind");
        let looked = Command::new("bash").args(["-c", &looks]).output().unwrap();
        (looked.status.code(), String::from_utf8(looked.stderr).unwrap())
    };
    assert_eq!(looks(), (Some(0), String::new()));
    let mut wrapper = Command::new("bash");
    wrapper.args(["-c", "sleep 987 >/dev/null 2>&1 & echo $!"]).env("TESTS_RUN", &run);
    let started = String::from_utf8(wrapper.output().unwrap().stdout).unwrap();
    let (code, said) = looks();
    assert!(Command::new("kill").arg(started.trim()).status().unwrap().success());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("{} sleep 987", started.trim())), "{said}");
    assert_eq!(looks(), (Some(0), String::new()));
}

#[test]
fn the_readme_names_the_version_of_rust_that_the_build_needs() {
    let manifest = read("Cargo.toml");
    let (_, version) = manifest.split_once("rust-version = \"").unwrap();
    let version = version.split('"').next().unwrap();
    assert!(Page::read("README.md").contains(&format!("Rust {version} or newer")));
}

/// Programs that tests start, and the package of Debian that has each. Those of packages that every
/// Debian has are not here.
const PROGRAMS: &[(&str, &str)] = &[
    ("caddy", "caddy"),
    ("chromedriver", "chromium-driver"),
    ("curl", "curl"),
    ("docker-compose", "docker-compose"),
    ("git", "git"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("kill", "procps"),
    ("mandoc", "mandoc"),
    ("nginx", "nginx-light"),
    ("node", "nodejs"),
    ("nsenter", "util-linux"),
    ("openssl", "openssl"),
    ("patch", "patch"),
    ("prlimit", "util-linux"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("python3", "python3"),
    ("redis-cli", "redis-server"),
    ("redis-server", "redis-server"),
    ("script", "bsdutils"),
    ("shellcheck", "shellcheck"),
    ("squid", "squid"),
    ("ssh-keygen", "openssh-client"),
    ("strace", "strace"),
    ("systemd-analyze", "systemd"),
    ("taskset", "util-linux"),
    ("tc", "iproute2"),
    ("unshare", "util-linux"),
    ("valgrind", "valgrind"),
];

/// What every Debian has (bash, coreutils, dash), and what `tests/run` brings in another way.
const ELSEWHERE: &[&str] = &[
    "bash",
    "cat",
    "chmod",
    "dpkg",
    "hadolint",
    "mkfifo",
    "rustc",
    "sh",
    "sha256sum",
    "tar",
    "timeout",
    "true",
];

#[test]
fn each_program_that_a_test_starts_is_one_that_the_checks_install() {
    let script = read("tests/run");
    let (_, list) = script.split_once("packages=").unwrap();
    let (list, _) = list.split_once("nextest=").unwrap();
    let ends = |c: char| c.is_whitespace() || c == '(' || c == ')';
    let installed: BTreeSet<&str> = list.split(ends).collect();
    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    for folder in ["tests", "benches"] {
        let rust = files(&root().join(folder)).into_iter();
        for file in rust.filter(|path| path.extension() == Some("rs".as_ref())) {
            let text = fs::read_to_string(file).unwrap();
            for started in text.split("Command::new(\"").skip(1) {
                let name = started.split('"').next().unwrap().rsplit('/').next().unwrap();
                let package = PROGRAMS.iter().find(|(program, _)| *program == name);
                let known = ELSEWHERE.contains(&name)
                    || package.is_some_and(|(_, package)| installed.contains(package));
                seen += 1;
                if !known {
                    wrong.insert(name.to_owned());
                }
            }
        }
    }
    assert!(seen > 40, "{seen}");
    assert!(wrong.is_empty(), "tests/run installs no package with {wrong:?}");
}
