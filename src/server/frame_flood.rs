//! Where the frames of HTTP/2 begin and end (RFC 9113 §4.1), as bytes pass by, and what those that
//! ask for nothing cost a peer.
//!
//! h2 bounds some floods and not others; all of them are made of frames that are cheap to send and
//! ask for no answer. So each of these costs something here, whatever it means, and a peer that has
//! nothing left is told to go. Nothing is kept but nine bytes, and nothing is judged but the head:
//! also its length, of which h2 says another error than the RFC.

use std::time::Duration;

use tokio::time::Instant;

/// How an HTTP/2 connection begins (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// The flag of SETTINGS and PING frames that acknowledge others.
const ACK: u8 = 1;

/// The flag of DATA and HEADERS frames that are the last of their stream.
const END_STREAM: u8 = 1;

/// The flag of the frame that ends a header block.
const END_HEADERS: u8 = 4;

/// A smaller piece of a body costs more to keep than it brings.
const SMALL: u32 = 256;

/// A stream that is reset has cost a request.
const RESET: u32 = 5;

/// How much a request that is answered to its end gives back.
pub(super) const ANSWERED: u32 = 10;

/// One frame is given back for so many bytes that the peer takes.
const TAKEN: usize = 1024;

/// The bytes of a frame's head.
const HEAD: usize = 9;

/// A GOAWAY frame.
const GOAWAY: usize = HEAD + 8;

/// That no stream will be taken soon (RFC 9113 §6.8): GOAWAY with NO_ERROR and the highest stream.
pub(super) const SHUTDOWN_NOTICE: [u8; GOAWAY] =
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// Why a peer is told to go, as an error code of RFC 9113 §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Violation {
    /// Its first frame is none of settings (§3.4).
    Protocol = 1,
    /// A frame is not as long as its kind (§6).
    FrameSize = 6,
    /// It has sent too much that asks for nothing.
    Calm = 11,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    length: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds the frames in bytes.
#[derive(Debug, Default)]
struct FrameScanner {
    head: [u8; HEAD],
    have: usize,
    /// The bytes of the payload that are still to come.
    left: usize,
}

impl FrameScanner {
    /// Takes bytes as they pass, and shows the head of each frame that begins in them.
    fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(FrameHeader)) {
        loop {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD {
                let [a, b, c, kind, flags, stream @ ..] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]);
                let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
                self.have = 0;
                self.left = length as usize;
                seen(FrameHeader { length, kind, flags, stream });
            }
        }
    }

    /// Whether a frame has ended and no other begun.
    const fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }
}

/// What a peer may still send for nothing.
#[derive(Debug)]
struct FrameBudget {
    left: u32,
    most: u32,
    filled: Instant,
}

impl FrameBudget {
    fn give(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.most);
    }

    /// Pays; `false` when there is not enough. What time gives back is counted only then.
    fn pay(&mut self, count: u32, now: Instant) -> bool {
        if self.left < count {
            let each = Duration::from_secs(10) / self.most.max(1);
            let passed = now.saturating_duration_since(self.filled).as_nanos();
            let back = passed / each.as_nanos().max(1);
            if back > 0 {
                self.give(u32::try_from(back).unwrap_or(u32::MAX));
                self.filled = now;
            }
        }
        let enough = self.left >= count;
        self.left = self.left.saturating_sub(count);
        enough
    }
}

/// Both directions of a connection.
#[derive(Debug)]
pub(super) struct FrameAccounting {
    inward: FrameScanner,
    outward: FrameScanner,
    /// A header block has begun, and nothing else may come before its end.
    block: bool,
    /// The first frame has come.
    begun: bool,
    /// The kind of the frame that is arriving.
    kind: u8,
    last: u32,
    /// The streams of which the peer has neither the end of the answer nor a reset: h2 has something
    /// of them still. The peer may have as many as streams at once.
    unanswered: Vec<u32>,
    /// The kind of the frame that is leaving, once one has.
    leaving: Option<u8>,
    /// The bytes that the peer has taken and that were not counted yet.
    taken: usize,
    budget: FrameBudget,
    violation: Option<Violation>,
}

