//! Budgets: how much of something callers get in an hour, a day or a month of a calendar.
//!
//! Other than a rate limit, a budget is a ledger: what is taken is on the disk before a request
//! goes on, survives a crash and a restart, and is given back when the request came to nothing by
//! no fault of the caller. This module knows numbers of callers; it knows no credentials.

mod file;
mod ledger;
mod store;
#[cfg(test)]
mod tests;
mod window;

use std::cell::Cell;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::api::{Access, Feature, Operation};
use crate::failure::{self, Code, Failure};
use crate::limit::BudgetLeft;
use crate::telemetry::{BudgetCounts, Metrics};
use ledger::{Claim, Held, Ledger, Unreserved, Wanted};

pub use file::Broken;
pub use ledger::Level;
pub use store::Scripts;
pub use window::{NoZone, Period, Window, Zone};

/// Those who were refused together do not come back together; nor a day late for that.
const LONGEST_SPREAD: Duration = Duration::from_secs(60);

/// A disk that is full is seldom free again at once.
const UNAVAILABLE: Duration = Duration::from_secs(1);

/// What a budget is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    /// Requests that got as far as to be answered here or by the service.
    Requests,
    /// Whiteboard tokens handed out.
    Tokens,
    /// File conversions started.
    Conversions,
}

/// Whose a budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Each caller has its own.
    Caller,
    /// All callers of the profile share one.
    Profile,
}

/// One budget of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What it is of.
    pub of: Of,
    /// How many.
    pub most: NonZeroU32,
    /// In which time.
    pub per: Period,
    /// For whom.
    pub whose: Whose,
}

/// The budgets of a profile.
#[derive(Clone, Debug, Default)]
pub struct ProfileBudgets {
    /// The profile's name.
    pub name: String,
    /// From the first to the last.
    pub budgets: Vec<Budget>,
}

/// From `[budgets]` and the profiles.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The file in which they are kept; budgets need one.
    pub file: Option<PathBuf>,
    /// Whose hours, days and months are meant.
    pub zone: Zone,
    /// How many of each counter are on the disk before they are asked for.
    pub ahead: u32,
    /// By profile, in the order of the profiles.
    pub profiles: Vec<ProfileBudgets>,
}

/// All budgets. Shared by all workers.
pub struct Budgets {
    file: Option<PathBuf>,
    zone: Zone,
    ahead: u32,
    profiles: Vec<Vec<Line>>,
    /// Empty until it is opened, and in processes that only look at a configuration.
    opened: OnceLock<Arc<file::Ledger>>,
}

/// A budget as it is counted by.
struct Line {
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
pub struct Memory {
    ledger: ledger::Memory,
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
pub struct Reservation<'b> {
    held: Held,
    /// In the order of what is held.
    lines: Vec<&'b Line>,
    /// What is left of the tightest.
    pub left: Option<BudgetLeft>,
}

/// A request that does not get what it needs.
pub struct Refusal {
    /// What the caller is told.
    pub failure: Failure,
    /// The budget that is used up, where it is one.
    pub left: Option<BudgetLeft>,
}

/// How one budget of one caller, or of a profile, stands.
pub struct Standing<'b> {
    /// The profile.
    pub profile: &'b str,
    /// What it says.
    pub budget: Budget,
    /// What is used of it.
    pub level: Level,
}

impl Budgets {
    /// Prepares them; opens nothing. A file that `before` has open stays open.
    #[must_use]
    pub fn new(settings: Settings, before: Option<&Self>, metrics: &Metrics) -> Self {
        let Settings { file, zone, ahead, profiles } = settings;
        let mut place = 0..;
        let lines = profiles.into_iter().map(|profile| {
            let line = |(budget, place): (Budget, usize)| {
                let name: Arc<str> = budget.name().into();
                let id = format!("{}/{name}", profile.name).into();
                let counts = metrics.budget(&profile.name, budget.of.as_str());
                Line { budget, profile: profile.name.as_str().into(), name, id, place, counts }
            };
            profile.budgets.iter().copied().zip(&mut place).map(line).collect()
        });
        let profiles = lines.collect();
        let kept = before.and_then(|before| before.opened.get());
        // Without a file as well: one that comes back with the next reload need not wait for the
        // last request that holds it.
        let kept = kept.filter(|kept| file.as_deref().is_none_or(|file| kept.path() == file));
        let opened = kept.cloned().map_or_else(OnceLock::new, OnceLock::from);
        Self { file, zone, ahead, profiles, opened }
    }

