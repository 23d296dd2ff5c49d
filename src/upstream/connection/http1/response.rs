//! Answers of HTTP/1.1, read from whatever pieces of them have arrived. Does no I/O.
//!
//! Where an answer ends is decided strictly by RFC 9112 §6.3: what two readers could take for two
//! lengths is refused, and a connection is used again only when nothing is left over on it.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use httparse::{Header, ParserConfig, Response, Status};

use super::buffers::{BUFFER, Buffers};
use super::chunked::Chunked;
use super::syntax::{
    FIELDS, HEAD_BYTES, INTERIMS, ParseStep, ResponseSyntaxError, has_lone_line_feed,
};
use crate::field::list::Members;
use crate::upstream::connection::head::ResponseHead;

/// The longest body that is given in one piece, when its length is known.
pub(in crate::upstream) const WHOLE: usize = 64 * 1024;

/// What a read has at least room for: nearly every answer of the service fits. For longer ones the
/// worker lends a buffer.
const LEAST: usize = 8 * 1024;

/// What an answer of the first line that counts begins with.
const VERSION: &[u8] = b"HTTP/1.";

/// Reads the answers that come on one connection, one after the other.
#[derive(Debug)]
pub struct ResponseParser {
    buffer: BytesMut,
    /// Whether it is one of the worker's: while something is read, or waits to be taken.
    lent: bool,
    /// The last answer was long, as far as it has come: so may the next be.
    long: bool,
    at: ParserState,
    /// The request asked for no body.
    bodiless: bool,
    /// The bytes of the interim heads, and their number.
    interim: (usize, u8),
    /// How much of a head was looked through for its end, in vain.
    searched: usize,
    kept_alive: bool,
}

/// Where in an answer the next byte is.
#[derive(Debug)]
enum ParserState {
    Head,
    /// In a body that is taken whole, of so many bytes.
    Short(usize),
    /// In a body of which so many bytes are still to come.
    Long(u64),
    Chunked(Chunked),
    /// In a body that ends with the connection.
    UntilClose,
    End,
}

/// A head, and what it says of what follows.
struct Parsed {
    length: usize,
    head: ResponseHead,
    at: ParserState,
    kept_alive: bool,
}

impl Default for ResponseParser {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            lent: false,
            long: false,
            at: ParserState::End,
            bodiless: false,
            interim: (0, 0),
            searched: 0,
            kept_alive: true,
        }
    }
}

impl ResponseParser {
    /// Expects the answer to a request; one of the method HEAD has no body.
    pub fn expect(&mut self, bodiless: bool) {
        self.at = ParserState::Head;
        self.bodiless = bodiless;
        self.interim = (0, 0);
        self.searched = 0;
    }

    /// The buffer that what arrives goes to the end of, with room for it.
    pub fn buffer(&mut self, buffers: &Buffers) -> &mut BytesMut {
        let (room, long) = match &self.at {
            ParserState::Head | ParserState::End => (LEAST, self.long),
            // One byte more, so that a read that gets it all does not fill the room: the runtime
            // then knows that there is nothing more to be had.
            ParserState::Short(length) => {
                (length.saturating_sub(self.buffer.len()) + 1, *length > LEAST)
            }
            ParserState::Long(_) | ParserState::UntilClose => (LEAST, true),
            ParserState::Chunked(chunked) if chunked.left() > LEAST as u64 => (LEAST, true),
            // Each of many tiny chunks must not take a buffer that its piece keeps.
            ParserState::Chunked(_) => (LEAST / 8, false),
        };
        self.long |= long;
        if self.lent || long {
            self.borrow(room, buffers);
        } else if self.buffer.capacity() - self.buffer.len() < room {
            self.buffer.reserve(room);
        }
        &mut self.buffer
    }

    /// Has room in a buffer of the worker.
    fn borrow(&mut self, room: usize, buffers: &Buffers) {
        if self.lent {
            // From its front again, when no one has a piece of it any more.
            let anew = self.buffer.is_empty() && self.buffer.try_reclaim(BUFFER);
            if anew || self.buffer.try_reclaim(room) {
                return;
            }
        }
        let mut other = buffers.take();
        other.extend_from_slice(&self.buffer);
        let before = std::mem::replace(&mut self.buffer, other);
        if std::mem::replace(&mut self.lent, true) {
            buffers.give_back(before);
        }
    }

    /// Gives a buffer of the worker back, unless there is something in it.
    pub fn rest(&mut self, buffers: &Buffers) {
        if self.lent && self.buffer.is_empty() {
            buffers.give_back(std::mem::take(&mut self.buffer));
            self.lent = false;
        }
    }

