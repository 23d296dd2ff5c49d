//! Tests wait until something holds: nothing in them sleeps but the helpers for that, and what has a
//! clock of its own.

use std::fs;

use super::{files, root};

/// Who may sleep, and why.
const MAY_SLEEP: &[(&str, &str)] = &[
    ("tests/it/support/time.rs", "`wait_until`, which polls, and `scenario_delay`, a peer's delay"),
    ("tests/soak/time.rs", "the same for the programs that put load on a gateway"),
    ("tests/simulation/", "the test owns the clock, and nobody waits"),
    ("tests/policy_oracle/", "so it does there"),
];

/// Whether a line of code lets a fixed time go by. In pieces, since this file is looked at as well.
fn sleeps(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    [concat!("sl", "eep("), concat!("park_tim", "eout(")].iter().any(|call| {
        code.match_indices(call).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            before.is_none_or(|before| !before.is_alphanumeric() && before != '_')
        })
    })
}

#[test]
fn no_test_sleeps_but_by_the_two_helpers() {
    let mut wrong = Vec::new();
    for file in files(&root().join("tests")) {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap();
        if !path.ends_with(".rs") || MAY_SLEEP.iter().any(|(may, _)| path.starts_with(may)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let found = text.lines().enumerate().filter(|(_, line)| sleeps(line));
        wrong.extend(found.map(|(at, line)| format!("{path}:{}: {}", at + 1, line.trim())));
    }
    assert!(
        wrong.is_empty(),
        "wait for what is to happen (`wait_until`); time that is part of the scenario is a \
         `scenario_delay`:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn a_sleep_is_seen_by_its_name_and_nothing_else_is() {
    for (line, seen) in [
        (concat!("thread::sl", "eep(A_WHILE);"), true),
        (concat!("    sl", "eep(pause).await;"), true),
        (concat!("let timer = Box::pin(sl", "eep(pause));"), true),
        (concat!("thread::park_tim", "eout(time);"), true),
        ("scenario_delay(pause);", false),
        ("sleep_until(begun + at).await;", false),
        (concat!("// No sl", "eep( here."), false),
    ] {
        assert_eq!(sleeps(line), seen, "{line}");
    }
}
