//! One run of one seed, from the first call until nothing is left.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Once;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::task::spawn_local;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use crate::callers::Client;
use crate::check::check;
use crate::gateway::{self, House};
use crate::plan::{Plan, millis};
use crate::threads::Threads;
use crate::world::World;

/// How often callers are forgotten that have not called for a while.
const FORGET: Duration = Duration::from_secs(10);

/// Around so many reloads callers use up what they have.
const BURSTS: u32 = 3;

/// Longer than any caller takes.
const LONGEST: Duration = Duration::from_secs(3_600);

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What has come of a run.
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    /// What happened, a line each.
    pub(crate) trace: String,
    /// Which promises were broken.
    pub(crate) broken: Vec<String>,
    pub(crate) seen: BTreeMap<String, u32>,
    pub(crate) requests: usize,
}

impl Report {
    pub(crate) fn hash(&self) -> u32 {
        crc32fast::hash(self.trace.as_bytes())
    }
}

/// Runs a seed.
pub(crate) fn run(seed: u64) -> Report {
    notice_panics();
    // What is drawn once in a process is not drawn from the seed.
    gateway::warm_up();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(LocalOptions::default())
        .expect("a runtime");
    let world = runtime.block_on(async {
        let world = World::begin(seed);
        happen(&world).await;
        world
    });
    // Whatever is left goes without a word, as with a process.
    drop(runtime);
    World::end();
    check(&world);
    for panic in PANICS.take() {
        world.broken(format!("a panic: {panic}"));
    }
    let (trace, requests) = (world.trace(), world.requests.borrow().len());
    let (broken, seen) = (world.broken.take(), world.seen.take());
    Report { seed, plan: world.plan.clone(), trace, broken, seen, requests }
}

async fn happen(world: &Rc<World>) {
    let house = House::open(world);
    let threads = world.threads.is_some().then(|| spawn_local(Threads::run(Rc::clone(world))));
    let clients: Vec<_> = (0..world.plan.clients)
        .map(|number| spawn_local(Client::new(world, &house.door, number).run()))
        .collect();
    let mut calling = pin!(async {
        for client in clients {
            _ = client.await;
        }
    });
    let begun = Instant::now();
    let mut reloads = world.plan.reloads.iter().peekable();
    let stop = begun + world.plan.stop.unwrap_or(LONGEST);
    let mut forget = interval(FORGET);
    let mut pauses = world.plan.pauses.iter().peekable();
    let mut jumps = world.plan.jumps.iter().peekable();
    let mut forgets = world.plan.forgets.map(|at| begun + at);
    let mut all_done = false;
    let mut bursts = (0..BURSTS).filter(|_| world.plan.bursts);
    loop {
        let reload = reloads.peek().map_or(stop, |(at, _)| begun + *at);
        tokio::select! {
            biased;
            () = &mut calling => {
                all_done = true;
                break;
            }
            () = sleep_until(reload.min(stop)) => match reloads.next_if(|_| reload < stop) {
                Some((_, configured)) => match bursts.next() {
                    None => house.reload(*configured),
                    Some(number) => {
                        Client::bursts(world, &house.door, 2 * number).await;
                        house.reload(*configured);
                        Client::bursts(world, &house.door, 2 * number + 1).await;
                    }
                },
                None => break,
            },
            () = sleep_until(next(pauses.peek(), begun)), if pauses.peek().is_some() => {
                let pause = pauses.next().map_or(Duration::ZERO, |(_, time)| *time);
                world.pauses(pause).await;
            }
            () = sleep_until(next(jumps.peek(), begun)), if jumps.peek().is_some() => {
                world.sets_clock(jumps.next().map_or(0, |(_, seconds)| *seconds));
            }
            () = sleep_until(forgets.unwrap_or(begun + LONGEST)), if forgets.is_some() => {
                forgets = None;
                world.forgets();
            }
            () = world.dismiss.notified() => house.dismiss(),
            _ = forget.tick() => house.forget_idle(),
        }
    }
    let pre_drain = millis(&mut world.fork(), 0..3_000);
    let late: Vec<_> = reloads.copied().collect();
    house.stop(pre_drain, &late).await;
    if !all_done && timeout(LONGEST, calling).await.is_err() && !world.cut.get() {
        world.broken("a caller waits for ever".to_owned());
    }
    // What the upstream's connections need to end.
    sleep(Duration::from_secs(120)).await;
    threads.into_iter().for_each(|threads| threads.abort());
    if world.outbound.now() > 0 && !world.cut.get() {
        let left = world.outbound.now();
        world.broken(format!("{left} connections to the upstream are left"));
    }
}

/// When the next thing happens, of those that have a time.
fn next<T>(planned: Option<&&(Duration, T)>, begun: Instant) -> Instant {
    planned.map_or(begun + LONGEST, |(at, _)| begun + *at)
}

/// Panics are written down, wherever they end.
fn notice_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if World::current().is_some() {
                PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            }
            before(panic);
        }));
    });
}
