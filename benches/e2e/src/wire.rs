//! HTTP/1.1 as far as a measuring stick needs it: one message at a time, its head kept, its body
//! counted and thrown away.
//!
//! Both ends of a comparison are this code, so it must cost little; it trusts what it reads and is
//! no model for anything that faces a network.

use std::io;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// A connection, plain or under TLS.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

/// Messages are read into it; the head of the last one stays readable.
pub struct Inbox {
    buffer: Box<[u8]>,
    head: usize,
}

/// What a message was, apart from its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The bytes of its body, chunk framing included.
    pub body: u64,
    /// Whether the sender will close the connection.
    pub close: bool,
}

impl Inbox {
    /// One that reads up to `size` bytes at once.
    pub fn new(size: usize) -> Self {
        Self { buffer: vec![0; size].into_boxed_slice(), head: 0 }
    }

    /// The head of the last message, its empty line included.
    pub fn head(&self) -> &[u8] {
        &self.buffer[..self.head]
    }

    /// Reads one message to its end; `None` when the peer closed before it began.
    pub async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<Message>> {
        let mut filled = 0;
        self.head = loop {
            if filled == self.buffer.len() {
                return Err(io::Error::other("a head is longer than the buffer"));
            }
            let count = stream.read(&mut self.buffer[filled..]).await?;
            if count == 0 {
                return if filled == 0 {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
            // The end may straddle two reads.
            let from = filled.saturating_sub(3);
            filled += count;
            if let Some(at) = memmem::find(&self.buffer[from..filled], b"\r\n\r\n") {
                break from + at + 4;
            }
        };
        let (framing, close) = framing(self.head());
        let body = self.skip(stream, filled, framing).await?;
        Ok(Some(Message { body, close }))
    }

    async fn skip(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        filled: usize,
        framing: Framing,
    ) -> io::Result<u64> {
        let mut body = (filled - self.head) as u64;
        let mut tail = Tail::default();
        tail.push(&self.buffer[self.head..filled]);
        loop {
            let over = match framing {
                Framing::Length(length) => body >= length,
                Framing::Chunked => tail.0 == *b"0\r\n\r\n",
            };
            if over {
                return Ok(body);
            }
            let count = stream.read(&mut self.buffer[self.head..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            body += count as u64;
            if framing == Framing::Chunked {
                tail.push(&self.buffer[self.head..self.head + count]);
            }
        }
    }
}

/// The last bytes of a chunked body: none that is sent here holds those of the last chunk.
#[derive(Default)]
struct Tail([u8; 5]);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(5)..];
        self.0.rotate_left(bytes.len());
        let start = 5 - bytes.len();
        self.0[start..].copy_from_slice(bytes);
    }
}

fn framing(head: &[u8]) -> (Framing, bool) {
    let (mut framing, mut close) = (Framing::Length(0), false);
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', head) {
        let line = &head[start..end];
        start = end + 1;
        // Most lines are told apart by their first letter.
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value(line, b"content-length:") {
                    framing = Framing::Length(number(value));
                } else if let Some(value) = value(line, b"connection:") {
                    close = value.eq_ignore_ascii_case(b"close");
                }
            }
            Some(b't' | b'T') if value(line, b"transfer-encoding:").is_some() => {
                framing = Framing::Chunked;
            }
            _ => {}
        }
    }
    (framing, close)
}

/// The value of a line when it is one of that name (in small letters, colon included).
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit.wrapping_sub(b'0')))
}

/// The value of a field of a head; its name in small letters.
pub fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let name = format!("{name}:");
    head.split(|byte| *byte == b'\n').find_map(|line| value(line, name.as_bytes()))
}

/// The status of an answer's head.
pub fn status(head: &[u8]) -> u16 {
    u16::try_from(number(head.get(9..12).unwrap_or_default())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(pieces: &[&str]) -> (Message, u16) {
        let mut stream = tokio_test_stream(pieces);
        let mut inbox = Inbox::new(128);
        let message = inbox.read(&mut stream).await.unwrap().unwrap();
        (message, status(inbox.head()))
    }

    /// Yields each piece from a read of its own.
    fn tokio_test_stream(pieces: &[&str]) -> impl AsyncRead + Unpin + use<> {
        let pieces: Vec<_> = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        let mut rest: Box<dyn AsyncRead + Unpin> = Box::new(tokio::io::empty());
        for piece in pieces.into_iter().rev() {
            rest = Box::new(io::Cursor::new(piece).chain(rest));
        }
        rest
    }

    #[tokio::test]
    async fn a_body_ends_where_its_length_says() {
        let pieces = ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r", "\nab", "cde"];
        assert_eq!(read(&pieces).await, (Message { body: 5, close: false }, 200));
    }

    #[tokio::test]
    async fn a_chunked_body_ends_with_its_last_chunk() {
        let pieces =
            ["HTTP/1.1 201 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0", "\r\n\r\n"];
        assert_eq!(read(&pieces).await, (Message { body: 13, close: false }, 201));
    }

    #[tokio::test]
    async fn a_message_without_a_length_has_no_body() {
        let pieces = ["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"];
        assert_eq!(read(&pieces).await.0, Message { body: 0, close: true });
    }

    #[test]
    fn a_field_is_found_in_any_case() {
        let head = b"GET / HTTP/1.1\r\nToken: abc\r\n\r\n";
        assert_eq!(field(head, "token"), Some(&b"abc"[..]));
        assert_eq!(field(head, "authorization"), None);
    }
}
