//! What is remembered of a credential that held: whose it is, under a fingerprint.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::{Caller, Validity};

/// The SipHash-2-4 of a credential, with 128 bits: a pseudorandom function, at a tenth of what
/// SHA-256 takes where the processor has no instructions for that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(pub(super) u64, pub(super) u64);

/// Who a credential has proved someone to be.
#[derive(Clone)]
pub struct IdentifiedCaller {
    /// Whom.
    pub caller: Arc<Caller>,
    /// For how long.
    pub validity: Validity,
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Takes half of a fingerprint for its hash: it is one.
#[derive(Clone, Copy, Default)]
pub(super) struct Half(u64);

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
