//! The store of a run: a model of a Redis whose master fails, and whose replica does not have the last
//! writes; or that hangs, and does what it was asked all the same.
//!
//! It runs no Lua: it knows the scripts of the gateway by their text, and does what they do. That they
//! do it is tested against a real one, in `tests/it/store/`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until};
use whiteboard_gateway::store::{Address, StoreDialler, StoreDialling, StoreStream};

use crate::plan::millis;
use crate::world::World;

const GCRA: &str = include_str!("../../src/limit/shared/gcra.lua");
const RESERVE: &str = include_str!("../../src/budget/store/reserve.lua");
const RELEASE: &str = include_str!("../../src/budget/store/release.lua");
const LASTING: &str = include_str!("../../src/budget/store/lasting.lua");

/// The second at which it begins, by its own clock.
const BEGINS: u64 = 1_800_000_000;

/// A time in which it is not as it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    /// It takes no connection; afterwards another is in its place that lacks the writes of so long
    /// before. `None` where it only answers nothing until then.
    pub(crate) fails: Option<Duration>,
}

/// The way from the gateway to it.
pub(crate) struct StoreWay;

/// What it keeps.
#[derive(Default)]
pub(crate) struct Store {
    entries: RefCell<BTreeMap<(String, String), Entry>>,
    /// What was there before each write, the last one last.
    writes: RefCell<Vec<Write>>,
    scripts: RefCell<BTreeSet<String>>,
    /// How many failures of the master are over.
    failed: Cell<usize>,
    /// What was taken, and was lost with a master: of limits, and of budgets.
    lost: Cell<(u32, u32)>,
}

#[derive(Clone, Copy)]
struct Entry {
    number: i64,
    until: Option<Instant>,
}

struct Write {
    at: Instant,
    key: (String, String),
    before: Option<Entry>,
    taken: (u32, u32),
}

/// What it answers.
enum Reply {
    Ok,
    Numbers(Vec<i64>),
    Error(&'static str),
}

impl StoreDialler for StoreWay {
    fn dial(&self, _: &Address) -> StoreDialling {
        Box::pin(async {
            let Some(world) = World::current() else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            let mut rng = world.fork();
            sleep(millis(&mut rng, 0..4)).await;
            if trouble(&world).is_some_and(|trouble| trouble.fails.is_some()) {
                world.count("the store takes no connection");
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (near, far) = duplex(64 * 1024);
            spawn_local(serve(far, rng));
            let stream: Box<dyn StoreStream> = Box::new(near);
            Ok(stream)
        })
    }
}

/// What is wrong with it now.
fn trouble(world: &World) -> Option<Trouble> {
    let now = world.elapsed();
    let troubles = world.plan.store.iter().flatten();
    troubles.copied().find(|trouble| (trouble.from..trouble.until).contains(&now))
}

/// One connection, until the master fails.
async fn serve(mut socket: DuplexStream, mut rng: Rng) {
    let Some(world) = World::current() else { return };
    let next = world.plan.store.iter().flatten().filter(|trouble| trouble.fails.is_some());
    let next = next.map(|trouble| world.begun() + trouble.from).filter(|at| *at > Instant::now());
    let fails = next.min().unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400));
    let mut bytes = Vec::new();
    let answering = async {
        loop {
            let Some(words) = command(&mut socket, &mut bytes).await else { return };
            sleep(millis(&mut rng, 0..12)).await;
            let reply = world.store.run(&words, &world);
            if let Some(Trouble { until, fails: None, .. }) = trouble(&world) {
                world.count("the store hangs");
                sleep_until(world.begun() + until).await;
            }
            if socket.write_all(&reply.encode()).await.is_err() {
                return;
            }
        }
    };
    _ = tokio::time::timeout_at(fails, answering).await;
}

