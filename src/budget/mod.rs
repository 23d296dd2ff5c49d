//! Budgets: how much of something callers get in an hour, a day or a month of a calendar.
//!
//! Other than a rate limit, a budget is a ledger: what is taken is written down before a request
//! goes on, in a file of this machine or in a store that several gateways share; it survives a
//! crash and a restart, and is given back when the request came to nothing by no fault of the
//! caller. This module knows numbers of callers; it knows no credentials.

mod claim;
mod counter_store;
mod file;
mod metrics;
mod settings;
mod store;
#[cfg(test)]
mod tests;
mod window;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::api::Operation;
use crate::failure::{Code, Failure};
use crate::limit::BudgetLeft;
use crate::store::Store;
use claim::{BudgetClaim, ReserveError, WindowQuery};
use counter_store::{CounterStore, Hold, WorkerCounters};
use metrics::BudgetCounts;

pub use claim::CounterUsage;
pub use file::CounterFileError;
pub use metrics::{AllCounts, METRICS};
pub use settings::{Budget, BudgetUnit, ProfileBudgets, Settings, Whose};
pub use window::{Period, UnknownZoneError, Window, Zone};

/// Those who were refused together do not come back together; nor a day late for that.
const LONGEST_SPREAD: Duration = Duration::from_secs(60);

/// A disk that is full is seldom free again at once, nor is a store back that is gone.
const UNAVAILABLE: Duration = Duration::from_secs(1);

/// All budgets. Shared by all workers.
pub struct Budgets {
    file: Option<PathBuf>,
    zone: Zone,
    ahead: u32,
    profiles: Vec<Vec<Arc<BudgetRule>>>,
    /// Empty until it is opened, and in processes that only look at a configuration.
    opened: OnceLock<Arc<file::FileCounters>>,
    /// Whether a store was asked how long it keeps them: once for all workers.
    asked_how_lasting: AtomicBool,
    counts: Arc<AllCounts>,
}

/// A budget as it is counted by.
struct BudgetRule {
    budget: Budget,
    profile: Box<str>,
    /// `tokens-month`, `requests-day-profile`: the name in `RateLimit`.
    name: Arc<str>,
    /// With the profile: what the ledger knows it by.
    id: Arc<str>,
    /// Among all.
    place: usize,
    counts: Arc<BudgetCounts>,
}

/// What a worker remembers between requests. It belongs to one configuration.
#[derive(Default)]
pub struct WorkerBudgets {
    ledger: WorkerCounters,
    windows: Cell<[Option<Window>; 3]>,
}

/// Who pays.
#[derive(Clone, Copy, Debug)]
pub struct Payer<'a> {
    /// The number that stays the same over restarts.
    pub number: u64,
    /// The name, for people.
    pub name: &'a str,
}

/// What a request has taken from its budgets. Dropped, it stays taken: whoever goes away does not
/// undo what was done.
pub struct Reservation {
    held: Hold,
    /// In the order of what is held.
    lines: Vec<Arc<BudgetRule>>,
    /// The number of who pays.
    payer: u64,
    /// What is left of the tightest.
    pub left: Option<BudgetLeft>,
}

/// A request that does not get what it needs.
pub struct BudgetError {
    /// What the caller is told.
    pub failure: Failure,
    /// The budget that is used up, where it is one.
    pub left: Option<BudgetLeft>,
}

/// How one budget of one caller, or of a profile, stands.
pub struct BudgetUsage<'b> {
    /// The profile.
    pub profile: &'b str,
    /// What it says.
    pub budget: Budget,
    /// What is used of it.
    pub level: CounterUsage,
}

