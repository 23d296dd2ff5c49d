//! An answer of the service, read as it comes: whether it is JSON, by the incremental reader and by
//! serde_json, whatever pieces it comes in.

use serde::de::IgnoredAny;
use whiteboard_gateway::upstream::JsonReader;

/// Nesting that is deeper is no JSON for the reader; serde_json has no bound for what it ignores.
const DEEPEST: usize = 128;

/// The lengths of pieces: single bytes, those around the sixteen that are compared at once, and all.
const PIECES: [usize; 8] = [1, 2, 3, 7, 15, 16, 17, usize::MAX];

/// Runs one input.
pub fn run(input: &[u8]) {
    let expected = is_json(input);
    for length in PIECES {
        let mut reader = JsonReader::default();
        let mut pieces = input.chunks(length);
        let taken = pieces.all(|piece| reader.push(piece).is_ok());
        let read = taken && reader.finish().is_ok();
        assert_eq!(read, expected, "in pieces of {length}: {:?}", String::from_utf8_lossy(input));
    }
}

/// By serde_json, behind one byte order mark (RFC 8259 §8.1).
fn is_json(input: &[u8]) -> bool {
    let input = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input);
    // What is ignored is not looked into for UTF-8.
    let Ok(text) = str::from_utf8(input) else { return false };
    serde_json::from_str::<IgnoredAny>(text).is_ok() && depth(text) <= DEEPEST
}

/// How deep JSON is nested.
fn depth(json: &str) -> usize {
    let (mut open, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' if !in_text => open -= 1,
            _ => {}
        }
    }
    deepest
}
