//! The whiteboard service of a comparison: it answers at once, as large as the path asks for, and
//! remembers the head of the last request when told to.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::wire::{Inbox, Stream};

/// The body of an answer whose path asks for no size.
const USUAL: usize = 300;

/// What a path says to be answered with so many bytes: `/v5/rooms/size-65536`.
pub const SIZE: &str = "size-";

/// An upstream that runs on this thread.
pub struct Upstream {
    /// The port that speaks plain HTTP.
    pub plain: u16,
    /// The port that speaks TLS.
    pub tls: u16,
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
    pub async fn start(tls: Arc<rustls::ServerConfig>) -> io::Result<Self> {
        let seen = Rc::new(Seen::default());
        let plain = listen(Rc::clone(&seen), None).await?;
        let tls = listen(Rc::clone(&seen), Some(tls.into())).await?;
        Ok(Self { plain, tls, seen })
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

    fn answer(&self, head: &[u8]) -> Rc<[u8]> {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let created = line.starts_with(b"POST");
        let size = memchr::memmem::find(line, SIZE.as_bytes()).map_or(USUAL, |at| {
            let digits = line[at + SIZE.len()..].iter().take_while(|byte| byte.is_ascii_digit());
            digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
        });
        let mut answers = self.answers.borrow_mut();
        Rc::clone(answers.entry((created, size)).or_insert_with(|| answer(created, size)))
    }
}

/// A whole answer whose body is a JSON object of `size` bytes.
fn answer(created: bool, size: usize) -> Rc<[u8]> {
    let status = if created { "201 Created" } else { "200 OK" };
    let (start, end) = (r#"{"uuid":"4a50c7a0c71f11ea8c2ba7f2b9f8b7a1","teamUUID":"#, r#""}"#);
    let fill = "x".repeat(size.saturating_sub(start.len() + 1 + end.len()));
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\n\
         Content-Length: {size}\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\
         X-Powered-By: whiteboard\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(format!("{start}\"{fill}{end}").as_bytes());
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
