//! Whether the service takes the tokens of a project: a wrong SK makes every request fail, and is
//! nowhere else to be seen.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What the service last said of a project's tokens.
#[derive(Debug, Default)]
pub struct Acceptance {
    /// In milliseconds of Unix time; 0 while they are taken, or nothing is known.
    refused_since_ms: AtomicU64,
    reported: AtomicBool,
}

impl Acceptance {
    /// The service took a token.
    pub fn taken(&self) {
        // Nearly always there is nothing to change, and nothing that workers would write to.
        if self.refused_since_ms.load(Relaxed) != 0 {
            self.refused_since_ms.store(0, Relaxed);
        }
    }

    /// The service took none of the tokens that it was shown. Tells whether that is the first time.
    #[must_use]
    pub fn refused(&self, now_ms: u64) -> bool {
        _ = self.refused_since_ms.compare_exchange(0, now_ms.max(1), Relaxed, Relaxed);
        !self.reported.swap(true, Relaxed)
    }

    /// Since when the service has taken none; `None` while it takes them, or was not asked yet.
    #[must_use]
    pub fn refused_since_ms(&self) -> Option<u64> {
        Some(self.refused_since_ms.load(Relaxed)).filter(|since| *since != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusal_in_a_row_says_since_when_and_the_first_of_all_is_reported() {
        let acceptance = Acceptance::default();
        assert_eq!(acceptance.refused_since_ms(), None);
        assert!(acceptance.refused(5));
        assert!(!acceptance.refused(6));
        assert_eq!(acceptance.refused_since_ms(), Some(5));
        acceptance.taken();
        assert_eq!(acceptance.refused_since_ms(), None);
        assert!(!acceptance.refused(7));
        assert_eq!(acceptance.refused_since_ms(), Some(7));
    }
}
