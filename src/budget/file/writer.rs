//! The writer: the one thread that reads and writes the file. Whatever has come while it wrote is
//! written together next.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::counter::{BudgetCounter, WindowKey};
use super::counter_file::{CounterFile, CounterFileError};
use super::view::View;
use crate::background::Background;

/// An answer that someone waits for; what is wrong is for the log.
type Reply<T> = oneshot::Sender<Result<T, String>>;

/// How often it looks after what no one asks for.
const ROUND: Duration = Duration::from_secs(10);

/// How much later than the end of a window what is over is looked for in the file.
const PRUNE_SECONDS: i64 = 3_600;

/// Above this, counters that no worker remembers are left to the file.
const MANY: usize = 10_000;

/// What workers and the admin listener want of the writer.
pub(super) enum FileCommand {
    /// Counters, with the names of whose they are.
    Open(Vec<(WindowKey, Box<str>)>, Reply<Vec<Arc<BudgetCounter>>>),
    /// What was claimed of these shall be on the disk.
    Keep(Vec<Arc<BudgetCounter>>, Reply<()>),
    /// The same, and no one waits for it.
    Note(Arc<BudgetCounter>),
    /// What is needed to look at them all: whoever wants that does it in its own time.
    Show(Reply<View>),
    /// Nothing comes after this.
    Close,
}

/// What workers and the writer both look at.
pub(super) struct FileState {
    /// The latest second that was seen: a clock that goes back opens no window anew.
    pub(super) latest: AtomicI64,
    /// How many of each counter are written before they are asked for.
    pub(super) ahead: AtomicU32,
}

pub(super) struct WriterTask {
    file: CounterFile,
    commands: Receiver<FileCommand>,
    shared: Arc<FileState>,
    counters: HashMap<WindowKey, OpenCounter>,
    pruned: i64,
    /// Whether the last write failed: told once.
    failing: bool,
}

/// A counter, and what the file says of it; after a write that failed no one knows.
struct OpenCounter {
    counter: Arc<BudgetCounter>,
    written: Option<u32>,
}

/// What is to be written.
#[derive(Default)]
struct CommitBatch {
    touched: Vec<Arc<BudgetCounter>>,
    waiting: Vec<Reply<()>>,
    close: bool,
}

impl Background for WriterTask {
    /// Until it is told to close, or no one is left who could want anything.
    fn run(&mut self) {
        loop {
            match self.commands.recv_timeout(ROUND) {
                Ok(command) => {
                    if !self.round(command) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.tidy(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.settle();
    }

    fn step(&mut self) -> bool {
        let goes_on = match self.commands.try_recv() {
            Ok(command) => self.round(command),
            Err(why) => why == TryRecvError::Empty,
        };
        if !goes_on {
            self.settle();
        }
        goes_on
    }
}

impl WriterTask {
    /// Opens the file.
    pub(super) fn open(
        path: &Path,
        ahead: u32,
        commands: Receiver<FileCommand>,
    ) -> Result<(Self, Arc<FileState>), CounterFileError> {
        let mut file = CounterFile::open(path)?;
        let latest = file.latest()?.unwrap_or(i64::MIN);
        let shared = Arc::new(FileState { latest: latest.into(), ahead: ahead.into() });
        let writer = Self {
            file,
            commands,
            shared: Arc::clone(&shared),
            counters: HashMap::new(),
            pruned: i64::MIN,
            failing: false,
        };
        Ok((writer, shared))
    }

    /// Takes up what has come with the first command, and writes it in one commit; `false` when it is
    /// told to close.
    fn round(&mut self, first: FileCommand) -> bool {
        let mut batch = CommitBatch::default();
        self.take(first, &mut batch);
        while let Ok(command) = self.commands.try_recv() {
            self.take(command, &mut batch);
        }
        let close = batch.close;
        self.write(batch);
        if !close {
            self.tidy();
        }
        !close
    }

    /// Takes a command up; what is to be written waits for the others.
    fn take(&mut self, command: FileCommand, batch: &mut CommitBatch) {
        match command {
            // Whoever has gone meanwhile needs no answer; so it is with all of them.
            FileCommand::Open(wanted, reply) => _ = reply.send(self.open_all(wanted)),
            FileCommand::Show(reply) => _ = reply.send(self.view()),
            FileCommand::Note(counter) => batch.touched.push(counter),
            FileCommand::Keep(counters, reply) => {
                batch.touched.extend(counters);
                batch.waiting.push(reply);
            }
            FileCommand::Close => batch.close = true,
        }
    }

    fn open_all(
        &mut self,
        wanted: Vec<(WindowKey, Box<str>)>,
    ) -> Result<Vec<Arc<BudgetCounter>>, String> {
        let unknown: Vec<_> =
            wanted.iter().filter(|(key, _)| !self.counters.contains_key(key)).collect();
        if !unknown.is_empty() {
            let read = self.file.read(unknown.iter().map(|(key, _)| key));
            let read = read.map_err(|error| error.to_string())?;
            for ((key, name), written) in unknown.into_iter().zip(read) {
                let counter = Arc::new(BudgetCounter::new(key.clone(), name.clone(), written));
                self.counters.insert(key.clone(), OpenCounter { counter, written: Some(written) });
            }
        }
        let known = |(key, _): &(WindowKey, _)| {
            self.counters.get(key).map(|kept| Arc::clone(&kept.counter))
        };
        Ok(wanted.iter().filter_map(known).collect())
    }

    /// Writes what has changed, in one commit, and tells those who wait.
    fn write(&mut self, batch: CommitBatch) {
        let ahead = self.shared.ahead.load(Relaxed);
        let written = self.commit(batch.touched, ahead);
        for reply in batch.waiting {
            _ = reply.send(written.clone());
        }
    }

    fn commit(&mut self, mut touched: Vec<Arc<BudgetCounter>>, ahead: u32) -> Result<(), String> {
        touched.sort_unstable_by_key(Arc::as_ptr);
        touched.dedup_by_key(|counter| Arc::as_ptr(counter));
        let mut aims: Vec<(Arc<BudgetCounter>, u32)> = Vec::with_capacity(touched.len());
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
        let rows: Vec<(&WindowKey, u32)> = aims.iter().map(|(one, aim)| (&one.key, *aim)).collect();
        let done = self.file.write(&rows, self.shared.latest.load(Relaxed));
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

    fn tell(&mut self, done: &Result<(), CounterFileError>) {
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
            if let Err(error) = self.file.prune(latest) {
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
        let snapshot = self.file.snapshot().map_err(|error| error.to_string())?;
        let counters = self.counters.values().map(|kept| Arc::clone(&kept.counter)).collect();
        Ok(View { snapshot, counters })
    }
}
