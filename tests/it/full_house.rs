//! What happens when there are as many connections as may be: who makes room, and that it is nobody
//! who has a good credential as long as there is anybody else.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, SETTINGS, WINDOW_UPDATE, block, frame,
    get_fields,
};
use crate::support::{
    Client, Frames, Outcome, Process, Setup, Upstream, dial, scenario_delay, wait_until,
};

/// After that long a connection may be ended for another one, and it has been seen at a tick.
const YOUNG: Duration = Duration::from_millis(1_500);

fn gateway(upstream: &Upstream, most: usize) -> Process {
    Setup::new(&upstream.url())
        .with(&format!("[listen]\nhead_timeout = \"60s\"\nmax_connections = {most}\n"))
        .start()
}

/// Asks without a credential for what it then takes nothing of.
fn takes_nothing(gateway: &Process) -> Frames {
    let mut frames = Frames::bare(gateway.address);
    let fields =
        [(":method", "GET"), (":scheme", "http"), (":path", "/v5/rooms"), (":authority", "g")];
    let all = [
        crate::support::frames::PREFACE.to_vec(),
        // INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields)),
    ];
    frames.write(&all.concat());
    frames
}

/// Somebody who is refused, and stays.
fn refused(gateway: &Process) -> Client {
    let mut client = gateway.client();
    assert_eq!(client.request("GET", "/v5/rooms", &[], "").status, 401);
    client
}

fn served(gateway: &Process) -> Client {
    let mut client = gateway.client();
    let answer = client.call(&gateway.key, "GET", "/v5/rooms", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    client
}

#[test]
fn an_answer_without_a_credential_that_nobody_takes_holds_no_place() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = gateway(&upstream, 40);
    let _all: Vec<Frames> = (0..40).map(|_| takes_nothing(&gateway)).collect();
    wait_until("all are there", || gateway.metric("wbg_connections") >= 40.0);
    scenario_delay(YOUNG);
    let _kept: Vec<Client> = (0..20).map(|_| served(&gateway)).collect();
    assert_eq!(gateway.metric("wbg_connections_cut_total{reason=\"full\"}"), 0.0);
}

#[test]
fn a_good_credential_is_the_last_to_make_room_and_a_refusal_comes_before_a_beginning() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = gateway(&upstream, 12);
    let mut good: Vec<Client> = (0..3).map(|_| served(&gateway)).collect();
    let mut begun: Vec<TcpStream> = (0..3).map(|_| dial(gateway.address)).collect();
    for stream in &mut begun {
        stream.write_all(b"GET /v5/rooms HTTP/1.1\r\n").unwrap();
    }
    let mut refused: Vec<Client> = (0..3).map(|_| refused(&gateway)).collect();
    let mut stalled: Vec<Frames> = (0..3).map(|_| takes_nothing(&gateway)).collect();
    wait_until("all are there", || gateway.metric("wbg_connections") >= 12.0);
    scenario_delay(YOUNG);
    let is_open = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let open = !matches!(stream.peek(&mut [0]), Ok(0));
        stream.set_nonblocking(false).unwrap();
        open
    };
    let mut kept = Vec::new();
    kept.extend((0..3).map(|_| served(&gateway)));
    for frames in &mut stalled {
        while frames.next().is_some() {}
    }
    assert!(refused.iter().all(|client| is_open(client.stream())));
    kept.extend((0..3).map(|_| served(&gateway)));
    assert!(refused.iter_mut().all(Client::is_closed));
    assert!(begun.iter().all(is_open));
    kept.extend((0..3).map(|_| served(&gateway)));
    for stream in &mut begun {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    for client in &mut good {
        assert_eq!(client.call(&gateway.key, "GET", "/v5/rooms", "").status, 200);
    }
}

