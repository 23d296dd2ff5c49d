//! When a connection that was kept last gave no answer in time: what was idle then is not used again,
//! by any worker. A failover of a translator of addresses, or a peer that crashed behind a balancer,
//! leaves all of them dead and tells no one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

/// The time of it, shared by the workers: two words that are written only when something fails.
pub(super) struct LastTimeout {
    epoch: Instant,
    /// Milliseconds since then, rounded up; 0 for never.
    at: AtomicU64,
    /// The same of the second half of what was waited: a shared connection on which others were
    /// answered meanwhile is alive.
    silent_since: AtomicU64,
}

impl Default for LastTimeout {
    fn default() -> Self {
        Self { epoch: Instant::now(), at: AtomicU64::new(0), silent_since: AtomicU64::new(0) }
    }
}

impl LastTimeout {
    /// It is now, of a request that had begun then.
    pub(super) fn note(&self, begun: Instant, now: Instant) {
        self.at.fetch_max(self.ms(now) + 1, Relaxed);
        let silent_since = begun + now.saturating_duration_since(begun) / 2;
        self.silent_since.fetch_max(self.ms(silent_since) + 1, Relaxed);
    }

    /// Whether it came after that.
    pub(super) fn is_after(&self, since: Instant) -> bool {
        let at = self.at.load(Relaxed);
        at > 0 && self.ms(since) < at
    }

    /// Whether a shared connection on which an answer last came then is taken to be dead.
    pub(super) fn was_silent(&self, heard: Instant) -> bool {
        let since = self.silent_since.load(Relaxed);
        since > 0 && self.ms(heard) < since
    }

    fn ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX - 1)
    }
}
