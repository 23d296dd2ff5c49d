//! A case: what is sent on a fresh connection, and what may come of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame,
};

/// Error codes (RFC 9113 §7).
pub(super) const PROTOCOL: u32 = 1;
pub(super) const FLOW_CONTROL: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const FRAME_SIZE: u32 = 6;
pub(super) const REFUSED: u32 = 7;
pub(super) const COMPRESSION: u32 = 9;
pub(super) const CALM: u32 = 11;

/// What the cases' pings say.
pub(super) const WORD: &[u8; 8] = b"anybody?";

/// What comes of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The head of an answer on stream 1.
    Answer,
    /// The acknowledgement of a ping with the cases' word.
    Pong,
    /// The acknowledgement of settings: that of the preface is the first.
    Acknowledged(usize),
    /// So many bytes of an answer on stream 1, in pieces of these lengths.
    Pieces(Vec<usize>),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code.
    GoAway(u32),
    /// The end, without a word that was heard.
    Closed,
    /// Nothing, for a while.
    Silence,
}

/// A case.
pub(super) struct Case {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    /// Sent before all, instead of a preface and settings, where it is there.
    begins: Option<Vec<u8>>,
    /// Sent first; then its answer on stream 1 is waited for, to the end.
    first: Option<Vec<u8>>,
    sends: Vec<u8>,
    pub(super) allowed: Vec<Seen>,
    /// What h2 does although it is not allowed, as the page explains.
    pub(super) instead: Option<Seen>,
}

pub(super) fn case(
    section: &'static str,
    name: &'static str,
    sends: impl AsRef<[u8]>,
    allowed: impl Into<Vec<Seen>>,
) -> Case {
    let sends = sends.as_ref().to_vec();
    Case { section, name, begins: None, first: None, sends, allowed: allowed.into(), instead: None }
}

/// A connection error: a peer may close without a word (RFC 9113 §5.4.1), and a reset of the
/// connection overtakes it now and then.
pub(super) fn fatal(code: u32) -> Vec<Seen> {
    vec![Seen::GoAway(code), Seen::Closed]
}

/// A stream error, which may as well be one of the connection (RFC 9113 §5.4.2).
pub(super) fn reset(code: u32) -> Vec<Seen> {
    vec![Seen::Reset(code), Seen::GoAway(code), Seen::Closed]
}

impl Case {
    /// Begins with these bytes.
    pub(super) fn beginning(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.begins = Some(bytes.as_ref().to_vec());
        self
    }

    /// Sends this first, and waits until stream 1 is answered whole.
    pub(super) fn after(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.first = Some(bytes.as_ref().to_vec());
        self
    }

    /// Is an exception.
    pub(super) fn but(mut self, seen: Seen) -> Self {
        self.instead = Some(seen);
        self
    }

    pub(super) fn run(&self, address: SocketAddr) -> Seen {
        let mut frames = match &self.begins {
            None => Frames::connect(address),
            Some(bytes) => {
                let mut frames = Frames::bare(address);
                frames.write(bytes);
                frames
            }
        };
        frames.patience(Duration::from_secs(3));
        if let Some(first) = &self.first {
            frames.write(first);
            while let Some(frame) = frames.next() {
                if frame.stream == 1 && frame.flags & END_STREAM != 0 && frame.kind <= HEADERS {
                    break;
                }
            }
        }
        // In one piece, so that they are read together.
        frames.write(&self.sends);
        self.seen(&mut frames)
    }

    /// The first thing that is allowed, or that forbids it.
    fn seen(&self, frames: &mut Frames) -> Seen {
        let code = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        let mut acknowledged = 0;
        let mut pieces = Vec::new();
        loop {
            let frame = match frames.try_next() {
                Ok(Some(frame)) => frame,
                Ok(None) => return Seen::Closed,
                Err(_) => {
                    return if pieces.is_empty() { Seen::Silence } else { Seen::Pieces(pieces) };
                }
            };
            let seen = match frame.kind {
                GOAWAY => return Seen::GoAway(code(&frame.payload[4..8])),
                RST_STREAM => return Seen::Reset(code(&frame.payload)),
                PING if frame.flags & ACK != 0 && frame.payload == WORD => Seen::Pong,
                SETTINGS if frame.flags & ACK != 0 => {
                    acknowledged += 1;
                    Seen::Acknowledged(acknowledged)
                }
                HEADERS if frame.stream == 1 => Seen::Answer,
                DATA if frame.stream == 1 => {
                    pieces.push(frame.payload.len());
                    Seen::Pieces(pieces.clone())
                }
                _ => continue,
            };
            if self.allowed.contains(&seen) || self.instead.as_ref() == Some(&seen) {
                return seen;
            }
        }
    }
}

/// The fields of a request that needs no credential to get an answer.
pub(super) fn fields(method: &str) -> [(&str, &str); 4] {
    [(":method", method), (":scheme", "http"), (":path", "/v5/rooms"), (":authority", "g")]
}

/// The fields of a request, and these.
pub(super) fn with(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    [block(&fields(method)), block(more)].concat()
}

/// A whole request on a stream.
pub(super) fn get(stream: u32) -> Vec<u8> {
    head(stream, END_STREAM, &block(&fields("GET")))
}

/// The head of a request whose body follows.
pub(super) fn post(stream: u32) -> Vec<u8> {
    head(stream, 0, &block(&fields("POST")))
}

/// A whole header block.
pub(super) fn head(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, block)
}

/// The beginning of a header block.
pub(super) fn begun(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, flags, stream, block)
}

pub(super) fn more(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(CONTINUATION, flags, stream, block)
}

pub(super) fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, flags, stream, bytes)
}

pub(super) fn ping() -> Vec<u8> {
    frame(PING, 0, 0, WORD)
}

pub(super) fn rst(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(super) fn window(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// PRIORITY, which RFC 9113 knows only to ignore.
pub(super) fn priority(stream: u32, on: u32, weight: u8) -> Vec<u8> {
    frame(PRIORITY, 0, stream, &[on.to_be_bytes().as_slice(), &[weight]].concat())
}

pub(super) fn settings(all: &[(u16, u32)]) -> Vec<u8> {
    let pairs = all.iter().flat_map(|(id, value)| {
        [id.to_be_bytes().as_slice(), value.to_be_bytes().as_slice()].concat()
    });
    frame(SETTINGS, 0, 0, &pairs.collect::<Vec<u8>>())
}
