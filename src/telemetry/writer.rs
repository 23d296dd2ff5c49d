//! Writes lines on a thread of its own. A pipe that no one reads, a terminal that is stopped and a
//! disk that hangs hold up that thread, and no worker.
//!
//! What is queued for one destination is bounded in bytes. A block beyond the bound is not queued:
//! whoever brought it counts its lines as lost. The queue has no lock that is held while bytes are
//! written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel,
};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::background::{self, Background};

/// The most bytes that are queued for one destination.
pub(super) const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// The most bytes that are joined into one write: with a file that is synced, one sync for all
/// records that wait.
const BATCH_BYTES: usize = 256 * 1024;

/// Where lines end up. It is used on one thread alone.
pub(super) trait Destination: Send + 'static {
    /// What the lines are, for the log; `None` for those of the log itself.
    const LINES: Option<&'static str>;

    /// Writes whole lines, and may take as long as the operating system does.
    ///
    /// # Errors
    /// How many lines at the end were not written, and why.
    fn write(&mut self, lines: &[u8]) -> Result<(), WriteError>;

    /// Counts lines that were written, and lines that were not; not those for which someone waits.
    fn count(&mut self, written: u64, lost: u64);
}

/// Some lines were not written.
#[derive(Debug)]
pub(super) struct WriteError {
    /// Why.
    pub(super) error: io::Error,
    /// How many.
    pub(super) lines: u64,
}

/// The queue before one destination. When it is dropped, what is queued is still written.
pub(super) struct LineWriter<D> {
    commands: Sender<WriterCommand<D>>,
    shared: Arc<WriterState>,
}

/// What both sides of the queue look at.
#[derive(Default)]
struct WriterState {
    queued_bytes: AtomicUsize,
    /// Lines were lost since the last one was written, because the queue was full.
    overflowed: AtomicBool,
}

/// Whole lines, counted by whoever wrote them.
pub(super) struct LineBatch {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
}

enum WriterCommand<D> {
    Write { lines: LineBatch, reply: Option<oneshot::Sender<io::Result<()>>> },
    Replace(D),
    Flush(SyncSender<()>),
}

impl<D: Destination> LineWriter<D> {
    /// Starts the thread, which has this name.
    ///
    /// # Errors
    /// When the process may have no more threads.
    pub(super) fn start(name: &str, destination: D) -> io::Result<Self> {
        let (commands, received) = channel();
        let shared = Arc::new(WriterState::default());
        let writing = Writing {
            destination,
            commands: received,
            shared: Arc::clone(&shared),
            failing: false,
        };
        background::start(name, writing)?;
        Ok(Self { commands, shared })
    }

    /// Queues whole lines; `false` when the queue is full, and then they are lost.
    pub(super) fn push(&self, lines: LineBatch) -> bool {
        self.queue(lines, None)
    }

    /// Queues whole lines and gives what tells whether they were written; `None` when the queue is
    /// full.
    pub(super) fn push_and_wait(
        &self,
        lines: LineBatch,
    ) -> Option<oneshot::Receiver<io::Result<()>>> {
        let (reply, result) = oneshot::channel();
        self.queue(lines, Some(reply)).then_some(result)
    }

    fn queue(&self, lines: LineBatch, reply: Option<oneshot::Sender<io::Result<()>>>) -> bool {
        let (length, queued) = (lines.bytes.len(), &self.shared.queued_bytes);
        if queued.fetch_add(length, Relaxed) + length > QUEUE_BYTES {
            queued.fetch_sub(length, Relaxed);
            if let (false, Some(what)) = (self.shared.overflowed.swap(true, Relaxed), D::LINES) {
                tracing::error!("{what} are lost: they are not taken where they are written to");
            }
            return false;
        }
        // The thread ends only after this sender, unless a defect has ended it.
        self.commands.send(WriterCommand::Write { lines, reply }).is_ok()
    }

    /// What is queued from now on goes to another destination.
    pub(super) fn replace(&self, destination: D) {
        // As above.
        _ = self.commands.send(WriterCommand::Replace(destination));
    }

    /// Waits until what is queued is written, and no longer than this; `false` when it was not.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        let (done, waiting) = sync_channel(1);
        match self.commands.send(WriterCommand::Flush(done)) {
            Ok(()) => waiting.recv_timeout(timeout) != Err(RecvTimeoutError::Timeout),
            Err(_) => false,
        }
    }
}

/// The thread's side.
struct Writing<D> {
    destination: D,
    commands: Receiver<WriterCommand<D>>,
    shared: Arc<WriterState>,
    /// The last write failed.
    failing: bool,
}

impl<D: Destination> Background for Writing<D> {
    fn run(&mut self) {
        while let Ok(command) = self.commands.recv() {
            self.handle(command);
        }
    }

    fn step(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.handle(command),
                Err(why) => return why == TryRecvError::Empty,
            }
        }
    }
}

impl<D: Destination> Writing<D> {
    fn handle(&mut self, command: WriterCommand<D>) {
        let mut next = Some(command);
        while let Some(command) = next.take() {
            match command {
                WriterCommand::Write { lines, reply: None } => self.write(&lines),
                WriterCommand::Write { lines, reply: Some(reply) } => {
                    next = self.write_for_those_who_wait(lines.bytes, reply);
                }
                WriterCommand::Replace(destination) => self.destination = destination,
                // No one waits any more when the time was over.
                WriterCommand::Flush(done) => _ = done.try_send(()),
            }
        }
    }

