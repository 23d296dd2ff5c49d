//! Connections to the service that were kept and are dead, and a process that was stopped for a
//! while: what is lost, and what must not be.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Gate, Process, Setup, Upstream, answer, scenario_delay, silent_until_gone, wait_until,
};

/// An upstream that answers on new connections alone once `dead` is set.
struct Failover {
    upstream: Upstream,
    dead: Arc<AtomicUsize>,
}

impl Failover {
    fn start() -> Self {
        let made = Arc::new(AtomicUsize::new(0));
        let dead = Arc::new(AtomicUsize::new(0));
        let before = Arc::clone(&dead);
        let upstream = Upstream::raw(move |stream| {
            let number = made.fetch_add(1, Ordering::SeqCst) + 1;
            serve(stream, || number <= before.load(Ordering::SeqCst));
        });
        Self { upstream, dead }
    }

    /// Nothing is answered any more on the connections that there are.
    fn fails_over(&self) {
        self.dead.store(self.upstream.connections(), Ordering::SeqCst);
    }
}

/// Answers each request after a moment, unless the connection is dead.
fn serve(mut stream: TcpStream, dead: impl Fn() -> bool) {
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    while crate::support::Received::read(&mut reader).is_some() {
        scenario_delay(Duration::from_millis(100));
        if !dead() && stream.write_all(answer("200 OK", "{}").as_bytes()).is_err() {
            return;
        }
    }
}

/// So many requests at once, and their codes; empty for a success.
fn at_once(gateway: &Process, count: usize) -> Vec<String> {
    thread::scope(|scope| {
        let one = || {
            let answer = gateway.call("GET", "/v5/rooms/a", "");
            if answer.status == 200 { String::new() } else { answer.member("code") }
        };
        let asked: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn a_service_whose_kept_connections_all_died_costs_what_was_sent_before_the_first_timeout() {
    let service = Failover::start();
    let quick = "[upstream]\nfirst_byte_timeout = \"600ms\"\ntimeout = \"900ms\"\n";
    let gateway = Setup::new(&service.upstream.url()).with(quick).start();
    assert!(at_once(&gateway, 40).iter().all(String::is_empty));
    assert!(service.upstream.connections() > 4);
    service.fails_over();
    // As many as fill a breaker's row find out that what they were sent on is dead.
    let lost = at_once(&gateway, 12);
    assert!(lost.iter().any(|code| code == "upstream_timeout"), "{lost:?}");
    let after: Vec<String> = (0..6).flat_map(|_| at_once(&gateway, 20)).collect();
    assert_eq!(after, vec![String::new(); 120], "{:?}", gateway.access_lines().last());
}

#[test]
fn a_read_that_finds_a_dead_connection_is_answered_on_a_new_one() {
    let service = Failover::start();
    let quick = "[upstream]\nfirst_byte_timeout = \"300ms\"\ntimeout = \"5s\"\n";
    let gateway = Setup::new(&service.upstream.url()).with(quick).set("listen.workers", 1).start();
    at_once(&gateway, 5);
    service.fails_over();
    // One at a time: the second attempt of the first would find another dead one.
    assert_eq!(at_once(&gateway, 1), [""]);
    let begun = Instant::now();
    assert_eq!(at_once(&gateway, 1), [""]);
    assert!(begun.elapsed() < Duration::from_millis(300), "the dead ones are not tried again");
}

#[test]
fn answers_that_came_while_the_process_was_stopped_are_read() {
    let asked = Arc::new(AtomicUsize::new(0));
    let gate = Gate::default();
    let (count, held) = (Arc::clone(&asked), gate.clone());
    let upstream = Upstream::scripted(move |_, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        held.wait();
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    });
    let short = "[upstream]\nfirst_byte_timeout = \"1s\"\ntimeout = \"2s\"\n";
    let once = "[upstream.retry]\nattempts = 1\n";
    let setup = Setup::new(&upstream.url()).with(short).with(once);
    let gateway = setup.start();
    for _ in 0..3 {
        gate.close();
        asked.store(0, Ordering::SeqCst);
        let codes = thread::scope(|scope| {
            let waiting = scope.spawn(|| at_once(&gateway, 20));
            wait_until("all are asked", || asked.load(Ordering::SeqCst) == 20);
            gateway.signal("STOP");
            gate.open();
            scenario_delay(Duration::from_millis(2_500));
            gateway.signal("CONT");
            waiting.join().unwrap()
        });
        assert_eq!(codes, vec![String::new(); 20]);
    }
}

/// An upstream that stalls in the midst of a long answer, but on one path.
fn stalling() -> Upstream {
    Upstream::scripted(|request, stream| {
        if request.line.contains("/v5/rooms/quick") {
            return stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok();
        }
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 300000\r\n\r\n";
        _ = stream.write_all(format!("{head}\"{}", "x".repeat(149_999)).as_bytes());
        silent_until_gone(stream);
        false
    })
}

#[test]
fn a_request_is_in_flight_until_its_answer_is_over_also_over_a_reload() {
    let upstream = stalling();
    let bound = "[upstream]\nmax_in_flight = 2\n";
    let gateway = Setup::new(&upstream.url()).with(bound).set("listen.workers", 1).start();
    let begin = || {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        let request =
            format!("GET /v5/rooms/long HTTP/1.1\r\nhost: x\r\ntoken: {}\r\n\r\n", gateway.key);
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let held = [begin(), begin()];
    wait_until("both have begun", || upstream.received().len() == 2);
    wait_until("both are counted", || gateway.metric("wbg_upstream_in_flight") == 2.0);
    gateway.call("GET", "/v5/rooms/quick", "").assert_envelope(500, "overloaded");
    let text = std::fs::read_to_string(gateway.config_path()).unwrap();
    gateway.reload(&format!("{text}\n# nothing of the service\n"));
    gateway.call("GET", "/v5/rooms/quick", "").assert_envelope(500, "overloaded");
    drop(held);
    wait_until("they are over", || gateway.call("GET", "/v5/rooms/quick", "").status == 200);
}

/// A listener whose queue is full: the system takes what wants to connect a second later, or three.
fn full() -> (std::net::TcpListener, Vec<TcpStream>) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let held = std::iter::from_fn(|| connect().ok()).collect();
    (listener, held)
}

/// Whether the system has asked this address for a connection, and no answer has come.
fn is_dialled(address: std::net::SocketAddr) -> bool {
    const SYN_SENT: &str = "02";
    let port = format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2].ends_with(&port) && fields[3] == SYN_SENT
    })
}

