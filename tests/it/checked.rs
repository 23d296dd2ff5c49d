//! `check`, through the built binary: what cannot work is said before a request finds out, and with
//! `--online` whoever knows is asked.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::docs::Page;
use crate::support::{
    Authority, Collector, Issuer, Mood, Process, Redis, Setup, Signer, binary, ended, replace,
    wait_until,
};

const SECRET_KEY: &str = "planted-secret-key-7Jq";

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

#[test]
fn the_placeholders_of_the_readme_are_named_each_by_its_key() {
    let readme = Page::read("README.md");
    let blocks = readme.blocks();
    let text = blocks.iter().find(|block| block.info == "toml gateway.toml").unwrap().text;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), text).unwrap();
    let mut check = Command::new(binary());
    check.args(["check", "--config", "gateway.toml"]).current_dir(folder.path());
    check.env("CLASSROOM_SK", "the secret key of your project");
    let output = ended(check);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for key in [
        "`projects.classroom.keys[0].access_key`",
        "`projects.classroom.keys[0].secret_key.env`",
        "`callers.lessons.keys[0].digest`",
    ] {
        let line = said.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains("is a placeholder of an example: "), "{line}");
    }
}

/// The PEM of those whose certificates clients have, and of what they have revoked; empty where there
/// is none.
#[derive(Default)]
struct Clients<'a> {
    authorities: &'a str,
    revoked: &'a str,
}

impl Clients<'_> {
    /// The lines of the configuration that name them.
    fn lines(&self) -> String {
        let named = [
            (self.authorities, "client_ca = \"clients.pem\"\n"),
            (self.revoked, "client_crl = \"revoked.pem\"\n"),
        ];
        named.iter().filter(|(pem, _)| !pem.is_empty()).map(|(_, line)| *line).collect()
    }
}

/// A configuration with this certificate in `[listen.tls]`, and what `check` says of it.
fn with_chain(chain: &str, key: &str, clients: &Clients<'_>) -> Output {
    let more = clients.lines();
    let setup = Setup::new("http://127.0.0.1:1").with(&format!(
        "[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n{more}\n"
    ));
    replace(&setup.folder.path().join("certificate.pem"), chain);
    let file = setup.folder.path().join("key.pem");
    replace(&file, key);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    for (file, text) in [("clients.pem", clients.authorities), ("revoked.pem", clients.revoked)] {
        fs::write(setup.folder.path().join(file), text).unwrap();
    }
    ended(setup.command("check"))
}

#[test]
fn a_chain_that_a_client_with_the_root_alone_cannot_follow_is_warned_about() {
    let root = Authority::new("the root");
    let between = root.below("the one between");
    let server = between.server();
    let marks = server.pem.matches("-----END CERTIFICATE-----").count();
    assert_eq!(marks, 2, "its own and the one between");
    let own = server.pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    let below_root = root.server();
    let named = "O=Example, CN=the one between";
    for (what, chain, key, warned) in [
        ("the full chain", server.pem.clone(), &server.key, None),
        ("with the root", server.pem.clone() + &root.pem, &server.key, None),
        ("without the intermediate", own.to_owned(), &server.key, Some(("append", named))),
        (
            "the root in its place",
            own.to_owned() + &root.pem,
            &server.key,
            Some(("2 has not", named)),
        ),
        ("below the root, with it", below_root.pem.clone() + &root.pem, &below_root.key, None),
        (
            "below a root that nobody here knows",
            below_root.pem.clone(),
            &below_root.key,
            Some(("unless that is a root", "CN=the root")),
        ),
    ] {
        let output = with_chain(&chain, key, &Clients::default());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        let line = said.lines().find(|line| line.contains("`listen.tls.certificate`"));
        assert_eq!(line.is_some(), warned.is_some(), "{what}: {said}");
        if let (Some((why, issuer)), Some(line)) = (warned, line) {
            assert!(line.contains(why) && line.contains(issuer), "{what}: {line}");
        }
    }
    // A root that the configuration names is one that its clients have.
    let clients = Clients { authorities: &root.pem, ..Clients::default() };
    let told = said(&with_chain(&below_root.pem, &below_root.key, &clients));
    assert!(told.contains("can be used") && !told.contains("`listen.tls.certificate`"), "{told}");
}

#[test]
fn an_authority_without_a_list_of_what_it_has_revoked_is_an_error() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = ours.server();
    let list = ours.revoked(&[], time::Duration::HOUR);
    let both = ours.pem.clone() + &other.pem;
    let clients = |authorities| Clients { authorities, revoked: &list };
    let chain = server.pem.clone() + &ours.pem;
    let output = with_chain(&chain, &server.key, &clients(&both));
    let told = said(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("`listen.tls.client_crl` has no list of certificate 2"), "{told}");
    let output = with_chain(&chain, &server.key, &clients(&ours.pem));
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

