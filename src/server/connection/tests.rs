//! What becomes of a connection whose peer is slow, or that another one wants the place of.

use std::cell::RefCell;
use std::net::SocketAddr;

use http_body_util::Full;
use tokio::io::{DuplexStream, duplex};
use tokio::task::LocalSet;
use tokio::time::sleep;
use tokio_util::io::InspectWriter;

use super::*;
use crate::server::ConnectionSignals;

/// Answers at once, whatever the body, and remembers what was cut.
#[derive(Default)]
struct Quick(RefCell<Vec<CloseReason>>);

/// Longer than what the sockets of these tests take at once.
const ANSWER: &str = "a long answer, of which the peer takes a little now and then";

impl Service for Quick {
    type Body = Full<Bytes>;

    async fn answer(self: Rc<Self>, _: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        Response::new(Bytes::from_static(ANSWER.as_bytes()).into())
    }

    fn refuse(&self, failure: Failure, _: Peer, _: Option<&HeaderValue>) -> Response<Bytes> {
        Response::new(Bytes::copy_from_slice(failure.message().as_bytes()))
    }

    fn closes(&self, reason: CloseReason) {
        self.0.borrow_mut().push(reason);
    }
}

fn somebody() -> Peer {
    Peer::new(SocketAddr::from(([127, 0, 0, 1], 1)), 0)
}

/// Serves HTTP/1 to a peer that has sent this, and for whom the socket takes 32 bytes at once.
async fn serve<F: Future>(
    sent: &'static [u8],
    peer: impl FnOnce(DuplexStream) -> F,
) -> (F::Output, Vec<CloseReason>) {
    let service = Rc::new(Quick::default());
    let context =
        Rc::new(WorkerContext::new(Rc::clone(&service), Bounds::default(), Arc::default()));
    let caller = somebody();
    let state = context.connections.add([127, 0, 0, 1].into(), caller.signals.clone());
    state.idle();
    let (near, far) = duplex(32);
    let serving = context.http1(far, Bytes::from_static(sent), caller, state);
    let ((), told) = tokio::join!(serving, peer(near));
    (told, service.0.take())
}

