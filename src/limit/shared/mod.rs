//! Limits that several gateways share, in a store: GCRA as one script, which looks at every limit
//! of a request and then takes from all of them or from none.
//!
//! The time is the store's own: the clock of a gateway only measures how long ago something was.
//! When the store does not answer, each profile says what happens; no one waits for longer than
//! the store's deadline.

mod lease;
mod plan;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::decisions::{ByDecision, Decided};
use super::{Allowance, Limits, OnStoreError, Scope};
use crate::failure::{Code, Failure};
use crate::metric::Counter;
use crate::store::{Script, Store, StoreError};
use lease::{CallerLease, LeaseCache};
use plan::{KeyScope, Plan};

static GCRA: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("gcra.lua")));

/// When one that was refused for lack of the store may retry.
const RETRY: Duration = Duration::from_secs(1);

/// The shared limits, as a worker sees them.
pub(super) struct SharedLimits {
    store: Store,
    plans: Vec<Plan>,
    leases: LeaseCache,
    decided: Decided,
}

/// What the limits say.
enum Decision {
    /// It passes; what each limit has left.
    Passed([u32; 3]),
    /// That limit, by its place in the plan, refuses for so long.
    Refused { place: usize, wait: Duration, left: [u32; 3] },
}

impl SharedLimits {
    pub(super) fn new(limits: &Limits, store: Store) -> Self {
        let gateway = limits.gateway_rate;
        let plan = |profile: &super::ProfileLimits<_>| {
            let rates = &profile.rates;
            let place = KeyScope {
                prefix: &store.shared().settings.prefix,
                profile: &rates.name,
                gateway: gateway.is_some(),
            };
            let scopes = [
                (Scope::Caller, rates.caller),
                (Scope::Profile, rates.shared),
                (Scope::Gateway, gateway),
            ];
            Plan::new(&place, &scopes, rates.on_store_error, limits.replicas.lease)
        };
        let plans: Vec<Plan> = limits.profiles.iter().map(plan).collect();
        let leases = LeaseCache::new(plans.len());
        Self { store, plans, leases, decided: Decided::default() }
    }

    pub(super) async fn take(
        &self,
        limits: &Limits,
        profile: usize,
        caller: u64,
        allowance: &mut Allowance,
    ) -> Result<(), Failure> {
        let Some(plan) = self.plans.get(profile) else { return Ok(()) };
        if plan.limits.is_empty() {
            return Ok(());
        }
        let counted_as = if plan.is_by_caller() { caller } else { 0 };
        let now = Instant::now();
        let known = self.leases.known(profile, counted_as, now);
        let decided = match self.recall(plan, profile, &known, now) {
            Some(decision) => {
                match decision {
                    Decision::Passed(_) => count(&self.decided.lease),
                    Decision::Refused { .. } => count(&self.decided.memory),
                }
                Ok(decision)
            }
            // Boxed: who need not ask has not to carry it.
            None => Box::pin(self.ask(plan, profile, counted_as, &known)).await,
        };
        match decided {
            Ok(decision) => {
                if let (Decision::Passed(_), OnStoreError::Local) = (&decision, plan.on_error) {
                    limits.warm(profile, caller);
                }
                let limits = limits.profiles.get(profile);
                allowance.begin(limits.and_then(|one| one.policy.clone()));
                let name = limits.map_or("", |one| &one.rates.name);
                note(&decision, plan, allowance, name)
            }
            Err(_) => {
                count(&self.decided.degraded);
                match plan.on_error {
                    OnStoreError::Local => limits.take_apart(profile, caller, allowance),
                    OnStoreError::Open => Ok(()),
                    OnStoreError::Closed => Err(no_store()),
                }
            }
        }
    }

    /// Decides by what is known here, where that will do.
    fn recall(
        &self,
        plan: &Plan,
        profile: usize,
        known: &CallerLease,
        now: Instant,
    ) -> Option<Decision> {
        if let Some(left) = known.take(now) {
            return Some(Decision::Passed(left));
        }
        let (scope, wait) = self.leases.refusal(known, profile, now)?;
        let place = plan.limits.iter().position(|limit| limit.scope == scope)?;
        Some(Decision::Refused { place, wait, left: [0; 3] })
    }

