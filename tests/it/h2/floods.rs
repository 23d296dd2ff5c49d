//! Peers that mean harm. Each is told to go, or costs little; and others are answered meanwhile.

use std::thread;
use std::time::{Duration, Instant};

use super::case::{
    CALM, PROTOCOL, Seen, begun, data, fields, get, head, ping, post, priority, rst, settings,
    window, with,
};
use super::gateway;
use crate::support::frames::{
    ACK, CONTINUATION, END_STREAM, Frames, GOAWAY, HEADERS, Outcome, PING, RST_STREAM, SETTINGS,
    block, frame, get_fields,
};
use crate::support::{Process, Setup, Upstream, scenario_delay, silent_until_gone, wait_until};

/// So many times a flood is tried.
const MANY: u32 = 20_000;

/// A flood: what is sent first, and then again and again, with a number that grows.
struct Flood {
    name: &'static str,
    first: Vec<u8>,
    again: fn(u32) -> Vec<u8>,
}

fn flood(name: &'static str, first: impl Into<Vec<u8>>, again: fn(u32) -> Vec<u8>) -> Flood {
    Flood { name, first: first.into(), again }
}

/// The stream of this number.
const fn stream(number: u32) -> u32 {
    2 * number + 1
}

fn floods() -> Vec<Flood> {
    vec![
        flood("rapid reset", [], |n| [get(stream(n)), rst(stream(n), 8)].concat()),
        flood("resets that the server is made to send", [], |n| {
            [post(stream(n)), window(stream(n), 0)].concat()
        }),
        flood("more streams than were offered", [], |n| post(stream(n))),
        flood("trailers that do not end the request", [], |n| {
            let trailers = head(stream(n), 0, &block(&[("x", "y")]));
            [post(stream(n)), trailers].concat()
        }),
        flood("malformed requests", [], |n| {
            head(stream(n), END_STREAM, &with("GET", &[("connection", "close")]))
        }),
        flood("CONTINUATION", begun(1, 0, &block(&fields("GET"))), |_| {
            frame(CONTINUATION, 0, 1, &block(&[("a", "b")]))
        }),
        flood("empty CONTINUATION", begun(1, 0, &block(&fields("GET"))), |_| {
            frame(CONTINUATION, 0, 1, &[])
        }),
        flood("a head without end", begun(1, 0, &block(&fields("GET"))), |_| {
            frame(CONTINUATION, 0, 1, &block(&[("a", &"b".repeat(16_000))]))
        }),
        flood("SETTINGS", [], |n| settings(&[(4, 65_535 + n % 2), (1, n % 5000)])),
        flood("PING", [], |_| ping()),
        flood("PING that acknowledges nothing", [], |_| frame(PING, ACK, 0, b"unasked!")),
        flood("PRIORITY", [], |n| priority(stream(n), 0, 9)),
        flood("WINDOW_UPDATE", [], |_| window(0, 1)),
        flood("frames of an unknown kind", [], |_| frame(0xaa, 0, 0, &[0; 100])),
        flood("empty DATA", post(1), |_| data(1, 0, &[])),
        flood("DATA of one byte", post(1), |_| data(1, 0, b"a")),
        flood("DATA of a request that was refused", post(1), |_| data(1, 0, b"ab")),
        flood("heads that unpack to far more", indexing(), |n| unpacking(stream(n + 1))),
    ]
}

/// A request that puts a field of almost the table's size into it.
fn indexing() -> Vec<u8> {
    let long = "b".repeat(3_900);
    // 3,900 is 127 + 3,773: a literal to be indexed, with a length of three bytes.
    let field = [b"\x40\x01a\x7f\xbd\x1d", long.as_bytes()].concat();
    head(1, END_STREAM, &[block(&fields("GET")), field].concat())
}

/// A request with that field 16,000 times.
fn unpacking(stream: u32) -> Vec<u8> {
    let request = block(&fields("GET"));
    head(stream, END_STREAM, &[request, vec![0xbe; 16_000]].concat())
}

