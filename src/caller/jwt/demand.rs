//! Who decides whether the provider is asked for a key that is not there.
//!
//! A token may name a key that came after the last fetch, and a forger can name a new one in
//! each token. So one fetch serves everybody who waits, there is at most one in 30 seconds that
//! was not planned, and an id that a fetch did not bring is not asked for again soon. This module
//! knows no provider and no clock.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The least time between two fetches that were not planned.
pub(super) const BETWEEN_DEMANDS: Duration = Duration::from_secs(30);

/// How long an id that was not there counts as not there.
const ABSENT_FOR: Duration = Duration::from_secs(60);

/// The most ids that are remembered as not there; the oldest are forgotten first.
const MAX_ABSENT: usize = 1024;

/// The most ids that are wanted at a time. One more still profits from the fetch under way.
const MAX_WANTED: usize = 64;

/// The ids of keys that are wanted, and those that are known to be absent.
#[derive(Default)]
pub(super) struct Demand {
    /// How many fetches were started.
    started: u64,
    under_way: bool,
    wanted: Vec<Wanted>,
    absent: VecDeque<(Box<str>, Instant)>,
    /// When the last fetch began that was not planned.
    last: Option<Instant>,
}

struct Wanted {
    id: Box<str>,
    /// How many fetches had been started when it was asked for.
    after: u64,
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
    pub(super) fn ask(&mut self, id: &str, now: Instant) -> Advice {
        if self.absent.iter().any(|(absent, until)| **absent == *id && *until > now) {
            return Advice::Refuse;
        }
        let known = self.wanted.iter().any(|wanted| *wanted.id == *id);
        if !known && self.wanted.len() < MAX_WANTED {
            self.wanted.push(Wanted { id: id.into(), after: self.started });
        }
        if self.under_way || self.allowed_at(now) <= now { Advice::Wait } else { Advice::Refuse }
    }

    /// Whether keys are on their way, or were never asked for: the control thread may start
    /// a moment after the workers.
    pub(super) const fn expecting(&self) -> bool {
        self.under_way || self.started == 0
    }

    /// When a fetch may begin for what is wanted; `None` when nothing is.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        (!self.wanted.is_empty()).then(|| self.allowed_at(now))
    }

    fn allowed_at(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| last + BETWEEN_DEMANDS)
    }

    /// A fetch begins; `planned` ones do not count against the bound.
    pub(super) fn begin(&mut self, planned: bool, now: Instant) {
        self.started += 1;
        self.under_way = true;
        if !planned {
            self.last = Some(now);
        }
    }

    /// The fetch failed: what is wanted stays wanted.
    pub(super) const fn failed(&mut self) {
        self.under_way = false;
    }

    /// The fetch brought a set. What was asked for before it began and is not in it is absent;
    /// what was asked for since may be in the next.
    pub(super) fn settle(&mut self, has: impl Fn(&str) -> bool, now: Instant) {
        self.under_way = false;
        self.absent.retain(|(id, until)| *until > now && !has(id));
        for wanted in std::mem::take(&mut self.wanted) {
            if has(&wanted.id) {
                continue;
            }
            if wanted.after < self.started {
                self.absent.push_back((wanted.id, now + ABSENT_FOR));
            } else {
                self.wanted.push(wanted);
            }
        }
        let surplus = self.absent.len().saturating_sub(MAX_ABSENT);
        self.absent.drain(..surplus);
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
        demand.settle(|_| true, now);
        demand
    }

    #[test]
    fn many_who_ask_for_one_key_make_one_fetch() {
        let now = Instant::now();
        let mut demand = idle(now);
        for _ in 0..1000 {
            assert_eq!(demand.ask("new", now), Advice::Wait);
        }
        assert_eq!(demand.due(now), Some(now));
        demand.begin(false, now);
        assert_eq!(demand.ask("new", now), Advice::Wait);
        demand.settle(|id| id == "new", now);
        assert_eq!(demand.due(now), None);
    }

    #[test]
    fn a_key_that_did_not_come_is_not_asked_for_again_soon() {
        let now = Instant::now();
        let mut demand = idle(now);
        demand.ask("forged", now);
        demand.begin(false, now);
        demand.settle(|_| false, now);
        assert_eq!(demand.ask("forged", after(now, 59)), Advice::Refuse);
        assert_eq!(demand.due(after(now, 59)), None);
        assert_eq!(demand.ask("forged", after(now, 61)), Advice::Wait);
    }

    #[test]
    fn a_forger_makes_one_fetch_in_thirty_seconds() {
        let now = Instant::now();
        let mut demand = idle(now);
        demand.ask("one", now);
        demand.begin(false, now);
        demand.settle(|_| false, now);
        for forged in 0..5000 {
            assert_eq!(demand.ask(&format!("forged {forged}"), after(now, 1)), Advice::Refuse);
        }
        assert_eq!(demand.due(after(now, 1)), Some(after(now, 30)));
        assert!(demand.wanted.len() <= MAX_WANTED);
    }

    #[test]
    fn a_key_asked_for_while_a_fetch_was_under_way_gets_the_next() {
        let now = Instant::now();
        let mut demand = idle(now);
        demand.begin(true, now);
        assert_eq!(demand.ask("new", now), Advice::Wait);
        demand.settle(|_| false, now);
        assert_eq!(demand.ask("new", now), Advice::Wait);
        assert_eq!(demand.due(now), Some(now));
    }

    #[test]
    fn a_failed_fetch_makes_nothing_absent() {
        let now = Instant::now();
        let mut demand = idle(now);
        demand.ask("new", now);
        demand.begin(false, now);
        demand.failed();
        assert_eq!(demand.ask("new", now), Advice::Refuse);
        assert_eq!(demand.due(now), Some(after(now, 30)));
    }
}