    /// Opens the ledger, where there is one and it is not open yet.
    ///
    /// # Errors
    /// [`Broken`] names the file.
    pub fn open(&self) -> Result<(), Broken> {
        let Some(path) = &self.file else { return Ok(()) };
        if self.opened.get().is_none() {
            // Whoever was faster has opened the same.
            _ = self.opened.set(file::Ledger::open(path, self.ahead)?);
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

    /// Whether a profile has any.
    #[must_use]
    pub fn apply(&self, profile: usize) -> bool {
        self.profiles.get(profile).is_some_and(|lines| !lines.is_empty())
    }

    /// Takes what a request needs from every budget that it is under, or nothing at all: on the
    /// disk when this returns. `second` is the time of the request.
    ///
    /// # Errors
    /// `quota_exceeded` with the budget's name and `Retry-After`; `store_unavailable` when nothing
    /// can be written: what cannot be counted is not given out.
    pub async fn reserve<'b>(
        &'b self,
        memory: &Memory,
        profile: usize,
        payer: Payer<'_>,
        operation: &Operation,
        second: i64,
    ) -> Result<Option<Reservation<'b>>, Refusal> {
        let lines = self.profiles.get(profile).map(Vec::as_slice).unwrap_or_default();
        let lines: Vec<&Line> =
            lines.iter().filter(|line| line.budget.of.counts(operation)).collect();
        if lines.is_empty() {
            return Ok(None);
        }
        let Some(ledger) = self.ledger(memory) else { return Err(unavailable("not open")) };
        let mut told = false;
        loop {
            let now = ledger.now(second);
            let claim = |line: &&Line| line.claim(payer, self.window(memory, line, now));
            let claims: Vec<Claim<'_>> = lines.iter().map(claim).collect();
            return match ledger.reserve(&claims).await {
                Ok((held, used)) => {
                    let lefts = lines.iter().zip(&claims).zip(used);
                    let left = lefts.map(|((line, claim), used)| line.left(claim, used, now));
                    let left = left.min_by_key(|left| left.left);
                    Ok(Some(Reservation { held, lines, left }))
                }
                // Once: then it goes by the time that it told.
                Err(Unreserved::Elsewhen(time)) if !told => {
                    told = true;
                    ledger.told(time, second);
                    continue;
                }
                Err(Unreserved::Exhausted(place)) => match (lines.get(place), claims.get(place)) {
                    (Some(line), Some(claim)) => Err(line.refusal(claim, now, &self.zone)),
                    _ => Err(unavailable("a claim that was not made")),
                },
                Err(why) => Err(unavailable(&why.to_string())),
            };
        }
    }

    /// The ledger, as a worker reaches it.
    fn ledger<'l>(&'l self, memory: &'l Memory) -> Option<Ledger<'l>> {
        let memory = &memory.ledger;
        match &memory.store {
            Some(store) => Some(Ledger::Store(store)),
            None => self.opened.get().map(|ledger| Ledger::File(ledger, &memory.file)),
        }
    }

