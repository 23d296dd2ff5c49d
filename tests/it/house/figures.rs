//! `tests/house/figures`, which counts the house of any commit, counts as the rules here do.

use std::collections::BTreeMap;
use std::process::Command;

use super::arrows::Arrows;
use super::{Source, functions, root};

/// What it prints about the working tree: the last column, by the name of the row.
fn printed() -> BTreeMap<String, String> {
    let printed = Command::new(root().join("tests/house/figures")).output().unwrap();
    assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    let text = String::from_utf8(printed.stdout).unwrap();
    let rows = text.lines().filter_map(|line| line.split_once("  "));
    rows.map(|(name, figure)| (name.to_owned(), figure.trim().to_owned())).collect()
}

#[test]
fn what_is_counted_of_a_commit_is_what_the_rules_count() {
    let printed = printed();
    let sources: Vec<Source> =
        Source::all().into_iter().filter(|source| !source.is_test()).collect();
    let functions = sources.iter().flat_map(functions::of);
    let longest = functions.map(|function| function.lines).max().unwrap();
    let figure = |name: &str| {
        let figure = printed.get(name).unwrap_or_else(|| panic!("{name} in {printed:#?}"));
        figure.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(figure("longest function"), longest.to_string());
    let cycles = Arrows::between(&sources).in_a_cycle().len();
    assert_eq!(figure("files in cycles"), cycles.to_string());
    for of_none in [
        "functions over 70 lines",
        "functions with over 5 parameters",
        "of them, for two things",
        "of them, not named Error",
        "sleeps of tests",
        "most retries of a test",
    ] {
        assert_eq!(figure(of_none), "0", "{of_none}");
    }
    for of_some in
        ["all", "names of types", "types of errors", "keys of the configuration", "tests"]
    {
        let figure = figure(of_some).replace(',', "");
        assert!(figure.parse::<u32>().unwrap() > 20, "{of_some}: {figure}");
    }
}
