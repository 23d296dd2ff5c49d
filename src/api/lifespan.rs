//! How long a token lives, in milliseconds, as the API counts it.

use std::fmt;
use std::time::Duration;

/// The life of a token. On the wire an integer of milliseconds where 0 means permanent; a
/// negative one, of which the official minting code silently makes a permanent token, has no
/// representation here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifespan {
    /// A life of that many milliseconds, at least 1.
    Millis(u64),
    /// No end: `lifespan: 0` on the wire. Longer than every other, so `min` with a cap ends it.
    Permanent,
}

impl Lifespan {
    /// The longest life that has an end: `expireAt` must stay an exact integer in JavaScript (below
    /// 2^53) for some hundred thousand years to come. Whoever asks for more (`Long.MAX_VALUE`,
    /// `Number.MAX_SAFE_INTEGER`) means a life without one.
    pub const LONGEST_MS: u64 = 9_000_000_000_000_000 / 2;

    /// From the wire form: milliseconds, 0 for permanent.
    pub const fn from_wire(millis: u64) -> Self {
        match millis {
            1..=Self::LONGEST_MS => Self::Millis(millis),
            _ => Self::Permanent,
        }
    }

    /// The wire form: milliseconds, 0 for permanent.
    pub const fn to_wire(self) -> u64 {
        match self {
            Self::Millis(millis) => millis,
            Self::Permanent => 0,
        }
    }

    /// The life of a duration; one under a millisecond counts as a millisecond.
    pub fn of(duration: Duration) -> Self {
        Self::Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1))
    }
}

impl fmt::Display for Lifespan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Millis(millis) => write!(out, "{millis} ms"),
            Self::Permanent => out.write_str("permanent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_is_zero_on_the_wire_and_longer_than_any_other() {
        for millis in [0, Lifespan::LONGEST_MS + 1, (1 << 53) - 1, i64::MAX as u64, u64::MAX] {
            assert_eq!(Lifespan::from_wire(millis), Lifespan::Permanent, "{millis}");
        }
        assert_eq!(Lifespan::from_wire(Lifespan::LONGEST_MS).to_wire(), Lifespan::LONGEST_MS);
        assert_eq!(Lifespan::Permanent.to_wire(), 0);
        assert_eq!(Lifespan::Permanent.min(Lifespan::Millis(5)), Lifespan::Millis(5));
    }
}
