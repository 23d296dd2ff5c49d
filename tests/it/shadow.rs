//! `profiles.NAME.shadow`: one profile decides, and what another would have decided is recorded.

use serde_json::Value;

use crate::support::{Answer, Client, Process, Setup, Upstream};

/// What a line has of a shadow: `would`, `would_rule` and `would_granted`.
type Would = [Option<&'static str>; 3];

const BAN: &str = r#"{"isBan":false}"#;
const MINT: &str = "/v5/tokens/rooms/a";

/// `lessons` under the profile `backend`, beside which the profile `narrow` is asked.
fn setup(upstream: &Upstream, narrow: &str) -> Setup {
    Setup::new(&upstream.url())
        .with(&format!("[profiles.narrow]\nproject = \"classroom\"\n{narrow}\n"))
        .set("profiles.backend.shadow", "narrow")
}

/// What the access line of a request has of the shadow.
fn would(gateway: &Process, answer: &Answer) -> [Option<String>; 3] {
    let line = gateway.access_line(answer.header("x-request-id"));
    ["would", "would_rule", "would_granted"].map(|name| line[name].as_str().map(str::to_owned))
}

fn count(gateway: &Process, result: &str) -> f64 {
    let labels = format!("{{profile=\"backend\",result=\"{result}\"}}");
    gateway.metric(&format!("wbg_shadow_decisions_total{labels}"))
}

#[test]
fn the_profile_decides_and_what_its_shadow_would_have_decided_is_recorded_and_counted() {
    let upstream = Upstream::json("200 OK", "{}");
    let narrow = "allow = [\"rooms.*\", \"tokens.*\"]\nrooms = [\"a\"]\nrole = \"writer\"\n\
                  max_lifespan = \"1h\"";
    let gateway = setup(&upstream, narrow).take_out("profiles.backend.allow", "scenes.*").start();
    let day = r#"{"role":"reader","lifespan":86400000}"#;
    let allow = Some("allow");
    let cases: [(&str, &str, &str, u16, Would); 8] = [
        ("GET", "/v5/rooms/a", "", 200, [allow, None, None]),
        ("GET", "/v5/rooms/b", "", 200, [Some("not_found"), None, None]),
        ("GET", "/v5/rooms", "", 200, [Some("forbidden"), Some("profiles.narrow.allow"), None]),
        ("PATCH", "/v5/rooms/a", BAN, 201, [Some("forbidden"), Some("profiles.narrow.role"), None]),
        ("POST", MINT, day, 201, [allow, None, Some("role=reader; lifespan=3600000")]),
        (
            "POST",
            MINT,
            r#"{"role":"admin","lifespan":1}"#,
            201,
            [Some("forbidden"), Some("profiles.narrow.role"), None],
        ),
        // Both refuse it.
        (
            "GET",
            "/v5/rooms/a/scenes",
            "",
            403,
            [Some("forbidden"), Some("profiles.narrow.allow"), None],
        ),
        // Wrong as it is, no role was asked for.
        ("POST", MINT, r#"{"role":1}"#, 400, [Some("cannot tell"), None, None]),
    ];
    for (method, path, body, status, expected) in cases {
        let answer = gateway.call(method, path, body);
        assert_eq!(answer.status, status, "{method} {path} {body}: {}", answer.text());
        let found = would(&gateway, &answer);
        assert_eq!(found.each_ref().map(Option::as_deref), expected, "{method} {path} {body}");
    }
    let results = ["same", "gained", "lost", "changed", "cannot tell"];
    assert_eq!(results.map(|result| count(&gateway, result)), [2.0, 0.0, 4.0, 1.0, 1.0]);
}

#[test]
fn nothing_that_a_profile_refuses_passes_for_its_shadow() {
    let upstream = Upstream::json("200 OK", "{}");
    let wide =
        "allow = [\"rooms.*\", \"scenes.*\", \"tokens.*\"]\nrooms = \"any\"\nrole = \"admin\"";
    let mut setup = Setup::new(&upstream.url());
    let key =
        setup.caller("student", "allow = [\"rooms.get\"]\nrooms = [\"a\"]\nshadow = \"wide\"");
    let setup = setup.with(&format!("[profiles.wide]\nproject = \"classroom\"\n{wide}\n"));
    let gateway = setup.start();
    let mut client = Client::connect(gateway.address);
    for (method, path, body, expected) in [
        ("GET", "/v5/rooms/b", "", "allow"),
        ("PATCH", "/v5/rooms/a", BAN, "allow"),
        ("GET", "/v5/rooms/a/scenes", "", "allow"),
        // Its body was not read.
        ("POST", MINT, r#"{"role":"admin","lifespan":1}"#, "cannot tell"),
        ("GET", "/v5/projector/tasks", "", "forbidden"),
    ] {
        let answer = client.call(&key, method, path, body);
        assert!([403, 404].contains(&answer.status), "{method} {path}: {}", answer.status);
        let [would, ..] = would(&gateway, &answer);
        assert_eq!(would.as_deref(), Some(expected), "{method} {path}");
    }
    assert_eq!(upstream.received().len(), 0);
    let gained = "wbg_shadow_decisions_total{profile=\"student\",result=\"gained\"}";
    gateway.until_metric(gained, 3.0);
}

#[test]
fn a_shadow_takes_no_limit_and_cannot_tell_what_it_would_have_said() {
    let upstream = Upstream::json("200 OK", "{}");
    let rooms = "allow = [\"rooms.get\"]\nrooms = \"any\"\nrole = \"writer\"\n";
    let one = "limit = { rate = \"1/d\" }";
    // The limits of the shadow and of the profile; then what is recorded of the first request, of the
    // one after it, and of one that the shadow refuses.
    for (its, own, first, second) in [
        (one, "", "cannot tell", "cannot tell"),
        ("shared_limit = { rate = \"1/d\" }", "", "cannot tell", "cannot tell"),
        ("", one, "allow", "allow"),
        (one, one, "allow", "cannot tell"),
        ("limit = { rate = \"2/d\" }", one, "cannot tell", "cannot tell"),
        (
            "budgets = [{ of = \"requests\", most = 1, per = \"day\" }]",
            "",
            "cannot tell",
            "cannot tell",
        ),
    ] {
        let mut setup = setup(&upstream, &format!("{rooms}{its}"));
        if its.contains("budgets") {
            setup = setup.with("[budgets]\nfile = \"./budgets.db\"\n");
        }
        if !own.is_empty() {
            setup = setup.with(&format!("[profiles.backend]\n{own}\n"));
        }
        let gateway = setup.start();
        let [one, two, other] =
            ["/v5/rooms/a", "/v5/rooms/a", "/v5/rooms"].map(|path| gateway.call("GET", path, ""));
        let statuses = [one.status, two.status, other.status];
        let refused =
            [200, if own.is_empty() { 200 } else { 403 }, if own.is_empty() { 200 } else { 403 }];
        assert_eq!(statuses, refused, "{its} beside {own}");
        let found = [one, two, other].map(|answer| would(&gateway, &answer)[0].clone().unwrap());
        // What it refuses by its rules it refuses, whatever its limits say.
        assert_eq!(found, [first, second, "forbidden"], "{its} beside {own}");
    }
}

#[test]
fn a_line_without_a_shadow_has_nothing_of_it_and_log_decision_adds_what_was_asked() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url()).set("log.decision", true).start();
    let body = r#"{"role":"writer","lifespan":60000}"#;
    let minted = gateway.call("POST", MINT, body);
    let line = gateway.access_line(minted.header("x-request-id"));
    let asked =
        ["profile", "room", "asked_role", "asked_lifespan_ms"].map(|name| line[name].clone());
    assert_eq!(asked, ["backend".into(), "a".into(), "writer".into(), Value::from(60_000)]);
    assert!(line["would"].is_null(), "{line}");
    // It holds no token, neither the caller's nor the one that it got.
    let token: String = serde_json::from_str(&minted.text()).unwrap();
    assert!(!gateway.stdout().contains(&token) && !gateway.stdout().contains(&gateway.key));
    let listed = gateway.call("GET", "/v5/rooms", "");
    let line = gateway.access_line(listed.header("x-request-id"));
    assert_eq!((line["profile"].as_str(), line["room"].as_str()), (Some("backend"), None));
    gateway.reload(&gateway.configuration().set("log.decision", false));
    crate::support::wait_until("it has reloaded", || gateway.reloads() == 1);
    let answer = gateway.call("GET", "/v5/rooms/a", "");
    let line = gateway.access_line(answer.header("x-request-id"));
    assert!(line["profile"].is_null() && line["room"].is_null(), "{line}");
}
