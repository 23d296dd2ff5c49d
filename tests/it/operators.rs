//! Operators at the admin listener: who is let in, to what, and what is left of it.

use std::fs;

use rcgen::{CertificateParams, SanType};
use serde_json::{Value, json};
use whiteboard_gateway::caller::{self, ApiKey};

use crate::support::{
    Answer, Authority, Client, Process, Setup, TlsClient, Upstream, binary, ended, handshake,
    replace, slot, slot_until, wait_until,
};

/// A gateway with a viewer and an operator, their keys, and an audit.
struct Operated {
    gateway: Process,
    viewer: String,
    operator: String,
    _upstream: Upstream,
}

pub(crate) fn operators(setup: Setup) -> (Setup, [String; 2]) {
    let keys = ["viewer", "operator"].map(|role| {
        let key = caller::generate_for_operator().unwrap().expose().to_owned();
        (role, key)
    });
    let sections: String = keys
        .iter()
        .map(|(role, key)| {
            format!("[operators.the-{role}]\nrole = \"{role}\"\nkeys = [{}]\n", slot(key))
        })
        .collect();
    (setup.with(&sections), keys.map(|(_, key)| key))
}

impl Operated {
    fn start() -> Self {
        Self::with("[audit]\nfile = \"./audit.jsonl\"\n")
    }

    fn with(more: &str) -> Self {
        let upstream = Upstream::json("200 OK", "[]");
        let (setup, [viewer, operator]) = operators(Setup::new(&upstream.url()).with(more));
        Self { gateway: setup.start(), viewer, operator, _upstream: upstream }
    }

    fn ask(&self, key: &str, method: &str, path: &str, body: &str) -> Answer {
        Client::connect(self.gateway.admin).call(key, method, path, body)
    }

    /// With these header fields, and no others but `Host`.
    fn sent(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        Client::connect(self.gateway.admin).request(method, path, fields, body)
    }

    fn log_in(&self, key: &str) -> BrowserSession {
        let answer =
            self.sent("POST", "/admin/v1/session", &[], &json!({ "key": key }).to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        BrowserSession::of(&answer)
    }
}

struct BrowserSession {
    cookie: String,
    token: String,
}

impl BrowserSession {
    fn of(answer: &Answer) -> Self {
        let cookie = answer.header("set-cookie").split(';').next().unwrap().to_owned();
        let token = answer.json()["session"]["token"].as_str().unwrap().to_owned();
        Self { cookie, token }
    }

