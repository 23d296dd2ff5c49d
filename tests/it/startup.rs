//! What a process says of itself when it starts, and `--version`.

use std::process::Command;

use crate::support::{Setup, Upstream, binary};

fn is_commit(text: &str) -> bool {
    text == "unknown" || (text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[test]
fn the_first_line_says_what_runs() {
    let upstream = Upstream::json("200 OK", "{}");
    let mut setup = Setup::new(&upstream.url());
    _ = setup.key_of("reports", "backend");
    let gateway = setup.with("[profiles.student]\nproject = \"classroom\"\n").start();
    let log = gateway.stderr();
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!((&first["message"], &first["level"]), (&"starting".into(), &"INFO".into()), "{log}");
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert!(is_commit(first["commit"].as_str().unwrap()), "{first}");
    assert!(!first["build"].as_str().unwrap().is_empty(), "{first}");
    assert!(first["config"].as_str().unwrap().ends_with("gateway.toml"), "{first}");
    assert_eq!(first["upstream"], upstream.url().as_str());
    let counts = ["callers", "profiles", "issuers"].map(|name| first[name].as_u64().unwrap());
    assert_eq!(counts, [2, 2, 0]);
}

#[test]
fn the_version_names_the_commit_and_the_kind_of_build() {
    let output = Command::new(binary()).arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let rest = said.strip_prefix(concat!("whiteboard-gateway ", env!("CARGO_PKG_VERSION")));
    let inner = rest.and_then(|rest| rest.trim_end().strip_prefix(" (commit ")).unwrap();
    let (commit, build) = inner.strip_suffix(" build)").unwrap().split_once(", ").unwrap();
    assert!(is_commit(commit), "{said}");
    assert!(!build.is_empty(), "{said}");
}
