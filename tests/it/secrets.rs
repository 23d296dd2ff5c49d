//! Secrets planted wherever one can be, and then looked for wherever none may be: what the process
//! writes at trace level, what it tells operators, failures, and what it sends to the third party.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use whiteboard_gateway::api::{Role, TokenKind};
use whiteboard_gateway::caller;
use whiteboard_gateway::token::{KeyPair, Secret, TokenFields};

use crate::support::{
    Answer, Client, EVERYTHING, Process, Received, Setup, Upstream, answer, binary, ended, value,
    wait_until,
};

/// A secret, and the part of it that nobody may see.
struct Planted {
    name: &'static str,
    text: String,
    part: String,
}

impl Planted {
    fn new(name: &'static str, text: String) -> Self {
        // An API key's id is public, and so is what a token's kind is called.
        let part = match text.split('_').collect::<Vec<_>>()[..] {
            ["wbg", _, _, secret, _] => secret.to_owned(),
            _ => text.strip_prefix("NETLESS").map_or(&*text, |rest| &rest[5..]).to_owned(),
        };
        assert!(part.len() >= 20, "{name}");
        Self { name, text, part }
    }

    /// A whiteboard token of a key that nobody here knows.
    fn token(name: &'static str, kind: TokenKind) -> Self {
        let key = KeyPair::new("another-ak".to_owned(), &Secret::new("another-sk".to_owned()));
        let uuid = (kind != TokenKind::Sdk).then_some("r");
        let nonce = name.replace(' ', "-");
        let minted = key.mint(
            TokenFields { kind, role: Role::Admin.digit(), uuid, lifespan_ms: 86_400_000, nonce },
            now_ms(),
        );
        Self::new(name, minted.token.expose().to_owned())
    }

    fn key(name: &'static str) -> Self {
        Self::new(name, caller::generate(false).unwrap().expose().to_owned())
    }
}

fn now_ms() -> u64 {
    jiff::Timestamp::now().as_millisecond().try_into().unwrap()
}

#[track_caller]
fn assert_absent(planted: &[Planted], place: &str, text: &str) {
    for Planted { name, part, .. } in planted {
        assert!(!text.contains(part), "the {name} stands in {place}: {text}");
    }
}

/// A gateway with secrets in it, and what they are.
struct World {
    gateway: Process,
    planted: Vec<Planted>,
    /// The key of a caller whose project has a fixed SDK token.
    console: String,
}

impl World {
    fn new(upstream: &str) -> Self {
        let secret_key = Planted::new("secret key", "planted-sk-1f9Qd7ZrW3kLm0".to_owned());
        let sdk_token = Planted::token("SDK token of the console", TokenKind::Sdk);
        let mut setup = Setup::new(upstream)
            .with("[body]\nunknown_fields = \"refuse\"\n")
            // Every request is to get as far as it can.
            .with("[upstream.breaker]\nenabled = false\n")
            .with("[projects.console]\nsdk_token = { file = \"sdk-token\" }\n");
        fs::write(setup.folder.path().join("sdk-token"), &sdk_token.text).unwrap();
        let rights = format!("allow = {EVERYTHING}\nrooms = \"any\"\nrole = \"admin\"");
        let console = setup.caller("console", &rights);
        let setup = setup.set("profiles.console.project", "console");
        let key = setup.key.clone();
        let mut command = setup.command("serve");
        command.env("CLASSROOM_SK", &secret_key.text);
        let gateway = Process::of(command, setup.folder, setup.key);
        let planted = vec![
            secret_key,
            sdk_token,
            Planted::new("key of a caller", key),
            Planted::new("key of another caller", console.clone()),
            Planted::key("key that is unknown"),
            Planted::token("whiteboard token", TokenKind::Room),
        ];
        Self { gateway, planted, console }
    }

    fn text(&self, name: &str) -> &str {
        &self.planted.iter().find(|planted| planted.name == name).unwrap().text
    }