    async fn ask(
        &self,
        plan: &Plan,
        profile: usize,
        caller: u64,
        known: &Rc<CallerLease>,
    ) -> Result<Decision, StoreError> {
        let deadline = self.store.deadline();
        // Without leases there is nothing to wait for: each asks for itself.
        let mut _asking = None;
        if plan.lease > 1 {
            loop {
                _asking = known.ask();
                if _asking.is_some() {
                    break;
                }
                timeout_at(deadline, known.asked()).await.map_err(|_| StoreError::Late)?;
                if let Some(decision) = self.recall(plan, profile, known, Instant::now()) {
                    return Ok(decision);
                }
            }
        }
        let asked_at = Instant::now();
        let wanted = known.wanted(plan.lease, asked_at);
        let keys = plan.keys(caller);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self.store.run(&GCRA, &keys, &plan.arguments(wanted), deadline).await?;
        let answer = GcraReply::read(&answer, plan).ok_or(StoreError::Failed)?;
        count(&self.decided.store);
        if let Some((place, wait)) = answer.empty {
            let scope = plan.limits[place].scope;
            let until = asked_at + wait.max(plan.pause);
            self.leases.refuse(scope, known, profile, until);
            if answer.taken == 0 {
                return Ok(Decision::Refused { place, wait, left: answer.left });
            }
        }
        known.pass(asked_at);
        known.leased(answer.taken - 1, answer.left, asked_at);
        Ok(Decision::Passed(answer.left.map(|left| left.saturating_add(answer.taken - 1))))
    }

    /// Forgets callers that have not called for a while, and hands in what was counted.
    pub(super) fn tick(&self, decisions: &ByDecision<Counter>) {
        self.leases.forget_idle(Instant::now());
        decisions.take(&self.decided);
    }
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// What the script says.
struct GcraReply {
    taken: u32,
    /// The limit that has nothing left, and for how long.
    empty: Option<(usize, Duration)>,
    left: [u32; 3],
}

impl GcraReply {
    fn read(numbers: &[i64], plan: &Plan) -> Option<Self> {
        let [taken, empty, wait, left @ ..] = numbers else { return None };
        let taken = u32::try_from(*taken).ok()?;
        let empty = match usize::try_from(*empty).ok()? {
            0 => None,
            place if place <= plan.limits.len() => {
                Some((place - 1, Duration::from_micros(u64::try_from(*wait).ok()?)))
            }
            _ => return None,
        };
        if taken == 0 && empty.is_none() {
            return None;
        }
        let mut of_each = [0; 3];
        for (place, left) in of_each.iter_mut().zip(left) {
            *place = u32::try_from(*left).unwrap_or(if *left < 0 { 0 } else { u32::MAX });
        }
        Some(Self { taken, empty, left: of_each })
    }
}

/// Notes what the limits of a profile have left after a decision; the failure that it is, if it is
/// one.
fn note(
    decision: &Decision,
    plan: &Plan,
    allowance: &mut Allowance,
    profile: &str,
) -> Result<(), Failure> {
    let (refusal, left) = match decision {
        Decision::Passed(left) => (None, left),
        Decision::Refused { place, wait, left } => (Some((*place, *wait)), left),
    };
    for (place, (limit, left)) in plan.limits.iter().zip(left).enumerate() {
        match refusal {
            Some((refused, wait)) if place == refused => {
                allowance.add(limit.scope, Err(wait), &limit.rate, profile)?;
            }
            // One that is remembered says nothing of the narrower limits.
            Some(_) if *left == 0 => {}
            _ => allowance.add(limit.scope, Ok(*left), &limit.rate, profile)?,
        }
    }
    Ok(())
}

fn no_store() -> Failure {
    let why = "what this caller may still do is kept in a store that does not answer";
    Failure::fixed(Code::StoreUnavailable, why)
        .with_retry_after(RETRY + RETRY.mul_f64(fastrand::f64()))
}
