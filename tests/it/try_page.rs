//! The page on which a person tries the API, in a real browser: at `/try` of the admin listener, beside
//! the sandbox and nowhere else.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use whiteboard_gateway::api::TABLE;

use crate::support::{Browser, Client, Process, Setup, wait_until};

/// A gateway in front of the sandbox, and a browser that shows its page.
struct Trial {
    gateway: Process,
    browser: Browser,
}

impl Trial {
    fn open() -> Self {
        let gateway = Process::sandbox();
        let browser = Browser::start();
        browser.open(&format!("http://{}/try", gateway.admin));
        let trial = Self { gateway, browser };
        wait_until("the operations are listed", || {
            trial.browser.eval("document.querySelectorAll('nav button').length") == TABLE.len()
        });
        trial
    }

    fn choose(&self, operation: &str) {
        let button = format!("document.querySelector('nav button[value=\"{operation}\"]')");
        self.browser.eval(&format!("{button}.click()"));
    }

    fn set(&self, field: &str, value: &str) {
        let field = format!("document.getElementById('field-{field}')");
        self.browser.eval(&format!("{field}.value = {value:?}"));
        self.browser
            .eval(&format!("{field}.dispatchEvent(new Event('input', {{ bubbles: true }}))"));
    }

    fn text(&self, id: &str) -> String {
        let text = self.browser.eval(&format!("document.getElementById({id:?}).textContent"));
        text.as_str().unwrap().to_owned()
    }

    /// Sends the request and waits for what comes of it: the status as it is shown.
    fn send(&self) -> String {
        self.browser.eval("document.getElementById('status').textContent = ''");
        self.browser.eval("document.getElementById('send').click()");
        self.answered()
    }

    fn answered(&self) -> String {
        wait_until("the response is shown", || {
            !self.text("status").is_empty()
                && self.browser.eval("document.getElementById('send').disabled") == false
        });
        self.text("status")
    }

    /// The images of the page, for the documentation.
    fn photograph(&self, name: &str, size: (u32, u32), dark: bool) {
        self.browser.emulate(size.0, size.1, dark);
        let image = self.browser.image();
        assert!(image.starts_with(b"\x89PNG"));
        // That in docs/images is a copy of it.
        fs::write(format!("{}/{name}.png", env!("CARGO_TARGET_TMPDIR")), image).unwrap();
    }
}

#[test]
fn every_operation_can_be_sent_and_nobody_else_is_asked() {
    let trial = Trial::open();
    // In this order each has what it is about: the page remembers rooms and tasks that were made.
    let mut order: Vec<&str> = TABLE.iter().map(|operation| &*operation.name).collect();
    order.sort_by_key(|name| {
        (
            !matches!(*name, "rooms.create" | "conversions.start" | "legacy_conversions.start"),
            *name == "conversions.cancel",
        )
    });
    for operation in order {
        // The page remembers the last task; and one that runs already has no priority.
        let task = match operation {
            "conversions.prioritize" => Some("conversions.start"),
            "legacy_conversions.get" => Some("legacy_conversions.start"),
            _ => None,
        };
        if let Some(start) = task {
            trial.choose(start);
            trial.send();
        }
        trial.choose(operation);
        let status = trial.send();
        let good = if operation == "tokens.sdk" { "403 in " } else { "20" };
        assert!(status.starts_with(good), "{operation}: {status}: {}", trial.text("body"));
        let answer: Value = serde_json::from_str(&trial.text("body")).unwrap();
        let id = trial.browser.eval("[...document.querySelectorAll('#headers td')].find((cell) => cell.textContent === 'x-request-id').nextSibling.textContent");
        let line = trial.gateway.access_line(id.as_str().unwrap());
        assert_eq!(line["operation"], operation, "{answer}");
        assert!(trial.text("curl").contains(&format!("http://{}/v5/", trial.gateway.address)));
    }
    assert_eq!(trial.browser.complaints(), Vec::<String>::new());
    let own = [trial.gateway.address, trial.gateway.admin].map(|at| format!("http://{at}/"));
    let requested = trial.browser.requested();
    assert!(requested.len() > TABLE.len(), "{requested:?}");
    // What the browser shows before it opens a page is no request of ours.
    for url in
        requested.iter().filter(|url| !url.starts_with("data:") && !url.starts_with("chrome:"))
    {
        assert!(own.iter().any(|own| url.starts_with(own)), "{url}");
    }
    assert!(!trial.gateway.stderr().contains("\"level\":\"ERROR\""));
}

#[test]
fn a_failure_is_shown_with_its_code_and_its_message() {
    let trial = Trial::open();
    let failure =
        || (trial.text("failure"), trial.browser.eval("document.getElementById('failure').hidden"));
    let shown = |status: &str, part: &str| {
        let told = trial.send();
        assert!(told.starts_with(status), "{told}");
        let (message, hidden) = failure();
        assert!(message.contains(part) && hidden == false, "{message}");
    };
    trial.set("body", "{\"isRecord\":");
    shown("400", "invalid_body: ");
    trial.set("body", "{\"isRecord\":false}");
    trial.set("credential", "");
    shown("401", "unauthenticated: ");
    let student = trial.gateway.exported("STUDENT_KEY");
    trial.set("credential", &student);
    shown("403", "forbidden: ");
    let backend = trial.gateway.exported("KEY");
    trial.set("credential", &backend);
    assert!(trial.send().starts_with("201"));
    assert_eq!(failure().1, true, "the failure before is gone");
    trial.choose("rooms.get");
    trial.set("uuid", "nowhere");
    shown("404", "not_found: ");
    assert_eq!(trial.browser.complaints(), Vec::<String>::new());
    trial.gateway.signal("STOP");
    trial.gateway.signal("KILL");
    shown("No response", "did not answer");
}

