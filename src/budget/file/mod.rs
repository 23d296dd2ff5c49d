//! Budgets in a file of this machine: counters in memory, each of which is on the disk before
//! anything of it is given out.
//!
//! Workers take from the counters without a lock and without the disk where it has enough ahead.
//! What must be written goes to one thread, the keeper, which writes all that waits in one commit:
//! a worker goes on with other requests meanwhile.

mod book;
mod counter;
mod keeper;
mod view;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::claim::{Claim, Tightest, Unreserved, Wanted};
use counter::{Claimed, Counter, Key};
use keeper::{Keeper, Order, Shared};

pub use book::Broken;

/// As many counters are remembered by a worker.
const REMEMBERED: usize = 10_000;

/// How long a request waits for the disk: no longer than for the start of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ledger of one file. Shared by all workers, and kept over reloads.
pub(super) struct Ledger {
    path: PathBuf,
    orders: Sender<Order>,
    shared: Arc<Shared>,
    keeper: Mutex<Option<thread::JoinHandle<()>>>,
    patience: Duration,
}

/// The counters that a worker has used, by budget and caller.
pub(super) struct Memory(RefCell<quick_cache::unsync::Cache<(usize, u64), Arc<Counter>>>);

/// What was taken for a request. Dropped, it stays taken.
pub(super) struct Held {
    ledger: Arc<Ledger>,
    counters: Vec<Option<Arc<Counter>>>,
    /// Whether what is dropped goes back: until it is on the disk.
    pending: bool,
}

impl Default for Memory {
    fn default() -> Self {
        Self(RefCell::new(quick_cache::unsync::Cache::new(REMEMBERED)))
    }
}

impl Ledger {
    /// Opens the file and starts the keeper, who writes so many ahead.
    ///
    /// # Errors
    /// [`Broken`] names the file.
    pub(super) fn open(path: &Path, ahead: u32) -> Result<Arc<Self>, Broken> {
        let (orders, inbox) = std::sync::mpsc::channel();
        let (keeper, shared) = Keeper::open(path, ahead, inbox)?;
        let spawned = thread::Builder::new().name("budgets".to_owned()).spawn(|| keeper.run());
        let thread = spawned.map_err(|error| Broken::of_thread(path, error))?;
        let keeper = Mutex::new(Some(thread));
        let path = path.to_owned();
        Ok(Arc::new(Self { path, orders, shared, keeper, patience: PATIENCE }))
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// So many are written ahead from now on.
    pub(super) fn set_ahead(&self, ahead: u32) {
        self.shared.ahead.store(ahead, Relaxed);
    }

    /// The time by which windows are opened: it never goes back.
    pub(super) fn now(&self, second: i64) -> i64 {
        let latest = &self.shared.latest;
        let seen = latest.load(Relaxed);
        // Written once a second at most, by whoever comes first.
        if second > seen { latest.fetch_max(second, Relaxed).max(second) } else { seen }
    }

    /// Takes one of each, or of none.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        memory: &Memory,
        claims: &[Claim<'_>],
    ) -> Result<(Held, Vec<u32>), Unreserved> {
        let counters = self.counters(memory, claims).await?;
        // Looked at before any is taken from, so that a refusal takes nothing from the others.
        let all = || counters.iter().zip(claims).enumerate();
        if let Some((place, _)) = all().find(|(_, (one, claim))| one.used() >= claim.most) {
            return Err(Unreserved::Exhausted(place));
        }
        let ledger = Arc::clone(self);
        let mut held = Held { ledger, counters: Vec::with_capacity(claims.len()), pending: true };
        let mut used = Vec::with_capacity(claims.len());
        let mut waiting = Vec::new();
        for (place, (counter, claim)) in all() {
            let now_used = match counter.claim(claim.most) {
                Claimed::Nothing => return Err(Unreserved::Exhausted(place)),
                Claimed::Durable(used) => used,
                Claimed::Waits(used) => {
                    waiting.push(Arc::clone(counter));
                    used
                }
            };
            held.counters.push(Some(Arc::clone(counter)));
            used.push(now_used);
        }
        if !waiting.is_empty() {
            self.ask(|reply| Order::Keep(waiting, reply)).await?;
        }
        held.pending = false;
        held.refill();
        Ok((held, used))
    }

    /// The counters of claims: those that the worker remembers, and the others from the keeper.
    async fn counters(
        &self,
        memory: &Memory,
        claims: &[Claim<'_>],
    ) -> Result<Vec<Arc<Counter>>, Unreserved> {
        let mut counters: Vec<Option<Arc<Counter>>> =
            claims.iter().map(|claim| memory.find(claim)).collect();
        if counters.iter().any(Option::is_none) {
            let missing = claims.iter().zip(&counters).filter(|(_, counter)| counter.is_none());
            let wanted = missing.map(|(claim, _)| (Key::of(claim), claim.name.into())).collect();
            let mut opened = self.ask(|reply| Order::Open(wanted, reply)).await?.into_iter();
            for (claim, counter) in claims.iter().zip(&mut counters) {
                if counter.is_none() {
                    *counter = opened.next().inspect(|counter| memory.keep(claim, counter));
                }
            }
        }
        Ok(counters.into_iter().flatten().collect())
    }

    /// What stands in the file and in memory. Goes through all of it on this thread.
    pub(super) async fn levels(&self, wanted: &[Wanted]) -> Result<Tightest, Unreserved> {
        let view = self.ask(Order::Show).await?;
        view.levels(wanted).map_err(Unreserved::Unavailable)
    }

    /// Writes what is exact and closes the file. What comes after is refused.
    pub(super) fn close(&self) {
        self.order(Order::Close);
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if keeper.is_some_and(|keeper| keeper.join().is_err()) {
            tracing::error!("the keeper of budgets had panicked");
        }
    }

    /// Without an answer. One that does not arrive finds no keeper, which those who wait are told.
    fn order(&self, order: Order) {
        _ = self.orders.send(order);
    }

    async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, String>>) -> Order,
    ) -> Result<T, Unreserved> {
        let (reply, answer) = oneshot::channel();
        self.order(order(reply));
        let why = match timeout(self.patience, answer).await {
            Ok(Ok(Ok(answer))) => return Ok(answer),
            Ok(Ok(Err(why))) => why,
            Ok(Err(_)) => "the file of budgets is closed".to_owned(),
            Err(_) => "the disk has not answered in time".to_owned(),
        };
        Err(Unreserved::Unavailable(why))
    }
}

