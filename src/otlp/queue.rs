//! From the workers to the exporter: spans are written into a buffer of the worker, and handed over
//! many at once, so that a request wakes no one.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;

use super::Collector;
use super::batch::SpanBatch;
use super::span::Span;
use super::wire::Message;

/// As many bytes of spans are handed over at once, or what there is at the next tick.
const FULL: usize = 64 * 1024;

/// The field of `ScopeSpans` that a span is.
const SPANS: u32 = 2;

/// The spans of one worker.
pub struct Spans {
    collector: Arc<Collector>,
    waiting: RefCell<SpanBatch>,
}

impl Spans {
    /// Of a worker.
    pub fn new(collector: Arc<Collector>) -> Self {
        Self { collector, waiting: RefCell::default() }
    }

    /// Takes a span, or drops and counts it when the exporter cannot keep up.
    pub fn add(&self, span: &Span<'_>) {
        if self.waiting.borrow().bytes.len() >= FULL {
            self.hand_over();
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.bytes.len() >= FULL {
            self.collector.counts.dropped(1);
            return;
        }
        span.write(&mut Message(&mut waiting.bytes), SPANS);
        waiting.spans += 1;
    }

    /// Hands over what waits. It stays where it is while too much waits already.
    pub fn hand_over(&self) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.spans == 0 {
            return;
        }
        match self.collector.sender.try_send(std::mem::take(&mut *waiting)) {
            Ok(()) => {}
            Err(TrySendError::Full(batch)) => *waiting = batch,
            Err(TrySendError::Closed(batch)) => self.collector.counts.dropped(batch.spans),
        }
    }
}

/// Those of the last requests of a worker that ends.
impl Drop for Spans {
    fn drop(&mut self) {
        self.hand_over();
        self.collector.counts.dropped(self.waiting.get_mut().spans);
    }
}
