//! The whiteboard service of a comparison: it answers at once, as large as the path asks for, and
//! remembers the head of the last request when told to.

mod http2;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::wire::{Inbox, Stream};

/// The body of an answer whose path asks for no size.
pub const USUAL: usize = 300;

/// What a path says to be answered with so many bytes: `/v5/rooms/size-65536`.
pub const SIZE: &str = "size-";

/// An upstream that runs on this thread.
pub struct Upstream {
    /// The port that speaks plain HTTP.
    pub plain: u16,
    /// The port that speaks HTTP/1.1 under TLS.
    pub tls: u16,
    /// The port that speaks HTTP/2 under TLS.
    pub tls_h2: u16,
    seen: Rc<Seen>,
}

/// Whole answers, by whether something was created and by size.
type Answers = HashMap<(bool, usize), Rc<[u8]>>;

#[derive(Default)]
struct Seen {
    remember: Cell<bool>,
    head: RefCell<Vec<u8>>,
    answers: RefCell<Answers>,
}

impl Upstream {
    /// Starts it on free ports of loopback.
    pub async fn start(tls: rustls::ServerConfig) -> io::Result<Self> {
        let seen = Rc::new(Seen::default());
        let only = |protocol: &[u8]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = vec![protocol.to_vec()];
            Some(TlsAcceptor::from(Arc::new(tls)))
        };
        let plain = listen(Rc::clone(&seen), None).await?;
        let tls_h2 = listen(Rc::clone(&seen), only(b"h2")).await?;
        let tls = listen(Rc::clone(&seen), only(b"http/1.1")).await?;
        Ok(Self { plain, tls, tls_h2, seen })
    }

    /// Forgets what came, and remembers the head of the next request.
    pub fn watch(&self) {
        self.seen.head.borrow_mut().clear();
        self.seen.remember.set(true);
    }

    /// The head of the last request since [`Upstream::watch`], if one came; remembers no more.
    pub fn seen(&self) -> Option<Vec<u8>> {
        self.seen.remember.set(false);
        Some(self.seen.head.take()).filter(|head| !head.is_empty())
    }
}

async fn listen(seen: Rc<Seen>, tls: Option<TlsAcceptor>) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    spawn_local(async move {
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            _ = socket.set_nodelay(true);
            let (seen, tls) = (Rc::clone(&seen), tls.clone());
            spawn_local(async move {
                match tls {
                    // A connection that breaks is the proxy's to notice.
                    Some(tls) => match tls.accept(socket).await {
                        Ok(socket) if socket.get_ref().1.alpn_protocol() == Some(b"h2") => {
                            http2::serve(socket, seen.http2()).await;
                        }
                        Ok(socket) => _ = seen.serve(socket).await,
                        Err(error) => eprintln!("upstream: {error}"),
                    },
                    None => _ = seen.serve(socket).await,
                }
            });
        }
    });
    Ok(port)
}

impl Seen {
    async fn serve(&self, mut stream: impl Stream) -> io::Result<()> {
        let mut inbox = Inbox::new(64 * 1024);
        while let Some(message) = inbox.read(&mut stream).await? {
            if self.remember.get() {
                self.head.replace(inbox.head().to_vec());
            }
            stream.write_all(&self.answer(inbox.head())).await?;
            stream.flush().await?;
            if message.close {
                break;
            }
        }
        Ok(())
    }

    /// The bodies of answers over HTTP/2. A head is remembered as HTTP/1.1 would write it.
    fn http2(self: Rc<Self>) -> http2::BodyOf {
        let bodies: RefCell<HashMap<usize, Bytes>> = RefCell::default();
        Rc::new(move |request| {
            if self.remember.get() {
                let mut head = format!("{} {} HTTP/2\r\n", request.method(), request.uri());
                for (name, value) in request.headers() {
                    _ = write!(head, "{name}: {}\r\n", value.to_str().unwrap_or_default());
                }
                self.head.replace(head.into_bytes());
            }
            let size = size(request.uri().path().as_bytes());
            let mut bodies = bodies.borrow_mut();
            bodies.entry(size).or_insert_with(|| body(size).into()).clone()
        })
    }

    fn answer(&self, head: &[u8]) -> Rc<[u8]> {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let created = line.starts_with(b"POST");
        let size = size(line);
        let mut answers = self.answers.borrow_mut();
        Rc::clone(answers.entry((created, size)).or_insert_with(|| answer(created, size)))
    }
}

/// How long an answer a path asks for.
fn size(line: &[u8]) -> usize {
    memchr::memmem::find(line, SIZE.as_bytes()).map_or(USUAL, |at| {
        let digits = line[at + SIZE.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
    })
}

/// A JSON object of `size` bytes.
pub fn body(size: usize) -> String {
    let (start, end) = (r#"{"uuid":"4a50c7a0c71f11ea8c2ba7f2b9f8b7a1","teamUUID":""#, r#""}"#);
    let fill = "x".repeat(size.saturating_sub(start.len() + end.len()));
    format!("{start}{fill}{end}")
}

/// A whole answer whose body is a JSON object of `size` bytes.
fn answer(created: bool, size: usize) -> Rc<[u8]> {
    let status = if created { "201 Created" } else { "200 OK" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\n\
         Content-Length: {size}\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
         X-Powered-By: whiteboard\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body(size).as_bytes());
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_the_path_asks() {
        let seen = Seen::default();
        for (line, size) in [
            ("GET /v5/rooms/size-65536 HTTP/1.1\r\n", 65_536),
            ("GET /v5/rooms HTTP/1.1\r\n", USUAL),
        ] {
            let answer = seen.answer(line.as_bytes());
            let body = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap() + 4;
            let object: serde_json::Value = serde_json::from_slice(&answer[body..]).unwrap();
            assert!(object.is_object());
            assert_eq!(answer.len() - body, size);
        }
    }
}
