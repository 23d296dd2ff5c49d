//! How a token is read: paths of claims, names of algorithms, files of keys, providers on this
//! machine; and the commands that say which check one fails.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use super::{SCHOOL, School, section};
use crate::support::{AUDIENCE, Issuer, Setup, Signer, Upstream, binary, claims, finished, jwks};

const ROLES: &str = "profile = { claim = \"realm_access.roles\", map = { teacher = \"backend\", \
                     pupil = \"student\" } }\n";

#[test]
fn a_claim_that_can_be_read_in_two_ways_is_refused_with_a_reason() {
    let school = School::with(ROLES);
    let nested = json!({"realm_access": {"roles": ["pupil"]}, "rooms": ["r"]});
    assert_eq!(school.get(&nested, "r").status, 200);
    let mut both = nested;
    both["realm_access.roles"] = json!(["teacher"]);
    let answer = school.call(&both, "PATCH", "/v5/rooms/r", r#"{"isBan":true}"#);
    answer.assert_envelope(403, "forbidden");
    let line = school.gateway.access_line(&answer.member("requestId"));
    let detail = line["detail"].as_str().unwrap();
    assert!(
        detail.contains("`realm_access.roles` holds one thing under this whole name"),
        "{line}"
    );
    both["realm_access.roles"] = json!("pupil");
    assert_eq!(school.get(&both, "r").status, 200);
}

#[test]
fn names_with_dots_are_reached_one_by_one() {
    let school = School::with(
        "profile = { claim = [\"resource_access\", \"app.example.com\", \"roles\"], map = { teacher \
         = \"backend\" } }\nrole = { claim = [\"wb.role\"] }\n",
    );
    let good = json!({
        "resource_access": {"app.example.com": {"roles": ["teacher"]}}, "wb.role": "admin",
    });
    let answer = school.get(&good, "r");
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Without a profile, the access line says what is missing.
    for (changes, told) in [
        (json!({"wb.role": "admin"}), "the claim that `profile` names holds nothing"),
        (
            json!({"resource_access": {"app.example.com": {"roles": ["pupil"]}}}),
            "no text of the claim that `profile` names is in its `map`",
        ),
    ] {
        let answer = school.get(&changes, "r");
        answer.assert_envelope(403, "forbidden");
        let line = school.gateway.access_line(&answer.member("requestId"));
        assert_eq!(line["detail"], told, "{line}");
    }
}

#[test]
fn a_profile_takes_its_rooms_from_a_path_of_names() {
    let setup = Setup::new(&Upstream::json("200 OK", "{}").url()).with(
        "[profiles.guest]\nproject = \"classroom\"\nallow = [\"rooms.get\"]\nrole = \"writer\"\n\
         rooms = { claim = [\"https://example.org/rooms\", \"mine\"] }\n",
    );
    let school = School::of(setup, "profile = \"guest\"");
    let mine = json!({"https://example.org/rooms": {"mine": ["r"]}});
    assert_eq!(school.get(&mine, "r").status, 200);
    assert_eq!(school.get(&mine, "other").status, 404);
}

#[test]
fn ed25519_is_eddsa_on_that_curve_wherever_it_is_written() {
    let signer = Signer::ed25519("a");
    let claims = claims(SCHOOL, &json!({}));
    for (in_key, listed) in [("Ed25519", "EdDSA"), ("EdDSA", "Ed25519"), ("Ed25519", "Ed25519")] {
        let setup = Setup::new(&Upstream::json("200 OK", "{}").url());
        let mut jwk = signer.jwk();
        jwk["alg"] = json!(in_key);
        fs::write(setup.folder.path().join("keys.json"), jwks(&[jwk])).unwrap();
        let more = format!("profile = \"backend\"\nalgorithms = [\"{listed}\"]");
        let issuer = section("school", SCHOOL, "key_file = \"keys.json\"", &more);
        let gateway = setup.with(&issuer).start();
        for said in ["Ed25519", "EdDSA"] {
            let mut header = signer.header();
            header["alg"] = json!(said);
            let token = signer.sign(&header, &claims);
            let answer = gateway.client().call(&token, "GET", "/v5/rooms/r", "");
            assert_eq!(answer.status, 200, "{in_key} {listed} {said}: {}", answer.text());
        }
    }
}

#[test]
fn every_key_of_a_pem_file_counts() {
    let setup = Setup::new(&Upstream::json("200 OK", "{}").url());
    let [old, new, stranger] = ["old", "new", "stranger"].map(Signer::es256);
    let rsa = Signer::rs256("rsa");
    let file = [old.pem(), new.pem(), rsa.pem()].concat();
    fs::write(setup.folder.path().join("keys.pem"), file).unwrap();
    let keys = "key_file = \"keys.pem\"";
    let gateway = setup.with(&section("school", SCHOOL, keys, "profile = \"backend\"")).start();
    for (signer, status) in [(&old, 200), (&new, 200), (&rsa, 200), (&stranger, 401)] {
        let token = signer.token(&claims(SCHOOL, &json!({})));
        let answer = gateway.client().call(&token, "GET", "/v5/rooms/r", "");
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

/// A provider without TLS, which publishes this key.
fn in_the_clear(signer: &Signer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (issuer, keys) = (url.clone(), jwks(&[signer.jwk()]));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0)
            {
                head.push(byte[0]);
            }
            let discovery = head.starts_with(b"GET /.well-known/openid-configuration ");
            let body = if discovery {
                json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")}).to_string()
            } else {
                keys.clone()
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
            _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn a_provider_on_loopback_is_taken_without_tls_and_warned_about() {
    let signer = Signer::es256("a");
    let url = in_the_clear(&signer);
    for (keys, warned) in [
        ("discovery = true".to_owned(), "`issuers.school.issuer` is an http URL"),
        (format!("jwks = \"{url}/keys\""), "`issuers.school.jwks` is an http URL"),
    ] {
        let setup = Setup::new(&Upstream::json("200 OK", "{}").url());
        let setup = setup.with(&section("school", &url, &keys, "profile = \"backend\""));
        let checked = String::from_utf8(finished(setup.command("check")).stdout).unwrap();
        assert!(checked.contains(warned), "{checked}");
        let gateway = setup.start();
        let token = signer.token(&claims(&url, &json!({})));
        let answer = gateway.client().call(&token, "GET", "/v5/rooms/r", "");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let setup = Setup::new("http://127.0.0.1:1").with(&section(
        "school",
        "https://idp.example.org",
        "jwks = \"http://idp.example.org/keys\"",
        "profile = \"backend\"",
    ));
    let output = finished(setup.command("check"));
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("or an http one on loopback: its scheme is another"), "{told}");
}

/// Runs a command of the binary with a token on its standard input.
fn with_token(setup: &Setup, arguments: &[&str], token: &str) -> Output {
    setup.write();
    let mut command = Command::new(binary());
    command.args(arguments).arg("--config").arg(setup.path());
    let mut child = command
        .env("CLASSROOM_SK", "sandbox-secret-key")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(token.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_commands_say_which_check_a_token_fails() {
    let signer = Arc::new(Signer::es256("a"));
    let issuer = Issuer::serving(&[Arc::clone(&signer)]);
    let setup = Setup::new("http://127.0.0.1:1");
    let folder = setup.folder.path().to_owned();
    let setup = setup.with(&issuer.section("school", &folder, "profile = \"backend\""));
    let stranger = Signer::es256("a");
    let other = claims("https://other.example", &json!({}));
    for (token, code, told) in [
        (signer.token(&issuer.claims(&json!({}))), 0, "school/ada"),
        (signer.token(&issuer.claims(&json!({"aud": "other"}))), 1, "another audience"),
        (signer.token(&issuer.claims(&json!({"exp": 1, "iat": 0}))), 1, "the token expired"),
        (signer.token(&issuer.claims(&json!({"nonce": "a"}))), 1, "this is an ID token"),
        (stranger.token(&issuer.claims(&json!({}))), 1, "the signature does not hold"),
        (signer.token(&other), 1, "no issuer is named"),
        ("\"wbg_live_a\"".to_owned(), 1, "quotation marks"),
    ] {
        let explain = ["policy", "explain", "--token", "-", "GET", "/v5/rooms/r"];
        for arguments in [&explain[..], &["jwt", "inspect"]] {
            let output = with_token(&setup, arguments, &token);
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
            assert!(said.contains(told), "{arguments:?}: {said}");
            assert!(!said.contains(token.rsplit('.').next().unwrap()), "{said}");
        }
    }
    // From a file; and `jwt inspect` shows what the token claims.
    let token = signer.token(&issuer.claims(&json!({"room": "r"})));
    fs::write(folder.join("token.jwt"), format!("{token}\n")).unwrap();
    let file = folder.join("token.jwt");
    let shown = with_token(&setup, &["jwt", "inspect", file.to_str().unwrap(), "--json"], "");
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["claims"]["room"], &shown["header"]["alg"]), (&json!("r"), &json!("ES256")));
    assert_eq!((&shown["good"], &shown["claims"]["aud"]), (&json!(true), &json!(AUDIENCE)));
}

#[test]
fn an_answer_that_leads_nowhere_is_called_what_it_is() {
    let provider = Upstream::json("304 Not Modified", "");
    let url = provider.url();
    let setup = Setup::new("http://127.0.0.1:1");
    let keys = format!("jwks = \"{url}/keys\"");
    let setup = setup.with(&section("school", &url, &keys, "profile = \"backend\""));
    let token = Signer::es256("a").token(&claims(&url, &json!({})));
    let output = with_token(&setup, &["jwt", "inspect"], &token);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("it answered 304 Not Modified"), "{said}");
}
