//! Answers on their way to their callers that can be cut. A long one is in flight until it is over:
//! who takes nothing of it must not keep others from asking. And what a caller does not take holds
//! memory: it must not keep the caller's own next requests from being answered.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::evidence::Evidence;

/// Who takes nothing for so long of an answer gives it up to who waits.
const STALLED: Duration = Duration::from_secs(1);

/// What is done with what an answer says of the service, once it is over.
pub(super) type Settle = Box<dyn FnOnce(Evidence)>;

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
    /// One whose request is in flight until it is over, where there is something to settle then.
    pub(in crate::upstream) fn new(
        caller: u64,
        now: Instant,
        settle: Option<Settle>,
        close: impl FnOnce() + 'static,
    ) -> Rc<Self> {
        Rc::new(Self {
            caller,
            settle: RefCell::new(settle),
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

    /// Whether the caller has taken nothing of it for a while, and it is still there.
    fn is_stalled(&self, now: Instant) -> bool {
        self.untaken.get().is_some_and(|since| since + STALLED <= now)
            && self.close.borrow().is_some()
    }

    /// Whether the request is in flight until it is over.
    fn is_in_flight(&self) -> bool {
        self.settle.borrow().is_some()
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
    /// The last caller none of whose answers could be cut, and when that was.
    in_vain_of: Cell<Option<(u64, Instant)>>,
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
    /// than who asks, or else its own; of callers with as many, that of which nothing was taken for
    /// longest. `true` when there was one.
    pub(super) fn give_way(&self, caller: u64, now: Instant) -> bool {
        if self.in_vain.get().is_some_and(|at| is_recent(at, now)) {
            return false;
        }
        let stalled = self.stalled(now, StreamedAnswer::is_in_flight);
        let mut counts: HashMap<u64, usize> = HashMap::new();
        stalled.iter().for_each(|passing| *counts.entry(passing.caller).or_default() += 1);
        let order = |passing: &&Rc<StreamedAnswer>| {
            let count = counts.get(&passing.caller);
            (count.copied(), passing.caller == caller, Reverse(passing.untaken.get()))
        };
        let Some(first) = stalled.iter().max_by_key(order) else {
            self.in_vain.set(Some(now));
            return false;
        };
        first.cut();
        true
    }

    /// Cuts answers of this caller, the one first that it has taken nothing of for longest, until it
    /// has room for what it asks for.
    pub(super) fn give_way_to_own(&self, caller: u64, now: Instant, has_room: impl Fn() -> bool) {
        let in_vain = |(other, at): (u64, Instant)| other == caller && is_recent(at, now);
        if self.in_vain_of.get().is_some_and(in_vain) {
            return;
        }
        let mut own = self.stalled(now, |passing| passing.caller == caller);
        own.sort_by_key(|passing| passing.untaken.get());
        own.iter().take_while(|_| !has_room()).for_each(|passing| passing.cut());
        if !has_room() {
            self.in_vain_of.set(Some((caller, now)));
        }
    }

    /// Those of these that are stalled.
    fn stalled(
        &self,
        now: Instant,
        of_these: impl Fn(&StreamedAnswer) -> bool,
    ) -> Vec<Rc<StreamedAnswer>> {
        let mut all = self.all.borrow_mut();
        all.retain(|passing| passing.strong_count() > 0);
        let there = all.iter().filter_map(Weak::upgrade);
        there.filter(|passing| passing.is_stalled(now) && of_these(passing)).collect()
    }
}

/// Whether it is too early to look again for what can be cut.
fn is_recent(at: Instant, now: Instant) -> bool {
    now.duration_since(at) < STALLED / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of these callers, of which nothing was taken for so many seconds; whose are cut, one
    /// after the other, for the first caller.
    fn cut_for_the_first(answers: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let begun = Instant::now();
        let now = begun + Duration::from_secs(100);
        let (all, cut) = (StreamedAnswers::default(), Rc::new(RefCell::default()));
        let passing: Vec<_> = answers
            .iter()
            .map(|(caller, seconds)| {
                let (one, cut) = ((*caller, *seconds), Rc::clone(&cut));
                let close = move || RefCell::<Vec<_>>::borrow_mut(&cut).push(one);
                let since = now - Duration::from_secs(*seconds);
                let passing = StreamedAnswer::new(*caller, since, Some(Box::new(|_| {})), close);
                all.add(&passing);
                passing
            })
            .collect();
        while all.give_way(1, now) {}
        drop((passing, all));
        Rc::into_inner(cut).map(RefCell::into_inner).unwrap_or_default()
    }

    #[test]
    fn who_takes_nothing_of_most_gives_way_and_of_equals_who_took_nothing_for_longest() {
        assert_eq!(cut_for_the_first(&[(2, 9), (3, 2), (3, 3)])[0], (3, 3));
        assert_eq!(cut_for_the_first(&[(2, 9), (1, 2)])[0], (1, 2), "its own before another's");
        for others in [[2, 3, 4], [4, 3, 2], [3, 2, 4]] {
            let answers: Vec<_> = others.into_iter().zip([5, 7, 6]).collect();
            let waits: Vec<_> =
                cut_for_the_first(&answers).iter().map(|(_, waits)| *waits).collect();
            assert_eq!(waits, [7, 6, 5], "{others:?}");
        }
        assert_eq!(cut_for_the_first(&[(2, 0)]), [], "it took something just now");
    }
}
