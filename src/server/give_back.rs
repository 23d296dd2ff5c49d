//! Memory that connections no longer use goes back to the system.
//!
//! The allocator gives freed pages back when it frees others beside them a moment later. When the last
//! of a burst go idle or close, nothing is freed any more, and what they had would stay as long as it
//! is quiet: 10 KiB of each idle connection, and most of a burst on HTTP/2.

use std::hint::black_box;

/// So many ticks after the last time, memory is given back though connections still let go of some.
const AT_LEAST: u32 = 20;

/// More than a process can address, and less than what the allocator refuses at once.
const IMPOSSIBLE: usize = (1 << 48) - (1 << 20);

/// When a worker is to give memory back.
#[derive(Default)]
pub(super) struct GiveBack {
    /// Whether connections have let go of memory since the last time.
    due: bool,
    /// How many ticks ago that was.
    ticks: u32,
}

impl GiveBack {
    /// Whether now is the time, at a tick: as soon as connections have let go of memory, and no more of
    /// them do.
    pub(super) fn tick(&mut self, released: bool) -> bool {
        self.ticks = self.ticks.saturating_add(1);
        self.due |= released;
        let now = self.due && (!released || self.ticks >= AT_LEAST);
        if now {
            *self = Self::default();
        }
        now
    }
}

/// Has the allocator give back the pages of this thread that nothing is on.
///
/// No safe function asks it for that. But it does so before it says that there is no memory, so it is
/// asked for what cannot be. That takes a few system calls, and one for each run of pages that goes.
pub(super) fn give_back() {
    let mut never: Vec<u8> = Vec::new();
    _ = black_box(never.try_reserve_exact(black_box(IMPOSSIBLE)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_when_no_connection_lets_go_of_more() {
        let mut give_back = GiveBack::default();
        let released = [false, true, true, false, false, true, false];
        let given = released.map(|released| give_back.tick(released));
        assert_eq!(given, [false, false, false, true, false, false, true]);
    }

    #[test]
    fn memory_is_given_back_now_and_then_where_connections_come_and_go_all_the_time() {
        let mut give_back = GiveBack::default();
        let given = (0..200).filter(|_| give_back.tick(true)).count();
        assert_eq!(given, 10);
    }

    #[test]
    fn what_the_allocator_is_asked_for_cannot_be() {
        assert!(Vec::<u8>::new().try_reserve_exact(IMPOSSIBLE).is_err());
        give_back();
    }
}