/// What a peer saw at the end.
fn end_of(mut frames: Frames) -> Seen {
    frames.patience(Duration::from_secs(10));
    loop {
        match frames.try_next() {
            Ok(Some(frame)) if frame.kind == GOAWAY => {
                let code = frame.payload[4..8].try_into().unwrap();
                return Seen::GoAway(u32::from_be_bytes(code));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Seen::Closed,
            Err(_) => return Seen::Silence,
        }
    }
}

impl Flood {
    /// Sends until the peer takes no more; gives how often, and what was seen at the end.
    fn run(&self, gateway: &Process) -> (u32, Seen) {
        let mut frames = Frames::connect(gateway.address);
        let reader = frames.other();
        let reading = thread::spawn(move || end_of(reader));
        frames.patience(Duration::from_secs(10));
        frames.write(&self.first);
        let mut sent = 0;
        // A few in one piece: a flood is not sent frame by frame.
        while sent < MANY {
            let piece: Vec<u8> = (sent..sent + 20).flat_map(self.again).collect();
            if !frames.try_write(&piece) {
                break;
            }
            sent += 20;
        }
        (sent, reading.join().unwrap())
    }
}

#[test]
fn each_flood_is_ended_and_costs_little_and_others_are_answered_meanwhile() {
    let gateway = gateway();
    let honest = gateway.call("GET", "/v5/rooms", "");
    assert_eq!(honest.status, 200, "{}", honest.text());
    let memory = gateway.memory();
    let mut wrong = Vec::new();
    for flood in floods() {
        let before = gateway.processor_time();
        let (sent, seen) = thread::scope(|scope| {
            let flooding = scope.spawn(|| flood.run(&gateway));
            let mut answered = 0;
            while answered < 3 || !flooding.is_finished() {
                let honest = gateway.call("GET", "/v5/rooms", "");
                assert_eq!(honest.status, 200, "during {}: {}", flood.name, honest.text());
                answered += 1;
            }
            flooding.join().unwrap()
        });
        let cost = gateway.processor_time() - before;
        // A close that overtakes the word is as good; and what goes on about a stream that was
        // refused breaks the protocol besides.
        let ended = matches!(seen, Seen::GoAway(CALM | PROTOCOL) | Seen::Closed);
        if !ended || cost > Duration::from_secs(5) {
            wrong.push(format!("{}: {seen:?} after {sent}, for {cost:?}", flood.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let grown = gateway.memory().saturating_sub(memory);
    assert!(grown < 100, "{grown} MiB more than before");
    let counted = gateway.metric("wbg_connections_cut_total{reason=\"flooding\"}");
    assert!(counted >= 5.0, "{counted}");
}

/// Waits for an answer or a reset of a stream, and says whether one came.
fn met(frames: &mut Frames, kind: u8) -> bool {
    while let Some(frame) = frames.next() {
        match frame.kind {
            GOAWAY => return false,
            found if found == kind && (kind != SETTINGS || frame.flags & ACK == 0) => return true,
            _ => {}
        }
    }
    false
}

#[test]
fn requests_that_are_taken_back_one_by_one_reach_the_upstream_a_few_hundred_times_at_most() {
    // It never answers, so that each request is under way when it is taken back.
    let upstream = Upstream::scripted(|_, stream| {
        silent_until_gone(stream);
        false
    });
    let gateway = Setup::new(&upstream.url()).start();
    let mut frames = Frames::connect(gateway.address);
    let asked = with("GET", &[("token", &gateway.key)]);
    let mut sent = 0;
    let begun = Instant::now();
    while sent < 2_000 {
        frames.write(&[head(stream(sent), END_STREAM, &asked), ping()].concat());
        // The request was taken before the ping was answered.
        if !met(&mut frames, PING) {
            break;
        }
        frames.write(&rst(stream(sent), 8));
        sent += 1;
    }
    let most = 250 + 20 * u32::try_from(begun.elapsed().as_secs()).unwrap();
    assert!((150..most).contains(&sent), "{sent} in {:?}", begun.elapsed());
    assert!(upstream.connections() <= sent as usize + 1);
}

#[test]
fn a_client_that_is_often_answered_may_ping_and_take_back_for_ever() {
    let gateway = Setup::new(&Upstream::json("200 OK", "[]").url())
        .with("[listen]\nmax_overhead_frames = 100\n")
        .start();
    let mut frames = Frames::connect(gateway.address);
    let asked = with("GET", &[("token", &gateway.key)]);
    for number in (0..200).step_by(2) {
        let taken_back = [get(stream(number)), rst(stream(number), 8)].concat();
        let request = head(stream(number + 1), END_STREAM, &asked);
        frames.write(&[taken_back, ping(), window(0, 1), request].concat());
        assert!(met(&mut frames, HEADERS), "at {number}");
    }
}

/// A gateway whose times are short.
fn hasty(upstream: &str) -> Process {
    let times =
        "[listen]\nhead_timeout = \"600ms\"\nidle_timeout = \"5s\"\nwrite_timeout = \"1s\"\n";
    Setup::new(upstream).with(times).with("[body]\ntimeout = \"600ms\"\n").start()
}

/// How long it takes until the connection ends.
fn lifetime(frames: &mut Frames) -> Duration {
    let begun = Instant::now();
    frames.patience(Duration::from_secs(20));
    while let Ok(Some(_)) = frames.try_next() {}
    begun.elapsed()
}

#[test]
fn what_has_begun_is_due_in_the_time_of_a_head() {
    let gateway = hasty(&Upstream::json("200 OK", "[]").url());
    let preface = crate::support::frames::PREFACE;
    let proper = [preface, &settings(&[])].concat();
    let half = &begun(1, END_STREAM, &block(&fields("GET")))[..20];
    let beginnings = [
        ("a preface alone", preface.to_vec()),
        ("half of a frame's head", [&proper, &half[..4]].concat()),
        ("half of a head", [&proper, half].concat()),
        ("a header block without end", [&*proper, &begun(1, 1, &block(&fields("GET")))].concat()),
    ];
    thread::scope(|scope| {
        for (name, bytes) in beginnings {
            let address = gateway.address;
            scope.spawn(move || {
                let mut frames = Frames::bare(address);
                frames.write(&bytes);
                let took = lifetime(&mut frames);
                // Well before the connection would have been idle for too long.
                let fair = Duration::from_millis(400)..Duration::from_millis(4_500);
                assert!(fair.contains(&took), "{name}: {took:?}");
            });
        }
    });
}

#[test]
fn bodies_that_do_not_come_are_refused_stream_by_stream() {
    let gateway = hasty(&Upstream::json("201 Created", "{}").url());
    let mut frames = Frames::connect(gateway.address);
    let asked = with("POST", &[("token", &gateway.key)]);
    let all: Vec<u8> = (0..100).flat_map(|number| head(stream(number), 0, &asked)).collect();
    frames.write(&all);
    let answers = (0..100).filter(|_| met(&mut frames, HEADERS)).count();
    assert_eq!(answers, 100, "each is told that its body did not come in time");
    assert_eq!(gateway.call("POST", "/v5/rooms", "{}").status, 201);
}

/// An upstream with an answer that passes through, and never ends by itself.
fn endless() -> Upstream {
    Upstream::scripted(|_, stream| {
        use std::io::Write as _;
        // A text of JSON that never ends.
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n1\r\n\"\r\n";
        let piece = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
        if stream.write_all(head.as_bytes()).is_err() {
            return false;
        }
        while stream.write_all(piece.as_bytes()).is_ok() {}
        false
    })
}

#[test]
fn answers_that_nobody_takes_end_with_their_connection_whatever_the_windows_do() {
    let gateway = hasty(&endless().url());
    let memory = gateway.memory();
    let asked = with("GET", &[("token", &gateway.key)]);
    let requests: Vec<u8> =
        (0..20).flat_map(|number| head(stream(number), END_STREAM, &asked)).collect();
    let silent = |_: &mut Frames| {};
    let dripping = |frames: &mut Frames| {
        // A byte now and then, for far longer than it may take.
        for _ in 0..100 {
            if !frames.try_write(&window(1, 1)) {
                break;
            }
            scenario_delay(Duration::from_millis(50));
        }
    };
    thread::scope(|scope| {
        for drips in [&silent as &(dyn Fn(&mut Frames) + Sync), &dripping] {
            let mut frames = Frames::connect(gateway.address);
            frames.write(&[settings(&[(4, 0)]), requests.clone()].concat());
            let mut writer = frames.other();
            scope.spawn(move || drips(&mut writer));
            scope.spawn(move || {
                let took = lifetime(&mut frames);
                assert!(took < Duration::from_secs(10), "{took:?}");
            });
        }
    });
    let grown = gateway.memory().saturating_sub(memory);
    assert!(grown < 100, "{grown} MiB more than before");
    gateway.until_metric_reaches("wbg_connections_cut_total{reason=\"stalled\"}", 2.0);
}

#[test]
fn an_answer_that_is_held_up_does_not_cost_the_others_of_its_connection() {
    let upstream = Upstream::scripted(|request, stream| {
        use std::io::Write as _;
        if request.line.contains("/v5/rooms/slow") {
            scenario_delay(Duration::from_secs(2));
        }
        let long = if request.line.contains("long") { "a".repeat(60_000) } else { String::new() };
        let answer = crate::support::answer("200 OK", &format!("{{\"a\":\"{long}\"}}"));
        stream.write_all(answer.as_bytes()).is_ok()
    });
    let gateway =
        Setup::new(&upstream.url()).with("[listen]\nwrite_timeout = \"1500ms\"\n").start();
    let mut frames = Frames::connect(gateway.address);
    let ask = |stream: u32, path: &str| {
        let fields = get_fields(path, &gateway.key);
        head(stream, END_STREAM, &block(&fields))
    };
    // The window of the first is closed at once; that of the other is open.
    frames.write(&[settings(&[(4, 0)]), ask(1, "/v5/rooms/long")].concat());
    assert!(met(&mut frames, HEADERS));
    frames.write(&[ask(3, "/v5/rooms/slow"), window(3, 60_000)].concat());
    let mut seen = Vec::new();
    while let Some(frame) = frames.next() {
        seen.push((frame.kind, frame.stream));
    }
    assert!(seen.contains(&(GOAWAY, 0)), "{seen:?}");
    assert!(seen.contains(&(HEADERS, 3)), "{seen:?}");
    assert!(!seen.contains(&(RST_STREAM, 3)), "{seen:?}");
}

#[test]
fn a_stream_that_crosses_the_notice_of_the_end_is_answered() {
    let upstream = Upstream::json("200 OK", "{}");
    let gateway = Setup::new(&upstream.url()).start();
    let mut frames = Frames::connect(gateway.address);
    let fields = get_fields("/v5/rooms/a", &gateway.key);
    frames.head(1, END_STREAM, &fields);
    assert_eq!(frames.outcome(1), Outcome::Answer("{}".to_owned()));
    gateway.signal("TERM");
    while frames.next_answered().is_some_and(|frame| frame.kind != GOAWAY) {}
    // A client may answer a ping that comes right behind, beside a stream that it begins.
    frames.patience(Duration::from_millis(20));
    while frames.next_answered().is_some() {}
    frames.patience(Duration::from_secs(10));
    frames.head(3, END_STREAM, &fields);
    let mut seen = Vec::new();
    while let Some(frame) = frames.next_answered() {
        seen.push((frame.kind, frame.stream));
    }
    assert!(seen.contains(&(HEADERS, 3)), "{seen:?}");
}

#[test]
fn a_peer_that_reads_nothing_is_ended_and_leaves_nothing_behind() {
    let gateway = hasty(&endless().url());
    let asked = with("GET", &[("token", &gateway.key)]);
    let mut frames = Frames::connect(gateway.address);
    let most = (1 << 31) - 1;
    frames.write(&[settings(&[(4, most)]), window(0, most - 65_535)].concat());
    for number in 0..20 {
        frames.write(&head(stream(number), END_STREAM, &asked));
    }
    wait_until("it is ended", || {
        gateway.metric("wbg_connections_cut_total{reason=\"stalled\"}") >= 1.0
    });
    wait_until("it is gone", || gateway.metric("wbg_connections") == 0.0);
}
