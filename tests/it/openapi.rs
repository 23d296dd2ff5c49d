//! The OpenAPI document is true: schemathesis asks whatever it allows, and a good deal that it does
//! not. What is valid is not refused for its form, and every answer is one that the document has.
//! Clients in TypeScript and Python are made of it, compiled, and read what comes by its type.
//!
//! `docs/clients.md` has the longer run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::house::root;
use crate::support::{Process, Setup, binary};

const CHECKS: &str = "valid_requests_are_taken,not_a_server_error,status_code_conformance,\
                      content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";

fn sandbox() -> Process {
    let mut command = Command::new(binary());
    command.args(["sandbox", "--listen", "127.0.0.1:0"]);
    Process::of_sandbox(command)
}

/// Asks a gateway with more of a configuration.
fn ask(more: &str) {
    let sandbox = sandbox();
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

/// Runs what `tests/openapi/install` has brought, in a folder; what it wrote.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let program = root().join("target/openapi/typed").join(program);
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("NO_PROXY", "*").stdin(Stdio::null());
    let output = command.output().expect("tests/openapi/install brings it");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A folder with the document, what is kept for clients of it, and the packages of npm.
fn workshop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["package.json", "tsconfig.json", "client.ts", "client.py", "spectral.yaml"] {
        let from = root().join("tests/openapi/typed").join(file);
        fs::copy(from, folder.path().join(file)).unwrap();
    }
    let packages = root().join("target/openapi/typed/node_modules");
    std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).unwrap();
    let mut command = Command::new(binary());
    command.args(["openapi", "--output", "openapi.json"]).current_dir(folder.path());
    assert!(command.status().unwrap().success());
    folder
}

#[test]
fn the_document_passes_a_public_linter() {
    let folder = workshop();
    let arguments =
        ["lint", "openapi.json", "--ruleset", "spectral.yaml", "--fail-severity", "warn"];
    run(folder.path(), "node_modules/.bin/spectral", &arguments);
}

#[test]
fn a_client_in_typescript_reads_every_answer_by_its_type() {
    let folder = workshop();
    let folder = folder.path();
    run(folder, "node_modules/.bin/openapi-typescript", &["openapi.json", "-o", "api.d.ts"]);
    let types = fs::read_to_string(folder.join("api.d.ts")).unwrap();
    let vague = |line: &&str| {
        // Fields of a response may be any; `Done` is an object without members.
        let may = ["[name: string]: unknown", "Record<string, never>"];
        let is_vague = ["unknown", ": any", ": object"].iter().any(|word| line.contains(word));
        is_vague
            && !line.trim_start().starts_with("/**")
            && !may.iter().any(|may| line.contains(may))
    };
    assert_eq!(types.lines().filter(vague).collect::<Vec<_>>(), [""; 0]);
    run(folder, "node_modules/.bin/tsc", &[]);
    let sandbox = sandbox();
    let gateway = Setup::new(&format!("http://{}", sandbox.address)).start();
    let url = format!("http://{}", gateway.address);
    let mut command = Command::new("node");
    command.args(["built/client.js", &url, &gateway.key]).current_dir(folder);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "19 operations\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_client_in_python_parses_every_answer_into_its_model() {
    let folder = workshop();
    let folder = folder.path();
    let made = [
        "--input=openapi.json",
        "--input-file-type=openapi",
        "--output=models.py",
        "--output-model-type=pydantic_v2.BaseModel",
        "--target-python-version=3.11",
        "--use-annotated",
    ];
    run(folder, "venv/bin/datamodel-codegen", &made);
    run(folder, "venv/bin/mypy", &["--strict", "client.py"]);
    let sandbox = sandbox();
    let gateway = Setup::new(&format!("http://{}", sandbox.address)).start();
    let url = format!("http://{}", gateway.address);
    let said = run(folder, "venv/bin/python", &["client.py", &url, &gateway.key]);
    assert_eq!(said, "19 operations\n");
}
