//! Room and task ids: opaque, case-sensitive path segments that cannot be wrong once parsed.

use std::fmt;

use super::path::is_unreserved;
use crate::failure::{Code, Failure};

/// The longest id that is taken, in bytes. Real ones have 32.
pub(super) const LONGEST: usize = 256;

/// Why a text is no id of a room or a task.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    /// Nothing between two slashes.
    #[error("an id must not be empty")]
    Empty,
    /// More than 256 bytes.
    #[error("an id has at most {LONGEST} bytes")]
    TooLong,
    /// A control character, `/`, `\`, or a dot segment.
    #[error("an id holds no control characters, no slashes and is no dot segment")]
    Character,
}

fn check(text: &str) -> Result<&str, IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > LONGEST {
        return Err(IdError::TooLong);
    }
    let control = |text: &str| text.chars().any(|c| c.is_control() || c == '/' || c == '\\');
    if text == "." || text == ".." || !is_unreserved(text) && control(text) {
        return Err(IdError::Character);
    }
    Ok(text)
}

impl From<IdError> for Failure {
    fn from(why: IdError) -> Self {
        Self::new(Code::MalformedRequest, why.to_string())
    }
}

/// Whether a text has the form that the service gives its ids: 32 hex digits, or the same with
/// dashes after the 8th, 12th, 16th and 20th.
pub(crate) fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = |index: usize| bytes[index].is_ascii_hexdigit();
    match bytes.len() {
        32 => (0..32).all(hex),
        36 => (0..36)
            .all(|at| if matches!(at, 8 | 13 | 18 | 23) { bytes[at] == b'-' } else { hex(at) }),
        _ => false,
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes a decoded path segment.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, over 256 bytes, or holds what an id never holds.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check(text).map(|text| Self(text.into()))
            }

            /// The id, decoded.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The `uuid` of a room. The service gives 32 lower-case hex digits; the gateway treats it as
    /// opaque, because nothing promises that form.
    RoomId
}
id! {
    /// The `uuid` of a file conversion task.
    TaskId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_opaque_but_never_a_path() {
        assert!(RoomId::new("faed3130727911ebaea37759ee91947c").is_ok());
        assert!(RoomId::new("Über, all+es").is_ok());
        for (text, why) in [
            ("", IdError::Empty),
            (".", IdError::Character),
            ("..", IdError::Character),
            ("a/b", IdError::Character),
            ("a\\b", IdError::Character),
            ("a\0", IdError::Character),
            ("a\u{85}", IdError::Character),
            (&"a".repeat(257), IdError::TooLong),
        ] {
            assert_eq!(RoomId::new(text), Err(why), "{text:?}");
        }
    }
}