    /// Asserts that none of them stands anywhere; those that the upstream was shown neither.
    fn assert_silent(mut self, failures: &[Answer], received: &[Received]) {
        for failure in failures {
            assert!(failure.status >= 400, "{failure:?}");
            let told = format!("{:?} {}", failure.headers, failure.text());
            assert_absent(&self.planted, "a failure", &told);
        }
        for request in received {
            let query = request.line.split_once('?').map_or("", |(_, query)| query);
            assert_absent(&self.planted, "a query of ours", query);
            for (name, value) in request.headers.iter().filter(|(name, _)| name != "token") {
                assert_absent(&self.planted, name, value);
            }
        }
        // What was minted for the upstream is as secret as what was planted.
        let shown = received.iter().map(|request| request.header("token"));
        let shown: Vec<Planted> = shown
            .filter(|token| !token.is_empty() && *token != self.text("SDK token of the console"))
            .map(|token| Planted::new("token for the upstream", token.to_owned()))
            .collect();
        self.planted.extend(shown);
        for page in ["/", "/livez", "/readyz", "/metrics", "/openapi.json", "/nowhere"] {
            let answer = self.gateway.admin(page);
            let told = format!("{:?} {}", answer.headers, answer.text());
            assert_absent(&self.planted, page, &told);
        }
        self.gateway.signal("TERM");
        self.gateway.wait(std::time::Duration::from_secs(5));
        wait_until("all of its log is read", || self.gateway.stderr().contains("\"stopped\""));
        assert_absent(&self.planted, "standard error", &self.gateway.stderr());
        assert_absent(&self.planted, "standard output", &self.gateway.stdout());
        let lines = self.gateway.access_lines().len();
        assert!(lines >= failures.len() && lines > 0, "{lines} lines");
    }
}