/// The words of the next command (RESP: an array of bulk strings).
async fn command(socket: &mut DuplexStream, bytes: &mut Vec<u8>) -> Option<Vec<String>> {
    async fn line(socket: &mut DuplexStream, bytes: &mut Vec<u8>) -> Option<usize> {
        loop {
            if let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = bytes.drain(..end + 2).collect();
                return str::from_utf8(&line[1..end]).ok()?.parse().ok();
            }
            if socket.read_buf(bytes).await.ok()? == 0 {
                return None;
            }
        }
    }
    let mut words = Vec::new();
    for _ in 0..line(socket, bytes).await? {
        let length = line(socket, bytes).await?;
        while bytes.len() < length + 2 {
            if socket.read_buf(bytes).await.ok()? == 0 {
                return None;
            }
        }
        words.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        bytes.drain(..length + 2);
    }
    Some(words)
}

impl Store {
    /// What was lost with a master: taken from limits, and from budgets.
    pub(crate) fn lost(&self) -> (u32, u32) {
        self.lost.get()
    }

    /// Another server is in the place of a master that has failed.
    fn fails_over(&self, world: &World) {
        let over = world
            .plan
            .store
            .iter()
            .flatten()
            .filter(|one| one.fails.is_some() && one.from <= world.elapsed());
        for trouble in over.skip(self.failed.get()) {
            self.failed.set(self.failed.get() + 1);
            self.scripts.borrow_mut().clear();
            let since = world.begun() + (trouble.from - trouble.fails.unwrap_or_default());
            let mut lost = (0, 0);
            while let Some(write) = self.writes.borrow_mut().pop_if(|write| write.at >= since) {
                let mut entries = self.entries.borrow_mut();
                lost = (lost.0 + write.taken.0, lost.1 + write.taken.1);
                match write.before {
                    Some(entry) => _ = entries.insert(write.key, entry),
                    None => _ = entries.remove(&write.key),
                }
            }
            let (limits, budgets) = self.lost.get();
            self.lost.set((limits + lost.0, budgets + lost.1));
            world.note("store", &format!("fails over, and has lost {lost:?}"));
            world.count("the store fails over");
        }
    }

