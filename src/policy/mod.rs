//! What a caller may do: profiles in, decisions with their reason out.
//!
//! Denied unless named. This module decides; it never looks at a credential and never does I/O.

use std::collections::BTreeSet;

use crate::api::{Lifespan, Role, RoomId};

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
