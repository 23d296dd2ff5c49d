//! One budget of one caller, or of a profile, in one window: how much is used, and how much of
//! that is on the disk.
//!
//! Both are halves of one atomic word, so that workers take from it without a lock: what is on the
//! disk already is given out at once, everything else waits for the writer. At every moment the
//! disk says at least as much as was given out.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use crate::budget::claim::BudgetClaim;

/// Which counter: a budget, whose, in which window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WindowKey {
    pub(super) budget: Arc<str>,
    pub(super) caller: u64,
    pub(super) start: i64,
    pub(super) end: i64,
}

/// A counter. Workers claim and release; only the writer changes what is on the disk.
#[derive(Debug)]
pub(super) struct BudgetCounter {
    pub(super) key: WindowKey,
    /// Whose it is, for people; the disk does not know it.
    pub(super) name: Box<str>,
    state: AtomicU64,
    /// How many are in flight: claimed, and no one knows yet what comes of them.
    open: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CounterState {
    /// Given out, or asked for.
    used: u32,
    /// What the disk says.
    durable: u32,
}

/// What came of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claimed {
    /// There is nothing left, and nothing was taken.
    Nothing,
    /// It is on the disk: so many are used now.
    Durable(u32),
    /// It will count when the writer has written it.
    Waits(u32),
}

impl BudgetCounter {
    /// A counter as the disk has it.
    pub(super) const fn new(key: WindowKey, name: Box<str>, durable: u32) -> Self {
        let state = AtomicU64::new(CounterState { used: durable, durable }.packed());
        Self { key, name, state, open: AtomicU64::new(0) }
    }

    /// Takes one, of so many at most.
    pub(super) fn claim(&self, most: u32) -> Claimed {
        let taken = self.change(|state| (state.used < most).then(|| state.with(state.used + 1)));
        let Some(CounterState { used, durable }) = taken else { return Claimed::Nothing };
        self.open.fetch_add(1, AcqRel);
        if used <= durable { Claimed::Durable(used) } else { Claimed::Waits(used) }
    }

    /// Gives back one that was claimed.
    pub(super) fn release(&self) {
        self.change(|state| Some(state.with(state.used.saturating_sub(1))));
        self.settle();
    }

    /// One that was claimed stays used, whatever is known of it now.
    pub(super) fn settle(&self) {
        self.open.fetch_sub(1, AcqRel);
    }

    pub(super) fn used(&self) -> u32 {
        self.state().used
    }

    pub(super) fn open(&self) -> u32 {
        u32::try_from(self.open.load(Acquire)).unwrap_or(u32::MAX)
    }

    /// How many can be claimed without waiting.
    pub(super) fn ready(&self) -> u32 {
        let CounterState { used, durable } = self.state();
        durable.saturating_sub(used)
    }

    /// What the disk is to say next: what is used, and so many ahead. Where that is less than it
    /// says, no one is given any more from here on what is about to be taken back.
    ///
    /// For the writer alone.
    pub(super) fn aim(&self, ahead: u32) -> u32 {
        let aim = |state: CounterState| state.used.saturating_add(ahead);
        let lowered =
            |state: CounterState| CounterState { durable: state.durable.min(aim(state)), ..state };
        self.change(|state| Some(lowered(state))).map_or(0, aim)
    }

    /// The disk says so much. For the writer alone.
    pub(super) fn written(&self, durable: u32) {
        self.change(|state| Some(CounterState { durable, ..state }));
    }

    /// Changes the state as a whole, and gives the new one; `None` when it is to stay.
    fn change(
        &self,
        change: impl Fn(CounterState) -> Option<CounterState>,
    ) -> Option<CounterState> {
        let mut before = self.state.load(Acquire);
        loop {
            let after = change(CounterState::of(before))?;
            match self.state.compare_exchange_weak(before, after.packed(), AcqRel, Acquire) {
                Ok(_) => return Some(after),
                Err(other) => before = other,
            }
        }
    }

    fn state(&self) -> CounterState {
        CounterState::of(self.state.load(Acquire))
    }
}