    fn run(&self, words: &[String], world: &World) -> Reply {
        self.fails_over(world);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["EVAL", text, ref rest @ ..] => {
                let name = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
                let name = name.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                self.scripts.borrow_mut().insert(name);
                self.script(text, rest, world)
            }
            ["EVALSHA", name, ref rest @ ..] => {
                let known = [GCRA, RESERVE, RELEASE, LASTING].into_iter().find(|text| {
                    let own = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
                    own.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
                        == name
                });
                match known.filter(|_| self.scripts.borrow().contains(name)) {
                    Some(text) => self.script(text, rest, world),
                    None => Reply::Error("NOSCRIPT No matching script"),
                }
            }
            _ => Reply::Ok,
        }
    }

    fn script(&self, text: &str, rest: &[&str], world: &World) -> Reply {
        let [count, rest @ ..] = rest else { return Reply::Error("ERR no keys") };
        let (keys, numbers) = rest.split_at(count.parse().unwrap_or(0));
        let told: Vec<i64> = numbers.iter().map(|text| text.parse().unwrap_or(0)).collect();
        match text {
            GCRA => self.limit(keys, &told, world),
            RESERVE => self.reserve(keys, &told, world),
            RELEASE => self.release(keys, numbers),
            LASTING => Reply::Numbers(vec![1, 1]),
            _ => {
                world.broken(format!("the model of the store does not know the script {text}"));
                Reply::Error("ERR unknown")
            }
        }
    }

    /// `gcra.lua`.
    fn limit(&self, keys: &[&str], told: &[i64], world: &World) -> Reply {
        let now = i64::try_from((Duration::from_secs(BEGINS) + world.elapsed()).as_micros())
            .unwrap_or(i64::MAX);
        let div_ceil = |number: i64, by: i64| (number + by - 1) / by;
        let (mut taken, rates) = (told[0], told[1..].chunks(3));
        let (mut arrivals, mut left) = (Vec::new(), Vec::new());
        for (at, (key, rate)) in keys.iter().zip(rates.clone()).enumerate() {
            let [requests, period, tolerance] = rate[..] else { return Reply::Error("ERR rate") };
            let arrival = self.get(key, "").unwrap_or(now);
            arrivals.push(now.max(arrival.min(now + tolerance)));
            let room = now + tolerance - arrivals[at];
            left.push(room * requests / period);
            if left[at] < 1 {
                left[at] = 0;
                let wait = div_ceil(period, requests) - room;
                return Reply::Numbers([vec![0, at as i64 + 1, wait], left].concat());
            }
            taken = taken.min(left[at]);
        }
        let (mut empty, mut wait) = (0, 0);
        for (at, (key, rate)) in keys.iter().zip(rates).enumerate() {
            let [requests, period, tolerance] = rate[..] else { continue };
            let arrival = arrivals[at] + div_ceil(taken * period, requests);
            let until = Duration::from_micros((arrival - now).unsigned_abs());
            let until = Instant::now() + until + Duration::from_millis(1);
            self.set(key, "", arrival, Some(until), (u32::try_from(taken).unwrap_or(0), 0));
            let room = now + tolerance - arrival;
            left[at] = room * requests / period;
            let more = div_ceil(period, requests) - room;
            if left[at] < 1 && more > wait {
                (empty, wait) = (at as i64 + 1, more);
            }
        }
        Reply::Numbers([vec![taken, empty, wait], left].concat())
    }

    /// `reserve.lua`.
    fn reserve(&self, keys: &[&str], told: &[i64], world: &World) -> Reply {
        let now = i64::try_from(BEGINS + world.elapsed().as_secs()).unwrap_or(i64::MAX);
        for (at, (key, claim)) in keys.iter().zip(told.chunks(4)).enumerate() {
            let [field, most, start, over] = claim[..] else { return Reply::Error("ERR claim") };
            if now < start || now >= over {
                return Reply::Numbers(vec![2, now]);
            }
            if self.get(key, &field.to_string()).unwrap_or(0) >= most {
                return Reply::Numbers(vec![1, now, at as i64 + 1]);
            }
        }
        let used = keys.iter().zip(told.chunks(4)).map(|(key, claim)| {
            let field = claim[0].to_string();
            let used = self.get(key, &field).unwrap_or(0) + 1;
            self.set(key, &field, used, None, (0, 1));
            used
        });
        let used: Vec<i64> = used.collect();
        Reply::Numbers([vec![0, now], used].concat())
    }

    /// `release.lua`.
    fn release(&self, keys: &[&str], told: &[&str]) -> Reply {
        let [mark, keys @ ..] = keys else { return Reply::Error("ERR no keys") };
        if self.get(mark, "").is_none() {
            self.set(mark, "", 1, Some(Instant::now() + Duration::from_secs(300)), (0, 0));
            for (key, field) in keys.iter().zip(&told[1..]) {
                if let Some(used) = self.get(key, field).filter(|used| *used > 0) {
                    self.set(key, field, used - 1, None, (0, 0));
                }
            }
        }
        Reply::Numbers(Vec::new())
    }

    fn get(&self, key: &str, field: &str) -> Option<i64> {
        let entries = self.entries.borrow();
        let entry = entries.get(&(key.to_owned(), field.to_owned()))?;
        entry.until.is_none_or(|until| until > Instant::now()).then_some(entry.number)
    }

    fn set(&self, key: &str, field: &str, number: i64, until: Option<Instant>, taken: (u32, u32)) {
        let key = (key.to_owned(), field.to_owned());
        let before = self.entries.borrow_mut().insert(key.clone(), Entry { number, until });
        self.writes.borrow_mut().push(Write { at: Instant::now(), key, before, taken });
    }
}

impl Reply {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ok => b"+OK\r\n".to_vec(),
            Self::Error(why) => format!("-{why}\r\n").into_bytes(),
            Self::Numbers(numbers) => {
                let each: String = numbers.iter().map(|number| format!(":{number}\r\n")).collect();
                format!("*{}\r\n{each}", numbers.len()).into_bytes()
            }
        }
    }
}

/// The way to it, for a configuration.
pub(crate) fn way() -> Arc<dyn StoreDialler> {
    Arc::new(StoreWay)
}
