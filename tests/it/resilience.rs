//! A service that fails, recovers and is slow: what is sent again and what never is, when it is
//! not asked any more, and who is refused first.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use whiteboard_gateway::token::Claims;

use crate::support::{
    Answer, Client, Gate, Process, Received, Setup, Upstream, answer, scenario_delay,
    silent_until_gone, wait_until,
};

/// Quick tries again, and no breaker in their way.
const CALM: &str = "[upstream.breaker]\nenabled = false\n[upstream.retry]\nbackoff = \"2ms\"\n";

/// One worker, so that what each worker counts for itself can be told exactly.
fn setup(upstream: &Upstream) -> Setup {
    Setup::new(&upstream.url()).set("listen.workers", 1)
}

fn get(gateway: &Process) -> Answer {
    gateway.call("GET", "/v5/rooms/faed3130727911ebaea37759ee91947c", "")
}

/// The value of a line of the metrics; 0 when it is not there.
fn metric(gateway: &Process, line: &str) -> u64 {
    let text = Client::connect(gateway.admin).request("GET", "/metrics", &[], "").text();
    let found = text.lines().find_map(|one| one.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_default()
}

/// The breakers that are not closed.
fn breakers(gateway: &Process) -> String {
    let ready = Client::connect(gateway.admin).request("GET", "/readyz", &[], "");
    assert_eq!(ready.status, 200, "a service that fails does not make the gateway unready");
    ready.json()["breakers"].to_string()
}

/// An upstream that fails so many times in that way, and answers then.
fn failing(times: usize, how: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Upstream {
    let left = AtomicUsize::new(times);
    Upstream::scripted(move |_, stream| {
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fails.is_ok() {
            how(stream);
            return false;
        }
        stream.write_all(answer("200 OK", "{\"uuid\":\"a\"}").as_bytes()).is_ok()
    })
}

/// What it does in the place of an answer.
type Fault = fn(&mut TcpStream);

#[test]
fn a_read_survives_what_a_moment_later_is_well_again() {
    let kinds: [(&str, Fault); 4] = [
        ("broken", |stream| _ = stream.shutdown(Shutdown::Both)),
        ("broken", |stream| {
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{");
        }),
        ("status", |stream| {
            _ = stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
        }),
        ("timeout", |stream| silent_until_gone(stream)),
    ];
    for (reason, how) in kinds {
        let upstream = failing(2, how);
        let patient = "[upstream]\nfirst_byte_timeout = \"250ms\"\ntimeout = \"5s\"\n";
        let gateway = setup(&upstream).with(patient).with(CALM).start();
        let answer = get(&gateway);
        assert_eq!((answer.status, answer.member("uuid").as_str()), (200, "a"), "{reason}");
        assert_eq!(upstream.received().len(), 3, "{reason}");
        let line = gateway.access_line(answer.header("x-request-id"));
        assert_eq!(line["upstream_attempts"], 3, "{line}");
        let counted = format!("wbg_upstream_retries_total{{reason=\"{reason}\"}}");
        gateway.until_metric(&counted, 2.0);
    }
}

#[test]
fn the_third_failure_is_the_callers() {
    let upstream = failing(100, |stream| {
        _ = stream.write_all(b"HTTP/1.1 504 Late\r\ncontent-length: 0\r\n\r\n");
    });
    let gateway = setup(&upstream).with(CALM).start();
    let answer = get(&gateway);
    answer.assert_envelope(500, "upstream_error");
    assert!(answer.header("proxy-status").contains("received-status=504"));
    assert_eq!(upstream.received().len(), 3);
    let once = setup(&upstream).with(CALM).set("upstream.retry.attempts", 1);
    let once = once.start();
    get(&once).assert_envelope(500, "upstream_error");
    assert_eq!(upstream.received().len(), 4, "switched off, it is sent once");
}

/// Is away for a while, then listens, answers one request, and closes.
fn answer_late(address: SocketAddr) {
    scenario_delay(Duration::from_millis(300));
    let (mut stream, _) = TcpListener::bind(address).unwrap().accept().unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    stream.write_all(answer("201 Created", "{}").as_bytes()).unwrap();
}

#[test]
fn a_connection_that_could_not_be_opened_is_tried_again_for_everything() {
    // A port that nobody listens at for a moment.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let slow = "[upstream.retry]\nbackoff = \"1s\"\nmax_backoff = \"1s\"\n";
    let gateway = Setup::new(&format!("http://{address}")).with(slow).start();
    for _ in 0..5 {
        let listening = thread::spawn(move || answer_late(address));
        let created = gateway.call("POST", "/v5/rooms", "{}");
        assert_eq!(created.status, 201, "{}", created.text());
        let line = gateway.access_line(created.header("x-request-id"));
        assert_eq!(line["upstream_attempts"], 1, "one of them reached the service: {line}");
        listening.join().unwrap();
        // On a busy machine it may have listened before it was asked.
        if metric(&gateway, "wbg_upstream_retries_total{reason=\"connect\"}") > 0 {
            return;
        }
    }
    panic!("it was never too early");
}

#[test]
fn the_services_own_wait_is_kept() {
    let upstream = failing(1, |stream| {
        _ = stream.write_all(b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n");
    });
    let gateway = setup(&upstream).with(CALM).start();
    let begun = Instant::now();
    assert_eq!(get(&gateway).status, 200);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn a_wait_that_does_not_fit_is_the_callers_to_keep() {
    let upstream = failing(1, |stream| {
        _ = stream.write_all(b"HTTP/1.1 503 Busy\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n");
    });
    let gateway = setup(&upstream).with(CALM).start();
    let answer = get(&gateway);
    answer.assert_envelope(500, "upstream_error");
    assert_eq!(answer.header("retry-after"), "30");
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_timeout_that_leaves_no_time_is_not_tried_again() {
    let upstream = Upstream::scripted(|_, stream| {
        silent_until_gone(stream);
        false
    });
    let short = "[upstream]\nfirst_byte_timeout = \"600ms\"\ntimeout = \"900ms\"\n";
    let gateway = setup(&upstream).with(short).with(CALM).start();
    get(&gateway).assert_envelope(500, "upstream_timeout");
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_service_in_distress_gets_a_fifth_more_and_not_three_times_as_much() {
    let upstream = Upstream::json("503 Busy", "{}");
    let gateway = setup(&upstream).with(CALM).start();
    let mut client = gateway.client();
    let requests = 200;
    for _ in 0..requests {
        let answer = client.request("GET", "/v5/rooms/a", &[("token", &gateway.key)], "");
        answer.assert_envelope(500, "upstream_error");
    }
    let sent = upstream.received().len();
    assert_eq!(sent, requests + requests / 5 + 10, "10 to begin with");
    gateway.until_metric_reaches("wbg_upstream_retries_denied_total", 101.0);
}

/// Every way in which an exchange can fail, chosen by a number; whether the connection is kept.
fn fail(how: usize, request: &Received, stream: &mut TcpStream) -> bool {
    let success = format!("{{\"uuid\":{:?}}}", request.line);
    let (says, is_kept) = match how % 9 {
        0 => (String::new(), false),
        1 => ("HTTP/1.1 50".to_owned(), true),
        2 => ("HTTP/1.1 201 Created\r\ncontent-length: 10\r\n\r\n{".to_owned(), false),
        3 => (answer("503 Busy", "{}"), true),
        4 => (answer("502 Bad", "<html>"), false),
        5 => (answer("500 Oops", "{}"), true),
        6 => (answer("504 Late", ""), false),
        7 => {
            silent_until_gone(stream);
            (String::new(), false)
        }
        _ => (answer("200 OK", &success), true),
    };
    stream.write_all(says.as_bytes()).is_ok() && is_kept
}

#[test]
fn an_unsafe_request_never_reaches_the_service_twice_whatever_fails() {
    let number = AtomicUsize::new(0);
    // The faults come in an order that is not that of the requests.
    let seed = fastrand::u64(..);
    let faults = Mutex::new(fastrand::Rng::with_seed(seed));
    let upstream = Upstream::scripted(move |request, stream| {
        number.fetch_add(1, Ordering::SeqCst);
        let how = faults.lock().unwrap().usize(..);
        fail(how, request, stream)
    });
    let patient = "[upstream]\nfirst_byte_timeout = \"120ms\"\ntimeout = \"2s\"\n\
        first_byte_timeout_slow = \"120ms\"\ntimeout_slow = \"2s\"\n";
    let gateway = setup(&upstream).with(patient).with(CALM).start();
    let changes = [
        ("POST", "/v5/rooms", "{\"name\":\"NAME\"}"),
        ("POST", "/v5/rooms/NAME/scenes", "{\"path\":\"/a\",\"scenes\":[{\"name\":\"NAME\"}]}"),
        ("PATCH", "/v5/rooms/NAME", "{\"isBan\":true}"),
        ("PATCH", "/v5/rooms/NAME/scene-state", "{\"scenePath\":\"/NAME\"}"),
        ("POST", "/v5/rooms/NAME/screenshots", "{\"width\":1,\"height\":1,\"path\":\"/NAME\"}"),
        (
            "POST",
            "/v5/projector/tasks",
            "{\"resource\":\"https://example.org/NAME\",\"type\":\"static\"}",
        ),
    ];
    thread::scope(|scope| {
        for worker in 0..4 {
            let (gateway, changes) = (&gateway, &changes);
            scope.spawn(move || {
                let mut client = gateway.client();
                for turn in 0..30 {
                    let (method, path, body) = changes[turn % changes.len()];
                    let name = format!("w{worker}t{turn}");
                    let (path, body) = (path.replace("NAME", &name), body.replace("NAME", &name));
                    let token = [("token", gateway.key.as_str())];
                    let answer = client.request(method, &path, &token, &body);
                    assert!([201, 400, 500].contains(&answer.status), "{}", answer.text());
                    // Reads in between keep connections warm, and are sent again.
                    client.request("GET", &format!("/v5/rooms/{name}"), &token, "");
                }
            });
        }
    });
    let mut seen: BTreeMap<(String, Vec<u8>), usize> = BTreeMap::new();
    for request in upstream.received() {
        if !request.line.starts_with("GET") {
            *seen.entry((request.line, request.body)).or_default() += 1;
        }
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "seed {seed}: {twice:?}");
    assert!(seen.len() >= 110, "seed {seed}: only {} arrived", seen.len());
    let again: u64 = ["broken", "timeout", "status"]
        .iter()
        .map(|reason| {
            metric(&gateway, &format!("wbg_upstream_retries_total{{reason=\"{reason}\"}}"))
        })
        .sum();
    assert!(again > 0, "seed {seed}: the reads were sent again");
}

#[test]
fn a_region_that_fails_is_not_asked_until_it_works_again() {
    let ill = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&ill);
    let upstream = Upstream::scripted(move |request, stream| {
        let fails = fails.load(Ordering::SeqCst) && request.header("region") == "us-sv";
        let told = if fails { answer("500 Oops", "{}") } else { answer("200 OK", "{}") };
        stream.write_all(told.as_bytes()).is_ok()
    });
    let breaker = "[upstream.breaker]\nfailures = 5\nopen = \"1s\"\n";
    let gateway = Setup::new(&upstream.url()).with(breaker).start();
    for _ in 0..5 {
        get(&gateway).assert_envelope(500, "upstream_error");
    }
    let refused = get(&gateway);
    refused.assert_envelope(500, "upstream_unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.header("proxy-status").contains("destination_unavailable"));
    assert_eq!(upstream.received().len(), 5, "it was not asked");
    assert_eq!(breakers(&gateway), "{\"us-sv\":\"open\"}");
    // Of one page, since it may pass from one state to the other between two.
    let gauges = || {
        let page = gateway.admin("/metrics").text();
        ["closed", "open", "half_open"].map(|state| {
            let line = format!("wbg_upstream_breaker{{region=\"us-sv\",state=\"{state}\"}} 1");
            usize::from(page.lines().any(|one| one == line))
        })
    };
    let [closed, open, half_open] = gauges();
    assert_eq!((closed, open + half_open), (0, 1));
    gateway.until_logged("it is not asked for a while");
    let elsewhere = [("token", gateway.key.as_str()), ("region", "sg")];
    assert_eq!(gateway.client().request("GET", "/v5/rooms/a", &elsewhere, "").status, 200);
    let minted =
        gateway.call("POST", "/v5/tokens/rooms/a", "{\"lifespan\":1000,\"role\":\"reader\"}");
    assert_eq!(minted.status, 201, "what the gateway mints itself goes on");

    // What finds out that it still fails opens it again.
    wait_until("it is tried again", || get(&gateway).member("code") == "upstream_error");
    get(&gateway).assert_envelope(500, "upstream_unavailable");
    gateway.until_metric("wbg_upstream_breaker_opened_total{region=\"us-sv\"}", 2.0);
    ill.store(false, Ordering::SeqCst);
    wait_until("it works again", || get(&gateway).status == 200);
    assert_eq!((breakers(&gateway).as_str(), gauges()), ("{}", [1, 0, 0]));
    wait_until("it is said", || gateway.stderr().contains("works again"));
}

#[test]
fn three_requests_at_a_time_find_out_whether_it_works_again_each_on_a_new_connection() {
    let (gate, asked) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (held, count) = (gate.clone(), Arc::clone(&asked));
    let upstream = Upstream::scripted(move |_, stream| {
        if count.fetch_add(1, Ordering::SeqCst) < 3 {
            return stream.write_all(answer("500 Oops", "{}").as_bytes()).is_ok();
        }
        held.wait();
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    });
    let breaker = "[upstream.breaker]\nfailures = 3\nopen = \"100ms\"\n";
    let gateway = Setup::new(&upstream.url()).with(breaker).start();
    (0..3).for_each(|_| get(&gateway).assert_envelope(500, "upstream_error"));
    wait_until("it is half open", || breakers(&gateway) == "{\"us-sv\":\"half_open\"}");
    let connections = upstream.connections();
    thread::scope(|scope| {
        let probes: Vec<_> = (0..3).map(|_| scope.spawn(|| get(&gateway))).collect();
        wait_until("the probes have arrived", || asked.load(Ordering::SeqCst) == 6);
        assert_eq!(upstream.connections(), connections + 3);
        get(&gateway).assert_envelope(500, "upstream_unavailable");
        // What takes its time keeps no one out.
        let blocked = scope.spawn(|| {
            wait_until("another finds out", || {
                get(&gateway).status == 200 || asked.load(Ordering::SeqCst) > 6
            });
        });
        wait_until("another has arrived", || asked.load(Ordering::SeqCst) > 6);
        gate.open();
        blocked.join().unwrap();
        probes.into_iter().for_each(|probe| assert_eq!(probe.join().unwrap().status, 200));
    });
    assert_eq!(get(&gateway).status, 200);
}

#[test]
fn what_one_caller_sees_of_one_operation_is_no_failure_of_the_region() {
    for body in ["{\"message\":\"cannot draw\"}", "{}"] {
        let upstream = Upstream::scripted(move |request, stream| {
            let well = !request.line.contains("/screenshots");
            let told = if well { answer("200 OK", "{}") } else { answer("500 Oops", body) };
            stream.write_all(told.as_bytes()).is_ok()
        });
        let gateway = Setup::new(&upstream.url()).start();
        assert_eq!(get(&gateway).status, 200);
        for _ in 0..30 {
            let size = "{\"width\":1,\"height\":1,\"path\":\"/init\"}";
            let shot = gateway.call("POST", "/v5/rooms/a/screenshots", size);
            shot.assert_envelope(500, "upstream_error");
        }
        assert_eq!(breakers(&gateway), "{}", "{body}");
        assert_eq!(get(&gateway).status, 200);
    }
}

#[test]
fn failures_that_say_what_they_are_open_no_breaker_whoever_sees_them() {
    let upstream = Upstream::json("500 Oops", "{\"message\":\"the database of rooms is full\"}");
    let gateway = setup(&upstream).start();
    (0..30).for_each(|_| get(&gateway).assert_envelope(500, "upstream_error"));
    assert_eq!(breakers(&gateway), "{}");
}

#[test]
fn what_the_service_refuses_opens_no_breaker() {
    for status in ["401 No", "403 No", "404 No", "429 Slow"] {
        let upstream = Upstream::json(status, "{\"message\":\"no\"}");
        let breaker = "[upstream.breaker]\nfailures = 2\n";
        let gateway = setup(&upstream).with(breaker).start();
        let mut client = gateway.client();
        for _ in 0..10 {
            let answer = client.request("GET", "/v5/rooms/a", &[("token", &gateway.key)], "");
            assert_ne!(answer.member("code"), "upstream_unavailable", "{status}");
        }
        assert_eq!(breakers(&gateway), "{}", "{status}");
    }
}

#[test]
fn a_token_that_is_not_taken_is_followed_by_every_other_and_then_it_is_our_fault() {
    let taken = Arc::new(AtomicUsize::new(usize::MAX));
    let (limit, seen) = (Arc::clone(&taken), AtomicUsize::new(0));
    let upstream = Upstream::scripted(move |_, stream| {
        let told = if seen.fetch_add(1, Ordering::SeqCst) >= limit.load(Ordering::SeqCst) {
            answer("200 OK", "{}")
        } else {
            answer("401 No", "{\"message\":\"expired token\"}")
        };
        stream.write_all(told.as_bytes()).is_ok()
    });
    let gateway = setup(&upstream)
        .with_other_key()
        .with("[upstream.breaker]\nfailures = 1\n[upstream.retry]\nattempts = 1\n")
        .start();
    let shown = |from: usize| -> Vec<String> {
        let received = upstream.received();
        let kinds = received[from..].iter().map(|request| {
            let claims = Claims::read(request.header("token")).unwrap();
            format!("{} {}", claims.kind, claims.access_key())
        });
        kinds.collect()
    };
    get(&gateway).assert_envelope(500, "upstream_credential");
    assert_eq!(shown(0), ["room sandbox", "room other", "sdk sandbox", "sdk other"]);
    // What must not happen twice is shown the next token all the same: it was refused.
    gateway.call("POST", "/v5/rooms", "{}").assert_envelope(500, "upstream_credential");
    assert_eq!(shown(4), ["sdk sandbox", "sdk other"]);
    // The last of them was minted for the request and is kept; it is followed by a fresh one.
    taken.store(6, Ordering::SeqCst);
    assert_eq!(get(&gateway).status, 200);
    taken.store(8, Ordering::SeqCst);
    assert_eq!(get(&gateway).status, 200);
    let again = upstream.received();
    assert_eq!(shown(7), ["room sandbox", "room sandbox"], "a kept one, and a fresh one");
    assert_ne!(again[7].header("token"), again[8].header("token"));
    assert_eq!(breakers(&gateway), "{}", "it is no fault of the service");
}

/// How long a request took that the service does not answer in time.
fn patience(settings: &str, method: &str, path: &str, body: &str) -> Duration {
    let upstream = Upstream::scripted(|request, stream| {
        if request.line.contains("/drips") {
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
            while stream.write_all(b" ").is_ok() {
                scenario_delay(Duration::from_millis(50));
            }
        } else {
            silent_until_gone(stream);
        }
        false
    });
    let gateway = setup(&upstream)
        .with(&format!("[upstream]\n{settings}\n"))
        .with("[upstream.retry]\nattempts = 1\n")
        .start();
    let begun = Instant::now();
    gateway.call(method, path, body).assert_envelope(500, "upstream_timeout");
    begun.elapsed()
}

#[test]
fn what_is_slow_has_deadlines_of_its_own() {
    let screenshot = "{\"width\":1,\"height\":1}";
    let quick = "first_byte_timeout = \"100ms\"\ntimeout = \"100ms\"\n";
    for (settings, path) in [
        ("first_byte_timeout_slow = \"700ms\"", "/v5/rooms/a/screenshots"),
        ("timeout_slow = \"700ms\"", "/v5/rooms/drips/screenshots"),
    ] {
        let took = patience(&format!("{quick}{settings}"), "POST", path, screenshot);
        let (least, most) = (Duration::from_millis(650), Duration::from_secs(4));
        assert!(took >= least && took < most, "{settings}: {took:?}");
    }
    let took = patience(quick, "GET", "/v5/rooms/a", "");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_connection_that_was_idle_for_too_long_is_not_used_again() {
    let upstream = Upstream::json("200 OK", "{}");
    for (idle, connections) in [("100ms", 2), ("30s", 3)] {
        let idle = format!("[upstream]\nidle_timeout = \"{idle}\"\n");
        let gateway = setup(&upstream).with(&idle).start();
        assert_eq!(get(&gateway).status, 200);
        scenario_delay(Duration::from_millis(300));
        assert_eq!(get(&gateway).status, 200);
        assert_eq!(upstream.connections(), connections, "{idle}");
    }
}

#[test]
fn an_answer_leaves_its_connection_to_the_next_request_however_long_it_is() {
    let whole = |length: usize| answer("200 OK", &format!("{{\"a\":\"{}\"}}", "x".repeat(length)));
    let in_chunks = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n[{}]\r\n0\r\n\r\n",
        300_002,
        " ".repeat(300_000)
    );
    for answer in [whole(10), whole(60_000), whole(300_000), in_chunks] {
        let upstream = Upstream::answering(answer);
        let gateway = setup(&upstream).start();
        for _ in 0..3 {
            assert_eq!(get(&gateway).status, 200);
        }
        assert_eq!(upstream.connections(), 1);
    }
}

#[test]
fn the_lowest_priority_is_refused_first_and_at_no_cost() {
    let (gate, arrived) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (held, count) = (gate.clone(), Arc::clone(&arrived));
    let upstream = Upstream::scripted(move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        held.wait();
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    });
    let mut setup = setup(&upstream).with("[upstream]\nmax_in_flight = 10\nmin_in_flight = 1\n");
    let rights = "allow = [\"rooms.*\", \"tokens.room\"]\nrooms = \"any\"\nrole = \"admin\"\n";
    let low = setup.caller("report", &format!("{rights}priority = \"low\""));
    let high = setup.caller("lesson", &format!("{rights}priority = \"high\""));
    let gateway = setup.start();
    let normal = gateway.key.clone();
    let call = |key: &str, method: &str, path: &str, body: &str| {
        gateway.client().request(method, path, &[("token", key)], body)
    };
    thread::scope(|scope| {
        let mut waiting = Vec::new();
        let mut fill = |key: &str, count: usize| {
            for _ in 0..count {
                let (key, call) = (key.to_owned(), &call);
                let before = arrived.load(Ordering::SeqCst);
                waiting.push(scope.spawn(move || call(&key, "GET", "/v5/rooms/a", "")));
                wait_until("it is at the service", || arrived.load(Ordering::SeqCst) > before);
            }
        };
        // 80 of 100 places, 95 of 100 rounded up, and all of them.
        fill(&low, 8);
        let refused = call(&low, "GET", "/v5/rooms/a", "");
        refused.assert_envelope(500, "overloaded");
        assert_eq!(refused.header("retry-after"), "1");
        fill(&normal, 2);
        for key in [&low, &normal, &high] {
            call(key, "GET", "/v5/rooms/a", "").assert_envelope(500, "overloaded");
        }
        for (name, value) in [
            ("wbg_upstream_in_flight", 10.0),
            ("wbg_upstream_in_flight_limit", 10.0),
            ("wbg_shed_total{priority=\"low\"}", 2.0),
            ("wbg_shed_total{priority=\"normal\"}", 1.0),
            ("wbg_shed_total{priority=\"high\"}", 1.0),
        ] {
            gateway.until_metric(name, value);
        }
        // The body is not waited for: it never comes.
        let mut client = gateway.client();
        client.send(
            format!(
                "POST /v5/rooms HTTP/1.1\r\nhost: g\r\ntoken: {high}\r\ncontent-length: 9\r\n\r\n"
            )
            .as_bytes(),
        );
        client.answer("POST").unwrap().assert_envelope(500, "overloaded");
        let minted = "{\"lifespan\":1000,\"role\":\"reader\"}";
        assert_eq!(call(&low, "POST", "/v5/tokens/rooms/a", minted).status, 201);
        gate.open();
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap().status, 200);
        }
    });
    assert_eq!(arrived.load(Ordering::SeqCst), 10);
}

#[test]
fn a_bound_that_is_adaptive_goes_down_with_a_service_that_gets_slow() {
    let slow = Arc::new(AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let upstream = Upstream::scripted(move |_, stream| {
        if is_slow.load(Ordering::SeqCst) {
            scenario_delay(Duration::from_millis(100));
        }
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    });
    let adaptive = "[upstream]\nmax_in_flight = 100\nmin_in_flight = 2\nadaptive = true\n";
    let gateway = setup(&upstream).with(adaptive).start();
    let limit = || metric(&gateway, "wbg_upstream_in_flight_limit ");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while !stop.load(Ordering::SeqCst) {
                    client.request("GET", "/v5/rooms/a", &[("token", &gateway.key)], "");
                    scenario_delay(Duration::from_millis(5));
                }
            });
        }
        let watch = || {
            wait_until("it is told what it may", || limit() == 100);
            // Often enough for it to know what is usual.
            wait_until("it was often answered", || upstream.received().len() > 400);
            slow.store(true, Ordering::SeqCst);
            wait_until("the bound goes down", || limit() < 80);
        };
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(watch));
        stop.store(true, Ordering::SeqCst);
        watched.unwrap();
    });
}

#[test]
fn nothing_is_sent_again_by_a_process_that_stops() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::scripted(move |_, stream| {
        held.wait();
        stream.write_all(answer("503 Busy", "{}").as_bytes()).is_ok()
    });
    let mut gateway = setup(&upstream).with(CALM).start();
    let mut client = gateway.client();
    let request = format!("GET /v5/rooms/a HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n\r\n", gateway.key);
    client.send(request.as_bytes());
    wait_until("it is at the service", || !upstream.received().is_empty());
    gateway.signal("TERM");
    let address = gateway.address;
    wait_until("it accepts nothing more", || TcpStream::connect(address).is_err());
    gate.open();
    client.answer("GET").unwrap().assert_envelope(500, "upstream_error");
    assert!(gateway.wait(Duration::from_secs(10)).success());
    assert_eq!(upstream.received().len(), 1);
}
