//! What the admin API says of the last hour: minutes, failures by whose doing they are, callers by
//! use; and what `serve` says of it at a terminal.

use std::time::Duration;

use serde_json::Value;

use crate::operators::operators;
use crate::support::{
    Client, Process, Setup, Terminal, Upstream, binary, slot, slot_until, wait_until, wait_within,
};

/// A gateway, and the key of somebody who may look.
struct Watched {
    gateway: Process,
    viewer: String,
    _upstream: Upstream,
}

impl Watched {
    fn start(status: &str) -> Self {
        let upstream = Upstream::json(status, "{\"uuid\":\"a\"}");
        let (setup, [viewer, _]) = operators(Setup::new(&upstream.url()));
        let old = whiteboard_gateway::caller::generate(true).unwrap().expose().to_owned();
        let setup = setup.with(&format!(
            "[callers.idle]\nprofile = \"backend\"\nkeys = [{}]\n",
            slot_until(&old, "2031-01-01T00:00:00Z")
        ));
        Self { gateway: setup.start(), viewer, _upstream: upstream }
    }

    fn page(&self, path: &str) -> Value {
        let path = format!("/admin/v1/{path}");
        let answer = Client::connect(self.gateway.admin).call(&self.viewer, "GET", &path, "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The minutes added up.
    fn sum(&self, of: &str) -> u64 {
        let traffic = self.page("traffic");
        let minutes = traffic["minutes"].as_array().unwrap();
        minutes.iter().map(|minute| minute.pointer(of).and_then(Value::as_u64).unwrap_or(0)).sum()
    }
}

#[test]
fn a_request_is_in_the_minute_within_two_seconds() {
    let watched = Watched::start("200 OK");
    let key = &watched.gateway.key;
    for _ in 0..3 {
        assert_eq!(watched.gateway.client().call(key, "GET", "/v5/rooms/a", "").status, 200);
    }
    assert_eq!(watched.gateway.client().call(key, "GET", "/v5/nowhere", "").status, 404);
    wait_within(Duration::from_secs(2), "they are seen", || watched.sum("/requests") == 4);
    assert_eq!((watched.sum("/answered"), watched.sum("/refused")), (3, 1));
    assert_eq!(watched.sum("/failures/not_found"), 1);
    wait_within(Duration::from_secs(2), "it was in flight", || watched.sum("/in_flight") >= 1);
    let traffic = watched.page("traffic");
    let now = traffic["minutes"].as_array().unwrap().last().unwrap();
    for part in ["whole", "service", "gateway"] {
        assert!(now[part]["p99_ms"].as_f64() > Some(0.0), "{traffic}");
    }
}

#[test]
fn failures_are_told_by_whose_doing_they_are_and_hold_no_credential() {
    let watched = Watched::start("500 Internal Server Error");
    let key = &watched.gateway.key;
    let call = |key: &str, path: &str| watched.gateway.client().call(key, "GET", path, "");
    let refused = call(key, "/v5/nowhere");
    let failed = call(key, "/v5/rooms/a");
    assert_eq!(failed.status, 500);
    let stranger = format!("{}x", &key[..key.len() - 1]);
    assert_eq!(call(&stranger, "/v5/rooms/a").status, 401);
    let page = watched.page("failures");
    let first = |kind: &str| page[kind][0].clone();
    assert_eq!(first("caller")["request_id"], refused.json()["requestId"]);
    assert_eq!(first("caller")["code"], "not_found");
    assert_eq!(first("caller")["caller"], "lessons");
    assert_eq!(first("service")["request_id"], failed.json()["requestId"]);
    assert_eq!(first("service")["operation"], "rooms.get");
    assert_eq!(first("service")["status"], 500);
    assert_eq!(first("unidentified")["code"], "invalid_token");
    assert_eq!(page["gateway"], serde_json::json!([]));
    assert!(!page.to_string().contains(&key[25..60]), "{page}");
}

#[test]
fn strangers_do_not_push_out_what_callers_did() {
    let watched = Watched::start("200 OK");
    let key = &watched.gateway.key;
    assert_eq!(watched.gateway.client().call(key, "GET", "/v5/nowhere", "").status, 404);
    let mut stranger = watched.gateway.client();
    for _ in 0..120 {
        assert_eq!(stranger.request("GET", "/v5/rooms/a", &[], "").status, 401);
    }
    let page = watched.page("failures");
    assert_eq!(page["unidentified"].as_array().unwrap().len(), 50);
    assert_eq!(page["caller"].as_array().unwrap().len(), 1, "{page}");
}

#[test]
fn callers_are_listed_by_use_with_their_keys_and_their_ends() {
    let watched = Watched::start("200 OK");
    let key = &watched.gateway.key;
    for _ in 0..2 {
        watched.gateway.client().call(key, "GET", "/v5/rooms/a", "");
    }
    let callers = || watched.page("callers")["callers"].as_array().unwrap().clone();
    wait_within(Duration::from_secs(2), "they are counted", || callers()[0]["requests"] == 2);
    let callers = callers();
    assert_eq!(
        (&callers[0]["name"], &callers[0]["credential"]),
        (&"lessons".into(), &"key".into())
    );
    assert_eq!(callers[0]["keys"][0]["ends"], Value::Null);
    assert!(slot(key).contains(callers[0]["keys"][0]["id"].as_str().unwrap()));
    let idle = &callers[1];
    assert_eq!((&idle["name"], &idle["requests"]), (&"idle".into(), &0.into()));
    assert_eq!(idle["keys"][0]["ends"], "2031-01-01T00:00:00Z");
}

#[test]
fn without_an_operator_nobody_sees_them() {
    let gateway = Setup::new("http://127.0.0.1:1").start();
    for path in ["traffic", "failures", "callers"] {
        assert_eq!(gateway.admin(&format!("/admin/v1/{path}")).status, 403);
    }
    let watched = Watched::start("200 OK");
    for path in ["traffic", "failures", "callers"] {
        assert_eq!(watched.gateway.admin(&format!("/admin/v1/{path}")).status, 401);
        let caller = Client::connect(watched.gateway.admin);
        let answer = { caller }.call(&watched.gateway.key, "GET", &format!("/admin/v1/{path}"), "");
        assert_eq!(answer.status, 401, "a caller's key is none here: {}", answer.text());
    }
}

#[test]
fn a_terminal_is_told_of_each_minute_and_sees_statuses_in_colours() {
    let folder = tempfile::tempdir().unwrap();
    let serve = format!("{} serve --sandbox", binary());
    let address = "WBG__LISTEN__ADDRESS=127.0.0.1:0 WBG__ADMIN__ADDRESS=127.0.0.1:0";
    let seen = |variables: &str| {
        let terminal =
            Terminal::running(&format!("{address} {variables} exec {serve}"), folder.path());
        wait_until("it listens", || terminal.screen().contains("export KEY="));
        let exported = |name: &str| {
            let screen = terminal.screen();
            let (_, rest) = screen.split_once(&format!("export {name}=")).unwrap();
            rest.split_whitespace().next().unwrap().to_owned()
        };
        let gateway = exported("GATEWAY").replace("http://", "").parse().unwrap();
        assert_eq!(
            Client::connect(gateway).call(&exported("KEY"), "GET", "/v5/rooms", "").status,
            200
        );
        wait_until("the line is shown", || terminal.screen().contains("rooms.list"));
        terminal
    };
    let plain = seen("NO_COLOR=1");
    assert!(plain.screen().contains(" rooms.list 200 ok"), "{}", plain.screen());
    assert!(!plain.screen().contains('\u{1b}'), "{}", plain.screen());
    let colored = seen("NO_COLOR=");
    assert!(
        colored.screen().contains(" rooms.list \u{1b}[32m200\u{1b}[0m ok"),
        "{}",
        colored.screen()
    );
    // A minute ends with that of the clock.
    wait_within(Duration::from_secs(70), "the minute is told", || {
        colored.screen().contains("1 request, p99 ")
    });
}
