//! The three roles of the whiteboard API, ordered by what they may do.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A role: `admin` > `writer` > `reader`, ordered that way by `Ord`.
///
/// Request bodies name a role in words; the token's `role` field holds its digit ([`Role::digit`]).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May look. The digit in a token is `2`.
    Reader,
    /// May draw and read the room's data. The digit in a token is `1`.
    Writer,
    /// May do everything, a ban included. The digit in a token is `0`.
    Admin,
}

/// A text that names no role.
#[derive(Debug, thiserror::Error)]
#[error("a role is one of admin, writer, reader")]
pub struct RoleError;

impl Role {
    /// Every role, the mightiest first.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Writer, Self::Reader];

    /// The word in request bodies: `admin`, `writer` or `reader`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Writer => "writer",
            Self::Reader => "reader",
        }
    }

    /// The digit inside a token: `0` admin, `1` writer, `2` reader.
    pub const fn digit(self) -> &'static str {
        match self {
            Self::Admin => "0",
            Self::Writer => "1",
            Self::Reader => "2",
        }
    }

    /// The role of a token's digit; `None` for anything else.
    pub fn from_digit(digit: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.digit() == digit)
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(RoleError)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_is_above_a_writer_and_a_writer_above_a_reader() {
        assert!(Role::Admin > Role::Writer && Role::Writer > Role::Reader);
    }

    #[test]
    fn words_and_digits_lead_back_to_the_role() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse::<Role>().ok(), Some(role));
            assert_eq!(Role::from_digit(role.digit()), Some(role));
        }
        assert!("Admin".parse::<Role>().is_err(), "names are case-sensitive");
        assert!(Role::from_digit("3").is_none());
    }
}