/// The answer is with the gateway's HTTP/2 alone, which has it whole, and waits for the peer's window;
/// and what is refused to the peer meanwhile takes no place from it.
#[test]
fn an_answer_that_a_peer_reads_slowly_over_http2_keeps_its_place_to_its_end() {
    let body = format!("[\"{}\"]", "x".repeat(60_000));
    let upstream = Upstream::json("200 OK", &body);
    let gateway = gateway(&upstream, 4);
    let mut reader = Frames::connect(gateway.address);
    // INITIAL_WINDOW_SIZE (RFC 9113 §6.5.2).
    reader.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 16, 0]);
    let head = get_fields("/v5/rooms", &gateway.key);
    reader.head(1, END_STREAM, &head);
    let mut taken = 0;
    while taken < 4096 {
        let frame = reader.next_answered().unwrap();
        taken += if frame.kind == DATA { frame.payload.len() } else { 0 };
    }
    reader.head(3, END_STREAM, &head[..4]);
    let refusal = std::iter::from_fn(|| reader.next_answered());
    assert!(refusal.into_iter().any(|frame| frame.stream == 3 && frame.flags & END_STREAM != 0));
    let mut idle: Vec<Client> = (0..3).map(|_| served(&gateway)).collect();
    scenario_delay(YOUNG);
    let _newcomers: Vec<Client> = (0..3).map(|_| served(&gateway)).collect();
    assert!(idle.iter_mut().all(Client::is_closed), "they are idle, and later than the reader");
    reader.send(WINDOW_UPDATE, 0, 1, &60_000_u32.to_be_bytes());
    loop {
        let frame = reader.next_answered().expect("the rest of the answer");
        assert_ne!(frame.kind, GOAWAY);
        taken += if frame.kind == DATA { frame.payload.len() } else { 0 };
        if frame.kind == DATA && frame.flags & END_STREAM != 0 {
            break;
        }
    }
    assert_eq!(taken, body.len());
}

/// A request may be on its way: whoever sent it knows from this that nobody has read it.
#[test]
fn one_that_makes_room_is_told_what_was_read_of_it() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = gateway(&upstream, 4);
    let head = get_fields("/v5/rooms", &gateway.key);
    let mut idle: Vec<Frames> = (0..4).map(|_| Frames::connect(gateway.address)).collect();
    for frames in &mut idle {
        for stream in [1, 3] {
            frames.head(stream, END_STREAM, &head);
            assert_eq!(frames.outcome(stream), Outcome::Answer("[]".to_owned()));
        }
    }
    scenario_delay(YOUNG);
    let _newcomers: Vec<Client> = (0..4).map(|_| served(&gateway)).collect();
    for frames in &mut idle {
        let last = std::iter::from_fn(|| frames.next()).last().unwrap();
        // Stream 3 was the last that was read, and nothing was wrong (NO_ERROR).
        assert_eq!((last.kind, last.payload), (GOAWAY, vec![0, 0, 0, 3, 0, 0, 0, 0]));
    }
}

#[test]
fn a_newcomer_is_not_the_victim_of_those_who_are_refused() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = gateway(&upstream, 200);
    let mut attackers: Vec<Client> = (0..200).map(|_| refused(&gateway)).collect();
    scenario_delay(YOUNG);
    let over = Instant::now() + Duration::from_secs(3);
    thread::scope(|scope| {
        scope.spawn(|| {
            // A hundred a second, each good for one refusal.
            while Instant::now() < over {
                attackers.push(refused(&gateway));
                scenario_delay(Duration::from_millis(10));
            }
        });
        for number in 0..20 {
            let stream = dial(gateway.address);
            // A handshake takes its time.
            scenario_delay(Duration::from_millis(100));
            let mut client = Client::over(stream);
            let answer = client.call(&gateway.key, "GET", "/v5/rooms", "");
            assert_eq!(answer.status, 200, "{number}: {}", answer.text());
        }
    });
    assert_eq!(gateway.metric("wbg_connections_cut_total{reason=\"full\"}"), 0.0);
}

#[test]
fn where_there_is_room_nobody_is_ended_early_and_no_head_before_its_time() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).with("[listen]\nhead_timeout = \"1s\"\n").start();
    let mut others = [refused(&gateway), served(&gateway)];
    thread::scope(|scope| {
        for number in 0..12_u64 {
            let gateway = &gateway;
            scope.spawn(move || {
                // At another time of a tick each.
                scenario_delay(Duration::from_millis(number * 37));
                let mut stream = dial(gateway.address);
                let begun = Instant::now();
                if number % 2 == 0 {
                    stream.write_all(b"GET /v5/rooms HTTP/1.1\r\n").unwrap();
                }
                let mut answer = Vec::new();
                _ = stream.read_to_end(&mut answer);
                let took = begun.elapsed();
                assert!(took >= Duration::from_secs(1), "{number}: {took:?}");
                assert!(took < Duration::from_secs(4), "{number}: {took:?}");
            });
        }
    });
    for client in &mut others {
        assert!(client.request("GET", "/v5/rooms", &[], "").status == 401);
    }
    assert_eq!(gateway.metric("wbg_connections_cut_total{reason=\"crowded_out\"}"), 0.0);
}
