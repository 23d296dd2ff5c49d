//! A request while the service works on it: all that it holds until its answer is over, and who
//! lets it begin.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::breaker::{Breakers, Pass};
use super::concurrency::{ConcurrencyLimit, Permit};
use super::retry::RetryBudget;
use crate::api::{Operation, Pace, Priority};
use crate::failure::Failure;

/// A worker's side of what protects the service and the gateway from each other.
pub(in crate::upstream) struct Admission {
    pub(in crate::upstream) concurrency: Rc<ConcurrencyLimit>,
    pub(in crate::upstream) retry_budget: RetryBudget,
    breakers: Arc<Breakers>,
}

/// What a request holds while it is under way: its leave to ask the region, and its part of what may
/// be asked at once. The one owner of both, whoever waits for the answer.
pub(in crate::upstream) struct InFlight {
    admission: Rc<Admission>,
    /// Until it is settled.
    pass: Option<Pass>,
    pace: Pace,
    begun: Instant,
    _permit: Permit,
}

impl Admission {
    pub(in crate::upstream) fn new(
        concurrency: ConcurrencyLimit,
        breakers: &Arc<Breakers>,
    ) -> Rc<Self> {
        Rc::new(Self {
            concurrency: Rc::new(concurrency),
            retry_budget: RetryBudget::default(),
            breakers: Arc::clone(breakers),
        })
    }

    /// Lets a request begin.
    ///
    /// # Errors
    /// `upstream_unavailable` while the region's breaker is open, `overloaded` when there are as
    /// many already as its priority may fill.
    pub(in crate::upstream) fn begin(
        self: &Rc<Self>,
        region: &[u8],
        operation: &Operation,
        priority: Priority,
        now: Instant,
    ) -> Result<InFlight, Failure> {
        let pass = self.breakers.pass(region, now)?;
        let permit =
            self.concurrency.acquire(priority).inspect_err(|_| self.breakers.release(pass))?;
        Ok(InFlight {
            admission: Rc::clone(self),
            pass: Some(pass),
            pace: operation.pace,
            begun: now,
            _permit: permit,
        })
    }
}

impl InFlight {
    /// It is over, and this came of it.
    pub(in crate::upstream) fn settle<T>(mut self, answered: &Result<T, Failure>, now: Instant) {
        let Admission { concurrency, breakers, .. } = &*self.admission;
        concurrency.observe(self.pace, now - self.begun, now);
        if let Some(pass) = self.pass.take() {
            breakers.settle(pass, answered, now);
        }
    }
}

/// Whoever waited has gone, and nothing is known of what came of it.
impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.admission.breakers.release(pass);
        }
    }
}
