//! The Helm chart, rendered by Helm itself for each set of values in `deploy/helm/values`: what the
//! schemas of Kubernetes say to it, how its objects fit each other, and how the gateway runs with what a
//! pod would give it. `tests/deploy/helm/install` brings what is called here; `tests/run` calls it.

mod objects;
mod pod;
mod values;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::house::root;

/// The sets of values that are shipped, by the names of their files.
const SETS: [&str; 3] = ["sandbox", "production", "single"];

/// Everything that can be set is set in this one: for templates that no shipped set reaches.
const EVERYTHING: &str = "tests/deploy/helm/everything.yaml";

/// The values that mount what the least configuration names.
const MOUNTED: [&str; 2] = [
    "--set=files.secrets/classroom-sk.existingSecret=whiteboard",
    "--set=files.secrets/classroom-sk.key=classroom-sk",
];

/// The least configuration, for the chart's own defaults.
const LEAST: &str = r#"
[upstream]
region = "eu"

[projects.classroom]
keys = [{ access_key = "your-access-key", secret_key = { file = "secrets/classroom-sk" } }]
"#;

fn chart() -> PathBuf {
    root().join("deploy/helm/whiteboard-gateway")
}

/// What `install` has brought.
fn tool(name: &str) -> Command {
    let path = root().join("target/helm").join(name);
    assert!(path.exists(), "{name} is missing: tests/deploy/helm/install brings it");
    Command::new(path)
}

/// Helm of this major version.
fn helm(major: u8) -> Command {
    tool(&format!("helm{major}"))
}

fn check(arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = tool("venv/bin/python");
    command.arg(root().join("tests/deploy/helm/check.py")).args(arguments);
    said(command, input)
}

/// What a command prints, or, when it fails, what it prints and complains of.
fn said(mut command: Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that refuses its arguments need not read.
    _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    if output.status.success() {
        return Ok(printed);
    }
    Err(printed + &String::from_utf8_lossy(&output.stderr))
}

/// The arguments for a set of values: a name of `SETS`, a path, or nothing for the defaults alone.
fn values_of(set: &str) -> Vec<String> {
    let path = match set {
        "" => return Vec::new(),
        set if SETS.contains(&set) => root().join("deploy/helm/values").join(format!("{set}.yaml")),
        path => root().join(path),
    };
    vec!["--values".to_owned(), path.display().to_string()]
}

/// What Helm makes of the chart, or why it refuses to.
fn rendered(major: u8, set: &str, more: &[&str]) -> Result<String, String> {
    let mut command = helm(major);
    command.args(["template", "wb"]).arg(chart()).args(["--namespace", "whiteboard"]);
    command.args(values_of(set)).args(more);
    said(command, "")
}

/// A rendered chart.
struct Release {
    objects: Vec<Value>,
}

impl Release {
    fn of(set: &str) -> Self {
        Self::with(set, &[])
    }

    /// With more arguments, such as `--set`.
    fn with(set: &str, more: &[&str]) -> Self {
        let text = rendered(4, set, more).unwrap();
        let objects = serde_json::from_str(&check(&["objects"], &text).unwrap()).unwrap();
        Self { objects }
    }

    /// The defaults, with this configuration.
    fn configured(config: &str, more: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), config).unwrap();
        let config = format!("config={}", file.path().display());
        Self::with("", &[&["--set-file", &config], &MOUNTED[..], more].concat())
    }

    fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|one| one["kind"] == kind).collect()
    }

    #[track_caller]
    fn one(&self, kind: &str) -> &Value {
        match self.all(kind)[..] {
            [one] => one,
            ref all => panic!("{} objects of the kind {kind}", all.len()),
        }
    }

    /// The Deployment, or the StatefulSet.
    fn workload(&self) -> &Value {
        let kinds = ["Deployment", "StatefulSet"];
        let mut found = self.objects.iter().filter(|one| kinds.contains(&text(&one["kind"])));
        let workload = found.next().unwrap();
        assert!(found.next().is_none(), "one workload is enough");
        workload
    }

    /// Its template of a pod.
    fn pod(&self) -> &Value {
        &self.workload()["spec"]["template"]
    }

    fn container(&self) -> &Value {
        &self.pod()["spec"]["containers"][0]
    }

    /// The number of a port of the container.
    fn port(&self, name: &str) -> u64 {
        let named = |port: &&Value| port["name"] == name;
        list(&self.container()["ports"]).find(named).unwrap()["containerPort"].as_u64().unwrap()
    }

    /// The variables of the container that have a value.
    fn variables(&self) -> BTreeMap<String, String> {
        let valued = list(&self.container()["env"]).filter(|one| one.get("value").is_some());
        valued.map(|one| (text(&one["name"]).to_owned(), text(&one["value"]).to_owned())).collect()
    }

    /// The text of gateway.toml.
    fn config(&self) -> &str {
        text(&self.one("ConfigMap")["data"]["gateway.toml"])
    }
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// The elements of a list; none where there is no list.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whether an object with these labels is selected. A selector without labels would select all.
fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object().unwrap();
    !wanted.is_empty() && wanted.iter().all(|(label, value)| labels.get(label) == Some(value))
}
