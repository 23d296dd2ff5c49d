//! Whether bytes are JSON (RFC 8259), found out as they come: a page of a proxy must not pass as a
//! room, however long it is and whatever it is labelled.
//!
//! It reads and keeps nothing: what passes through is never held for it.

use crate::bulk;

/// Deeper nesting is no JSON here: clients read no deeper either.
pub(super) const DEEPEST: u8 = 128;

/// A reader that has seen the bytes so far.
#[derive(Clone, Debug, Default)]
pub struct JsonReader {
    state: JsonState,
    /// What is open, the innermost last: a bit for each, set for an object.
    open: u128,
    depth: u8,
}

/// What it has read is not how JSON goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not JSON")]
pub struct NotJsonError;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum JsonState {
    /// So many bytes of a mark were there.
    #[default]
    Begin,
    Mark(u8),
    Value,
    /// Behind `[`.
    ValueOrEnd,
    /// Behind `{`.
    NameOrEnd,
    /// Behind a comma in an object.
    Name,
    Colon,
    /// Behind a value.
    CommaOrEnd,
    Done,
    Text {
        name: bool,
    },
    Escape {
        name: bool,
    },
    /// So many digits of `\u` are to come.
    Hex {
        name: bool,
        left: u8,
    },
    /// So many bytes of a character are to come, the next of them within these bounds.
    Character {
        name: bool,
        left: u8,
        least: u8,
        most: u8,
    },
    Number(Number),
    /// What is to come of `true`, `false` or `null`.
    Word(&'static [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    /// A number may not go on behind a leading zero.
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl JsonReader {
    /// The next bytes.
    ///
    /// # Errors
    /// [`NotJsonError`]: whatever comes behind them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), NotJsonError> {
        let mut rest = bytes;
        while let Some((byte, behind)) = rest.split_first() {
            rest = behind;
            self.state = match self.state {
                JsonState::Text { name } => {
                    // Most bytes are the inside of a text.
                    if is_plain(*byte) {
                        rest = rest.get(bulk::prefix(rest, is_plain)..).unwrap_or_default();
                        continue;
                    }
                    self.in_text(*byte, name)?
                }
                JsonState::Number(number) => match number.next(*byte)? {
                    Some(next) => JsonState::Number(next),
                    None => {
                        self.state = self.behind_value();
                        self.between(*byte)?
                    }
                },
                _ => self.between(*byte)?,
            };
        }
        Ok(())
    }

    /// The end has come.
    ///
    /// # Errors
    /// [`NotJsonError`] where something is missing.
    pub fn finish(&self) -> Result<(), NotJsonError> {
        match self.state {
            JsonState::Done => Ok(()),
            JsonState::Number(number) if self.depth == 0 && number.may_end() => Ok(()),
            _ => Err(NotJsonError),
        }
    }

    fn behind_value(&self) -> JsonState {
        if self.depth == 0 { JsonState::Done } else { JsonState::CommaOrEnd }
    }

    fn in_text(&self, byte: u8, name: bool) -> Result<JsonState, NotJsonError> {
        let character = |left, least, most| JsonState::Character { name, left, least, most };
        Ok(match byte {
            b'"' if name => JsonState::Colon,
            b'"' => self.behind_value(),
            b'\\' => JsonState::Escape { name },
            // RFC 3629 §4: no overlong forms, no surrogates, nothing above U+10FFFF.
            0xc2..=0xdf => character(1, 0x80, 0xbf),
            0xe0 => character(2, 0xa0, 0xbf),
            0xed => character(2, 0x80, 0x9f),
            0xe1..=0xef => character(2, 0x80, 0xbf),
            0xf0 => character(3, 0x90, 0xbf),
            0xf1..=0xf3 => character(3, 0x80, 0xbf),
            0xf4 => character(3, 0x80, 0x8f),
            _ => return Err(NotJsonError),
        })
    }

    /// A byte that is not the inside of a text or of a number.
    fn between(&mut self, byte: u8) -> Result<JsonState, NotJsonError> {
        let space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        Ok(match (self.state, byte) {
            (JsonState::Begin, 0xef) => JsonState::Mark(1),
            (JsonState::Mark(1), 0xbb) => JsonState::Mark(2),
            (JsonState::Mark(2), 0xbf) => JsonState::Value,
            (JsonState::Begin, _) if space => JsonState::Value,
            (
                JsonState::Value
                | JsonState::ValueOrEnd
                | JsonState::NameOrEnd
                | JsonState::Name
                | JsonState::Colon
                | JsonState::CommaOrEnd
                | JsonState::Done,
                _,
            ) if space => self.state,
            (JsonState::ValueOrEnd, b']') => self.close(false)?,
            (JsonState::NameOrEnd, b'}') => self.close(true)?,
            (JsonState::Begin | JsonState::Value | JsonState::ValueOrEnd, _) => self.value(byte)?,
            (JsonState::NameOrEnd | JsonState::Name, b'"') => JsonState::Text { name: true },
            (JsonState::Colon, b':') => JsonState::Value,
            (JsonState::CommaOrEnd, b',') if self.open & 1 == 1 => JsonState::Name,
            (JsonState::CommaOrEnd, b',') => JsonState::Value,
            (JsonState::CommaOrEnd, b']') => self.close(false)?,
            (JsonState::CommaOrEnd, b'}') => self.close(true)?,
            (JsonState::Escape { name }, b'u') => JsonState::Hex { name, left: 4 },
            (
                JsonState::Escape { name },
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't',
            )
            | (JsonState::Hex { name, left: 1 }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                JsonState::Text { name }
            }
            (JsonState::Hex { name, left }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                JsonState::Hex { name, left: left - 1 }
            }
            (JsonState::Character { name, left, least, most }, _)
                if (least..=most).contains(&byte) =>
            {
                match left {
                    1 => JsonState::Text { name },
                    _ => JsonState::Character { name, left: left - 1, least: 0x80, most: 0xbf },
                }
            }
            (JsonState::Word([next]), _) if *next == byte => self.behind_value(),
            (JsonState::Word([next, rest @ ..]), _) if *next == byte => JsonState::Word(rest),
            _ => return Err(NotJsonError),
        })
    }

    fn value(&mut self, byte: u8) -> Result<JsonState, NotJsonError> {
        Ok(match byte {
            b'{' | b'[' => {
                if self.depth == DEEPEST {
                    return Err(NotJsonError);
                }
                self.depth += 1;
                self.open = self.open << 1 | u128::from(byte == b'{');
                if byte == b'{' { JsonState::NameOrEnd } else { JsonState::ValueOrEnd }
            }
            b'"' => JsonState::Text { name: false },
            b'-' => JsonState::Number(Number::Minus),
            b'0' => JsonState::Number(Number::Zero),
            b'1'..=b'9' => JsonState::Number(Number::Whole),
            b't' => JsonState::Word(b"rue"),
            b'f' => JsonState::Word(b"alse"),
            b'n' => JsonState::Word(b"ull"),
            _ => return Err(NotJsonError),
        })
    }

    fn close(&mut self, object: bool) -> Result<JsonState, NotJsonError> {
        if (self.open & 1 == 1) != object {
            return Err(NotJsonError);
        }
        self.open >>= 1;
        self.depth -= 1;
        Ok(self.behind_value())
    }
}

impl Number {
    /// What it is with another byte; `None` where it has ended before that.
    const fn next(self, byte: u8) -> Result<Option<Self>, NotJsonError> {
        Ok(Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus | Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::Power, b'0'..=b'9') => Self::Power,
            _ if self.may_end() => return Ok(None),
            _ => return Err(NotJsonError),
        }))
    }

    const fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Power)
    }
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=0x7f) && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_json(pieces: &[&[u8]]) -> bool {
        let mut reader = JsonReader::default();
        pieces.iter().all(|piece| reader.push(piece).is_ok()) && reader.finish().is_ok()
    }

    #[test]
    fn what_is_json_is_told_from_what_is_not() {
        for text in [
            "{}",
            " [ ] \n",
            "\"a\"",
            "0",
            "-0.5e+7 ",
            "true",
            "null",
            "[1,{\"a\":[{}]},\"\"]",
            "\u{feff}{\"a\":1}",
            r#"{"a":"\u00e9\ud800\/"}"#,
            "\"\u{7f}é€😀\"",
        ] {
            assert!(is_json(&[text.as_bytes()]), "{text}");
        }
        for text in [
            "",
            " ",
            "<html>",
            "{",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "01",
            "1.",
            "-",
            "1e",
            "nul",
            "nulls",
            "{} {}",
            "\"\n\"",
            r#""\x""#,
            r#""\u12g4""#,
            "[}",
            "{]",
            "'a'",
            "\u{feff}\u{feff}1",
            "1 2",
            "{1:2}",
            "NETLESSROOM_a",
        ] {
            assert!(!is_json(&[text.as_bytes()]), "{text}");
        }
        for bytes in [&b"\"\xff\""[..], b"\"\xc0\x80\"", b"\"\xed\xa0\x80\"", b"\"\xe2\x82\""] {
            assert!(!is_json(&[bytes]), "{bytes:?}");
        }
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_json(&[nested(128).as_bytes()]));
        assert!(!is_json(&[nested(129).as_bytes()]));
    }

    proptest! {
        #[test]
        fn it_is_of_one_mind_with_serde_json_wherever_the_bytes_are_cut(
            text in r#"[\[\]{},:"\\ue0-9.truefalsn \-+é]{0,24}"#,
            at in 0_usize..24,
        ) {
            let bytes = text.as_bytes();
            let (first, rest) = bytes.split_at(at.min(bytes.len()));
            // That one also looks at the values: at surrogates and at numbers that are too large.
            let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
            prop_assert_eq!(is_json(&[first, rest]), theirs, "{}", text);
        }
    }
}
