//! The elements of `Forwarded` (RFC 7239) and `X-Forwarded-For` from the right, where what a trusted
//! proxy wrote stands.
//!
//! Only the elements that are asked for must be well-formed: what stands further left may be
//! anyone's, an open quotation mark and bytes of no text included.

/// The elements of one line of a field, from the last to the first. What is empty between commas is
/// none (RFC 9110 §5.6.1.2).
pub struct Elements<'a> {
    left: &'a [u8],
    /// Whether commas within quotation marks separate nothing.
    quotes: bool,
}

/// Where an element would be, there is a quoted string without a beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedParameterError;

impl<'a> Elements<'a> {
    /// Of a line of `Forwarded`.
    pub const fn of_forwarded(line: &'a [u8]) -> Self {
        Self { left: line, quotes: true }
    }

    /// Of a line of `X-Forwarded-For`, which knows no quotation.
    pub const fn of_x_forwarded_for(line: &'a [u8]) -> Self {
        Self { left: line, quotes: false }
    }

    /// Takes what stands behind the last comma.
    fn take(&mut self) -> Result<&'a [u8], MalformedParameterError> {
        let mut quoted = false;
        for (at, byte) in self.left.iter().enumerate().rev() {
            match byte {
                b'"' if self.quotes => {
                    if !is_escaped(self.left, at) {
                        quoted = !quoted;
                    } else if !quoted {
                        return Err(MalformedParameterError);
                    }
                }
                b',' if !quoted => {
                    let (left, element) = self.left.split_at(at);
                    self.left = left;
                    return Ok(element.get(1..).unwrap_or_default());
                }
                _ => {}
            }
        }
        if quoted { Err(MalformedParameterError) } else { Ok(std::mem::take(&mut self.left)) }
    }
}

/// Whether the byte at this index is the second one of a quoted pair, if it is in a quoted string.
fn is_escaped(line: &[u8], at: usize) -> bool {
    let before = line.iter().take(at).rev();
    before.take_while(|byte| **byte == b'\\').count() % 2 == 1
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a [u8], MalformedParameterError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.left.is_empty() {
            match self.take().map(<[u8]>::trim_ascii) {
                Ok([]) => {}
                Err(error) => {
                    self.left = &[];
                    return Some(Err(error));
                }
                found => return Some(found),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::list::Members;
    use proptest::prelude::*;

    fn elements(line: &[u8]) -> Vec<Result<&[u8], MalformedParameterError>> {
        Elements::of_forwarded(line).collect()
    }

    #[test]
    fn elements_are_separated_by_commas_outside_of_quoted_strings() {
        let ok = |texts: &[&'static [u8]]| -> Vec<Result<&'static [u8], MalformedParameterError>> {
            texts.iter().copied().map(Ok).collect()
        };
        for (line, expected) in [
            (&b"a=1, b=2"[..], ok(&[b"b=2", b"a=1"])),
            (b"a=1,,b=2, ,", ok(&[b"b=2", b"a=1"])),
            (br#"a="x,y";b="z,",c=3"#, ok(&[b"c=3", br#"a="x,y";b="z,""#])),
            (br#"a="x\",b=2""#, ok(&[br#"a="x\",b=2""#])),
            (br#"a="x\\",b=2"#, ok(&[b"b=2", br#"a="x\\""#])),
            (b"", ok(&[])),
        ] {
            assert_eq!(elements(line), expected, "{}", line.escape_ascii());
        }
        // What stands left of a trusted element may be anything.
        assert_eq!(elements(br#"a="x, b=2"#), [Ok(&b"b=2"[..]), Err(MalformedParameterError)]);
        assert_eq!(elements(br#"a=x\", b=2"#), [Ok(&b"b=2"[..]), Err(MalformedParameterError)]);
        assert_eq!(elements(b"\xff\xfe, b=2"), [Ok(&b"b=2"[..]), Ok(&b"\xff\xfe"[..])]);
    }

    proptest! {
        #[test]
        fn from_the_right_they_are_those_from_the_left(
            members in prop::collection::vec("[a-z]=([a-z]{1,2}|\"([a-z,;]|\\\\[\"\\\\])*\")", 0..5)
        ) {
            let line = members.join(", ,");
            let left: Vec<_> = Members::of_parameterized(line.as_bytes()).map(Ok).collect();
            let mut right = elements(line.as_bytes());
            right.reverse();
            prop_assert_eq!(left, right);
        }
    }
}
