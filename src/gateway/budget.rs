//! What a request takes from its budgets, before anything is done for it that they are of.

use super::Current;
use super::record::Facts;
use crate::api::{Matched, Operation};
use crate::budget::{Payer, Refusal, Reservation};
use crate::caller::Caller;
use crate::failure::Failure;
use crate::policy::Permit;
use crate::telemetry::Outcome;
use crate::upstream::{AnswerBody, Answered};

impl Current {
    /// Takes it, and notes what is left. `None` where no budget is of this request, which costs
    /// nothing then. What was taken before the request began again is kept, or given back where
    /// something else is to be taken now.
    ///
    /// # Errors
    /// `quota_exceeded`, and `store_unavailable` when it cannot be written down.
    pub(super) async fn reserve(
        &self,
        permit: &Permit<'_>,
        caller: &Caller,
        asked: &Matched<'_>,
        facts: &mut Facts,
    ) -> Result<Option<Reservation>, Failure> {
        let budgets = &self.site.budgets;
        let payer = Payer { number: caller.number, name: &caller.name };
        let (memory, profile) = (&self.budgets, permit.profile_index);
        if let Some(before) = facts.reservation.take() {
            if budgets.are_served_by(&before, profile, payer, asked.operation) {
                return Ok(Some(*before));
            }
            before.give_back();
        }
        if !budgets.apply(profile) {
            return Ok(None);
        }
        let second = i64::try_from(facts.now_ms / 1_000).unwrap_or(i64::MAX);
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

/// What was taken and came to nothing goes back. A request that begins again keeps it meanwhile, and so
/// does one whose answer is not over: see [`settle_at_the_end`].
pub(super) fn settle(
    reservation: Option<Reservation>,
    answered: &Result<Answered, Failure>,
    asked: &Matched<'_>,
    facts: &mut Facts,
) {
    let Some(reservation) = reservation else { return };
    let goes_on = match answered {
        Ok(answered) => matches!(answered.body(), AnswerBody::Stream(_)),
        Err(failure) => failure.is_superseded(),
    };
    if goes_on {
        facts.reservation = Some(Box::new(reservation));
    } else {
        let failure = answered.as_ref().err();
        reservation.settle(failure, asked.operation, facts.forwarded.attempts > 0);
    }
}

/// An answer that passed through is over, whose head was a success: what came to nothing after all
/// goes back.
pub(super) fn settle_at_the_end(
    reservation: Reservation,
    outcome: Outcome,
    operation: Option<&Operation>,
) {
    if let (Outcome::Failed(code), Some(operation)) = (outcome, operation) {
        let failure = Failure::fixed(code, "the whiteboard service's answer broke off");
        reservation.settle(Some(&failure), operation, true);
    }
}