    fn fields(&self) -> [(&str, &str); 2] {
        [("cookie", &self.cookie), ("whiteboard-session-token", &self.token)]
    }
}

const WHY: &str = r#"{"why":"a new \"profile\""}"#;

#[test]
fn a_viewer_looks_and_an_operator_changes_something_which_is_in_the_audit() {
    let operated = Operated::start();
    let Operated { gateway, viewer, operator, .. } = &operated;
    let status = operated.ask(viewer, "GET", "/admin/v1/status", "");
    assert_eq!(status.status, 200, "{}", status.text());
    let status = status.json();
    assert_eq!((&status["ready"], &status["workers"]), (&true.into(), &2.into()));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    for member in ["commit", "build", "since", "connections", "breakers", "issuers", "certificates"]
    {
        assert!(!status[member].is_null(), "{member}: {status}");
    }
    assert!(status["config"]["file"].as_str().unwrap().ends_with("gateway.toml"), "{status}");
    assert!(status["config"]["last_reload"].is_null() && status["budgets"]["counters"].is_array());

    let refused = operated.ask(viewer, "POST", "/admin/v1/reload", WHY);
    refused.assert_envelope(403, "forbidden");
    assert!(refused.member("message").contains("needs the role operator"), "{}", refused.text());
    assert_eq!(refused.member("rule"), "operators.the-viewer.role");
    assert_eq!(gateway.reloads(), 0);

    let loaded = operated.ask(operator, "POST", "/admin/v1/reload", WHY);
    assert_eq!((loaded.status, &loaded.json()["result"]), (200, &"loaded".into()));
    assert_eq!(loaded.json()["version"], status["config"]["version"]);
    wait_until("it has said so", || gateway.reloads() == 1);
    let audit = gateway.folder.path().join("audit.jsonl");
    let mut records = Vec::new();
    wait_until("both are in the audit", || {
        let text = fs::read_to_string(&audit).unwrap_or_default();
        records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
        records.len() == 2
    });
    for (record, outcome) in records.iter().zip(["asked", "loaded"]) {
        let id = ApiKey::parse(operator).ok().unwrap().id().to_string();
        for (member, value) in [
            ("event", "operator"),
            ("operator", "the-operator"),
            ("credential", "key"),
            ("key_id", &id),
            ("client", "127.0.0.1"),
            ("action", "reload"),
            ("why", "a new \"profile\""),
            ("outcome", outcome),
        ] {
            assert_eq!(record[member], value, "{record}");
        }
    }
    let last = operated.ask(viewer, "GET", "/admin/v1/status", "").json();
    assert!(last["config"]["last_reload"]["at"].is_string(), "{last}");
}

#[test]
fn a_reload_that_fails_says_why_and_changes_nothing() {
    let operated = Operated::start();
    let Operated { gateway, operator, viewer, .. } = &operated;
    let before = gateway.admin("/metrics").text();
    replace(&gateway.config_path(), "[nonsense]\n");
    let failed = operated.ask(operator, "POST", "/admin/v1/reload", WHY);
    assert_eq!((failed.status, &failed.json()["result"]), (200, &"failed".into()));
    let why = failed.json()["error"].as_str().unwrap().to_owned();
    assert!(why.contains("`nonsense` is not a key here"), "{why}");
    let status = operated.ask(viewer, "GET", "/admin/v1/status", "").json();
    assert_eq!(status["config"]["last_reload"]["error"], why.as_str());
    assert_eq!(status["config"]["version"], failed.json()["version"]);
    assert!(before.contains("wbg_ready 1"), "{before}");
    for body in ["{}", "{\"why\":\"\"}", "{\"why\":\"  \"}", "{\"why\":1}", "", "why"] {
        let wrong = operated.ask(operator, "POST", "/admin/v1/reload", body);
        wrong.assert_envelope(400, "invalid_body");
    }
    let long = json!({ "why": "x".repeat(501) }).to_string();
    operated.ask(operator, "POST", "/admin/v1/reload", &long).assert_envelope(400, "invalid_body");
    let longer = "x".repeat(70_000);
    operated.ask(operator, "POST", "/admin/v1/reload", &longer).assert_envelope(413, "too_large");
}

#[test]
fn nothing_is_changed_that_must_be_recorded_and_cannot_be() {
    let operated = Operated::with("[audit]\nfile = \"./audit.jsonl\"\nmode = \"required\"\n");
    let Operated { gateway, operator, .. } = &operated;
    let audit = gateway.folder.path().join("audit.jsonl");
    fs::remove_file(&audit).unwrap();
    fs::create_dir(&audit).unwrap();
    let refused = operated.ask(operator, "POST", "/admin/v1/reload", WHY);
    assert_eq!(refused.member("code"), "audit_unavailable", "{}", refused.text());
    assert_eq!(gateway.reloads(), 0);
    fs::remove_dir(&audit).unwrap();
    assert_eq!(operated.ask(operator, "POST", "/admin/v1/reload", WHY).status, 200);
    assert_eq!(fs::read_to_string(&audit).unwrap().lines().count(), 2);
}

#[test]
fn a_key_counts_at_its_own_listener_alone() {
    let operated = Operated::start();
    let Operated { gateway, viewer, operator, .. } = &operated;
    let here = operated.ask(&gateway.key, "GET", "/admin/v1/status", "");
    here.assert_envelope(401, "invalid_token");
    assert!(here.member("message").contains("this is the key of a caller"), "{}", here.text());
    for key in [viewer, operator] {
        for field in ["token", "x-api-key"] {
            let there = gateway.client().request("GET", "/v5/rooms", &[(field, key)], "");
            there.assert_envelope(401, "invalid_token");
            assert!(there.member("message").contains("the key of an operator"), "{}", there.text());
        }
        let log = gateway.stdout() + &gateway.stderr();
        assert!(!log.contains(&key[22..]), "it is in the log");
    }
    for key in ["", "wbg_admin_", "eyJhbGciOiJub25lIn0.e30.", &operator[..70]] {
        let answer = operated.sent("GET", "/admin/v1/status", &[("token", key)], "");
        answer.assert_envelope(401, "invalid_token");
    }
    let nothing = operated.sent("GET", "/admin/v1/status", &[], "");
    nothing.assert_envelope(401, "unauthenticated");
    let stranger = caller::generate_for_operator().unwrap();
    let unknown = operated.ask(stranger.expose(), "GET", "/admin/v1/status", "");
    assert_eq!(unknown.member("message"), "this key is not known here");
}

#[test]
fn what_machines_ask_for_is_open_and_everything_else_asks() {
    let operated = Operated::start();
    let Operated { gateway, viewer, .. } = &operated;
    let get = |path: &str, host: &str, key: Option<&str>| {
        let mut client = Client::connect(gateway.admin);
        let key = key.map(|key| format!("token: {key}\r\n")).unwrap_or_default();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{key}\r\n").as_bytes());
        client.answer("GET").unwrap()
    };
    for path in ["/livez", "/readyz", "/metrics"] {
        for host in ["localhost", "10.1.2.3:9090", "evil.example"] {
            assert_eq!(get(path, host, None).status, 200, "{path} {host}");
        }
    }
    assert_eq!(get("/readyz", "a", None).json(), json!({ "ready": true, "why": null }));
    let directory = get("/", "localhost", None).json();
    assert!(directory.get("whiteboard-gateway").is_none() && directory["see"].is_array());
    for path in ["/budgets", "/openapi.json", "/admin/v1/status", "/admin/v1/configuration"] {
        get(path, "localhost", None).assert_envelope(401, "unauthenticated");
        let answer = get(path, "127.0.0.1", Some(viewer));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        for host in ["evil.example", "10.1.2.3:9090", "localhost.evil.example"] {
            let rebound = get(path, host, Some(viewer));
            rebound.assert_envelope(403, "forbidden");
            assert!(rebound.member("message").contains("admin.hosts"), "{}", rebound.text());
        }
    }
    assert_eq!(get("/", "evil.example", None).status, 403);
    for path in ["/admin/v1/", "/admin/v1/nowhere", "/admin/v1/status/", "/admin", "/admin/v1"] {
        get(path, "localhost", Some(viewer)).assert_envelope(404, "not_found");
    }
    let wrong = operated.ask(viewer, "PUT", "/admin/v1/session", "");
    wrong.assert_envelope(405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), "POST, GET, DELETE");
}