#[test]
fn no_secret_is_told_when_all_goes_well() {
    let mut command = Command::new(binary());
    command.args(["sandbox", "--listen", "127.0.0.1:0", "--secret-key-env", "PLANTED"]);
    command.env("PLANTED", "planted-sk-1f9Qd7ZrW3kLm0");
    let sandbox = Process::of_sandbox(command);
    let world = World::new(&format!("http://{}", sandbox.address));
    let token = ("token", world.text("key of a caller"));
    let mut client = world.gateway.client();
    let room = client.request("POST", "/v5/rooms", &[token], "{}").member("uuid");
    for (method, path, body, status) in [
        ("GET", "/v5/rooms?limit=3".to_owned(), "", 200),
        ("GET", format!("/v5/rooms/{room}"), "", 200),
        ("POST", format!("/v5/tokens/rooms/{room}"), r#"{"lifespan":0,"role":"admin"}"#, 201),
        ("POST", "/v5/tokens/teams".to_owned(), r#"{"lifespan":1000,"role":"admin"}"#, 201),
    ] {
        let answer = client.request(method, &path, &[token], body);
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let seen = Client::connect(sandbox.address).request("GET", "/sandbox/requests", &[], "");
    assert_eq!(seen.json()[0]["token"]["verified"], true);
    assert_absent(&world.planted, "what the sandbox shows", &seen.text());
    assert_absent(&world.planted, "what the sandbox says", &sandbox.stdout());
    assert_absent(&world.planted, "what the sandbox logs", &sandbox.stderr());
    world.assert_silent(&[], &[]);
}

#[test]
fn no_refusal_tells_a_secret() {
    let upstream = Upstream::json("200 OK", "[]");
    let world = World::new(&upstream.url());
    let key = world.text("key of a caller").to_owned();
    let mut failures = Vec::new();
    for Planted { text: secret, .. } in &world.planted {
        let ask = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
            world.gateway.client().request(method, path, headers, body)
        };
        let own = ("token", key.as_str());
        // Who does not know whom to ask writes it anywhere.
        let bearer = format!("Bearer {secret}x");
        let basic = format!("Basic {secret}");
        let longer = format!("{secret}x");
        for headers in [
            vec![("authorization", bearer.as_str())],
            vec![("authorization", basic.as_str())],
            vec![("authorization", secret.as_str())],
            vec![("token", longer.as_str())],
            vec![("x-api-key", longer.as_str())],
            vec![("cookie", secret.as_str())],
            vec![own, ("x-api-key", longer.as_str())],
            vec![own, ("region", secret.as_str())],
            vec![own, ("connection", "token"), ("x-request-id", secret.as_str())],
            vec![own, ("expect", secret.as_str())],
            vec![own, ("via", "1.1 a"), ("transfer-encoding", secret.as_str())],
        ] {
            failures.push(ask("GET", "/v5/rooms", &headers, ""));
        }
        for path in [
            format!("/v5/{secret}"),
            format!("/{secret}?a={secret}"),
            format!("/v5/rooms/{secret}/{secret}"),
            format!("/v5/rooms/{secret}/../{secret}"),
            format!("/v5/rooms?limit={secret}"),
            format!("/v5/rooms/r/scenes?sceneDir={secret}"),
            format!("/v5/rooms/r/scenes?sceneDir={secret}%ff"),
            format!("/v5/services/conversion/tasks/t?type={secret}"),
        ] {
            failures.push(ask("GET", &path, &[own], ""));
            failures.push(ask("GET", &path, &[], ""));
            failures.push(ask("PUT", &path, &[own], secret));
        }
        for body in [
            secret.clone(),
            format!("{secret}={secret}"),
            format!("{{\"name\":\"{secret}\""),
            format!("{{\"isRecord\":\"{secret}\"}}"),
            format!("{{\"limit\":\"{secret}\"}}"),
            format!("{{\"name\":{{\"{secret}\":1}}}}"),
            format!("[\"{secret}\"]"),
            format!("\"{secret}\""),
            format!("{{\"name\":1,\"name\":\"{secret}\"}}"),
            format!("{{\"{secret}\":1,\"{secret}\":1}}"),
            format!("{{\"{secret}\":1}}"),
            format!("{{\"limit\":-1,\"name\":\"{secret}\"}}"),
        ] {
            failures.push(ask("POST", "/v5/rooms", &[own], &body));
        }
        for (path, body) in [
            ("/v5/tokens/rooms/r", format!("{{\"lifespan\":1,\"role\":\"{secret}\"}}")),
            ("/v5/tokens/rooms/r", format!("{{\"lifespan\":\"{secret}\",\"role\":\"admin\"}}")),
            (
                "/v5/tokens/teams",
                format!(
                    "{{\"accessKey\":\"{secret}\",\"secretAccessKey\":\"{secret}\",\"lifespan\":1,\"role\":\"admin\"}}"
                ),
            ),
            ("/v5/projector/tasks", format!("{{\"resource\":\"{secret}\",\"type\":\"{secret}\"}}")),
            ("/v5/rooms/r/scenes", format!("{{\"path\":\"{secret}\",\"scenes\":[]}}")),
        ] {
            failures.push(ask("POST", path, &[own], &body));
        }
        let prioritized = format!("{{\"priority\":\"{secret}\"}}");
        failures.push(ask("PUT", "/v5/projector/tasks/t/priority", &[own], &prioritized));
        let passed = format!("/v5/rooms?token={secret}&{secret}=1");
        assert_eq!(ask("GET", &passed, &[own, ("x-other", secret)], "").status, 200);
    }
    let received = upstream.received();
    assert_eq!(received.len(), world.planted.len(), "{received:?}");
    world.assert_silent(&failures, &received);
}

/// What an upstream that repeats what it was sent answers in the manner of the room's name.
fn repeated(request: &Received) -> Option<String> {
    let token = request.header("token");
    let line = &request.line;
    let html = format!("<html><p>{token}</p><pre>{line}\ntoken: {token}</pre></html>");
    let told = format!("{{\"message\":\"cannot use {token} for {line}\"}}");
    let nested = format!("{{\"error\":{{\"title\":\"{token}\"}},\"token\":\"{token}\"}}");
    let text = |status: &str, field: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\n{field}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let manner = line.split(' ').nth(1)?.split('/').nth(3)?;
    // Behind it may stand what a client has put into the path.
    let manner = MANNERS.into_iter().find(|known| manner.starts_with(known))?;
    Some(match manner {
        "json-400" => answer("400 Bad Request", &told),
        "json-401" => answer("401 Unauthorized", &told),
        "json-403" => answer("403 Forbidden", &nested),
        "json-404" => answer("404 Not Found", &told),
        "json-429" => answer("429 Slow", &told),
        "json-500" => answer("500 Oops", &nested),
        "half-json" => answer("400 Bad Request", &told[..told.len() - 1]),
        "html" => text("502 Bad Gateway", "content-type: text/html", &html),
        "html-404" => text("404 Not Found", "content-type: text/html", &html),
        "text" => text("403 Forbidden", "content-type: text/plain", token),
        "label" => text("400 Bad Request", &format!("content-type: {token}"), &told),
        "later" => text("500 Oops", &format!("retry-after: {token}"), ""),
        "elsewhere" => text("302 Found", &format!("location: http://other/?{token}"), token),
        "encoded" => text("200 OK", &format!("content-encoding: {token}"), token),
        "half-head" => format!("HTTP/1.1 200 OK\r\n{token}\r\n\r\n"),
        "half-body" => format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{told}"),
        "no-http" => format!("{token}\r\n\r\n"),
        _ => return None,
    })
}

const MANNERS: [&str; 18] = [
    "json-400",
    "json-401",
    "json-403",
    "json-404",
    "json-429",
    "json-500",
    "half-json",
    "html-404",
    "html",
    "text",
    "label",
    "later",
    "elsewhere",
    "encoded",
    "half-head",
    "half-body",
    "no-http",
    "nothing",
];

#[test]
fn an_upstream_that_repeats_what_it_was_sent_is_not_repeated() {
    let upstream = Upstream::scripted(|request, stream| {
        // The peer may have closed by then.
        _ = stream.write_all(repeated(request).unwrap_or_default().as_bytes());
        false
    });
    let world = World::new(&upstream.url());
    let mut failures = Vec::new();
    for key in [world.text("key of a caller"), &world.console] {
        let mut ask = |path: &str| {
            failures.push(world.gateway.client().request("GET", path, &[("token", key)], ""));
        };
        for manner in MANNERS {
            ask(&format!("/v5/rooms/{manner}"));
        }
        // A client that has put its own credential into the path of what it asks for.
        for name in ["whiteboard token", "key of a caller", "key that is unknown"] {
            ask(&format!("/v5/rooms/json-404{}", world.text(name)));
        }
    }
    world.assert_silent(&failures, &upstream.received());
}

#[test]
fn an_upstream_that_is_down_is_told_without_what_it_would_have_been_sent() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let world = World::new(&format!("http://{free}"));
    let mut failures = Vec::new();
    for key in [world.text("key of a caller"), &world.console] {
        for (method, path, body) in [
            ("GET", "/v5/rooms", ""),
            ("POST", "/v5/rooms", "{}"),
            ("POST", "/v5/rooms/r/scenes", r#"{"path":"/a","scenes":[{"name":"a"}]}"#),
        ] {
            let ask = world.gateway.client().request(method, path, &[("token", key)], body);
            ask.assert_envelope(500, "upstream_error");
            failures.push(ask);
        }
    }
    world.assert_silent(&failures, &[]);
}

#[test]
fn a_secret_in_a_wrong_place_of_the_configuration_is_not_repeated() {
    let planted = [
        Planted::new("secret key", "planted-sk-1f9Qd7ZrW3kLm0".to_owned()),
        Planted::key("key of a caller"),
        Planted::token("SDK token", TokenKind::Sdk),
    ];
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let good = setup.configuration();
    let gateway = setup.start();
    const SECRET_KEY: &str = "projects.classroom.keys.0.secret_key";
    let mut commands = [&["check", "--json"][..], &["check"], &["serve"]].into_iter().cycle();
    for Planted { text: secret, .. } in &planted {
        let set = |path: &str, other: String| good.clone().set(path, value(&other)).to_string();
        let instead = |path: &str, key: &str, other: String| {
            good.clone().without(path).set(key, value(&other)).to_string()
        };
        let keys = "callers.lessons.keys";
        let broken = |rest: String| format!("{good}\n[rest]\n{rest}");
        for other in [
            set(SECRET_KEY, format!("{{ env = \"{secret}\" }}")),
            set(SECRET_KEY, format!("{{ file = \"{secret}\" }}")),
            set(SECRET_KEY, format!("{{ vault = \"{secret}\" }}")),
            set(SECRET_KEY, format!("[\"{secret}\"]")),
            instead(
                "projects.classroom.keys.0.access_key",
                "projects.classroom.keys.0.acess_key",
                format!("\"{secret}\""),
            ),
            set(keys, format!("[\"{secret}\"]")),
            set(keys, format!("[{{ id = \"{secret}\", digest = \"{secret}\" }}]")),
            instead(keys, "callers.lessons.key", format!("\"{secret}\"")),
            set("projects.classroom.sdk_token", format!("\"{secret}\"")),
            set("projects.classroom.sdk_tokn", format!("\"{secret}\"")),
            broken(format!("sdk_token = {secret}")),
            broken(format!("sdk_token = \"{secret}")),
            set("profiles.backend.project", format!("\"{secret}\"")),
            set("listen.workers", format!("\"{secret}\"")),
            set("log.format", format!("\"{secret}\"")),
            set("upstream.region", format!("\"{secret}\"")),
            set("upstream.ca", format!("\"{secret}\"")),
            set("upstream.url", format!("\"http://user:{secret}@{}\"", upstream.address)),
        ] {
            gateway.reload(&other);
            assert_eq!(gateway.metric("wbg_config_reload_success"), 0.0, "{other}");
            assert_absent(&planted, "/readyz", &gateway.admin("/readyz").text());
            // They take turns, since each is a process of its own.
            let words = commands.next().unwrap();
            let mut command = Command::new(binary());
            command.args(words).arg("--config").arg(gateway.config_path());
            let ran = ended(command);
            assert_eq!(ran.status.code(), Some(2), "{words:?} {other}");
            let told = [ran.stdout, ran.stderr].map(|told| String::from_utf8(told).unwrap());
            assert_absent(&planted, "what a command says", &told.concat());
        }
    }
    assert_absent(&planted, "the log", &gateway.stderr());
}
