//! Ids of traces and spans: random bytes, never all zero, written as small hex digits.

use std::fmt;

/// The id of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }

    /// From 32 small hex digits, not all `0`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        read(text).map(Self)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// What sampling goes by: the half that is random in every kind of id.
    pub(super) const fn low(self) -> u64 {
        let [_, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl SpanId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(random())
    }

    /// From 16 small hex digits, not all `0`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        read(text).map(Self)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        write(&self.0, &mut text);
        out.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // All zero is the one value that is none.
    while bytes == [0; N] {
        fastrand::fill(&mut bytes);
    }
    bytes
}

/// Writes bytes as hex digits, twice as many.
pub(super) fn write(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Reads an id; `None` for another length, for other characters and for nothing but zeros.
fn read<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = hex(pair)?;
    }
    (bytes != [0; N]).then_some(bytes)
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
