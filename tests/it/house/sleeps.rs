//! Tests wait until something holds: nothing in them sleeps but the helpers for that, and what has a
//! clock of its own.

use std::collections::BTreeSet;
use std::fs;

use super::{files, root};

/// Who may sleep, and why.
const MAY_SLEEP: &[(&str, &str)] = &[
    ("tests/it/support/time.rs", "`wait_until`, which polls, and `scenario_delay`, a peer's delay"),
    ("tests/soak/time.rs", "the same for the programs that put load on a gateway"),
    ("tests/simulation/", "the test owns the clock, and nobody waits"),
    ("tests/policy_oracle/", "so it does there"),
];

/// Unit tests that let time of the machine go by, and why; others own their clock.
const UNITS_MAY_SLEEP: &[(&str, &str)] = &[
    ("src/budget/store/tests.rs", "it polls a store that starts, and what is on its way there"),
    ("src/caller/jwt/tests/provider.rs", "a provider that takes its time"),
    ("src/caller/jwt/tests/rotation.rs", "it polls what the control thread has fetched"),
    ("src/net/deadline.rs", "the runtime is held up, as all of a process is that is stopped"),
    ("src/net/dial/tests.rs", "a resolver and addresses that take their time"),
    ("src/net/tunnel/tests.rs", "a proxy that answers piece by piece"),
    ("src/server/listener.rs", "the kernel's time for handshakes, which nothing shows"),
    ("src/server/mod.rs", "a worker that is stuck is looked at for as long as it takes"),
    ("src/upstream/connection/http1/tests/exchanges.rs", "it polls a socket's end"),
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

/// The tests of a source file, with the lines before them; `None` where it has none.
fn unit_tests<'a>(path: &str, text: &'a str) -> Option<(usize, &'a str)> {
    if path.ends_with("tests.rs") || path.contains("/tests/") {
        return Some((0, text));
    }
    let at = text.find("#[cfg(test)]\nmod tests {")?;
    Some((text[..at].lines().count(), &text[at..]))
}

#[test]
fn no_unit_test_sleeps_unless_it_owns_the_clock_or_polls() {
    let mut wrong = Vec::new();
    let mut asleep = BTreeSet::new();
    for file in files(&root().join("src")) {
        let path = file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if !path.ends_with(".rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let Some((before, tests)) = unit_tests(&path, &text) else { continue };
        let paused = tests.contains("start_paused = true");
        for (at, line) in tests.lines().enumerate().filter(|(_, line)| sleeps(line)) {
            let listed = UNITS_MAY_SLEEP.iter().any(|(may, _)| *may == path);
            if listed {
                asleep.insert(path.clone());
            } else if !paused || line.contains("thread::") {
                wrong.push(format!("{path}:{}: {}", before + at + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "pause the clock, or wait for a condition:\n{}", wrong.join("\n"));
    assert_eq!(asleep.len(), UNITS_MAY_SLEEP.len(), "only these sleep: {asleep:?}");
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