#[test]
fn names_that_are_listed_are_the_only_ones() {
    let operated = Operated::with("[admin]\nhosts = [\"gateway.example.org\", \"10.0.0.7\"]\n");
    let get = |host: &str| {
        let mut client = Client::connect(operated.gateway.admin);
        let key = &operated.viewer;
        let line = "GET /admin/v1/status HTTP/1.1";
        client.send(format!("{line}\r\nhost: {host}\r\ntoken: {key}\r\n\r\n").as_bytes());
        client.answer("GET").unwrap().status
    };
    for (host, status) in [
        ("gateway.example.org:9090", 200),
        ("GATEWAY.example.org.", 200),
        ("10.0.0.7", 200),
        ("localhost", 403),
        ("example.org", 403),
    ] {
        assert_eq!(get(host), status, "{host}");
    }
}

#[test]
fn the_configuration_is_shown_without_its_secrets() {
    let operated = Operated::with("[egress]\nproxy = \"http://user:planted@127.0.0.1:9\"\n");
    let answer = operated.ask(&operated.viewer, "GET", "/admin/v1/configuration", "");
    assert_eq!(answer.status, 200);
    let text = answer.text();
    assert!(text.contains("CLASSROOM_SK") && text.contains("profiles.backend"), "{text}");
    assert!(!text.contains("planted") && !text.contains("sandbox-secret-key"), "{text}");
    let status = operated.ask(&operated.viewer, "GET", "/admin/v1/status", "").json();
    assert_eq!(answer.json()["version"], status["config"]["version"]);
}

