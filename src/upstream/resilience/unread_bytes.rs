//! What the answers hold that their callers have not taken yet, caller by caller: one that takes
//! nothing of what it asks for must not fill the memory. From the half of what it may hold, answers
//! are passed on a little at a time, so that the rest of one that is stalled can give way to what the
//! caller asks for next: one of its clients that hangs must not keep its other clients from answers.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;

use crate::failure::{Code, Failure};

/// What the answers of one caller may hold in a worker before its next request is refused.
const MOST: usize = 32 * 1024 * 1024;

/// From here on, what more the caller is to take can be cut.
const MANY: usize = MOST / 2;

/// What holds less is not counted: the stream that it waits on takes as much.
pub(in crate::upstream) const LEAST: usize = 2 * 1024;

/// A worker's count.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Unread {
    callers: RefCell<HashMap<u64, Account>>,
}

/// What one caller's answers hold. The bytes of an answer are dropped by whoever sends them, which is
/// why it is counted by atomics, on one thread.
#[derive(Clone, Debug, Default)]
pub(in crate::upstream) struct Account(Arc<AtomicUsize>);

/// So many bytes are counted until this is dropped.
#[derive(Debug)]
pub(in crate::upstream) struct Reserved {
    bytes: usize,
    account: Account,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.account.0.fetch_sub(self.bytes, Relaxed);
    }
}

/// Bytes that are counted until they are dropped.
struct CountedBytes {
    bytes: Bytes,
    _reserved: Reserved,
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Whether these bytes are as many as are counted.
pub(in crate::upstream) const fn is_counted(bytes: &Bytes) -> bool {
    bytes.len() > LEAST
}

impl Account {
    /// Counts what a caller is to take, until it has taken it.
    pub(in crate::upstream) fn count(&self, bytes: Bytes) -> Bytes {
        if !is_counted(&bytes) {
            return bytes;
        }
        let reserved = self.reserve(bytes.len());
        Bytes::from_owner(CountedBytes { bytes, _reserved: reserved })
    }

    /// Whether the caller has so much to take already that more of it has to be able to give way.
    pub(in crate::upstream) fn is_high(&self) -> bool {
        self.0.load(Relaxed) >= MANY
    }

    /// Counts so many bytes.
    pub(in crate::upstream) fn reserve(&self, bytes: usize) -> Reserved {
        self.0.fetch_add(bytes, Relaxed);
        Reserved { bytes, account: self.clone() }
    }
}

impl Unread {
    /// Where the answers of a caller are counted.
    pub(super) fn of(&self, caller: u64) -> Account {
        self.callers.borrow_mut().entry(caller).or_default().clone()
    }

    /// Whether a caller has not too much to take already.
    pub(super) fn has_room(&self, caller: u64) -> bool {
        let callers = self.callers.borrow();
        callers.get(&caller).is_none_or(|account| account.0.load(Relaxed) < MOST)
    }

    /// Refuses a caller that has too much to take already.
    ///
    /// # Errors
    /// `overloaded`.
    pub(super) fn check(&self, caller: u64) -> Result<(), Failure> {
        if self.has_room(caller) {
            return Ok(());
        }
        let why = "the answers that the caller has not taken yet hold as much as they may";
        Err(Failure::fixed(Code::Overloaded, why).with_retry_after(Duration::from_secs(1)))
    }

    /// Forgets who has taken all.
    pub(in crate::upstream) fn prune(&self) {
        self.callers.borrow_mut().retain(|_, account| Arc::strong_count(&account.0) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_with_too_much_to_take_is_refused_until_it_has_taken_it() {
        let unread = Unread::default();
        let answer = || unread.of(1).count(Bytes::from(vec![0; 64 * 1024]));
        let mut answers: Vec<Bytes> = (0..MOST / (64 * 1024) - 1).map(|_| answer()).collect();
        assert!(unread.check(1).is_ok());
        // A part of one holds all of it.
        let part = answer().slice(..1);
        assert_eq!(unread.check(1).unwrap_err().code(), Code::Overloaded);
        assert!(unread.check(2).is_ok(), "another has its own");
        unread.prune();
        assert!(unread.check(1).is_err());
        answers.pop();
        assert!(unread.check(1).is_ok());
        drop((answers, part));
        unread.prune();
        assert!(unread.callers.borrow().is_empty());
    }

    #[test]
    fn what_is_short_is_not_counted() {
        let unread = Unread::default();
        let _answers: Vec<Bytes> =
            (0..100).map(|_| unread.of(1).count(Bytes::from("{}"))).collect();
        assert_eq!(unread.of(1).0.load(Relaxed), 0);
    }
}
