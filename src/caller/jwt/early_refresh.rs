//! Who decides whether the provider is asked for a key that is not there.
//!
//! A token may name a key that came after the last fetch, and a forger can name one in each token,
//! that of the key to come included. So nothing is remembered of an id: what a fetch did not bring
//! is absent until the next, and as long as such ids keep coming there is one each five seconds.
//! A token of a new key is refused for that long at most, whatever forgers send. While fetches fail,
//! only the schedule of retries asks again. This module knows no provider and no clock.

use std::time::Duration;

use tokio::time::Instant;

/// The least time between two fetches that were not planned.
pub(super) const BETWEEN_DEMANDS: Duration = Duration::from_secs(5);

/// Whether a key is wanted that is not there.
#[derive(Default)]
pub(super) struct Demand {
    started: bool,
    under_way: bool,
    /// The last fetch failed.
    failing: bool,
    /// A key was asked for since the last fetch began.
    wanted: bool,
    /// When the last fetch began that was not planned.
    last: Option<Instant>,
}

/// What a worker does about a key that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Wait for the fetch that is under way or about to begin.
    Wait,
    /// Refuse: the provider was asked, or may not be asked yet.
    Refuse,
}

impl Demand {
    /// Asks for a key that is not there.
    pub(super) fn ask(&mut self, now: Instant) -> Advice {
        if self.under_way {
            return Advice::Wait;
        }
        self.wanted = true;
        match self.due(now) {
            Some(due) if due <= now => Advice::Wait,
            _ => Advice::Refuse,
        }
    }

    /// Whether keys are on their way, or were never asked for: the control thread may start
    /// a moment after the workers.
    pub(super) const fn expecting(&self) -> bool {
        self.under_way || !self.started
    }

    /// When a fetch may begin for what is wanted; `None` when nothing is, or fetches fail.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let allowed = self.last.map_or(now, |last| last + BETWEEN_DEMANDS);
        (self.wanted && !self.failing).then_some(allowed)
    }

    /// A fetch begins; `planned` ones do not count against the bound.
    pub(super) const fn begin(&mut self, planned: bool, now: Instant) {
        self.started = true;
        self.under_way = true;
        self.wanted = false;
        if !planned {
            self.last = Some(now);
        }
    }

    /// The fetch is over: it brought a set, or failed.
    pub(super) const fn end(&mut self, failed: bool) {
        self.under_way = false;
        self.failing = failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    /// A demand whose first, planned fetch is over.
    fn idle(now: Instant) -> Demand {
        let mut demand = Demand::default();
        demand.begin(true, now);
        demand.end(false);
        demand
    }

    #[test]
    fn many_who_ask_for_one_key_make_one_fetch() {
        let now = Instant::now();
        let mut demand = idle(now);
        for _ in 0..1000 {
            assert_eq!(demand.ask(now), Advice::Wait);
        }
        assert_eq!(demand.due(now), Some(now));
        demand.begin(false, now);
        assert_eq!(demand.ask(now), Advice::Wait);
        demand.end(false);
        assert_eq!(demand.due(now), None, "who waited has the key, or asks again");
    }

    #[test]
    fn while_unknown_keys_are_asked_for_there_is_one_fetch_each_five_seconds() {
        let now = Instant::now();
        let mut demand = idle(now);
        let mut fetches = 0;
        for tenth in 0..600 {
            let now = now + Duration::from_millis(100) * tenth;
            let advice = demand.ask(now);
            if advice == Advice::Wait {
                assert_eq!(demand.due(now).map(|due| due <= now), Some(true));
                demand.begin(false, now);
                demand.end(false);
                fetches += 1;
            }
        }
        assert_eq!(fetches, 12);
    }

    #[test]
    fn a_key_that_a_fetch_did_not_bring_is_asked_for_with_the_next() {
        let now = Instant::now();
        let mut demand = idle(now);
        demand.ask(now);
        demand.begin(false, now);
        demand.end(false);
        assert_eq!(demand.due(after(now, 1)), None);
        assert_eq!(demand.ask(after(now, 1)), Advice::Refuse);
        assert_eq!(demand.due(after(now, 1)), Some(after(now, 5)));
    }

    #[test]
    fn a_planned_fetch_holds_up_none_that_is_wanted() {
        let now = Instant::now();
        let mut demand = idle(now);
        demand.begin(true, now);
        assert_eq!(demand.ask(now), Advice::Wait);
        demand.end(false);
        assert_eq!(demand.ask(now), Advice::Wait, "it may have begun before the key was there");
        assert_eq!(demand.due(now), Some(now));
    }

    #[test]
    fn while_fetches_fail_only_the_schedule_of_retries_asks_again() {
        let now = Instant::now();
        let mut demand = idle(now);
        demand.ask(now);
        demand.begin(false, now);
        demand.end(true);
        assert_eq!(demand.ask(after(now, 60)), Advice::Refuse);
        assert_eq!(demand.due(after(now, 60)), None);
        demand.begin(true, after(now, 60));
        assert_eq!(demand.ask(after(now, 60)), Advice::Wait);
        demand.end(false);
        assert_eq!(demand.ask(after(now, 61)), Advice::Wait);
    }
}
