//! Commands that are more than a sentence: `check` and `sandbox`.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::{Authority, Client, Process, Setup, binary, ended, wait_until};

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

// check

/// A configuration about which nothing is doubtful.
fn good() -> Setup {
    Setup::new("http://127.0.0.1:1")
        .take_out("profiles.backend.allow", "tokens.sdk")
        .with("[upstream]\nregion = \"us-sv\"\n")
        .with("[profiles.backend]\nlimit = { rate = \"200/s\" }\n")
        .with("[audit]\nfile = \"stdout\"\n")
}

/// Runs `check`, for people and for machines.
fn check(setup: &Setup) -> [Output; 2] {
    let mut for_machines = setup.command("check");
    for_machines.arg("--json");
    [ended(setup.command("check")), ended(for_machines)]
}

#[test]
fn a_good_configuration_is_told_with_0() {
    let setup = good();
    let [told, json] = check(&setup);
    assert_eq!((told.status.code(), text(&told.stderr)), (Some(0), ""), "{}", text(&told.stdout));
    assert_eq!(text(&told.stdout), format!("{} is good\n", setup.path().display()));
    assert_eq!((json.status.code(), text(&json.stderr)), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["errors"], &json["warnings"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    assert_eq!(json["version"].as_str().unwrap().len(), 12);
}

#[test]
fn a_doubtful_configuration_is_told_with_1() {
    let setup = good().without("profiles.backend.limit");
    let [told, json] = check(&setup);
    assert_eq!((told.status.code(), text(&told.stderr)), (Some(1), ""));
    let lines: Vec<&str> = text(&told.stdout).lines().collect();
    assert!(
        lines[0].starts_with("warning: ") && lines[0].contains("profiles.backend"),
        "{lines:?}"
    );
    assert!(lines[1].ends_with("can be used, with 1 warning"), "{lines:?}");
    assert_eq!((json.status.code(), text(&json.stderr)), (Some(1), ""));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["errors"], serde_json::json!([]));
    let warning = &json["warnings"][0];
    assert!(warning["message"].as_str().unwrap().contains("profiles.backend"), "{json}");
    assert_eq!(warning["key"], "profiles.backend", "{json}");
    assert!(warning["line"].is_u64() && warning["file"].is_string(), "{json}");
}

#[test]
fn a_wrong_configuration_is_told_with_2_and_all_that_is_wrong() {
    let setup = good()
        .set("listen.workers", 0)
        .without("profiles.backend.role")
        .set("profiles.backend.roll", "admin")
        .with("[nothing]\n");
    let [told, json] = check(&setup);
    assert_eq!((told.status.code(), text(&told.stdout)), (Some(2), ""));
    assert_eq!(json.status.code(), Some(2));
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let errors = value["errors"].as_array().unwrap().iter();
    let errors: Vec<&str> = errors.map(|one| one["message"].as_str().unwrap()).collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    let named = ["`listen.workers`", "did you mean `role`?", "`nothing`"];
    for told in [errors.concat(), text(&told.stderr).to_owned()] {
        assert!(named.iter().all(|name| told.contains(name)), "{told}");
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_as_well() {
    let setup = good().with("[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
    let authority = Authority::new("authority");
    let mut server = authority.certify("localhost");
    server.pem.push_str(&authority.pem);
    server.write(setup.folder.path());
    assert_eq!(check(&setup).map(|told| told.status.code()), [Some(0); 2]);
    fs::write(setup.folder.path().join("key.pem"), authority.certify("localhost").key).unwrap();
    let [told, json] = check(&setup);
    assert_eq!([told.status.code(), json.status.code()], [Some(2); 2]);
    assert!(text(&told.stderr).contains("listen.tls"), "{}", text(&told.stderr));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["errors"][0]["key"], "listen.tls.key", "{json}");
}

// sandbox

#[test]
fn the_sandbox_serves_says_so_and_stops() {
    let mut command = Command::new(binary());
    command.args(["sandbox", "--listen", "127.0.0.1:0", "--access-key", "my-ak"]);
    let mut sandbox = Process::of_sandbox(command);
    wait_until("it has said all", || sandbox.stdout().lines().count() == 3);
    let said = sandbox.stdout();
    assert!(said.contains("access key my-ak, secret key sandbox-secret-key"), "{said}");
    let mut client = Client::connect(sandbox.address);
    let about = client.request("GET", "/", &[], "");
    assert_eq!(about.status, 200);
    assert!(about.json()["control"].is_object(), "{}", about.text());
    let body = r#"{"accessKey":"my-ak","secretAccessKey":"sandbox-secret-key","lifespan":60000,"role":"admin"}"#;
    let token = client.request("POST", "/v5/tokens/teams", &[("region", "us-sv")], body);
    let token = token.json().as_str().unwrap().to_owned();
    let headers = [("token", token.as_str()), ("region", "us-sv")];
    assert_eq!(client.request("POST", "/v5/rooms", &headers, "{}").status, 201);
    sandbox.signal("TERM");
    assert_eq!(sandbox.wait(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn a_sandbox_that_cannot_serve_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (words, why) in [
        (vec!["--listen", &address], "another process serves it"),
        (vec!["--listen", "nowhere"], "--listen"),
        (vec!["--listen", "127.0.0.1:0", "--certificate", "a.pem"], "go together"),
        (vec!["--listen", "127.0.0.1:0", "--secret-key-env", "NO_SUCH_VARIABLE"], "is not set"),
    ] {
        let mut command = Command::new(binary());
        command.arg("sandbox").args(&words);
        let ran = ended(command);
        assert_eq!((ran.status.code(), text(&ran.stdout)), (Some(2), ""), "{words:?}");
        assert!(text(&ran.stderr).contains(why), "{}", text(&ran.stderr));
    }
}
