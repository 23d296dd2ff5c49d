//! The policy of whole configurations, by an oracle that shares no code with it: each is drawn from
//! a seed, as are its callers and what they ask, and goes through the real gateway to a service that
//! looks into the tokens that it is shown.
//!
//! `docs/oracle.md` says what must hold, how to run more of it, and how to replay a seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "what fails here is a finding, and says what it knows"
)]

mod ask;
mod change;
mod check;
mod difference;
mod fixture;
mod gateway;
mod oracle;
mod shadow;
#[path = "../it/support/signer.rs"]
#[allow(dead_code, reason = "not every kind of key signs here")]
mod signer;
mod table;
mod upstream;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use fastrand::Rng;
use tokio::runtime::{Builder, LocalOptions};

use ask::Request;
use check::{Checked, check, expected};
use gateway::{Sent, Started};
use oracle::Decision;
use table::Table;
use upstream::Service;
use world::{World, often};

/// As many cases are run when no one asks for more.
const CASES: u64 = 1_000;

/// So many show everything that can be.
const FULL: u64 = 20_000;

/// So many of them are of one configuration; of one in thirty, which is refused as it must, none is.
const PER_CONFIGURATION: u64 = 8;

/// The first few that are wrong tell enough.
const ENOUGH: usize = 5;

/// What has come of a configuration, or of many.
#[derive(Default)]
struct Report {
    table: Table,
    configurations: u64,
    refused_configurations: u64,
    /// Requests in the midst of which the configuration changed.
    changed: u64,
    exceptions: BTreeMap<&'static str, u32>,
    broken: Vec<String>,
}

impl Report {
    fn merge(&mut self, other: Self) {
        self.table.merge(&other.table);
        self.configurations += other.configurations;
        self.refused_configurations += other.refused_configurations;
        self.changed += other.changed;
        for (what, count) in other.exceptions {
            *self.exceptions.entry(what).or_default() += count;
        }
        self.broken.extend(other.broken);
    }
}

/// Runs the configuration of a seed, and the cases of it.
fn run(seed: u64, tell: bool) -> Report {
    // The gateway draws from this one.
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let world = World::draw(&mut rng);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .unwrap();
    let text = world.text();
    if tell {
        eprintln!("{text}");
    }
    runtime.block_on(cases(seed, &mut rng, world, text, tell))
}

async fn cases(seed: u64, rng: &mut Rng, mut world: World, text: String, tell: bool) -> Report {
    let mut report = Report { configurations: 1, ..Report::default() };
    let service = Service::begin(&world.operations);
    let mut started = match Started::open(text) {
        Ok(started) if !world.contradicts_itself() => started,
        Ok(_) => {
            report.broken.push(found(seed, "the configuration contradicts itself and is taken"));
            return report;
        }
        Err(errors) => {
            report.refused_configurations = 1;
            if !world.contradicts_itself() {
                report.broken.push(found(seed, &format!("the configuration is refused: {errors}")));
            }
            return report;
        }
    };
    let mut checked = Checked::default();
    for _ in 0..PER_CONFIGURATION {
        let mut request = Request::draw(rng, &world, &checked.seen);
        let granted = !matches!(expected(&world, &request), Decision::Refused(..));
        let mut midway = None;
        if granted && !request.body.is_empty() && often(rng, 25) {
            world = world.changed(rng, &request);
            midway = Some(world.text());
            request.look(&world);
            checked.seen.credentials.iter_mut().for_each(|one| one.look(&world));
            report.changed += 1;
        }
        let sent = Sent {
            client: request.credential.client,
            method: request.operation.method,
            path: &request.path,
            fields: &request.credential.fields,
            body: &request.body,
            http2: often(rng, 40),
            midway,
        };
        let answer = match started.call(&sent).await {
            Ok(answer) => answer,
            Err(error) => {
                report.broken.push(found(seed, &format!("no answer to {request:?}: {error}")));
                break;
            }
        };
        let came = service.take();
        if tell {
            eprintln!("{request:#?}\n{answer:#?}\n{came:#?}");
        }
        check(&world, &started.snapshot, &request, &answer, &came, &mut checked);
        let granted = !matches!(expected(&world, &request), Decision::Refused(..));
        report.table.add(&world, &request, granted);
        checked.seen.credentials.push(request.credential);
    }
    report.exceptions = checked.exceptions;
    report.broken.extend(checked.broken.iter().map(|what| found(seed, what)));
    report
}

fn found(seed: u64, what: &str) -> String {
    format!(
        "seed {seed}: {what}\n  replay it: ORACLE_SEED={seed} cargo nextest run --test \
         policy_oracle --no-capture decision\n"
    )
}

/// Runs seeds on every core until there are enough cases, or enough is wrong.
fn run_all(configurations: u64) -> Report {
    let (next, total) = (AtomicU64::new(0), Mutex::new(Report::default()));
    let work = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < configurations
        {
            let report = run(seed, false);
            let mut total = total.lock().unwrap();
            total.merge(report);
            if total.broken.len() >= ENOUGH {
                break;
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

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number: {text}")))
}

#[test]
fn every_decision_is_the_oracles_and_no_token_is_more_than_its_row() {
    if let Some(seed) = number("ORACLE_SEED") {
        let report = run(seed, true);
        assert!(report.broken.is_empty(), "\n{}", report.broken.join("\n"));
        return;
    }
    let begun = Instant::now();
    let cases = number("ORACLE_CASES").unwrap_or(CASES);
    let report = run_all((cases * 105).div_ceil(PER_CONFIGURATION * 100));
    let Report { table, configurations, refused_configurations, .. } = &report;
    eprintln!(
        "{configurations} configurations, {refused_configurations} of them refused as they must; \
         {} cases, {} granted, {} of credentials that do not hold, {} in the midst of which the \
         configuration changed, {:?}\n{}",
        table.all,
        table.granted,
        table.unknown,
        report.changed,
        begun.elapsed(),
        table.text()
    );
    for (exception, count) in &report.exceptions {
        eprintln!("{count:>8} {exception}");
    }
    let unseen = table.unseen();
    eprintln!("never seen, of what can be: {unseen:?}");
    assert!(report.broken.is_empty(), "\n{}", report.broken.join("\n"));
    assert!(u64::from(table.granted) * 100 >= u64::from(table.all) * 30, "too few are granted");
    assert!(cases < FULL || *configurations >= 2_000, "too few configurations");
    assert!(cases < FULL || unseen.is_empty(), "the table has holes");
}
