//! Bodies that pass through, sent again: what is kept of them, for which attempts, and how much.

use std::io::{Cursor, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use whiteboard_gateway::token::Claims;

use crate::faults::Shown;
use crate::support::faulty::{Fault, Faulty, Then, Wire, head as answer_head};
use crate::support::frames::{DATA, END_STREAM, Frames, RST_STREAM};
use crate::support::{
    Answer, Process, Received, Setup, Upstream, answer, scenario_delay, wait_until,
};

/// What is kept of a body.
const KEPT: usize = 64 * 1024;

/// An operation with an effect, and one that does the same when it is done twice.
const OPERATIONS: &str = "[[operations]]\nname = \"rooms.import\"\nmethod = \"POST\"\n\
    path = \"/v5/rooms/{uuid}/import\"\ntarget = \"room\"\ntoken = \"room\"\nrole = \"writer\"\n\
    body = \"opaque\"\n\
    [[operations]]\nname = \"rooms.replace\"\nmethod = \"PUT\"\n\
    path = \"/v5/rooms/{uuid}/import\"\ntarget = \"room\"\ntoken = \"room\"\nrole = \"writer\"\n\
    body = \"opaque\"\n";

/// A second key of the project, which comes after the first.
fn with_a_second_key(setup: Setup) -> Setup {
    setup.with_other_key()
}

/// A gateway with one worker and quick tries again.
fn gateway(setup: Setup) -> Process {
    setup
        .set("listen.workers", 1)
        .with("[upstream.breaker]\nenabled = false\n[upstream.retry]\nbackoff = \"2ms\"\n")
        .with(OPERATIONS)
        .start()
}

/// By which access key a token was signed.
fn access_key(token: &str) -> String {
    Claims::read(token).unwrap().access_key().to_owned()
}

const FRAMINGS: [&str; 2] = ["length", "chunks"];

/// The head of an upload and its body in two parts, as they are framed.
fn framed(gateway: &Process, method: &str, framing: &str, body: &[u8]) -> [Vec<u8>; 2] {
    let (first, last) = body.split_at(body.len() / 2);
    let (framing, first, last) = if framing == "length" {
        (format!("content-length: {}", body.len()), first.to_vec(), last.to_vec())
    } else {
        let end = [chunk(last), b"0\r\n\r\n".to_vec()].concat();
        ("transfer-encoding: chunked".to_owned(), chunk(first), end)
    };
    let head = format!(
        "{method} /v5/rooms/a/import HTTP/1.1\r\nhost: g\r\ntoken: {}\r\n{framing}\r\n\r\n",
        gateway.key
    );
    [[head.into_bytes(), first].concat(), last]
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// An upload, whose second part is sent when something has happened.
fn upload(
    gateway: &Process,
    (method, framing, body): (&str, &str, &[u8]),
    happens: impl FnOnce(),
) -> Answer {
    let [begin, rest] = framed(gateway, method, framing, body);
    let mut client = gateway.client();
    client.send(&begin);
    happens();
    client.send(&rest);
    client.answer(method).unwrap()
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| b'a' + (at % 23) as u8).collect()
}

/// An upstream that refuses the tokens of the first key as soon as it has read a head, and takes
/// those of the second.
fn refusing_early() -> (Upstream, Receiver<(String, Vec<u8>)>) {
    let (tell, told) = channel();
    let upstream = Upstream::raw(move |mut stream| {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if !matches!(stream.read(&mut byte), Ok(1)) {
                    return;
                }
                head.push(byte[0]);
            }
            let text = String::from_utf8(head.clone()).unwrap();
            let token = text.lines().find_map(|line| line.strip_prefix("token: ")).unwrap();
            let key = access_key(token);
            if key == "sandbox" {
                let refusal = answer("401 No", "{\"message\":\"invalid signature of token\"}");
                stream.write_all(refusal.as_bytes()).unwrap();
                // Takes no more, and does not close either.
                scenario_delay(Duration::from_secs(5));
                return;
            }
            let whole = Cursor::new(head).chain(stream.try_clone().unwrap());
            let mut whole = std::io::BufReader::with_capacity(1, whole);
            let request = Received::read(&mut whole).unwrap();
            tell.send((key, request.body)).unwrap();
            stream.write_all(answer("201 Created", "{}").as_bytes()).unwrap();
        }
    });
    (upstream, told)
}

