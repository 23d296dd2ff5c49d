//! The page for operators, in a real browser: at `/` of the admin listener.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Browser, Client, Process, Setup, wait_until, wait_within};

const VIEWS: [&str; 7] =
    ["overview", "failures", "callers", "budgets", "why", "configuration", "sandbox"];

/// A gateway in front of the sandbox, and a browser that shows its page.
struct Watch {
    gateway: Process,
    browser: Browser,
}

impl Watch {
    fn open() -> Self {
        let gateway = Process::sandbox();
        let browser = Browser::start();
        browser.open(&format!("http://{}/", gateway.admin));
        let watch = Self { gateway, browser };
        wait_until("a key is asked for", || watch.is_shown("login"));
        watch
    }

    fn logged_in() -> Self {
        let watch = Self::open();
        let key = watch.gateway.exported("WBG_ADMIN_KEY");
        watch.set("key", &key);
        watch.submit("login-form");
        wait_until("the overview is shown", || watch.is_shown("overview"));
        watch
    }

    fn is_shown(&self, id: &str) -> bool {
        self.browser.eval(&format!("!document.getElementById({id:?}).hidden")) == true
    }

    fn text(&self, id: &str) -> String {
        let text = self.browser.eval(&format!("document.getElementById({id:?}).textContent"));
        text.as_str().unwrap().to_owned()
    }

    fn set(&self, id: &str, value: &str) {
        self.browser.eval(&format!("document.getElementById({id:?}).value = {value:?}"));
        let change = "dispatchEvent(new Event('change', { bubbles: true }))";
        self.browser.eval(&format!("document.getElementById({id:?}).{change}"));
    }

    fn submit(&self, form: &str) {
        self.browser.eval(&format!("document.getElementById({form:?}).requestSubmit()"));
    }

    fn go(&self, view: &str) {
        self.browser.eval(&format!("location.hash = '#{view}'"));
        wait_until("the view is shown", || self.is_shown(view));
    }

    /// Waits until a part of the page says so.
    #[track_caller]
    fn says(&self, id: &str, part: &str) {
        wait_until(part, || self.text(id).contains(part));
    }

    /// An image of the page, for the documentation.
    fn photograph(&self, name: &str, size: (u32, u32), dark: bool) {
        self.browser.emulate(size.0, size.1, dark);
        // That in docs/images is a copy of it.
        let path = format!("{}/{name}.png", env!("CARGO_TARGET_TMPDIR"));
        fs::write(path, self.browser.image()).unwrap();
    }

    fn call(&self, key: &str, method: &str, path: &str, body: &str) -> u16 {
        let key = self.gateway.exported(key);
        self.gateway.client().call(&key, method, path, body).status
    }
}

#[test]
fn every_view_shows_what_happens_and_nobody_else_is_asked() {
    let watch = Watch::logged_in();
    watch.says("runs", env!("CARGO_PKG_VERSION"));
    watch.says("well", "usable");
    watch.says("who", "operator");
    assert_eq!(watch.call("KEY", "POST", "/v5/rooms", "{\"isRecord\":false}"), 201);
    assert_eq!(watch.call("STUDENT_KEY", "PATCH", "/v5/rooms/a", "{\"isBan\":true}"), 403);
    let seen = || watch.text("hour").starts_with("2 requests, 1 failure: 1 forbidden.");
    wait_within(std::time::Duration::from_secs(4), "both are in the hour", seen);
    let bars = watch.browser.eval("document.querySelectorAll('#charts rect').length");
    assert!(bars.as_u64() >= Some(3), "{bars}");
    watch.photograph("admin", (1100, 900), false);

    watch.go("failures");
    watch.says("failures", "forbidden");
    let row = watch.browser.eval(
        "[...document.querySelector('#failures tbody tr').cells].map((cell) => cell.textContent)",
    );
    assert_eq!(
        (&row[2], &row[4], &row[5]),
        (&json!("student"), &json!("403"), &json!("forbidden"))
    );
    assert_eq!(watch.gateway.access_line(row[1].as_str().unwrap())["status"], 403);
    watch.go("callers");
    watch.says("callers-list", "backend");
    watch.says("callers-list", "student");
    watch.go("budgets");
    watch.says("budgets-list", "No profile has a budget.");

    watch.go("why");
    watch.set("why-path", "/v5/rooms");
    watch.set("why-method", "POST");
    watch.set("why-name", "backend");
    watch.submit("why-form");
    watch.says("decision", "allow");
    watch.set("why-name", "student");
    watch.submit("why-form");
    watch.says("decision", "forbidden");
    assert!(watch.text("reasons").contains("profiles.student"), "{}", watch.text("reasons"));
    watch.set("why-name", "nobody");
    watch.submit("why-form");
    watch.says("problem", "nobody");
    watch.set("why-who", "token");
    watch.set("why-name", &watch.gateway.exported("KEY"));
    watch.submit("why-form");
    watch.says("decision", "caller backend");

    watch.go("configuration");
    watch.says("configuration-list", "projects.sandbox");
    let secret = watch.browser.eval("document.body.textContent");
    assert!(!secret.as_str().unwrap().contains(&watch.gateway.exported("WBG_ADMIN_KEY")));
    watch.set("reload-why", "to see it");
    watch.submit("reload-form");
    watch.says("reloaded", "loaded");

    watch.go("sandbox");
    watch.says("sandbox-list", "/v5/rooms");
    watch.set("fault", "{\"operations\":[\"rooms.create\"],\"status\":500}");
    watch.submit("fault-form");
    watch.says("fault-now", "rooms.create");
    assert_eq!(watch.call("KEY", "POST", "/v5/rooms", "{\"isRecord\":false}"), 500);
    watch.set("fault", "{\"operations\":[\"nothing\"]}");
    watch.submit("fault-form");
    watch.says("problem", "is no operation");
    watch.browser.eval("document.getElementById('fault-clear').click()");
    watch.says("fault-now", "none");
    watch.go("failures");
    watch.says("failures", "upstream_error");

    assert_eq!(watch.browser.complaints(), Vec::<String>::new());
    let own = format!("http://{}/", watch.gateway.admin);
    let requested = watch.browser.requested();
    let foreign: Vec<&String> = requested
        .iter()
        .filter(|url| !url.starts_with("data:") && !url.starts_with("chrome:"))
        .filter(|url| !url.starts_with(&own))
        .collect();
    assert!(foreign.is_empty() && requested.len() > VIEWS.len(), "{foreign:?}");
}

