//! What records the requests of one worker: counters, access lines, and the last hour.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::SystemTime;

use super::access::{AccessLine, Sink};
use super::writer::LineBatch;
use super::{Metrics, Outcome};
use crate::overview::{CallerSeen, WorkerOverview};

/// Lines are handed over when so many bytes of them wait, or at the next tick.
const FULL: usize = 32 * 1024;

/// Longer than most lines.
const LINE: usize = 1024;

/// Tells the time of day.
pub type WallClock = fn() -> SystemTime;

/// Records the requests of one worker: counters and lines.
pub struct Recorder {
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
    /// The number of the worker.
    pub worker: usize,
    /// What says when a request came: all of its way goes by that.
    pub clock: WallClock,
    sink: Arc<Sink>,
    overview: WorkerOverview,
    waiting: RefCell<String>,
    /// How many lines wait.
    count: Cell<u64>,
}

impl Recorder {
    /// A recorder for a worker.
    pub fn new(metrics: Arc<Metrics>, worker: usize, sink: Arc<Sink>) -> Self {
        Self {
            metrics,
            worker,
            clock: SystemTime::now,
            sink,
            overview: WorkerOverview::default(),
            waiting: RefCell::default(),
            count: Cell::new(0),
        }
    }

    /// Counts a request and writes its line.
    pub fn record(&self, line: &AccessLine<'_>) {
        let upstream_took = line.upstream.map(|upstream| upstream.took);
        line.operation.count(self.worker, line.outcome, line.took, upstream_took);
        if let Some(profile) = line.profile {
            profile.count(self.worker, line.outcome);
        }
        let own = line.took.saturating_sub(upstream_took.unwrap_or_default());
        self.metrics.answered(self.worker, line.status, own);
        self.remember(line);
        let target = self.sink.target.load();
        if target.writer.is_none() {
            return;
        }
        self.count.set(self.count.get() + 1);
        let mut waiting = self.waiting.borrow_mut();
        if target.text {
            line.text(target.colors, &mut waiting);
        } else {
            line.json(&mut waiting);
        }
        if target.at_once || waiting.len() >= FULL {
            drop(waiting);
            self.flush();
        }
    }

    /// Takes note of it for the last hour.
    fn remember(&self, line: &AccessLine<'_>) {
        let overview = &self.metrics.overview;
        if let (Some(number), Some(name)) = (line.caller_number, line.caller) {
            let AccessLine { at_ms, credential, .. } = *line;
            let failed = matches!(line.outcome, Outcome::Failed(_));
            self.overview.count(overview, &CallerSeen { at_ms, number, name, credential, failed });
        }
        if let Outcome::Failed(code) = line.outcome {
            self.overview.record(overview, &line.failure(code));
        }
    }

    /// Hands over what waits: lines, and what is remembered of the last hour.
    pub fn tick(&self) {
        self.overview.hand_over(&self.metrics.overview);
        self.flush();
    }

    /// Hands the lines that wait to the thread that writes them.
    pub fn flush(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            return;
        }
        // The thread keeps this buffer until it is written. The next is as large, and a line more:
        // one that grows is copied.
        let next = String::with_capacity(waiting.len() + LINE);
        let bytes = std::mem::replace(&mut *waiting, next).into_bytes();
        let count = self.count.take();
        let target = self.sink.target.load();
        if let Some(writer) = &target.writer
            && !writer.push(LineBatch { bytes, count })
        {
            self.metrics.access_lines_lost.add_shared(count);
        }
    }
}

/// Requests that are cut off when the worker ends are recorded while they are dropped.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush();
    }
}
