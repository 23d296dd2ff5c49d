//! Protocol Buffers, as far as OTLP needs them: fields that are written one after the other, and a
//! number and a text that are read out of an answer.
//!
//! Ours, because a span is then written at once out of what a request left behind, into the buffer
//! of its worker: generated types would want each text in a string of its own first.

/// The kinds of fields: a varint, eight bytes, bytes with their length before them, four bytes.
const VARINT: u32 = 0;
const EIGHT: u32 = 1;
const LENGTH: u32 = 2;
const FOUR: u32 = 5;

/// A message in the writing. Fields with the value that is meant when they are absent are omitted.
pub(super) struct Message<'a>(pub(super) &'a mut Vec<u8>);

/// The value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Number(i64),
}

impl Message<'_> {
    fn key(&mut self, field: u32, kind: u32) {
        varint(self.0, u64::from(field << 3 | kind));
    }

    /// A number, or a word of an enumeration.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.key(field, VARINT);
            varint(self.0, value);
        }
    }

    pub(super) fn flag(&mut self, field: u32, value: bool) {
        self.number(field, value.into());
    }

    /// Also where it is 0: of several fields one is there.
    pub(super) fn chosen_number(&mut self, field: u32, value: i64) {
        self.key(field, VARINT);
        // A negative one is its two's complement.
        varint(self.0, value.cast_unsigned());
    }

    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.chosen_fixed64(field, value);
        }
    }

    pub(super) fn chosen_fixed64(&mut self, field: u32, value: u64) {
        self.key(field, EIGHT);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn chosen_double(&mut self, field: u32, value: f64) {
        self.chosen_fixed64(field, value.to_bits());
    }

    pub(super) fn fixed32(&mut self, field: u32, value: u32) {
        if value != 0 {
            self.key(field, FOUR);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.chosen_bytes(field, value);
        }
    }

    fn chosen_bytes(&mut self, field: u32, value: &[u8]) {
        self.key(field, LENGTH);
        varint(self.0, value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// Numbers of eight bytes, one behind the other.
    pub(super) fn packed(&mut self, field: u32, values: impl ExactSizeIterator<Item = u64>) {
        if values.len() > 0 {
            self.key(field, LENGTH);
            varint(self.0, values.len() as u64 * 8);
            values.for_each(|value| self.0.extend_from_slice(&value.to_le_bytes()));
        }
    }

    /// A message within this one.
    pub(super) fn message(&mut self, field: u32, write: impl FnOnce(&mut Message<'_>)) {
        self.key(field, LENGTH);
        let start = self.0.len();
        // Room for the length of a short one; a longer one is moved by a byte or two.
        self.0.push(0);
        write(&mut Message(self.0));
        let length = self.0.len() - start - 1;
        let mut digits = Vec::new();
        varint(&mut digits, length as u64);
        self.0.splice(start..=start, digits);
    }

    /// An attribute: its key, and what it is.
    pub(super) fn attribute(&mut self, field: u32, key: &str, value: Value<'_>) {
        self.message(field, |pair| {
            pair.text(1, key);
            pair.message(2, |any| match value {
                Value::Text(text) => any.chosen_bytes(1, text.as_bytes()),
                Value::Number(number) => any.chosen_number(3, number),
            });
        });
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// A field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireField<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads the fields of a message, as far as they are any: what follows something malformed is not
/// looked at.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, WireField<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let field = match u32::try_from(key & 7).ok()? {
            VARINT => WireField::Number(self.varint()?),
            LENGTH => {
                let length = usize::try_from(self.varint()?).ok()?;
                WireField::Bytes(self.take(length)?)
            }
            EIGHT => WireField::Bytes(self.take(8)?),
            FOUR => WireField::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, field))
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_message_has_a_long_length() {
        for length in [0, 1, 100, 125, 126, 127, 128, 16_381, 16_382, 70_000] {
            let mut out = vec![7];
            Message(&mut out).message(1, |inner| inner.text(2, &"x".repeat(length)));
            let (number, WireField::Bytes(inner)) = Fields(&out[1..]).next().unwrap() else {
                panic!("{out:?}");
            };
            assert_eq!(number, 1);
            let read: Vec<_> = Fields(inner).collect();
            if length == 0 {
                assert_eq!(read, []);
            } else {
                assert_eq!(read, [(2, WireField::Bytes("x".repeat(length).as_bytes()))]);
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number in 1_u64.., eight in 1_u64.., bytes in prop::collection::vec(any::<u8>(), 1..300)) {
            let mut out = Vec::new();
            let mut message = Message(&mut out);
            message.number(1, number);
            message.fixed64(15, eight);
            message.bytes(16, &bytes);
            let read: Vec<_> = Fields(&out).collect();
            prop_assert_eq!(read, [
                (1, WireField::Number(number)),
                (15, WireField::Bytes(&eight.to_le_bytes()[..])),
                (16, WireField::Bytes(&bytes)),
            ]);
        }

        #[test]
        fn whatever_comes_is_read_to_some_end(bytes: Vec<u8>) {
            prop_assert!(Fields(&bytes).count() <= bytes.len());
        }
    }
}
