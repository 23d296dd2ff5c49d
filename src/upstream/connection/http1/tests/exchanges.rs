//! Whole exchanges over sockets: what is sent, what may be sent again, and what must not hang.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::spawn;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep, timeout};

use super::super::{Buffers, Http1Connection, Http1Error, ResponseSyntaxError, UpstreamSocket};
use crate::upstream::connection::deadline::Deadlines;
use crate::upstream::connection::head::ResponseHead;
use crate::upstream::request::outgoing::{Common, OwnedOutgoing};
use crate::upstream::{FinalCheck, Origin, PendingCheck, RequestBody, Settings, Upload};

/// Long enough that only what hangs is met by it.
const FOR_EVER: Duration = Duration::from_secs(30);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

fn common() -> Common {
    let origin =
        Origin { tls: false, host: "h".into(), port: 80, authority: "whiteboard.example".into() };
    let settings = Settings { send_request_id: true, ..Settings::of(origin, "wbg-1".into()) };
    Common::new(&settings).unwrap()
}

fn kept(method: Method) -> OwnedOutgoing {
    OwnedOutgoing {
        method,
        target: "/v5/rooms?limit=1".to_owned(),
        token: Some(HeaderValue::from_static("NETLESSROOM_x")),
        region: HeaderValue::from_static("us-sv"),
        content_type: None,
        content_encoding: None,
        via: HeaderValue::from_static("1.1 wbg-1"),
        request_id: None,
        traceparent: None,
    }
}

fn deadlines(head: Duration) -> Deadlines {
    let now = Instant::now();
    Deadlines { head: now + head, between: head, end: now + FOR_EVER }
}

async fn connected() -> (Http1Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Http1Connection::new(UpstreamSocket::Left(near)), listener.accept().await.unwrap().0)
}

async fn head(connection: &mut Http1Connection) -> Result<ResponseHead, Http1Error> {
    let buffers = Buffers::default();
    let head = poll_fn(|context| connection.poll_head(context, &buffers));
    timeout(FOR_EVER, head).await.expect("it hangs")
}

async fn body(connection: &mut Http1Connection) -> Result<Vec<u8>, Http1Error> {
    let (mut whole, buffers) = (Vec::new(), Buffers::default());
    while let Some(piece) = poll_fn(|context| connection.poll_piece(context, &buffers)).await {
        whole.extend_from_slice(&piece?);
    }
    Ok(whole)
}

fn begin(connection: &mut Http1Connection, method: Method, body: RequestBody) {
    connection.begin(&kept(method).lend(), body, &common(), deadlines(FOR_EVER));
}

async fn read_head(far: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(far.read_u8().await.unwrap());
    }
    String::from_utf8(read).unwrap()
}

