//! Several gateways on one store, hammered together: how many requests pass.
//!
//! A few seconds each here; for longer,
//! `HAMMER_SECONDS=30 cargo nextest run -E 'test(store::exact)'`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::{profile, setup, token};
use crate::support::{Client, Process, Redis, Setup, scenario_delay};

/// As many connections send.
const THREADS: usize = 8;

/// Each gateway has as many workers.
const WORKERS: f64 = 1.0;

/// The limit.
const RATE: f64 = 200.0;
const BURST: f64 = 100.0;

/// What a worker has at most of a lease, and how long that may be used.
const LEASE: f64 = 10.0;
const LEASE_LIFE: f64 = 0.1;

/// What passed, in which time at most, and in which at least.
struct Hammered {
    passed: f64,
    most: f64,
    least: f64,
    /// How many callers have a limit of their own.
    callers: f64,
    /// Whether as many requests were sent as it takes, and without a pause in which a burst is earned
    /// that nobody takes: a busy machine sends fewer.
    kept_pace: bool,
}

/// Whether a request passes; where it does not, it is refused by a limit that is shared.
fn passes(client: &mut Client, key: &str) -> bool {
    let answer = token(client, key);
    if answer.status != 201 {
        answer.assert_envelope(403, "rate_limited");
    }
    assert!(answer.has("ratelimit"), "the store has decided");
    answer.status == 201
}

/// Sends three times as many requests as pass, to all of the gateways, once the burst is used up.
fn hammer(gateways: &[Process], keys: &[String]) -> Hammered {
    let seconds = std::env::var("HAMMER_SECONDS").ok().and_then(|text| text.parse().ok());
    let lasts = Duration::from_secs_f64(seconds.unwrap_or(2.0));
    let callers = keys.len() as f64;
    let pause = Duration::from_secs_f64(THREADS as f64 / (3.0 * RATE * callers));
    // Everybody has seen that it is used up; for the first of them, that was a while ago. Until then all
    // of them send: one alone is not faster than the limit everywhere.
    let (refused, used_up, all) = (AtomicUsize::new(0), Barrier::new(THREADS), OnceLock::new());
    let first = Mutex::new(None::<Instant>);
    let hammers = (0..THREADS).map(|place| {
        let key = &keys[place / gateways.len() % keys.len()];
        let (refused, used_up, first, all) = (&refused, &used_up, &first, &all);
        move || {
            let mut client = gateways[place % gateways.len()].client();
            while passes(&mut client, key) {}
            first.lock().unwrap().get_or_insert_with(Instant::now);
            refused.fetch_add(1, Ordering::SeqCst);
            while refused.load(Ordering::SeqCst) < THREADS {
                passes(&mut client, key);
            }
            used_up.wait();
            let begin = *all.get_or_init(Instant::now);
            let (mut next, mut passed, mut sent) = (begin, 0, 0);
            let (mut last, mut longest) = (begin, Duration::ZERO);
            while begin.elapsed() < lasts {
                sent += 1;
                longest = longest.max(last.elapsed());
                last = Instant::now();
                passed += usize::from(passes(&mut client, key));
                next += pause;
                scenario_delay(next.saturating_duration_since(Instant::now()));
            }
            (passed, sent, longest)
        }
    });
    let (passed, sent, longest) = thread::scope(|scope| {
        let running: Vec<_> = hammers.map(|hammer| scope.spawn(hammer)).collect();
        let counts = running.into_iter().map(|hammer| hammer.join().unwrap());
        counts.fold((0, 0, Duration::ZERO), |sum, count| {
            (sum.0 + count.0, sum.1 + count.1, sum.2.max(count.2))
        })
    });
    let kept_pace = f64::from(sent) > 0.9 * 3.0 * RATE * callers * lasts.as_secs_f64()
        && longest.as_secs_f64() < 0.5 * BURST / RATE;
    let least = all.get().unwrap().elapsed().as_secs_f64();
    // What a busy machine has left in the store.
    let mut client = gateways[0].client();
    let rest = |key: &String| (0..1000).take_while(|_| passes(&mut client, key)).count();
    let passed = passed + keys.iter().map(rest).sum::<usize>();
    let most = first.into_inner().unwrap().unwrap().elapsed().as_secs_f64();
    Hammered { passed: passed as f64, most, least, callers, kept_pace }
}

