//! The way of a request over a network, a clock and an upstream that are made up: everything that
//! happens is drawn from a seed, and happens again when the seed is run again.
//!
//! The gateway, its server and its client of the upstream are the real ones. What they promise is
//! checked in each run, whatever befell it; `docs/simulation.md` says what, and how to run more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "what fails here is a finding, and says what it knows"
)]

mod answer;
mod callers;
mod check;
mod gateway;
mod honest;
mod issuer;
mod memory;
mod network;
mod plan;
mod request;
mod run;
mod store;
mod threads;
mod upstream;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use run::{Report, run};

/// As many seeds are run when nobody asks for more.
const FEW: u64 = 60;

/// As many seeds have seen everything; `tests/run` runs them.
const SEEDS: u64 = 200;

/// After so many that fail no more are run.
const ENOUGH: usize = 20;

/// Which seeds are run.
enum Seeds {
    /// One, and what happens in it is told.
    One(u64),
    /// So many, from this one on.
    From(u64, u64),
    /// As many as there is time for, from one on that nobody has run yet.
    During(Duration, u64),
}

impl Seeds {
    fn asked_for() -> Self {
        if let Some(seed) = number("SIMULATION_SEED") {
            Self::One(seed)
        } else if let Some(seconds) = number("SIMULATION_SECONDS") {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Self::During(Duration::from_secs(seconds), now.as_secs() * 1_000_000)
        } else {
            let first = number("SIMULATION_FROM").unwrap_or(0);
            Self::From(first, number("SIMULATION_SEEDS").unwrap_or(FEW))
        }
    }
}

/// A number that is asked for by a variable.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number: {text}")))
}

/// What many runs have come to.
#[derive(Default)]
struct Total {
    runs: u64,
    requests: usize,
    seen: BTreeMap<String, u32>,
    failed: Vec<Report>,
}

/// Runs seeds on every core.
fn run_all(from: u64, wanted: impl Fn(u64) -> bool + Sync) -> Total {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new(Total::default());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if !wanted(number) {
                break;
            }
            let report = run(from + number);
            let mut total = total.lock().unwrap();
            total.runs += 1;
            total.requests += report.requests;
            for (what, count) in &report.seen {
                *total.seen.entry(what.clone()).or_default() += count;
            }
            if !report.broken.is_empty() {
                total.failed.push(report);
                stop.store(total.failed.len() >= ENOUGH, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    total.into_inner().unwrap()
}

fn tell(report: &Report) -> String {
    format!(
        "seed {} breaks a promise:\n  {}\n\
         replay it: SIMULATION_SEED={} cargo nextest run --test simulation --no-capture promises\n",
        report.seed,
        report.broken.join("\n  "),
        report.seed
    )
}

#[test]
fn whatever_befalls_it_the_gateway_keeps_its_promises() {
    let begun = Instant::now();
    let total = match Seeds::asked_for() {
        Seeds::One(seed) => {
            let report = run(seed);
            eprintln!("{}\n{:#?}", report.trace, report.plan);
            assert!(report.broken.is_empty(), "\n{}", tell(&report));
            return;
        }
        Seeds::From(first, count) => run_all(first, |number| number < count),
        Seeds::During(time, from) => run_all(from, |_| begun.elapsed() < time),
    };
    eprintln!("{} runs, {} requests, {:?}", total.runs, total.requests, begun.elapsed());
    for (what, count) in &total.seen {
        eprintln!("{count:>8} {what}");
    }
    let failed: Vec<String> = total.failed.iter().map(tell).collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
    let unseen: Vec<_> = SEEN.iter().filter(|what| !total.seen.contains_key(**what)).collect();
    assert!(total.runs < SEEDS || unseen.is_empty(), "nothing has tried {unseen:?}");
}

/// What a run of the usual seeds must have seen: promises that nothing has tried are worth nothing.
const SEEN: [&str; 58] = [
    "a caller that ends its side",
    "a caller that ends its side of HTTP/2",
    "a caller that takes nothing",
    "a connection of HTTP/1.1",
    "a connection of HTTP/2",
    "a connection that is ended: NoDescriptor",
    "a connection that is ended: Stalled",
    "a connection that is ended: CrowdedOut",
    "a connection that is ended: Full",
    "a reload",
    "an answer that breaks off",
    "an honest request whose kept connection died under it",
    "answer 200",
    "answer 201",
    "everything stands still",
    "forbidden",
    "invalid_body",
    "invalid_token",
    "malformed_request",
    "method_not_allowed",
    "no answer: Harmed",
    "no descriptor is left to connect with",
    "no answer: Left",
    "not_found",
    "overloaded",
    "quota_exceeded",
    "rate_limited",
    "request_timeout",
    "store_unavailable",
    "the clock is set back",
    "the clock is set forward",
    "the network falls silent",
    "the network forgets the connections to the upstream",
    "the network resets it",
    "the store fails over",
    "the store hangs",
    "the upstream closes a connection that is kept",
    "the upstream ends a connection of HTTP/2",
    "the upstream is Dark",
    "the upstream is Down",
    "the upstream is Sick",
    "the upstream's deed: Answer(Edge)",
    "the upstream's deed: Answer(Huge)",
    "the upstream's deed: Answer(Long)",
    "the upstream's deed: BadChunk",
    "the upstream's deed: CloseInBody",
    "the upstream's deed: CloseInHead",
    "the upstream's deed: Late",
    "the upstream's deed: NoHttp",
    "the upstream's deed: RefuseToken",
    "the upstream's deed: Reset",
    "the upstream's deed: Silence",
    "the upstream's deed: StallInBody",
    "too_large",
    "upstream_error",
    "upstream_redirect",
    "upstream_timeout",
    "upstream_unavailable",
];

#[test]
fn a_seed_happens_again_as_it_happened() {
    for seed in 1_000..1_000 + number("SIMULATION_TWICE").unwrap_or(8) {
        let (first, second) = (run(seed), run(seed));
        if first.hash() != second.hash() {
            let lines = || first.trace.lines().zip(second.trace.lines()).enumerate();
            let differs = lines().find(|(_, (one, other))| one != other);
            panic!("seed {seed} happens in two ways, from here: {differs:?}");
        }
    }
}
