//! One process takes over from another, and a process that stops finishes what it has accepted.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Answer, Authority, Client, Http2, Process, Setup, Upstream, read_answer, scenario_delay,
    silent_until_gone, wait_until,
};

/// Callers that never rest: each makes connections, sends some requests on each, and leaves when it
/// is told that the connection ends.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    callers: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, key: &str) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            answered: Arc::default(),
            failures: Arc::default(),
            callers: Vec::new(),
        };
        for caller in 0..6 {
            let (stop, answered) = (Arc::clone(&load.stop), Arc::clone(&load.answered));
            let failures = Arc::clone(&load.failures);
            let request = format!("GET /v5/rooms HTTP/1.1\r\nhost: g\r\ntoken: {key}\r\n\r\n");
            load.callers.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // Half of them take a connection for each request.
                    let most = if caller % 2 == 0 { 1 } else { 50 };
                    let told = connection(address, &request, most, &answered);
                    if let Err(why) = told {
                        failures.lock().unwrap().push(why);
                    }
                }
            }));
        }
        load
    }

    /// Waits until so many more have been answered.
    fn answers(&self, count: usize) {
        let until = self.answered.load(Ordering::Relaxed) + count;
        wait_until("they are answered", || self.answered.load(Ordering::Relaxed) >= until);
    }

    fn assert_nothing_is_lost(self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().unwrap();
        }
        let failures = self.failures.lock().unwrap();
        let answered = self.answered.load(Ordering::Relaxed);
        assert!(failures.is_empty(), "{} of {answered}: {:?}", failures.len(), failures[0]);
    }
}

fn connection(
    address: SocketAddr,
    request: &str,
    most: usize,
    answered: &AtomicUsize,
) -> Result<(), String> {
    let socket = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = BufReader::new(socket);
    for number in 0..most {
        let sent = stream.get_mut().write_all(request.as_bytes());
        sent.map_err(|error| format!("request {number} on a connection: {error}"))?;
        let Some(answer) = read_answer(&mut stream, false) else {
            return Err(format!("request {number} on a connection has no answer"));
        };
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.text()));
        }
        answered.fetch_add(1, Ordering::Relaxed);
        if answer.header("connection") == "close" {
            break;
        }
        scenario_delay(Duration::from_millis(2));
    }
    Ok(())
}

/// A caller's key that is the same in each process.
fn with_key_of(setup: &Setup, other: Setup) -> Setup {
    const KEYS: &str = "callers.lessons.keys";
    let mut other = other.set(KEYS, setup.configuration().get(KEYS));
    other.key = setup.key.clone();
    other
}

fn sharing(upstream: &Upstream, address: &str) -> Setup {
    Setup::new(&upstream.url())
        .set("listen.share", true)
        .set("listen.address", address)
        .set("listen.pre_drain", "300ms")
}

#[test]
fn a_second_process_on_the_same_port_takes_over_without_a_lost_request() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = sharing(&upstream, "127.0.0.1:0");
    let other = with_key_of(&setup, Setup::new(""));
    let mut old = setup.start();
    let load = Load::start(old.address, &old.key);
    load.answers(50);
    for _ in 0..2 {
        let new = with_key_of(&other, sharing(&upstream, &old.address.to_string())).start();
        load.answers(50);
        old.signal("TERM");
        assert_eq!(old.wait(Duration::from_secs(20)).code(), Some(0));
        load.answers(50);
        old = new;
    }
    load.assert_nothing_is_lost();
}

#[test]
fn a_process_with_the_same_socket_takes_over_after_the_other_without_a_lost_request() {
    let upstream = Upstream::json("200 OK", "[]");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new(&upstream.url()).set("listen.pre_drain", "200ms");
    let other = with_key_of(&setup, Setup::new(&upstream.url()));
    let mut old = setup.activated(&listener, "http");
    let load = Load::start(old.address, &old.key);
    load.answers(50);
    old.signal("TERM");
    assert_eq!(old.wait(Duration::from_secs(20)).code(), Some(0));
    let new = other.activated(&listener, "http");
    load.answers(50);
    load.assert_nothing_is_lost();
    drop(new);
}