/// Takes what there is, a socketful every few seconds.
async fn slowly(mut socket: DuplexStream) -> String {
    let (mut all, mut some) = (Vec::new(), [0; 32]);
    loop {
        sleep(Duration::from_secs(3)).await;
        match socket.read(&mut some).await.unwrap() {
            0 => return String::from_utf8(all).unwrap(),
            count => all.extend(&some[..count]),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_its_refusal_slowly_gets_all_of_it() {
    let (answer, cut) = serve(b"GARBAGE\r\n\r\n", slowly).await;
    let end = "not valid HTTP";
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(end), "{answer}");
    assert_eq!(cut, []);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_of_its_refusal_is_cut() {
    let begun = Instant::now();
    let (_socket, cut) = serve(b"GARBAGE\r\n\r\n", async |socket| socket).await;
    assert_eq!(cut, [CloseReason::Stalled]);
    assert_eq!(begun.elapsed().as_secs(), Bounds::default().write.as_secs());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_has_one_answer_behind_one_that_is_not_taken_yet() {
    let sent = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}GARBAGE\r\n\r\n";
    let (answers, _) = serve(sent, slowly).await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
}

/// Answers that are longer than what h2 writes together by itself.
struct Long;

const LONG: [u8; 400] = [b'x'; 400];

impl Service for Long {
    type Body = Full<Bytes>;

    async fn answer(self: Rc<Self>, _: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        Response::new(Bytes::from_static(&LONG).into())
    }

    fn refuse(&self, _: Failure, _: Peer, _: Option<&HeaderValue>) -> Response<Bytes> {
        Response::new(Bytes::new())
    }
}

#[tokio::test]
async fn answers_over_http2_that_are_ready_together_are_one_write() {
    const STREAMS: usize = 20;
    let (near, far) = duplex(64 * 1024);
    let writes = Rc::new(RefCell::new(Vec::new()));
    let context = Rc::new(WorkerContext::new(Rc::new(Long), Bounds::default(), Arc::default()));
    let caller = somebody();
    let state = context.connections.add([127, 0, 0, 1].into(), caller.signals.clone());
    let seen = Rc::clone(&writes);
    let socket = InspectWriter::new(far, move |bytes: &[u8]| seen.borrow_mut().push(bytes.len()));
    let asking = async {
        tokio::task::spawn_local(context.http2(socket, Bytes::new(), caller, state));
        let (sender, connection) = h2::client::handshake(near).await.unwrap();
        tokio::task::spawn_local(connection);
        let mut sender = sender.ready().await.unwrap();
        // The peer has sent its SETTINGS, and ours are acknowledged.
        sleep(Duration::from_millis(50)).await;
        let before = writes.borrow().len();
        let mut answers = Vec::new();
        for _ in 0..STREAMS {
            let request = Request::get("https://a/").body(()).unwrap();
            answers.push(sender.send_request(request, true).unwrap().0);
        }
        for answer in answers {
            let mut body = answer.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), &LONG[..]);
        }
        let all = writes.borrow()[before..].to_vec();
        assert!(all.len() <= 3, "{all:?}");
        assert!(all.iter().sum::<usize>() > STREAMS * LONG.len(), "{all:?}");
    };
    LocalSet::new().run_until(asking).await;
}

/// What is answered to this, by answers that come a second after their requests. The peer has sent
/// all that it sends, but ends its side only then where it says so.
async fn later(sent: &'static [u8], ends: bool) -> String {
    let context = Rc::new(WorkerContext::new(Rc::new(Later), Bounds::default(), Arc::default()));
    let caller = somebody();
    let state = context.connections.add([127, 0, 0, 1].into(), caller.signals.clone());
    state.idle();
    let (mut near, far) = duplex(4096);
    let serving = context.http1(far, Bytes::from_static(sent), caller, state);
    let peer = async {
        if ends {
            near.shutdown().await.unwrap();
        }
        let mut answers = Vec::new();
        _ = timeout(Duration::from_secs(60), near.read_to_end(&mut answers)).await;
        drop(near);
        String::from_utf8(answers).unwrap()
    };
    tokio::join!(serving, peer).1
}

/// Answers after a second, whatever the body.
struct Later;

impl Service for Later {
    type Body = Full<Bytes>;

    async fn answer(self: Rc<Self>, _: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        sleep(Duration::from_secs(1)).await;
        Response::default()
    }

    fn refuse(&self, _: Failure, _: Peer, _: Option<&HeaderValue>) -> Response<Bytes> {
        Response::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_the_last_one_when_nothing_more_can_be_answered() {
    const WHOLE: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const TWO: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const PART: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n{}";
    const CHUNK: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}";
    for (sent, ends, answers, last) in [
        (WHOLE, false, 1, 0),
        (WHOLE, true, 1, 1),
        (TWO, false, 2, 0),
        // It has asked for both before it ended its side.
        (TWO, true, 2, 1),
        // No one waits for the rest: whoever is not told sends another request into the void.
        (PART, false, 1, 1),
        (CHUNK, false, 1, 1),
    ] {
        let text = later(sent, ends).await;
        let count = |what| text.matches(what).count();
        let told = (count("HTTP/1.1 200"), count("connection: close"));
        assert_eq!(told, (answers, last), "{} {ends}: {text}", String::from_utf8_lossy(sent));
    }
}

/// A connection that is old enough to be ended for another one.
async fn idle(context: &WorkerContext<Quick>) -> Rc<ConnectionState> {
    let state = context.connections.add([127, 0, 0, 1].into(), ConnectionSignals::default());
    state.idle();
    for second in 0..3 {
        sleep(Duration::from_secs(second.min(1))).await;
        context.connections.tick(&context.bounds);
    }
    state
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_the_place_of_a_request_whose_answer_has_not_had_its_turn() {
    // Empty settings, and a request for `/` with all that it needs.
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let request = *b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";
    let sent = Bytes::from([&PREFACE[..], &settings, &request].concat());
    let context =
        Rc::new(WorkerContext::new(Rc::new(Quick::default()), Bounds::default(), Arc::default()));
    let state = idle(&context).await;
    assert!(context.connections.crowd_out().is_some(), "an idle one makes room");
    drop(state);
    let state = idle(&context).await;
    let (_near, far) = duplex(1024);
    let once = async {
        let mut serving = pin!(Rc::clone(&context).http2(far, sent, somebody(), state));
        // The task of the stream is there, and waits for this one.
        poll_fn(|context| Poll::Ready(serving.as_mut().poll(context).is_pending())).await
            && context.connections.crowd_out().is_none()
    };
    assert!(LocalSet::new().run_until(once).await);
}

#[tokio::test(start_paused = true)]
async fn what_came_while_the_process_stood_still_is_read_before_its_time_is_over() {
    const FIRST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for (begun, rest, told) in [
        // Of an idle connection, a parked one, and one whose head has begun. What does not come has the
        // rest of its time all the same.
        ("", FIRST, ANSWER),
        (&FIRST[..9], &FIRST[9..], ANSWER),
        (&FIRST[..9], &FIRST[9..12], "did not arrive in time"),
    ] {
        let context = Rc::new(WorkerContext::new(
            Rc::new(Quick::default()),
            Bounds::default(),
            Arc::default(),
        ));
        let state = context.connections.add([127, 0, 0, 1].into(), ConnectionSignals::default());
        state.idle();
        let (mut near, far) = duplex(1024);
        let peer = async {
            near.write_all(begun.as_bytes()).await.unwrap();
            for second in 0..2 {
                sleep(Duration::from_secs(second)).await;
                context.connections.tick(&context.bounds);
            }
            tokio::time::advance(Duration::from_secs(100)).await;
            near.write_all(rest.as_bytes()).await.unwrap();
            context.connections.tick(&context.bounds);
            if told == ANSWER {
                near.shutdown().await.unwrap();
            } else {
                // A second of it is over.
                for _ in 1..context.bounds.head_timeout.as_secs() {
                    assert!(!state.is_overdue(&context.bounds));
                    sleep(Duration::from_secs(1)).await;
                    context.connections.tick(&context.bounds);
                }
            }
            let mut answer = String::new();
            near.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let serving = Rc::clone(&context).http1(far, Bytes::new(), somebody(), Rc::clone(&state));
        let ((), answer) = tokio::join!(serving, peer);
        assert!(answer.ends_with(told), "{begun:?} {rest:?}: {answer:?}");
    }
}
