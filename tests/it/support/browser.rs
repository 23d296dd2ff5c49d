//! A headless Chromium, driven by ChromeDriver over the W3C's WebDriver protocol
//! (<https://www.w3.org/TR/webdriver2/>).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::read_answer;

/// What lets a browser run as root in a container, and keeps it from calling home.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
];

/// A browser with one window.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// One that is started with more flags.
    pub(crate) fn with(flags: &[&str]) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's packages chromium and chromium-driver are installed");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        // "ChromeDriver was started successfully on port 38243."
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address =
            SocketAddr::from(([127, 0, 0, 1], port.expect("ChromeDriver tells its port")));
        let profile = tempfile::tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let flags = FLAGS.iter().chain(flags).copied().chain([folder.as_str()]);
        let flags: Vec<&str> = flags.collect();
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": flags },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "script": 30_000, "pageLoad": 30_000 },
        }}});
        let session = browser.ask("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    /// Opens a page, and waits until it and its scripts are loaded.
    pub(crate) fn open(&self, url: &str) {
        self.of_session("POST", "/url", &json!({ "url": url }));
    }

    /// The value of a JavaScript expression, waited for when it is a promise.
    pub(crate) fn eval(&self, expression: &str) -> Value {
        let script = format!("return (async () => {expression})();");
        self.of_session("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What the window shows, as a PNG.
    pub(crate) fn screenshot(&self, width: u32, height: u32) -> Vec<u8> {
        self.of_session("POST", "/window/rect", &json!({ "width": width, "height": height }));
        let image = self.of_session("GET", "/screenshot", &Value::Null);
        base64::engine::general_purpose::STANDARD.decode(image.as_str().unwrap()).unwrap()
    }

    /// The window as one that is so wide and high, in light or in dark.
    pub(crate) fn emulate(&self, width: u32, height: u32, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the emulated window shows, as a PNG.
    pub(crate) fn image(&self) -> Vec<u8> {
        let image = self.devtools("Page.captureScreenshot", &json!({ "format": "png" }));
        base64::engine::general_purpose::STANDARD.decode(image["data"].as_str().unwrap()).unwrap()
    }

    /// Presses keys where the focus is; `\u{e004}` is the tabulator, `\u{e007}` Enter.
    pub(crate) fn press(&self, keys: &[&str]) {
        let down = keys.iter().map(|key| json!({ "type": "keyDown", "value": key }));
        let up = keys.iter().rev().map(|key| json!({ "type": "keyUp", "value": key }));
        let actions: Vec<Value> = down.chain(up).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.of_session("POST", "/actions", &json!({ "actions": [keyboard] }));
    }

    /// What the console was told since this was asked last, but for responses that are failures.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let entries = self.log("browser").into_iter();
        let entries = entries.filter(|entry| entry["source"] != "network");
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    /// The URLs of the requests that pages made since this was asked last.
    pub(crate) fn requested(&self) -> Vec<String> {
        let events = self.log("performance").into_iter().filter_map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &event["message"];
            let sent = event["method"] == "Network.requestWillBeSent";
            sent.then(|| event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
        });
        events.collect()
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.of_session("POST", "/se/log", &json!({ "type": kind }));
        entries.as_array().cloned().unwrap_or_default()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.of_session("POST", "/goog/cdp/execute", &body)
    }

    fn of_session(&self, method: &str, command: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}{command}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_ask(method, path, body).unwrap_or_else(|why| panic!("{method} {path}: {why}"))
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        // It answers to no other name.
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost:{}\r\ncontent-length: {}\r\n\r\n",
            self.address.port(),
            body.len()
        );
        let io = |error: std::io::Error| error.to_string();
        let mut socket = TcpStream::connect(self.address).map_err(io)?;
        // A browser's first start takes its time on a busy machine.
        socket.set_read_timeout(Some(Duration::from_secs(60))).map_err(io)?;
        socket.write_all((head + &body).as_bytes()).map_err(io)?;
        let answer =
            read_answer(&mut BufReader::new(socket), false).ok_or("ChromeDriver says nothing")?;
        match answer.status {
            200 => Ok(answer.json()["value"].clone()),
            _ => Err(answer.text()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium with its session; killing the driver alone would leave it behind.
        _ = self.try_ask("DELETE", &format!("/session/{}", self.session), &Value::Null);
        _ = self.driver.kill();
        _ = self.driver.wait();
    }
}
