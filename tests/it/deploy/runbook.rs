//! The line of the runbook that lists failures lists failures and nothing else.

use std::fs;
use std::process::Command;

use super::ran;
use crate::docs::Page;
use crate::support::Process;

#[test]
fn the_line_that_lists_failures_shows_no_success() {
    let gateway = Process::sandbox();
    let created = gateway.call("POST", "/v5/rooms", "");
    let refused = gateway.call("GET", "/v5/rooms/unknown", "");
    assert_eq!((created.status, refused.status), (201, 404));
    for answer in [created, refused] {
        gateway.access_line(answer.header("x-request-id"));
    }
    // The greeting is no JSON; a record of the audit and an event are no access lines.
    let record = r#"{"time":"2026-11-25T09:30:00.123Z","event":"token","caller":"lessons"}"#;
    let event = r#"{"time":"2026-11-25T09:30:00.123Z","log":"events","level":"WARN","code":"x"}"#;
    let folder = tempfile::tempdir().unwrap();
    let lines = format!("{}\n{record}\n{event}\n\"text\"\n", gateway.stdout());
    fs::write(folder.path().join("access.log"), lines).unwrap();
    let page = Page::read("docs/runbook.md");
    let line = page.texts("sh")[0];
    let mut shell = Command::new("bash");
    let printed = ran(shell.args(["-euo", "pipefail", "-c", line]).current_dir(folder.path()));
    let rows: Vec<Vec<&str>> = printed.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows.len(), 1, "{printed}");
    assert_eq!(rows[0][1..3], ["rooms.get", "not_found"], "{printed}");
}
