//! What every ledger does, wherever it keeps its counters: takes one of each claim or of none, and
//! gives back.

use std::path::Path;
use std::sync::Arc;

use super::file;
use super::window::Window;

/// One of a budget is wanted.
#[derive(Clone, Debug)]
pub(super) struct Claim<'a> {
    /// The place of the budget among all.
    pub(super) place: usize,
    /// Its id: it stays the same over reloads and restarts.
    pub(super) budget: Arc<str>,
    /// The number of the caller; 0 for the whole profile.
    pub(super) caller: u64,
    /// The name of the caller, for people; empty for the whole profile.
    pub(super) name: &'a str,
    pub(super) window: Window,
    pub(super) most: u32,
}

/// Why nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreserved {
    /// The claim at that place has nothing left.
    Exhausted(usize),
    /// The counters cannot be reached or written; why is for the log.
    Unavailable(String),
}

/// How a counter stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// The id of the budget.
    pub budget: Arc<str>,
    /// The number of the caller; 0 for the whole profile.
    pub caller: u64,
    /// The caller's name, where it has called since the start.
    pub name: Option<Box<str>>,
    /// The first second of the window.
    pub start: i64,
    /// The first second after it.
    pub end: i64,
    /// How many are used for good.
    pub used: u32,
    /// How many requests in flight hold, who may still give them back.
    pub reserved: u32,
}

/// Where counters are kept.
#[derive(Clone)]
pub(super) enum Ledger {
    /// In a file of this machine.
    File(Arc<file::Ledger>),
}

/// What was taken for a request, until it is known what came of it. Dropped, it stays taken.
pub(super) enum Held {
    File(file::Held),
}

/// What a worker remembers of a ledger.
#[derive(Default)]
pub(super) struct Memory {
    file: file::Memory,
}

impl Ledger {
    /// The time by which windows are opened.
    pub(super) fn now(&self, second: i64) -> i64 {
        match self {
            Self::File(ledger) => ledger.now(second),
        }
    }

    /// Takes one of each claim, or nothing at all; and how many are used then of each.
    pub(super) async fn reserve(
        &self,
        memory: &Memory,
        claims: &[Claim<'_>],
    ) -> Result<(Held, Vec<u32>), Unreserved> {
        match self {
            Self::File(ledger) => {
                let (held, used) = ledger.reserve(&memory.file, claims).await?;
                Ok((Held::File(held), used))
            }
        }
    }

    /// How all counters of the windows of now stand.
    pub(super) async fn levels(&self, now: i64) -> Result<Vec<Level>, Unreserved> {
        match self {
            Self::File(ledger) => ledger.levels(now).await,
        }
    }

    /// Whether it is that file's.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        match self {
            Self::File(ledger) => ledger.path() == path,
        }
    }

    /// So many are written ahead from now on.
    pub(super) fn set_ahead(&self, ahead: u32) {
        match self {
            Self::File(ledger) => ledger.set_ahead(ahead),
        }
    }

    /// Writes what is exact, and ends.
    pub(super) fn close(&self) {
        match self {
            Self::File(ledger) => ledger.close(),
        }
    }
}

impl Held {
    /// Gives back what was taken by the claim at a place.
    pub(super) fn release(&mut self, place: usize) {
        match self {
            Self::File(held) => held.release(place),
        }
    }
}
