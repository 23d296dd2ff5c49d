//! The keeper: the one thread that reads and writes the file. Whatever has come while it wrote is
//! written together next.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::book::{Book, Broken};
use super::counter::{Counter, Key};
use super::view::View;

/// An answer that somebody waits for; what is wrong is for the log.
type Reply<T> = oneshot::Sender<Result<T, String>>;

/// How often it looks after what nobody asks for.
const ROUND: Duration = Duration::from_secs(10);

/// How much later than the end of a window what is over is looked for in the file.
const PRUNE_SECONDS: i64 = 3_600;

/// Above this, counters that no worker remembers are left to the file.
const MANY: usize = 10_000;

/// What workers and the admin listener want of the keeper.
pub(super) enum Order {
    /// Counters, with the names of whose they are.
    Open(Vec<(Key, Box<str>)>, Reply<Vec<Arc<Counter>>>),
    /// What was claimed of these shall be on the disk.
    Keep(Vec<Arc<Counter>>, Reply<()>),
    /// The same, and nobody waits for it.
    Note(Arc<Counter>),
    /// What is needed to look at them all: whoever wants that does it in its own time.
    Show(Reply<View>),
    /// Nothing comes after this.
    Close,
}

/// What workers and the keeper both look at.
pub(super) struct Shared {
    /// The latest second that was seen: a clock that goes back opens no window anew.
    pub(super) latest: AtomicI64,
    /// How many of each counter are written before they are asked for.
    pub(super) ahead: AtomicU32,
}

pub(super) struct Keeper {
    book: Book,
    orders: Receiver<Order>,
    shared: Arc<Shared>,
    counters: HashMap<Key, Kept>,
    pruned: i64,
    /// Whether the last write failed: told once.
    failing: bool,
}

/// A counter, and what the file says of it; after a write that failed nobody knows.
struct Kept {
    counter: Arc<Counter>,
    written: Option<u32>,
}

/// What is to be written.
#[derive(Default)]
struct Batch {
    touched: Vec<Arc<Counter>>,
    waiting: Vec<Reply<()>>,
    close: bool,
}

impl Keeper {
    /// Opens the file.
    pub(super) fn open(
        path: &Path,
        ahead: u32,
        orders: Receiver<Order>,
    ) -> Result<(Self, Arc<Shared>), Broken> {
        let mut book = Book::open(path)?;
        let latest = book.latest()?.unwrap_or(i64::MIN);
        let shared = Arc::new(Shared { latest: latest.into(), ahead: ahead.into() });
        let keeper = Self {
            book,
            orders,
            shared: Arc::clone(&shared),
            counters: HashMap::new(),
            pruned: i64::MIN,
            failing: false,
        };
        Ok((keeper, shared))
    }

