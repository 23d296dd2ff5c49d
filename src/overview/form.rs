//! The form in which things are kept and shown: texts of a bounded length, and moments.

use crate::clock::timestamp;

/// At most so many bytes of a text, and no half character.
pub(super) fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most { text } else { &text[..text.floor_char_boundary(most)] }
}

/// A moment in RFC 3339, of milliseconds of Unix time.
pub(super) fn moment(at_ms: u64) -> String {
    timestamp(at_ms).unwrap_or_default().to_string()
}
