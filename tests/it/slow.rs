//! Peers that take their time, or as many connections as they can: each has a bound, and nobody
//! else pays for it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Answer, Authority, Client, Gate, Process, Setup, Upstream, dial, exchange, read_answer,
    scenario_delay, wait_until, wait_within,
};

/// After that long a connection may be ended for another one, and it has been seen at a tick.
const YOUNG: Duration = Duration::from_millis(1_500);

/// Waits for the end of a connection, and gives how long it took.
fn lifetime(mut stream: TcpStream) -> Duration {
    let begun = Instant::now();
    let mut scratch = [0; 4096];
    while matches!(stream.read(&mut scratch), Ok(count) if count > 0) {}
    begun.elapsed()
}

/// Sends a byte now and then, until there is an answer or the end.
fn drip(stream: &TcpStream, bytes: &[u8]) -> Option<Answer> {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for byte in bytes {
                if over.load(Ordering::Relaxed) || writer.write_all(&[*byte]).is_err() {
                    break;
                }
                scenario_delay(Duration::from_millis(50));
            }
        });
        let answer = read_answer(&mut reader, false);
        over.store(true, Ordering::Relaxed);
        answer
    })
}

/// A gateway whose times are short.
fn hasty(upstream: &str, listen: &str) -> Setup {
    let times = format!("[listen]\nhead_timeout = \"600ms\"\nwrite_timeout = \"1s\"\n{listen}");
    Setup::new(upstream).with(&times).with("[body]\ntimeout = \"600ms\"\n")
}

/// A request of the caller `lessons`.
fn request(gateway: &Process, line: &str, rest: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n{rest}", gateway.key)
}

#[test]
fn a_head_or_a_body_that_drips_is_refused_when_its_time_is_over() {
    let gateway = hasty(&Upstream::json("201 Created", "{}").url(), "").start();
    let long = format!("x: {}\r\n", "a".repeat(1_000));
    let head = request(&gateway, "GET /v5/rooms", &long);
    let body = request(&gateway, "POST /v5/rooms", "content-length: 1000\r\n\r\n");
    thread::scope(|scope| {
        for (first, rest) in [("", head.as_bytes()), (body.as_str(), &[b' '; 1000])] {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut stream = dial(gateway.address);
                stream.write_all(first.as_bytes()).unwrap();
                let begun = Instant::now();
                let answer = drip(&stream, rest).expect("an answer");
                answer.assert_envelope(400, "request_timeout");
                // Each byte is in time; all of them would take 50 seconds.
                assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
            });
        }
    });
}

#[test]
fn a_tls_handshake_that_drips_is_ended() {
    let authority = Authority::new("an authority");
    let setup = hasty(&Upstream::json("200 OK", "[]").url(), "")
        .with("[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
    authority.certify("localhost").write(setup.folder.path());
    let gateway = setup.start();
    // A record of 512 bytes, of a hello that long.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0; 500]].concat();
    let begun = Instant::now();
    let stream = dial(gateway.address);
    assert!(drip(&stream, &hello).is_none());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // And one of whom nothing comes after a whole record.
    let mut stream = dial(gateway.address);
    stream.write_all(&hello).unwrap();
    assert!(lifetime(stream) < Duration::from_secs(10));
}

/// An upstream with an answer that passes through; counts the connections on which it could not
/// write to the end.
fn long_answers(ended: &Arc<AtomicUsize>) -> Upstream {
    let ended = Arc::clone(ended);
    Upstream::scripted(move |_, stream| {
        const LENGTH: usize = 32 * 1024 * 1024;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        // One text of JSON.
        let piece = vec![b'a'; 64 * 1024];
        let (mut first, mut last) = (piece.clone(), piece.clone());
        (first[0], last[64 * 1024 - 1]) = (b'"', b'"');
        let mut send = |bytes: &[u8]| stream.write_all(bytes).is_ok();
        let whole = send(head.as_bytes())
            && send(&first)
            && (2..LENGTH / piece.len()).all(|_| send(&piece))
            && send(&last);
        ended.fetch_add(usize::from(!whole), Ordering::SeqCst);
        whole
    })
}

#[test]
fn a_reader_that_stops_does_not_hold_the_upstream_and_one_that_is_slow_gets_all() {
    let ended = Arc::new(AtomicUsize::new(0));
    let upstream = long_answers(&ended);
    // Far longer than a busy machine holds up the slow one, and takes for both.
    let gateway = hasty(&upstream.url(), "")
        .set("listen.write_timeout", "3s")
        .set("upstream.timeout", "2m")
        .start();
    let memory = gateway.memory();
    let get = request(&gateway, "GET /v5/rooms/slow", "\r\n");
    let mut slow = dial(gateway.address);
    slow.write_all(get.as_bytes()).unwrap();
    let mut stopped = dial(gateway.address);
    stopped.write_all(get.as_bytes()).unwrap();
    let mut read = 0;
    let mut scratch = vec![0; 64 * 1024];
    // Slow, but for longer than the other may take nothing; then the rest.
    let begun = Instant::now();
    loop {
        match slow.read(&mut scratch) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) => panic!("after {read} bytes: {error}"),
        }
        if begun.elapsed() < Duration::from_millis(4_500) {
            scenario_delay(Duration::from_millis(10));
        }
        if read > 32 * 1024 * 1024 {
            break;
        }
    }
    assert!(read > 32 * 1024 * 1024, "{read}");
    wait_until("the upstream is left alone", || ended.load(Ordering::SeqCst) == 1);
    wait_until("it is counted", || {
        gateway.metric("wbg_connections_cut_total{reason=\"stalled\"}") == 1.0
    });
    let grown = gateway.memory().saturating_sub(memory);
    assert!(grown < 50, "{grown} MiB more than before");
}

