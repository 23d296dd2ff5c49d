//! Connections of HTTP/2 to the service, which the requests of a worker share: how many are made,
//! when one is joined by another, and what one caller can take of them.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::frames::{END_STREAM, PREFACE, SETTINGS};
use crate::support::{
    Frames, Process, Reply, Service, ServiceMood, Setup, scenario_delay, wait_until,
};

/// By the path of the request.
fn reply(path: &str) -> Reply {
    if path.contains("long") {
        Reply::Long(300_000)
    } else if path.contains("never") {
        Reply::Never
    } else if path.contains("slow") {
        Reply::After(Duration::from_millis(300))
    } else {
        Reply::Json("{}".to_owned())
    }
}

fn one_worker(setup: Setup) -> Setup {
    setup.set("listen.workers", 1)
}

/// So many requests at once, and their codes; empty for a success.
fn at_once(gateway: &Process, count: usize, path: &str) -> Vec<String> {
    thread::scope(|scope| {
        let one = || {
            let answer = gateway.call("GET", path, "");
            if answer.status == 200 { String::new() } else { answer.member("code") }
        };
        let asked: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// A connection of HTTP/2 that asks for so many answers and takes nothing of any.
pub(crate) fn taking_nothing(gateway: &Process, key: &str, path: &str, count: u32) -> Frames {
    let mut frames = Frames::bare(gateway.address);
    frames.write(PREFACE);
    // A window of nothing (RFC 9113 §6.5.2).
    frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let authority = gateway.address.to_string();
    for number in 0..count {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", &authority),
            ("token", key),
        ];
        frames.head(2 * number + 1, END_STREAM, &fields);
    }
    frames
}

#[test]
fn a_connection_that_is_being_made_is_made_once_for_all_who_wait() {
    let mood = ServiceMood { handshake: Duration::from_millis(300), ..ServiceMood::default() };
    let service = Service::start(mood, reply);
    let gateway = one_worker(service.setup()).start();
    assert_eq!(at_once(&gateway, 60, "/v5/rooms/a"), vec![String::new(); 60]);
    assert_eq!(service.handshakes(), 1);
    // After a reload that changes the upstream there is none again.
    gateway.reload(&gateway.configuration().set("upstream.max_in_flight", 500));
    assert_eq!(at_once(&gateway, 60, "/v5/rooms/a"), vec![String::new(); 60]);
    assert_eq!(service.handshakes(), 2);
}

#[test]
fn where_the_service_speaks_http_1_each_who_waits_gets_a_connection_of_its_own() {
    let mood = ServiceMood {
        handshake: Duration::from_millis(100),
        protocols: &["http/1.1"],
        ..ServiceMood::default()
    };
    let service = Service::start(mood, reply);
    let gateway = one_worker(service.setup()).start();
    assert_eq!(at_once(&gateway, 20, "/v5/rooms/a"), vec![String::new(); 20]);
    assert!(service.handshakes() <= 20);
}

#[test]
fn the_end_of_who_waited_first_ends_no_connection_that_others_wait_for() {
    let mood = ServiceMood { handshake: Duration::from_millis(600), ..ServiceMood::default() };
    let service = Service::start(mood, reply);
    let gateway = one_worker(service.setup()).start();
    let first = taking_nothing(&gateway, &gateway.key, "/v5/rooms/a", 1);
    wait_until("it is connecting", || service.connections() == 1);
    drop(first);
    assert_eq!(at_once(&gateway, 5, "/v5/rooms/a"), vec![String::new(); 5]);
    assert_eq!(service.handshakes(), 1);
}

#[test]
fn one_connection_that_fails_is_the_answer_of_all_who_waited_and_says_so_once() {
    let mood = ServiceMood { handshake: Duration::from_millis(300), ..ServiceMood::default() };
    let service = Service::start(mood, reply);
    service.accepts(0);
    let once = "[upstream.retry]\nattempts = 1\n";
    let gateway = one_worker(service.setup().with(once)).start();
    let codes = at_once(&gateway, 30, "/v5/rooms/a");
    assert!(codes.iter().all(|code| code == "upstream_error"), "{codes:?}");
    assert!(service.connections() < 10, "{}", service.connections());
    // Thirty failures would have opened the breaker.
    service.accepts(usize::MAX);
    assert_eq!(at_once(&gateway, 1, "/v5/rooms/a"), [""]);
}

#[test]
fn answers_that_one_caller_does_not_take_hold_up_nobody_else() {
    let service = Service::start(ServiceMood::default(), reply);
    let mut setup = one_worker(service.setup());
    let hog = setup.key_of("hog", "backend");
    let gateway = setup.start();
    let mut held = Vec::new();
    for many in 1..=3 {
        held.push(taking_nothing(&gateway, &hog, "/v5/rooms/long", 100));
        wait_until("all are asked", || service.requests() >= 100 * many);
    }
    let begun = Instant::now();
    assert_eq!(at_once(&gateway, 20, "/v5/rooms/a"), vec![String::new(); 20]);
    // Who waits for a stream of the hog's waits for the timeout, 10 s.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert!(service.most_at_once() <= 100, "{}", service.most_at_once());
    assert!(service.handshakes() <= 5, "{}", service.handshakes());
}

#[test]
fn as_many_connections_are_made_as_those_who_wait_need() {
    let mood = ServiceMood { streams: 5, ..ServiceMood::default() };
    let service = Service::start(mood, reply);
    let gateway = one_worker(service.setup()).start();
    assert_eq!(at_once(&gateway, 1, "/v5/rooms/a"), [""]);
    assert_eq!(at_once(&gateway, 40, "/v5/rooms/slow"), vec![String::new(); 40]);
    assert!(service.most_at_once() <= 5, "{}", service.most_at_once());
    assert!(service.handshakes() <= 9, "{}", service.handshakes());
}

#[test]
fn where_no_other_connection_can_be_made_a_stream_that_is_free_again_is_waited_for() {
    let mood = ServiceMood { streams: 2, ..ServiceMood::default() };
    let service = Service::start(mood, reply);
    let gateway = one_worker(service.setup()).start();
    assert_eq!(at_once(&gateway, 1, "/v5/rooms/a"), [""]);
    service.accepts(1);
    assert_eq!(at_once(&gateway, 6, "/v5/rooms/slow"), vec![String::new(); 6]);
    // Where none is free in time, that is no failure of the service.
    let held = taking_nothing(&gateway, &gateway.key, "/v5/rooms/never", 2);
    wait_until("both are asked", || service.requests() == 9);
    let codes = at_once(&gateway, 12, "/v5/rooms/a");
    assert!(codes.iter().all(|code| code == "overloaded"), "{codes:?}");
    drop(held);
    wait_until("a stream is free", || at_once(&gateway, 1, "/v5/rooms/a") == [""]);
}

#[test]
fn connections_that_are_not_needed_any_more_are_closed() {
    let mood = ServiceMood { streams: 1, ..ServiceMood::default() };
    let service = Service::start(mood, reply);
    let idle = "[upstream]\nidle_timeout = \"1s\"\n";
    let gateway = one_worker(service.setup().with(idle)).start();
    assert_eq!(at_once(&gateway, 8, "/v5/rooms/slow"), vec![String::new(); 8]);
    assert!(service.open() > 1);
    wait_until("they are closed", || service.open() == 0);
    assert_eq!(at_once(&gateway, 1, "/v5/rooms/a"), [""]);
}

#[test]
fn a_service_that_says_it_leaves_gets_nothing_more_on_that_connection() {
    let service = Service::start(ServiceMood::default(), reply);
    let gateway = one_worker(service.setup()).start();
    thread::scope(|scope| {
        let slow = scope.spawn(|| at_once(&gateway, 5, "/v5/rooms/slow"));
        wait_until("they are asked", || service.requests() == 5);
        service.leaves(true);
        assert_eq!(slow.join().unwrap(), vec![String::new(); 5]);
    });
    service.leaves(false);
    assert_eq!(at_once(&gateway, 20, "/v5/rooms/a"), vec![String::new(); 20]);
    assert!(service.handshakes() <= 3, "{}", service.handshakes());
}

#[test]
fn a_shared_connection_that_died_in_silence_costs_what_was_sent_before_the_first_timeout() {
    let service = Service::start(ServiceMood::default(), reply);
    let quick = "[upstream]\nfirst_byte_timeout = \"400ms\"\ntimeout = \"3s\"\n";
    // Two workers: what one finds out, the other knows.
    let gateway = service.setup().with(quick).start();
    assert!(at_once(&gateway, 40, "/v5/rooms/a").iter().all(String::is_empty));
    assert_eq!(service.handshakes(), 2);
    service.fails_over();
    // A read is asked again, on a new connection, made once for all.
    assert_eq!(at_once(&gateway, 20, "/v5/rooms/a"), vec![String::new(); 20]);
    let begun = Instant::now();
    assert_eq!(at_once(&gateway, 40, "/v5/rooms/a"), vec![String::new(); 40]);
    assert!(begun.elapsed() < Duration::from_millis(400), "{:?}", begun.elapsed());
    assert!(service.handshakes() <= 6, "{}", service.handshakes());
}

#[test]
fn bodies_that_the_service_does_not_take_hold_up_no_other_body() {
    let service = Service::start(ServiceMood::default(), |path| {
        if path.contains("unread") { Reply::Unread } else { Reply::Json("{}".to_owned()) }
    });
    let gateway = one_worker(service.setup()).start();
    // More than the window of a connection that nobody has opened further (RFC 9113 §6.9.2).
    let scene = |number| format!(r#"{{"name":"{number}{}"}}"#, "a".repeat(3_000));
    let scenes = format!(
        r#"{{"path":"/a","scenes":[{}]}}"#,
        (0..60).map(scene).collect::<Vec<_>>().join(",")
    );
    thread::scope(|scope| {
        let unread = || gateway.call("POST", "/v5/rooms/unread/scenes", &scenes);
        let stuck = scope.spawn(unread);
        wait_until("it is asked", || service.requests() == 1);
        wait_until("it takes no more", || service.untaken() >= 65_535);
        // For longer than a window may be closed for a moment.
        scenario_delay(Duration::from_millis(200));
        let begun = Instant::now();
        let other = gateway.call("POST", "/v5/rooms/other/scenes", &scenes);
        assert_eq!(other.status, 201, "{}", other.text());
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(service.handshakes(), 2);
        // What has no body needs no window.
        assert_eq!(gateway.call("GET", "/v5/rooms/a", "").status, 200);
        assert_eq!(service.handshakes(), 2);
        assert_eq!(stuck.join().unwrap().member("code"), "upstream_timeout");
    });
}
