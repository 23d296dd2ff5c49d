//! What a caller may do: profiles in, decisions with their reason out.
//!
//! Denied unless named. This module decides; it never looks at a credential and never does I/O.

mod decide;
mod rights;

use std::collections::BTreeSet;

use crate::api::{Lifespan, Operation, Role, RoomId, TargetKind};

pub use decide::{Grant, Permit, Policy};
pub use rights::Rights;

/// What the callers of a profile may do, from a `[profiles.<name>]` section.
#[derive(Clone, Debug)]
pub struct ProfileSettings {
    /// Its name in the configuration.
    pub name: String,
    /// The name of the project that its callers reach.
    pub project: String,
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
    Claim(Box<str>),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The entry of `allow` that grants an operation, if there is one.
    ///
    /// A wildcard never grants `tokens.sdk`, which opens the whole project; and where the rooms
    /// are not all of them, it grants only what is about one room.
    #[must_use]
    pub fn granted_by(&self, operation: &Operation) -> Option<&str> {
        self.granted_within(operation, &self.rooms)
    }

    /// The same for a caller whose rooms are these, which are not more than the profile's.
    pub(crate) fn granted_within(&self, operation: &Operation, rooms: &Rooms) -> Option<&str> {
        if operation.name == "rooms.list" && *rooms != Rooms::Any {
            // It shows the whole project.
            return None;
        }
        let granted = |pattern: &&String| match pattern.strip_suffix(".*") {
            None => **pattern == operation.name,
            Some(family) => {
                let within =
                    operation.name.strip_prefix(family).is_some_and(|rest| rest.starts_with('.'));
                let reach = *rooms == Rooms::Any || operation.target == TargetKind::Room;
                within && reach && operation.name != "tokens.sdk"
            }
        };
        self.allow.iter().find(granted).map(String::as_str)
    }
}