#[test]
fn requests_in_a_row_whose_answers_nobody_takes_are_read_no_further() {
    let body = format!("[{}]", "1,".repeat(10_000) + "1");
    let gateway = hasty(&Upstream::json("200 OK", &body).url(), "").start();
    let memory = gateway.memory();
    let many = request(&gateway, "GET /v5/rooms", "\r\n").repeat(100);
    let mut stream = dial(gateway.address);
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut sent = 0;
    let end = loop {
        match stream.write(many.as_bytes()) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 256 * 1024 * 1024, "it reads on and on");
    };
    // Too full, and in the end closed.
    let ended = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::WouldBlock];
    assert!(ended.contains(&end.kind()), "{end}");
    wait_until("it is ended", || {
        gateway.metric("wbg_connections_cut_total{reason=\"stalled\"}") == 1.0
    });
    let grown = gateway.memory().saturating_sub(memory);
    assert!(grown < 50, "{grown} MiB more than before, for {sent} bytes");
}

#[test]
fn an_address_has_no_more_connections_than_its_share_unless_it_is_a_proxy() {
    let upstream = Upstream::json("200 OK", "[]");
    let share = "max_connections_per_address = 3\n";
    let gateway = hasty(&upstream.url(), share).start();
    let mut kept: Vec<Client> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut kept {
        assert_eq!(client.call(&gateway.key, "GET", "/v5/rooms", "").status, 200);
    }
    let answer = gateway.client().answer("GET").expect("told so");
    answer.assert_envelope(500, "overloaded");
    assert!(answer.member("message").contains("this address"), "{}", answer.text());
    gateway.until_metric_reaches("wbg_connections_cut_total{reason=\"address_full\"}", 1.0);
    drop(kept);
    let get = request(&gateway, "GET /v5/rooms", "\r\n");
    wait_until("there is a place again", || {
        exchange(gateway.address, get.as_bytes()).is_some_and(|answer| answer.status == 200)
    });
    let trusted = format!("{share}trusted_proxies = [\"127.0.0.1\"]\n");
    let gateway = hasty(&upstream.url(), &trusted).start();
    let mut many: Vec<Client> = (0..6).map(|_| gateway.client()).collect();
    for client in &mut many {
        assert_eq!(client.call(&gateway.key, "GET", "/v5/rooms", "").status, 200);
    }
}

#[test]
fn idle_connections_make_room_for_new_ones_those_that_were_never_answered_first() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::scripted(move |request, stream| {
        if request.line.contains("/v5/rooms/busy") {
            held.wait();
        }
        stream.write_all(crate::support::answer("200 OK", "[]").as_bytes()).is_ok()
    });
    let gateway = Setup::new(&upstream.url())
        .with("[listen]\nmax_connections = 8\nhead_timeout = \"30s\"\n")
        .set("listen.workers", 1)
        .start();
    let key = gateway.key.as_str();
    let mut answered = gateway.client();
    assert_eq!(answered.call(key, "GET", "/v5/rooms", "").status, 200);
    let mut busy = gateway.client();
    busy.send(request(&gateway, "GET /v5/rooms/busy", "\r\n").as_bytes());
    // Six that say nothing, or begin and do not end.
    let mut silent: Vec<TcpStream> = (0..6).map(|_| dial(gateway.address)).collect();
    for stream in &mut silent[3..] {
        stream.write_all(b"GET /v5/rooms HTT").unwrap();
    }
    scenario_delay(YOUNG);
    let mut kept = Vec::new();
    for number in 0..6 {
        let mut client = gateway.client();
        let answer = client.call(key, "GET", "/v5/rooms", "");
        assert_eq!(answer.status, 200, "{number}: {}", answer.text());
        kept.push(client);
    }
    gateway.until_metric_reaches("wbg_connections_cut_total{reason=\"crowded_out\"}", 6.0);
    for stream in silent {
        assert!(lifetime(stream) < Duration::from_secs(5), "it was ended");
    }
    assert_eq!(answered.call(key, "GET", "/v5/rooms", "").status, 200);
    gate.open();
    assert_eq!(busy.answer("GET").map(|answer| answer.status), Some(200));
}

