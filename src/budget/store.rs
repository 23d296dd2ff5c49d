//! Budgets in a store that several gateways share: one script that looks at every counter of a
//! request and takes from all of them or from none, by the store's own clock.
//!
//! A counter is a field of a hash, one hash for each budget and window, so that a window goes as a
//! whole a while after its end. All keys of a request are in one slot of a cluster, by the tag in
//! braces: its profile. What is not known to have been taken is not given out; what was taken for
//! no one goes back as soon as that is known.

mod refund;

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::claim::{BudgetClaim, ReserveError, Tightest, WindowQuery};
use super::window::Window;
use crate::store::{Script, Store, StoreError};
use refund::{Refund, StoreCounter};

/// Takes one of each, or of none.
static RESERVE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("store/reserve.lua")));

/// Reads some of the counters of a budget.
static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("store/read.lua")));

/// Asks what time it is there.
static TIME: LazyLock<Script> =
    LazyLock::new(|| Script::new("return {tonumber(redis.call('TIME')[1])}"));

/// Asks whether what is written stays.
static LASTING: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("store/lasting.lua")));

/// As many counters are read at once, or some more: more would keep the store from others.
const PAGE: i64 = 1_000;

/// Whoever looks at counters has more time than a request.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// The ledger of a store, as a worker has it.
#[derive(Clone)]
pub(super) struct StoreCounters(Rc<StoreCountersInner>);

struct StoreCountersInner {
    store: Store,
    clock: StoreClock,
    open: PendingRefunds,
}

/// How many things are begun that must not be cut off: what goes back, and what may have to. It
/// outlives the configurations of a worker.
#[derive(Clone, Default)]
pub(super) struct PendingRefunds(Rc<Cell<usize>>);

/// Counts as open until it is dropped.
struct PendingRefund(PendingRefunds);

/// The store's clock, as far as it is known: what it said, and when that was.
#[derive(Default)]
struct StoreClock(Cell<Option<(i64, Instant)>>);

/// What was taken for a request. Dropped, it stays taken.
pub(super) struct StoreHold {
    ledger: StoreCounters,
    taken: Vec<StoreCounter>,
}

/// What came of asking for one of each.
enum ReserveReply {
    Taken(Vec<u32>),
    Exhausted(usize),
    Elsewhen,
    Odd,
}

impl StoreCounters {
    pub(super) fn new(store: Store, open: PendingRefunds) -> Self {
        Self(Rc::new(StoreCountersInner { store, clock: StoreClock::default(), open }))
    }

    /// The time by which windows are opened: the store's, or the caller's as long as that is not
    /// known.
    pub(super) fn now(&self, second: i64) -> i64 {
        self.0.clock.now().unwrap_or(second)
    }