#[tokio::test]
async fn a_request_is_what_is_on_the_list_and_nothing_else() {
    let (mut connection, mut far) = connected().await;
    begin(&mut connection, Method::GET, RequestBody::Empty);
    let upstream = async {
        let head = read_head(&mut far).await;
        far.write_all(ANSWER).await.unwrap();
        head
    };
    let (answer, head) = tokio::join!(head(&mut connection), upstream);
    assert_eq!(answer.unwrap().status.as_u16(), 200);
    assert_eq!(
        head,
        format!(
            "GET /v5/rooms?limit=1 HTTP/1.1\r\nhost: whiteboard.example\r\n\
             accept: application/json\r\naccept-encoding: identity\r\n\
             user-agent: whiteboard-gateway/{}\r\nregion: us-sv\r\nvia: 1.1 wbg-1\r\n\
             token: NETLESSROOM_x\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        )
    );
}

#[tokio::test]
async fn a_body_at_hand_has_its_length_however_long_it_is() {
    for length in [0, 10, 100_000] {
        let (mut connection, mut far) = connected().await;
        let sent = Bytes::from(vec![b'x'; length]);
        let whole = if length == 0 { RequestBody::Empty } else { RequestBody::Whole(sent.clone()) };
        begin(&mut connection, Method::POST, whole);
        let upstream = async {
            let head = read_head(&mut far).await;
            let mut received = vec![0; length];
            far.read_exact(&mut received).await.unwrap();
            far.write_all(ANSWER).await.unwrap();
            (head, received)
        };
        let (answer, (head, received)) = tokio::join!(head(&mut connection), upstream);
        assert!(answer.is_ok());
        assert!(head.contains(&format!("\r\ncontent-length: {length}\r\n")), "{head}");
        assert_eq!(received, sent);
        assert_eq!(body(&mut connection).await.unwrap(), b"{}");
        assert!(connection.is_quiet());
    }
}

#[tokio::test]
async fn a_connection_carries_one_exchange_after_the_other() {
    let (mut connection, mut far) = connected().await;
    for _ in 0..20 {
        begin(&mut connection, Method::GET, RequestBody::Empty);
        let upstream = async {
            read_head(&mut far).await;
            far.write_all(ANSWER).await.unwrap();
        };
        let (answer, ()) = tokio::join!(head(&mut connection), upstream);
        assert!(answer.is_ok());
        assert_eq!(body(&mut connection).await.unwrap(), b"{}");
        assert!(connection.is_quiet());
    }
}

#[tokio::test]
async fn a_connection_that_ended_or_said_something_unasked_is_not_quiet() {
    for unasked in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let (mut connection, mut far) = connected().await;
        begin(&mut connection, Method::GET, RequestBody::Empty);
        far.write_all(ANSWER).await.unwrap();
        assert!(head(&mut connection).await.is_ok());
        assert_eq!(body(&mut connection).await.unwrap(), b"{}");
        assert!(connection.is_quiet());
        far.write_all(unasked).await.unwrap();
        let ended = unasked.is_empty().then(|| drop(far));
        let noticed = async {
            while connection.is_quiet() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(FOR_EVER, noticed).await.unwrap_or_else(|_| panic!("not noticed: {ended:?}"));
    }
}

#[tokio::test]
async fn an_answer_is_heard_though_the_request_is_not_taken() {
    for close in [false, true] {
        let (mut connection, mut far) = connected().await;
        // More than the buffers of both sides hold.
        let long = Bytes::from(vec![b'x'; 16 * 1024 * 1024]);
        begin(&mut connection, Method::POST, RequestBody::Whole(long));
        let upstream = async {
            read_head(&mut far).await;
            far.write_all(b"HTTP/1.1 413 Large\r\ncontent-length: 3\r\n\r\nbig").await.unwrap();
            if close {
                far.shutdown().await.unwrap();
            }
            far
        };
        let (answer, _far) = tokio::join!(head(&mut connection), upstream);
        assert_eq!(answer.unwrap().status.as_u16(), 413);
        assert_eq!(body(&mut connection).await.unwrap(), b"big");
        assert!(!connection.is_reusable(), "the rest of the request was never sent");
    }
}

#[tokio::test]
async fn a_long_exchange_goes_on_both_ways_at_once() {
    let (mut connection, mut far) = connected().await;
    let long = Bytes::from(vec![b'x'; 8 * 1024 * 1024]);
    begin(&mut connection, Method::POST, RequestBody::Whole(long.clone()));
    // It sends back what it takes: neither side has room for all of it.
    let upstream = async {
        read_head(&mut far).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", long.len());
        far.write_all(head.as_bytes()).await.unwrap();
        let mut piece = vec![0; 64 * 1024];
        let mut left = long.len();
        while left > 0 {
            let length = far.read(&mut piece).await.unwrap();
            far.write_all(&piece[..length]).await.unwrap();
            left -= length;
        }
    };
    let gateway = async {
        head(&mut connection).await.unwrap();
        body(&mut connection).await.unwrap()
    };
    let (returned, ()) =
        timeout(FOR_EVER, async { tokio::join!(gateway, upstream) }).await.unwrap();
    assert_eq!(returned.len(), long.len());
    assert!(connection.is_reusable());
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up() {
    for begun in [&b""[..], b"HTTP/1.1 200 OK\r\n"] {
        let (mut connection, mut far) = connected().await;
        let (request, soon) = (kept(Method::GET), deadlines(Duration::from_millis(50)));
        connection.begin(&request.lend(), RequestBody::Empty, &common(), soon);
        far.write_all(begun).await.unwrap();
        let begun = Instant::now();
        assert!(matches!(head(&mut connection).await, Err(Http1Error::Late)));
        assert!(begun.elapsed() >= Duration::from_millis(49));
        assert!(!connection.is_reusable());
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_a_word_is_told_from_one_that_breaks_off() {
    for (sent, silent) in
        [(&b""[..], true), (b"HTTP/1.1 ", false), (b"HTTP/1.1 100 C\r\n\r\n", false)]
    {
        let (mut connection, mut far) = connected().await;
        begin(&mut connection, Method::GET, RequestBody::Empty);
        let upstream = async {
            read_head(&mut far).await;
            far.write_all(sent).await.unwrap();
            drop(far);
        };
        let (answer, ()) = tokio::join!(head(&mut connection), upstream);
        let fault = answer.unwrap_err();
        assert!(fault.is_end(), "{fault:?}");
        assert_eq!(connection.is_silent(), silent, "{fault:?}");
        assert!(!connection.is_unsent());
    }
}

/// A connection that was reset, not closed: the first write fails.
async fn reset() -> Http1Connection {
    let (connection, stream) = connected().await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let UpstreamSocket::Left(socket) = &connection.socket else { panic!("it is plain") };
    socket.readable().await.unwrap();
    assert_eq!(
        socket.try_read(&mut [0]).map_err(|error| error.kind()),
        Err(io::ErrorKind::ConnectionReset)
    );
    connection
}

#[tokio::test]
async fn a_request_that_could_not_be_sent_at_all_gets_its_body_back() {
    let mut connection = reset().await;
    begin(&mut connection, Method::POST, RequestBody::Whole(Bytes::from_static(b"{}")));
    let fault = head(&mut connection).await.unwrap_err();
    assert!(
        matches!(fault, Http1Error::Socket(_) | Http1Error::Malformed(ResponseSyntaxError::Closed)),
        "{fault:?}"
    );
    assert!(connection.is_unsent());
    assert!(matches!(connection.take_body(), RequestBody::Whole(body) if body == "{}"));
}

/// What hyper reads of a request, whose peer has sent this and sends no more.
async fn upload(sent: &str) -> Upload {
    let (mut peer, socket) = duplex(sent.len());
    peer.write_all(sent.as_bytes()).await.unwrap();
    let (bodies, mut come) = unbounded_channel();
    let service = service_fn(move |request: Request<Incoming>| {
        bodies.send(request.into_body()).unwrap();
        pending::<Result<Response<String>, Infallible>>()
    });
    spawn(async move {
        _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        drop(peer);
    });
    Upload::new(Bytes::new(), come.recv().await.unwrap(), 1_000, FOR_EVER, Rc::new(Allowed))
}

/// What allows an upload, and goes on to.
struct Allowed;

impl FinalCheck for Allowed {
    fn look(self: Rc<Self>) -> Option<PendingCheck> {
        None
    }
}

#[tokio::test]
async fn an_upload_of_which_nothing_could_be_sent_goes_out_whole_on_another_connection() {
    for (framing, sent) in [
        ("content-length: 11", "hello world"),
        ("transfer-encoding: chunked", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
    ] {
        let body = upload(&format!("POST / HTTP/1.1\r\n{framing}\r\n\r\n{sent}")).await;
        let mut dead = reset().await;
        begin(&mut dead, Method::POST, RequestBody::Stream(body));
        head(&mut dead).await.unwrap_err();
        assert!(dead.is_unsent());
        let (mut connection, mut far) = connected().await;
        begin(&mut connection, Method::POST, dead.take_body());
        let upstream = async {
            let head = read_head(&mut far).await;
            assert!(head.ends_with(&format!("{framing}\r\n\r\n")), "{head}");
            let mut received = vec![0; sent.len()];
            far.read_exact(&mut received).await.unwrap();
            far.write_all(ANSWER).await.unwrap();
            received
        };
        let (answer, received) = tokio::join!(head(&mut connection), upstream);
        assert!(answer.is_ok());
        assert_eq!(String::from_utf8(received).unwrap(), sent);
    }
}