#[test]
fn a_connection_that_came_to_stand_while_the_process_was_stopped_counts() {
    let (listener, _held) = full();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}");
    let once = "[upstream.retry]\nattempts = 1\n[upstream.breaker]\nenabled = false\n";
    let gateway =
        Setup::new(&url).with("[upstream]\nconnect_timeout = \"2s\"\n").with(once).start();
    let code = thread::scope(|scope| {
        let asked = scope.spawn(|| at_once(&gateway, 1));
        wait_until("it wants its connection", || is_dialled(address));
        gateway.signal("STOP");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream, || false));
            }
        });
        // The system asks again for the connection after a second, and then it stands.
        scenario_delay(Duration::from_millis(2_500));
        gateway.signal("CONT");
        asked.join().unwrap()
    });
    assert_eq!(code, [""], "{:?}", gateway.access_lines());
}

#[test]
fn nothing_is_sent_on_one_that_came_to_stand_after_the_end_of_the_request() {
    let (listener, held) = full();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bounds = "[upstream]\ntimeout = \"2s\"\nconnect_timeout = \"1s\"\n";
    let gateway = Setup::new(&url).with(bounds).with("[upstream.breaker]\nfailures = 1\n").start();
    let taken = thread::scope(|scope| {
        let asked = scope.spawn(|| gateway.call("GET", "/v5/rooms/held", ""));
        wait_until("it wants its connection", || is_dialled(listener.local_addr().unwrap()));
        gateway.signal("STOP");
        // What came before is taken first; who waits for too long for a request is let go of.
        let service = scope.spawn(|| {
            let taken: Vec<_> = listener.incoming().flatten().take(held.len() + 1).collect();
            let mut last = taken.into_iter().last().unwrap();
            scenario_delay(Duration::from_millis(500));
            last.shutdown(std::net::Shutdown::Write).unwrap();
            last.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let mut come = Vec::new();
            _ = last.read_to_end(&mut come);
            come
        });
        scenario_delay(Duration::from_millis(2_500));
        gateway.signal("CONT");
        asked.join().unwrap().assert_envelope(500, "upstream_timeout");
        service.join().unwrap()
    });
    assert_eq!(taken, b"", "nothing is asked of the service for an answer that nobody waits for");
    let opened = gateway.metric("wbg_upstream_breaker_opened_total{region=\"us-sv\"}");
    assert_eq!(opened, 0.0, "that says nothing about the service");
}

#[test]
fn a_body_that_came_while_the_process_was_stopped_is_read() {
    let upstream = Upstream::json("201 Created", "{}");
    let gateway = Setup::new(&upstream.url()).with("[body]\ntimeout = \"1s\"\n").start();
    let mut client = gateway.client();
    let token = [("token", gateway.key.as_str())];
    client.announce("POST /v5/rooms", &token, 2);
    gateway.signal("STOP");
    client.send(b"{}");
    scenario_delay(Duration::from_millis(2_500));
    gateway.signal("CONT");
    let answered = client.answer("POST").unwrap();
    assert_eq!(answered.status, 201, "{}", answered.text());
}