#[test]
fn a_body_that_is_on_its_way_goes_on_with_the_projects_next_key() {
    for framing in FRAMINGS {
        let (upstream, told) = refusing_early();
        let gateway = gateway(with_a_second_key(Setup::new(&upstream.url())));
        let sent = bytes(20_000);
        let answered = upload(&gateway, ("POST", framing, &sent), || {
            wait_until("the next key is tried", || upstream.connections() == 2);
        });
        assert_eq!(answered.status, 201, "{framing}: {}", answered.text());
        let (key, received) = told.recv().unwrap();
        assert_eq!(key, "other");
        assert!(received == sent, "{framing}: {} of {} bytes", received.len(), sent.len());
        // Which key it takes is known for the room then.
        assert_eq!(upload(&gateway, ("POST", framing, &sent), || {}).status, 201);
        assert_eq!(upstream.connections(), 2, "{framing}");
    }
}

/// An upstream that reads all of a request before it refuses the token of the first key.
fn refusing_late() -> Upstream {
    Upstream::scripted(|request, stream| {
        let told = if access_key(request.header("token")) == "sandbox" {
            answer("401 No", "{\"message\":\"invalid signature of token\"}")
        } else {
            answer("201 Created", "{}")
        };
        stream.write_all(told.as_bytes()).is_ok()
    })
}

#[test]
fn so_much_of_a_body_is_kept_and_none_of_a_longer_one() {
    for framing in FRAMINGS {
        for (length, status, sent) in [(KEPT, 201, 2), (KEPT + 1, 500, 1), (200_000, 500, 1)] {
            let upstream = refusing_late();
            let gateway = gateway(with_a_second_key(Setup::new(&upstream.url())));
            let body = bytes(length);
            let answered = upload(&gateway, ("POST", framing, &body), || {});
            assert_eq!(answered.status, status, "{framing} {length}: {}", answered.text());
            if status == 500 {
                answered.assert_envelope(500, "upstream_credential");
            }
            let received = upstream.received();
            assert_eq!(received.len(), sent, "{framing} {length}");
            assert!(received.iter().all(|one| one.body == body), "{framing} {length}");
        }
    }
}

/// What it does in the place of an answer; whether it keeps the connection.
type Failing = fn(&mut TcpStream) -> bool;

/// An upstream that fails so many times in that way once it has all of a request.
fn failing(times: usize, how: Failing) -> Upstream {
    let left = AtomicUsize::new(times);
    Upstream::scripted(move |_, stream| {
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if fails.is_ok() {
            return how(stream);
        }
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    })
}

#[test]
fn a_body_that_passes_through_is_sent_again_where_any_other_would_be() {
    let kinds: [(&str, Failing); 3] = [
        ("a break", |_| false),
        ("a 503", |stream| {
            stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").is_ok()
        }),
        ("half of an answer", |stream| {
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{");
            false
        }),
    ];
    for (what, how) in kinds {
        for framing in FRAMINGS {
            let upstream = failing(2, how);
            let gateway = gateway(Setup::new(&upstream.url()));
            let sent = bytes(30_000);
            let replaced = upload(&gateway, ("PUT", framing, &sent), || {});
            assert_eq!(replaced.status, 200, "{what}, {framing}: {}", replaced.text());
            let received = upstream.received();
            assert_eq!(received.len(), 3, "{what}, {framing}");
            assert!(received.iter().all(|one| one.body == sent), "{what}, {framing}");
            // What has an effect is not.
            let upstream = failing(1, how);
            let gateway = self::gateway(Setup::new(&upstream.url()));
            let imported = upload(&gateway, ("POST", framing, &sent), || {});
            imported.assert_envelope(500, "upstream_error");
            assert_eq!(upstream.received().len(), 1, "{what}, {framing}");
        }
    }
}

/// Is away for a while, then listens, reads one request, and answers it.
fn listen_late(address: SocketAddr) -> Received {
    scenario_delay(Duration::from_millis(300));
    let (mut stream, _) = TcpListener::bind(address).unwrap().accept().unwrap();
    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
    let request = Received::read(&mut reader).unwrap();
    stream.write_all(answer("201 Created", "{}").as_bytes()).unwrap();
    request
}

#[test]
fn a_body_that_found_no_connection_is_sent_on_the_next_one() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Setup::new(&format!("http://{address}"))
        .with("[upstream.retry]\nbackoff = \"1s\"\nmax_backoff = \"1s\"\n")
        .with(OPERATIONS)
        .start();
    let sent = bytes(5_000);
    for framing in FRAMINGS {
        let listening = thread::spawn(move || listen_late(address));
        let imported = upload(&gateway, ("POST", framing, &sent), || {});
        assert_eq!(imported.status, 201, "{framing}: {}", imported.text());
        assert!(listening.join().unwrap().body == sent, "{framing}");
    }
    let again = gateway.metric("wbg_upstream_retries_total{reason=\"connect\"}");
    assert!(again > 0.0, "it was never too early");
}