#[test]
fn an_idle_connection_makes_room_whichever_worker_it_is_on() {
    let upstream = Upstream::scripted(|_, stream| {
        // Busy until the gateway is gone.
        _ = stream.read(&mut [0]);
        false
    });
    let gateway = Setup::new(&upstream.url()).with("[listen]\nmax_connections = 10\n").start();
    let get = request(&gateway, "GET /v5/rooms", "\r\n");
    let mut busy: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut busy {
        client.send(get.as_bytes());
    }
    wait_until("both are busy", || upstream.received().len() == 2);
    let idle = || {
        let mut client = gateway.client();
        let body = r#"{"lifespan":1000,"role":"reader"}"#;
        let answer = client.call(&gateway.key, "POST", "/v5/tokens/rooms/a", body);
        assert_eq!(answer.status, 201, "{}", answer.text());
        client
    };
    let mut former: Vec<Client> = (0..8).map(|_| idle()).collect();
    scenario_delay(YOUNG);
    // Of two workers, each gets about a half of them.
    let _kept: Vec<Client> = (0..8).map(|_| idle()).collect();
    assert!(former.iter_mut().all(Client::is_closed));
    gateway.until_metric("wbg_connections_cut_total{reason=\"crowded_out\"}", 8.0);
    assert!(gateway.metric("wbg_connections_cut_total{reason=\"full\"}") < 1.0);
}

#[test]
fn who_comes_when_all_are_busy_is_turned_away_and_told() {
    let gate = Gate::default();
    let held = gate.clone();
    let upstream = Upstream::scripted(move |_, stream| {
        held.wait();
        stream.write_all(crate::support::answer("200 OK", "[]").as_bytes()).is_ok()
    });
    let gateway = Setup::new(&upstream.url()).with("[listen]\nmax_connections = 4\n").start();
    let get = request(&gateway, "GET /v5/rooms", "\r\n");
    let mut busy: Vec<Client> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut busy {
        client.send(get.as_bytes());
    }
    wait_until("all are busy", || upstream.received().len() == 4);
    let answer = gateway.client().answer("GET").expect("told so");
    answer.assert_envelope(500, "overloaded");
    assert_eq!(answer.header("retry-after"), "1");
    gate.open();
    for client in &mut busy {
        assert_eq!(client.answer("GET").map(|answer| answer.status), Some(200));
    }
}

/// How honest clients fare.
#[derive(Debug)]
struct Fare {
    answered: usize,
    p99: Duration,
}

/// Asks in a row on connections that are kept, for a while.
fn honest(address: SocketAddr, key: &str, clients: usize, time: Duration) -> Fare {
    let mut took: Vec<Duration> = thread::scope(|scope| {
        let asking: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(move || {
                    let mut client = Client::connect(address);
                    let mut took = Vec::new();
                    let begun = Instant::now();
                    while begun.elapsed() < time {
                        let asked = Instant::now();
                        let answer = client.call(key, "GET", "/v5/rooms", "");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        took.push(asked.elapsed());
                    }
                    took
                })
            })
            .collect();
        asking.into_iter().flat_map(|asking| asking.join().unwrap()).collect()
    });
    took.sort_unstable();
    Fare { answered: took.len(), p99: took[(took.len() - 1) * 99 / 100] }
}