impl Budgets {
    /// Prepares them; opens nothing. A file that `before` has open stays open, and what it counted goes
    /// on.
    pub fn new(settings: Settings, before: Option<&Self>) -> Self {
        let Settings { file, zone, ahead, profiles } = settings;
        let all_counts = before.map(|before| Arc::clone(&before.counts)).unwrap_or_default();
        let mut place = 0..;
        let lines = profiles.into_iter().map(|profile| {
            let line = |(budget, place): (Budget, usize)| {
                let name: Arc<str> = budget.name().into();
                let id = format!("{}/{name}", profile.name).into();
                let counts = all_counts.of(&profile.name, budget.of.as_str());
                let profile = profile.name.as_str().into();
                Arc::new(BudgetRule { budget, profile, name, id, place, counts })
            };
            profile.budgets.iter().copied().zip(&mut place).map(line).collect()
        });
        let profiles = lines.collect();
        let kept = before.and_then(|before| before.opened.get());
        // Without a file as well: one that comes back with the next reload need not wait for the
        // last request that holds it.
        let kept = kept.filter(|kept| file.as_deref().is_none_or(|file| kept.path == file));
        let opened = kept.cloned().map_or_else(OnceLock::new, OnceLock::from);
        let asked_how_lasting = AtomicBool::new(false);
        Self { file, zone, ahead, profiles, opened, asked_how_lasting, counts: all_counts }
    }

    /// What is counted of them.
    pub fn counts(&self) -> &AllCounts {
        &self.counts
    }

    /// Opens the ledger, where there is one and it is not open yet.
    ///
    /// # Errors
    /// [`CounterFileError`] names the file.
    pub fn open(&self) -> Result<(), CounterFileError> {
        let Some(path) = &self.file else { return Ok(()) };
        if self.opened.get().is_none() {
            // Whoever was faster has opened the same.
            _ = self.opened.set(file::FileCounters::open(path, self.ahead)?);
        }
        if let Some(ledger) = self.opened.get() {
            ledger.set_ahead(self.ahead);
        }
        Ok(())
    }

    /// Writes what is exact, and ends.
    pub fn close(&self) {
        if let Some(ledger) = self.opened.get() {
            ledger.close();
        }
    }

    /// What a worker remembers between requests, within whose runtime this must be called: of
    /// those in the store, which is `store`, or of those in a file. `before` is what it remembers
    /// for a configuration before.
    pub fn memory(&self, store: Option<&Store>, before: Option<&WorkerBudgets>) -> WorkerBudgets {
        let store = store.filter(|_| self.are_in_store()).cloned();
        let ledger = WorkerCounters::of(store, before.map(|before| &before.ledger));
        if let Some(store) = &ledger.store
            && !self.asked_how_lasting.swap(true, Relaxed)
        {
            spawn_local(store.clone().warn_where_it_forgets());
        }
        WorkerBudgets { ledger, ..WorkerBudgets::default() }
    }

    /// Whether there are any that are kept in the store.
    pub fn are_in_store(&self) -> bool {
        self.file.is_none() && self.profiles.iter().any(|lines| !lines.is_empty())
    }

    /// Whether a profile has any.
    pub fn apply(&self, profile: usize) -> bool {
        self.profiles.get(profile).is_some_and(|lines| !lines.is_empty())
    }

    /// Takes what a request needs from every budget that it is under, or nothing at all: written
    /// down when this returns. `second` is the time of the request.
    ///
    /// # Errors
    /// `quota_exceeded` with the budget's name and `Retry-After`; `store_unavailable` when nothing
    /// can be written: what cannot be counted is not given out.
    pub async fn reserve(
        &self,
        memory: &WorkerBudgets,
        profile: usize,
        payer: Payer<'_>,
        operation: &Operation,
        second: i64,
    ) -> Result<Option<Reservation>, BudgetError> {
        let lines: Vec<Arc<BudgetRule>> = self.lines(profile, operation).cloned().collect();
        if lines.is_empty() {
            return Ok(None);
        }
        let Some(ledger) = self.ledger(memory) else { return Err(unavailable("not open")) };
        let asked_at = Instant::now();
        let mut told = false;
        loop {
            let now = ledger.now(second);
            let claims = lines.iter().map(|line| line.claim(payer, self.window(memory, line, now)));
            let claims: Vec<BudgetClaim<'_>> = claims.collect();
            let reserved = ledger.reserve(&claims, asked_at).await;
            let now = ledger.now(second);
            return match reserved {
                Ok((held, used)) => {
                    let lefts = lines.iter().zip(&claims).zip(used);
                    let left = lefts.map(|((line, claim), used)| line.left(claim, used, now));
                    let left = left.min_by_key(|left| left.left);
                    drop(claims);
                    Ok(Some(Reservation { held, lines, payer: payer.number, left }))
                }
                // Once: from then on it goes by the ledger's time.
                Err(ReserveError::Elsewhen) if !told => {
                    told = true;
                    continue;
                }
                Err(ReserveError::Exhausted(place)) => {
                    match (lines.get(place), claims.get(place)) {
                        (Some(line), Some(claim)) => Err(line.refusal(claim, now, &self.zone)),
                        _ => Err(unavailable("a claim that was not made")),
                    }
                }
                Err(why) => Err(unavailable(&why.to_string())),
            };
        }
    }

