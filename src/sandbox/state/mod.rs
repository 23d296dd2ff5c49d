//! What the sandbox remembers: rooms with their scenes, and conversions. It is told the time and
//! does no I/O, so that a test owns both.

mod conversions;
mod id;
mod rooms;
mod scenes;
mod task;

use std::time::Duration;

use conversions::Conversions;
use rooms::RoomStore;

pub(super) use conversions::{AskedTask, Notice};
pub(super) use rooms::Room;
pub(super) use task::{ConversionKind, ConversionRequest, Family};

/// Everything that is remembered.
pub(super) struct SandboxState {
    pub(super) rooms: RoomStore,
    pub(super) conversions: Conversions,
}

impl SandboxState {
    /// Nothing yet. A conversion spends `pace` in each step, and `queue` of a type may wait.
    pub(super) fn new(pace: Duration, queue: usize) -> Self {
        Self { rooms: RoomStore::default(), conversions: Conversions::new(pace, queue) }
    }
}
