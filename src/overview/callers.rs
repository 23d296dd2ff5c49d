//! Who called how often in the last hour.
//!
//! A worker counts in a table of its own and tells the shared one at each tick. Both are bounded:
//! of more callers than there is room for, those that called least are added up as others.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError, TryLockError};

use serde::Serialize;

use super::form::{cut, moment};

/// How many callers are known by name when there are more.
const KEPT: usize = 1_000;

/// How many a worker counts before it tells them.
const OF_WORKER: usize = 256;

/// The most bytes of a name.
const NAME: usize = 128;

/// The hour is counted in so many parts, and the oldest is forgotten as a whole …
const PARTS: usize = 12;

/// … of so many milliseconds.
const PART_MS: u64 = 5 * 60 * 1000;

type ByNumber<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

/// A caller's number is eight bytes of a SHA-256, which no caller can choose: it is its own hash.
#[derive(Default)]
struct NumberHasher(u64);

/// What is told of a request of a caller that is known.
#[derive(Clone, Copy, Debug)]
pub struct CallerSeen<'a> {
    /// When it came, in milliseconds of Unix time.
    pub at_ms: u64,
    /// The caller's number.
    pub number: u64,
    /// Its name.
    pub name: &'a str,
    /// How it proved who it is.
    pub credential: Option<&'static str>,
    /// The request failed.
    pub failed: bool,
}

/// How much a caller called.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CallerUse {
    /// Its name, as in access lines.
    pub name: String,
    /// How it last proved who it is.
    pub credential: Option<&'static str>,
    /// Its requests.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// When the last one came, in RFC 3339.
    pub last: String,
}

/// Those that are not known by name any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OtherCallers {
    /// Their requests.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
}

/// Who called in the last hour.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CallersByUse {
    /// Who called most first.
    pub callers: Vec<CallerUse>,
    /// All others together.
    pub others: OtherCallers,
}

#[derive(Clone, Copy, Default)]
struct CallerCounts {
    requests: u32,
    failed: u32,
}

/// What a worker counts of a caller until it tells that.
struct Counted {
    name: Box<str>,
    credential: Option<&'static str>,
    last_ms: u64,
    counts: CallerCounts,
}

#[derive(Default)]
pub(super) struct WorkerCallers(RefCell<PendingCallers>);

#[derive(Default)]
struct PendingCallers {
    callers: ByNumber<Counted>,
    others: CallerCounts,
    /// There is something to tell.
    is_dirty: bool,
    last_ms: u64,
}

struct KnownCaller {
    name: Box<str>,
    credential: Option<&'static str>,
    last_ms: u64,
    parts: [CallerCounts; PARTS],
}

#[derive(Default)]
pub(super) struct CallerTable(Mutex<Table>);

#[derive(Default)]
struct Table {
    /// The number of the part that is counted now.
    part: u64,
    callers: ByNumber<KnownCaller>,
    others: [CallerCounts; PARTS],
}

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| (sum << 8) | u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl CallerCounts {
    fn count(&mut self, failed: bool) {
        self.add(Self { requests: 1, failed: failed.into() });
    }

    fn add(&mut self, more: Self) {
        self.requests = self.requests.saturating_add(more.requests);
        self.failed = self.failed.saturating_add(more.failed);
    }

    fn sum(parts: &[Self]) -> (u64, u64) {
        parts.iter().fold((0, 0), |(requests, failed), part| {
            (requests + u64::from(part.requests), failed + u64::from(part.failed))
        })
    }
}

impl WorkerCallers {
    #[inline]
    pub(super) fn count(&self, table: &CallerTable, seen: &CallerSeen<'_>) {
        let mut counting = self.0.borrow_mut();
        (counting.is_dirty, counting.last_ms) = (true, seen.at_ms);
        match counting.callers.get_mut(&seen.number) {
            Some(known) => {
                (known.last_ms, known.credential) = (seen.at_ms, seen.credential);
                known.counts.count(seen.failed);
            }
            None => counting.begin(table, seen),
        }
    }

    pub(super) fn hand_over(&self, table: &CallerTable) {
        let mut counting = self.0.borrow_mut();
        if counting.is_dirty {
            counting.tell(table);
        }
    }
}

