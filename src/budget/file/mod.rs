//! Budgets in a file of this machine: counters in memory, each of which is on the disk before
//! anything of it is given out.
//!
//! Workers take from the counters without a lock and without the disk where it has enough ahead.
//! What must be written goes to one thread, the writer, which writes all that waits in one commit:
//! a worker goes on with other requests meanwhile.

mod counter;
mod counter_file;
mod view;
mod writer;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::background;

use super::claim::{BudgetClaim, ReserveError, Tightest, WindowQuery};
use counter::{BudgetCounter, Claimed, WindowKey};
use writer::{FileCommand, FileState, WriterTask};

pub use counter_file::CounterFileError;

/// As many counters are remembered by a worker.
const REMEMBERED: usize = 10_000;

/// How long a request waits for the disk: no longer than for the start of an answer.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);

/// The counters of one file. Shared by all workers, and kept over reloads.
pub(super) struct FileCounters {
    /// Its file.
    pub(super) path: PathBuf,
    commands: Sender<FileCommand>,
    shared: Arc<FileState>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
    timeout: Duration,
}

/// The counters that a worker has used, by budget and caller.
pub(super) struct CounterCache(
    RefCell<quick_cache::unsync::Cache<(usize, u64), Arc<BudgetCounter>>>,
);

/// What was taken for a request. Dropped, it stays taken.
pub(super) struct FileHold {
    of: Arc<FileCounters>,
    counters: Vec<Option<Arc<BudgetCounter>>>,
    /// Whether what is dropped goes back: until it is on the disk.
    pending: bool,
}

impl Default for CounterCache {
    fn default() -> Self {
        Self(RefCell::new(quick_cache::unsync::Cache::new(REMEMBERED)))
    }
}

impl FileCounters {
    /// Opens the file and starts the writer, who writes so many ahead.
    ///
    /// # Errors
    /// [`CounterFileError`] names the file.
    pub(super) fn open(path: &Path, ahead: u32) -> Result<Arc<Self>, CounterFileError> {
        let (commands, inbox) = std::sync::mpsc::channel();
        let (writer, shared) = WriterTask::open(path, ahead, inbox)?;
        let thread = background::start("budgets", writer)
            .map_err(|error| CounterFileError::of_thread(path, error))?;
        let writer = Mutex::new(thread);
        let path = path.to_owned();
        Ok(Arc::new(Self { path, commands, shared, writer, timeout: DISK_TIMEOUT }))
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
        memory: &CounterCache,
        claims: &[BudgetClaim<'_>],
    ) -> Result<(FileHold, Vec<u32>), ReserveError> {
        let counters = self.counters(memory, claims).await?;
        // Looked at before any is taken from, so that a refusal takes nothing from the others.
        let all = || counters.iter().zip(claims).enumerate();
        if let Some((place, _)) = all().find(|(_, (one, claim))| one.used() >= claim.most) {
            return Err(ReserveError::Exhausted(place));
        }
        let of = Arc::clone(self);
        let mut held = FileHold { of, counters: Vec::with_capacity(claims.len()), pending: true };
        let mut used = Vec::with_capacity(claims.len());
        let mut waiting = Vec::new();
        for (place, (counter, claim)) in all() {
            let now_used = match counter.claim(claim.most) {
                Claimed::Nothing => return Err(ReserveError::Exhausted(place)),
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
            self.ask(|reply| FileCommand::Keep(waiting, reply)).await?;
        }
        held.pending = false;
        held.refill();
        Ok((held, used))
    }

    /// The counters of claims: those that the worker remembers, and the others from the writer.
    async fn counters(
        &self,
        memory: &CounterCache,
        claims: &[BudgetClaim<'_>],
    ) -> Result<Vec<Arc<BudgetCounter>>, ReserveError> {
        let mut counters: Vec<Option<Arc<BudgetCounter>>> =
            claims.iter().map(|claim| memory.find(claim)).collect();
        if counters.iter().any(Option::is_none) {
            let missing = claims.iter().zip(&counters).filter(|(_, counter)| counter.is_none());
            let wanted =
                missing.map(|(claim, _)| (WindowKey::of(claim), claim.name.into())).collect();
            let mut opened = self.ask(|reply| FileCommand::Open(wanted, reply)).await?.into_iter();
            for (claim, counter) in claims.iter().zip(&mut counters) {
                if counter.is_none() {
                    *counter = opened.next().inspect(|counter| memory.keep(claim, counter));
                }
            }
        }
        Ok(counters.into_iter().flatten().collect())
    }

    /// What stands in the file and in memory. Goes through all of it on this thread.
    pub(super) async fn levels(&self, wanted: &[WindowQuery]) -> Result<Tightest, ReserveError> {
        let view = self.ask(FileCommand::Show).await?;
        view.levels(wanted).map_err(ReserveError::StoreError)
    }

    /// Writes what is exact and closes the file. What comes after is refused.
    pub(super) fn close(&self) {
        self.command(FileCommand::Close);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer of budgets had panicked");
        }
    }

    /// Without an answer. One that does not arrive finds no writer, which those who wait are told.
    fn command(&self, command: FileCommand) {
        _ = self.commands.send(command);
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, String>>) -> FileCommand,
    ) -> Result<T, ReserveError> {
        let (reply, answer) = oneshot::channel();
        self.command(command(reply));
        let why = match timeout(self.timeout, answer).await {
            Ok(Ok(Ok(answer))) => return Ok(answer),
            Ok(Ok(Err(why))) => why,
            Ok(Err(_)) => "the file of budgets is closed".to_owned(),
            Err(_) => "the disk has not answered in time".to_owned(),
        };
        Err(ReserveError::StoreError(why))
    }
}

impl FileHold {
    /// Gives back the one at a place.
    pub(super) fn release(&mut self, place: usize) {
        if let Some(counter) = self.counters.get_mut(place).and_then(Option::take) {
            counter.release();
            // Soon, and no one waits for it.
            self.of.command(FileCommand::Note(counter));
        }
    }

