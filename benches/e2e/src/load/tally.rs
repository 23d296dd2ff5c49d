//! What came back: how many answers, how late, and whether they were right.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::time::Instant;

use anyhow::bail;

use super::Call;

/// Counts of one run.
#[derive(Default)]
pub struct Tally {
    /// Answers with a status that is right.
    pub answers: Cell<u64>,
    /// Handshakes that resumed a session.
    pub resumed: Cell<u64>,
    /// Whether it is over.
    pub stop: Cell<bool>,
    latencies: RefCell<Vec<u32>>,
    wrong: Cell<u64>,
    broken: Cell<u64>,
    first: RefCell<Option<String>>,
}

impl Tally {
    /// Begins anew; what went wrong is kept.
    pub fn clear(&self) {
        self.answers.set(0);
        self.resumed.set(0);
        self.latencies.borrow_mut().clear();
    }

    /// Counts an answer.
    pub fn answered(&self, call: &Call, status: u16) {
        if call.takes(status) {
            self.answers.set(self.answers.get() + 1);
        } else {
            self.wrong.set(self.wrong.get() + 1);
            self.note(format_args!("a status {status}"));
        }
    }

    /// Counts how late an answer was.
    pub fn late(&self, due: Instant) {
        let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.latencies.borrow_mut().push(micros);
    }

    /// Counts a connection that broke, unless that is because all is over.
    pub fn broke(&self, why: impl Display) {
        if !self.stop.get() {
            self.broken.set(self.broken.get() + 1);
            self.note(why);
        }
    }

    fn note(&self, what: impl Display) {
        self.first.borrow_mut().get_or_insert_with(|| what.to_string());
    }

    /// The latencies so far, the least first.
    pub fn sorted_latencies(&self) -> Vec<u32> {
        let mut latencies = self.latencies.take();
        latencies.sort_unstable();
        latencies
    }

    /// An error when anything went wrong: figures of a proxy that fails are no figures.
    pub fn verdict(&self) -> anyhow::Result<()> {
        let (wrong, broken) = (self.wrong.get(), self.broken.get());
        if wrong + broken == 0 {
            return Ok(());
        }
        let first = self.first.take().unwrap_or_default();
        bail!("{wrong} wrong answers and {broken} broken connections; the first: {first}")
    }
}
