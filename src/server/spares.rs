//! Idle connections that a worker ends for another one, which has none itself.
//!
//! Only its own worker can end a connection. So each tells four times a second how many of its own
//! are idle; whoever needs a place takes one of those on credit, and their worker is woken and ends
//! one. Read when all places are taken and written at a tick, never by a request.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// As many may be taken of a worker before it has ended one: so far above its bound the process can
/// be for a moment.
const CREDIT: usize = 16;

/// Those of every worker.
pub(super) struct Spares(Vec<Spare>);

/// Those of one.
#[derive(Default)]
struct Spare {
    /// How many it told of, but for those that were taken since.
    idle: AtomicUsize,
    /// How many were taken and are still open.
    owed: AtomicUsize,
    taken: Notify,
}

impl Spares {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Spare::default()).collect())
    }

    /// Takes one of another worker, of that which has most. `false` where none can give one.
    pub(super) fn take(&self, own: usize) -> bool {
        let others = self.0.iter().enumerate().filter(|(number, _)| *number != own);
        let most = others.map(|(_, spare)| spare).max_by_key(|spare| spare.left());
        most.is_some_and(Spare::take)
    }

    /// The worker has so many idle connections now.
    pub(super) fn tell(&self, own: usize, idle: usize) {
        if let Some(spare) = self.0.get(own) {
            let owed = spare.owed.load(Ordering::Relaxed);
            spare.idle.store(idle.saturating_sub(owed), Ordering::Relaxed);
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
    /// How many can be taken now.
    fn left(&self) -> usize {
        let credit = CREDIT.saturating_sub(self.owed.load(Ordering::Relaxed));
        self.idle.load(Ordering::Relaxed).min(credit)
    }

    fn take(&self) -> bool {
        let relaxed = Ordering::Relaxed;
        let taken = self.idle.fetch_update(relaxed, relaxed, |idle| idle.checked_sub(1));
        let owes = |owed| (owed < CREDIT).then_some(owed + 1);
        let is_mine = taken.is_ok() && self.owed.fetch_update(relaxed, relaxed, owes).is_ok();
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
        (0..1_000).filter(|_| spares.take(own)).count()
    }

    #[test]
    fn as_many_are_taken_as_another_worker_told_of() {
        let spares = Spares::new(2);
        assert_eq!(takes(&spares, 0), 0, "nothing is known");
        spares.tell(1, 3);
        assert_eq!(takes(&spares, 1), 0, "its own are its own");
        assert_eq!(takes(&spares, 0), 3);
        assert_eq!(takes(&Spares::new(1), 0), 0);
    }

    #[test]
    fn what_is_taken_is_ended_once_and_no_more_is_taken_than_can_be_owed() {
        let spares = Spares::new(3);
        spares.tell(1, 100);
        spares.tell(2, 4);
        assert_eq!(takes(&spares, 0), CREDIT + 4);
        // Told of again, and owed still.
        spares.tell(1, 100);
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
        spares.tell(1, 2);
        assert_eq!(takes(&spares, 0), 2);
        spares.settle(1, || false);
        spares.tell(1, 2);
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
        spares.tell(1, 1);
        assert!(spares.take(0));
        spares.taken(1).await;
    }
}
