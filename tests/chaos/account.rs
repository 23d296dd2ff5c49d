//! The account of every request: what came of it, when, and whether that was allowed then.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::table::{Asked, Fault, NO_ANSWER, Row, USUAL};

/// The most failures that are printed one by one.
const PRINTED: usize = 300;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    CreateRoom,
    ReadRoom,
    /// A long answer.
    ListRooms,
    MintByKey,
    MintByJwt,
    MintOfBudget,
}

/// What came of it.
pub(crate) enum Outcome {
    /// Answered as it should be.
    Right,
    /// The service knows the room no more, since it was started again.
    Forgotten,
    /// A failure by its code, or what else it was.
    Failed(String),
    /// No answer, and why.
    Lost(String),
}

/// A request that was sent.
pub(crate) struct Sent {
    pub(crate) kind: Kind,
    /// By which way.
    pub(crate) lane: &'static str,
    pub(crate) at: Instant,
}

/// What came of many.
#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) right: u64,
    /// Failures that the table allows, by code.
    pub(crate) allowed: BTreeMap<String, u64>,
    pub(crate) lost: u64,
    pub(crate) ours: u64,
    pub(crate) slowest: Duration,
    /// How long after the end of the fault the last of the allowed failures was sent.
    pub(crate) felt: Duration,
}

struct Window {
    fault: Fault,
    from: Instant,
    until: Option<Instant>,
    /// How long its effects may be felt then, in seconds.
    after: f64,
}

/// The accounts of a run.
pub(crate) struct Account {
    begun: Instant,
    windows: RefCell<Vec<Window>>,
    all: RefCell<Counts>,
    /// Of those who met this fault; and of those who met none.
    by_fault: RefCell<BTreeMap<Option<Fault>, Counts>>,
    by_lane: RefCell<BTreeMap<&'static str, Counts>>,
    /// By the way from the gateway to the service.
    by_service: RefCell<BTreeMap<&'static str, Counts>>,
    /// That of the present scene.
    pub(crate) service: Cell<&'static str>,
    failures: RefCell<Vec<String>>,
    failed: Cell<u64>,
    /// How often the service was started again: what was made before is forgotten.
    pub(crate) restarts: Cell<u64>,
    pub(crate) connections: Rc<Cell<u64>>,
}

impl Kind {
    const fn is(self, asked: Asked) -> bool {
        match asked {
            Asked::Any => true,
            Asked::Forwarded => {
                matches!(self, Self::CreateRoom | Self::ReadRoom | Self::ListRooms)
            }
            Asked::Long => matches!(self, Self::ListRooms),
            Asked::Minted => !self.is(Asked::Forwarded),
            Asked::Budgeted => matches!(self, Self::MintOfBudget),
        }
    }
}

