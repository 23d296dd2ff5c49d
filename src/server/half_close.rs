//! What a connection and the service that answers on it tell each other.

use std::cell::Cell;
use std::rc::Rc;

/// Shared by a connection and all requests on it.
#[derive(Clone, Debug, Default)]
pub struct ConnectionSignals(Rc<SignalFlags>);

#[derive(Debug, Default)]
struct SignalFlags {
    vouched: Cell<bool>,
    half_closed: Cell<bool>,
    /// On HTTP/1: how many requests were begun to be answered, and how many have come whole.
    asked: Cell<u32>,
    received: Cell<u32>,
}

impl ConnectionSignals {
    /// The answer that is given next was asked for with a good credential. To be said in the poll
    /// that gives it.
    pub fn vouch(&self) {
        self.0.vouched.set(true);
    }

    /// Whether the answer that was given just now was asked for with a good credential.
    pub(super) fn is_vouched_for(&self) -> bool {
        self.0.vouched.take()
    }

    /// The peer has ended its side. It may be there still, to read what it has asked for.
    pub(super) fn half_closed(&self) {
        self.0.half_closed.set(true);
    }

    /// A request is about to be answered.
    pub(super) fn asks(&self) {
        self.0.asked.set(self.0.asked.get().wrapping_add(1));
    }

    /// So many requests more have come whole, on HTTP/1.
    pub(super) fn receives(&self, count: u32) {
        self.0.received.set(self.0.received.get().wrapping_add(count));
    }

    /// Whether the answer that is given now is the last one on a connection of HTTP/1: the rest of
    /// its request has not come and is not waited for, or the peer has ended its side and nothing
    /// that it has asked for is left.
    pub(super) fn is_last_answer(&self) -> bool {
        let SignalFlags { asked, received, half_closed, .. } = &*self.0;
        match received.get().wrapping_sub(asked.get()).cast_signed() {
            ..0 => true,
            0 => half_closed.get(),
            1.. => false,
        }
    }

    /// Whether the peer has ended its side: nothing is known of it any more, so that what it asked
    /// for is answered, and not retried.
    pub fn is_half_closed(&self) -> bool {
        self.0.half_closed.get()
    }
}
