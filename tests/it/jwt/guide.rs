//! The guide `docs/jwt.md` is true: its configurations and commands run, with the provider of the
//! tests in the place of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};
use whiteboard_gateway::token::Claims;

use crate::docs::{Page, assert_shows, shows};
use crate::support::{
    Answer, Issuer, Process, SHELLS, Shell, Signer, Upstream, binary, pasted, wait_until,
};

const GUIDE: &str = include_str!("../../../docs/jwt.md");

/// The provider of the guide.
const PROVIDER: &str = "https://idp.example.org";

/// Runs commands of the guide, and gives what they print.
fn paste(shell: Shell, folder: &Path, commands: &str, gateway: &str) -> String {
    let mut command = shell.command(folder);
    command
        .env("GATEWAY", gateway)
        .env("CURL_CA_BUNDLE", folder.join("idp.pem"))
        .env("CLIENT_SECRET", "secret")
        .env("CLASSROOM_SK", "secret");
    let output = pasted(&mut command, commands);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}: {commands}\n{errors}", shell.name);
    String::from_utf8(output.stdout).unwrap()
}

fn url(gateway: &Process) -> String {
    format!("http://{}", gateway.address)
}

/// On free ports.
fn serve(folder: &Path) -> Command {
    let mut serve = Command::new(binary());
    serve.arg("serve").current_dir(folder);
    serve.env("WBG__LISTEN__ADDRESS", "127.0.0.1:0").env("WBG__ADMIN__ADDRESS", "127.0.0.1:0");
    serve.env("WBG__LOG__FORMAT", "json");
    serve
}

/// A gateway with the configuration of a section of the guide, and the provider that it names.
struct Example {
    issuer: Issuer,
    signer: Arc<Signer>,
    section: Page,
    gateway: Process,
    upstream: Upstream,
}

impl Example {
    fn of(heading: &str) -> Self {
        let section = Page::read("docs/jwt.md").section(heading);
        let signer = Arc::new(Signer::es256("a"));
        let issuer = Issuer::serving(&[Arc::clone(&signer)]);
        let upstream = Upstream::json("200 OK", "{}");
        let folder = tempfile::tempdir().unwrap();
        let text = section.texts("toml")[0]
            .replace(PROVIDER, issuer.url())
            // Whom a test trusts is no platform's.
            .replace(
                "audience = \"whiteboard\"\n",
                "audience = \"whiteboard\"\nca = \"idp.pem\"\n",
            );
        fs::write(folder.path().join("idp.pem"), issuer.certificate()).unwrap();
        fs::write(folder.path().join("gateway.toml"), text).unwrap();
        let mut serve = serve(folder.path());
        serve.env("CLASSROOM_SK", "secret").env("WBG__UPSTREAM__URL", upstream.url());
        let gateway = Process::of(serve, folder, String::new());
        Self { issuer, signer, section, gateway, upstream }
    }

    fn call(&self, claims: &Value, method: &str, path: &str, body: &str) -> Answer {
        let token = self.signer.token(&self.issuer.claims(claims));
        self.gateway.client().call(&token, method, path, body)
    }

    /// What a token that it answers with is good for: role and milliseconds.
    fn minted(&self, claims: &Value, path: &str, role: &str) -> (String, i64) {
        let asked = json!({"role": role, "lifespan": 0}).to_string();
        let answer = self.call(claims, "POST", path, &asked);
        assert_eq!(answer.status, 201, "{}", answer.text());
        let token: String = serde_json::from_slice(&answer.body).unwrap();
        let minted = Claims::read(&token).unwrap();
        assert!(path.ends_with(minted.uuid().unwrap()), "{path}");
        let end: i64 = minted.expire_at().unwrap().parse().unwrap();
        let now = jiff::Timestamp::now().as_millisecond();
        (minted.role_digit().to_owned(), end - now)
    }
}

#[test]
fn a_token_that_is_made_by_hand_signs_in_at_the_sandbox() {
    SHELLS.into_iter().for_each(signs_in);
}

