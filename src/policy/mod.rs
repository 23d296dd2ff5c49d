//! What a caller may do: profiles in, decisions with their reason out.
//!
//! Denied unless named. This module decides; it never looks at a credential and never does I/O.

mod decide;
mod explain;
mod rights;

use std::collections::BTreeSet;

use crate::api::{Access, Lifespan, Operation, Priority, Role, RoomId, TargetKind, TokenKind};

pub use decide::{Grant, Permit, Policy};
pub use explain::Reason;
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
    /// How much its requests matter when not all can be served.
    pub priority: Priority,
    /// Whether its callers are believed when they say which trace a request belongs to.
    pub trust_traceparent: bool,
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
            Self::Claim(path) => path.len(),
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
        let grants = |pattern: &&String| judge(pattern, operation, rooms).is_ok();
        self.allow.iter().find(grants).map(String::as_str)
    }
}

/// Whether an entry of `allow` grants an operation to a caller of these rooms, and why not.
fn judge(pattern: &str, operation: &Operation, rooms: &Rooms) -> Result<(), &'static str> {
    let all = *rooms == Rooms::Any;
    match pattern.strip_suffix(".*") {
        None if pattern != operation.name => Err("names another operation"),
        Some(family)
            if !operation.name.strip_prefix(family).is_some_and(|rest| rest.starts_with('.')) =>
        {
            Err("names another family of operations")
        }
        _ if operation.name == "rooms.list" && !all => {
            Err("rooms.list shows the whole project: it takes rooms = \"any\"")
        }
        // A Task token becomes a Room token by another prefix, which is not under the signature:
        // whoever may have one for any task may have one for any room.
        _ if operation.access == Access::Mints(TokenKind::Task) && !all => Err(
            "the prefix of a token is not signed, so a Task token serves as a Room token for the \
             same uuid: tokens.task takes rooms = \"any\"",
        ),
        Some(_) if operation.name == "tokens.sdk" => {
            Err("a wildcard never grants tokens.sdk, which opens the whole project: name it")
        }
        Some(_) if !all && operation.target != TargetKind::Room => {
            Err("the rooms are not all of them, so a wildcard grants only what is about one room: \
             name it")
        }
        _ => Ok(()),
    }
}