#[test]
fn connections_in_the_queue_of_a_process_that_stops_are_served() {
    for share in ["", "share = true\n"] {
        let upstream = Upstream::json("200 OK", "[]");
        let mut gateway = Setup::new(&upstream.url())
            .with(&format!("[listen]\n{share}"))
            .set("listen.pre_drain", "1m")
            .start();
        let request =
            format!("GET /v5/rooms HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n\r\n", gateway.key);
        // It knows that it is to stop before any of them comes: whoever is at the head of the queue
        // may be accepted before it stops to accept, and is served as the others are.
        gateway.signal("TERM");
        wait_until("each answer is the last one of its connection", || {
            gateway.call("GET", "/v5/rooms", "").header("connection") == "close"
        });
        gateway.signal("STOP");
        let mut clients: Vec<Client> = (0..40).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send(request.as_bytes());
        }
        gateway.signal("INT");
        gateway.signal("CONT");
        for client in &mut clients {
            let answer = client.answer("GET").expect("an answer");
            assert_eq!((answer.status, answer.header("connection")), (200, "close"));
        }
        assert_eq!(gateway.wait(Duration::from_secs(10)).code(), Some(0));
    }
}

#[test]
fn callers_that_are_answered_before_the_drain_are_told_to_come_back() {
    let upstream = Upstream::json("200 OK", "[]");
    let authority = Authority::new("authority");
    let setup = Setup::new(&upstream.url())
        .set("listen.pre_drain", "1m")
        .with("[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
    authority.certify("localhost").write(setup.folder.path());
    let gateway = setup.start();
    let list = |client: &mut Http2| {
        client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "").map(|all| all.status)
    };
    let mut kept = Http2::secure(gateway.address, &authority);
    assert_eq!(list(&mut kept), Some(200));
    let stream = crate::support::handshake(gateway.address, &authority, &["http/1.1"]).unwrap();
    let mut one = Client::over(stream);
    gateway.signal("TERM");
    wait_until("it is not ready", || gateway.admin("/readyz").status == 503);
    let answer = one.request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
    assert_eq!((answer.status, answer.header("connection")), (200, "close"));
    assert_eq!(list(&mut kept), Some(200));
    wait_until("the connection takes no more", || kept.is_closed());
    // It serves on all the same.
    assert_eq!(list(&mut Http2::secure(gateway.address, &authority)), Some(200));
}

#[test]
fn what_must_not_be_cut_off_is_finished_though_its_caller_has_gone() {
    let sandbox = {
        let mut command = std::process::Command::new(crate::support::binary());
        command.args(["sandbox", "--listen", "127.0.0.1:0", "--access-key", "sandbox"]);
        Process::of_sandbox(command)
    };
    let ask = |method: &str, path: &str, body: &str| -> Answer {
        Client::connect(sandbox.address).request(method, path, &[], body)
    };
    let slow = r#"{"operations": ["rooms.create"], "latency": "1s"}"#;
    assert_eq!(ask("PUT", "/sandbox/faults", slow).status, 200);
    let arrived = || {
        let list = ask("GET", "/sandbox/requests", "").text();
        list.matches("\"method\":\"POST\"").count()
    };
    // Under the configuration of the start, and under one that has been replaced.
    for reloads in [false, true] {
        ask("DELETE", "/sandbox/requests", "");
        let setup = Setup::new(&format!("http://{}", sandbox.address));
        let other = setup.configuration().set("profiles.backend.max_lifespan", "12h");
        let mut gateway = setup.start();
        let mut client = gateway.client();
        let head = format!("token: {}\r\ncontent-length: 2\r\n", gateway.key);
        client.send(format!("POST /v5/rooms HTTP/1.1\r\nhost: g\r\n{head}\r\n{{}}").as_bytes());
        let begun = Instant::now();
        wait_until("the service has it", || arrived() == 1);
        client.reset();
        wait_until("the caller has gone", || {
            gateway.access_lines().iter().any(|line| line["code"] == "caller_gone")
        });
        if reloads {
            gateway.reload(&other);
            gateway.call("GET", "/v5/rooms", "");
        }
        gateway.signal("INT");
        assert_eq!(gateway.wait(Duration::from_secs(10)).code(), Some(0));
        assert!(begun.elapsed() >= Duration::from_millis(900), "it did not wait");
        assert_eq!(arrived(), 1);
        wait_until("its log is read", || gateway.stderr().contains("\"stopped\""));
        assert!(!gateway.stderr().contains("the drain time is over"));
    }
}

