//! Which signatures are computed, and for whom they count.
//!
//! Counted, by address, are signatures that were computed for tokens and did not hold; whatever is
//! refused before one is computed is free, and so is what holds. An address that has spent what it
//! may is refused new JWTs alone: one whose signature held before is verified whatever others behind
//! the same address have done since. That memory is the process's, neither a worker's nor a
//! configuration's, and is looked at only where a worker does not remember the credential itself.

use std::hash::BuildHasherDefault;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use siphasher::sip128::SipHasher24;

use super::identified_caller::{Fingerprint, Half};
use super::jwt::MAX_TOKEN_BYTES;
use crate::limit::{Failures, Rate};

/// So many tokens whose signature held are remembered: with what the table itself takes, 20 MiB.
const REMEMBERED: usize = 262_144;

/// What decides whether a signature is computed.
pub(super) struct Throttle {
    failures: Option<Arc<Failures>>,
    authentic: Arc<Authentic>,
}

/// The JWTs whose signature held. One that is over since is still among them: that it is authentic
/// need not be found out again.
struct Authentic {
    /// With the key of the fingerprints. No one knows that, so no one can look for two credentials
    /// with one fingerprint, nor learn anything from how long a lookup takes. Where the system gives
    /// no randomness, nothing is remembered.
    fingerprints: Option<SipHasher24>,
    seen: Cache<Fingerprint, (), UnitWeighter, BuildHasherDefault<Half>>,
}

/// A token that an address shows.
#[derive(Clone, Copy)]
pub(super) struct CredentialAttempt<'a> {
    throttle: Option<&'a Throttle>,
    address: IpAddr,
    shown: Option<Fingerprint>,
}

impl Throttle {
    /// What was counted at the same rate is kept from before, and what was remembered always.
    pub(super) fn new(rate: Option<Rate>, before: Option<&Self>) -> Self {
        let kept = before.and_then(|before| before.failures.as_ref());
        let failures = rate.map(|rate| match kept {
            Some(kept) if kept.rate == rate => Arc::clone(kept),
            _ => Arc::new(Failures::new(rate)),
        });
        let authentic = before.map_or_else(Arc::default, |before| Arc::clone(&before.authentic));
        Self { failures, authentic }
    }

    /// What a credential is remembered by; `None` for a text that is too long for any.
    pub(super) fn fingerprint(&self, credential: &str) -> Option<Fingerprint> {
        if credential.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let hash = self.authentic.fingerprints?.hash(credential.as_bytes());
        Some(Fingerprint(hash.h1, hash.h2))
    }

    /// An address shows a token, which has this fingerprint.
    pub(super) const fn attempt(
        &self,
        address: IpAddr,
        shown: Option<Fingerprint>,
    ) -> CredentialAttempt<'_> {
        CredentialAttempt { throttle: Some(self), address, shown }
    }
}

impl CredentialAttempt<'_> {
    /// A token that no address shows: nothing is known of it, and it counts for no one.
    pub(super) const UNCOUNTED: Self =
        Self { throttle: None, address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), shown: None };

    /// Whether the signature of this very token held before.
    pub(super) fn is_authentic(&self) -> bool {
        let known = |throttle: &Throttle, shown| throttle.authentic.seen.get(&shown).is_some();
        self.throttle.zip(self.shown).is_some_and(|(throttle, shown)| known(throttle, shown))
    }

    /// How long the address must wait before a signature is computed for a token that is not known
    /// as authentic; `None` where it need not.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.throttle?.failures.as_ref()?.wait(self.address)
    }

    /// The signature held.
    pub(super) fn held(&self) {
        if let (Some(throttle), Some(shown)) = (self.throttle, self.shown) {
            throttle.authentic.seen.insert(shown, ());
        }
    }

    /// A signature was computed and did not hold.
    pub(super) fn failed(&self) {
        let Some(throttle) = self.throttle else { return };
        if let Some(failures) = &throttle.failures {
            failures.count(self.address);
        }
        // It did once: the issuer has another key by the same name now.
        if let Some(shown) = self.shown {
            throttle.authentic.seen.remove(&shown);
        }
    }
}

impl Default for Authentic {
    fn default() -> Self {
        let mut key = [0; 16];
        let fingerprints = getrandom::fill(&mut key).map(|()| SipHasher24::new_with_key(&key)).ok();
        let seen = Cache::with(
            REMEMBERED,
            REMEMBERED as u64,
            UnitWeighter,
            BuildHasherDefault::default(),
            DefaultLifecycle::default(),
        );
        Self { fingerprints, seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn throttle(before: Option<&Throttle>) -> Throttle {
        let one = NonZeroU32::MIN;
        let rate = Rate { requests: one, period: Duration::from_secs(3600), burst: one };
        Throttle::new(Some(rate), before)
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn what_held_is_remembered_over_reloads_and_what_address_shows_it_does_not_matter() {
        let first = throttle(None);
        let shown = first.fingerprint("a.b.c");
        assert!(!first.attempt(ADDRESS, shown).is_authentic());
        first.attempt(ADDRESS, shown).held();
        let off = Throttle::new(None, Some(&first));
        let reloaded = throttle(Some(&off));
        assert!(reloaded.fingerprint("a.b.c") == shown, "the key of fingerprints is the process's");
        let elsewhere = IpAddr::from([192, 0, 2, 1]);
        assert!(reloaded.attempt(elsewhere, shown).is_authentic());
        let other = reloaded.fingerprint("a.b.d");
        assert!(!reloaded.attempt(ADDRESS, other).is_authentic());
    }

    #[test]
    fn a_signature_that_held_once_and_does_not_any_more_is_forgotten() {
        let throttle = throttle(None);
        let attempt = throttle.attempt(ADDRESS, throttle.fingerprint("a.b.c"));
        attempt.held();
        assert_eq!(attempt.wait(), None);
        attempt.failed();
        assert!(!attempt.is_authentic());
        assert!(attempt.wait().is_some());
        assert!(throttle.attempt(IpAddr::from([192, 0, 2, 1]), None).wait().is_none());
    }

    #[test]
    fn a_flood_of_tokens_that_are_shown_once_does_not_push_out_those_in_use() {
        let throttle = throttle(None);
        let attempt = |text: &str| throttle.attempt(ADDRESS, throttle.fingerprint(text));
        let honest: Vec<String> = (0..1000).map(|pupil| format!("honest {pupil}")).collect();
        honest.iter().for_each(|token| attempt(token).held());
        for flood in 0..4 * REMEMBERED {
            attempt(&format!("flood {flood}")).held();
            if flood % 10_000 == 0 {
                assert!(honest.iter().all(|token| attempt(token).is_authentic()), "after {flood}");
            }
        }
        assert!(throttle.authentic.seen.len() <= REMEMBERED);
    }
}