    /// Takes one of each claim, or nothing at all. Whoever began at `asked_at` waits no longer than
    /// the store's deadline.
    pub(super) async fn reserve(
        &self,
        claims: &[BudgetClaim<'_>],
        asked_at: Instant,
    ) -> Result<(StoreHold, Vec<u32>), ReserveError> {
        let counters: Vec<StoreCounter> = claims.iter().map(|claim| self.counter(claim)).collect();
        let numbers = claims.iter().flat_map(|claim| {
            let Window { start, end } = claim.window;
            [claim.caller.cast_signed(), claim.most.into(), start, end]
        });
        let (tell, told) = oneshot::channel();
        // On its own, so that what no one waits for any more is not lost.
        spawn_local(self.clone().take(counters, numbers.collect(), asked_at, tell));
        told.await.unwrap_or_else(|_| Err(unavailable(StoreError::Failed)))
    }

    /// Asks, and tells; what was taken and is not wanted any more goes back.
    async fn take(
        self,
        counters: Vec<StoreCounter>,
        numbers: Vec<i64>,
        asked_at: Instant,
        tell: oneshot::Sender<Result<(StoreHold, Vec<u32>), ReserveError>>,
    ) {
        let StoreCountersInner { store, clock, open } = &*self.0;
        let _open = open.begin();
        let deadline = asked_at + store.shared().settings.timeout;
        let keys: Vec<&str> = counters.iter().map(|counter| counter.key.as_str()).collect();
        let tell = Cell::new(Some(tell));
        let tell = |told| match tell.take() {
            None => Err(told),
            Some(tell) => tell.send(told),
        };
        let late = || {
            // Who has gone away is seen when the answer comes.
            _ = tell(Err(unavailable(StoreError::Late)));
        };
        let answered = store.run_out(&RESERVE, &keys, &numbers, deadline, &late).await;
        let told = match answered.map(|numbers| ReserveReply::read(&numbers, counters.len(), clock))
        {
            Ok(ReserveReply::Taken(used)) => {
                let held = StoreHold { ledger: self.clone(), taken: counters };
                Ok((held, used))
            }
            Ok(ReserveReply::Exhausted(place)) => Err(ReserveError::Exhausted(place)),
            Ok(ReserveReply::Elsewhen) => Err(ReserveError::Elsewhen),
            Ok(ReserveReply::Odd) => Err(odd()),
            Err(why) => {
                // It may have been taken all the same, and no one will ever know.
                if why != StoreError::Down {
                    counters.iter().for_each(|counter| counter.counts.lost.add_shared(1));
                }
                Err(unavailable(why))
            }
        };
        if let Err(Ok((held, _))) = tell(told) {
            Refund::of(held.taken).run(store).await;
        }
    }

    /// The time of the store, which is asked for it.
    pub(super) async fn time(&self) -> Result<i64, ReserveError> {
        let told = self.look(&TIME, &self.probe(), &[]).await.map_err(unavailable)?;
        told.first().copied().ok_or_else(odd)
    }

    /// How the counters of budgets stand. What requests in flight hold is among what is used.
    pub(super) async fn levels(&self, wanted: &[WindowQuery]) -> Result<Tightest, ReserveError> {
        let mut tightest = Tightest::default();
        for wanted in wanted {
            let key = self.key(&wanted.budget, wanted.window);
            // What is moved meanwhile may be seen twice.
            let mut counters: HashMap<i64, i64> = HashMap::new();
            let mut cursor = 0;
            loop {
                let read = self.look(&READ, &key, &[cursor, PAGE]).await.map_err(unavailable)?;
                let (pairs, next) = read.as_chunks();
                counters.extend(pairs.iter().map(|[caller, used]| (*caller, *used)));
                match next {
                    [next] if *next != 0 => cursor = *next,
                    _ => break,
                }
            }
            for (caller, used) in counters {
                let used = u32::try_from(used).unwrap_or_default();
                tightest.add(wanted, wanted.level(caller.cast_unsigned(), used, 0));
            }
        }
        Ok(tightest)
    }

    /// Warns where the store does not keep what it is told, as far as it says so.
    pub(super) async fn warn_where_it_forgets(self) {
        let key = self.probe();
        let asked = || self.look(&LASTING, &key, &[]);
        let Some(told) = refund::again_until(asked).await else { return };
        if told.first() == Some(&0) {
            tracing::warn!("the store keeps no append-only file: a restart of it forgets budgets");
        }
        if told.get(1) == Some(&0) {
            tracing::warn!("the store evicts keys when it is full, those of budgets as well");
        }
    }

    /// Runs a script that changes nothing.
    async fn look(
        &self,
        script: &Script,
        key: &str,
        numbers: &[i64],
    ) -> Result<Vec<i64>, StoreError> {
        self.0.store.run(script, &[key], numbers, Instant::now() + READ_TIMEOUT).await
    }

    /// A key that says of a cluster which server is asked.
    fn probe(&self) -> String {
        format!("{}:probe", self.0.store.shared().settings.prefix)
    }

    fn counter(&self, claim: &BudgetClaim<'_>) -> StoreCounter {
        StoreCounter {
            key: self.key(&claim.budget, claim.window),
            field: claim.caller.cast_signed().to_string(),
            counts: Arc::clone(claim.counts),
        }
    }

    /// `wbg:{backend}:budget:tokens-month:1793487600`.
    fn key(&self, budget: &str, window: Window) -> String {
        let prefix = &self.0.store.shared().settings.prefix;
        let (profile, name) = budget.split_once('/').unwrap_or((budget, ""));
        format!("{prefix}:{{{profile}}}:budget:{name}:{}", window.start)
    }
}

impl StoreHold {
    /// Gives back those at some places; waits for nothing.
    pub(super) fn give_back(self, places: &[usize]) {
        let Self { ledger, taken } = self;
        let back = taken.into_iter().enumerate().filter(|(place, _)| places.contains(place));
        let back: Vec<StoreCounter> = back.map(|(_, counter)| counter).collect();
        if back.is_empty() {
            return;
        }
        let opened = ledger.0.open.begin();
        spawn_local(async move {
            Refund::of(back).run(&ledger.0.store).await;
            drop(opened);
        });
    }
}

impl ReserveReply {
    fn read(numbers: &[i64], claims: usize, clock: &StoreClock) -> Self {
        let [what, second, rest @ ..] = numbers else { return Self::Odd };
        clock.told(*second);
        match (what, rest) {
            (0, used) if used.len() == claims => {
                let used = used.iter().map(|used| u32::try_from(*used).unwrap_or(u32::MAX));
                Self::Taken(used.collect())
            }
            (1, [place]) => match usize::try_from(*place) {
                Ok(place) if (1..=claims).contains(&place) => Self::Exhausted(place - 1),
                _ => Self::Odd,
            },
            (2, []) => Self::Elsewhen,
            _ => Self::Odd,
        }
    }
}

impl StoreClock {
    /// By a clock of ours that only measures how long ago it was told.
    fn now(&self) -> Option<i64> {
        let (second, at) = self.0.get()?;
        Some(second.saturating_add_unsigned(at.elapsed().as_secs()))
    }

    fn told(&self, second: i64) {
        self.0.set(Some((second, Instant::now())));
    }
}

impl PendingRefunds {
    pub(super) fn is_any(&self) -> bool {
        self.0.get() > 0
    }

    fn begin(&self) -> PendingRefund {
        self.0.set(self.0.get() + 1);
        PendingRefund(self.clone())
    }
}

impl Drop for PendingRefund {
    fn drop(&mut self) {
        let open = &self.0.0;
        open.set(open.get() - 1);
    }
}

fn unavailable(why: StoreError) -> ReserveError {
    ReserveError::StoreError(why.to_string())
}

fn odd() -> ReserveError {
    ReserveError::StoreError("the store gave an odd answer".to_owned())
}

#[cfg(test)]
mod tests;