    /// The head, when all of it has arrived. Interim answers are dropped.
    ///
    /// # Errors
    /// [`ResponseSyntaxError`]: there is no answer, and the connection is of no more use.
    pub fn head(&mut self) -> Result<Option<ResponseHead>, ResponseSyntaxError> {
        while !self.buffer.is_empty() {
            // The first bytes are looked at as they come, so that what is no HTTP is told at once;
            // after that only a head that is whole, or too long, is worth the trouble.
            let shown = self.shown();
            let full = shown == HEAD_BYTES - self.interim.0;
            if self.searched > 0 && !full && !self.has_end(shown) {
                self.searched = shown;
                return Ok(None);
            }
            self.searched = shown;
            let Some(parsed) = self.parse()? else {
                return if full { Err(ResponseSyntaxError::TooLarge) } else { Ok(None) };
            };
            self.buffer.advance(parsed.length);
            self.searched = 0;
            if parsed.head.status.is_informational() {
                let (bytes, count) = self.interim;
                if count == INTERIMS {
                    return Err(ResponseSyntaxError::TooLarge);
                }
                self.interim = (bytes + parsed.length, count + 1);
                continue;
            }
            self.at = parsed.at;
            self.long = match self.at {
                ParserState::Short(length) => length > LEAST,
                ParserState::Head | ParserState::End => false,
                ParserState::Long(_) | ParserState::Chunked(_) | ParserState::UntilClose => {
                    self.buffer.len() > LEAST
                }
            };
            self.kept_alive = parsed.kept_alive;
            return Ok(Some(parsed.head));
        }
        Ok(None)
    }

    /// What can be taken of the body now.
    ///
    /// # Errors
    /// [`ResponseSyntaxError`]: the connection is of no more use.
    pub fn body(&mut self) -> Result<ParseStep, ResponseSyntaxError> {
        match &mut self.at {
            ParserState::Head => Ok(ParseStep::More),
            ParserState::End => Ok(ParseStep::End),
            ParserState::Short(length) => {
                let length = *length;
                if self.buffer.len() < length {
                    return Ok(ParseStep::More);
                }
                self.at = ParserState::End;
                Ok(ParseStep::Piece(self.split(length)))
            }
            ParserState::Long(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.buffer.len());
                *left -= here as u64;
                if *left == 0 {
                    self.at = ParserState::End;
                }
                Ok(self.piece(here))
            }
            ParserState::UntilClose => Ok(self.piece(self.buffer.len())),
            ParserState::Chunked(chunked) => {
                let step = chunked.step(&mut self.buffer)?;
                if step == ParseStep::End {
                    self.at = ParserState::End;
                }
                Ok(match step {
                    ParseStep::Piece(piece) if self.lent && piece.len() <= BUFFER / 2 => {
                        ParseStep::Piece(Bytes::copy_from_slice(&piece))
                    }
                    step => step,
                })
            }
        }
    }

    /// Hears that nothing more will come.
    ///
    /// # Errors
    /// [`ResponseSyntaxError`] unless that is how the answer ends.
    pub fn close(&mut self) -> Result<(), ResponseSyntaxError> {
        self.kept_alive = false;
        match self.at {
            ParserState::End => Ok(()),
            ParserState::UntilClose => {
                self.at = ParserState::End;
                Ok(())
            }
            ParserState::Head if self.is_silent() => Err(ResponseSyntaxError::Closed),
            ParserState::Head => {
                // It may be no head at all, which tells more.
                _ = self.parse()?;
                Err(ResponseSyntaxError::Cut)
            }
            _ => Err(ResponseSyntaxError::Cut),
        }
    }

    /// Whether no byte of the answer has come.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.at, ParserState::Head) && self.buffer.is_empty() && self.interim.1 == 0
    }

    /// Whether the answer is over, and what comes next on the connection is the next one.
    pub fn is_reusable(&self) -> bool {
        matches!(self.at, ParserState::End) && self.kept_alive && self.buffer.is_empty()
    }

    /// How many bytes of the body are still to be taken, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.at {
            ParserState::End => Some(0),
            ParserState::Short(length) => Some(length as u64),
            ParserState::Long(left) => Some(left),
            ParserState::Head | ParserState::Chunked(_) | ParserState::UntilClose => None,
        }
    }

    fn piece(&mut self, length: usize) -> ParseStep {
        match (length, &self.at) {
            (0, ParserState::End) => ParseStep::End,
            (0, _) => ParseStep::More,
            _ => ParseStep::Piece(self.split(length)),
        }
    }

    /// Takes a piece off the buffer. What waits for its caller holds its own size: one that fills less
    /// than half of a lent buffer is copied, and keeps none.
    fn split(&mut self, length: usize) -> Bytes {
        if !self.lent || length > BUFFER / 2 {
            return self.buffer.split_to(length).freeze();
        }
        let piece = Bytes::copy_from_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        piece
    }

    /// How much of what has arrived may be a head.
    fn shown(&self) -> usize {
        self.buffer.len().min(HEAD_BYTES - self.interim.0)
    }

    /// Whether an empty line has come since this was asked before.
    fn has_end(&self, shown: usize) -> bool {
        let from = self.searched.saturating_sub(3);
        self.buffer[from..shown].windows(4).any(|four| four == b"\r\n\r\n")
    }

    fn parse(&self) -> Result<Option<Parsed>, ResponseSyntaxError> {
        let bytes = &self.buffer[..self.shown()];
        // An empty line in front is skipped by the parser; here it is what an earlier answer left.
        if !bytes.iter().zip(VERSION).all(|(byte, expected)| byte == expected) {
            return Err(ResponseSyntaxError::Head(httparse::Error::Version));
        }
        let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS];
        let mut response = Response::new(&mut []);
        let read = ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            bytes,
            &mut fields,
        );
        let length = match read {
            Ok(Status::Complete(length)) => length,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(ResponseSyntaxError::TooLarge),
            Err(error) => return Err(error.into()),
        };
        if has_lone_line_feed(&bytes[..length]) {
            return Err(ResponseSyntaxError::Line);
        }
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(ResponseSyntaxError::Status)?;
        let framing = BodyFraming::read(status, response.headers)?;
        let at = framing.body(status, self.bodiless, response.version == Some(1))?;
        // A body that must not be there may come all the same.
        let surprises = matches!(at, ParserState::End) && !self.bodiless && framing.promises_body();
        let ends = framing.closes || surprises || matches!(at, ParserState::UntilClose);
        let kept_alive = response.version == Some(1) && !ends;
        Ok(Some(Parsed { length, head: framing.head, at, kept_alive }))
    }
}