#[test]
fn it_works_with_the_keyboard_in_the_dark_and_on_a_phone() {
    let watch = Watch::open();
    // A key that is none is refused in words, and the next may be a right one.
    watch.browser.eval("document.getElementById('key').focus()");
    watch.set("key", "wbg_admin_wrong");
    watch.browser.press(&["\u{e007}"]);
    watch.says("problem", "no key of an operator");
    watch.set("key", &watch.gateway.exported("WBG_ADMIN_KEY"));
    watch.browser.eval("document.getElementById('key').focus()");
    watch.browser.press(&["\u{e007}"]);
    wait_until("the overview is shown", || watch.is_shown("overview"));
    watch.browser.eval("document.querySelector('nav a').focus()");
    watch.browser.press(&["\u{e004}"]);
    watch.browser.press(&["\u{e007}"]);
    wait_until("the next view is shown", || watch.is_shown("failures"));

    let luminance = "(() => { const [r, g, b] = getComputedStyle(document.body).color.match(/\\d+/g).map(Number); return r + g + b; })()";
    assert_eq!(watch.call("KEY", "POST", "/v5/rooms", "{\"isRecord\":false}"), 201);
    assert_eq!(watch.call("KEY", "GET", "/v5/rooms/nowhere", ""), 404);
    watch.browser.emulate(390, 800, false);
    let light = watch.browser.eval(luminance).as_u64().unwrap();
    watch.browser.emulate(390, 800, true);
    let dark = watch.browser.eval(luminance).as_u64().unwrap();
    assert!(light < 200 && dark > 500, "the text is {light} in the light, {dark} in the dark");
    for view in VIEWS {
        watch.go(view);
        let wide = watch.browser.eval("document.documentElement.scrollWidth");
        assert!(wide.as_u64() <= Some(390), "{view}: {wide}");
    }
    watch.go("overview");
    wait_until("there is a bar", || {
        watch.browser.eval("document.querySelectorAll('#charts rect').length").as_u64() > Some(1)
    });
    watch.photograph("admin-narrow", (390, 800), true);
    let unlabelled = "[...document.querySelectorAll('input, select, textarea')].filter((one) => !one.labels.length).length";
    assert_eq!(watch.browser.eval(unlabelled), 0);

    watch.browser.eval("document.getElementById('logout').click()");
    wait_until("a key is asked for", || watch.is_shown("login"));
    watch.browser.open(&format!("http://{}/#callers", watch.gateway.admin));
    wait_until("a key is asked for again", || watch.is_shown("login"));
    assert_eq!(watch.text("callers-list"), "");
    assert_eq!(watch.browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_page_is_for_browsers_and_shows_nothing_by_itself() {
    let gateway = Setup::new("http://127.0.0.1:1").start();
    let get = |accept: &str| {
        let accept = format!("GET / HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n\r\n");
        let mut client = Client::connect(gateway.admin);
        client.send(accept.as_bytes());
        client.answer("GET").unwrap()
    };
    let page = get("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "form-action 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.header("x-frame-options"), "DENY");
    assert!(page.text().len() < 64 * 1024);
    for accept in ["*/*", "application/json", "", "image/png"] {
        let listed: Value = get(accept).json();
        assert!(listed["see"].is_array(), "{accept}: {listed}");
    }
    // Without an operator it says how there is one.
    let browser = Browser::start();
    browser.open(&format!("http://{}/", gateway.admin));
    wait_until("it says what to do", || {
        let said = browser.eval("document.getElementById('problem').textContent");
        said.as_str().unwrap().contains("key new --operator")
    });
}
