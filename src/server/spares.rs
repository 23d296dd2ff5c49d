//! Connections that a worker ends for another one's, in the order that holds for all workers.
//!
//! Only its own worker can end a connection. So each tells four times a second how many of its own
//! could be ended, by rank; whoever needs a place takes one of those on credit where it comes before
//! all of its own, and their worker is woken and ends one. Read when all places are taken and
//! written at a tick, never by a request.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::guard::Rank;

/// As many may be taken of a worker before it has ended one: so far above its bound the process can
/// be for a moment.
const CREDIT: usize = 16;

/// Those of every worker.
pub(super) struct Spares(Vec<Spare>);

/// Those of one.
#[derive(Default)]
struct Spare {
    /// How many of each rank it told of, but for those that were taken since.
    ranks: [AtomicUsize; Rank::ALL.len()],
    /// How many were taken and are still open.
    owed: AtomicUsize,
    taken: Notify,
}

impl Spares {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Spare::default()).collect())
    }

    /// Takes one of another worker that comes before `first`, the first one of its own; of that
    /// which has most of the rank. `false` where there is none.
    pub(super) fn take(&self, own: usize, first: Option<Rank>) -> bool {
        let before = |rank: &Rank| first.is_none_or(|first| *rank < first);
        Rank::ALL.into_iter().take_while(before).any(|rank| {
            let others = self.0.iter().enumerate().filter(|(number, _)| *number != own);
            let most = others.map(|(_, spare)| spare).max_by_key(|spare| spare.left(rank));
            most.is_some_and(|spare| spare.take(rank))
        })
    }

    /// The worker has so many of each rank now.
    pub(super) fn tell(&self, own: usize, ranks: [usize; Rank::ALL.len()]) {
        let Some(spare) = self.0.get(own) else { return };
        let mut owed = spare.owed.load(Ordering::Relaxed);
        for (told, count) in spare.ranks.iter().zip(ranks) {
            let promised = owed.min(count);
            owed -= promised;
            told.store(count - promised, Ordering::Relaxed);
        }
    }

    /// The worker has ended one of this rank by itself.
    pub(super) fn ended(&self, own: usize, rank: Rank) {
        if let Some(spare) = self.0.get(own) {
            // None is left where it was not told of yet.
            _ = spare.less(rank);
        }
    }

    /// Waits until one of the worker's was taken.
    pub(super) async fn taken(&self, own: usize) {
        if let Some(spare) = self.0.get(own) {
            spare.taken.notified().await;
        }
    }

    /// Has as many ended as were taken. What there is none for, since all have become busy, is owed
    /// on.
    pub(super) fn settle(&self, own: usize, mut end: impl FnMut() -> bool) {
        let Some(spare) = self.0.get(own) else { return };
        while spare.owed.load(Ordering::Relaxed) > 0 && end() {
            spare.owed.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Spare {
    /// How many of a rank can be taken now.
    fn left(&self, rank: Rank) -> usize {
        let credit = CREDIT.saturating_sub(self.owed.load(Ordering::Relaxed));
        self.ranks[rank as usize].load(Ordering::Relaxed).min(credit)
    }

    /// One of a rank less; `false` where there was none.
    fn less(&self, rank: Rank) -> bool {
        let relaxed = Ordering::Relaxed;
        let told = &self.ranks[rank as usize];
        told.fetch_update(relaxed, relaxed, |count| count.checked_sub(1)).is_ok()
    }

    fn take(&self, rank: Rank) -> bool {
        let relaxed = Ordering::Relaxed;
        let owes = |owed| (owed < CREDIT).then_some(owed + 1);
        let is_mine = self.less(rank) && self.owed.fetch_update(relaxed, relaxed, owes).is_ok();
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
    fn takes(spares: &Spares, own: usize) -> usize {
        (0..1_000).filter(|_| spares.take(own, None)).count()
    }

    #[test]
    fn as_many_are_taken_as_another_worker_told_of() {
        let spares = Spares::new(2);
        assert_eq!(takes(&spares, 0), 0, "nothing is known");
        spares.tell(1, [0, 0, 0, 3]);
        assert_eq!(takes(&spares, 1), 0, "its own are its own");
        assert_eq!(takes(&spares, 0), 3);
        assert_eq!(takes(&Spares::new(1), 0), 0);
    }

    #[test]
    fn what_is_taken_is_ended_once_and_no_more_is_taken_than_can_be_owed() {
        let spares = Spares::new(3);
        spares.tell(1, [0, 0, 0, 100]);
        spares.tell(2, [0, 0, 0, 4]);
        assert_eq!(takes(&spares, 0), CREDIT + 4);
        // Told of again, and owed still.
        spares.tell(1, [0, 0, 0, 100]);
        assert_eq!(takes(&spares, 0), 0);
        let mut ended = 0;
        spares.settle(1, || {
            ended += 1;
            true
        });
        assert_eq!(ended, CREDIT);
        spares.settle(1, || panic!("nothing is owed"));
        assert_eq!(takes(&spares, 0), CREDIT);
    }

    #[test]
    fn what_cannot_be_ended_now_is_owed_on() {
        let spares = Spares::new(2);
        spares.tell(1, [0, 0, 0, 2]);
        assert_eq!(takes(&spares, 0), 2);
        spares.settle(1, || false);
        spares.tell(1, [0, 0, 0, 2]);
        assert_eq!(takes(&spares, 0), 0, "both are promised");
        let mut ended = 0;
        spares.settle(1, || {
            ended += 1;
            true
        });
        assert_eq!(ended, 2);
    }

    #[tokio::test]
    async fn a_worker_is_woken_when_one_of_its_own_is_taken() {
        let spares = Spares::new(2);
        spares.tell(1, [0, 0, 0, 1]);
        assert!(spares.take(0, None));
        spares.taken(1).await;
    }

    #[test]
    fn only_what_comes_before_the_own_ones_is_taken() {
        let spares = Spares::new(3);
        spares.tell(1, [0, 1, 0, 1]);
        spares.tell(2, [1, 0, 0, 0]);
        assert!(!spares.take(0, Some(Rank::Stalled)));
        assert!(spares.take(0, Some(Rank::Refused)), "one that is stalled");
        assert!(!spares.take(0, Some(Rank::Refused)));
        assert!(spares.take(0, Some(Rank::Idle)), "one that was refused");
        assert!(!spares.take(0, Some(Rank::Idle)));
        assert!(spares.take(0, None));
    }
}