impl Hammered {
    /// Within one percent of the limit, and what leases may add or lose; below it where fewer were sent.
    fn assert_within(self, gateways: usize, leases: bool) -> Self {
        let Self { passed, most, least, callers, kept_pace } = &self;
        let limit = |seconds| callers * RATE * seconds;
        let holders = callers * gateways as f64 * WORKERS;
        let (late, lost) =
            if leases { (callers * RATE * LEASE_LIFE, holders * LEASE) } else { (0.0, 0.0) };
        // What was earned while no worker asked.
        let untaken = callers * RATE * 0.05;
        let least = if *kept_pace { limit(*least) * 0.99 - lost - untaken } else { 0.0 };
        let allowed = least..=limit(*most) * 1.01 + late;
        eprintln!("{passed} in {most} s, of {allowed:?}");
        assert!(allowed.contains(passed), "{passed} in {most} s, not within {allowed:?}");
        self
    }
}

/// Tries until the senders keep pace, which a busy machine may not let them: each time no more passes than
/// may, and then as much passes as may.
fn until_pace_is_kept(mut attempt: impl FnMut() -> Hammered) {
    assert!((0..5).any(|_| attempt().kept_pace), "this machine does too much besides");
}

/// Adds callers with that limit; gives their keys.
fn hammered(setup: &mut Setup, callers: usize) -> Vec<String> {
    let limit = format!("limit = {{ rate = \"{RATE}/s\", burst = {BURST} }}");
    (0..callers).map(|place| setup.caller(&format!("hammer-{place}"), &profile(&limit))).collect()
}

/// So many gateways on one store, and the keys of so many callers.
fn gateways(count: usize, store: &str, callers: usize) -> (Vec<Process>, Vec<String>) {
    // So patient that a busy machine is no store that does not answer.
    let setup = setup(&format!("{store}\ntimeout = \"2s\""));
    let mut setup = setup.set("listen.workers", 1);
    let keys = hammered(&mut setup, callers);
    ((0..count).map(|_| setup.copy().start()).collect(), keys)
}

#[test]
fn one_gateway_in_memory() {
    let mut setup = Setup::new("http://127.0.0.1:9");
    let keys = hammered(&mut setup, 1);
    let gateway = [setup.start()];
    until_pace_is_kept(|| hammer(&gateway, &keys).assert_within(1, false));
}

#[test]
fn two_gateways_without_leases_are_as_one() {
    let redis = Redis::start();
    let (gateways, keys) = gateways(2, &format!("url = \"{}\"\nlease = false", redis.url()), 1);
    until_pace_is_kept(|| hammer(&gateways, &keys).assert_within(2, false));
}

#[test]
fn four_gateways_with_leases_stay_within_what_leases_may_add_or_lose() {
    let redis = Redis::start();
    let (gateways, keys) = gateways(4, &format!("url = \"{}\"", redis.url()), 1);
    let counted = || {
        let sum = |name: &str| gateways.iter().map(|gateway| gateway.metric(name)).sum::<f64>();
        let known = sum("wbg_limit_decisions_total{by=\"memory\"}")
            + sum("wbg_limit_decisions_total{by=\"lease\"}");
        (sum("wbg_limit_decisions_total{by=\"store\"}"), known)
    };
    until_pace_is_kept(|| {
        let (before, begun) = (counted(), Instant::now());
        let hammered = hammer(&gateways, &keys);
        let took = begun.elapsed().as_secs_f64();
        let hammered = hammered.assert_within(4, true);
        let (asked, known) = counted();
        let (asked, known) = (asked - before.0, known - before.1);
        eprintln!("{known} without a way to the store, {asked} with one, in {took} s");
        // Of a caller that is refused, a worker asks again after 25 ms; what passes takes a way each at
        // most.
        let ways = 4.0 * took / 0.025 + RATE * took + BURST;
        assert!(asked < ways, "{asked} ways to the store, at most {ways} expected");
        assert!(known > asked || !hammered.kept_pace, "{known} without a way, {asked} with one");
        hammered
    });
}

#[test]
fn two_gateways_on_a_cluster_are_as_one() {
    let nodes = Redis::cluster(&[]);
    let urls: Vec<String> = nodes.iter().map(|node| format!("\"{}\"", node.url())).collect();
    let store = format!("url = [{}]\nmode = \"cluster\"", urls.join(", "));
    let (gateways, keys) = gateways(2, &store, 2);
    until_pace_is_kept(|| hammer(&gateways, &keys).assert_within(2, true));
}
