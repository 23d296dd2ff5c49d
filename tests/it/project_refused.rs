//! A project whose tokens the whiteboard service does not take, as one with a wrong SK.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Process, Setup, Upstream, answer};

/// How the service is at the moment: whether it takes tokens.
fn gateway() -> (Process, Arc<AtomicBool>) {
    let takes = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&takes);
    let upstream = Upstream::scripted(move |_, stream| {
        let told = if seen.load(Ordering::SeqCst) {
            answer("200 OK", "{}")
        } else {
            answer("401 Unauthorized", r#"{"message":"invalid signature of token"}"#)
        };
        stream.write_all(told.as_bytes()).is_ok()
    });
    (Setup::new(&upstream.url()).start(), takes)
}

const METRIC: &str = "wbg_project_refused{project=\"classroom\"}";

fn since(gateway: &Process) -> serde_json::Value {
    let ready = gateway.admin("/readyz");
    assert_eq!(ready.status, 200, "a restart would not help: {}", ready.text());
    ready.json()["projects"]["classroom"]["refused_since"].clone()
}

fn warnings(gateway: &Process) -> usize {
    gateway.stderr().matches("the service takes no token of this project").count()
}

#[test]
fn one_warning_a_time_and_a_metric_say_that_the_service_takes_no_token() {
    let (gateway, takes) = gateway();
    assert!(since(&gateway).is_null());
    assert!(gateway.metric(METRIC).abs() < f64::EPSILON);
    for _ in 0..3 {
        gateway.call("GET", "/v5/rooms", "").assert_envelope(500, "upstream_credential");
    }
    let first = since(&gateway);
    assert!(first.as_str().unwrap().ends_with('Z'), "{first}");
    gateway.until_metric(METRIC, 1.0);
    let log = gateway.until_logged("the service takes no token of this project");
    assert_eq!(warnings(&gateway), 1, "{log}");
    assert!(log.contains("\"project\":\"classroom\""), "{log}");
    assert!(log.contains("invalid signature of token"), "{log}");
    gateway.call("GET", "/v5/rooms", "").assert_envelope(500, "upstream_credential");
    assert_eq!(since(&gateway), first, "it says since when");
    takes.store(true, Ordering::SeqCst);
    assert_eq!(gateway.call("GET", "/v5/rooms", "").status, 200);
    assert!(since(&gateway).is_null());
    assert!(gateway.metric(METRIC).abs() < f64::EPSILON);
}
