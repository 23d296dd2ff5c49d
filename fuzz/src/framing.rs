//! Borders of HTTP/1.1 messages: the strict reader and hyper, which is given what that one lets
//! pass, see the same requests with the same bodies, whatever the pieces are that they come in.
//!
//! An input is two lengths of pieces, a byte each, and what a peer sends on one connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use std::future::Future as _;
use whiteboard_gateway::server::{Framing, FramingError};

/// A request: its method, and its body where all of it has come.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: Vec<u8>,
    body: Option<Vec<u8>>,
}

/// What the strict reader makes of an input.
#[derive(Debug, Default)]
struct Strict {
    /// The messages that have ended.
    whole: Vec<Seen>,
    error: Option<FramingError>,
}

/// One input.
pub fn run(input: &[u8]) {
    let [first, second, sent @ ..] = input else { return };
    let strict = Strict::of(sent);
    let pieces = split(sent, [*first, *second].map(|length| usize::from(length).max(1)));
    let (passed, error) = pass(&pieces);
    assert_eq!(error, strict.error, "in pieces, and byte by byte");
    let seen = serve(passed);
    for (number, one) in seen.iter().enumerate() {
        if one.body.is_none() {
            assert_eq!(number + 1, seen.len(), "it goes on behind a broken body: {seen:?}");
            continue;
        }
        let whole = strict.whole.get(number).expect("hyper saw the end of a message before");
        assert_eq!(whole, one, "another message");
    }
}

impl Strict {
    fn of(sent: &[u8]) -> Self {
        let (mut strict, mut framing) = (Self::default(), Framing::default());
        let (mut begun, mut body) = (Vec::new(), Vec::new());
        for byte in sent {
            if framing.is_in_data() { &mut body } else { &mut begun }.push(*byte);
            if let Err(violation) = framing.feed(&[*byte]) {
                strict.error = Some(violation.error);
                break;
            }
            if framing.is_between() {
                let line = begun.trim_ascii_start();
                if !line.is_empty() {
                    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
                    let body = Some(std::mem::take(&mut body));
                    strict.whole.push(Seen { method: method.to_vec(), body });
                }
                begun.clear();
            }
        }
        strict
    }
}

fn split(mut bytes: &[u8], lengths: [usize; 2]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    for length in lengths.into_iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(length.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// What is passed on of these pieces, as below the server.
fn pass(pieces: &[&[u8]]) -> (VecDeque<Bytes>, Option<FramingError>) {
    let mut framing = Framing::default();
    let mut passed = VecDeque::new();
    for piece in pieces {
        match framing.feed(piece) {
            Ok(()) => passed.push_back(Bytes::copy_from_slice(piece)),
            Err(violation) => {
                passed.push_back(Bytes::copy_from_slice(&piece[..violation.before]));
                passed.retain(|piece| !piece.is_empty());
                return (passed, Some(violation.error));
            }
        }
    }
    (passed, None)
}

/// The requests that hyper sees.
fn serve(pieces: VecDeque<Bytes>) -> Vec<Seen> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let of_service = Rc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Rc::clone(&of_service);
        async move {
            let method = request.method().as_str().as_bytes().to_vec();
            let body = whole(request.into_body()).await;
            seen.borrow_mut().push(Seen { method, body });
            Ok::<_, Infallible>(Response::builder().status(400).body(String::new()).unwrap())
        }
    });
    let mut http = http1::Builder::new();
    http.header_read_timeout(None).half_close(true);
    let mut connection = pin!(http.serve_connection(Sent(pieces), service));
    let mut context = Context::from_waker(Waker::noop());
    // Everything is there already: it ends with what was sent.
    let over = (0..10_000).any(|_| connection.as_mut().poll(&mut context).is_ready());
    assert!(over, "it does not end");
    seen.take()
}

/// All of a body; `None` where it breaks off.
async fn whole(body: Incoming) -> Option<Vec<u8>> {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await
    {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Some(bytes)
}

/// What a peer has sent, before it ended its side.
struct Sent(VecDeque<Bytes>);

impl hyper::rt::Read for Sent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.0.front_mut() {
            let count = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece[..count]);
            piece.advance(count);
            if piece.is_empty() {
                self.0.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Sent {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
