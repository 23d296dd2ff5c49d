//! The one normal form of a path, in which it is matched and forwarded.
//!
//! RFC 3986 §6.2.2 lets unreserved characters be written percent-encoded, so those are decoded.
//! What two servers could read differently (`%2F`, dot segments, empty segments) is refused
//! rather than guessed at.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::bulk;
use crate::failure::{Code, Failure};

/// Everything but the unreserved characters of RFC 3986 §2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Decodes a path, less the slash at either end. None of the slashes in it was encoded, so that its
/// segments are what stands between them.
///
/// # Errors
/// A [`Failure`] of code `malformed_request` for an empty segment, a dot segment, an encoded
/// slash, backslash or control character, a broken percent-encoding, or bytes that are not UTF-8.
pub(super) fn decode_path(path: &str) -> Result<Cow<'_, str>, Failure> {
    let Some(path) = path.strip_prefix('/') else {
        return Err(refused("the path must begin with `/`"));
    };
    if path.is_empty() {
        return Ok(Cow::Borrowed(path));
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if is_decoded(path) {
        return Ok(Cow::Borrowed(path));
    }
    let segments: Result<Vec<_>, _> = path.split('/').map(decode).collect();
    Ok(Cow::Owned(segments?.join("/")))
}

/// Whether a path is plainly the same decoded and encoded, as nearly every one is: no segment is
/// empty, begins with a dot, or holds anything but unreserved characters.
fn is_decoded(path: &str) -> bool {
    path.as_bytes().split(|byte| *byte == b'/').all(|segment| {
        segment.first().is_some_and(|first| *first != b'.') && are_unreserved(segment)
    })
}

/// Encodes a segment: everything but unreserved characters as `%XX` in upper case.
pub fn encode_segment(segment: &str) -> Cow<'_, str> {
    if is_unreserved(segment) {
        return Cow::Borrowed(segment);
    }
    utf8_percent_encode(segment, RESERVED).into()
}

/// Whether a text is the same decoded and encoded: nearly every segment is.
pub(crate) fn is_unreserved(text: &str) -> bool {
    are_unreserved(text.as_bytes())
}

fn are_unreserved(bytes: &[u8]) -> bool {
    bulk::all(bytes, |byte| UNRESERVED[usize::from(*byte)])
}

/// The unreserved characters, by their byte.
static UNRESERVED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let mark = matches!(byte, b'-' | b'.' | b'_' | b'~');
        table[byte as usize] = byte.is_ascii_alphanumeric() || mark;
        byte += 1;
    }
    table
};

fn decode(segment: &str) -> Result<Cow<'_, str>, Failure> {
    if segment.is_empty() {
        return Err(refused("the path holds an empty segment"));
    }
    if is_unreserved(segment) && segment != "." && segment != ".." {
        return Ok(Cow::Borrowed(segment));
    }
    if !broken_encoding(segment) {
        let decoded = percent_decode_str(segment)
            .decode_utf8()
            .map_err(|_| refused("the path is not UTF-8"))?;
        if decoded == "." || decoded == ".." {
            return Err(refused("the path holds a dot segment"));
        }
        if decoded.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
            return Err(refused(
                "the path holds an encoded slash, a backslash or a control character",
            ));
        }
        return Ok(decoded);
    }
    Err(refused("the path holds a `%` that is not followed by two hex digits"))
}

fn broken_encoding(segment: &str) -> bool {
    let mut rest = segment.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[at + 3..],
            _ => return true,
        }
    }
    false
}

fn refused(why: &'static str) -> Failure {
    Failure::fixed(Code::MalformedRequest, why)
}
