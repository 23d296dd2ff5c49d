//! Ids of traces and spans: random bytes, never all zero, written as small hex digits.

use std::fmt;

/// An id of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id<const BYTES: usize>([u8; BYTES]);

/// The id of a trace.
pub type TraceId = Id<16>;

/// The id of a span.
pub type SpanId = Id<8>;

impl<const BYTES: usize> Id<BYTES> {
    /// A new one.
    pub fn random() -> Self {
        let mut bytes = [0; BYTES];
        // All zero is the one value that is none.
        while bytes == [0; BYTES] {
            fastrand::fill(&mut bytes);
        }
        Self(bytes)
    }

    /// From small hex digits, twice as many, not all `0`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 2 * BYTES {
            return None;
        }
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = hex(pair)?;
        }
        (bytes != [0; BYTES]).then_some(Self(bytes))
    }

    /// The bytes.
    pub const fn bytes(&self) -> &[u8; BYTES] {
        &self.0
    }
}

impl TraceId {
    /// What sampling goes by: the half that is random in every kind of id.
    pub(super) const fn low(self) -> u64 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        write(&self.0, &mut text);
        out.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

/// Writes bytes as hex digits, twice as many.
pub(super) fn write(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// The byte of two small hex digits.
pub(super) fn hex(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_small_hex_digits_and_not_zero() {
        let text = "0af7651916cd43dd8448eb211c80319c";
        let id = TraceId::parse(text.as_bytes()).unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.low(), 0x8448_eb21_1c80_319c);
        for odd in [
            "0AF7651916cd43dd8448eb211c80319c",
            "0af7651916cd43dd8448eb211c80319",
            "0af7651916cd43dd8448eb211c80319cc",
            "0af7651916cd43dd8448eb211c80319g",
            "00000000000000000000000000000000",
            "",
        ] {
            assert_eq!(TraceId::parse(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(SpanId::parse(b"0000000000000000"), None);
        assert_eq!(
            SpanId::parse(b"b7ad6b7169203331").unwrap().bytes(),
            &[183, 173, 107, 113, 105, 32, 51, 49]
        );
    }

    #[test]
    fn new_ids_differ() {
        assert_ne!(TraceId::random(), TraceId::random());
        assert_ne!(SpanId::random(), SpanId::random());
    }
}