/// Keeps so many slow connections of every kind open until it is told to end; says how many there
/// are once it has tried all, and gives how often one had to be opened anew. Each does something once
/// a second.
fn attack(address: SocketAddr, count: usize, over: &AtomicBool, opened: &OnceLock<usize>) -> usize {
    let preface = crate::support::frames::PREFACE;
    let open = |kind: usize| -> Option<TcpStream> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_nonblocking(true).unwrap();
        // What it takes at once is enough.
        let begun: &[u8] = match kind % 6 {
            0 => b"",
            1 => b"GET /v5/rooms HTTP/1.1\r\nx: ",
            2 => b"POST /v5/rooms HTTP/1.1\r\nhost: g\r\ncontent-length: 100000\r\n\r\n{",
            3 => b"GET /v5/rooms HTTP/1.1\r\nhost: g\r\n\r\n",
            4 => preface,
            _ => &[preface, &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]].concat(),
        };
        _ = stream.write(begun);
        Some(stream)
    };
    let mut all: Vec<Option<TcpStream>> = (0..count).map(open).collect();
    opened.set(all.iter().flatten().count()).unwrap();
    let mut again = 0;
    while !over.load(Ordering::Relaxed) {
        let round = Instant::now();
        for (kind, slot) in all.iter_mut().enumerate() {
            let mut scratch = [0; 1];
            let alive = slot.as_mut().is_some_and(|stream| match kind % 6 {
                1 | 2 => stream.write(b"a").is_ok(),
                _ => !matches!(stream.read(&mut scratch), Ok(0)),
            });
            if !alive {
                *slot = open(kind);
                again += 1;
            }
            if kind % 500 == 0 && over.load(Ordering::Relaxed) {
                break;
            }
        }
        scenario_delay(Duration::from_secs(1).saturating_sub(round.elapsed()));
    }
    again
}

/// Ends an attack, also when what it is made for panics.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Measures honest clients under an attack of so many slow ones.
fn attacked(gateway: &Process, slow: usize, clients: usize, time: Duration) -> Fare {
    let (address, key) = (gateway.address, gateway.key.as_str());
    let over = AtomicBool::new(false);
    let opened = OnceLock::new();
    thread::scope(|scope| {
        let attacking = scope.spawn(|| attack(address, slow, &over, &opened));
        let ending = Ending(&over);
        wait_within(Duration::from_secs(60), "all are tried", || opened.get().is_some());
        scenario_delay(YOUNG);
        let opened = *opened.get().unwrap();
        let open = gateway.metric("wbg_connections");
        let fare = honest(address, key, clients, time);
        let memory = gateway.memory();
        drop(ending);
        let again = attacking.join().unwrap();
        eprintln!(
            "{slow} slow connections: {opened} opened, {open} open as it began, {again} opened \
             again; {memory} MiB"
        );
        fare
    })
}

#[test]
fn honest_clients_are_answered_while_hundreds_of_slow_ones_hold_every_place() {
    let gateway = Setup::new(&Upstream::json("200 OK", "[]").url())
        .with("[listen]\nmax_connections = 300\n")
        .set("log.level", "info")
        .set("log.access", "off")
        .start();
    let time = Duration::from_millis(1_500);
    let before = honest(gateway.address, &gateway.key, 2, time);
    let during = attacked(&gateway, 400, 2, time);
    // None failed. How fast they were says more about this machine, which others use as well.
    assert!(during.answered * 10 > before.answered, "{before:?} {during:?}");
}

/// The full attack, in a release build:
/// `cargo test --release --test it -- --ignored --nocapture five_thousand`.
///
/// In turns with and without, since what else a machine does comes and goes: two with an attack,
/// each between two without.
#[test]
#[ignore = "takes a minute, and wants a machine for itself and a release build"]
fn five_thousand_slow_clients_cost_honest_ones_a_tenth_at_most() {
    let gateway = Setup::new(&Upstream::json("200 OK", "[]").url())
        .set("log.level", "info")
        .set("log.access", "off")
        .start();
    let time = Duration::from_secs(10);
    let alone = || {
        wait_until("the attack is over", || gateway.metric("wbg_connections") < 50.0);
        honest(gateway.address, &gateway.key, 8, time)
    };
    alone();
    let (mut without, mut with) = (vec![alone()], Vec::new());
    for _ in 0..2 {
        with.push(attacked(&gateway, 5_000, 8, time));
        without.push(alone());
    }
    eprintln!("without: {without:?}\nwith:    {with:?}");
    let answered = |fares: &[Fare]| {
        fares.iter().map(|fare| fare.answered).sum::<usize>() as f64 / fares.len() as f64
    };
    let p99 = |fares: &[Fare]| {
        fares.iter().map(|fare| fare.p99.as_secs_f64()).sum::<f64>() / fares.len() as f64
    };
    let kept = answered(&with) / answered(&without);
    let slower = p99(&with) / p99(&without);
    eprintln!("{:.1} % of the throughput, the p99 {slower:.2} times", kept * 100.0);
    assert!(kept >= 0.9 && slower <= 2.0);
}