fn signs_in(shell: Shell) {
    let section = Page::read("docs/jwt.md").section("\n## Try it in a minute\n");
    let commands = section.texts("sh");
    let [keys, start, call] = commands[..] else { panic!("{commands:?}") };
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().to_owned();
    paste(shell, &here, keys, "");
    let mut serve = serve(&here);
    let exports = start.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
    for (name, value) in exports {
        let value = value.trim_matches('"').replace("$PWD", here.to_str().unwrap());
        serve.env(name, value);
    }
    let command = start.lines().last().unwrap();
    serve.args(command.strip_prefix("whiteboard-gateway serve ").unwrap().split(' '));
    let gateway = Process::of(serve, folder, String::new());
    let printed = paste(shell, &here, call, &url(&gateway));
    assert!(printed.starts_with("HTTP/1.1 201 "), "{printed}");
    assert!(printed.contains("whiteboard-granted: role=reader; lifespan=7200000"), "{printed}");
    assert!(printed.contains("\"NETLESSROOM_"), "{printed}");
    assert!(printed.contains("`rooms.list` is not among the operations"), "{printed}");
    wait_until("the access lines are written", || gateway.access_lines().len() == 2);
    for line in gateway.access_lines() {
        assert_eq!((&line["caller"], &line["credential"]), (&"trial/ada".into(), &"jwt".into()));
    }
}

#[test]
fn a_service_calls_with_the_token_of_its_client_credentials() {
    let example = Example::of("\n## A service with its own credentials\n");
    let Example { issuer, section, gateway, upstream, .. } = &example;
    let service = |name: &str| json!({"sub": "5f1c", "client_id": name});
    issuer.grant(&service("scheduler"));
    let commands = section.texts("sh")[0].replace(PROVIDER, issuer.url());
    for shell in SHELLS {
        let printed = paste(shell, gateway.folder.path(), &commands, &url(gateway));
        assert_eq!(printed, "{}", "{}", shell.name);
    }
    let sent = upstream.received();
    assert!(sent[0].line.starts_with("POST /v5/rooms "), "{}", sent[0].line);
    assert!(Claims::read(sent[0].header("token")).is_ok());
    wait_until("the access line is written", || !gateway.access_lines().is_empty());
    assert_eq!(gateway.access_lines()[0]["caller"], "services/scheduler");

    let scheduler = service("scheduler");
    let (role, left) = example.minted(&scheduler, "/v5/tokens/rooms/a", "admin");
    assert_eq!((role.as_str(), left > 86_000_000 && left <= 86_400_000), ("0", true), "{left}");
    example.call(&scheduler, "GET", "/v5/rooms", "").assert_envelope(403, "forbidden");
    let recorder = service("recorder");
    assert_eq!(example.call(&recorder, "GET", "/v5/rooms/a", "").status, 200);
    example.call(&recorder, "POST", "/v5/rooms", "{}").assert_envelope(403, "forbidden");
    let stranger = example.call(&service("stranger"), "GET", "/v5/rooms/a", "");
    stranger.assert_envelope(403, "forbidden");
    let told = stranger.member("message");
    assert!(GUIDE.contains(&format!("`{told}`")), "{told}");
}

