//! What long answers are read into: a few buffers of the worker, lent to whoever reads one.
//!
//! The one that was given back last is lent first: the processor has it at hand still. A connection
//! that waits has none of them.

use std::cell::RefCell;

use bytes::BytesMut;

/// The size of each: an answer that is taken whole fits, with its head.
pub(super) const BUFFER: usize = 80 * 1024;

/// The most that are kept.
const KEPT: usize = 4;

/// The buffers of a worker that are not lent.
#[derive(Debug, Default)]
pub struct Buffers(RefCell<Vec<BytesMut>>);

impl Buffers {
    /// An empty one.
    pub(super) fn take(&self) -> BytesMut {
        let mut kept = self.0.borrow_mut();
        while let Some(mut buffer) = kept.pop() {
            // Of another a piece is on its way to a caller still, and goes with it.
            if buffer.try_reclaim(BUFFER) {
                return buffer;
            }
        }
        BytesMut::with_capacity(BUFFER)
    }

    /// Keeps one for the next who reads.
    pub(super) fn give_back(&self, mut buffer: BytesMut) {
        let mut kept = self.0.borrow_mut();
        if kept.len() < KEPT {
            buffer.clear();
            kept.push(buffer);
        }
    }
}
