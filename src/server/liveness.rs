//! Whether the workers move, by a clock that runs only while whoever looks is awake: a process that
//! was stopped as a whole, or a machine that was asleep, has no stuck worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// How often [`Liveness::look`] is to be called.
pub const LOOK: Duration = Duration::from_millis(250);

/// A worker that has not moved for so many looks in a row, 10 s, is stuck. Tests have less time.
const LOOKS: usize = if cfg!(test) { 6 } else { 40 };

/// The beat of a worker that has ended as it was told to.
const ENDED: u64 = u64::MAX;

/// The workers of a server, as seen by whoever looks at them.
pub struct Liveness {
    workers: Vec<WorkerBeat>,
}

#[derive(Default)]
struct WorkerBeat {
    beat: Arc<Beat>,
    /// The beat at the last look.
    before: AtomicU64,
    /// How many looks ago it changed.
    still: AtomicUsize,
}

/// What a worker counts up to show that it moves.
#[derive(Default)]
pub(super) struct Beat(AtomicU64);

impl Beat {
    pub(super) fn moved(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// It does not move any more, and that is right.
    pub(super) fn ended(&self) {
        self.0.store(ENDED, Relaxed);
    }
}

impl Liveness {
    /// Of so many workers.
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: (0..workers).map(|_| WorkerBeat::default()).collect() }
    }

    pub(super) fn beat(&self, worker: usize) -> Arc<Beat> {
        self.workers.get(worker).map(|seen| Arc::clone(&seen.beat)).unwrap_or_default()
    }

    /// Looks at every worker. Called on one thread, four times a second while that is awake.
    pub fn look(&self) {
        for seen in &self.workers {
            let beat = seen.beat.0.load(Relaxed);
            let moved = seen.before.swap(beat, Relaxed) != beat || beat == ENDED;
            let still = if moved { 0 } else { seen.still.load(Relaxed).saturating_add(1) };
            seen.still.store(still, Relaxed);
        }
    }

    /// The first worker that has not moved for 10 s of looking.
    pub fn stuck(&self) -> Option<usize> {
        self.workers.iter().position(|seen| seen.still.load(Relaxed) >= LOOKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_stuck_after_ten_seconds_of_looking_and_not_of_time() {
        let liveness = Liveness::new(2);
        let beats = [liveness.beat(0), liveness.beat(1)];
        beats[1].moved();
        for _ in 0..=LOOKS {
            assert_eq!(liveness.stuck(), None);
            beats[0].moved();
            liveness.look();
        }
        assert_eq!(liveness.stuck(), Some(1));
        beats[1].moved();
        liveness.look();
        assert_eq!(liveness.stuck(), None);
        // However long no one looked, it is not the worker that stood still.
        assert_eq!(liveness.stuck(), None);
    }

    #[test]
    fn a_worker_that_has_ended_is_not_stuck() {
        let liveness = Liveness::new(1);
        liveness.beat(0).ended();
        (0..LOOKS * 2).for_each(|_| liveness.look());
        assert_eq!(liveness.stuck(), None);
    }
}
