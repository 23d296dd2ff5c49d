//! What a worker remembers of tokens that it verified, so that the second request of a token
//! costs one digest.
//!
//! One for each worker and each configuration: it holds what the configuration made of a token.

use std::cell::RefCell;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};

use super::issuers::{Issuers, Verified};

/// How long a verdict is kept at most.
const KEPT: SignedDuration = SignedDuration::from_secs(60);

/// The SHA-256 of a token: what is kept of it, so that no dump of memory holds a usable one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

/// What was made of tokens, each until the earlier of its `exp` and a minute, and no longer than
/// its issuer's keys stay the same. Bounded; not shared, so there is no lock.
pub struct Cache<V> {
    entries: RefCell<quick_cache::unsync::Cache<TokenDigest, Entry<V>>>,
}

struct Entry<V> {
    value: V,
    until: Timestamp,
    issuer: usize,
    generation: u64,
}

impl<V: Clone> Cache<V> {
    /// A cache of about so many tokens.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { entries: RefCell::new(quick_cache::unsync::Cache::new(capacity)) }
    }

    /// What was made of a token, while it holds.
    #[must_use]
    pub fn find(&self, token: &TokenDigest, issuers: &Issuers, now: Timestamp) -> Option<V> {
        let entries = self.entries.borrow();
        let entry = entries.get(token)?;
        let holds = now < entry.until && issuers.generation(entry.issuer) == Some(entry.generation);
        holds.then(|| entry.value.clone())
    }

    /// Remembers what was made of a verified token.
    pub fn keep(&self, token: TokenDigest, verified: &Verified, value: V, now: Timestamp) {
        let minute = now.checked_add(KEPT).unwrap_or(now);
        let entry = Entry {
            value,
            until: verified.expires_at.min(minute),
            issuer: verified.issuer,
            generation: verified.generation,
        };
        self.entries.borrow_mut().insert(token, entry);
    }
}
