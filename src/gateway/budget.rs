//! What a request takes from its budgets before it is served, and what goes back afterwards.

use super::admitted::Admitted;
use super::serve::Served;
use super::state::RequestState;
use super::worker::GatewayWorker;
use crate::api::Operation;
use crate::budget::{BudgetError, Payer, Reservation};
use crate::failure::{Code, Failure};
use crate::upstream::{Call, ResponseBody};

impl GatewayWorker {
    /// Takes it, and notes what is left. `None` where no budget is of this request, which costs
    /// nothing then. What was taken before the request began again is kept, or given back where
    /// something else is to be taken now.
    ///
    /// # Errors
    /// `quota_exceeded`, and `store_unavailable` when it cannot be written down.
    pub(super) async fn reserve(
        &self,
        admitted: &Admitted<'_>,
        state: &mut RequestState,
    ) -> Result<Option<Reservation>, Failure> {
        let Admitted { caller, permit, matched, .. } = admitted;
        let budgets = &self.snapshot.budgets;
        let payer = Payer { number: caller.number, name: &caller.name };
        let (operation, profile) = (matched.operation, permit.profile_index);
        if let Some(before) = state.reservation.take() {
            if budgets.are_served_by(&before, profile, payer, operation) {
                return Ok(Some(*before));
            }
            before.give_back();
        }
        if !budgets.apply(profile) {
            return Ok(None);
        }
        let second = i64::try_from(state.now_ms / 1_000).unwrap_or(i64::MAX);
        let taken = budgets.reserve(&self.budgets, profile, payer, operation, second);
        // In a box: requests without a budget have no room for it to carry.
        let (taken, left) = match Box::pin(taken).await {
            Ok(reservation) => {
                let left = reservation.as_ref().and_then(|taken| taken.left.clone());
                (Ok(reservation), left)
            }
            Err(BudgetError { failure, left }) => (Err(failure), left),
        };
        if let Some(left) = left {
            state.allowance.add_budget(left);
        }
        taken
    }
}

impl RequestState {
    /// Keeps what a request that begins again needs: its body where that is possible, what it has
    /// reserved, and how far the call got.
    pub(super) fn take_back(
        &mut self,
        mut call: Call<'_>,
        reservation: Option<Reservation>,
        served: &Served,
    ) {
        self.progress = call.progress;
        self.body.take_back(&mut call.body, served.failure());
        self.reservation = settle(reservation, served, call.operation);
    }
}

/// What was taken and came to nothing goes back. It is kept for a request that begins again, and
/// until the end of an answer that passes through: see [`settle_at_the_end`].
fn settle(
    reservation: Option<Reservation>,
    served: &Served,
    operation: &Operation,
) -> Option<Box<Reservation>> {
    let reservation = reservation?;
    let goes_on = match &served.answered {
        Ok(answered) => matches!(answered.body(), ResponseBody::Stream(_)),
        Err(failure) => failure.is_superseded(),
    };
    if goes_on {
        return Some(Box::new(reservation));
    }
    reservation.settle(served.failure(), operation, served.sent);
    None
}

/// An answer that passed through, whose head was a success, has failed: what came to nothing goes
/// back.
pub(super) fn settle_at_the_end(reservation: Reservation, code: Code, operation: &Operation) {
    let failure = Failure::fixed(code, "the whiteboard service's answer broke off");
    reservation.settle(Some(&failure), operation, true);
}