impl Held {
    /// Gives back the one at a place.
    pub(super) fn release(&mut self, place: usize) {
        if let Some(counter) = self.counters.get_mut(place).and_then(Option::take) {
            counter.release();
            // Soon, and nobody waits for it.
            self.ledger.order(Order::Note(counter));
        }
    }

    /// Asks for more where half of what is ahead is used up.
    fn refill(&self) {
        let ahead = self.ledger.shared.ahead.load(Relaxed);
        // By the one who takes the middle one: the others need not ask as well.
        let low = |counter: &&Arc<Counter>| ahead > 0 && counter.ready() == ahead / 2;
        for counter in self.counters.iter().flatten().filter(low) {
            self.ledger.order(Order::Note(Arc::clone(counter)));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.pending {
            (0..self.counters.len()).for_each(|place| self.release(place));
        }
        self.counters.iter().flatten().for_each(|counter| counter.settle());
    }
}

impl Memory {
    fn find(&self, claim: &Claim<'_>) -> Option<Arc<Counter>> {
        let counters = self.0.borrow();
        let counter = counters.get(&(claim.place, claim.caller))?;
        (counter.key.start == claim.window.start).then(|| Arc::clone(counter))
    }

    fn keep(&self, claim: &Claim<'_>, counter: &Arc<Counter>) {
        self.0.borrow_mut().insert((claim.place, claim.caller), Arc::clone(counter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::window::Window;

    #[test]
    fn a_disk_that_hangs_is_not_waited_for_and_what_was_claimed_goes_back() {
        let (orders, inbox) = std::sync::mpsc::channel();
        let counter = Arc::new(Counter::new(Key::any(), "lessons".into(), 5));
        let opened = Arc::clone(&counter);
        // A keeper that reads and never writes.
        let keeper = thread::spawn(move || {
            let mut unanswered = Vec::new();
            for order in inbox {
                match order {
                    Order::Open(_, reply) => _ = reply.send(Ok(vec![Arc::clone(&opened)])),
                    other => unanswered.push(other),
                }
            }
            unanswered.len()
        });
        let shared = Arc::new(Shared { latest: 0.into(), ahead: 0.into() });
        let (keeper_of_none, patience) = (Mutex::default(), Duration::from_millis(20));
        let path = PathBuf::new();
        let ledger = Arc::new(Ledger { path, orders, shared, keeper: keeper_of_none, patience });
        let claim = Claim {
            place: 0,
            budget: "backend/tokens-day".into(),
            caller: 1,
            name: "lessons",
            window: Window { start: 0, end: 86_400 },
            most: 10,
            counts: &Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let memory = Memory::default();
        let refused = runtime.block_on(ledger.reserve(&memory, &[claim])).err().unwrap();
        let why = "the disk has not answered in time".to_owned();
        assert_eq!(refused, Unreserved::Unavailable(why));
        assert_eq!((counter.used(), counter.open()), (5, 0));
        drop((ledger, memory));
        assert_eq!(keeper.join().unwrap(), 2, "asked to write, and told of what came back");
    }
}
