//! What programs are told: `check --json` with the members of each error, and `config show`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::binary;

/// Runs a command in a folder, with these variables and no other of the configuration's.
fn run(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).envs(variables.iter().copied());
    command.output().unwrap()
}

/// What `check --json` prints, and its exit code.
fn checked(folder: &Path, variables: &[(&str, &str)]) -> (Option<i32>, Value) {
    let output = run(folder, &["check", "--json", "--config", "gateway.toml"], variables);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

/// The members that each error has, whatever it is about.
const MEMBERS: [&str; 6] = ["file", "line", "variable", "key", "message", "hint"];

#[test]
fn each_mistake_has_its_line_its_key_and_what_to_write() {
    let words = "must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
    for (text, variable, line, key, message, hint) in [
        (
            "\n[lisen]\n",
            None,
            json!(2),
            json!("lisen"),
            "is not a key here",
            json!("did you mean `listen`?"),
        ),
        (
            "[listen]\nadress = 1\n",
            None,
            json!(2),
            json!("listen.adress"),
            "is not a key here: did you mean `address`?",
            json!("did you mean `address`?"),
        ),
        (
            "[listen]\nworkers = \"x\"\n",
            None,
            json!(2),
            json!("listen.workers"),
            "found a string",
            json!("must be a whole number from 1 to 1024"),
        ),
        (
            "[log]\nlevel = 5\n",
            None,
            json!(2),
            json!("log.level"),
            "found an integer",
            json!(words),
        ),
        (
            "[log]\nlevel = \"inof\"\n",
            None,
            json!(2),
            json!("log.level"),
            "found another string",
            json!("did you mean \"info\"?"),
        ),
        (
            "[cors]\nmax_age = \"1m\"\n",
            None,
            json!(1),
            json!("cors.origins"),
            "is missing",
            json!("a list of origins such as [\"https://app.example.org\"]"),
        ),
        (
            "[projects.p]\nkeys = [{ access_key = \"A\", secret_key = \"S\" }]\n\
             [profiles.a]\nproject = \"q\"\n",
            None,
            json!(4),
            json!("profiles.a.project"),
            "names no project",
            json!("did you mean \"p\"?"),
        ),
        (
            "[listen.tls]\ncertificate = \"none.pem\"\nkey = \"none.pem\"\n",
            None,
            json!(2),
            json!("listen.tls.certificate"),
            "names a file that cannot be read: No such file",
            json!("a relative path starts at the directory of the configuration"),
        ),
        (
            "[listen]\naddress = \"127.0.0.1:1\n",
            None,
            json!(2),
            Value::Null,
            "this is no TOML, at column ",
            Value::Null,
        ),
        (
            "",
            Some(("WBG__LISTEN__WORKERS", "x")),
            Value::Null,
            json!("listen.workers"),
            "found a string",
            json!("must be a whole number from 1 to 1024"),
        ),
        (
            "",
            Some(("WBG__LISTEN_WORKERS", "1")),
            Value::Null,
            json!("listen_workers"),
            "is not a key here",
            json!("the keys are"),
        ),
        (
            "",
            Some(("WBG__listen__workers", "1")),
            Value::Null,
            Value::Null,
            "the name of this variable is that of no key",
            json!("write WBG__SECTION__KEY in upper case, with two underscores between"),
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("gateway.toml"), text).unwrap();
        let variables: Vec<_> = variable.into_iter().collect();
        let (code, told) = checked(folder.path(), &variables);
        assert_eq!(code, Some(2), "{text}");
        let errors = told["errors"].as_array().unwrap();
        let error = errors.iter().find(|error| error["key"] == key);
        let error = error.unwrap_or_else(|| panic!("{text}: {told}"));
        let members: Vec<&str> = error.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, MEMBERS);
        let (file, name) = match variable {
            Some((name, _)) => (Value::Null, json!(name)),
            None => (json!("gateway.toml"), Value::Null),
        };
        assert_eq!((&error["file"], &error["variable"]), (&file, &name), "{text}: {error}");
        assert_eq!(error["line"], line, "{text}: {error}");
        assert!(error["message"].as_str().unwrap().contains(message), "{text}: {error}");
        let hinted = error["hint"].as_str().unwrap_or_default();
        assert!(hinted.starts_with(hint.as_str().unwrap_or_default()), "{text}: {error}");
        assert_eq!(error["hint"].is_null(), hint.is_null(), "{text}: {error}");
        assert_eq!(told["warnings"], json!([]));
    }
}