/// Everybody whom a gateway speaks to.
struct Others {
    setup: Setup,
    sandbox: Process,
    issuer: Issuer,
    store: Redis,
    collector: Collector,
}

impl Others {
    fn start() -> Self {
        let authority = Authority::new("root");
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.certify("localhost").write(folder.path());
        let mut command = Command::new(binary());
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--access-key", "sandbox"]);
        command.args(["--secret-key-env", "SK"]).env("SK", SECRET_KEY);
        command.arg("--certificate").arg(certificate).arg("--key").arg(key);
        let sandbox = Process::of_sandbox(command);
        let issuer = Issuer::serving(&[Arc::new(Signer::es256("a"))]);
        let (store, collector) = (Redis::start(), Collector::new());
        let setup = Setup::new(&format!("https://localhost:{}", sandbox.address.port()));
        let here = setup.folder.path().to_owned();
        authority.write(&here);
        let setup = setup
            .with("[upstream]\nca = \"authority.pem\"\nregion = \"us-sv\"\n")
            .with(&issuer.section("school", &here, "profile = \"backend\""))
            .with(&format!("[store]\nurl = \"{}\"\ntimeout = \"2s\"\n", store.url()))
            .with(&collector.section("headers = { authorization = { env = \"COLLECTOR\" } }"));
        Self { setup, sandbox, issuer, store, collector }
    }

    fn ask(&self, secret_key: &str, arguments: &[&str]) -> Output {
        let mut check = self.setup.command("check");
        check.arg("--online").args(arguments);
        check.env("CLASSROOM_SK", secret_key).env("COLLECTOR", "planted-collector-key");
        ended(check)
    }

    /// What was asked, whether it was answered as it should be, and the answer.
    fn answers(&self, secret_key: &str) -> (Option<i32>, Vec<(String, bool, String)>) {
        let output = self.ask(secret_key, &["--json"]);
        let told: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let row = |row: &Value| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            assert!(row["ms"].is_u64(), "{row}");
            let asked = format!("{} of {}", text("asked"), text("of"));
            (asked, row["ok"].as_bool().unwrap(), text("answer"))
        };
        let rows = told["online"].as_array().unwrap().iter().map(row).collect();
        (output.status.code(), rows)
    }
}

