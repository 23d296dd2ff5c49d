//! What budgets there are: of what, how much of it, in which time and for whom.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::window::{Period, Zone};
use crate::api::{Access, Feature, Operation};
use crate::failure::{self, Failure};

/// What a budget is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BudgetUnit {
    /// Requests that got as far as to be answered here or by the service.
    Requests,
    /// Whiteboard tokens issued.
    Tokens,
    /// File conversions started.
    Conversions,
}

/// Whose a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Each caller has its own.
    Caller,
    /// All callers of the profile share one.
    Profile,
}

/// One budget of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What it is of.
    pub of: BudgetUnit,
    /// How many.
    pub most: NonZeroU32,
    /// In which time.
    pub per: Period,
    /// For whom.
    pub whose: Whose,
}

/// The budgets of a profile.
#[derive(Clone, Debug, Default)]
pub struct ProfileBudgets {
    /// The profile's name.
    pub name: String,
    /// From the first to the last.
    pub budgets: Vec<Budget>,
}

/// From `[budgets]` and the profiles.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The file in which they are kept; `None` for the store, which budgets need then.
    pub file: Option<PathBuf>,
    /// Whose hours, days and months are meant.
    pub zone: Zone,
    /// How many of each counter are on the disk before they are asked for; for a file.
    pub ahead: u32,
    /// By profile, in the order of the profiles.
    pub profiles: Vec<ProfileBudgets>,
}

impl Budget {
    /// `tokens-month`, `requests-day-profile`.
    pub fn name(&self) -> String {
        let whose = match self.whose {
            Whose::Caller => "",
            Whose::Profile => "-profile",
        };
        format!("{}-{}{whose}", self.of.as_str(), self.per.as_str())
    }
}

impl BudgetUnit {
    /// The word in the configuration, in metrics and in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Conversions => "conversions",
        }
    }

    /// Whether an operation takes one.
    pub(super) fn counts(self, operation: &Operation) -> bool {
        match self {
            Self::Requests => true,
            Self::Tokens => matches!(operation.access, Access::Mints(_)),
            // Of the operations on conversions, starting one is what must not be done twice.
            Self::Conversions => operation.feature == Feature::Conversions && !operation.idempotent,
        }
    }

    /// Whether a request that failed so has taken none: no token was had and no conversion begun.
    /// A request was made, unless the gateway or the service failed.
    pub(super) fn is_refunded(self, failure: &Failure) -> bool {
        let usual = failure::Settings::default();
        match self {
            Self::Requests => failure.code().status(&usual).is_server_error(),
            Self::Tokens | Self::Conversions => true,
        }
    }
}

impl Whose {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Profile => "profile",
        }
    }
}
