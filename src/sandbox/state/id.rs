//! The ids of what the sandbox makes up, and how many it remembers.

use std::sync::atomic::{AtomicU16, Ordering};

/// As many rooms, and as many tasks, are remembered; the oldest is forgotten for a new one.
pub(super) const KEPT: usize = 10_000;

/// The team of every room: one sandbox is one project.
pub(super) const TEAM_UUID: &str = "c2FuZGJveC10ZWFt";

/// The app of every room.
pub(super) const APP_UUID: &str = "c2FuZGJveC1hcHA";

/// A version-1 UUID without dashes, as rooms have: the lowest bits of the time come first, so
/// their order is not that of time.
pub(super) fn room_uuid(now_ms: u64) -> String {
    static COUNTER: AtomicU16 = AtomicU16::new(0);
    /// From the beginning of the Gregorian calendar to that of Unix time, in steps of 100 ns.
    const GREGORIAN: u64 = 0x01B2_1DD2_1381_4000;
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let ticks = GREGORIAN + now_ms * 10_000 + u64::from(fastrand::u16(..10_000));
    let node = *b"\x01sandb";
    uuid::Builder::from_gregorian_timestamp(ticks, count, &node).into_uuid().simple().to_string()
}

/// A version-4 UUID without dashes, as tasks have.
pub(super) fn task_uuid() -> String {
    let random = fastrand::u128(..).to_ne_bytes();
    uuid::Builder::from_random_bytes(random).into_uuid().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_one_moment_differ() {
        let uuids: std::collections::BTreeSet<_> = (0..10_000).map(|_| room_uuid(5)).collect();
        assert_eq!(uuids.len(), 10_000);
    }
}