/// What the fields of a head say of the length of the body.
struct BodyFraming {
    head: ResponseHead,
    length: Option<u64>,
    chunked: bool,
    closes: bool,
}

impl BodyFraming {
    fn read(status: StatusCode, fields: &[Header<'_>]) -> Result<Self, ResponseSyntaxError> {
        let mut framing =
            Self { head: ResponseHead::new(status), length: None, chunked: false, closes: false };
        for Header { name, value } in fields {
            if name.eq_ignore_ascii_case("content-length") {
                let before =
                    framing.length.replace(length(value).ok_or(ResponseSyntaxError::Length)?);
                if before.is_some() {
                    return Err(ResponseSyntaxError::Length);
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                if framing.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ResponseSyntaxError::Length);
                }
                framing.chunked = true;
            } else if name.eq_ignore_ascii_case("connection") {
                let mut options = Members::of_tokens(value);
                framing.closes |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
            } else {
                let taken = framing.head.take(name, value);
                taken.map_err(|_| ResponseSyntaxError::Head(httparse::Error::HeaderValue))?;
            }
        }
        Ok(framing)
    }

    /// RFC 9112 §6.3.
    fn body(
        &self,
        status: StatusCode,
        bodiless: bool,
        current: bool,
    ) -> Result<ParserState, ResponseSyntaxError> {
        if self.chunked && (self.length.is_some() || !current) {
            return Err(ResponseSyntaxError::Length);
        }
        match status {
            // The protocol is changed for those alone who asked for it.
            StatusCode::SWITCHING_PROTOCOLS => Err(ResponseSyntaxError::Status),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Ok(ParserState::End),
            _ if bodiless || status.is_informational() => Ok(ParserState::End),
            _ if self.chunked => Ok(ParserState::Chunked(Chunked::new())),
            _ => Ok(match self.length {
                None => ParserState::UntilClose,
                Some(0) => ParserState::End,
                Some(length) => match usize::try_from(length) {
                    Ok(length) if length <= WHOLE => ParserState::Short(length),
                    _ => ParserState::Long(length),
                },
            }),
        }
    }

    fn promises_body(&self) -> bool {
        self.chunked || self.length.is_some_and(|length| length > 0)
    }
}

/// `1*DIGIT`, and nothing else.
fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}
