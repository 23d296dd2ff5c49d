//! A stateful stand-in for `api.netless.link`, to develop and test against without an account.
//!
//! It keeps rooms, scenes and conversions in memory, verifies tokens for real and answers with
//! the documented statuses and texts. It is a third party: it shares the table of operations and
//! the token format with the gateway, and nothing of how the gateway decides or fails.
//!
//! What people see of it is told in `docs/sandbox.md`.

mod access;
mod body;
mod codes;
mod control;
mod faults;
mod perform;
mod refusal;
mod response;
mod seen;
mod service;
mod shared;
mod state;
mod time;
mod webhook;

use std::time::Duration;

use crate::api::Regions;
use crate::token::Secret;

pub use service::Sandbox;

/// What a sandbox is made of.
pub struct Settings {
    /// The access keys of the project, each with its secret key. Tokens of any of them are taken.
    pub keys: Vec<(String, Secret)>,
    /// How long a conversion spends in each step: waiting, and converting.
    pub pace: Duration,
    /// Whether a Room token must be signed by the access key that created the room.
    pub strict_keys: bool,
    /// The values of the `region` header that are taken.
    pub regions: Vec<String>,
    /// The most conversions of a type that wait in a region.
    pub queue: usize,
}

impl Settings {
    /// Two seconds a step, any of the keys for any room, the documented regions, and a queue of
    /// a hundred.
    pub fn new(keys: Vec<(String, Secret)>) -> Self {
        Self {
            keys,
            pace: Duration::from_secs(2),
            strict_keys: false,
            regions: Regions::DOCUMENTED.map(str::to_owned).to_vec(),
            queue: 100,
        }
    }
}

#[cfg(test)]
mod tests;
