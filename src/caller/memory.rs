//! What a worker remembers of credentials that held, so that the second request with one costs a
//! fingerprint: no digest, no signature, no parsing.
//!
//! One for each worker and each configuration, so there is no lock, and nothing outlives what the
//! configuration says. It keeps no credential, and nothing that one could be made of.

use std::cell::RefCell;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quick_cache::UnitWeighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};
use siphasher::sip128::SipHasher24;

use super::Caller;
use super::jwt::{Issuers, MAX_TOKEN_BYTES};

/// So many credentials are remembered, about.
const REMEMBERED: usize = 10_000;

/// How long one is remembered at most.
const KEPT: SignedDuration = SignedDuration::from_secs(60);

/// What a worker remembers. It belongs to one configuration.
pub struct Memory {
    /// With the key of the fingerprints. Nobody knows that, so nobody can look for two credentials
    /// with one fingerprint, nor learn anything from how long a lookup takes. Where the system gives
    /// no randomness, nothing is remembered.
    fingerprints: Option<SipHasher24>,
    verdicts: RefCell<Cache<Fingerprint, Verdict, UnitWeighter, BuildHasherDefault<Half>>>,
}

/// The SipHash-2-4 of a credential, with 128 bits: a pseudorandom function, at a tenth of what
/// SHA-256 takes where the processor has no instructions for that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64, u64);

/// Who a credential has proved somebody to be.
#[derive(Clone)]
pub(super) struct Verdict {
    pub(super) caller: Arc<Caller>,
    /// When the credential ends; `None` for one that does not.
    pub(super) until: Option<Timestamp>,
    /// The issuer whose keys it was verified with, and the generation of these.
    pub(super) keys: Option<(usize, u64)>,
}

impl Default for Memory {
    fn default() -> Self {
        let mut key = [0; 16];
        let fingerprints = getrandom::fill(&mut key).map(|()| SipHasher24::new_with_key(&key)).ok();
        let verdicts = Cache::with(
            REMEMBERED,
            REMEMBERED as u64,
            UnitWeighter,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        );
        Self { fingerprints, verdicts: RefCell::new(verdicts) }
    }
}

impl Memory {
    /// What a credential is remembered by; `None` for a text that is too long for any.
    pub(super) fn fingerprint(&self, credential: &str) -> Option<Fingerprint> {
        if credential.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let hash = self.fingerprints?.hash(credential.as_bytes());
        Some(Fingerprint(hash.h1, hash.h2))
    }

    /// Whoever proved to be somebody with a credential, as long as that holds.
    pub(super) fn recall(
        &self,
        shown: Fingerprint,
        issuers: &Issuers,
        now: Timestamp,
    ) -> Option<Arc<Caller>> {
        let verdicts = self.verdicts.borrow();
        let verdict = verdicts.get(&shown)?;
        let same = |(issuer, keys)| issuers.generation(issuer) == Some(keys);
        let holds = verdict.keys.is_none_or(same) && verdict.until.is_some_and(|until| now < until);
        holds.then(|| Arc::clone(&verdict.caller))
    }

    /// Remembers who a credential proved somebody to be: until it ends, and a minute at most.
    pub(super) fn keep(&self, shown: Fingerprint, verdict: Verdict, now: Timestamp) {
        let minute = now.checked_add(KEPT).unwrap_or(now);
        let until = verdict.until.map_or(minute, |until| until.min(minute));
        self.verdicts.borrow_mut().insert(shown, Verdict { until: Some(until), ..verdict });
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Takes half of a fingerprint for its hash: it is one.
#[derive(Clone, Copy, Default)]
struct Half(u64);

impl Hasher for Half {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |sum, byte| (sum << 8) | u64::from(*byte));
    }

    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
