//! When a server is given up, and how long until it is retried.

use std::cell::Cell;
use std::time::Duration;

/// As many in a row that were too late, and no one waits any more: one alone may be a server that
/// was busy for a moment.
const TOO_LATE: u32 = 3;

/// The pauses between attempts to reach it.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

/// What is known of a server's answers.
pub(super) struct ServerBreaker {
    late: Cell<u32>,
    pause: Cell<Duration>,
    /// A request was answered on this connection.
    proven: Cell<bool>,
}

impl ServerBreaker {
    pub(super) const fn new() -> Self {
        Self { late: Cell::new(0), pause: Cell::new(SHORTEST), proven: Cell::new(false) }
    }

    /// It has answered.
    pub(super) fn answered(&self) {
        self.late.set(0);
        self.pause.set(SHORTEST);
        self.proven.set(true);
    }

    /// It was late; whether that is once too often.
    pub(super) fn late(&self) -> bool {
        self.late.set(self.late.get() + 1);
        self.late.get() >= TOO_LATE
    }

    /// A new connection begins with a clean slate, but for the pause: that is over when a request
    /// was answered.
    pub(super) fn connected(&self) {
        self.late.set(0);
        self.proven.set(false);
    }

    /// Whether a connection that lived so long, and has ended, is made anew without a pause. One
    /// that was good for nothing is not: that would never end.
    pub(super) fn was_good(&self, lived: Duration) -> bool {
        self.proven.get() || lived >= LONGEST
    }

    /// How long to wait before the next attempt, longer each time; spread, so that many gateways
    /// do not come at once.
    pub(super) fn pause(&self) -> Duration {
        let pause = self.pause.get();
        self.pause.set((pause * 2).min(LONGEST));
        pause.mul_f64(0.75 + fastrand::f64() * 0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_are_late_in_a_row_break_it() {
        let breaker = ServerBreaker::new();
        assert!(!breaker.late() && !breaker.late());
        breaker.answered();
        assert!(!breaker.late() && !breaker.late());
        assert!(breaker.late());
    }

    #[test]
    fn pauses_grow_to_an_end_until_a_request_is_answered() {
        let breaker = ServerBreaker::new();
        for _ in 0..20 {
            breaker.pause();
            breaker.connected();
        }
        assert!((LONGEST / 2..LONGEST * 2).contains(&breaker.pause()));
        assert!(!breaker.was_good(Duration::ZERO) && breaker.was_good(LONGEST));
        breaker.answered();
        assert!(breaker.pause() < SHORTEST * 2);
        assert!(breaker.was_good(Duration::ZERO));
    }
}