#[test]
fn the_document_has_every_route_and_each_answers_as_it_says() {
    let operated = Operated::start();
    let document = operated.ask(&operated.viewer, "GET", "/admin/v1/openapi.json", "").json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            let open = operation["x-role"].is_null();
            // Without a credential, and then with one: a body that is none shows that it came there.
            let nobody = operated.sent(&method, path, &[], "");
            assert_eq!(nobody.status, if open { 400 } else { 401 }, "{method} {path}");
            let answer = operated.ask(&operated.operator, &method, path, "");
            let body = operation["requestBody"].is_object();
            // This gateway runs without a sandbox.
            let good = if path.contains("/sandbox") { 404 } else { 200 };
            assert_eq!(answer.status, if body { 400 } else { good }, "{}", answer.text());
            asked += 1;
        }
    }
    assert!(asked >= 8, "{document}");
}

// Sessions

#[test]
fn a_session_is_a_cookie_for_a_key_and_its_changes_carry_its_token() {
    let operated = Operated::start();
    let Operated { gateway, operator, .. } = &operated;
    let body = json!({ "key": operator }).to_string();
    let begun = operated.sent("POST", "/admin/v1/session", &[], &body);
    let cookie = begun.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=3600"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains("Domain"), "{cookie}");
    assert!(!begun.text().contains(operator.as_str()), "{}", begun.text());
    let session = BrowserSession::of(&begun);
    let [of_cookie, token] = session.fields();
    let shown = operated.sent("GET", "/admin/v1/session", &[of_cookie], "").json();
    assert_eq!((&shown["operator"], &shown["role"]), (&"the-operator".into(), &"operator".into()));
    assert_eq!(shown["session"]["token"], session.token.as_str());
    assert_eq!(operated.sent("GET", "/admin/v1/status", &[of_cookie], "").status, 200);
    for fields in [
        &[of_cookie][..],
        &[of_cookie, ("whiteboard-session-token", "")],
        &[of_cookie, ("whiteboard-session-token", &token.1[..63])],
        &[of_cookie, ("whiteboard-session-token", of_cookie.1.split_once('=').unwrap().1)],
    ] {
        let refused = operated.sent("POST", "/admin/v1/reload", fields, WHY);
        refused.assert_envelope(403, "forbidden");
        operated.sent("DELETE", "/admin/v1/session", fields, "").assert_envelope(403, "forbidden");
    }
    assert_eq!(gateway.reloads(), 0);
    let loaded = operated.sent("POST", "/admin/v1/reload", &[of_cookie, token], WHY);
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    wait_until("it has said so", || gateway.reloads() == 1);
    let audit = fs::read_to_string(gateway.folder.path().join("audit.jsonl")).unwrap_or_default();
    assert!(!audit.contains(of_cookie.1) && !audit.contains(token.1));

    let ended = operated.sent("DELETE", "/admin/v1/session", &[of_cookie, token], "");
    assert!(ended.header("set-cookie").contains("Max-Age=0"));
    let over = operated.sent("GET", "/admin/v1/status", &[of_cookie], "");
    over.assert_envelope(401, "invalid_token");
    assert!(over.member("message").contains("the session is over"), "{}", over.text());
}

#[test]
fn a_key_that_is_none_begins_no_session_and_is_repeated_nowhere() {
    let operated = Operated::start();
    let stranger = caller::generate_for_operator().unwrap();
    for (body, code) in [
        (json!({ "key": operated.gateway.key }).to_string(), "invalid_token"),
        (json!({ "key": stranger.expose() }).to_string(), "invalid_token"),
        (json!({ "key": "" }).to_string(), "invalid_token"),
        (json!({ "keys": operated.operator }).to_string(), "invalid_body"),
        (json!([operated.operator]).to_string(), "invalid_body"),
        (format!("key={}", operated.operator), "invalid_body"),
    ] {
        let answer = operated.sent("POST", "/admin/v1/session", &[], &body);
        assert_eq!(answer.member("code"), code, "{}", answer.text());
        assert!(answer.header("set-cookie").is_empty());
        assert!(!answer.text().contains(&operated.operator[22..]), "{}", answer.text());
    }
    assert!(!operated.gateway.stderr().contains(&operated.operator[22..]));
    assert!(!operated.gateway.stderr().contains(&stranger.expose()[22..]));
}

