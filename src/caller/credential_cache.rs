//! What a worker remembers of credentials that held, so that the second request with one costs a
//! fingerprint: no digest, no signature, no parsing.
//!
//! One for each worker and each configuration, so there is no lock, and nothing outlives what the
//! configuration says. It keeps no credential, and nothing that one could be made of.

use std::cell::RefCell;
use std::hash::BuildHasherDefault;

use jiff::{SignedDuration, Timestamp};
use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

use super::identified_caller::{Fingerprint, Half, IdentifiedCaller};
use super::jwt::Issuers;

/// The most that is remembered, in bytes of the heap.
const MOST_BYTES: u64 = 8 * 1024 * 1024;

/// What an entry takes besides what its caller is made of: its place in the table, which has room for
/// half as many again and is at most half empty.
const ENTRY_BYTES: usize = 3 * (size_of::<Fingerprint>() + size_of::<Remembered>() + 21);

/// How long one is remembered at most.
const KEPT: SignedDuration = SignedDuration::from_secs(60);

/// What a worker remembers. It belongs to one configuration.
pub struct CredentialCache {
    verdicts: RefCell<Cache<Fingerprint, Remembered, Bytes, BuildHasherDefault<Half>>>,
}

/// A verdict, for as long as it is remembered.
#[derive(Clone)]
struct Remembered {
    verdict: IdentifiedCaller,
    until: Timestamp,
    /// What it takes of the heap.
    bytes: u32,
}

impl Default for CredentialCache {
    fn default() -> Self {
        let verdicts = Cache::with(
            usize::try_from(MOST_BYTES).unwrap_or(usize::MAX) / ENTRY_BYTES,
            MOST_BYTES,
            Bytes,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        );
        Self { verdicts: RefCell::new(verdicts) }
    }
}

impl CredentialCache {
    /// Whoever proved to be someone with a credential, as long as that holds.
    pub(super) fn recall(
        &self,
        shown: Fingerprint,
        issuers: &Issuers,
        now: Timestamp,
    ) -> Option<IdentifiedCaller> {
        let verdicts = self.verdicts.borrow();
        let Remembered { verdict, until, .. } = verdicts.get(&shown)?;
        let holds =
            now < *until && verdict.validity.holds(|issuer| issuers.generation(issuer), || now);
        holds.then(|| verdict.clone())
    }

    /// Remembers who a credential proved someone to be: until it ends, and a minute at most.
    pub(super) fn keep(&self, shown: Fingerprint, verdict: IdentifiedCaller, now: Timestamp) {
        let until = now.checked_add(KEPT).unwrap_or(now);
        let bytes = ENTRY_BYTES + verdict.caller.bytes();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.verdicts.borrow_mut().insert(shown, Remembered { verdict, until, bytes });
    }
}

/// Weighs a verdict by what it takes: a token that names many rooms makes a caller of many bytes.
#[derive(Clone, Copy)]
struct Bytes;

impl Weighter<Fingerprint, Remembered> for Bytes {
    fn weight(&self, _: &Fingerprint, remembered: &Remembered) -> u64 {
        u64::from(remembered.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::RoomId;
    use crate::caller::Credential;
    use crate::caller::{Caller, Validity};
    use crate::policy::{Rights, Rooms};

    fn caller(rooms: usize) -> Arc<Caller> {
        let rooms = (0..rooms).map(|room| RoomId::new(&format!("{room:032x}")).unwrap()).collect();
        let rights = Rights { rooms: Rooms::List(rooms), ..Rights::of_profile(0) };
        let credential = Credential::Jwt;
        Arc::new(Caller {
            name: "school/ada".to_owned(),
            number: 1,
            rights,
            credential,
            key_end: None,
        })
    }

    #[test]
    fn what_is_remembered_is_bounded_by_bytes_whatever_tokens_hold() {
        let (now, issuers) = (Timestamp::UNIX_EPOCH, Issuers::default());
        for (rooms, shown, least) in [(0, 20_000, 8_000), (150, 1_000, 200), (900, 200, 40)] {
            let memory = CredentialCache::default();
            for token in 0..shown {
                let verdict =
                    IdentifiedCaller { caller: caller(rooms), validity: Validity::default() };
                memory.keep(Fingerprint(token, token), verdict, now);
            }
            let remembered =
                |token: &u64| memory.recall(Fingerprint(*token, *token), &issuers, now).is_some();
            let kept = (0..shown).filter(remembered).count();
            assert!(kept >= least && kept < shown as usize, "{rooms} rooms: {kept}");
            assert!(memory.verdicts.borrow().weight() <= MOST_BYTES);
        }
    }
}
