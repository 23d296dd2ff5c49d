//! What is sent once more: over HTTP/2 whatever the upstream did nothing of, and nothing past the
//! end of the time that a request has.

use std::thread;
use std::time::{Duration, Instant};

use super::http2::{REFUSED_STREAM, goaway, reset};
use super::tls::Shown;
use crate::support::faulty::{Fault, Faulty, Then, WELL, Wire, well};
use crate::support::frames::Frames;
use crate::support::{Process, Setup, answer};

/// A gateway with one worker, so that it has one connection, in front of an upstream with TLS.
fn gateway(upstream: &Faulty, keys: &str, more: &str) -> Process {
    let setup = Setup::new(&format!("https://{}", upstream.address));
    let trusts = Shown::trusted(setup.folder.path());
    setup.with(&format!("[upstream]\n{keys}{trusts}")).set("listen.workers", 1).with(more).start()
}

type Act = fn(&mut Frames<Wire>, u32) -> Then;

fn start(act: Act) -> Faulty {
    Faulty::start(Fault::Stream(act), Some(Shown::Good.tls(&["h2"])))
}

fn answers(frames: &mut Frames<Wire>, stream: u32) -> Then {
    well(frames, stream);
    Then::Keep
}

#[test]
fn a_create_that_the_service_did_nothing_of_is_sent_again() {
    let refuses: Act = |frames, stream| match stream {
        3 => reset(frames, stream, REFUSED_STREAM),
        _ => answers(frames, stream),
    };
    let refuses_the_first: Act = |frames, stream| match stream {
        1 => reset(frames, stream, REFUSED_STREAM),
        _ => answers(frames, stream),
    };
    let leaves: Act = |frames, stream| match stream {
        3 => {
            goaway(frames, 1);
            Then::Close
        }
        _ => answers(frames, stream),
    };
    for (what, act, is_kept, connections, refused) in [
        ("refuses a stream", refuses, true, 1, 1.0),
        ("refuses the first stream", refuses_the_first, false, 1, 1.0),
        // It closed what was kept: that is no failure, and costs no try.
        ("goes away before it", leaves, true, 2, 0.0),
    ] {
        let upstream = start(act);
        let gateway = gateway(&upstream, "", "");
        if is_kept {
            assert_eq!(gateway.call("GET", "/v5/rooms/a", "").status, 200, "{what}");
            upstream.forget();
        }
        let created = gateway.call("POST", "/v5/rooms", "{}");
        assert_eq!((created.status, created.text().as_str()), (201, WELL), "it {what}");
        assert_eq!(upstream.asked("POST"), 2, "it {what}");
        assert_eq!(upstream.connections(), connections, "it {what}");
        let line = gateway.access_line(created.header("x-request-id"));
        assert_eq!(line["upstream_attempts"], 1, "one of them counts: {line}");
        let counted = gateway.metric("wbg_upstream_retries_total{reason=\"refused\"}");
        assert!((counted - refused).abs() < f64::EPSILON, "it {what}: {counted}");
    }
}

#[test]
fn what_the_service_refuses_for_ever_is_asked_no_oftener_than_is_configured() {
    for (attempts, asked) in [(1, 1), (2, 2)] {
        let upstream = start(|frames, stream| reset(frames, stream, REFUSED_STREAM));
        let once = format!("[upstream.retry]\nattempts = {attempts}\n");
        let gateway = gateway(&upstream, "", &once);
        gateway.call("POST", "/v5/rooms", "{}").assert_envelope(500, "upstream_error");
        assert_eq!(upstream.asked("POST"), asked);
    }
}

/// RFC 9113 §7: every code but the one that says that nothing was done.
const OTHER_CODES: [u32; 8] = [0, 1, 2, 3, 8, 11, 12, 13];

#[test]
fn a_create_whose_stream_ends_otherwise_is_never_sent_again() {
    let upstream = start(|frames, stream| match OTHER_CODES.get(stream as usize / 2) {
        Some(code) => reset(frames, stream, *code),
        // It was the last one that it began.
        None => {
            goaway(frames, stream);
            Then::Close
        }
    });
    let gateway = gateway(&upstream, "", "");
    for asked in 1..=OTHER_CODES.len() + 1 {
        gateway.call("POST", "/v5/rooms", "{}").assert_envelope(500, "upstream_error");
        assert_eq!(upstream.asked("POST"), asked);
    }
    assert_eq!(upstream.connections(), 1, "a stream that ends leaves the connection");
}

/// An upstream that ends its first connection, at once or after an answer, and is silent then.
fn ends(protocol: &str, is_kept: bool) -> Faulty {
    let fault = match (protocol, is_kept) {
        ("h2", true) => Fault::Stream(|frames, stream| match stream {
            1 => answers(frames, stream),
            _ => Then::Close,
        }),
        ("h2", false) => Fault::Stream(|_, _| Then::Close),
        (_, true) => Fault::Request(|peer| match peer.before {
            0 => peer.says(answer("200 OK", WELL).as_bytes(), Then::Keep),
            _ => Then::Close,
        }),
        _ => Fault::Request(|_| Then::Close),
    };
    let upstream = Faulty::start(fault, Some(Shown::Good.tls(&[protocol])));
    upstream.silent_after(1);
    upstream
}

#[test]
fn no_connection_is_waited_for_past_the_end_of_a_request() {
    let try_out = |protocol: &str, is_kept| {
        let upstream = ends(protocol, is_kept);
        let keys = "connect_timeout = \"20s\"\nfirst_byte_timeout = \"1s\"\ntimeout = \"3s\"\n";
        let gateway = gateway(&upstream, keys, "");
        if is_kept {
            assert_eq!(gateway.call("GET", "/v5/rooms/a", "").status, 200);
        }
        let begun = Instant::now();
        let answer = gateway.call("GET", "/v5/rooms/a", "");
        let took = begun.elapsed();
        answer.assert_envelope(500, "upstream_timeout");
        let told = answer.header("proxy-status");
        assert!(told.contains("connection_timeout"), "{protocol} {is_kept}: {told}");
        assert_eq!(upstream.connections(), 2, "{protocol} {is_kept}");
        // Clocks tick in milliseconds.
        let (least, most) = (Duration::from_millis(2990), Duration::from_secs(10));
        assert!(took >= least && took < most, "{protocol} {is_kept}: {took:?}");
    };
    thread::scope(|scope| {
        for protocol in ["h2", "http/1.1"] {
            for is_kept in [true, false] {
                scope.spawn(move || try_out(protocol, is_kept));
            }
        }
    });
}
