//! How much a caller's requests matter when not all can be served.

use schemars::JsonSchema;
use serde::Deserialize;

/// The class of a profile's requests: the lowest is refused first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Whatever can wait: reports, clean-up at night.
    Low,
    /// What is not said to be anything else.
    #[default]
    Normal,
    /// What people wait for.
    High,
}

impl Priority {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every class, in the order of [`Priority::index`].
    pub const ALL: [Self; 3] = [Self::Low, Self::Normal, Self::High];

    /// The word in the configuration and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }

    /// The place of the class, for tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// How much of a bound it may fill, in hundredths: what is above is kept for the higher ones.
    pub const fn share_percent(self) -> usize {
        match self {
            Self::Low => 80,
            Self::Normal => 95,
            Self::High => 100,
        }
    }
}