impl FrameAccounting {
    /// For a connection of which `preface` bytes that are no frames are still to pass.
    pub(super) fn new(preface: usize, most: u32, now: Instant) -> Self {
        Self {
            inward: FrameScanner { left: preface, ..FrameScanner::default() },
            outward: FrameScanner::default(),
            block: false,
            begun: false,
            kind: DATA,
            last: 0,
            unanswered: Vec::new(),
            leaving: None,
            taken: 0,
            budget: FrameBudget { left: most, most, filled: now },
            violation: None,
        }
    }

    /// Takes what has arrived; `false` when the peer has to go.
    pub(super) fn arrived(&mut self, bytes: &[u8], now: Instant) -> bool {
        let Self { inward, block, begun, kind, last, unanswered, budget, violation, .. } = self;
        inward.feed(bytes, |head| {
            let cost = cost(head);
            let found = if !*begun && (head.kind != SETTINGS || head.flags & ACK != 0) {
                Some(Violation::Protocol)
            } else if !is_of_its_length(head) {
                Some(Violation::FrameSize)
            } else if cost > 0 && !budget.pay(cost, now) {
                Some(Violation::Calm)
            } else {
                None
            };
            *violation = violation.or(found);
            *begun = true;
            *kind = head.kind;
            match head.kind {
                HEADERS | CONTINUATION => *block = head.flags & END_HEADERS == 0,
                _ => {}
            }
            match head.kind {
                // Another one of the same stream is its trailers.
                HEADERS if head.stream > *last => {
                    *last = head.stream;
                    unanswered.push(head.stream);
                }
                RST_STREAM => unanswered.retain(|stream| *stream != head.stream),
                _ => {}
            }
        });
        violation.is_none()
    }

    /// Why the peer has to go.
    pub(super) const fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Whether something has begun whose rest is due: a connection, a header block or a frame. The
    /// pieces of a body have the time that the body has.
    pub(super) const fn is_due(&self) -> bool {
        !self.begun || self.block || (self.kind != DATA && !self.inward.is_between())
    }

    /// Whether everything that was asked for is answered, and the peer has taken it. A header block
    /// that has begun asks for nothing yet.
    pub(super) fn are_answered(&self) -> bool {
        let begun = usize::from(self.block);
        self.unanswered.len() <= begun && self.outward.is_between()
    }

    /// Of how many requests the peer has not the end of the answer.
    pub(super) const fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Takes what the peer has taken; whether that is a part of an answer.
    pub(super) fn sent(&mut self, bytes: &[u8]) -> bool {
        let Self { outward, unanswered, leaving, .. } = self;
        let mut of_answer = matches!(*leaving, Some(DATA | HEADERS)) && !outward.is_between();
        outward.feed(bytes, |head| {
            let ends = matches!(head.kind, DATA | HEADERS) && head.flags & END_STREAM != 0;
            if ends || head.kind == RST_STREAM {
                unanswered.retain(|stream| *stream != head.stream);
            }
            of_answer |= matches!(head.kind, DATA | HEADERS);
            *leaving = Some(head.kind);
        });
        self.taken += bytes.len();
        if self.taken >= TAKEN {
            self.budget.give(u32::try_from(self.taken / TAKEN).unwrap_or(u32::MAX));
            self.taken %= TAKEN;
        }
        of_answer
    }

    /// Gives something back.
    pub(super) fn give(&mut self, count: u32) {
        self.budget.give(count);
    }

    /// Whether a frame can go out past h2: no other is half written, and SETTINGS were the first (RFC
    /// 9113 §3.4).
    pub(super) const fn is_between_frames(&self) -> bool {
        self.leaving.is_some() && self.outward.is_between()
    }

    /// What to say to a peer that has to go (§6.8); nothing in the middle of a frame.
    pub(super) fn goaway_frame(&self) -> Option<[u8; GOAWAY]> {
        if !self.outward.is_between() {
            return None;
        }
        // NO_ERROR where it has done nothing wrong.
        let error = self.violation.map_or(0, |violation| violation as u8);
        let [a, b, c, d] = self.last.to_be_bytes();
        Some([0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, error])
    }
}

