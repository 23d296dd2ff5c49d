//! A request while the service works on it: all that it holds until its answer is over, and who
//! lets it begin.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{BreakerPermit, Breakers};
use super::concurrency::{ConcurrencyLimit, ConcurrencyPermit, ConcurrencySettings};
use super::evidence::{Evidence, Witness};
use super::retry::RetryBudget;
use super::streamed_answers::{StreamedAnswer, StreamedAnswers};
use super::unread_bytes::{Account, Unread};
use crate::api::{OperationId, Pace, Priority};
use crate::failure::Failure;
use crate::upstream::request::call::Call;

/// A worker's side of what protects the service and the gateway from each other.
pub(in crate::upstream) struct Admission {
    pub(in crate::upstream) concurrency: Rc<ConcurrencyLimit>,
    pub(in crate::upstream) retry_budget: Rc<RetryBudget>,
    pub(in crate::upstream) unread: Rc<Unread>,
    passing: Rc<StreamedAnswers>,
    breakers: Arc<Breakers>,
}

/// What a request holds while it is under way: its leave to ask the region, and its part of what may
/// be asked at once. The one owner of both, whoever waits for the answer.
pub(in crate::upstream) struct InFlight {
    admission: Rc<Admission>,
    /// Until it is settled.
    pass: Option<BreakerPermit>,
    witness: Witness,
    caller: u64,
    /// The operation, where it is a quick one: those alone tell how fast the service is.
    quick: Option<OperationId>,
    /// How long the answer of success took that it got.
    took: Option<Duration>,
    _permit: ConcurrencyPermit,
}

impl Admission {
    pub(in crate::upstream) fn new(
        concurrency: ConcurrencyLimit,
        breakers: &Arc<Breakers>,
    ) -> Rc<Self> {
        Rc::new(Self {
            concurrency: Rc::new(concurrency),
            retry_budget: Rc::default(),
            unread: Rc::default(),
            passing: Rc::default(),
            breakers: Arc::clone(breakers),
        })
    }

    /// The same under other bounds: what is counted goes on.
    pub(in crate::upstream) fn follow(
        &self,
        settings: ConcurrencySettings,
        breakers: &Arc<Breakers>,
    ) -> Rc<Self> {
        self.concurrency.follow(settings);
        Rc::new(Self {
            concurrency: Rc::clone(&self.concurrency),
            retry_budget: Rc::clone(&self.retry_budget),
            unread: Rc::clone(&self.unread),
            passing: Rc::clone(&self.passing),
            breakers: Arc::clone(breakers),
        })
    }

    /// Lets a request begin.
    ///
    /// # Errors
    /// `upstream_unavailable` while the region's breaker is open, `overloaded` when there are as
    /// many already as its priority may fill, or the caller has too much to take already.
    pub(in crate::upstream) fn begin(
        self: &Rc<Self>,
        call: &Call<'_>,
        now: Instant,
    ) -> Result<InFlight, Failure> {
        let eager = call.operation.idempotent && call.operation.pace == Pace::Quick;
        if !self.unread.has_room(call.caller) {
            let has_room = || self.unread.has_room(call.caller);
            self.passing.give_way_to_own(call.caller, now, has_room);
            self.unread.check(call.caller)?;
        }
        let pass = self.breakers.pass(call.region.as_bytes(), eager, now)?;
        self.make_room(call.caller, call.priority, now);
        let permit = self.concurrency.acquire(call.priority);
        let permit = permit.inspect_err(|_| self.breakers.release(pass))?;
        let witness = Witness::new(call.caller, call.operation_id.index());
        let quick = (call.operation.pace == Pace::Quick).then_some(call.operation_id);
        let (admission, pass, caller) = (Rc::clone(self), Some(pass), call.caller);
        Ok(InFlight { admission, pass, witness, caller, quick, took: None, _permit: permit })
    }

    /// Makes room for one more request, where there is none and an answer is in the way of which its
    /// caller takes nothing.
    pub(in crate::upstream) fn make_room(&self, caller: u64, priority: Priority, now: Instant) {
        while !self.concurrency.has_room(priority) && self.passing.give_way(caller, now) {}
    }
}

impl InFlight {
    /// Keeps it until its answer has passed through, or has to give way.
    pub(in crate::upstream) fn passes(
        self,
        now: Instant,
        close: impl FnOnce() + 'static,
    ) -> Rc<StreamedAnswer> {
        let (admission, caller) = (Rc::clone(&self.admission), self.caller());
        let settle = move |evidence| self.settle(evidence, Instant::now());
        let passing = StreamedAnswer::new(caller, now, Some(Box::new(settle)), close);
        admission.passing.add(&passing);
        passing
    }

    /// Settles it, and keeps of its answer only that it can be cut.
    pub(in crate::upstream) fn leaves(
        self,
        evidence: Evidence,
        now: Instant,
        close: impl FnOnce() + 'static,
    ) -> Rc<StreamedAnswer> {
        let admission = Rc::clone(&self.admission);
        let passing = StreamedAnswer::new(self.caller(), now, None, close);
        self.settle(evidence, now);
        admission.passing.add(&passing);
        passing
    }

    /// Whether what comes of it decides if the region works again.
    pub(in crate::upstream) fn is_probe(&self) -> bool {
        self.pass.as_ref().is_some_and(BreakerPermit::is_probe)
    }

    /// The number of its caller.
    pub(in crate::upstream) const fn caller(&self) -> u64 {
        self.caller
    }

    /// Where what it brings is counted until the caller has taken it.
    pub(in crate::upstream) fn unread(&self) -> Account {
        self.admission.unread.of(self.caller)
    }

    /// It got an answer of success, after so long. What comes of that is known at its end.
    pub(in crate::upstream) const fn succeeded(&mut self, took: Duration) {
        self.took = Some(took);
    }

    /// It is over, and this is what it says.
    pub(in crate::upstream) fn settle(mut self, evidence: Evidence, now: Instant) {
        if let Some(pass) = self.pass.take() {
            self.admission.breakers.settle(pass, evidence, self.witness, now);
        }
        if let (Evidence::Works, Some(operation), Some(took)) = (evidence, self.quick, self.took) {
            self.admission.concurrency.observe(operation, took, now);
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