#[test]
fn a_session_is_over_when_its_operator_is_gone_and_has_no_more_rights_than_that_has() {
    let operated = Operated::start();
    let Operated { gateway, operator, viewer, .. } = &operated;
    let [first, second] = [operator, viewer].map(|key| operated.log_in(key));
    let ask = |session: &BrowserSession| {
        operated.sent("GET", "/admin/v1/status", &session.fields(), "").status
    };
    let reload = || operated.sent("POST", "/admin/v1/reload", &first.fields(), WHY).status;
    assert_eq!((ask(&first), ask(&second), reload()), (200, 200, 200));
    wait_until("it has said so", || gateway.reloads() == 1);
    let lowered = gateway.configuration().set("operators.the-operator.role", "viewer");
    gateway.reload(&lowered);
    assert_eq!((ask(&first), reload()), (200, 403), "it is worth what its key is worth now");
    let gone = lowered.without("operators.the-operator");
    gateway.reload(&gone);
    assert_eq!((ask(&first), ask(&second)), (401, 200));
    // The same name with another key is somebody else.
    let other = caller::generate_for_operator().unwrap();
    let section = format!(
        "[operators.the-operator]\nrole = \"operator\"\nkeys = [{}]\n",
        slot(other.expose())
    );
    gateway.reload(&gone.with(&section));
    assert_eq!((ask(&first), ask(&second)), (401, 200));
}

#[test]
fn a_key_is_over_at_its_end_and_so_are_its_sessions() {
    let upstream = Upstream::json("200 OK", "[]");
    let key = caller::generate_for_operator().unwrap().expose().to_owned();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4);
    let slot = slot_until(&key, until);
    let section = format!("[operators.ada]\nkeys = [{slot}]\n");
    let gateway = Setup::new(&upstream.url()).with(&section).start();
    let ask = |field: (&str, &str)| {
        Client::connect(gateway.admin).request("GET", "/admin/v1/status", &[field], "")
    };
    let body = json!({ "key": key }).to_string();
    let begun = Client::connect(gateway.admin).request("POST", "/admin/v1/session", &[], &body);
    let session = BrowserSession::of(&begun);
    assert_eq!(ask(session.fields()[0]).status, 200);
    wait_until("it is over", || ask(("token", &key)).status == 401);
    ask(("token", &key)).assert_envelope(401, "expired_token");
    ask(session.fields()[0]).assert_envelope(401, "expired_token");
}

// Browsers

