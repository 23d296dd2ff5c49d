//! Long answers on their way to their callers. Each is in flight until it is over: who takes nothing
//! of them must not keep others from asking.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::evidence::Evidence;

/// Who takes nothing for so long of an answer gives it up to who waits.
const STALLED: Duration = Duration::from_secs(1);

/// What is done with what an answer says of the service, once it is over.
type Settle = Box<dyn FnOnce(Evidence)>;

/// An answer that passes through.
pub(in crate::upstream) struct StreamedAnswer {
    caller: u64,
    /// Until it is over.
    settle: RefCell<Option<Settle>>,
    /// Since when the caller has taken nothing of what is there; none, while it waits for more.
    untaken: Cell<Option<Instant>>,
    /// Closes where it comes from.
    close: RefCell<Option<Box<dyn FnOnce()>>>,
}

impl StreamedAnswer {
    pub(in crate::upstream) fn new(
        caller: u64,
        now: Instant,
        settle: impl FnOnce(Evidence) + 'static,
        close: impl FnOnce() + 'static,
    ) -> Rc<Self> {
        Rc::new(Self {
            caller,
            settle: RefCell::new(Some(Box::new(settle))),
            untaken: Cell::new(Some(now)),
            close: RefCell::new(Some(Box::new(close))),
        })
    }

    /// The caller has got a piece, or waits for the next.
    pub(in crate::upstream) fn untaken(&self, since: Option<Instant>) {
        self.untaken.set(since);
    }

    /// It is over, and this is what it says.
    pub(in crate::upstream) fn settle(&self, evidence: Evidence) {
        let settle = self.settle.take();
        if let Some(settle) = settle {
            settle(evidence);
        }
    }

    fn is_stalled(&self, now: Instant) -> bool {
        self.untaken.get().is_some_and(|since| since + STALLED <= now)
            && self.settle.borrow().is_some()
    }

    fn cut(&self) {
        self.settle(Evidence::None);
        let close = self.close.take();
        if let Some(close) = close {
            close();
        }
    }
}

/// The answers of a worker that pass through.
#[derive(Default)]
pub(super) struct StreamedAnswers {
    all: RefCell<Vec<Weak<StreamedAnswer>>>,
    /// When none was found that could be cut.
    in_vain: Cell<Option<Instant>>,
}

impl StreamedAnswers {
    pub(super) fn add(&self, passing: &Rc<StreamedAnswer>) {
        let mut all = self.all.borrow_mut();
        if all.len() == all.capacity() {
            all.retain(|passing| passing.strong_count() > 0);
        }
        all.push(Rc::downgrade(passing));
    }

    /// Cuts an answer of the caller that takes nothing of most: another one that has more of those
    /// than who asks, or else its own. `true` when there was one.
    pub(super) fn give_way(&self, caller: u64, now: Instant) -> bool {
        let again = |at: Instant| now.duration_since(at) < STALLED / 10;
        if self.in_vain.get().is_some_and(again) {
            return false;
        }
        let stalled: Vec<Rc<StreamedAnswer>> = {
            let mut all = self.all.borrow_mut();
            all.retain(|passing| passing.strong_count() > 0);
            let there = all.iter().filter_map(Weak::upgrade);
            there.filter(|passing| passing.is_stalled(now)).collect()
        };
        let mut counts: HashMap<u64, usize> = HashMap::new();
        stalled.iter().for_each(|passing| *counts.entry(passing.caller).or_default() += 1);
        let most = counts.into_iter().max_by_key(|(other, count)| (*count, *other == caller));
        let Some((most, _)) = most else {
            self.in_vain.set(Some(now));
            return false;
        };
        let of_most = stalled.iter().filter(|passing| passing.caller == most);
        if let Some(longest) = of_most.min_by_key(|passing| passing.untaken.get()) {
            longest.cut();
        }
        true
    }
}