#[test]
fn what_takes_too_long_though_its_caller_has_gone_is_cut() {
    let upstream = Upstream::scripted(|_, stream| {
        silent_until_gone(stream);
        false
    });
    let mut gateway = Setup::new(&upstream.url()).with("[listen]\ndrain = \"300ms\"\n").start();
    let mut client = gateway.client();
    let head = format!("token: {}\r\ncontent-length: 2\r\n", gateway.key);
    client.send(format!("POST /v5/rooms HTTP/1.1\r\nhost: g\r\n{head}\r\n{{}}").as_bytes());
    wait_until("the service has it", || upstream.received().len() == 1);
    drop(client);
    gateway.signal("INT");
    assert_eq!(gateway.wait(Duration::from_secs(6)).code(), Some(0));
    wait_until("its log is read", || gateway.stderr().contains("the drain time is over"));
}

#[test]
fn reloads_under_load_lose_nothing() {
    let upstream = Upstream::json("200 OK", "[]");
    let setup = Setup::new(&upstream.url());
    let good = setup.configuration();
    let gateway = setup.start();
    let load = Load::start(gateway.address, &gateway.key);
    for round in 0..6 {
        if round % 3 == 2 {
            gateway.reload("broken");
        } else {
            let rate = format!("{}/s", 100_000 + round);
            gateway.reload(&good.clone().set("profiles.backend.limit.rate", rate));
        }
        load.answers(30);
    }
    load.assert_nothing_is_lost();
    // A change can be seen by the watch as well as told by the signal.
    gateway.until_metric_reaches("wbg_config_reloads_total{result=\"failed\"}", 2.0);
}

#[test]
fn two_listeners_lose_nothing_through_reloads_a_hand_over_and_a_drain() {
    let upstream = Upstream::json("200 OK", "[]");
    let two = |first: &str, second: &str| {
        sharing(&upstream, first)
            .with(&format!("[listeners.second]\naddress = \"{second}\"\nshare = true\n"))
    };
    let setup = two("127.0.0.1:0", "127.0.0.1:0");
    let other = with_key_of(&setup, Setup::new(""));
    let mut old = setup.start();
    let second = old.listener("second").unwrap();
    let loads = [old.address, second].map(|address| Load::start(address, &old.key));
    let go_on = || loads.iter().for_each(|load| load.answers(30));
    go_on();
    let good = old.configuration();
    for round in 0..3 {
        let status = if round % 2 == 0 { "429" } else { "403" };
        old.reload(
            &good.clone().set("listeners.second.rate_limit_status", crate::support::value(status)),
        );
        go_on();
    }
    let (first, second) = (old.address.to_string(), second.to_string());
    let new = with_key_of(&other, two(&first, &second)).start();
    go_on();
    old.signal("TERM");
    assert_eq!(old.wait(Duration::from_secs(20)).code(), Some(0));
    go_on();
    for load in loads {
        load.assert_nothing_is_lost();
    }
    new.until_metric_reaches("wbg_listener_connections_accepted_total{listener=\"second\"}", 1.0);
}
