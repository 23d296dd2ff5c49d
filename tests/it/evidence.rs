//! What a failure says about the service, and what it does not: of whom it comes, what was lacking,
//! whether anyone waits for it still, and whether the rest of an answer came.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Gate, Process, Setup, Upstream, answer, scenario_delay, wait_until};

const SHOT: &str = "{\"width\":1,\"height\":1,\"path\":\"/init\"}";

/// One worker, so that what each counts for itself can be told exactly.
fn setup(upstream: &Upstream) -> Setup {
    Setup::new(&upstream.url()).set("listen.workers", 1)
}

fn breakers(gateway: &Process) -> String {
    gateway.admin("/readyz").json()["breakers"].to_string()
}

/// What callers got, by code, and how many did.
type Counts = BTreeMap<String, usize>;

/// So many callers at a time, for so long.
fn load(gateway: &Process, callers: usize, time: Duration) -> Counts {
    let over = Instant::now() + time;
    let request = format!("GET /v5/rooms/a HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n\r\n", gateway.key);
    let one = || {
        let (mut client, mut codes) = (gateway.client(), Vec::new());
        while Instant::now() < over {
            client.send(request.as_bytes());
            codes.push(match client.answer("GET") {
                Some(answered) if answered.status == 200 => "ok".to_owned(),
                Some(answered) => answered.member("code"),
                None => {
                    client = gateway.client();
                    "broken".to_owned()
                }
            });
        }
        codes
    };
    let mut counts = Counts::new();
    thread::scope(|scope| {
        let callers: Vec<_> = (0..callers).map(|_| scope.spawn(one)).collect();
        for code in callers.into_iter().flat_map(|caller| caller.join().unwrap()) {
            *counts.entry(code).or_default() += 1;
        }
    });
    counts
}

/// With all that is quick a sample, 404s of 2 s take the bound from 64 to 4, and 95 % of the honest
/// requests after them are refused.
fn are_no_samples(failure: String, code: &str) {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let upstream = Upstream::scripted(move |_, stream| {
        if failing.load(Ordering::SeqCst) {
            return stream.write_all(failure.as_bytes()).is_ok() && !failure.ends_with(' ');
        }
        scenario_delay(Duration::from_millis(60));
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    });
    let adaptive = "[upstream]\nadaptive = true\nmin_in_flight = 4\nmax_in_flight = 16\n";
    let gateway =
        setup(&upstream).with(adaptive).with("[upstream.breaker]\nenabled = false\n").start();
    load(&gateway, 8, Duration::from_secs(1));
    fails.store(true, Ordering::SeqCst);
    let failed = load(&gateway, 4, Duration::from_secs(1));
    assert!(failed.get(code).is_some_and(|count| *count > 10), "{code}: {failed:?}");
    fails.store(false, Ordering::SeqCst);
    let after = load(&gateway, 8, Duration::from_secs(2));
    assert!(after.keys().eq(["ok"]), "{code}: {after:?}");
    let limit = gateway.metric("wbg_upstream_in_flight_limit");
    assert!(limit > 12.0, "{code}: {limit}");
}

#[test]
fn what_is_not_found_quickly_is_no_sample_of_how_fast_the_service_is() {
    are_no_samples(answer("404 None", "{\"message\":\"no\"}"), "not_found");
}

#[test]
fn what_is_refused_quickly_is_none() {
    are_no_samples(answer("400 Bad", "{\"message\":\"no\"}"), "upstream_refused");
}

#[test]
fn what_fails_quickly_is_none() {
    are_no_samples(answer("500 Oops", "{\"message\":\"no\"}"), "upstream_error");
}

#[test]
fn what_breaks_off_quickly_is_none() {
    let half = format!("HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n[{}", " ".repeat(150_000));
    are_no_samples(half, "broken");
}

/// The limit of open files of a process that runs.
fn limit_files(gateway: &Process, most: usize) {
    let (limit, id) = (format!("--nofile={most}:"), gateway.id().to_string());
    assert!(Command::new("prlimit").args(["--pid", &id, &limit]).status().unwrap().success());
}

