//! The limits, as a worker asks them: in memory at once, in a store when there is one.

use std::sync::Arc;

use super::shared::SharedLimits;
use super::{Allowance, Limits};
use crate::failure::Failure;
use crate::store::Store;

/// The limits of a worker.
pub struct Limiter {
    limits: Arc<Limits>,
    /// `None` where limits are in memory alone.
    shared: Option<SharedLimits>,
}

impl Limiter {
    /// Counts in these limits, and in the store when there is one.
    pub fn new(limits: Arc<Limits>, store: Option<Store>) -> Self {
        let shared = store.map(|store| SharedLimits::new(&limits, store));
        Self { limits, shared }
    }

    /// Takes one request of a caller, a number that is its own in every gateway, out of every
    /// limit it is under, and notes what they have left. Waits for nothing but a store, and for
    /// that no longer than its deadline. A request that begins again has been counted.
    ///
    /// # Errors
    /// `rate_limited` with the limit's name and `Retry-After`; `store_unavailable` where the
    /// profile says that nothing passes without the store.
    pub async fn take(
        &self,
        profile: usize,
        caller: u64,
        allowance: &mut Allowance,
    ) -> Result<(), Failure> {
        if allowance.is_granted() {
            return Ok(());
        }
        match &self.shared {
            None => self.limits.take(profile, caller, allowance)?,
            Some(shared) => shared.take(&self.limits, profile, caller, allowance).await?,
        }
        allowance.grant();
        Ok(())
    }

    /// Forgets and hands in; for the worker's timer.
    pub fn tick(&self) {
        if let Some(shared) = &self.shared {
            shared.tick(&self.limits.decisions);
        }
    }
}
