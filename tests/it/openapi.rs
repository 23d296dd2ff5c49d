//! The OpenAPI document is true: schemathesis asks whatever it allows, and a good deal that it does
//! not. What is valid is not refused for its form, and every answer is one that the document has.
//!
//! `docs/clients.md` has the longer run.

use std::env;
use std::process::{Command, Stdio};

use crate::house::root;
use crate::support::{Process, Setup, binary};

const CHECKS: &str = "valid_requests_are_taken,not_a_server_error,status_code_conformance,\
                      content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";

/// Asks a gateway with more of a configuration.
fn ask(more: &str) {
    let mut command = Command::new(binary());
    command.args(["sandbox", "--listen", "127.0.0.1:0"]);
    let sandbox = Process::of_sandbox(command);
    let gateway = Setup::new(&format!("http://{}", sandbox.address)).with(more).start();
    let number = |name: &str, usual: &str| env::var(name).unwrap_or_else(|_| usual.to_owned());
    let home = root().join("tests/openapi");
    let mut command = Command::new(root().join("target/openapi/venv/bin/st"));
    command.arg("--config-file").arg(home.join("schemathesis.toml"));
    command.args(["run", &format!("http://{}/openapi.json", gateway.admin)]);
    command.args(["--url", &format!("http://{}", gateway.address)]);
    command.args(["--header", &format!("token: {}", gateway.key)]);
    command.args(["--checks", CHECKS, "--continue-on-failure", "--no-color"]);
    command.args(["--max-examples", &number("OPENAPI_EXAMPLES", "10")]);
    command.args(["--seed", &number("OPENAPI_SEED", "1")]);
    command.env("PYTHONPATH", &home).env("SCHEMATHESIS_HOOKS", "hooks").env("NO_PROXY", "*");
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    // What it keeps of a run goes where the gateway's files are.
    command.current_dir(gateway.folder.path());
    let output = command.output().expect("tests/openapi/install brings it");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // It has asked for everything.
    assert!(said.contains("Tested: 19"), "{said}");
}

#[test]
fn what_the_document_allows_is_taken_and_what_comes_is_in_it() {
    ask("");
}

#[test]
fn so_it_is_with_more_statuses_and_without_unknown_fields() {
    ask("[errors]\nprofile = \"extended\"\n[body]\nunknown_fields = \"refuse\"\n");
}