/// Whether a frame has a length that its kind can have. The bound of all is h2's to keep.
const fn is_of_its_length(head: FrameHeader) -> bool {
    match head.kind {
        PRIORITY => head.length == 5,
        RST_STREAM | WINDOW_UPDATE => head.length == 4,
        PING => head.length == 8,
        SETTINGS if head.flags & ACK != 0 => head.length == 0,
        SETTINGS => head.length.is_multiple_of(6),
        _ => true,
    }
}

/// What a frame costs. Requests and bodies cost nothing here: they have bounds of their own.
const fn cost(head: FrameHeader) -> u32 {
    match head.kind {
        HEADERS => 0,
        DATA if head.length >= SMALL || head.flags & END_STREAM != 0 => 0,
        RST_STREAM => RESET,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PINGED: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    /// What is left of 20 after the beginning of a connection and these bytes.
    fn left_of_20(bytes: &[u8]) -> (u32, Option<Violation>) {
        let now = Instant::now();
        let mut frames = FrameAccounting::new(0, 21, now);
        frames.arrived(&frame(SETTINGS, 0, 0, 0), now);
        frames.arrived(bytes, now);
        (frames.budget.left, frames.violation())
    }

    fn frame(kind: u8, flags: u8, stream: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0x80, 0, 0, stream];
        frame.resize(HEAD + usize::from(length), 7);
        frame
    }

    #[test]
    fn frames_are_found_however_their_bytes_come() {
        let bytes = [frame(1, 4, 3, 20), frame(4, 0, 0, 0), frame(0, 1, 3, 5)].concat();
        for size in 1..=bytes.len() {
            let mut scanner = FrameScanner::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                scanner.feed(piece, |head| seen.push((head.kind, head.stream, head.length)));
            }
            assert_eq!(seen, [(1, 3, 20), (4, 0, 0), (0, 3, 5)], "in pieces of {size}");
            assert!(scanner.is_between());
        }
    }

    #[test]
    fn what_was_paid_comes_back_with_time_and_answers_and_never_more_than_all() {
        let begun = Instant::now();
        let mut budget = FrameBudget { left: 100, most: 100, filled: begun };
        assert!((0..100).all(|_| budget.pay(1, begun)));
        assert!(!budget.pay(1, begun), "a hundred and one");
        budget.give(2);
        assert!(budget.pay(2, begun));
        let later = begun + Duration::from_secs(1);
        assert!((0..10).all(|_| budget.pay(1, later)), "a tenth of all in a second");
        assert!(!budget.pay(1, later));
        let much_later = later + Duration::from_secs(3600);
        assert!(budget.pay(1, much_later));
        assert_eq!(budget.left, 99);
    }

    #[test]
    fn requests_and_bodies_cost_nothing_and_resets_more_than_others() {
        let mut body = vec![0, 1, 0, DATA, 0, 0, 0, 0, 1];
        body.resize(HEAD + 256, 0);
        let free = [frame(HEADERS, END_HEADERS, 1, 9), body, frame(DATA, END_STREAM, 1, 3)];
        assert_eq!(left_of_20(&free.concat().repeat(50)), (20, None));
        assert_eq!(left_of_20(&frame(DATA, 0, 1, 0)), (19, None));
        assert_eq!(left_of_20(&frame(RST_STREAM, 0, 1, 4).repeat(4)), (0, None));
        assert_eq!(left_of_20(&PINGED.repeat(21)), (0, Some(Violation::Calm)));
    }

    #[test]
    fn bytes_that_the_peer_takes_give_something_back() {
        let now = Instant::now();
        let mut frames = FrameAccounting::new(0, 20, now);
        frames.arrived(&frame(SETTINGS, 0, 0, 0), now);
        frames.sent(&[0; 1000]);
        assert_eq!(frames.budget.left, 19);
        frames.sent(&[0; 24]);
        assert_eq!(frames.budget.left, 20);
    }

    #[test]
    fn a_frame_that_is_not_as_long_as_its_kind_is_a_violation() {
        for (kind, flags, length) in
            [(PING, 0, 6), (PRIORITY, 0, 4), (RST_STREAM, 0, 3), (WINDOW_UPDATE, 0, 5)]
                .into_iter()
                .chain([(SETTINGS, 0, 3), (SETTINGS, ACK, 6)])
        {
            let (_, violation) = left_of_20(&frame(kind, flags, 1, length));
            assert_eq!(violation, Some(Violation::FrameSize), "{kind} of {length}");
        }
        assert_eq!(left_of_20(&frame(SETTINGS, 0, 0, 12)).1, None);
    }

    #[test]
    fn a_connection_that_begins_with_anything_but_settings_is_a_violation() {
        let now = Instant::now();
        for first in [PINGED.to_vec(), frame(SETTINGS, ACK, 0, 0)] {
            let mut frames = FrameAccounting::new(0, 20, now);
            assert!(!frames.arrived(&first, now));
            assert_eq!(frames.violation(), Some(Violation::Protocol));
        }
    }

    #[test]
    fn a_preface_is_no_frame_and_a_beginning_wants_its_end() {
        let now = Instant::now();
        let mut frames = FrameAccounting::new(24, 10, now);
        assert!(frames.is_due(), "a connection begins with a frame");
        frames.arrived(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now);
        assert!(frames.is_due());
        frames.arrived(&frame(4, 0, 0, 0), now);
        assert!(!frames.is_due());
        frames.arrived(&frame(1, 0, 1, 5), now);
        assert!(frames.is_due(), "a header block has begun");
        frames.arrived(&frame(9, 4, 1, 5), now);
        assert!(!frames.is_due());
        frames.arrived(&frame(0, 0, 1, 5)[..11], now);
        assert!(!frames.is_due(), "a body has its own time");
    }

    #[test]
    fn a_stream_is_answered_when_the_peer_has_the_last_byte_or_a_reset() {
        let now = Instant::now();
        let mut frames = FrameAccounting::new(0, 100, now);
        let arrives =
            |frames: &mut FrameAccounting, bytes: &[u8]| assert!(frames.arrived(bytes, now));
        arrives(&mut frames, &[frame(SETTINGS, 0, 0, 0), PINGED.to_vec()].concat());
        assert!(frames.are_answered(), "nothing was asked for");
        let head = |stream| frame(HEADERS, END_HEADERS, stream, 4);
        arrives(&mut frames, &[head(1), head(3), head(5), head(1)].concat());
        arrives(&mut frames, &frame(RST_STREAM, 0, 5, 4));
        let settings = frame(SETTINGS, ACK, 0, 0);
        assert!(!frames.sent(&settings), "no part of an answer");
        assert!(frames.sent(&[head(1), frame(RST_STREAM, 0, 3, 4)].concat()));
        assert!(!frames.are_answered());
        let last = frame(DATA, END_STREAM, 1, 9);
        assert!(frames.sent(&last[..12]) && frames.sent(&last[12..17]) && !frames.are_answered());
        assert!(frames.sent(&last[17..]) && frames.are_answered());
        arrives(&mut frames, &frame(HEADERS, 0, 7, 4));
        assert!(frames.are_answered(), "a header block without an end");
        arrives(&mut frames, &frame(CONTINUATION, END_HEADERS, 7, 4));
        assert!(!frames.are_answered());
    }

    #[test]
    fn nothing_is_said_in_the_middle_of_a_frame() {
        let now = Instant::now();
        let mut frames = FrameAccounting::new(0, 1, now);
        frames.arrived(&[frame(4, 0, 0, 0), frame(1, 4, 9, 1), PINGED.to_vec()].concat(), now);
        frames.sent(&PINGED[..12]);
        assert_eq!(frames.goaway_frame(), None);
        frames.sent(&PINGED[12..]);
        assert_eq!(frames.goaway_frame().unwrap()[HEAD..], [0, 0, 0, 9, 0, 0, 0, 11]);
    }
}
