//! What is in `deploy/` is true: it is parsed by the tools that will read it, agrees with itself and
//! with the product, and runs, as far as that goes without an engine for containers.

mod build_script;
mod compose;
mod health;
mod helm;
mod image;
mod monitoring;
mod package;
mod runbook;
mod stack;
mod systemd;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use whiteboard_gateway::config::{self, Source};

use crate::house::{files, root};
use crate::support::binary;

/// Runs a tool, which must be there, and gives what it printed; panics with that when it fails.
fn ran(command: &mut Command) -> String {
    let (output, text) = tried(command);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// Runs a tool, which must be there; what it wrote to both streams.
fn tried(command: &mut Command) -> (Output, String) {
    let output = command.stdin(Stdio::null()).output();
    let output = output
        .unwrap_or_else(|why| panic!("{command:?} does not start ({why}); tests/run installs it"));
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output, text)
}

/// A file of YAML, read by the parser that Debian's tools use.
fn yaml(file: &Path) -> Value {
    let script = "import json, sys, yaml\nwith open(sys.argv[1]) as file: print(json.dumps(yaml.safe_load(file)))";
    let text = ran(Command::new("/usr/bin/python3").args(["-c", script]).arg(file));
    serde_json::from_str(&text).unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let copied = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copied.parent().unwrap()).unwrap();
        fs::copy(file, copied).unwrap();
    }
}

/// `deploy/` as it is after `deploy/compose/prepare`, in a place of its own.
struct Prepared {
    folder: tempfile::TempDir,
}

impl Prepared {
    fn new() -> Self {
        let prepared = Self { folder: tempfile::tempdir().unwrap() };
        copy(&root().join("deploy"), &prepared.path("deploy"));
        prepared.prepare();
        prepared
    }

    fn prepare(&self) {
        let script = self.path("deploy/compose/prepare");
        ran(Command::new("bash").arg(script).env("WHITEBOARD_GATEWAY", binary()));
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    /// What `docker-compose config` makes of the file: variables and paths filled in.
    fn model(&self) -> Value {
        let mut command = Command::new("docker-compose");
        command.args(["--file", "compose.yaml", "config"]).current_dir(self.path("deploy"));
        // Variables of this process would win over those that were prepared.
        command.env_remove("WBG_USER").env_remove("COMPOSE_PROJECT_NAME");
        let resolved = self.path("resolved.yaml");
        fs::write(&resolved, ran(&mut command)).unwrap();
        yaml(&resolved)
    }
}

/// The values of a key in a text of TOML: what stands in quotes after `key = `.
fn values(text: &str, key: &str) -> BTreeSet<String> {
    let start = format!("{key} = \"");
    let parts = text.split(&start).skip(1).filter_map(|rest| rest.split('"').next());
    parts.map(str::to_owned).collect()
}

/// Every configuration in `deploy/` is one that `check` has nothing to say about, once the files
/// that it names are there.
#[test]
fn check_finds_nothing_in_any_configuration() {
    let mut checked = 0;
    let deploy = Prepared::new();
    for file in files(&deploy.path("deploy")) {
        if file.file_name().unwrap() != "gateway.toml" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // What is made on the machine that it is for.
        let elsewhere = tempfile::tempdir().unwrap();
        let mut here = text.clone();
        for named in values(&text, "file").iter().filter(|named| named.starts_with('/')) {
            let name = Path::new(named).file_name().unwrap().to_str().unwrap();
            let path = elsewhere.path().join(name);
            // A secret that is read; what is written is made.
            if text.contains(&format!("secret_key = {{ file = \"{named}\"")) {
                fs::write(&path, "secret").unwrap();
            }
            here = here.replace(&format!("\"{named}\""), &format!("{path:?}"));
        }
        fs::write(&file, here).unwrap();
        let credentials = ("CREDENTIALS_DIRECTORY", elsewhere.path());
        let mut check = Command::new(binary());
        check.args(["check", "--config"]).arg(&file).env(credentials.0, credentials.1);
        let (output, told) = tried(&mut check);
        // What whoever deploys it replaces is all that is doubtful.
        let doubts = told.lines().filter(|line| line.starts_with("warning: "));
        let replaced = doubts.clone().all(|line| line.contains("is a placeholder of an example"));
        assert!(replaced, "{}: {told}", file.display());
        let code = i32::from(doubts.count() > 0);
        assert_eq!(output.status.code(), Some(code), "{}: {told}", file.display());
        checked += 1;
    }
    assert!(checked >= 2, "only {checked} were found");
}

/// The times of a stop, in seconds, as a configuration has them.
fn stop(file: &Path) -> u64 {
    let loaded = config::load(&Source::File(file.to_owned()), &config::environment());
    let bounds = loaded.unwrap_or_else(|why| panic!("{why}")).settings.server.bounds;
    (bounds.pre_drain + bounds.drain).as_secs()
}

/// A time such as `40s`, in seconds.
fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap_or_else(|_| panic!("{text}"))
}