    /// The budgets that a request for an operation is under.
    fn lines(
        &self,
        profile: usize,
        operation: &Operation,
    ) -> impl Iterator<Item = &Arc<BudgetRule>> {
        let lines = self.profiles.get(profile).into_iter().flatten();
        lines.filter(|line| line.budget.of.counts(operation))
    }

    /// Whether what was taken before the configuration changed is what would be taken now.
    pub fn are_served_by(
        &self,
        taken: &Reservation,
        profile: usize,
        payer: Payer<'_>,
        operation: &Operation,
    ) -> bool {
        let key = |line: &Arc<BudgetRule>| (Arc::clone(&line.id), line.budget);
        let (now, before) = (self.lines(profile, operation).map(key), taken.lines.iter().map(key));
        taken.payer == payer.number && now.eq(before)
    }

    /// The ledger, as a worker reaches it.
    fn ledger<'l>(&'l self, memory: &'l WorkerBudgets) -> Option<CounterStore<'l>> {
        let memory = &memory.ledger;
        match &memory.store {
            Some(store) => Some(CounterStore::Store(store)),
            None => self.opened.get().map(|ledger| CounterStore::File(ledger, &memory.file)),
        }
    }

    /// The window of a budget; looked up in the calendar once for each window.
    fn window(&self, memory: &WorkerBudgets, line: &BudgetRule, now: i64) -> Window {
        let per = line.budget.per;
        let mut windows = memory.windows.get();
        let window = &mut windows[per.index()];
        if let Some(window) = window.filter(|window| window.contains(now)) {
            return window;
        }
        let found = *window.insert(self.zone.window(per, now));
        memory.windows.set(windows);
        found
    }

    /// The time zone.
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// How everything stands that someone has used in the windows of now: a thousand of which the
    /// least is left, and how many others there are. Those in a file are gone through on this
    /// thread: it is not for workers.
    ///
    /// # Errors
    /// `store_unavailable` when it cannot be found out.
    pub async fn standings(
        &self,
        memory: &WorkerBudgets,
        second: i64,
    ) -> Result<(Vec<BudgetUsage<'_>>, usize), Failure> {
        let lines = || self.profiles.iter().flatten().map(|line| &**line);
        let Some(ledger) = self.ledger(memory).filter(|_| lines().next().is_some()) else {
            return Ok((Vec::new(), 0));
        };
        let unknown = |why: ReserveError| {
            let told = "how budgets stand cannot be found out now";
            Failure::fixed(Code::StoreUnavailable, told)
                .with_retry_after(UNAVAILABLE)
                .with_detail(why.to_string())
        };
        let now = ledger.time(second).await.map_err(unknown)?;
        let wanted = |line: &BudgetRule| WindowQuery {
            budget: Arc::clone(&line.id),
            window: self.zone.window(line.budget.per, now),
            most: line.budget.most.get(),
        };
        let wanted: Vec<WindowQuery> = lines().map(wanted).collect();
        let (levels, others) = ledger.levels(&wanted).await.map_err(unknown)?.finish();
        let standing = |level: CounterUsage| {
            let BudgetRule { profile, budget, .. } =
                lines().find(|line| line.id == level.budget)?;
            Some(BudgetUsage { profile, budget: *budget, level })
        };
        Ok((levels.into_iter().filter_map(standing).collect(), others))
    }

    /// What is configured, a sentence each.
    pub fn described(&self) -> Vec<String> {
        let kept = match &self.file {
            Some(file) => file.display().to_string(),
            None => "the store".to_owned(),
        };
        let zone = self.zone.name();
        let lines = self.profiles.iter().flatten();
        lines.map(|line| format!("{} ({zone}), kept in {kept}", line.described())).collect()
    }
}