#[test]
fn a_gateway_without_descriptors_for_the_service_says_nothing_about_it() {
    let upstream = Upstream::scripted(|_, stream| {
        _ = stream.write_all(answer("200 OK", "{}").as_bytes());
        false
    });
    let gateway = setup(&upstream).with("[upstream.breaker]\nfailures = 3\n").start();
    let mut client = gateway.client();
    let mut call = || client.request("GET", "/v5/rooms/a", &[("token", &gateway.key)], "");
    assert_eq!(call().status, 200);
    let before = upstream.received().len();
    // What is open may stay open.
    limit_files(&gateway, 3);
    for _ in 0..20 {
        let refused = call();
        refused.assert_envelope(500, "overloaded");
        assert_eq!(refused.header("retry-after"), "1");
        let line = gateway.access_line(refused.header("x-request-id"));
        assert!(line["detail"].as_str().unwrap().contains("Too many open files"), "{line}");
    }
    limit_files(&gateway, 1_000);
    assert_eq!(call().status, 200, "at once: no breaker has opened");
    assert_eq!(breakers(&gateway), "{}");
    assert_eq!(upstream.received().len(), before + 1);
}

#[test]
fn ten_failures_in_a_row_that_say_what_they_are_open_nothing() {
    let upstream = Upstream::scripted(|request, stream| {
        let told = if request.line.contains("/screenshots") {
            answer("500 Oops", "{\"message\":\"the scene cannot be drawn\"}")
        } else {
            answer("200 OK", "{}")
        };
        stream.write_all(told.as_bytes()).is_ok()
    });
    let gateway = setup(&upstream).start();
    // Nobody else is answered in between.
    for _ in 0..10 {
        let shot = gateway.call("POST", "/v5/rooms/a/screenshots", SHOT);
        shot.assert_envelope(500, "upstream_error");
    }
    assert_eq!(breakers(&gateway), "{}");
    assert_eq!(gateway.call("GET", "/v5/rooms/a", "").status, 200);
}

/// Nothing but screenshots comes for a second after the end of `open`, so one is a probe.
#[test]
fn a_probe_that_takes_long_holds_up_no_one() {
    let (phase, gate) = (Arc::new(AtomicU8::new(0)), Gate::default());
    let (now, held) = (Arc::clone(&phase), gate.clone());
    let upstream = Upstream::scripted(move |request, stream| {
        if now.load(Ordering::SeqCst) == 0 {
            return stream.write_all(answer("500 Oops", "{}").as_bytes()).is_ok();
        }
        if request.line.contains("/screenshots") {
            held.wait();
        }
        stream.write_all(answer("200 OK", "{\"url\":\"u\"}").as_bytes()).is_ok()
    });
    let breaker = "[upstream.breaker]\nfailures = 3\nopen = \"100ms\"\n";
    let gateway = setup(&upstream).with(breaker).start();
    let read = || gateway.call("GET", "/v5/rooms/a", "");
    (0..3).for_each(|_| read().assert_envelope(500, "upstream_error"));
    phase.store(1, Ordering::SeqCst);
    let asked = upstream.received().len();
    thread::scope(|scope| {
        let shot = scope.spawn(|| {
            let mut answered = None;
            wait_until("it is asked", || {
                let shot = gateway.call("POST", "/v5/rooms/a/screenshots", SHOT);
                let refused = shot.member("code") == "upstream_unavailable";
                answered = Some(shot);
                !refused
            });
            answered.unwrap()
        });
        wait_until("the screenshot is a probe", || upstream.received().len() > asked);
        let begun = Instant::now();
        assert_eq!(read().status, 200, "others find out beside it");
        (0..20).for_each(|_| assert_eq!(read().status, 200));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        gate.open();
        assert_eq!(shot.join().unwrap().status, 201);
    });
}

/// How many callers were seen to go.
fn gone(gateway: &Process) -> usize {
    gateway.access_lines().iter().filter(|line| line["code"] == "caller_gone").count()
}

