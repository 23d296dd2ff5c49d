//! What is sent once more: nothing past the end of the time that a request has.

use std::thread;
use std::time::{Duration, Instant};

use super::tls::Shown;
use crate::support::faulty::{Fault, Faulty, Then, WELL, Wire, well};
use crate::support::frames::Frames;
use crate::support::{Process, Setup, answer};

/// A gateway with one worker, so that it has one connection, in front of an upstream with TLS.
fn gateway(upstream: &Faulty, keys: &str, more: &str) -> Process {
    let setup = Setup::new(&format!("https://{}", upstream.address));
    let trusts = Shown::trusted(setup.folder.path());
    setup
        .replacing("[upstream]\n", &format!("[upstream]\n{keys}{trusts}"))
        .replacing("workers = 2", "workers = 1")
        .with(more)
        .start()
}

fn answers(frames: &mut Frames<Wire>, stream: u32) -> Then {
    well(frames, stream);
    Then::Keep
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
