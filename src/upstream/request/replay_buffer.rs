//! The beginning of a body that passes through, kept for another attempt for as long as it is short:
//! a copy, since a piece of a few bytes can hold the whole buffer that it came in.

use bytes::Bytes;

/// So many bytes are kept.
pub(super) const MOST: usize = 64 * 1024;

/// What the attempts got of a body.
pub(super) struct ReplayBuffer {
    bytes: Vec<u8>,
    /// How many of them the present attempt has got.
    given: usize,
    /// Nothing is missing: another attempt can begin with them.
    whole: bool,
}

impl Default for ReplayBuffer {
    fn default() -> Self {
        Self { bytes: Vec::new(), given: 0, whole: true }
    }
}

impl ReplayBuffer {
    /// Whether all is here that any attempt got.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// How many bytes the present attempt has not got.
    pub(super) const fn left(&self) -> usize {
        self.bytes.len() - self.given
    }

    /// Another attempt begins.
    pub(super) const fn rewind(&mut self) {
        self.given = 0;
    }

    /// What the present attempt gets before anything new.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        if self.left() == 0 {
            return None;
        }
        let next = Bytes::copy_from_slice(&self.bytes[self.given..]);
        self.given = self.bytes.len();
        self.forget_what_is_given();
        Some(next)
    }

    /// The present attempt, which has got all of it, gets this as well.
    pub(super) fn keep(&mut self, piece: &[u8]) {
        let length = self.bytes.len() + piece.len();
        if length > MOST {
            self.release();
        }
        if !self.whole {
            return;
        }
        if length > self.bytes.capacity() {
            // Twice as much each time, but never more than may be.
            let room = length.max(2 * self.bytes.capacity()).min(MOST);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        self.given = length;
    }

    /// No further attempt begins with it: what the present one has not got is kept for that alone.
    pub(super) fn release(&mut self) {
        self.whole = false;
        self.forget_what_is_given();
    }

    /// All of it, and what comes behind; `None` where something is missing.
    pub(super) fn into_whole(self, more: &[&[u8]]) -> Option<Bytes> {
        let Self { mut bytes, whole, .. } = self;
        more.iter().for_each(|more| bytes.extend_from_slice(more));
        whole.then(|| bytes.into())
    }

    fn forget_what_is_given(&mut self) {
        if !self.whole && self.left() == 0 {
            (self.bytes, self.given) = (Vec::new(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With so many bytes given, in pieces of that size.
    fn kept(length: usize, size: usize) -> ReplayBuffer {
        let mut kept = ReplayBuffer::default();
        vec![b'x'; length].chunks(size).for_each(|piece| kept.keep(piece));
        kept
    }

    #[test]
    fn what_an_attempt_got_is_what_the_next_one_gets_first() {
        let mut kept = kept(3, 1);
        assert_eq!(kept.next(), None, "the first one has it");
        for more in [&b"y"[..], b"zz", b""] {
            kept.rewind();
            let whole = kept.next().unwrap();
            assert_eq!(kept.next(), None);
            kept.keep(more);
            kept.rewind();
            assert_eq!(kept.next().unwrap(), [&whole, more].concat());
        }
    }

    #[test]
    fn as_much_is_kept_as_may_be_and_nothing_of_what_is_longer() {
        for size in [1, 1_000, MOST] {
            let mut kept = kept(MOST, size);
            assert!(kept.is_whole());
            assert!(kept.bytes.capacity() <= MOST, "{}", kept.bytes.capacity());
            kept.keep(b"x");
            assert!(!kept.is_whole());
            assert_eq!((kept.bytes.capacity(), kept.left()), (0, 0));
            kept.keep(b"x");
            assert_eq!(kept.into_whole(&[]), None);
        }
        assert!(!kept(MOST + 1, MOST + 1).is_whole());
    }

    #[test]
    fn what_the_last_attempt_has_not_got_is_not_lost() {
        let mut kept = kept(5, 5);
        kept.rewind();
        kept.release();
        assert!(!kept.is_whole());
        assert_eq!(kept.next().unwrap(), "xxxxx");
        assert_eq!(kept.bytes.capacity(), 0);
        assert_eq!(kept.next(), None);
    }

    #[test]
    fn a_request_that_begins_again_has_what_was_kept_and_what_was_not_given() {
        assert_eq!(kept(2, 2).into_whole(&[b"y", b"z"]).unwrap(), "xxyz");
        assert_eq!(ReplayBuffer::default().into_whole(&[]).unwrap(), "");
    }
}