#[test]
fn everybody_who_is_asked_online_has_a_line_of_its_own() {
    let others = Others::start();
    let output = others.ask(SECRET_KEY, &[]);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("online: ok")).collect();
    for (line, parts) in lines.iter().zip([
        ["keys of the issuer `school`", "https://localhost:", "/keys: 1 that can be used"],
        ["a write and a script", "the store at 127.0.0.1:", "takes writes and scripts"],
        ["the certificate", "the upstream at localhost:", "good until"],
        ["GET /v5/rooms?limit=1 as the project `classroom`", "in us-sv", "200"],
        ["to take traces", "the collector at http://localhost:", "taken"],
        ["to take metrics", "the collector at http://localhost:", "taken"],
    ]) {
        assert!(parts.iter().all(|part| line.contains(part)), "{line}: {parts:?}");
        assert!(line.ends_with(" ms)"), "{line}");
    }
    assert_eq!(lines.len(), 6, "{told}");
    assert!(!told.contains("planted"), "{told}");

    let output = others.ask(SECRET_KEY, &["--region", "cn-hz", "--region", "sg"]);
    let told = said(&output);
    let reads: Vec<&str> = told.lines().filter(|line| line.contains("GET /v5/rooms")).collect();
    assert!(
        reads.len() == 2 && reads[0].contains("in cn-hz") && reads[1].contains("in sg"),
        "{told}"
    );
    let output = others.ask(SECRET_KEY, &["--region", "us-svv"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn a_question_that_fails_fails_the_check_and_says_why() {
    let mut others = Others::start();
    let failed = |others: &Others, secret_key: &str, asked: &str, why: &str| {
        let (code, rows) = others.answers(secret_key);
        assert_eq!(code, Some(2), "{rows:?}");
        let (bad, good): (Vec<_>, Vec<_>) = rows.iter().partition(|(_, is_good, _)| !is_good);
        assert!(!good.is_empty() && bad.iter().all(|(of, ..)| of.contains(asked)), "{rows:?}");
        assert!(bad.iter().any(|(.., answer)| answer.contains(why)), "{rows:?}");
        assert!(!format!("{rows:?}").contains("planted"), "{rows:?}");
    };
    // A secret key that is another's, which nothing else shows before the first request.
    failed(
        &others,
        "planted-of-another-project",
        "as the project `classroom`",
        "do not belong together",
    );
    others.issuer.mood(Mood::Failing);
    failed(&others, SECRET_KEY, "keys of the issuer", "it answered");
    others.issuer.mood(Mood::Up);
    others.collector.answer("401 Unauthorized");
    failed(&others, SECRET_KEY, "the collector", "401");
    others.collector.take_again();
    others.store.kill();
    failed(&others, SECRET_KEY, "the store", "refused");
    // Whose certificate nobody here trusts.
    Authority::new("another").write(others.setup.folder.path());
    let (code, rows) = others.answers(SECRET_KEY);
    assert_eq!(code, Some(2));
    let certificate = rows.iter().find(|(of, ..)| of.contains("the certificate of")).unwrap();
    assert!(!certificate.1 && certificate.2.to_lowercase().contains("certificate"), "{rows:?}");
    drop(others.sandbox);
}

/// Nobody answers anything: all are asked at once, and none is waited for longer than it may take.
#[test]
fn nobody_is_waited_for_longer_than_five_seconds() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let setup = Setup::new(&format!("http://127.0.0.1:{port}"))
        .with(&format!("[store]\nurl = \"redis://127.0.0.1:{port}\"\n"))
        .with(&format!("[otlp]\nendpoint = \"http://127.0.0.1:{port}\"\n"));
    let mut check = setup.command("check");
    check.arg("--online");
    let since = Instant::now();
    let output = ended(check);
    let told = said(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(since.elapsed() < Duration::from_secs(9), "one after the other: {told}");
    let failed = told.lines().filter(|line| line.starts_with("online: FAILED")).count();
    assert_eq!(failed, 4, "{told}");
    assert!(told.contains("no answer came within 5 s"), "{told}");
}

#[test]
fn a_sentinel_that_knows_no_such_master_says_which_key_to_change() {
    let master = Redis::start();
    let sentinel = Redis::sentinel_of(&master);
    let section = |name: &str| {
        format!(
            "[store]\nurl = \"redis://127.0.0.1:{}\"\nmode = \"sentinel\"\nmaster = \"{name}\"\n",
            sentinel.port
        )
    };
    let store = |name: &str| {
        let setup = Setup::new("http://127.0.0.1:1").with(&section(name));
        let mut check = setup.command("check");
        check.arg("--online");
        let told = said(&ended(check));
        let line = told.lines().find(|line| line.contains("the store at"));
        line.unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    wait_until("the sentinel has its master", || store("gateways").contains("online: ok"));
    let line = store("gateway");
    for part in ["FAILED", "knows no master", "`store.master`", "`sentinel monitor`"] {
        assert!(line.contains(part), "{line}");
    }
    let limit = "allow = [\"tokens.room\"]\nrooms = \"any\"\nlimit = { rate = \"5/h\" }\n";
    let mut setup = Setup::new("http://127.0.0.1:1").with(&section("gateway"));
    setup.caller("limited", limit);
    let gateway = setup.start();
    wait_until("the log says so", || gateway.stderr().contains("knows no master of the name"));
}

#[test]
fn a_key_and_a_chain_that_do_not_do_are_called_what_they_are() {
    let root = Authority::new("the root");
    let server = root.below("the one between").server();
    let mut certificates: Vec<&str> =
        server.pem.split_inclusive("-----END CERTIFICATE-----\n").collect();
    certificates.reverse();
    let reversed = certificates.concat();
    let body = server.key.lines().filter(|line| !line.starts_with("-----")).collect::<String>();
    let pkcs8 = format!(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n{body}\n-----END ENCRYPTED PRIVATE KEY-----\n"
    );
    let before = format!(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n{body}\n\
         -----END RSA PRIVATE KEY-----\n"
    );
    let other = root.server().key;
    for (what, chain, key, said_of, why) in [
        ("PKCS#8", &server.pem, &pkcs8, "`listen.tls.key`", "private key is encrypted"),
        ("before PKCS#8", &server.pem, &before, "`listen.tls.key`", "private key is encrypted"),
        ("reversed", &reversed, &server.key, "`listen.tls.certificate`", "in the wrong order"),
        ("another's", &server.pem, &other, "`listen.tls.key`", "do not belong together"),
        ("no key", &server.pem, &server.pem, "`listen.tls.key`", "without a private key"),
    ] {
        let output = with_chain(chain, key, &Clients::default());
        let told = said(&output);
        assert_eq!(output.status.code(), Some(2), "{what}: {told}");
        assert!(told.contains(said_of) && told.contains(why), "{what}: {told}");
        assert!(!told.contains("KeyMismatch") && !told.contains("Other("), "{what}: {told}");
    }
}