#[test]
fn it_works_with_the_keyboard_in_the_dark_and_on_a_phone() {
    let trial = Trial::open();
    trial.send();
    trial.photograph("try", (1100, 900), false);
    trial.choose("rooms.get");
    // From the field of the body or an id, without a mouse.
    trial.browser.eval("document.getElementById('field-uuid').focus()");
    trial.browser.eval("document.getElementById('status').textContent = ''");
    trial.browser.press(&["\u{e009}", "\u{e007}"]);
    assert!(trial.answered().starts_with("200"), "{}", trial.text("body"));
    let focused = "document.activeElement.tagName + ':' + (document.activeElement.value || document.activeElement.id)";
    trial.browser.eval("document.querySelector('nav button').focus()");
    trial.browser.press(&["\u{e004}"]);
    assert_eq!(trial.browser.eval(focused), "BUTTON:tokens.room");
    trial.browser.press(&["\u{e007}"]);
    assert!(trial.text("title").contains("/v5/tokens/rooms/{uuid}"), "{}", trial.text("title"));
    let luminance = "(() => { const [r, g, b] = getComputedStyle(document.body).color.match(/\\d+/g).map(Number); return r + g + b; })()";
    trial.browser.emulate(390, 800, false);
    let light = trial.browser.eval(luminance).as_u64().unwrap();
    trial.choose("rooms.create");
    trial.photograph("try-narrow", (390, 800), true);
    let dark = trial.browser.eval(luminance).as_u64().unwrap();
    assert!(light < 200 && dark > 500, "the text is {light} in the light, {dark} in the dark");
    for operation in TABLE.iter() {
        trial.choose(&operation.name);
        let wide = trial.browser.eval("document.documentElement.scrollWidth");
        assert!(wide.as_u64() <= Some(390), "{}: {wide}", operation.name);
    }
    let unlabelled = "[...document.querySelectorAll('input, select, textarea')].filter((one) => !one.labels.length).length";
    assert_eq!(trial.browser.eval(unlabelled), 0);
}

#[test]
fn the_line_for_a_shell_does_what_the_page_does() {
    let trial = Trial::open();
    trial.set("body", "{\"isRecord\":false,\"name\":\"Ada's room; $HOME \\\\\"}");
    let output = Command::new("sh").args(["-c", &trial.text("curl")]).output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains("Ada's room; $HOME"), "{answer}");
}

// Who gets it

#[test]
fn it_is_beside_the_sandbox_alone_and_under_names_of_loopback_alone() {
    let gateway = Process::sandbox();
    let get = |path: &str, host: &str| {
        let mut client = Client::connect(gateway.admin);
        client.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
        client.answer("GET").unwrap()
    };
    let port = gateway.admin.port();
    let page = get("/try", &format!("localhost:{port}"));
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert!(page.header("access-control-allow-origin").is_empty());
    let rebound = get("/try", "evil.example");
    assert_eq!(rebound.status, 403, "{}", rebound.text());
    assert!(!rebound.text().contains("wbg_test_"));
    let listed = get("/", "localhost").json();
    assert!(listed["see"].as_array().unwrap().contains(&json!("/try")), "{listed}");

    let serving = Setup::new("http://127.0.0.1:1").start();
    assert_eq!(serving.admin("/try").status, 404);
    assert!(!serving.admin("/").text().contains("/try"));
}

#[test]
fn only_the_page_of_the_admin_listener_may_call_from_a_browser() {
    let gateway = Process::sandbox();
    let asked = |origin: &str| {
        let fields = [("origin", origin), ("access-control-request-method", "POST")];
        gateway.client().request("OPTIONS", "/v5/rooms", &fields, "")
    };
    let admin = gateway.admin;
    for (origin, admitted) in [
        (format!("http://{admin}"), true),
        (format!("http://localhost:{}", admin.port()), true),
        (format!("http://127.0.0.1:{}", admin.port() ^ 1), false),
        (format!("https://{admin}"), false),
        ("null".to_owned(), false),
        ("https://app.example.org".to_owned(), false),
    ] {
        let answer = asked(&origin);
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, if admitted { origin.as_str() } else { "" }, "{origin}");
    }
}

#[test]
fn an_admin_listener_that_others_reach_has_no_page_and_no_key() {
    let gateway = Process::sandbox_with(&[("WBG__ADMIN__ADDRESS", "0.0.0.0:0")]);
    let page = gateway.admin("/try");
    assert_eq!(page.status, 404, "{}", page.text());
    assert!(!gateway.stdout().contains("/try"), "{}", gateway.stdout());
    let origin = format!("http://{}", gateway.admin);
    let fields = [("origin", origin.as_str())];
    let answer = gateway.client().request("GET", "/v5/rooms", &fields, "");
    assert!(answer.header("access-control-allow-origin").is_empty());
}

#[test]
fn the_greeting_names_it() {
    let gateway = Process::sandbox();
    let address = format!("http://{}/try", gateway.admin);
    assert!(gateway.stdout().contains(&address), "{}", gateway.stdout());
}