impl PendingCallers {
    /// CallerCounts the first request of a caller.
    #[cold]
    fn begin(&mut self, table: &CallerTable, seen: &CallerSeen<'_>) {
        if self.callers.len() >= OF_WORKER {
            self.tell(table);
            // Whoever calls at this moment has their turn.
            if !self.is_dirty {
                self.callers.clear();
            }
            self.is_dirty = true;
        }
        if self.callers.len() >= OF_WORKER {
            self.others.count(seen.failed);
            return;
        }
        let mut counts = CallerCounts::default();
        counts.count(seen.failed);
        let CallerSeen { at_ms: last_ms, number, name, credential, .. } = *seen;
        let name = cut(name, NAME).into();
        self.callers.insert(number, Counted { name, credential, last_ms, counts });
    }

    /// Tells what was counted, unless someone else has the table. Names stay: whoever called just
    /// now calls again, and then no name is copied.
    fn tell(&mut self, table: &CallerTable) {
        let mut table = match table.0.try_lock() {
            Ok(table) => table,
            Err(TryLockError::Poisoned(table)) => table.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        table.begin(self.last_ms);
        for (number, counted) in &mut self.callers {
            let counts = std::mem::take(&mut counted.counts);
            if counts.requests > 0 {
                table.add(*number, counted, counts);
            }
        }
        table.add_others(std::mem::take(&mut self.others));
        self.is_dirty = false;
    }
}

impl Table {
    /// CallerCounts in the part of this moment from now on. A clock that goes back changes nothing.
    fn begin(&mut self, at_ms: u64) {
        let part = at_ms / PART_MS;
        if part <= self.part {
            return;
        }
        let passed = usize::try_from(part - self.part).unwrap_or(PARTS).min(PARTS);
        self.part = part;
        let now = Self::index(part);
        for back in 0..passed {
            let index = (now + PARTS - back) % PARTS;
            self.others[index] = CallerCounts::default();
            self.callers
                .values_mut()
                .for_each(|entry| entry.parts[index] = CallerCounts::default());
        }
        self.callers.retain(|_, entry| CallerCounts::sum(&entry.parts).0 > 0);
    }

    fn index(part: u64) -> usize {
        usize::try_from(part % PARTS as u64).unwrap_or_default()
    }

    fn add(&mut self, number: u64, counted: &Counted, counts: CallerCounts) {
        let index = Self::index(self.part);
        let entry = self.callers.entry(number).or_insert_with(|| KnownCaller {
            name: counted.name.clone(),
            credential: None,
            last_ms: 0,
            parts: [CallerCounts::default(); PARTS],
        });
        entry.credential = counted.credential;
        entry.last_ms = entry.last_ms.max(counted.last_ms);
        entry.parts[index].add(counts);
        if self.callers.len() >= 2 * KEPT {
            self.keep_the_most();
        }
    }

    fn add_others(&mut self, counts: CallerCounts) {
        self.others[Self::index(self.part)].add(counts);
    }

    /// Half of the callers are known on by name, those that called most. That is done once for as
    /// many new ones as are kept, so it costs each of them little.
    fn keep_the_most(&mut self) {
        let mut by_use: Vec<(u64, u64)> = self
            .callers
            .iter()
            .map(|(number, entry)| (CallerCounts::sum(&entry.parts).0, *number))
            .collect();
        by_use.select_nth_unstable_by_key(KEPT - 1, |(requests, _)| Reverse(*requests));
        for (_, number) in by_use.split_off(KEPT) {
            if let Some(entry) = self.callers.remove(&number) {
                self.others.iter_mut().zip(entry.parts).for_each(|(sum, part)| sum.add(part));
            }
        }
    }
}

impl CallerTable {
    pub(super) fn view(&self) -> CallersByUse {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut callers: Vec<CallerUse> = table
            .callers
            .values()
            .map(|entry| {
                let (requests, failed) = CallerCounts::sum(&entry.parts);
                CallerUse {
                    name: entry.name.to_string(),
                    credential: entry.credential,
                    requests,
                    failed,
                    last: moment(entry.last_ms),
                }
            })
            .collect();
        let (requests, failed) = CallerCounts::sum(&table.others);
        drop(table);
        callers.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name.cmp(&b.name)));
        let mut others = OtherCallers { requests, failed };
        for one in callers.drain(callers.len().min(KEPT)..) {
            others.requests += one.requests;
            others.failed += one.failed;
        }
        CallersByUse { callers, others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of callers are spread over all values.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

    fn told(at_ms: u64, number: u64, name: &str) -> CallerSeen<'_> {
        let number = number.wrapping_mul(SPREAD);
        CallerSeen { at_ms, number, name, credential: Some("key"), failed: false }
    }