    /// The window of a budget; looked up in the calendar once for each window.
    fn window(&self, memory: &Memory, line: &Line, now: i64) -> Window {
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
    #[must_use]
    pub const fn zone(&self) -> &Zone {
        &self.zone
    }

    /// How everything stands that somebody has used in the windows of now: a thousand of which the
    /// least is left, and how many others there are. Those in a file are gone through on this
    /// thread: it is not for workers.
    ///
    /// # Errors
    /// `store_unavailable` when it cannot be found out.
    pub async fn standings(
        &self,
        memory: &Memory,
        second: i64,
    ) -> Result<(Vec<Standing<'_>>, usize), Failure> {
        let lines = || self.profiles.iter().flatten();
        let Some(ledger) = self.ledger(memory).filter(|_| lines().next().is_some()) else {
            return Ok((Vec::new(), 0));
        };
        let now = ledger.now(second);
        let wanted = |line: &Line| Wanted {
            budget: Arc::clone(&line.id),
            window: self.zone.window(line.budget.per, now),
            most: line.budget.most.get(),
        };
        let wanted: Vec<Wanted> = lines().map(wanted).collect();
        let levels = ledger.levels(&wanted).await;
        let levels = levels.map_err(|why| unavailable(&why.to_string()).failure)?;
        let (levels, others) = levels.finish();
        let standing = |level: Level| {
            let Line { profile, budget, .. } = lines().find(|line| line.id == level.budget)?;
            Some(Standing { profile, budget: *budget, level })
        };
        Ok((levels.into_iter().filter_map(standing).collect(), others))
    }

    /// What is configured, a sentence each.
    #[must_use]
    pub fn described(&self) -> Vec<String> {
        let kept = self.file.as_ref().map(|file| format!(", kept in {}", file.display()));
        let kept = kept.unwrap_or_default();
        let zone = self.zone.name();
        let lines = self.profiles.iter().flatten();
        lines.map(|line| format!("{} ({zone}){kept}", line.described())).collect()
    }
}

impl Memory {
    /// For budgets that are kept in a store, whose every key begins so.
    #[must_use]
    pub fn of_store(scripts: Rc<dyn Scripts>, prefix: &str) -> Self {
        Self { ledger: ledger::Memory::of_store(scripts, prefix), ..Self::default() }
    }
}

impl Reservation<'_> {
    /// Gives back what came to nothing. `sent` says whether the service got the request.
    pub fn settle(mut self, failure: Option<&Failure>, operation: &Operation, sent: bool) {
        let Some(failure) = failure else { return };
        // An operation that has an effect may have had it, for all that is known.
        if sent && !operation.idempotent && is_unknown(failure) {
            return;
        }
        for (place, line) in self.lines.iter().enumerate() {
            if line.budget.of.is_refunded(failure) {
                self.held.release(place);
                line.counts.refunded();
            }
        }
    }
}

/// Whether a request that failed so may have been done all the same: the service did not say that
/// it failed.
fn is_unknown(failure: &Failure) -> bool {
    matches!(failure.code(), Code::UpstreamError | Code::UpstreamTimeout)
        && failure.upstream_status().is_none()
}

fn unavailable(why: &str) -> Refusal {
    let told = "the budget of this request cannot be written down now, so it is not spent";
    let failure =
        Failure::fixed(Code::StoreUnavailable, told).with_retry_after(UNAVAILABLE).with_detail(why);
    Refusal { failure, left: None }
}

impl Budget {
    /// `tokens-month`, `requests-day-profile`.
    #[must_use]
    pub fn name(&self) -> String {
        let whose = match self.whose {
            Whose::Caller => "",
            Whose::Profile => "-profile",
        };
        format!("{}-{}{whose}", self.of.as_str(), self.per.as_str())
    }
}

impl Line {
    fn claim<'a>(&self, payer: Payer<'a>, window: Window) -> Claim<'a> {
        let (caller, name) = match self.budget.whose {
            Whose::Caller => (payer.number, payer.name),
            Whose::Profile => (0, ""),
        };
        let most = self.budget.most.get();
        Claim { place: self.place, budget: Arc::clone(&self.id), caller, name, window, most }
    }

    fn left(&self, claim: &Claim<'_>, used: u32, now: i64) -> BudgetLeft {
        BudgetLeft {
            name: Arc::clone(&self.name),
            most: claim.most,
            left: claim.most.saturating_sub(used),
            window: claim.window.seconds(),
            more_in: claim.window.left(now).max(1),
        }
    }

    fn refusal(&self, claim: &Claim<'_>, now: i64, zone: &Zone) -> Refusal {
        self.counts.refused();
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
        Refusal { failure, left: Some(self.left(claim, claim.most, now)) }
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

impl Of {
    /// The word in the configuration, in metrics and in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Conversions => "conversions",
        }
    }

    /// Whether an operation takes one.
    fn counts(self, operation: &Operation) -> bool {
        match self {
            Self::Requests => true,
            Self::Tokens => matches!(operation.access, Access::Mints(_)),
            // Of the conversions' operations, starting one is what must not be done twice.
            Self::Conversions => operation.feature == Feature::Conversions && !operation.idempotent,
        }
    }

    /// Whether a request that failed so has taken none: no token was had and no conversion begun.
    /// A request was made, unless the gateway or the service failed.
    fn is_refunded(self, failure: &Failure) -> bool {
        let usual = failure::Settings::default();
        match self {
            Self::Requests => failure.code().status(&usual).is_server_error(),
            Self::Tokens | Self::Conversions => true,
        }
    }
}

impl Whose {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Profile => "profile",
        }
    }
}
