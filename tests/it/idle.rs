//! Connections that are kept while nothing is asked on them: they cost little, and are as good as
//! new.

use std::fs;
use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use crate::support::{
    Authority, Client, Http2, Process, Setup, Upstream, handshake, scenario_delay, wait_within,
};

/// Longer than a connection is idle before its buffers are given back.
const A_WHILE: Duration = Duration::from_millis(1_100);

fn get(key: &str) -> String {
    format!("GET /v5/rooms HTTP/1.1\r\nhost: gateway\r\ntoken: {key}\r\n\r\n")
}

/// A gateway that speaks TLS.
fn encrypted(upstream: &Upstream, authority: &Authority) -> Process {
    let setup = Setup::new(&upstream.url())
        .with("[listen.tls]\ncertificate = \"certificate.pem\"\nkey = \"key.pem\"\n");
    authority.certify("localhost").write(setup.folder.path());
    setup.start()
}

/// Uses a connection as a patient client does, idle for a while each time.
fn use_patiently<T: Read + Write>(client: &mut Client<T>, key: &str) {
    let request = get(key);
    for _ in 0..2 {
        client.send(request.as_bytes());
        assert_eq!(client.answer("GET").unwrap().status, 200);
        scenario_delay(A_WHILE);
    }
    // A byte, and the rest when the next moment is long over.
    client.send(&request.as_bytes()[..1]);
    scenario_delay(A_WHILE);
    client.send(&request.as_bytes()[1..]);
    assert_eq!(client.answer("GET").unwrap().status, 200);
    // One request and the beginning of the next.
    client.send(format!("{request}{}", &request[..30]).as_bytes());
    assert_eq!(client.answer("GET").unwrap().status, 200);
    scenario_delay(A_WHILE);
    client.send(&request.as_bytes()[30..]);
    assert_eq!(client.answer("GET").unwrap().status, 200);
    scenario_delay(A_WHILE);
    client.send(b"NOT HTTP\r\n\r\n");
    client.answer("GET").unwrap().assert_envelope(400, "malformed_request");
}

#[test]
fn a_connection_that_was_idle_for_a_while_is_as_good_as_new() {
    let upstream = Upstream::json("200 OK", "[]");
    let authority = Authority::new("authority");
    let plain = Setup::new(&upstream.url()).start();
    let encrypted = encrypted(&upstream, &authority);
    thread::scope(|scope| {
        scope.spawn(|| use_patiently(&mut plain.client(), &plain.key));
        scope.spawn(|| {
            let stream = handshake(encrypted.address, &authority, &["http/1.1"]).unwrap();
            use_patiently(&mut Client::over(stream), &encrypted.key);
        });
    });
}

#[test]
fn a_connection_that_was_idle_for_a_while_ends_when_its_time_is_over() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url())
        .with("[listen]\nidle_timeout = \"1500ms\"\nhead_timeout = \"1s\"\n")
        .start();
    let mut idle = gateway.client();
    let mut stalled = gateway.client();
    for client in [&mut idle, &mut stalled] {
        client.send(get(&gateway.key).as_bytes());
        assert_eq!(client.answer("GET").unwrap().status, 200);
    }
    scenario_delay(A_WHILE);
    stalled.send(b"G");
    stalled.answer("GET").unwrap().assert_envelope(400, "request_timeout");
    assert!(idle.is_closed());
}

#[test]
fn a_process_that_stops_closes_connections_that_were_idle_for_a_while() {
    let upstream = Upstream::json("200 OK", "[]");
    let mut gateway = Setup::new(&upstream.url()).start();
    let mut client = gateway.client();
    client.send(get(&gateway.key).as_bytes());
    assert_eq!(client.answer("GET").unwrap().status, 200);
    scenario_delay(A_WHILE);
    gateway.signal("INT");
    assert!(client.is_closed());
    assert_eq!(gateway.wait(Duration::from_secs(5)).code(), Some(0));
}

/// What the kernel says of the memory of the process, such as `VmRSS:`.
fn memory_kib(gateway: &Process, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Each thread has a heap of its own, and a dozen threads mostly wait: with huge pages each of them
/// held 2 MiB for the first few hundred bytes.
#[test]
fn a_process_at_rest_holds_little_memory() {
    let upstream = Upstream::json("200 OK", "[]");
    let gateway = Setup::new(&upstream.url()).start();
    let own = memory_kib(&gateway, "RssAnon:");
    assert!(own < 8 * 1024, "{own} KiB");
}

/// What the process holds for each of 500 connections on which something was asked once, in KiB, as soon
/// as it is no more than that.
fn assert_each_costs<T: Read + Write>(
    gateway: &Process,
    most: u64,
    connect: impl Fn() -> Client<T>,
) {
    let request = get(&gateway.key);
    let ask = |client: &mut Client<T>| {
        client.send(request.as_bytes());
        assert_eq!(client.answer("GET").unwrap().status, 200);
    };
    let mut kept = Vec::new();
    let mut more = |count| {
        for _ in 0..count {
            let mut client = connect();
            ask(&mut client);
            kept.push(client);
        }
    };
    // What the first ones make grow is not theirs alone.
    more(100);
    scenario_delay(A_WHILE);
    let before = memory_kib(gateway, "RssAnon:");
    more(500);
    wait_within(Duration::from_secs(10), &format!("each holds {most} KiB at most"), || {
        memory_kib(gateway, "RssAnon:").saturating_sub(before) < most * 500
    });
    for client in kept.iter_mut().step_by(50) {
        ask(client);
    }
}

/// With hyper's buffers it would be 25 KiB and more, and with what the allocator keeps of them 13.
#[test]
fn idle_connections_cost_little_memory() {
    let gateway = Setup::new(&Upstream::json("200 OK", "[]").url()).start();
    assert_each_costs(&gateway, 6, || gateway.client());
}

/// Of which rustls keeps a buffer of 4 KiB and its state.
#[test]
fn idle_connections_over_tls_cost_little_more() {
    let authority = Authority::new("authority");
    let gateway = encrypted(&Upstream::json("200 OK", "[]"), &authority);
    assert_each_costs(&gateway, 13, || {
        Client::over(handshake(gateway.address, &authority, &["http/1.1"]).unwrap())
    });
}

/// A connection on HTTP/2 holds 30 KiB while it is open, of which 1 KiB is of the cryptography's own.
#[test]
fn what_a_burst_took_goes_back_to_the_system() {
    let authority = Authority::new("authority");
    let gateway = encrypted(&Upstream::json("200 OK", "[]"), &authority);
    let burst = |count| {
        let mut all: Vec<_> =
            (0..count).map(|_| Http2::secure(gateway.address, &authority)).collect();
        for client in &mut all {
            let answer = client.request("GET", "/v5/rooms", &[("token", &gateway.key)], "");
            assert_eq!(answer.unwrap().status, 200);
        }
        memory_kib(&gateway, "RssAnon:")
    };
    burst(1);
    let rest = memory_kib(&gateway, "RssAnon:");
    let high = burst(200);
    assert!(high > rest + 200 * 20, "{rest} KiB, then {high}");
    wait_within(
        Duration::from_secs(20),
        &format!("four fifths are back of {rest} to {high}"),
        || memory_kib(&gateway, "RssAnon:") < rest + (high - rest) / 5,
    );
}