impl WorkerBudgets {
    /// Whether something goes back to a store, or may have to, that would be lost with the worker.
    pub fn is_busy(&self) -> bool {
        self.ledger.open.is_any()
    }
}

impl Reservation {
    /// Gives all of it back: nothing was done for it.
    pub fn give_back(self) {
        self.lines.iter().for_each(|line| line.counts.refunded.add_shared(1));
        let places: Vec<usize> = (0..self.lines.len()).collect();
        self.held.give_back(&places);
    }

    /// Gives back what came to nothing. `sent` says whether the service got the request.
    pub fn settle(self, failure: Option<&Failure>, operation: &Operation, sent: bool) {
        let Some(failure) = failure else { return };
        // An operation that has an effect may have had it, for all that is known.
        if sent && !operation.idempotent && is_unknown(failure) {
            return;
        }
        let lines = self.lines.iter().enumerate();
        let back = lines.filter(|(_, line)| line.budget.of.is_refunded(failure));
        let back = back.map(|(place, line)| {
            line.counts.refunded.add_shared(1);
            place
        });
        let places: Vec<usize> = back.collect();
        self.held.give_back(&places);
    }
}

/// Whether a request that failed so may have been done all the same: the service did not say that
/// it failed.
fn is_unknown(failure: &Failure) -> bool {
    matches!(failure.code(), Code::UpstreamError | Code::UpstreamTimeout)
        && failure.upstream_status().is_none()
}

fn unavailable(why: &str) -> BudgetError {
    let told = "the budget of this request cannot be written down now, so it is not spent";
    let failure = Failure::fixed(Code::StoreUnavailable, told)
        .with_retry_after(UNAVAILABLE)
        .with_detail(why.to_owned());
    BudgetError { failure, left: None }
}

impl BudgetRule {
    fn claim<'a>(&'a self, payer: Payer<'a>, window: Window) -> BudgetClaim<'a> {
        let (caller, name) = match self.budget.whose {
            Whose::Caller => (payer.number, payer.name),
            Whose::Profile => (0, ""),
        };
        let most = self.budget.most.get();
        let (budget, counts) = (Arc::clone(&self.id), &self.counts);
        BudgetClaim { place: self.place, budget, caller, name, window, most, counts }
    }

    fn left(&self, claim: &BudgetClaim<'_>, used: u32, now: i64) -> BudgetLeft {
        BudgetLeft {
            name: Arc::clone(&self.name),
            most: claim.most,
            left: claim.most.saturating_sub(used),
            window: claim.window.seconds(),
            more_in: claim.window.left(now).max(1),
        }
    }

    fn refusal(&self, claim: &BudgetClaim<'_>, now: i64, zone: &Zone) -> BudgetError {
        self.counts.refused.add_shared(1);
        let wait = Duration::from_secs(claim.window.left(now).max(1));
        let spread = wait.mul_f64(0.2).min(LONGEST_SPREAD).mul_f64(fastrand::f64());
        let whose = match self.budget.whose {
            Whose::Caller => "this caller",
            Whose::Profile => "all callers of this profile",
        };
        let message = format!(
            "the budget of {whose} is used up: {}; it begins anew at {}",
            self.amount(),
            zone.show(claim.window.end)
        );
        let failure = Failure::new(Code::QuotaExceeded, message)
            .with_retry_after(wait + spread)
            .with_rule(format!("profiles.{}.budgets", self.profile))
            .with_detail(format!("budget: {}", self.name));
        BudgetError { failure, left: Some(self.left(claim, claim.most, now)) }
    }

    /// `10000 tokens a month`.
    fn amount(&self) -> String {
        let Budget { of, most, per, .. } = self.budget;
        let of = match most.get() {
            1 => of.as_str().trim_end_matches('s'),
            _ => of.as_str(),
        };
        let article = if per == Period::Hour { "an" } else { "a" };
        format!("{most} {of} {article} {}", per.as_str())
    }

    fn described(&self) -> String {
        let whose = match self.budget.whose {
            Whose::Caller => "each caller",
            Whose::Profile => "all callers together",
        };
        format!("profiles.{}: {} for {whose}", self.profile, self.amount())
    }
}
