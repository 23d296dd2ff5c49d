//! The chunked coding of a body (RFC 9112 §7.1), read strictly.
//!
//! Whatever a length could be read from in two ways is refused. Extensions are skipped, trailers
//! are checked and dropped; of both there may only be so much.

use bytes::{Buf as _, BytesMut};

use super::syntax::{FIELDS, Malformed, Step, has_lone_line_feed};

/// The most bytes of extensions and trailers in one body.
const EXTRAS: usize = 16 * 1024;

/// The most digits of a size: as many as 64 bits have. Zeros in front count.
const DIGITS: u8 = 16;

/// Where in the coding the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
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
    at: At,
    /// Of the chunk, the bytes that are still to come; while its size is read, the size so far.
    left: u64,
    extras: usize,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self { at: At::Size(0), left: 0, extras: 0 }
    }

    /// The bytes of the present chunk that are still to come, as far as that is known.
    pub(super) const fn left(&self) -> u64 {
        if matches!(self.at, At::Data) { self.left } else { 0 }
    }

    /// Takes the next piece of data off the buffer.
    pub(super) fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            match self.at {
                At::Data if buffer.is_empty() => return Ok(Step::More),
                At::Data => {
                    let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
                    self.left -= here as u64;
                    if self.left == 0 {
                        self.at = At::DataReturn;
                    }
                    return Ok(Step::Piece(buffer.split_to(here).freeze()));
                }
                At::Trailers => return self.trailers(buffer),
                _ => {
                    let Some(byte) = buffer.first().copied() else { return Ok(Step::More) };
                    buffer.advance(1);
                    self.at = self.next(byte).ok_or(Malformed::Chunk)?;
                }
            }
        }
    }

    /// What comes after a byte of the framing; `None` when it cannot stand there.
    fn next(&mut self, byte: u8) -> Option<At> {
        let next = match (self.at, byte) {
            (At::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < DIGITS => {
                self.left = self.left << 4 | u64::from(char::from(byte).to_digit(16)?);
                At::Size(digits + 1)
            }
            (At::Size(1..) | At::Space | At::Extension, b'\r') => At::SizeEnd,
            (At::Size(1..) | At::Space, b' ' | b'\t') => {
                self.extra()?;
                At::Space
            }
            (At::Size(1..) | At::Space, b';') => At::Extension,
            (At::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extra()?;
                At::Extension
            }
            (At::SizeEnd, b'\n') if self.left == 0 => At::Trailers,
            (At::SizeEnd, b'\n') => At::Data,
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size(0),
            _ => return None,
        };
        Some(next)
    }

    fn extra(&mut self) -> Option<()> {
        self.extras += 1;
        (self.extras <= EXTRAS).then_some(())
    }

    /// The end, when all of it is there.
    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Step, Malformed> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            return Ok(Step::End);
        }
        let shown = buffer.len().min(EXTRAS - self.extras.min(EXTRAS));
        let end = buffer[..shown].windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end.map(|at| at + 4) else {
            let room = shown == buffer.len();
            return if room { Ok(Step::More) } else { Err(Malformed::Chunk) };
        };
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let read = httparse::parse_headers(&buffer[..end], &mut fields);
        let complete = matches!(read, Ok(httparse::Status::Complete((length, _))) if length == end);
        if !complete || has_lone_line_feed(&buffer[..end]) {
            return Err(Malformed::Chunk);
        }
        buffer.advance(end);
        Ok(Step::End)
    }
}
