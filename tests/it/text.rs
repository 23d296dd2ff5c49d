//! Text from files, variables and standard input, through the built binary: one rule for all of it,
//! however an editor or a shell has saved it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use time::Duration;
use whiteboard_gateway::api::TokenKind;
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::support::{AUDIENCE, Authority, Setup, Signer, binary, ended, finished, jwks};

/// A way to save a text.
type Saving = fn(&str) -> String;

/// What editors and shells make of a text that should have been plain.
const SAVED: &[(&str, Saving)] = &[
    ("plain", str::to_owned),
    ("with a byte order mark", |text| format!("\u{feff}{text}")),
    ("with the line ends of Windows", windows),
    ("with both", |text| format!("\u{feff}{}", windows(text))),
    ("with blank lines around", |text| format!("\r\n{text}\n\n")),
];

fn windows(text: &str) -> String {
    text.trim_end().replace('\n', "\r\n") + "\r\n"
}

fn utf_16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().flat_map(u16::to_le_bytes);
    [0xff, 0xfe].into_iter().chain(units).collect()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// A configuration that names a file of each kind, and what is in each; the first is its own.
fn house() -> (Setup, Vec<(&'static str, String)>) {
    let (authority, folder) = (Authority::new("root"), tempfile::tempdir().unwrap());
    let (server, root) = (authority.server(), fs::read_to_string(authority.write(folder.path())));
    let root = root.unwrap();
    let issuer = |name: &str, file: &str| {
        format!(
            "[issuers.{name}]\nissuer = \"https://{name}.example\"\naudience = \"{AUDIENCE}\"\n\
             key_file = \"{file}\"\nprofile = \"backend\"\n"
        )
    };
    let setup = Setup::new("http://127.0.0.1:1")
        .without("projects.classroom.keys.0.secret_key")
        .set("projects.classroom.keys.0.secret_key.file", "sk")
        .with(
            "[listen.tls]\ncertificate = \"chain.pem\"\nkey = \"key.pem\"\n\
             client_ca = \"clients.pem\"\nclient_crl = \"revoked.pem\"\n",
        )
        .with(&issuer("set", "keys.json"))
        .with(&issuer("pem", "idp.pem"));
    let files = vec![
        ("gateway.toml", setup.configuration().to_string()),
        ("sk", "sandbox-secret-key".to_owned()),
        ("chain.pem", server.pem.clone() + &root),
        ("key.pem", server.key),
        ("clients.pem", root),
        ("revoked.pem", authority.revoked(&[], Duration::HOUR)),
        ("keys.json", jwks(&[Signer::es256("a").jwk()])),
        ("idp.pem", Signer::rs256("b").pem()),
    ];
    (setup, files)
}

/// What `check` says of these files.
fn checked(setup: &Setup, files: &[(&str, Vec<u8>)]) -> Output {
    let command = setup.command("check");
    for (name, content) in files {
        let path = setup.folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    ended(command)
}

#[test]
fn every_file_of_a_configuration_is_read_however_it_was_saved() {
    let (setup, files) = house();
    for (how, saved) in SAVED {
        let as_saved: Vec<_> =
            files.iter().map(|(name, text)| (*name, saved(text).into_bytes())).collect();
        let output = checked(&setup, &as_saved);
        // 1: the configuration has warnings anyway, of what it leaves out.
        assert_eq!(output.status.code(), Some(1), "{how}: {}", said(&output));
    }
}

#[test]
fn every_file_that_is_utf_16_is_called_so_and_by_its_key() {
    let (setup, files) = house();
    let keys = [
        "this file",
        "`projects.classroom.keys[0].secret_key.file`",
        "`listen.tls.certificate`",
        "`listen.tls.key`",
        "`listen.tls.client_ca`",
        "`listen.tls.client_crl`",
        "`issuers.set`",
        "`issuers.pem`",
    ];
    for (wide, key) in files.iter().zip(keys) {
        let content = |(name, text): &(&'static str, String)| {
            (*name, if *name == wide.0 { utf_16(text) } else { text.clone().into_bytes() })
        };
        let output = checked(&setup, &files.iter().map(content).collect::<Vec<_>>());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{}: {said}", wide.0);
        assert!(said.contains(key) && said.contains("is UTF-16"), "{}: {said}", wide.0);
    }
}

#[test]
fn a_secret_and_a_token_are_the_same_however_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let (token_file, key_file) = (folder.path().join("token"), folder.path().join("sk"));
    let pair = KeyPair::new("ak".to_owned(), &Secret::new("the-secret-key".to_owned()));
    let now = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
    let token = pair.mint(
        TokenFields {
            kind: TokenKind::Sdk,
            role: "0",
            uuid: None,
            lifespan_ms: 3_600_000,
            nonce: "nonce".to_owned(),
        },
        now,
    );
    let token = token.token.expose();
    for (how, saved) in SAVED {
        fs::write(&token_file, saved(token)).unwrap();
        fs::write(&key_file, saved("the-secret-key")).unwrap();
        for from_file in [true, false] {
            let mut inspect = Command::new(binary());
            inspect.args(["token", "inspect", "-", "--json"]);
            if from_file {
                inspect.arg("--secret-key-file").arg(&key_file);
            } else {
                inspect.args(["--secret-key-env", "SK"]).env("SK", saved("the-secret-key"));
            }
            inspect.stdin(Stdio::from(fs::File::open(&token_file).unwrap()));
            let output = finished(inspect);
            assert_eq!(output.status.code(), Some(0), "{how}, {from_file}: {}", said(&output));
        }
    }
}

#[test]
fn what_is_no_text_is_named_wherever_it_stands_and_not_repeated() {
    let setup = Setup::new("http://127.0.0.1:1");
    let binary_secret = || OsString::from_vec(b"planted\xff\xfe".to_vec());
    for (variable, value, key) in [
        ("CLASSROOM_SK", binary_secret(), "`projects.classroom.keys[0].secret_key.env`"),
        ("CLASSROOM_SK", "planted\nsecond".into(), "`projects.classroom.keys[0].secret_key.env`"),
        ("WBG__UPSTREAM__REGION", binary_secret(), "WBG__UPSTREAM__REGION"),
    ] {
        let mut check = setup.command("check");
        check.env(variable, &value);
        let output = ended(check);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{variable}: {said}");
        let named = said.contains("is not UTF-8") || said.contains("more than one line");
        assert!(said.contains(key) && named && !said.contains("planted"), "{variable}: {said}");
    }
    // An env file that was saved on Windows.
    let mut check = setup.command("check");
    check.env("WBG__UPSTREAM__REGION", "cn-hz\r").env("CLASSROOM_SK", "sk\r");
    let output = ended(check);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));

    let folder = setup.folder.path();
    fs::write(folder.join("wide"), utf_16("NETLESSROOM_planted")).unwrap();
    for arguments in [
        &["token", "inspect", "-"][..],
        &["key", "hash"],
        &["jwt", "inspect", "--config", "gateway.toml"],
        &["policy", "explain", "GET", "/v5/rooms", "--token", "-", "--config", "gateway.toml"],
        &["policy", "test", "wide", "--config", "gateway.toml"],
    ] {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(folder).env("CLASSROOM_SK", "sk");
        command.stdin(Stdio::from(fs::File::open(folder.join("wide")).unwrap()));
        let output = finished(command);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("is UTF-16") && !said.contains("planted"), "{arguments:?}: {said}");
    }
}