    #[test]
    fn callers_are_listed_by_use_once_a_tick_has_told_them() {
        let (table, worker) = (CallerTable::default(), WorkerCallers::default());
        let another = WorkerCallers::default();
        for at_ms in 1..=3 {
            worker.count(&table, &told(at_ms, 1, "ada"));
        }
        another.count(&table, &told(4, 1, "ada"));
        let failed = CallerSeen { failed: true, ..told(9, 2, "bob") };
        another.count(&table, &failed);
        assert!(table.view().callers.is_empty());
        worker.hand_over(&table);
        another.hand_over(&table);
        worker.hand_over(&table);
        let CallersByUse { callers, others } = table.view();
        let shown: Vec<_> =
            callers.iter().map(|one| (one.name.as_str(), one.requests, one.failed)).collect();
        assert_eq!(shown, [("ada", 4, 0), ("bob", 1, 1)]);
        assert_eq!(
            (callers[1].last.as_str(), others),
            ("1970-01-01T00:00:00.009Z", OtherCallers::default())
        );
    }

    #[test]
    fn an_hour_later_a_caller_is_forgotten() {
        let (table, worker) = (CallerTable::default(), WorkerCallers::default());
        let hour = PART_MS * PARTS as u64;
        let start = 17 * hour;
        worker.count(&table, &told(start, 1, "ada"));
        worker.hand_over(&table);
        worker.count(&table, &told(start + hour - 1, 2, "bob"));
        worker.hand_over(&table);
        assert_eq!(table.view().callers.len(), 2);
        worker.count(&table, &told(start + hour, 2, "bob"));
        worker.hand_over(&table);
        let callers = table.view().callers;
        assert_eq!((callers.len(), callers[0].requests), (1, 2));
        worker.count(&table, &told(start + 100 * hour, 3, "eve"));
        worker.hand_over(&table);
        assert_eq!(table.view().callers.len(), 1);
    }

    #[test]
    fn of_too_many_callers_those_that_call_most_are_known_and_every_request_is_counted() {
        let (table, worker) = (CallerTable::default(), WorkerCallers::default());
        let mut requests = 0;
        for number in 0..20_000 {
            let name = format!("school/{number}");
            worker.count(&table, &told(number, number, &name));
            requests += 1;
            if number % 10 == 0 {
                worker.count(&table, &told(number, u64::MAX, "backend"));
                requests += 1;
            }
            if number % 1_000 == 0 {
                worker.hand_over(&table);
            }
        }
        worker.hand_over(&table);
        let CallersByUse { callers, others } = table.view();
        assert_eq!(callers.len(), KEPT);
        assert_eq!((callers[0].name.as_str(), callers[0].requests), ("backend", 2_000));
        let known: u64 = callers.iter().map(|one| one.requests).sum();
        assert_eq!(known + others.requests, requests);
        assert!(table.0.lock().unwrap().callers.len() < 2 * KEPT);
        assert!(worker.0.borrow().callers.len() <= OF_WORKER);
    }

    #[test]
    fn a_worker_does_not_wait_for_whoever_has_the_table() {
        let (table, worker) = (CallerTable::default(), WorkerCallers::default());
        let reader = table.0.lock().unwrap();
        for number in 0..1_000 {
            worker.count(&table, &told(1, number, "one of many"));
        }
        worker.hand_over(&table);
        drop(reader);
        worker.hand_over(&table);
        let CallersByUse { callers, others } = table.view();
        assert_eq!(callers.len(), OF_WORKER);
        assert_eq!(others.requests, 1_000 - OF_WORKER as u64);
    }
}
