//! What a connection and the service that answers on it tell each other.

use std::cell::Cell;
use std::rc::Rc;

/// Shared by a connection and all requests on it.
#[derive(Clone, Debug, Default)]
pub struct Link(Rc<Told>);

#[derive(Debug, Default)]
struct Told {
    vouched: Cell<bool>,
    half_closed: Cell<bool>,
}

impl Link {
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

    /// Whether the peer has ended its side: nothing is known of it any more, so that what it asked
    /// for is answered, and not tried again.
    #[must_use]
    pub fn is_half_closed(&self) -> bool {
        self.0.half_closed.get()
    }
}
