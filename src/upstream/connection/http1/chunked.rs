//! The chunked coding of a body (RFC 9112 §7.1), read strictly.
//!
//! Whatever a length could be read from in two ways is refused. Extensions are skipped, trailers
//! are checked and dropped; of both there may only be so much.

use bytes::{Buf as _, BytesMut};

use super::syntax::{FIELDS, ParseStep, ResponseSyntaxError, has_lone_line_feed};

/// The most bytes of extensions and trailers in one body.
const EXTRAS: usize = 16 * 1024;

/// The most digits of a size: as many as 64 bits have. Zeros in front count.
const DIGITS: u8 = 16;

/// Where in the coding the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
    /// In the size, after so many digits.
    Size(u8),
    /// In white space after the size.
    Space,
    /// In an extension, which goes to the end of the line.
    Extension,
    /// At the line feed after the size.
    SizeEnd,
    Data,
    /// At the carriage return after the data.
    DataReturn,
    /// At the line feed after the data.
    DataEnd,
    Trailers,
}

/// Takes chunks apart, from wherever the bytes happen to be parted.
#[derive(Debug)]
pub(super) struct Chunked {
    at: ChunkState,
    /// Of the chunk, the bytes that are still to come; while its size is read, the size so far.
    left: u64,
    extras: usize,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self { at: ChunkState::Size(0), left: 0, extras: 0 }
    }

    /// The bytes of the present chunk that are still to come, as far as that is known.
    pub(super) const fn left(&self) -> u64 {
        if matches!(self.at, ChunkState::Data) { self.left } else { 0 }
    }

    /// Takes the next piece of data off the buffer.
    pub(super) fn step(&mut self, buffer: &mut BytesMut) -> Result<ParseStep, ResponseSyntaxError> {
        loop {
            match self.at {
                ChunkState::Data if buffer.is_empty() => return Ok(ParseStep::More),
                ChunkState::Data => {
                    let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
                    self.left -= here as u64;
                    if self.left == 0 {
                        self.at = ChunkState::DataReturn;
                    }
                    return Ok(ParseStep::Piece(buffer.split_to(here).freeze()));
                }
                ChunkState::Trailers => return self.trailers(buffer),
                _ => {
                    let Some(byte) = buffer.first().copied() else { return Ok(ParseStep::More) };
                    buffer.advance(1);
                    self.at = self.next(byte).ok_or(ResponseSyntaxError::Chunk)?;
                }
            }
        }
    }

    /// What comes after a byte of the framing; `None` when it cannot stand there.
    fn next(&mut self, byte: u8) -> Option<ChunkState> {
        let next = match (self.at, byte) {
            (ChunkState::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if digits < DIGITS =>
            {
                self.left = self.left << 4 | u64::from(char::from(byte).to_digit(16)?);
                ChunkState::Size(digits + 1)
            }
            (ChunkState::Size(1..) | ChunkState::Space | ChunkState::Extension, b'\r') => {
                ChunkState::SizeEnd
            }
            (ChunkState::Size(1..) | ChunkState::Space, b' ' | b'\t') => {
                self.extra()?;
                ChunkState::Space
            }
            (ChunkState::Size(1..) | ChunkState::Space, b';') => ChunkState::Extension,
            (ChunkState::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extra()?;
                ChunkState::Extension
            }
            (ChunkState::SizeEnd, b'\n') if self.left == 0 => ChunkState::Trailers,
            (ChunkState::SizeEnd, b'\n') => ChunkState::Data,
            (ChunkState::DataReturn, b'\r') => ChunkState::DataEnd,
            (ChunkState::DataEnd, b'\n') => ChunkState::Size(0),
            _ => return None,
        };
        Some(next)
    }

    fn extra(&mut self) -> Option<()> {
        self.extras += 1;
        (self.extras <= EXTRAS).then_some(())
    }

    /// The end, when all of it is there.
    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<ParseStep, ResponseSyntaxError> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            return Ok(ParseStep::End);
        }
        let shown = buffer.len().min(EXTRAS - self.extras.min(EXTRAS));
        let end = buffer[..shown].windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end.map(|at| at + 4) else {
            let room = shown == buffer.len();
            return if room { Ok(ParseStep::More) } else { Err(ResponseSyntaxError::Chunk) };
        };
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let read = httparse::parse_headers(&buffer[..end], &mut fields);
        let complete = matches!(read, Ok(httparse::Status::Complete((length, _))) if length == end);
        if !complete || has_lone_line_feed(&buffer[..end]) {
            return Err(ResponseSyntaxError::Chunk);
        }
        buffer.advance(end);
        Ok(ParseStep::End)
    }
}
