//! HTTP/2 frame by frame (RFC 9113 §4), for requests that no proper client would send.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{self, Cursor, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITIZED: u8 = 32;
pub(crate) const ACK: u8 = 1;

/// The largest payload that a peer takes unasked.
const LARGEST: usize = 16_384;

/// A connection.
pub(crate) struct Frames<T: Read + Write = TcpStream> {
    stream: T,
    /// What was read of it before.
    begun: Cursor<Vec<u8>>,
}

/// A frame that arrived.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer: the `code` of the envelope, or whatever its body is.
    Answer(String),
    /// RST_STREAM with this error code.
    Reset(u32),
    /// GOAWAY with this error code.
    GoAway(u32),
    /// The end, without a word.
    Closed,
}

impl Frames {
    /// Connects and begins properly.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let mut frames = Self::bare(address);
        frames.write(PREFACE);
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    /// Connects and says nothing.
    pub(crate) fn bare(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, begun: Cursor::default() }
    }

    /// Nothing more is sent.
    pub(crate) fn finish(&self) {
        // It may be closed already.
        _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The same connection, for another thread.
    pub(crate) fn other(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap(), begun: Cursor::default() }
    }

    /// Waits no longer than this for what it reads and writes.
    pub(crate) fn patience(&self, most: Duration) {
        self.stream.set_read_timeout(Some(most)).unwrap();
        self.stream.set_write_timeout(Some(most)).unwrap();
    }
}

impl<T: Read + Write> Frames<T> {
    /// The side of a server whose client has sent its preface, and these bytes after it.
    pub(super) fn of_server(stream: T, begun: Vec<u8>) -> Self {
        let mut frames = Self { stream, begun: Cursor::new(begun) };
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    pub(super) fn into_stream(self) -> T {
        self.stream
    }

    /// The next frame that is no question about the connection: those are answered.
    pub(crate) fn next_answered(&mut self) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if frame.flags & ACK != 0 || !matches!(frame.kind, SETTINGS | PING) {
                return Some(frame);
            }
            let told: &[u8] = if frame.kind == PING { &frame.payload } else { &[] };
            self.send(frame.kind, ACK, 0, told);
        }
    }

    /// Sends bytes as they are. A peer that has refused already may have closed.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    /// Sends bytes as they are; `false` where the peer takes no more.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.write(&frame(kind, flags, stream, payload));
    }

    /// Sends a whole head, in as many frames as it takes.
    pub(crate) fn head(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        let block = block(fields);
        let mut pieces = block.chunks(LARGEST).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let own = if kind == HEADERS { flags } else { 0 };
            let end = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            self.send(kind, own | end, stream, piece);
            kind = CONTINUATION;
        }
    }

    /// The next frame; `None` at the end, or when none comes in time.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        self.try_next().ok()?
    }

    /// The next frame; `None` at the end, and an error when none comes in time.
    pub(crate) fn try_next(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; 9];
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        let mut stream = (&mut self.begun).chain(&mut self.stream);
        let read = stream.read_exact(&mut head).and_then(|()| {
            let mut payload = vec![0; number(&head[..3]) as usize];
            stream.read_exact(&mut payload)?;
            Ok(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]), payload })
        });
        match read {
            Ok(frame) => Ok(Some(frame)),
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What comes of the request on this stream.
    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        let code = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        let mut body = Vec::new();
        while let Some(frame) = self.next() {
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[]),
                PING if frame.flags & ACK == 0 => self.send(PING, ACK, 0, &frame.payload),
                GOAWAY => return Outcome::GoAway(code(&frame.payload[4..8])),
                RST_STREAM if frame.stream == stream => {
                    return Outcome::Reset(code(&frame.payload));
                }
                HEADERS | DATA if frame.stream == stream => {
                    if frame.kind == DATA {
                        body.extend(&frame.payload);
                    }
                    if frame.flags & END_STREAM != 0 {
                        return Outcome::Answer(told(&body));
                    }
                }
                _ => {}
            }
        }
        Outcome::Closed
    }
}

/// The `code` of an envelope, or the body as it is.
fn told(body: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let code = value.as_ref().and_then(|value| value["code"].as_str());
    code.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap();
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The fields of a GET with a credential.
pub(crate) fn get_fields<'a>(path: &'a str, key: &'a str) -> [(&'a str, &'a str); 5] {
    [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "g"), ("token", key)]
}

/// A header block of literals that are not indexed (RFC 7541 §6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn length(block: &mut Vec<u8>, mut length: usize) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push(u8::try_from(length % 128).unwrap() | 128);
        length /= 128;
    }
    block.push(u8::try_from(length).unwrap());
}
