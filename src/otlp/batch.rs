//! Spans on their way from a worker to the exporter, and what became of them.

use crate::metric::Counter;

/// As many of these wait for the exporter: some 4 MiB, or eight thousand spans.
pub(super) const WAITING: usize = 64;

/// Spans, written one behind the other.
#[derive(Default)]
pub(super) struct SpanBatch {
    pub(super) bytes: Vec<u8>,
    pub(super) spans: u64,
}

/// What became of what was to be sent.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: Counter,
    pub(super) refused: Counter,
    pub(super) dropped: Counter,
    pub(super) exports: Counter,
    pub(super) failures: Counter,
}

impl Counts {
    pub(super) fn dropped(&self, spans: u64) {
        self.dropped.add_shared(spans);
    }

    pub(super) fn sent(&self, spans: u64, refused: u64) {
        self.sent.add_shared(spans.saturating_sub(refused));
        self.refused.add_shared(refused.min(spans));
    }

    pub(super) fn export(&self, succeeded: bool) {
        if succeeded { &self.exports } else { &self.failures }.add_shared(1);
    }
}