#[test]
fn what_another_origin_asks_for_is_refused() {
    let operated = Operated::start();
    let session = operated.log_in(&operated.operator);
    let [cookie, token] = session.fields();
    for (field, value) in [
        ("origin", "http://evil.example"),
        ("origin", "http://localhost:3000"),
        ("origin", "https://localhost"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let own = field == "origin" && value == "https://localhost";
        for (method, path, body) in
            [("GET", "/admin/v1/status", ""), ("POST", "/admin/v1/reload", WHY)]
        {
            let fields = [cookie, token, (field, value)];
            let answer = operated.sent(method, path, &fields, body);
            // A proxy that speaks TLS may be in front.
            assert_eq!(answer.status == 200, own, "{field}: {value}: {}", answer.text());
            assert!(answer.header("access-control-allow-origin").is_empty());
        }
        let body = json!({ "key": operated.viewer }).to_string();
        let begun = operated.sent("POST", "/admin/v1/session", &[(field, value)], &body);
        assert_eq!(begun.status == 200, own, "{field}: {value}");
        let key = ("x-api-key", operated.viewer.as_str());
        let budgets = operated.sent("GET", "/budgets", &[key, (field, value)], "");
        assert_eq!(budgets.status == 200, own, "{field}: {value}");
    }
    let own = [cookie, ("origin", "http://localhost"), ("sec-fetch-site", "same-origin")];
    assert_eq!(operated.sent("GET", "/admin/v1/status", &own, "").status, 200);
}

#[test]
fn no_page_frames_an_answer_or_runs_anything_of_it() {
    let operated = Operated::start();
    for path in ["/", "/livez", "/readyz", "/metrics", "/budgets", "/nowhere", "/admin/v1/status"] {
        for key in ["", operated.viewer.as_str()] {
            let answer = operated.sent("GET", path, &[("token", key)], "");
            assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
            let policy = answer.header("content-security-policy");
            assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        }
    }
    // What never became a request, too.
    let mut client = Client::connect(operated.gateway.admin);
    client.send(b"GARBAGE\r\n\r\n");
    assert_eq!(client.answer("GET").unwrap().header("x-frame-options"), "DENY");
}

#[test]
fn whatever_is_accepted_is_answered_in_json() {
    let operated = Operated::start();
    for accept in ["", ";", "image/png", "*/*;q=0", "text/html", "application/json;q=0"] {
        let fields = [("accept", accept), ("token", operated.viewer.as_str())];
        for path in ["/admin/v1/status", "/budgets", "/readyz"] {
            let answer = operated.sent("GET", path, &fields, "");
            let found = (answer.status, answer.header("content-type"));
            assert_eq!(found, (200, "application/json"), "{path} {accept}");
        }
    }
}

#[test]
fn many_credentials_that_are_none_are_told_to_wait_and_a_good_one_is_let_in() {
    let operated = Operated::start();
    let mut client = Client::connect(operated.gateway.admin);
    let stranger = caller::generate_for_operator().unwrap();
    let mut statuses = Vec::new();
    for _ in 0..100 {
        let answer = client.call(stranger.expose(), "GET", "/admin/v1/status", "");
        statuses.push(answer.status);
        if answer.status == 429 {
            assert!(!answer.header("retry-after").is_empty());
        }
    }
    let first = statuses.iter().position(|status| *status == 429).expect("it is bounded");
    assert!((50..=70).contains(&first), "{first}");
    assert_eq!(operated.ask(&operated.viewer, "GET", "/admin/v1/status", "").status, 200);
    let said = operated.gateway.stderr().matches("an operator's credential was refused").count();
    assert!(said <= 70, "{said}");
}

// Without operators, and how they may be reached

#[test]
fn without_an_operator_nothing_changes_anything_and_other_machines_see_little() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).start();
    for path in ["/budgets", "/openapi.json", "/readyz"] {
        assert_eq!(gateway.admin(path).status, 200, "{path}");
    }
    assert!(gateway.admin("/readyz").json()["projects"].is_object());
    let key = caller::generate_for_operator().unwrap();
    for (method, path) in [("GET", "/admin/v1/status"), ("POST", "/admin/v1/reload")] {
        let answer = Client::connect(gateway.admin).call(key.expose(), method, path, WHY);
        answer.assert_envelope(403, "forbidden");
        assert!(answer.member("message").contains("key new --operator"), "{}", answer.text());
    }
    let exposed = Setup::new(&upstream.url()).set("admin.address", "0.0.0.0:0").start();
    for (path, status) in
        [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/", 200), ("/budgets", 403)]
    {
        assert_eq!(exposed.admin(path).status, status, "{path}");
    }
    exposed.admin("/openapi.json").assert_envelope(403, "forbidden");
}

#[test]
fn keys_do_not_cross_a_network_in_the_clear() {
    let (setup, _) = operators(Setup::new("http://127.0.0.1:9"));
    let exposed = setup.set("admin.address", "0.0.0.0:0");
    let checked = ended(exposed.command("check"));
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(2), "{said}");
    assert!(said.contains("`admin.address`") && said.contains("speaks no TLS"), "{said}");
    let (setup, [viewer, _]) = operators(Setup::new("http://127.0.0.1:9"));
    let insecure = setup.set("admin.address", "0.0.0.0:0").with("[admin]\ninsecure = true\n");
    let checked = ended(insecure.command("check"));
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("lets the keys of operators cross the network in the clear"), "{said}");
    let gateway = insecure.start();
    let answer = Client::connect(gateway.admin).call(&viewer, "GET", "/admin/v1/status", "");
    assert_eq!(answer.status, 200);
}