/// Sends a create and goes away for good once the service has it.
fn create_and_go(gateway: &Process, upstream: &Upstream, go: &Sender<()>) {
    let before = upstream.received().len();
    let mut client = gateway.client();
    let head = format!("POST /v5/rooms HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n", gateway.key);
    client.send(format!("{head}content-length: 2\r\n\r\n{{}}").as_bytes());
    wait_until("it is at the service", || upstream.received().len() > before);
    let others = gone(gateway);
    client.reset();
    wait_until("the caller has gone", || gone(gateway) > others);
    go.send(()).unwrap();
}

#[test]
fn what_comes_of_a_request_whose_caller_has_gone_is_evidence_as_any_other() {
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let (go, held) = channel();
    let held = Mutex::new(held);
    let upstream = Upstream::scripted(move |_, stream| {
        held.lock().unwrap().recv().unwrap();
        if failing.load(Ordering::SeqCst) {
            return false;
        }
        stream.write_all(answer("201 Created", "{}").as_bytes()).is_ok()
    });
    let breaker = "[upstream.breaker]\nfailures = 3\nopen = \"1ms\"\nmax_open = \"1ms\"\n";
    let gateway = setup(&upstream).with(breaker).start();
    (0..3).for_each(|_| create_and_go(&gateway, &upstream, &go));
    wait_until("its breaker opens", || breakers(&gateway) != "{}");
    // And so is a success: after a second without anything quicker, such a request is a probe.
    fails.store(false, Ordering::SeqCst);
    scenario_delay(Duration::from_millis(1_100));
    create_and_go(&gateway, &upstream, &go);
    wait_until("it works again", || breakers(&gateway) == "{}");
    assert_eq!(upstream.received().len(), 4);
}

/// An upstream that answers at length, and breaks off in the middle while it is told to.
fn breaking(breaks: &Arc<AtomicBool>) -> Upstream {
    let breaks = Arc::clone(breaks);
    Upstream::scripted(move |_, stream| {
        let whole = answer("200 OK", &format!("[\"{}\"]", "x".repeat(300_000)));
        if breaks.load(Ordering::SeqCst) {
            _ = stream.write_all(&whole.as_bytes()[..150_000]);
            return false;
        }
        stream.write_all(whole.as_bytes()).is_ok()
    })
}

/// Reads an answer to its end, and tells how many bytes came.
fn read_to_the_end(gateway: &Process, method: &str, body: &str) -> usize {
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    let head = format!("{method} /v5/rooms HTTP/1.1\r\nhost: g\r\nconnection: close\r\n");
    let head = format!("{head}token: {}\r\ncontent-length: {}\r\n\r\n", gateway.key, body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    answer.len()
}

/// How much is used of the one budget.
fn used(gateway: &Process) -> u64 {
    let page = gateway.admin("/budgets").json();
    page["counters"].as_array().unwrap().iter().map(|one| one["used"].as_u64().unwrap()).sum()
}

#[test]
fn half_of_a_long_answer_to_a_read_is_given_back_to_its_budget() {
    let breaks = Arc::new(AtomicBool::new(true));
    let upstream = breaking(&breaks);
    let budget = "[profiles.backend]\n\
        budgets = [{ of = \"requests\", most = 10, per = \"month\" }]\n";
    let gateway =
        setup(&upstream).with(budget).with("[budgets]\nfile = \"./budgets.db\"\n").start();
    for _ in 0..5 {
        let length = read_to_the_end(&gateway, "GET", "");
        assert!((65_000..200_000).contains(&length), "{length}");
    }
    wait_until("all is given back", || used(&gateway) == 0);
    // What has an effect may have had it, and a whole answer is paid for.
    read_to_the_end(&gateway, "POST", "{}");
    wait_until("one is taken", || used(&gateway) == 1);
    breaks.store(false, Ordering::SeqCst);
    assert!(read_to_the_end(&gateway, "GET", "") > 300_000);
    wait_until("two are taken", || used(&gateway) == 2);
    let refunded = "wbg_budget_refunds_total{profile=\"backend\",of=\"requests\"}";
    gateway.until_metric(refunded, 5.0);
}
