//! The form in which things are kept and shown: texts of a bounded length, and moments.

/// At most so many bytes of a text, and no half character.
pub(super) fn cut(text: &str, most: usize) -> &str {
    if text.len() <= most { text } else { &text[..text.floor_char_boundary(most)] }
}

/// A moment in RFC 3339, of milliseconds of Unix time.
pub(super) fn moment(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.unwrap_or_default().to_string()
}