#[test]
fn a_pupil_gets_its_own_rooms_role_and_lifetime_and_nothing_more() {
    let example = Example::of("\n## A browser app\n");
    let Example { section, gateway, .. } = &example;
    let shown: Value = serde_json::from_str(section.texts("json")[0]).unwrap();
    let with = |changes: Value| {
        let mut claims = shown.clone();
        claims.as_object_mut().unwrap().shift_remove("iss");
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let ada = with(json!({}));
    let room = shown["wb_rooms"][0].as_str().unwrap();
    let (own, tokens) = (format!("/v5/rooms/{room}"), format!("/v5/tokens/rooms/{room}"));
    assert_eq!(example.call(&ada, "GET", &own, "").status, 200);
    let (role, left) = example.minted(&ada, &tokens, "writer");
    assert_eq!((role.as_str(), left > 1_790_000 && left <= 1_800_000), ("1", true), "{left}");
    let asked = json!({"role": "admin", "lifespan": 1000}).to_string();
    example.call(&ada, "POST", &tokens, &asked).assert_envelope(403, "forbidden");
    example.call(&ada, "GET", "/v5/rooms/other", "").assert_envelope(404, "not_found");
    let ban = example.call(&ada, "PATCH", &own, "{\"isBan\":true}");
    ban.assert_envelope(403, "forbidden");

    // Claims never raise what the profile caps.
    let greedy = with(json!({"sub": "eve", "wb_role": "admin", "wb_seconds": 864_000}));
    example.call(&greedy, "POST", &tokens, &asked).assert_envelope(403, "forbidden");
    let (role, left) = example.minted(&greedy, &tokens, "writer");
    assert_eq!((role.as_str(), left <= 7_200_000), ("1", true), "{left}");
    let roles = json!({"roles": ["pupil", "teacher"]});
    let teacher = with(json!({"sub": "bob", "realm_access": roles, "wb_role": "admin"}));
    assert_eq!(example.call(&teacher, "GET", "/v5/rooms/other", "").status, 200);
    let nobody = with(json!({"realm_access": {"roles": ["parent"]}}));
    example.call(&nobody, "GET", &own, "").assert_envelope(403, "forbidden");

    // The page of a named origin may read the answer, and the tokens are on record.
    let token = example.signer.token(&example.issuer.claims(&ada));
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("origin", "https://app.example.org")];
    let answer = gateway.client().request("GET", &own, &headers, "");
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.org");
    let audit = gateway.folder.path().join("audit.jsonl");
    wait_until("the audit is written", || {
        fs::read_to_string(&audit).is_ok_and(|text| text.contains("\"caller\":\"school/ada\""))
    });
}

#[test]
fn the_policy_explains_what_the_claims_of_the_guide_grant() {
    let section = Page::read("docs/jwt.md").section("\n## A browser app\n");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), section.texts("toml")[0]).unwrap();
    fs::write(folder.path().join("ada.json"), section.texts("json")[0]).unwrap();
    for shell in SHELLS {
        let printed = paste(shell, folder.path(), section.texts("sh")[0], "");
        assert_shows(&section, section.texts("text")[0], &printed);
    }
}

#[test]
fn the_guide_tells_of_the_reasons_as_the_log_does() {
    let school = super::School::with("profile = { claim = \"role\", map = { a = \"backend\" } }");
    let now = jiff::Timestamp::now().as_second();
    let rows = Page::read("docs/jwt.md").rows_of("\n## When it does not work\n");
    let plain = |text: &str| text.replace('`', "").trim().to_owned();
    let told = |reason: &str| {
        let reason = plain(reason.strip_prefix("issuer school: ").unwrap_or(reason));
        assert!(rows.iter().any(|row| shows(&plain(&row[0]), &reason)), "{reason}");
    };
    for changes in [
        json!({"iss": "https://idp.example.org/"}),
        json!({"aud": "account"}),
        json!({"aud": null}),
        json!({"nonce": "n"}),
        json!({"iat": now + 300}),
        json!({"exp": now + 864_000}),
        json!({"role": {"a": true}}),
    ] {
        told(&school.detail(&school.get(&changes, "r")));
    }
    let claims = crate::support::claims(super::SCHOOL, &json!({}));
    for (header, signer) in [
        (json!({"alg": "ES256", "kid": "a", "typ": "logout+jwt"}), &school.signer),
        (json!({"alg": "HS256", "kid": "a"}), &school.signer),
        (json!({"alg": "ES256", "kid": "b"}), &school.signer),
        (json!({"alg": "ES256", "kid": "a"}), &Arc::new(Signer::es256("a"))),
    ] {
        let token = signer.sign(&header, &claims);
        let answer = school.gateway.client().call(&token, "GET", "/v5/rooms/r", "");
        told(&school.detail(&answer));
    }
    let opaque = school.gateway.client().call("8xLOxBtZp8", "GET", "/v5/rooms/r", "");
    told(&school.detail(&opaque));
}
