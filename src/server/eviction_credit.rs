//! Eviction across workers, in one order for all of them.
//!
//! Only its own worker can close a connection. So each worker reports four times a second how many of
//! its connections could be evicted, by rank. A worker that needs a slot takes one of those on credit
//! when it comes before all of its own; the other worker is woken and evicts one. Read only when all
//! slots are taken, written at a tick, never by a request.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::connection_state::Rank;

/// The most evictions that one worker can owe: how far above its limit of connections the process can
/// be for a moment.
const MAX_OWED: usize = 16;

/// The credits of all workers.
pub(super) struct EvictionCredits(Vec<EvictionCredit>);

/// The credit of one worker.
#[derive(Default)]
struct EvictionCredit {
    /// How many of each rank it reported, less those that were taken since.
    ranks: [AtomicUsize; Rank::ALL.len()],
    /// How many were taken and not yet evicted.
    owed: AtomicUsize,
    taken: Notify,
}

impl EvictionCredits {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| EvictionCredit::default()).collect())
    }

    /// Takes one of another worker that comes before `first`, the first one of its own; of that
    /// which has most of the rank. `false` where there is none.
    pub(super) fn take(&self, own: usize, first: Option<Rank>) -> bool {
        let before = |rank: &Rank| first.is_none_or(|first| *rank < first);
        Rank::ALL.into_iter().take_while(before).any(|rank| {
            let others = self.0.iter().enumerate().filter(|(number, _)| *number != own);
            let most = others.map(|(_, credit)| credit).max_by_key(|credit| credit.left(rank));
            most.is_some_and(|credit| credit.take(rank))
        })
    }

    /// The worker has so many of each rank now.
    pub(super) fn report(&self, own: usize, ranks: [usize; Rank::ALL.len()]) {
        let Some(credit) = self.0.get(own) else { return };
        let mut owed = credit.owed.load(Ordering::Relaxed);
        for (told, count) in credit.ranks.iter().zip(ranks) {
            let promised = owed.min(count);
            owed -= promised;
            told.store(count - promised, Ordering::Relaxed);
        }
    }

    /// The worker has ended one of this rank by itself.
    pub(super) fn ended(&self, own: usize, rank: Rank) {
        if let Some(credit) = self.0.get(own) {
            // None is left where it was not told of yet.
            _ = credit.decrement(rank);
        }
    }

    /// Waits until one of the worker's was taken.
    pub(super) async fn taken(&self, own: usize) {
        if let Some(credit) = self.0.get(own) {
            credit.taken.notified().await;
        }
    }

    /// Has as many ended as were taken. What there is none for, since all have become busy, is owed
    /// on.
    pub(super) fn settle(&self, own: usize, mut end: impl FnMut() -> bool) {
        let Some(credit) = self.0.get(own) else { return };
        while credit.owed.load(Ordering::Relaxed) > 0 && end() {
            credit.owed.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl EvictionCredit {
    /// How many of a rank can be taken now.
    fn left(&self, rank: Rank) -> usize {
        let credit = MAX_OWED.saturating_sub(self.owed.load(Ordering::Relaxed));
        self.ranks[rank as usize].load(Ordering::Relaxed).min(credit)
    }

    /// One of a rank less; `false` where there was none.
    fn decrement(&self, rank: Rank) -> bool {
        let relaxed = Ordering::Relaxed;
        let told = &self.ranks[rank as usize];
        told.fetch_update(relaxed, relaxed, |count| count.checked_sub(1)).is_ok()
    }

    fn take(&self, rank: Rank) -> bool {
        let relaxed = Ordering::Relaxed;
        let owes = |owed| (owed < MAX_OWED).then_some(owed + 1);
        let is_mine =
            self.decrement(rank) && self.owed.fetch_update(relaxed, relaxed, owes).is_ok();
        if is_mine {
            self.taken.notify_one();
        }
        is_mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many can be taken for this worker.
    fn takes(credits: &EvictionCredits, own: usize) -> usize {
        (0..1_000).filter(|_| credits.take(own, None)).count()
    }

    #[test]
    fn as_many_are_taken_as_another_worker_told_of() {
        let credits = EvictionCredits::new(2);
        assert_eq!(takes(&credits, 0), 0, "nothing is known");
        credits.report(1, [0, 0, 0, 3]);
        assert_eq!(takes(&credits, 1), 0, "its own are its own");
        assert_eq!(takes(&credits, 0), 3);
        assert_eq!(takes(&EvictionCredits::new(1), 0), 0);
    }

    #[test]
    fn what_is_taken_is_ended_once_and_no_more_is_taken_than_can_be_owed() {
        let credits = EvictionCredits::new(3);
        credits.report(1, [0, 0, 0, 100]);
        credits.report(2, [0, 0, 0, 4]);
        assert_eq!(takes(&credits, 0), MAX_OWED + 4);
        // Told of again, and owed still.
        credits.report(1, [0, 0, 0, 100]);
        assert_eq!(takes(&credits, 0), 0);
        let mut ended = 0;
        credits.settle(1, || {
            ended += 1;
            true
        });
        assert_eq!(ended, MAX_OWED);
        credits.settle(1, || panic!("nothing is owed"));
        assert_eq!(takes(&credits, 0), MAX_OWED);
    }

    #[test]
    fn what_cannot_be_ended_now_is_owed_on() {
        let credits = EvictionCredits::new(2);
        credits.report(1, [0, 0, 0, 2]);
        assert_eq!(takes(&credits, 0), 2);
        credits.settle(1, || false);
        credits.report(1, [0, 0, 0, 2]);
        assert_eq!(takes(&credits, 0), 0, "both are promised");
        let mut ended = 0;
        credits.settle(1, || {
            ended += 1;
            true
        });
        assert_eq!(ended, 2);
    }

    #[tokio::test]
    async fn a_worker_is_woken_when_one_of_its_own_is_taken() {
        let credits = EvictionCredits::new(2);
        credits.report(1, [0, 0, 0, 1]);
        assert!(credits.take(0, None));
        credits.taken(1).await;
    }

    #[test]
    fn only_what_comes_before_the_own_ones_is_taken() {
        let credits = EvictionCredits::new(3);
        credits.report(1, [0, 1, 0, 1]);
        credits.report(2, [1, 0, 0, 0]);
        assert!(!credits.take(0, Some(Rank::Stalled)));
        assert!(credits.take(0, Some(Rank::Refused)), "one that is stalled");
        assert!(!credits.take(0, Some(Rank::Refused)));
        assert!(credits.take(0, Some(Rank::Idle)), "one that was refused");
        assert!(!credits.take(0, Some(Rank::Idle)));
        assert!(credits.take(0, None));
    }
}
