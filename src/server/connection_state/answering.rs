//! A request that is being answered on a connection: whose turn it is, the peer's or ours, and until
//! when it keeps the connection.

use std::rc::Rc;

use super::{ConnectionCommand, ConnectionState, Phase, Since};

/// A request that is being answered.
pub(crate) struct Answering {
    state: Rc<ConnectionState>,
    /// Its slot among those that wait, while it is the peer's turn: hyper asks for more when that
    /// has taken what there is.
    slot: Option<usize>,
    /// Whether it may have a good credential.
    protects: bool,
}

impl Answering {
    pub(super) const fn new(state: Rc<ConnectionState>) -> Self {
        Self { state, slot: None, protects: true }
    }

    /// Nothing new is to begin on the connection.
    pub(crate) fn is_last(&self) {
        self.state.send(ConnectionCommand::Drain);
    }

    /// There is an answer; whether it was asked for with a good credential is known now. Without
    /// one it does not keep the connection.
    pub(crate) fn is_decided(&mut self, trusted: bool) {
        if trusted {
            self.state.trusted.set(true);
        } else {
            self.protects_no_more();
        }
    }

    fn protects_no_more(&mut self) {
        if std::mem::take(&mut self.protects) {
            self.state.protecting.set(self.state.protecting.get() - 1);
        }
    }

    /// It is the peer's turn, from now on.
    pub(crate) fn waits(&mut self) {
        let mut waiting = self.state.waiting.borrow_mut();
        let slot = self.slot.or_else(|| waiting.iter().position(Option::is_none));
        let slot = slot.unwrap_or_else(|| {
            waiting.push(None);
            waiting.len() - 1
        });
        waiting[slot] = Some(Since::New);
        self.slot = Some(slot);
    }

    /// It is ours.
    pub(crate) fn works(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.state.waiting.borrow_mut()[slot] = None;
        }
    }

    /// On HTTP/1, it breaks off once all that there is of it is written.
    pub(crate) fn awaits_flush(&self) {
        self.state.awaits_flush.set(true);
    }

    /// Whether not all of it is written yet, of an answer that breaks off.
    pub(crate) fn is_flush_awaited(&self) -> bool {
        self.state.awaits_flush.get()
    }

    /// Nothing more is to come of the answer.
    pub(crate) fn ends(&self) {
        self.state.answered.set(self.state.answered.get().wrapping_add(1));
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.works();
        if self.protects {
            self.state.owes_trusted.set(true);
        }
        self.protects_no_more();
        match self.state.phase.get() {
            Phase::Answering(count) if count > 1 => {
                self.state.phase.set(Phase::Answering(count - 1));
            }
            _ => self.state.enter(Phase::Flushing),
        }
    }
}
