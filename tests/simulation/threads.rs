//! The threads of a run: who writes access lines, the audit and the file of budgets. The gateway's own
//! code does it, behind its own queues; the run decides when a thread takes something, and when it
//! hangs in a write.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use whiteboard_gateway::background::{self, Background};

use crate::issuer::KEY_TIMEOUT;
use crate::plan::{Hang, Plan};
use crate::request::{Kind, Outcome};
use crate::world::{Request, World};

/// How often a thread looks at its queue.
pub(crate) const STEP: Duration = Duration::from_millis(5);

/// How long a token waits for its record, and then is not handed out.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// What was written just before may be told a moment later.
const MOMENT: Duration = Duration::from_millis(2);

/// What is refused without anybody else has its answer within that.
const AT_ONCE: Duration = Duration::from_millis(100);

/// The names of the threads.
pub(crate) const ACCESS: &str = "access-log";
pub(crate) const AUDIT: &str = "audit";
pub(crate) const BUDGETS: &str = "budgets";

/// The threads of a run, and where they write.
pub(crate) struct Threads {
    folder: TempDir,
    started: Rc<Started>,
}

/// Those that were started, each with its name.
type Started = RefCell<Vec<(String, Box<dyn Background>)>>;

impl Threads {
    /// From now on what is started on this thread is run by [`Threads::run`].
    pub(crate) fn begin() -> Self {
        let started = Rc::new(Started::default());
        let starts = Rc::clone(&started);
        background::run_by(Some(Rc::new(move |name, work| {
            starts.borrow_mut().push((name.to_owned(), work));
        })));
        Self { folder: tempfile::tempdir().expect("a folder"), started }
    }

    /// Where the thread of this name writes.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs them, but for those that hang.
    pub(crate) async fn run(world: Rc<World>) {
        loop {
            sleep(STEP).await;
            if let Some(threads) = &world.threads {
                threads.step(|name| !world.plan.hangs(name, world.elapsed()));
            }
        }
    }

    /// Lets each do what it has to do.
    fn step(&self, takes: impl Fn(&str) -> bool) {
        // One may start another.
        let all = self.started.take();
        let there = all.into_iter().filter_map(|(name, mut work)| {
            let goes_on = !takes(&name) || work.step();
            goes_on.then_some((name, work))
        });
        let mut there: Vec<_> = there.collect();
        there.append(&mut self.started.borrow_mut());
        self.started.replace(there);
    }

    /// Nobody starts anything any more: all of it is written.
    pub(crate) fn end(&self) {
        for _ in 0..3 {
            self.step(|_| true);
        }
    }
}

/// What is wrong about what they have written, and about who waited for it.
pub(crate) fn check(world: &World, requests: &BTreeMap<String, Request>) -> Vec<String> {
    let mut wrong: Vec<_> =
        requests.iter().filter_map(|(id, one)| waited(world, id, one)).collect();
    let Some(threads) = &world.threads else { return wrong };
    threads.end();
    for hang in world.plan.hanging() {
        wrong.extend(given_out(world, hang, requests));
    }
    if !world.cut.get() {
        wrong.extend(access_lines(world, &threads.path(ACCESS), requests));
    }
    wrong.extend(records(world, &threads.path(AUDIT), requests));
    wrong
}

/// Whether one waited that needs nobody.
fn waited(world: &World, id: &str, request: &Request) -> Option<String> {
    let refused =
        matches!(request.asked.kind, Kind::UnknownKey | Kind::UnknownPath | Kind::WrongMethod);
    let (entered, settled) = (request.entered.first()?.at, request.settled?);
    let took = settled - entered;
    // A key that the provider may have is waited for.
    let asks = if request.asked.signed_by > 0 { KEY_TIMEOUT } else { Duration::ZERO };
    let most = AT_ONCE + asks + world.stood_still(entered, settled);
    (refused && took > most).then(|| format!("{id} is refused without anybody, and took {took:?}"))
}

/// Tokens that were given out while what they need hung.
fn given_out(world: &World, hang: &Hang, requests: &BTreeMap<String, Request>) -> Vec<String> {
    let needs = |request: &Request| {
        let backend = Plan::profile(request.asked.caller) == "backend";
        match hang.thread {
            AUDIT => world.plan.is_audit_required(),
            BUDGETS => backend && world.plan.store.is_none(),
            _ => false,
        }
    };
    let (from, until) = (world.begun() + hang.from + MOMENT, world.begun() + hang.until);
    let during = |at: Instant| from < at && at < until;
    let given = requests.iter().filter(|(_, request)| {
        is_given(request) && needs(request) && request.settled.is_some_and(during)
    });
    given
        .map(|(id, _)| format!("{id} got its token while the thread of {} hung", hang.thread))
        .collect()
}

fn is_given(request: &Request) -> bool {
    request.asked.kind == Kind::Token
        && matches!(request.outcome, Some(Outcome::Answered { status: 201, .. }))
}

/// Each request has one access line, whatever hung meanwhile.
fn access_lines(world: &World, path: &Path, requests: &BTreeMap<String, Request>) -> Vec<String> {
    let lines = ids(path);
    let taken_up = requests.iter().filter(|(_, request)| !request.entered.is_empty());
    let mut wrong: Vec<_> = taken_up
        .clone()
        .map(|(id, _)| (id, lines.get(id).copied().unwrap_or_default()))
        .filter(|(_, count)| *count != 1)
        .map(|(id, count)| format!("{id} has {count} access lines"))
        .collect();
    let (all, asked) = (lines.values().sum::<u64>(), taken_up.count() as u64);
    if all != asked + world.refusals.get() {
        let refused = world.refusals.get();
        wrong.push(format!("{all} access lines of {asked} requests and {refused} refusals"));
    }
    wrong
}

/// Each token that a caller has is in the audit, once.
fn records(world: &World, path: &Path, requests: &BTreeMap<String, Request>) -> Vec<String> {
    let records = ids(path);
    // Who waited for its record when another configuration was loaded begins again, with another token.
    let most = |id: &String| 1 + requests.get(id).map_or(0, |one| world.reloads_during(one)) as u64;
    let twice = records.iter().filter(|(id, count)| **count > most(id));
    let twice = twice.map(|(id, count)| format!("{id} is in the audit {count} times"));
    // What a worker has not handed over when it is cut off is lost with it.
    let lost = world.cut.get() && !world.plan.is_audit_required();
    let given = requests.iter().filter(|(_, request)| !lost && is_given(request));
    let missing = given.filter(|(id, _)| !records.contains_key(*id));
    let missing = missing.map(|(id, _)| format!("{id} got a token that is not in the audit"));
    twice.chain(missing).collect()
}

/// How many lines of a file are about each request.
fn ids(path: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut ids = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        *ids.entry(line["request_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    ids
}
