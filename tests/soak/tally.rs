//! What came of each request, and whose fault it was.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::time::{Duration, Instant};

/// For so long after the upstream is back, its absence may still show: a breaker that opened while
/// it was away asks again from time to time only.
const AFTERMATH: Duration = Duration::from_secs(4);

/// The most failures that are told one by one.
const TOLD: usize = 20;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    CreateRoom,
    ReadRoom,
    MintByKey,
    MintByJwt,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answered as it should be.
    Good,
    /// The upstream was away, and the gateway said so as documented.
    Upstream,
    /// The upstream was restarted, and knows the room no more.
    Forgotten,
    /// Whatever else: ours.
    Ours,
}

/// The counts of a kind.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) good: u64,
    pub(crate) upstream: u64,
    pub(crate) forgotten: u64,
    pub(crate) ours: u64,
}

/// The counts of a soak.
pub(crate) struct Tally {
    begun: Instant,
    counts: RefCell<BTreeMap<Kind, Counts>>,
    failures: RefCell<Vec<String>>,
    connections: Rc<Cell<u64>>,
    /// When the upstream was away, from and until.
    away: RefCell<Vec<(Instant, Option<Instant>)>>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            counts: RefCell::default(),
            failures: RefCell::default(),
            connections: Rc::default(),
            away: RefCell::default(),
        }
    }

    pub(crate) fn sends(&self, kind: Kind) {
        self.counts.borrow_mut().entry(kind).or_default().sent += 1;
    }

    /// Counts what came of a request; `why` tells a failure of ours.
    pub(crate) fn judge(&self, kind: Kind, verdict: Verdict, why: impl FnOnce() -> String) {
        let mut counts = self.counts.borrow_mut();
        let counts = counts.entry(kind).or_default();
        match verdict {
            Verdict::Good => counts.good += 1,
            Verdict::Upstream => counts.upstream += 1,
            Verdict::Forgotten => counts.forgotten += 1,
            Verdict::Ours => {
                counts.ours += 1;
                self.violated(format!("{kind:?}: {}", why()));
            }
        }
    }

    /// Something that must not be.
    pub(crate) fn violated(&self, what: String) {
        let mut failures = self.failures.borrow_mut();
        if failures.len() < TOLD {
            let at = self.begun.elapsed().as_secs_f64();
            failures.push(format!("at {at:.3} s: {what}"));
        }
    }

    /// The upstream goes.
    pub(crate) fn upstream_goes(&self) {
        self.away.borrow_mut().push((Instant::now(), None));
    }

    /// It is back.
    pub(crate) fn upstream_is_back(&self) {
        if let Some((_, until)) = self.away.borrow_mut().last_mut() {
            *until = Some(Instant::now());
        }
    }

    /// How often it has gone until now.
    pub(crate) fn restarts(&self) -> usize {
        self.away.borrow().len()
    }

    /// How often it has come back until now: what it is told from now on, this one remembers at
    /// best, until it goes the next time.
    pub(crate) fn returns(&self) -> usize {
        self.away.borrow().iter().filter(|(_, until)| until.is_some()).count()
    }

    /// Whether the upstream was away, or just back, at any time since then.
    pub(crate) fn was_away_since(&self, since: Instant) -> bool {
        let away = self.away.borrow();
        away.iter().any(|(_, until)| until.is_none_or(|until| since <= until + AFTERMATH))
    }

    pub(crate) fn counts(&self) -> BTreeMap<Kind, Counts> {
        self.counts.borrow().clone()
    }

    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.borrow().clone()
    }

    pub(crate) fn connections(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.connections)
    }
}