impl WindowKey {
    pub(super) fn of(claim: &BudgetClaim<'_>) -> Self {
        let BudgetClaim { budget, caller, window, .. } = claim;
        Self { budget: Arc::clone(budget), caller: *caller, start: window.start, end: window.end }
    }

    #[cfg(test)]
    pub(super) fn any() -> Self {
        Self { budget: "backend/tokens-day".into(), caller: 1, start: 0, end: 86_400 }
    }

    pub(super) fn row(&self) -> (&str, u64, i64) {
        (&self.budget, self.caller, self.start)
    }
}

impl CounterState {
    const fn packed(self) -> u64 {
        (self.used as u64) << 32 | self.durable as u64
    }

    const fn of(packed: u64) -> Self {
        Self { used: (packed >> 32) as u32, durable: packed as u32 }
    }

    const fn with(self, used: u32) -> Self {
        Self { used, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counter(durable: u32) -> BudgetCounter {
        BudgetCounter::new(WindowKey::any(), "".into(), durable)
    }

    #[test]
    fn what_is_not_on_the_disk_waits() {
        let counter = counter(0);
        assert_eq!(counter.claim(3), Claimed::Waits(1));
        assert_eq!(counter.aim(0), 1);
        counter.written(1);
        assert_eq!(counter.claim(3), Claimed::Waits(2));
        assert_eq!(counter.aim(5), 7, "ahead of use");
        counter.written(7);
        assert_eq!(counter.claim(3), Claimed::Durable(3));
        assert_eq!(counter.claim(3), Claimed::Nothing);
        assert_eq!((counter.used(), counter.open()), (3, 3));
    }

    #[test]
    fn what_is_given_back_is_given_out_again_without_the_disk() {
        let counter = counter(2);
        counter.claim(9);
        counter.written(counter.aim(0));
        counter.release();
        assert_eq!((counter.used(), counter.open(), counter.ready()), (2, 0, 1));
        assert_eq!(counter.claim(9), Claimed::Durable(3));
        counter.release();
        // Once it is about to be taken back on the disk, it is not.
        assert_eq!(counter.aim(0), 2);
        assert_eq!(counter.claim(9), Claimed::Waits(3));
    }

    #[test]
    fn a_bound_that_was_lowered_gives_out_nothing() {
        assert_eq!(counter(10).claim(5), Claimed::Nothing);
        assert_eq!(counter(10).claim(11), Claimed::Waits(11));
    }

    proptest! {
        /// Claims, releases and the two halves of a write in any command.
        #[test]
        fn the_disk_never_says_less_than_was_given_out(
            steps in prop::collection::vec((0_u8..4, 0_u32..4), 1..200), most in 1_u32..20,
        ) {
            let counter = counter(0);
            let (mut given, mut waiting) = (0_u32, 0_u32);
            let (mut disk, mut aimed): (u32, Option<(u32, u32)>) = (0, None);
            for (step, ahead) in steps {
                match step {
                    0 => match counter.claim(most) {
                        Claimed::Nothing => prop_assert!(counter.used() >= most),
                        Claimed::Durable(_) => given += 1,
                        Claimed::Waits(_) => waiting += 1,
                    },
                    1 if given > 0 => {
                        counter.release();
                        given -= 1;
                    }
                    // It is aimed at, with so many waiting, …
                    2 if aimed.is_none() => aimed = Some((counter.aim(ahead), waiting)),
                    // … and written: those are told.
                    3 => if let Some((aim, told)) = aimed.take() {
                        disk = aim;
                        counter.written(aim);
                        given += told;
                        waiting -= told;
                    },
                    _ => {}
                }
                // While a write is under way, either value may be found on the disk.
                let least = aimed.map_or(disk, |(aim, _)| aim.min(disk));
                prop_assert!(given <= least, "{given} given out, {least} on the disk");
                prop_assert_eq!(counter.used(), given + waiting);
                prop_assert!(counter.used() <= most);
            }
        }
    }
}