impl Account {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            windows: RefCell::default(),
            all: RefCell::default(),
            by_fault: RefCell::default(),
            by_lane: RefCell::default(),
            by_service: RefCell::default(),
            service: Cell::new(""),
            failures: RefCell::default(),
            failed: Cell::new(0),
            restarts: Cell::new(0),
            connections: Rc::default(),
        }
    }

    /// A fault begins.
    pub(crate) fn begins(&self, fault: Fault) {
        let window = Window { fault, from: Instant::now(), until: None, after: fault.row().after };
        let mut windows = self.windows.borrow_mut();
        windows.push(window);
        // That connections are dead is known from the next requests on them, and another fault may
        // hold those up.
        let open = || windows.iter().filter(|window| window.until.is_none());
        let longest = open().map(|window| window.fault.row().after).fold(0.0, f64::max);
        let dead = |window: &&mut Window| window.fault == Fault::DeadConnections;
        if let Some(window) = windows.iter_mut().filter(dead).find(|one| one.until.is_none()) {
            window.after = window.after.max(longest);
        }
    }

    /// It is over.
    pub(crate) fn ends(&self, fault: Fault) {
        let mut windows = self.windows.borrow_mut();
        let Some(over) = windows.iter_mut().rfind(|window| window.fault == fault) else { return };
        let (from, now) = (over.from, Instant::now());
        over.until = Some(now);
        // Nor is it known while the gateway stands still.
        let met = |dead: &&mut Window| {
            dead.fault == Fault::DeadConnections && dead.until.is_some_and(|until| until >= from)
        };
        if fault == Fault::Paused {
            windows.iter_mut().filter(met).for_each(|dead| dead.until = Some(now));
        }
    }

    /// The faults that a request has met which was sent at this time and is over now, and how long
    /// before it they were over.
    fn met(&self, since: Instant) -> Vec<(&'static Row, Duration)> {
        let windows = self.windows.borrow();
        let felt = windows.iter().filter(|window| {
            let after = Duration::from_secs_f64(window.after);
            window.until.is_none_or(|until| since <= until + after) && Instant::now() >= window.from
        });
        felt.map(|window| {
            let until = window.until.unwrap_or(since);
            (window.fault.row(), since.saturating_duration_since(until))
        })
        .collect()
    }

    /// Judges what came of a request.
    pub(crate) fn judge(&self, sent: &Sent, outcome: Outcome) {
        let took = sent.at.elapsed();
        let (rows, over): (Vec<_>, Vec<_>) = self.met(sent.at).into_iter().unzip();
        let most = Duration::from_secs_f64(rows.iter().fold(USUAL, |sum, row| sum + row.longer));
        let mut counts = Counts { sent: 1, slowest: took, ..Counts::default() };
        let failure = match outcome {
            Outcome::Right if took <= most => {
                counts.right = 1;
                None
            }
            Outcome::Right => Some("answered, but too late".to_owned()),
            Outcome::Forgotten => {
                counts.allowed.insert("not_found".to_owned(), 1);
                None
            }
            Outcome::Failed(code) => Self::allowed(&rows, sent, code, took <= most, &mut counts),
            Outcome::Lost(why) => {
                counts.lost = 1;
                let allowed =
                    Self::allowed(&rows, sent, NO_ANSWER.into(), took <= most, &mut counts);
                allowed.map(|code| format!("{code}: {why}"))
            }
        };
        if let Some(failure) = failure {
            counts.ours = 1;
            let names: Vec<_> = rows.iter().map(|row| row.name).collect();
            let met = if names.is_empty() { "no fault".to_owned() } else { names.join(" + ") };
            let Sent { kind, lane, .. } = sent;
            self.violated(format!("{kind:?} by {lane} ({met}), after {took:?}: {failure}"));
        }
        self.all.borrow_mut().add(&counts);
        let mut by_fault = self.by_fault.borrow_mut();
        if rows.is_empty() {
            by_fault.entry(None).or_default().add(&counts);
        }
        for (row, over) in rows.iter().zip(over) {
            counts.felt = if counts.allowed.is_empty() { Duration::ZERO } else { over };
            by_fault.entry(Some(row.fault)).or_default().add(&counts);
        }
        self.by_lane.borrow_mut().entry(sent.lane).or_default().add(&counts);
        self.by_service.borrow_mut().entry(self.service.get()).or_default().add(&counts);
    }

    /// Counts a failure that the table allows; gives it back where it does not.
    fn allowed(
        rows: &[&Row],
        sent: &Sent,
        code: String,
        in_time: bool,
        counts: &mut Counts,
    ) -> Option<String> {
        let allowed = rows.iter().any(|row| row.allows(|asked| sent.kind.is(asked), &code));
        let waits = code == "upstream_timeout" && sent.kind.is(Asked::Forwarded) && is_behind(rows);
        if !(allowed || waits) || !in_time {
            return Some(code);
        }
        counts.allowed.insert(code, 1);
        None
    }

    /// Something that must not be.
    pub(crate) fn violated(&self, what: String) {
        self.failed.set(self.failed.get() + 1);
        let at = self.begun.elapsed().as_secs_f64();
        let what = format!("at {at:.1} s: {what}");
        let mut failures = self.failures.borrow_mut();
        if failures.len() < PRINTED {
            println!("  FAILED {what}");
            failures.push(what);
        }
    }

    pub(crate) fn all(&self) -> Counts {
        self.all.borrow().clone()
    }

    pub(crate) fn by_fault(&self) -> BTreeMap<Option<Fault>, Counts> {
        self.by_fault.borrow().clone()
    }

    pub(crate) fn by_lane(&self) -> BTreeMap<&'static str, Counts> {
        self.by_lane.borrow().clone()
    }

    pub(crate) fn by_service(&self) -> BTreeMap<&'static str, Counts> {
        self.by_service.borrow().clone()
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.borrow().clone()
    }

    /// How many there were, printed or not.
    pub(crate) fn violations(&self) -> u64 {
        self.failed.get()
    }
}

/// Whether answers wait behind long ones: TCP keeps the order of all bytes of a connection that
/// requests share, and begins slowly where the way is long. The first byte is due before the long
/// ones of the first seconds are through.
fn is_behind(rows: &[&Row]) -> bool {
    let any = |of: &[Fault]| rows.iter().any(|row| of.contains(&row.fault));
    any(&[Fault::LongLink]) && any(&[Fault::LongAnswers, Fault::Unread])
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.right += other.right;
        self.lost += other.lost;
        self.ours += other.ours;
        self.slowest = self.slowest.max(other.slowest);
        self.felt = self.felt.max(other.felt);
        for (code, count) in &other.allowed {
            *self.allowed.entry(code.clone()).or_default() += count;
        }
    }
}
