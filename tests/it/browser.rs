//! A page of another origin in a real browser: its user signs in with a JWT, it mints its Room
//! token, reads its room, and can read the reason of each refusal. Configuration and script are
//! those of `docs/browsers.md`.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};

use crate::support::{Browser, Issuer, Process, Setup, Signer, Upstream, binary, claims};
use whiteboard_gateway::token::Claims;

const GUIDE: &str = include_str!("../../docs/browsers.md");
const PAGE: &str = include_str!("../browser/page.html");
const SCRIPT: &str = include_str!("../browser/whiteboard.js");

/// The first block of the guide in that language.
fn example(language: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n")).expect("the guide has one");
    rest.split_once("```").unwrap().0
}

/// Whom the identity provider lets in: Ada, whose room is made once the gateway runs.
struct User {
    signer: Arc<Signer>,
    issuer: String,
    room: Arc<OnceLock<String>>,
}

impl User {
    /// What the page gets of its sign-in; a stale token was good a minute ago.
    fn session(&self, stale: bool) -> String {
        let now = jiff::Timestamp::now().as_second() - if stale { 660 } else { 0 };
        let rooms = json!([self.room.get()]);
        let changes = json!({"wb_rooms": rooms, "iat": now, "exp": now + 600});
        let token = self.signer.token(&claims(&self.issuer, &changes));
        json!({ "access_token": token }).to_string()
    }
}