/// A reload cannot bring operators to a listener that was started for nobody.
#[test]
fn a_reload_brings_no_operator_to_a_listener_in_the_clear() {
    let exposed = Setup::new("http://127.0.0.1:9").set("admin.address", "0.0.0.0:0");
    let gateway = exposed.start();
    let authority = Authority::new("servers");
    let server = authority.server();
    for (name, text) in [("admin.pem", &server.pem), ("admin-key.pem", &server.key)] {
        fs::write(gateway.folder.path().join(name), text).unwrap();
    }
    let key = caller::generate_for_operator().unwrap();
    let section = format!("[operators.ada]\nkeys = [{}]\n", slot(key.expose()));
    let tls = "[admin.tls]\ncertificate = \"admin.pem\"\nkey = \"admin-key.pem\"\n";
    gateway.reload(&gateway.configuration().with(&section).with(tls));
    gateway.until_logged("speaks no TLS");
    assert!(gateway.admin("/readyz").json()["config"]["reload_error"].is_string());
    let answer = Client::connect(gateway.admin).call(key.expose(), "GET", "/admin/v1/status", "");
    answer.assert_envelope(403, "forbidden");
}

/// A gateway whose admin listener speaks TLS, with an operator by certificate.
pub(crate) fn over_tls() -> (Process, Authority, Authority, String) {
    let [servers, clients] = ["servers", "clients"].map(Authority::new);
    let (setup, [viewer, _]) = operators(Setup::new("http://127.0.0.1:9"));
    let server = servers.server();
    for (name, text) in
        [("admin.pem", &server.pem), ("admin-key.pem", &server.key), ("ca.pem", &clients.pem)]
    {
        fs::write(setup.folder.path().join(name), text).unwrap();
    }
    let gateway = setup
        .with(
            "[admin.tls]\ncertificate = \"admin.pem\"\nkey = \"admin-key.pem\"\n\
             client_ca = \"ca.pem\"\n\
             [operators.grace]\nrole = \"operator\"\n\
             certificates = [{ dns = \"grace.example.org\" }]\n",
        )
        .start();
    (gateway, servers, clients, viewer)
}

#[test]
fn over_tls_a_certificate_is_an_operator_and_a_cookie_stays_on_tls() {
    let (gateway, servers, clients, viewer) = over_tls();
    let name = |one: &mut CertificateParams, name: &str| {
        one.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())];
    };
    let grace = clients.issue(|one| name(one, "grace.example.org"));
    let stranger = clients.issue(|one| name(one, "mallory.example.org"));
    let ask = |identity, fields: &[(&str, &str)]| {
        let client = TlsClient::new(&servers, Some(identity));
        client.connect(gateway.admin).request("POST", "/admin/v1/reload", fields, WHY)
    };
    assert_eq!(ask(&grace, &[]).status, 200);
    ask(&stranger, &[]).assert_envelope(401, "invalid_token");
    // The page that a browser shows sends its user's certificate along.
    ask(&grace, &[("origin", "https://localhost")]).assert_envelope(401, "unauthenticated");
    // Who sends a key is whom the key names.
    ask(&grace, &[("token", &viewer)]).assert_envelope(403, "forbidden");

    let mut client = Client::over(handshake(gateway.admin, &servers, &["http/1.1"]).unwrap());
    let nobody = client.request("GET", "/admin/v1/status", &[], "");
    nobody.assert_envelope(401, "unauthenticated");
    let body = json!({ "key": viewer }).to_string();
    let begun = client.request("POST", "/admin/v1/session", &[], &body);
    let cookie = begun.header("set-cookie").to_owned();
    assert!(cookie.starts_with("__Host-") && cookie.contains("; Secure"), "{cookie}");
    let session = BrowserSession::of(&begun);
    assert_eq!(client.request("GET", "/admin/v1/status", &session.fields(), "").status, 200);
    let status = client.request("GET", "/admin/v1/status", &session.fields(), "").json();
    assert_eq!(status["certificates"][0]["listener"], "admin");
    assert!(status["certificates"][0]["ends"].is_string(), "{status}");
}

