//! What a caller may do: profiles in, decisions with their reason out.
//!
//! Denied unless named. This module decides; it never looks at a credential and never does I/O.

mod claim;
mod decide;
mod explain;
mod reach;
mod rights;

use std::collections::BTreeSet;

use crate::api::{Lifespan, Operation, Priority, Role, RoomId};

pub use claim::ClaimPath;
pub use decide::{Grant, Permit, Policy};
pub use explain::Reason;
use reach::judge;
pub(crate) use reach::{Reach, by_name_only, hands_out_tokens, is_added, opens_more_than_its_room};
pub use rights::Rights;

/// What the callers of a profile may do, from a `[profiles.<name>]` section.
#[derive(Clone, Debug)]
pub struct ProfileSettings {
    /// Its name in the configuration.
    pub name: String,
    /// The name of the project that its callers reach.
    pub project: String,
    /// Whether that project has a fixed SDK token, which every request of its callers shows.
    pub sdk_token: bool,
    /// Operation names and wildcards (`rooms.*`), as written, each of which names an operation.
    pub allow: Vec<String>,
    /// The rooms that are theirs.
    pub rooms: Rooms,
    /// The highest role: of tokens that they get, and of tokens that the gateway uses for them.
    pub role: Role,
    /// The longest life of tokens that they get.
    pub max_lifespan: Lifespan,
    /// What happens to a request for a token over the cap.
    pub over_cap: OverCap,
    /// How much its requests matter when not all can be served.
    pub priority: Priority,
    /// Whether its callers are believed when they say which trace a request belongs to.
    pub trust_traceparent: bool,
    /// The name of the profile whose decisions are recorded beside its own.
    pub shadow: Option<String>,
}

/// The rooms that are a caller's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rooms {
    /// None.
    #[default]
    None,
    /// Every room of the project.
    Any,
    /// These.
    List(BTreeSet<RoomId>),
    /// Those that a claim of the caller's token names: the path of the claim. Whoever shows no
    /// token with claims has none.
    Claim(ClaimPath),
}

impl Rooms {
    /// The bytes of the heap that it takes, about: a node of a set is at least half full, and an
    /// allocation takes 16 bytes besides what it holds.
    fn heap_bytes(&self) -> usize {
        match self {
            Self::None | Self::Any => 0,
            Self::List(rooms) => {
                let texts: usize = rooms.iter().map(|room| room.as_str().len()).sum();
                texts + rooms.len() * (2 * size_of::<RoomId>() + 32)
            }
            Self::Claim(path) => path.heap_bytes(),
        }
    }
}

/// What happens to a request for a token over the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverCap {
    /// When it asks for a longer life.
    pub lifespan: Excess,
    /// When it asks for a higher role.
    pub role: Excess,
}

/// Clamp to the cap, or refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Excess {
    /// Give what the cap allows, and say so.
    Clamp,
    /// Refuse with a message that names the cap.
    Refuse,
}

impl Default for OverCap {
    /// Real clients ask for a permanent life, so that is clamped; a role is refused.
    fn default() -> Self {
        Self { lifespan: Excess::Clamp, role: Excess::Refuse }
    }
}

impl ProfileSettings {
    /// The entry of `allow` that grants an operation to a caller whose credential narrows nothing.
    pub fn granted_by(&self, operation: &Operation) -> Option<&str> {
        self.granted_to(operation, self.reach())
    }

    /// The entry of `allow` that grants an operation to callers of this reach.
    pub(crate) fn granted_to(&self, operation: &Operation, reach: Reach) -> Option<&str> {
        self.granted(operation, reach, self.sdk_token)
    }

    /// The same where the service is shown an SDK token, or is not.
    fn granted(&self, operation: &Operation, reach: Reach, sdk_token: bool) -> Option<&str> {
        let grants = |pattern: &&String| judge(pattern, operation, reach, sdk_token).is_ok();
        self.allow.iter().find(grants).map(String::as_str)
    }

    /// How far a caller reaches whose credential narrows nothing.
    pub(crate) fn reach(&self) -> Reach {
        if self.rooms == Rooms::Any { Reach::Project } else { Reach::Rooms }
    }
}
