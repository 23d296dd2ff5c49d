//! The clock of the limits: the runtime's, as everywhere on the way of a request, so that whoever
//! owns that one owns this one too.

use std::time::Instant;

use governor::clock::Clock;

/// Asks the runtime; outside of one, the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}