#[test]
fn a_certificate_of_the_admin_listener_is_read_again() {
    let (gateway, servers, _clients, viewer) = over_tls();
    let other = Authority::new("others");
    assert!(handshake(gateway.admin, &other, &["http/1.1"]).is_err());
    let server = other.server();
    for (name, text) in [("admin.pem", &server.pem), ("admin-key.pem", &server.key)] {
        fs::write(gateway.folder.path().join(name), text).unwrap();
    }
    gateway.reload(&fs::read_to_string(gateway.config_path()).unwrap());
    assert!(handshake(gateway.admin, &servers, &["http/1.1"]).is_err());
    let mut client = Client::over(handshake(gateway.admin, &other, &["http/1.1"]).unwrap());
    assert_eq!(client.call(&viewer, "GET", "/admin/v1/status", "").status, 200);
}

#[test]
fn a_certificate_of_an_operator_that_nobody_asks_for_is_an_error() {
    let setup = Setup::new("http://127.0.0.1:9")
        .with("[operators.grace]\ncertificates = [{ dns = \"grace.example.org\" }]\n");
    let checked = ended(setup.command("check"));
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.contains("`operators.grace.certificates` can never be seen"), "{said}");
}

#[test]
fn a_role_that_is_none_and_a_key_of_two_are_refused() {
    let key = caller::generate_for_operator().unwrap();
    let slot = slot(key.expose());
    for (section, part) in [
        (
            format!("[operators.ada]\nrole = \"admin\"\nkeys = [{slot}]\n"),
            "\"viewer\" or \"operator\"",
        ),
        (
            format!("[operators.ada]\nkeys = [{slot}]\n[operators.bob]\nkeys = [{slot}]\n"),
            "is that of `operators.ada.keys[0]`",
        ),
        (format!("[operators.ada]\nkeys = [{slot}, {slot}, {slot}]\n"), "more than two keys"),
        ("[admin]\nhosts = [\"http://a\"]\n".to_owned(), "`admin.hosts[0]`"),
        ("[admin]\nhosts = []\n".to_owned(), "`admin.hosts` is an empty list"),
    ] {
        let setup = Setup::new("http://127.0.0.1:9").with(&section);
        let checked = ended(setup.command("check"));
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert_eq!((checked.status.code(), said.contains(part)), (Some(2), true), "{said}");
    }
}

// Keys and the sandbox

#[test]
fn a_key_is_made_with_what_to_write_for_it() {
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(binary());
        command.args(["key", "new"]).args(arguments);
        ended(command)
    };
    let made = run(&["--operator", "ada", "--role", "operator", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("wbg_admin_"), "{made}");
    let section = made["toml"].as_str().unwrap();
    assert!(section.starts_with("[operators.ada]\nrole = \"operator\"\n"), "{section}");
    let gateway = Setup::new("http://127.0.0.1:9").with(section).start();
    let answer = Client::connect(gateway.admin).call(key, "GET", "/admin/v1/session", "");
    assert_eq!(answer.json()["operator"], "ada");
    for wrong in [
        &["--operator", "ada", "--test"][..],
        &["--role", "operator"],
        &["--operator", "ada", "--role", "admin"],
        &["--operator", "ada", "--profile", "backend"],
    ] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_sandbox_has_an_operator_whose_key_it_prints() {
    let gateway = Process::sandbox();
    let key = gateway.exported("WBG_ADMIN_KEY");
    let answer = Client::connect(gateway.admin).call(&key, "POST", "/admin/v1/reload", WHY);
    assert_eq!((answer.status, &answer.json()["result"]), (200, &"loaded".into()));
    let status = gateway.admin("/admin/v1/status").json();
    assert_eq!(status["config"]["file"], "sandbox.toml");
    let nobody = Client::connect(gateway.admin).request("GET", "/budgets", &[], "");
    nobody.assert_envelope(401, "unauthenticated");
    assert!(!gateway.stderr().contains(&key[22..]));
}