/// The server of the app's page, on a port and so of an origin of its own. It stands in for the
/// sign-in as well.
fn app(user: User) -> Upstream {
    Upstream::scripted(move |request, stream| {
        let (media_type, text) = match request.line.split(' ').nth(1).unwrap_or_default() {
            page if page.starts_with("/page.html") => ("text/html", PAGE.to_owned()),
            "/session?fresh" => ("application/json", user.session(false)),
            "/session?stale" => ("application/json", user.session(true)),
            _ => ("text/javascript", SCRIPT.to_owned()),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all((head + &text).as_bytes()).is_ok()
    })
}

/// Everything that a page needs; the service is the sandbox.
struct Classroom {
    app: Upstream,
    sandbox: Process,
    gateway: Process,
    room: String,
    /// The API key of a device that nobody signs in on.
    tablet: String,
}

impl Classroom {
    fn open() -> Self {
        let signer = Arc::new(Signer::es256("a"));
        let issuer = Issuer::serving(&[Arc::clone(&signer)]);
        let made = Arc::new(OnceLock::new());
        let app = app(User { signer, issuer: issuer.url().to_owned(), room: Arc::clone(&made) });
        let mut command = Command::new(binary());
        command.args(["sandbox", "--listen", "127.0.0.1:0"]);
        let sandbox = Process::of_sandbox(command);
        let mut setup = Setup::new(&format!("http://{}", sandbox.address))
            .set("upstream.region", "us-sv")
            .with(example("toml"))
            .set("cors.origins.0", app.url())
            .set("issuers.school.issuer", issuer.url())
            .set("issuers.school.ca", "idp.pem")
            // So slow that a busy machine does not matter.
            .set("profiles.pupil.limit.rate", "1/h")
            .set("profiles.pupil.limit.burst", 8);
        fs::write(setup.folder.path().join("idp.pem"), issuer.certificate()).unwrap();
        let tablet = setup.key_of("tablet", "backend");
        let gateway = setup.start();
        let created = gateway.call("POST", "/v5/rooms", "{\"isRecord\":false}");
        let room = created.member("uuid");
        made.set(room.clone()).unwrap();
        Self { app, sandbox, gateway, room, tablet }
    }

    /// The address of the page at that host.
    fn page(&self, host: &str) -> String {
        let Self { app, gateway, room, .. } = self;
        let port = app.address.port();
        let gateway = gateway.address;
        format!("http://{host}:{port}/page.html?gateway=http://{gateway}&room={room}")
    }
}

/// Makes a call of the page, and gives what it shows.
fn run(browser: &Browser, name: &str) -> Value {
    let outcome = browser.eval(&format!("await run({name:?})"));
    let shown = browser.eval(&format!("document.getElementById({name:?}).innerText"));
    if let Some(message) = outcome["message"].as_str() {
        assert!(shown.as_str().unwrap().contains(message), "{outcome} is shown as {shown}");
    }
    outcome
}

#[test]
fn a_page_of_a_named_origin_gets_its_token_its_room_and_the_reason_of_each_refusal() {
    let classroom = Classroom::open();
    let browser = Browser::start();
    browser.open(&classroom.page("127.0.0.1"));

    let user = run(&browser, "signin");
    assert_eq!(user["said"], json!({"sub": "ada", "wb_rooms": [classroom.room]}), "{user}");
    let minted = run(&browser, "mint");
    let token = minted["said"].as_str().unwrap_or_else(|| panic!("{minted}"));
    let claims = Claims::read(token).unwrap();
    assert_eq!((claims.role_digit(), claims.uuid()), ("1", Some(classroom.room.as_str())));
    let read = run(&browser, "read");
    assert_eq!(read["said"]["uuid"], classroom.room.as_str(), "{read}");

    let refused = |name: &str, status: u16, code: &str, part: &str| {
        let outcome = run(&browser, name);
        assert_eq!(outcome["status"], status, "{name}: {outcome}");
        assert_eq!(outcome["code"], code, "{name}: {outcome}");
        assert!(outcome["message"].as_str().unwrap().contains(part), "{name}: {outcome}");
        // What is in a header that the page may read leads to the line of the request.
        let line = classroom.gateway.access_line(outcome["requestId"].as_str().unwrap());
        assert_eq!(line["status"], status, "{line}");
        outcome
    };
    refused("stranger", 401, "unauthenticated", "no credential came");
    refused("expired", 401, "expired_token", "has expired");
    refused("mistyped", 401, "invalid_token", "");
    refused("sdk", 401, "invalid_token", "came from a browser");
    refused("forbidden", 403, "forbidden", "rooms.update");
    refused("elsewhere", 404, "not_found", "");
    refused("admin", 403, "forbidden", "admin");
    let Classroom { sandbox, app, gateway, .. } = &classroom;
    sandbox.signal("KILL");
    refused("down", 500, "upstream_error", "");
    let limited = refused("limit", 403, "rate_limited", "");
    assert!(limited["retryAfter"].as_u64() >= Some(1), "{limited}");
    let callers = gateway.access_lines().into_iter();
    let callers = callers.filter(|line| line["operation"] == "rooms.get");
    assert!(callers.clone().count() > 1, "{}", gateway.stdout());
    for line in callers {
        assert_eq!((&line["caller"], &line["credential"]), (&"school/ada".into(), &"jwt".into()));
    }

    let image = browser.screenshot(1200, 1060);
    assert!(image.starts_with(b"\x89PNG"));
    // docs/images/browser.png is a copy of it.
    fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/browser.png"), image).unwrap();
    assert!(app.connections() > 0 && !gateway.stderr().contains("\"level\":\"ERROR\""));
}

#[test]
fn a_page_on_a_device_can_call_with_a_key() {
    let classroom = Classroom::open();
    let browser = Browser::start();
    browser.open(&format!("{}&key={}", classroom.page("127.0.0.1"), classroom.tablet));
    let read = run(&browser, "read");
    assert_eq!(read["said"]["uuid"], classroom.room.as_str(), "{read}");
    let broken = run(&browser, "mistyped");
    assert_eq!(broken["code"], "invalid_token", "{broken}");
}

#[test]
fn a_page_of_another_origin_is_told_nothing() {
    let classroom = Classroom::open();
    let browser = Browser::start();
    // The same server and another origin: origins are compared by name.
    browser.open(&classroom.page("localhost"));
    for name in ["mint", "read", "stranger"] {
        let outcome = run(&browser, name);
        assert_eq!(outcome["status"], "unreadable", "{outcome}");
    }
    let metrics = classroom.gateway.admin("/metrics").text();
    for operation in ["tokens.room", "rooms.get"] {
        let counted = format!("wbg_request_duration_seconds_count{{operation=\"{operation}\"}}");
        assert!(!metrics.contains(&counted), "{metrics}");
    }
}

#[test]
fn the_guide_shows_the_script_of_the_page() {
    assert_eq!(example("js"), SCRIPT, "docs/browsers.md and tests/browser/whiteboard.js differ");
}