/// Refuses the first stream, and says on the others what came on them.
fn refuses_the_first(frames: &mut Frames<Wire>, stream: u32) -> Then {
    if stream == 1 {
        frames.send(RST_STREAM, 0, stream, &7_u32.to_be_bytes());
        return Then::Keep;
    }
    let mut body = Vec::new();
    while let Some(frame) = frames.next_answered() {
        if frame.kind == DATA && frame.stream == stream {
            body.extend(frame.payload);
            if frame.flags & END_STREAM != 0 {
                answer_head(frames, stream, &[]);
                frames.send(DATA, END_STREAM, stream, &body);
                return Then::Keep;
            }
        }
    }
    Then::Close
}

#[test]
fn a_body_whose_stream_was_refused_goes_on_on_the_next_one() {
    let tls = Shown::Good.tls(&["h2"]);
    let upstream = Faulty::start(Fault::Stream(refuses_the_first), Some(tls));
    let setup = Setup::new(&format!("https://{}", upstream.address));
    let trusts = Shown::trusted(setup.folder.path());
    let gateway = gateway(setup.with(&format!("[upstream]\n{trusts}")));
    let sent = bytes(10_000);
    let imported = upload(&gateway, ("POST", "chunks", &sent), || {
        wait_until("it is tried on another stream", || upstream.asked("POST") == 2);
    });
    assert_eq!(imported.status, 201, "{}", imported.text());
    assert!(imported.body == sent, "{} of {} bytes", imported.body.len(), sent.len());
}

/// What happens when the first request has come.
type Happens = Box<dyn Fn() + Send + Sync>;

#[test]
fn an_upload_that_begins_again_under_another_configuration_has_its_body_still() {
    let happens: Arc<OnceLock<Happens>> = Arc::default();
    let first = Mutex::new(true);
    let does = Arc::clone(&happens);
    let upstream = Upstream::scripted(move |_, stream| {
        if std::mem::take(&mut *first.lock().unwrap()) {
            does.get().unwrap()();
            return stream.write_all(answer("503 Busy", "{}").as_bytes()).is_ok();
        }
        stream.write_all(answer("200 OK", "{}").as_bytes()).is_ok()
    });
    let gateway = Arc::new(gateway(Setup::new(&upstream.url())));
    let reloads = Arc::downgrade(&gateway);
    let reload = move || {
        let gateway = reloads.upgrade().unwrap();
        let text = std::fs::read_to_string(gateway.config_path()).unwrap();
        gateway.reload(&format!("{text}\n# changes nothing\n"));
    };
    assert!(happens.set(Box::new(reload)).is_ok());
    let sent = bytes(40_000);
    let replaced = upload(&gateway, ("PUT", "chunks", &sent), || {});
    assert_eq!(replaced.status, 200, "{}", replaced.text());
    let received = upstream.received();
    assert_eq!(received.len(), 2);
    assert!(received[1].body == sent, "{} of {} bytes", received[1].body.len(), sent.len());
}
