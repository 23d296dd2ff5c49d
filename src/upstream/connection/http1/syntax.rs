//! What the readers of an answer have in common: their bounds, what they give and what they refuse.

use bytes::Bytes;

use crate::bulk;

/// The most bytes of the heads of an answer, those of interim answers before it included.
pub(in crate::upstream) const HEAD_BYTES: usize = 64 * 1024;

/// The most fields of a head.
pub(in crate::upstream) const FIELDS: usize = 128;

/// The most interim answers before an answer.
pub(super) const INTERIMS: u8 = 32;

/// What can be taken of a body now.
#[derive(Debug, PartialEq, Eq)]
pub enum ParseStep {
    /// This.
    Piece(Bytes),
    /// Nothing before more has arrived.
    More,
    /// Nothing any more: that was all.
    End,
}

/// Why what came is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseSyntaxError {
    /// The head goes on for too long.
    #[error(
        "the head of the answer is over {HEAD_BYTES} bytes, {FIELDS} fields or {INTERIMS} interim answers"
    )]
    TooLarge,
    /// The head is none.
    #[error("the head of the answer is no HTTP/1.1: {0}")]
    Head(#[from] httparse::Error),
    /// A line of the head ends with a line feed alone, or there is one before the first.
    #[error("the head of the answer has lines that do not end as they must")]
    Line,
    /// A status that no answer to these requests has.
    #[error("the answer has a status that it cannot have")]
    Status,
    /// More than one length, or one that is none.
    #[error("the length of the answer is not certain")]
    Length,
    /// Framing in chunks that is broken.
    #[error("a chunk of the answer is malformed")]
    Chunk,
    /// The connection ended in the midst of it.
    #[error("the connection was closed before the end of the answer")]
    Cut,
    /// The connection ended before it began.
    #[error("the connection was closed before an answer")]
    Closed,
}

/// Whether a line of what was parsed ends with a line feed alone, which the parser takes.
pub(super) fn has_lone_line_feed(parsed: &[u8]) -> bool {
    let Some((first, after)) = parsed.split_first() else { return false };
    let is_proper = |(before, byte): (&u8, &u8)| (*byte != b'\n') | (*before == b'\r');
    *first == b'\n' || !bulk::all(parsed.iter().zip(after), is_proper)
}