    fn write(&mut self, lines: &LineBatch) {
        let lost = self.write_now(&lines.bytes).err().map_or(0, |error| error.lines);
        self.destination.count(lines.count.saturating_sub(lost), lost);
    }

    /// The log says when writing begins to fail and when it works again, and not how often.
    fn write_now(&mut self, lines: &[u8]) -> Result<(), WriteError> {
        let result = self.destination.write(lines);
        self.shared.queued_bytes.fetch_sub(lines.len(), Relaxed);
        let before = std::mem::replace(&mut self.failing, result.is_err());
        let Some(what) = D::LINES else { return result };
        match &result {
            Err(WriteError { error, lines: lost }) if !before => {
                tracing::error!(%error, lost, "{what} could not be written");
            }
            Ok(()) if before | self.shared.overflowed.swap(false, Relaxed) => {
                tracing::info!("{what} are written again");
            }
            _ => {}
        }
        result
    }

    /// Writes all records that wait at once; gives the command behind them, if there is one
    /// already.
    fn write_for_those_who_wait(
        &mut self,
        mut lines: Vec<u8>,
        reply: oneshot::Sender<io::Result<()>>,
    ) -> Option<WriterCommand<D>> {
        let mut replies = vec![reply];
        let mut next = None;
        while lines.len() < BATCH_BYTES {
            match self.commands.try_recv() {
                Ok(WriterCommand::Write { lines: more, reply: Some(reply) }) => {
                    lines.extend_from_slice(&more.bytes);
                    replies.push(reply);
                }
                other => {
                    next = other.ok();
                    break;
                }
            }
        }
        let result = self.write_now(&lines);
        for reply in replies {
            let result = match &result {
                Ok(()) => Ok(()),
                Err(WriteError { error, .. }) => {
                    Err(io::Error::new(error.kind(), error.to_string()))
                }
            };
            // Whoever waited may have gone.
            _ = reply.send(result);
        }
        next
    }
}

/// How many lines end in these bytes.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;

    /// A destination that takes nothing until it is let.
    struct Gate {
        open: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
        writes: Arc<AtomicUsize>,
    }

    impl Destination for Gate {
        const LINES: Option<&'static str> = Some("lines");

        fn write(&mut self, lines: &[u8]) -> Result<(), WriteError> {
            let closed = |_| WriteError { error: io::ErrorKind::BrokenPipe.into(), lines: 1 };
            self.open.recv().map_err(closed)?;
            self.writes.fetch_add(1, Relaxed);
            self.taken.lock().unwrap().extend_from_slice(lines);
            Ok(())
        }

        fn count(&mut self, _: u64, _: u64) {}
    }

    fn line() -> LineBatch {
        LineBatch { bytes: b"a\n".to_vec(), count: 1 }
    }

    struct Blocked {
        writer: LineWriter<Gate>,
        open: Sender<()>,
        taken: Arc<Mutex<Vec<u8>>>,
        writes: Arc<AtomicUsize>,
    }

    impl Blocked {
        fn new() -> Self {
            let (open, gate) = channel();
            let (taken, writes) = (Arc::default(), Arc::default());
            let gate = Gate { open: gate, taken: Arc::clone(&taken), writes: Arc::clone(&writes) };
            Self { writer: LineWriter::start("test", gate).unwrap(), open, taken, writes }
        }
    }

    #[test]
    fn what_a_destination_does_not_take_is_bounded_and_never_waited_for() {
        let blocked = Blocked::new();
        let block = || LineBatch { bytes: vec![b'\n'; 64 * 1024], count: 64 * 1024 };
        let queued = (0..100).filter(|_| blocked.writer.push(block())).count();
        assert_eq!(queued, QUEUE_BYTES / (64 * 1024));
        assert!(!blocked.writer.flush(Duration::from_millis(10)), "nothing was taken");
        for _ in 0..queued {
            blocked.open.send(()).unwrap();
        }
        assert!(blocked.writer.flush(Duration::from_secs(60)));
        assert!(blocked.writer.push(block()), "there is room again");
        assert_eq!(blocked.taken.lock().unwrap().len(), QUEUE_BYTES);
    }

    #[test]
    fn those_who_wait_at_once_are_served_by_one_write() {
        let blocked = Blocked::new();
        let waiting: Vec<_> =
            (0..10).map(|_| blocked.writer.push_and_wait(line()).unwrap()).collect();
        for _ in 0..10 {
            _ = blocked.open.send(());
        }
        for result in waiting {
            result.blocking_recv().unwrap().unwrap();
        }
        assert!(blocked.writes.load(Relaxed) <= 2, "{:?}", blocked.writes);
        assert_eq!(blocked.taken.lock().unwrap().len(), 20);
    }

    #[test]
    fn those_who_wait_are_told_what_went_wrong() {
        let blocked = Blocked::new();
        let result = blocked.writer.push_and_wait(line()).unwrap();
        drop(blocked.open);
        let error = result.blocking_recv().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn what_is_queued_is_written_after_the_writer_has_gone() {
        let Blocked { writer, open, taken, .. } = Blocked::new();
        assert!(writer.push(line()));
        drop(writer);
        open.send(()).unwrap();
        while taken.lock().unwrap().is_empty() {
            thread::yield_now();
        }
    }
}
