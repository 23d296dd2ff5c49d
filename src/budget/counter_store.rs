//! What every ledger does, wherever it keeps its counters: takes one of each claim or of none, and
//! gives back.

use std::sync::Arc;

use tokio::time::Instant;

use super::claim::{BudgetClaim, ReserveError, Tightest, WindowQuery};
use super::{file, store};
use crate::store::Store;

/// Where counters are kept, as a worker reaches them.
#[derive(Clone, Copy)]
pub(super) enum CounterStore<'l> {
    /// In a file of this machine.
    File(&'l Arc<file::FileCounters>, &'l file::CounterCache),
    /// In a store that several gateways share.
    Store(&'l store::StoreCounters),
}

/// What was taken for a request, until it is known what came of it. Dropped, it stays taken.
pub(super) enum Hold {
    File(file::FileHold),
    Store(store::StoreHold),
}

/// What a worker has of a ledger.
#[derive(Default)]
pub(super) struct WorkerCounters {
    pub(super) file: file::CounterCache,
    /// Where there is one, it is the ledger.
    pub(super) store: Option<store::StoreCounters>,
    /// What is on its way to a store, that of a configuration before included.
    pub(super) open: store::PendingRefunds,
}

impl WorkerCounters {
    /// For the budgets of a store, or of none; `before` is that of a configuration before.
    pub(super) fn of(store: Option<Store>, before: Option<&Self>) -> Self {
        let open = before.map(|before| before.open.clone()).unwrap_or_default();
        let store = store.map(|store| store::StoreCounters::new(store, open.clone()));
        Self { store, open, ..Self::default() }
    }
}

impl CounterStore<'_> {
    /// The time by which windows are opened, where the gateway's clock says that second.
    pub(super) fn now(self, second: i64) -> i64 {
        match self {
            Self::File(ledger, _) => ledger.now(second),
            Self::Store(ledger) => ledger.now(second),
        }
    }

    /// The same, for someone who has asked nothing before.
    pub(super) async fn time(self, second: i64) -> Result<i64, ReserveError> {
        match self {
            Self::File(ledger, _) => Ok(ledger.now(second)),
            Self::Store(ledger) => ledger.time().await,
        }
    }

    /// Takes one of each claim, or nothing at all; and how many are used then of each. The request
    /// has begun to ask at `asked_at`.
    pub(super) async fn reserve(
        self,
        claims: &[BudgetClaim<'_>],
        asked_at: Instant,
    ) -> Result<(Hold, Vec<u32>), ReserveError> {
        match self {
            Self::File(ledger, memory) => {
                let (held, used) = ledger.reserve(memory, claims).await?;
                Ok((Hold::File(held), used))
            }
            Self::Store(ledger) => {
                let (held, used) = ledger.reserve(claims, asked_at).await?;
                Ok((Hold::Store(held), used))
            }
        }
    }

    /// How the counters of these budgets stand.
    pub(super) async fn levels(self, wanted: &[WindowQuery]) -> Result<Tightest, ReserveError> {
        match self {
            Self::File(ledger, _) => ledger.levels(wanted).await,
            Self::Store(ledger) => ledger.levels(wanted).await,
        }
    }
}

impl Hold {
    /// Gives back what was taken by the claims at some places.
    pub(super) fn give_back(self, places: &[usize]) {
        match self {
            Self::File(mut held) => places.iter().for_each(|place| held.release(*place)),
            Self::Store(held) => held.give_back(places),
        }
    }
}