    /// Keeps until it is told to close, or nobody is left who could want anything.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.orders.recv_timeout(ROUND) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => {
                    self.tidy();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut batch = Batch::default();
            self.take(first, &mut batch);
            while let Ok(order) = self.orders.try_recv() {
                self.take(order, &mut batch);
            }
            let close = batch.close;
            self.write(batch);
            if close {
                break;
            }
            self.tidy();
        }
        self.settle();
    }

    /// Takes an order up; what is to be written waits for the others.
    fn take(&mut self, order: Order, batch: &mut Batch) {
        match order {
            // Whoever has gone meanwhile needs no answer; so it is with all of them.
            Order::Open(wanted, reply) => _ = reply.send(self.open_all(wanted)),
            Order::Show(reply) => _ = reply.send(self.view()),
            Order::Note(counter) => batch.touched.push(counter),
            Order::Keep(counters, reply) => {
                batch.touched.extend(counters);
                batch.waiting.push(reply);
            }
            Order::Close => batch.close = true,
        }
    }

    fn open_all(&mut self, wanted: Vec<(Key, Box<str>)>) -> Result<Vec<Arc<Counter>>, String> {
        let unknown: Vec<_> =
            wanted.iter().filter(|(key, _)| !self.counters.contains_key(key)).collect();
        if !unknown.is_empty() {
            let read = self.book.read(unknown.iter().map(|(key, _)| key));
            let read = read.map_err(|error| error.to_string())?;
            for ((key, name), written) in unknown.into_iter().zip(read) {
                let counter = Arc::new(Counter::new(key.clone(), name.clone(), written));
                self.counters.insert(key.clone(), Kept { counter, written: Some(written) });
            }
        }
        let known =
            |(key, _): &(Key, _)| self.counters.get(key).map(|kept| Arc::clone(&kept.counter));
        Ok(wanted.iter().filter_map(known).collect())
    }

    /// Writes what has changed, in one commit, and tells those who wait.
    fn write(&mut self, batch: Batch) {
        let ahead = self.shared.ahead.load(Relaxed);
        let written = self.commit(batch.touched, ahead);
        for reply in batch.waiting {
            _ = reply.send(written.clone());
        }
    }

    fn commit(&mut self, mut touched: Vec<Arc<Counter>>, ahead: u32) -> Result<(), String> {
        touched.sort_unstable_by_key(Arc::as_ptr);
        touched.dedup_by_key(|counter| Arc::as_ptr(counter));
        let mut aims: Vec<(Arc<Counter>, u32)> = Vec::with_capacity(touched.len());
        for counter in touched {
            let aim = counter.aim(ahead);
            // Of a window that is over it may not be here any more.
            let written = self.counters.get(&counter.key).and_then(|kept| kept.written);
            if written == Some(aim) {
                counter.written(aim);
            } else {
                aims.push((counter, aim));
            }
        }
        if aims.is_empty() {
            return Ok(());
        }
        let rows: Vec<(&Key, u32)> = aims.iter().map(|(one, aim)| (&one.key, *aim)).collect();
        let done = self.book.write(&rows, self.shared.latest.load(Relaxed));
        self.tell(&done);
        for (counter, aim) in aims {
            if done.is_ok() {
                counter.written(aim);
            }
            if let Some(kept) = self.counters.get_mut(&counter.key) {
                kept.written = done.is_ok().then_some(aim);
            }
        }
        done.map_err(|error| error.to_string())
    }

    fn tell(&mut self, done: &Result<(), Broken>) {
        match done {
            Ok(()) if self.failing => tracing::info!("budgets can be written again"),
            Err(error) if !self.failing => {
                tracing::error!(%error, "budgets cannot be written: what is under one is refused");
            }
            _ => {}
        }
        self.failing = done.is_err();
    }

    /// Forgets what is over, and what the file has and no worker remembers.
    fn tidy(&mut self) {
        let latest = self.shared.latest.load(Relaxed);
        let recent = latest.saturating_sub(PRUNE_SECONDS);
        if self.pruned < recent {
            self.pruned = latest;
            self.counters.retain(|key, _| key.end > recent);
            if let Err(error) = self.book.prune(latest) {
                tracing::warn!(%error, "old budgets are not forgotten");
            }
        }
        if self.counters.len() > MANY {
            self.counters.retain(|_, kept| {
                Arc::strong_count(&kept.counter) > 1 || kept.written != Some(kept.counter.used())
            });
        }
    }

    /// Writes what is used and nothing ahead.
    fn settle(&mut self) {
        let all = self.counters.values().map(|kept| Arc::clone(&kept.counter)).collect();
        if let Err(error) = self.commit(all, 0) {
            tracing::error!(error, "budgets are not settled");
        }
    }

    fn view(&mut self) -> Result<View, String> {
        let snapshot = self.book.snapshot().map_err(|error| error.to_string())?;
        let counters = self.counters.values().map(|kept| Arc::clone(&kept.counter)).collect();
        Ok(View { snapshot, counters })
    }
}
