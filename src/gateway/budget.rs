//! What a request takes from its budgets, before anything is done for it that they are of.

use super::Current;
use super::record::Facts;
use crate::api::Matched;
use crate::budget::{Payer, Refusal, Reservation};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::policy::Permit;

impl Current {
    /// Takes it, and notes what is left. `None` where no budget is of this request, which costs
    /// nothing then.
    ///
    /// # Errors
    /// `quota_exceeded`, and `store_unavailable` when it cannot be written down.
    pub(super) async fn reserve(
        &self,
        permit: &Permit<'_>,
        caller: &Caller,
        asked: &Matched<'_>,
        facts: &mut Facts,
    ) -> Result<Option<Reservation<'_>>, Failure> {
        let budgets = &self.site.budgets;
        if !budgets.apply(permit.profile_index) {
            return Ok(None);
        }
        let second = i64::try_from(facts.at_ms / 1_000).unwrap_or(i64::MAX);
        let payer = Payer { number: caller.number, name: &caller.name };
        let (memory, profile) = (&self.budgets, permit.profile_index);
        let taken = budgets.reserve(memory, profile, payer, asked.operation, second);
        // In a box: requests without a budget have no room for it to carry.
        let (taken, left) = match Box::pin(taken).await {
            Ok(Some(reservation)) => {
                let left = reservation.left.clone();
                (Ok(Some(reservation)), left)
            }
            Ok(None) => (Ok(None), None),
            Err(Refusal { failure, left }) => (Err(failure), left),
        };
        if let Some(left) = left {
            facts.allowance.add_budget(left);
        }
        taken
    }
}

/// What was taken and came to nothing goes back.
pub(super) fn settle(
    reservation: Option<Reservation<'_>>,
    failure: Option<&Failure>,
    asked: &Matched<'_>,
    facts: &Facts,
) {
    if let Some(reservation) = reservation {
        reservation.settle(failure, asked.operation, facts.forwarded.attempts > 0);
    }
}
