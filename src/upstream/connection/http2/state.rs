//! What is known of a connection to whoever sends on it and to the task that drives it: above all
//! whose streams are open, each from when it is opened until its answer is over.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use tokio::time::Instant;

/// What is known of a connection to whoever sends on it, and to the task that drives it.
pub(super) struct Http2State {
    /// The most streams that the peer allows; none, before its SETTINGS have come.
    pub(super) allowed: Cell<usize>,
    pub(super) callers: RefCell<StreamOwners>,
    pub(super) made: Instant,
    /// When the head of an answer last came on it.
    pub(super) heard: Cell<Instant>,
    /// Since when bodies wait for the peer's window, and nothing of them is sent.
    pub(super) stuck: Cell<Option<Instant>>,
    /// Nothing more is sent on it.
    pub(super) retired: Cell<bool>,
    /// It ends with its last stream.
    pub(super) dropped: Cell<bool>,
    /// Since when nothing came, where it was given up for that; for whoever looks first.
    pub(super) silent_since: Cell<Option<Instant>>,
    /// It broke with one stream on it: what was wrong was that one's.
    pub(super) broke_alone: Cell<bool>,
    /// To be called when there may be room for a stream, or the connection has ended.
    pub(super) on_change: OnceCell<Box<dyn Fn()>>,
}

/// Whose streams are open on a connection.
#[derive(Default)]
pub(super) struct StreamOwners {
    slots: Vec<Option<u64>>,
    free: Vec<usize>,
}

impl StreamOwners {
    fn add(&mut self, caller: u64) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(caller);
        slot
    }

    fn remove(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.slots.iter().flatten().copied()
    }
}

/// One stream's part of a connection, until it is dropped.
pub(super) struct OpenStream {
    pub(super) state: Rc<Http2State>,
    slot: usize,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.state.callers.borrow_mut().remove(self.slot);
        self.state.changed();
    }
}

impl Http2State {
    /// Of a connection that stands, on which the peer allows so many streams.
    pub(super) fn new(allowed: usize) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            allowed: Cell::new(allowed),
            callers: RefCell::default(),
            made: now,
            heard: Cell::new(now),
            stuck: Cell::new(None),
            retired: Cell::new(false),
            dropped: Cell::new(false),
            silent_since: Cell::new(None),
            broke_alone: Cell::new(false),
            on_change: OnceCell::new(),
        })
    }

    pub(super) fn open(self: Rc<Self>, caller: u64) -> OpenStream {
        let slot = self.callers.borrow_mut().add(caller);
        OpenStream { state: self, slot }
    }

    pub(super) fn streams(&self) -> usize {
        self.callers.borrow().len()
    }

    /// A body waits for the peer's window.
    pub(super) fn sends_nothing(&self) {
        if self.stuck.get().is_none() {
            self.stuck.set(Some(Instant::now()));
        }
    }

    pub(super) fn changed(&self) {
        if let Some(call) = self.on_change.get() {
            call();
        }
    }
}