#[test]
fn a_file_that_is_not_there_or_no_text_is_told_as_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let (code, told) = checked(folder.path(), &[]);
    assert_eq!((code, &told["file"]), (Some(2), &json!("gateway.toml")));
    let error = &told["errors"][0];
    assert!(error["message"].as_str().unwrap().contains("cannot be read"), "{told}");
    assert_eq!((&error["line"], &error["key"]), (&Value::Null, &Value::Null));
    assert!(error["hint"].as_str().unwrap().contains("--config FILE"), "{told}");
    for bytes in [&[0xff, 0xfe, b'a', 0][..], &[b'a', 0xff]] {
        fs::write(folder.path().join("gateway.toml"), bytes).unwrap();
        let (code, told) = checked(folder.path(), &[]);
        assert_eq!((code, &told["errors"][0]["file"]), (Some(2), &json!("gateway.toml")), "{told}");
    }
}

#[test]
fn without_any_configuration_the_answer_is_json_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    if Path::new("/etc/whiteboard-gateway/gateway.toml").exists() {
        return;
    }
    let output = run(folder.path(), &["check", "--json"], &[]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &told["file"]), (Some(2), &Value::Null));
    let error = &told["errors"][0];
    assert!(error["message"].as_str().unwrap().contains("there is no configuration"), "{told}");
    assert!(error["hint"].as_str().unwrap().contains("--config FILE"), "{told}");
}

#[test]
fn a_warning_has_the_same_members() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), "[admin]\naddress = \"0.0.0.0:9090\"\n").unwrap();
    let (code, told) = checked(folder.path(), &[("WBG__UPSTREAM__URL", "http://example.org")]);
    assert_eq!(code, Some(1), "{told}");
    let of = |key: &str| {
        let warnings = told["warnings"].as_array().unwrap().iter();
        warnings.clone().find(|warning| warning["key"] == key).unwrap_or_else(|| panic!("{told}"))
    };
    let admin = of("admin.address");
    assert_eq!((&admin["file"], &admin["line"]), (&json!("gateway.toml"), &json!(2)));
    assert!(admin["message"].as_str().unwrap().contains("reachable from other machines"));
    assert_eq!(of("upstream.url")["variable"], "WBG__UPSTREAM__URL");
    assert!(of("callers")["hint"].as_str().unwrap().contains("`key new` makes a key"));
}

#[test]
fn config_show_prints_what_counts_and_loads_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.toml");
    let text = "[listen]\nworkers = 2\n\n[projects.classroom]\nkeys = [{ access_key = \"AK\", secret_key = \"planted\" }]\n";
    fs::write(&path, text).unwrap();
    let variables = [("WBG__UPSTREAM__REGION", "eu")];
    let show = |more: &[&str], variables: &[(&str, &str)]| {
        let output = run(folder.path(), &[&["config", "show"], more].concat(), variables);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let changed = show(&["--changed"], &variables);
    let lines: Vec<&str> = changed.lines().skip(1).filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        [
            "[listen]",
            "workers = 2  # gateway.toml:2",
            "[upstream]",
            "region = \"eu\"  # WBG__UPSTREAM__REGION",
            "[[projects.classroom.keys]]",
            "access_key = \"AK\"  # gateway.toml:5",
            "secret_key = \"********\"  # gateway.toml:5",
        ]
    );
    let all = show(&["--config", "gateway.toml"], &variables);
    assert!(all.contains("#address = \"127.0.0.1:8080\"  # default\n"), "{all}");
    assert!(all.contains("#state = \"active\"  # default\n"), "{all}");
    let told: Value = serde_json::from_str(&show(&["--json"], &variables)).unwrap();
    let keys = told["keys"].as_array().unwrap();
    let region = keys.iter().find(|key| key["key"] == "upstream.region").unwrap();
    assert_eq!((&region["value"], &region["from"]), (&json!("eu"), &json!("variable")));
    fs::write(&path, &all).unwrap();
    let again: Value = serde_json::from_str(&show(&["--json"], &[])).unwrap();
    let values = |told: &Value| -> Vec<(Value, Value)> {
        let keys = told["keys"].as_array().unwrap().iter();
        keys.map(|key| (key["key"].clone(), key["value"].clone())).collect()
    };
    assert_eq!(values(&told), values(&again));
    assert!(!format!("{all}{told}{changed}").contains("planted"));
}

#[test]
fn config_show_of_a_wrong_configuration_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), "[lisen]\nsecret = \"planted\"\n").unwrap();
    for more in [&[][..], &["--json"]] {
        let output = run(folder.path(), &[&["config", "show"], more].concat(), &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
        assert!(said.contains("did you mean `listen`?") && !said.contains("planted"), "{said}");
    }
}
