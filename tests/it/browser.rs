//! A page of another origin in a real browser: it mints its Room token, reads its room, and can
//! read the reason of each refusal. Configuration and script are those of `docs/browsers.md`.

use std::io::Write as _;
use std::process::Command;

use serde_json::Value;

use crate::support::{Browser, Process, Setup, Upstream, binary};
use whiteboard_gateway::token::Claims;

const GUIDE: &str = include_str!("../../docs/browsers.md");
const PAGE: &str = include_str!("../browser/page.html");
const SCRIPT: &str = include_str!("../browser/whiteboard.js");

/// The first block of the guide in that language.
fn example(language: &str) -> &'static str {
    let (_, rest) = GUIDE.split_once(&format!("```{language}\n")).expect("the guide has one");
    rest.split_once("```").unwrap().0
}

/// The server of the app's page, on a port and so of an origin of its own.
fn app() -> Upstream {
    Upstream::scripted(|request, stream| {
        let (media_type, text) = match request.line.split([' ', '?']).nth(1) {
            Some("/page.html") => ("text/html", PAGE),
            _ => ("text/javascript", SCRIPT),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        stream.write_all((head + text).as_bytes()).is_ok()
    })
}

/// Everything that a page needs; the service is the sandbox.
struct Classroom {
    app: Upstream,
    sandbox: Process,
    gateway: Process,
    room: String,
    pupil: String,
}

impl Classroom {
    fn open() -> Self {
        let app = app();
        let mut command = Command::new(binary());
        command.args(["sandbox", "--listen", "127.0.0.1:0"]);
        let sandbox = Process::of_sandbox(command);
        let mut setup = Setup::new(&format!("http://{}", sandbox.address))
            .replacing("[upstream]", "[upstream]\nregion = \"us-sv\"")
            .with(example("toml"))
            .replacing("https://app.example.org", &app.url())
            // So slow that a busy machine does not matter.
            .replacing("rate = \"5/s\", burst = 20", "rate = \"1/h\", burst = 8");
        let pupil = setup.key_of("pupil", "pupil");
        let text = setup.text().to_owned();
        let gateway = setup.start();
        let created = gateway.call("POST", "/v5/rooms", "{\"isRecord\":false}");
        let room = created.member("uuid");
        gateway.reload(&text.replace("d07bcaf0a17911ea9d7e23232cddf42d", &room));
        Self { app, sandbox, gateway, room, pupil }
    }

    /// The address of the page at that host, for somebody who has signed in with a key.
    fn page(&self, host: &str) -> String {
        let Self { app, gateway, room, pupil, .. } = self;
        let port = app.address.port();
        let gateway = gateway.address;
        format!("http://{host}:{port}/page.html?gateway=http://{gateway}&room={room}&key={pupil}")
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

    let image = browser.screenshot(1200, 1000);
    assert!(image.starts_with(b"\x89PNG"));
    // docs/images/browser.png is a copy of it.
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/browser.png"), image).unwrap();
    assert!(app.connections() > 0 && !gateway.stderr().contains("\"level\":\"ERROR\""));
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
        assert!(!metrics.contains(&format!("operation=\"{operation}\"")), "{metrics}");
    }
}

#[test]
fn the_guide_shows_the_script_of_the_page() {
    assert_eq!(example("js"), SCRIPT, "docs/browsers.md and tests/browser/whiteboard.js differ");
}