    /// Asks for more where half of what is ahead is used up.
    fn refill(&self) {
        let ahead = self.of.shared.ahead.load(Relaxed);
        // By the one who takes the middle one: the others need not ask as well.
        let low = |counter: &&Arc<BudgetCounter>| ahead > 0 && counter.ready() == ahead / 2;
        for counter in self.counters.iter().flatten().filter(low) {
            self.of.command(FileCommand::Note(Arc::clone(counter)));
        }
    }
}

impl Drop for FileHold {
    fn drop(&mut self) {
        if self.pending {
            (0..self.counters.len()).for_each(|place| self.release(place));
        }
        self.counters.iter().flatten().for_each(|counter| counter.settle());
    }
}

impl CounterCache {
    fn find(&self, claim: &BudgetClaim<'_>) -> Option<Arc<BudgetCounter>> {
        let counters = self.0.borrow();
        let counter = counters.get(&(claim.place, claim.caller))?;
        (counter.key.start == claim.window.start).then(|| Arc::clone(counter))
    }

    fn keep(&self, claim: &BudgetClaim<'_>, counter: &Arc<BudgetCounter>) {
        self.0.borrow_mut().insert((claim.place, claim.caller), Arc::clone(counter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::window::Window;

    #[test]
    fn a_disk_that_hangs_is_not_waited_for_and_what_was_claimed_goes_back() {
        let (commands, inbox) = std::sync::mpsc::channel();
        let counter = Arc::new(BudgetCounter::new(WindowKey::any(), "lessons".into(), 5));
        // A writer that reads and never writes.
        let writer = thread::spawn(move || inbox.into_iter().collect::<Vec<_>>().len());
        let shared = Arc::new(FileState { latest: 0.into(), ahead: 0.into() });
        let (no_writer, timeout) = (Mutex::default(), Duration::from_millis(20));
        let path = PathBuf::new();
        let counters =
            Arc::new(FileCounters { path, commands, shared, writer: no_writer, timeout });
        let claim = BudgetClaim {
            place: 0,
            budget: "backend/tokens-day".into(),
            caller: 1,
            name: "lessons",
            window: Window { start: 0, end: 86_400 },
            most: 10,
            counts: &Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let memory = CounterCache::default();
        memory.keep(&claim, &counter);
        let refused = runtime.block_on(counters.reserve(&memory, &[claim])).err().unwrap();
        let why = "the disk has not answered in time".to_owned();
        assert_eq!(refused, ReserveError::StoreError(why));
        assert_eq!((counter.used(), counter.open()), (5, 0));
        drop((counters, memory));
        assert_eq!(writer.join().unwrap(), 2, "asked to write, and told of what came back");
    }
}
