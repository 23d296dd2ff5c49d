//! Answers that their callers do not take: what they hold, and how much of one caller they may.

use crate::shared_connections::taking_nothing;
use crate::support::{Reply, Service, ServiceMood, Setup, Upstream, answer, wait_until};

/// An answer of JSON of so many bytes.
fn text(length: usize) -> String {
    format!("\"{}\"", "x".repeat(length - 2))
}

/// How much more the process holds, in MiB, with a thousand such answers that nobody takes.
fn grown(setup: Setup, length: usize, asked: impl Fn() -> usize) -> usize {
    let gateway = setup.set("listen.workers", 1).start();
    assert_eq!(gateway.call("GET", "/v5/rooms/a", "").text().len(), length);
    let before = gateway.memory();
    let mut held = Vec::new();
    for many in 1..=10 {
        held.push(taking_nothing(&gateway, &gateway.key, "/v5/rooms/a", 100));
        wait_until("all are asked", || asked() > 100 * many);
    }
    wait_until("all are answered", || gateway.metric("wbg_upstream_in_flight") == 0.0);
    gateway.memory().saturating_sub(before)
}

#[test]
fn what_waits_holds_its_own_size() {
    let json = text(9_000);
    let upstream = Upstream::json("200 OK", &json);
    let over_http1 = grown(Setup::new(&upstream.url()), 9_000, || upstream.received().len());
    let service = Service::start(ServiceMood::default(), move |_| Reply::Json(json.clone()));
    let over_http2 = grown(service.setup(), 9_000, || service.requests());
    eprintln!("1000 answers of 9 KB: {over_http1} MiB over HTTP/1.1, {over_http2} over HTTP/2");
    // They are 9 MiB, and their streams take some; with a lent buffer each they were 128.
    assert!(over_http1 < 40 && over_http2 < 40, "{over_http1} {over_http2}");
}

#[test]
fn what_a_caller_does_not_take_is_bounded_and_gives_way_to_what_it_asks_for() {
    let bytes = answer("200 OK", &text(60_000));
    let upstream = Upstream::answering(bytes);
    let mut setup = Setup::new(&upstream.url()).set("listen.workers", 1);
    let other = setup.key_of("other", "backend");
    let gateway = setup.start();
    let before = gateway.memory();
    let mut held = Vec::new();
    // 32 MiB are 560 of them.
    for many in 1..=6 {
        held.push(taking_nothing(&gateway, &gateway.key, "/v5/rooms/a", 100));
        wait_until("they are asked", || upstream.received().len() >= (100 * many).min(559));
    }
    for _ in 0..10 {
        held.push(taking_nothing(&gateway, &gateway.key, "/v5/rooms/a", 100));
    }
    let taken = gateway.client().request("GET", "/v5/rooms/a", &[("token", &other)], "");
    assert_eq!(taken.status, 200);
    wait_until("it is served", || gateway.call("GET", "/v5/rooms/a", "").status == 200);
    let grown = gateway.memory().saturating_sub(before);
    eprintln!("1600 answers of 60 KB: {grown} MiB");
    assert!(grown < 110, "{grown} MiB");
}

#[test]
fn long_answers_that_a_caller_does_not_take_give_way_to_what_it_asks_for() {
    let service = Service::start(ServiceMood::default(), |path| {
        if path.contains("long") { Reply::Long(300_000) } else { Reply::Json("{}".to_owned()) }
    });
    let gateway = service.setup().set("listen.workers", 1).start();
    let mut held = Vec::new();
    // Each holds 80 KiB: after the fourth the caller has as much to take as it may.
    for many in 1..=8 {
        held.push(taking_nothing(&gateway, &gateway.key, "/v5/rooms/long", 100));
        wait_until("they are asked", || service.requests() >= 100 * many.min(4));
        wait_until("it is served", || gateway.call("GET", "/v5/rooms/a", "").status == 200);
    }
}

#[test]
fn long_answers_that_one_caller_does_not_take_give_way_to_others_who_ask() {
    let service = Service::start(ServiceMood::default(), |path| {
        if path.contains("long") { Reply::Long(300_000) } else { Reply::Json("{}".to_owned()) }
    });
    let bound = "[upstream]\nmax_in_flight = 20\n";
    let setup = service.setup().with(bound);
    let mut setup = setup.set("listen.workers", 1);
    let hog = setup.key_of("hog", "backend");
    let gateway = setup.start();
    let _held = taking_nothing(&gateway, &hog, "/v5/rooms/long", 30);
    wait_until("all are taken", || service.requests() >= 19);
    // It may have what nobody else waits for.
    let asked =
        |key: &str| gateway.client().request("GET", "/v5/rooms/a", &[("token", key)], "").status;
    let mut others = 0;
    wait_until("others are served", || {
        others += usize::from(asked(&gateway.key) == 200);
        others == 10
    });
    assert_eq!(asked(&gateway.key), 200);
    // What it does not take is not in its own way either.
    let _more = taking_nothing(&gateway, &hog, "/v5/rooms/long", 30);
    wait_until("its own are served", || asked(&hog) == 200);
}
