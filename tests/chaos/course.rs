//! What happens when: scene after scene, each with a gateway of its own that takes over from the one
//! before, and in each one fault or two while the load goes on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;

use crate::account::Account;
use crate::fronts::{Fronts, is_there};
use crate::identity::{Identity, new_key};
use crate::load::{Lane, Load};
use crate::machine::{GATEWAY, Link, Machine, SERVICE};
use crate::process::free_port;
use crate::provider::Provider;
use crate::report;
use crate::scene::{Ground, Scene};
use crate::service::Service;
use crate::store::Store;
use crate::table::{Fault, TABLE};
use crate::time::{scenario_delay, wait_until};
use crate::tls::Dial;

/// How long a scene is quiet before its faults: until the process before accepts nothing any more, so
/// that there is one whose files and keys count.
const QUIET: Duration = Duration::from_millis(1_500);

/// How much later the second fault begins, so that both begin and end by themselves.
const LATER: Duration = Duration::from_millis(700);

/// How long a process may take to end: `pre_drain`, `drain` and what is left.
const END: Duration = Duration::from_secs(14);

/// What is to be done.
pub(crate) struct Plan {
    pub(crate) gateway: PathBuf,
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    /// These faults alone.
    pub(crate) only: Vec<Fault>,
    pub(crate) callers: usize,
    pub(crate) pause: Duration,
}

/// What came of it.
pub(crate) struct Ran {
    pub(crate) report: String,
    pub(crate) well: bool,
    pub(crate) folder: TempDir,
}

/// What a run has not done, and what it has.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) scenes: usize,
    pub(crate) not_run: Vec<(&'static str, String)>,
}

impl Plan {
    /// Does all of it.
    pub(crate) async fn carry_out(self) -> anyhow::Result<Ran> {
        let folder = tempfile::tempdir()?;
        let account = Rc::new(Account::new());
        let mut done = Done::default();
        let stage = Stage::build(&self, folder.path().to_owned(), &account, &mut done).await?;
        let mut current = Rc::new(stage.ground.start(0, &[]).await?);
        account.service.set(current.way);
        let calling: Vec<JoinHandle<()>> = stage
            .lanes
            .iter()
            .flat_map(|lane| std::iter::repeat_n(*lane, self.callers))
            .map(|lane| spawn_local(Rc::clone(&stage.load).call(lane)))
            .collect();
        let mut leaving: Vec<JoinHandle<()>> = Vec::new();
        let begun = Instant::now();
        let scenes = self.scenes(&stage.machine);
        // However little time there is, each fault is met once.
        let least = scenes.iter().flatten().collect::<BTreeSet<_>>().len().div_ceil(2);
        for (number, faults) in scenes.into_iter().enumerate() {
            if begun.elapsed() >= self.length && number >= least {
                break;
            }
            let next = Rc::new(stage.ground.start(number + 1, &faults).await?);
            let before = std::mem::replace(&mut current, next);
            leaving.push(spawn_local(leave(before, Rc::clone(&account))));
            println!("{:>6.1} s  {}", begun.elapsed().as_secs_f64(), current.describe());
            if let Err(error) = stage.scene(&current, &faults).await {
                account.violated(format!("{}: {error:#}", current.describe()));
                break;
            }
            done.scenes += 1;
        }
        stage.load.stop.set(true);
        for task in calling.into_iter().chain(leaving) {
            task.await?;
        }
        leave(current, Rc::clone(&account)).await;
        let (report, well) = report::write(&self, &account, &done, begun.elapsed());
        Ok(Ran { report, well, folder })
    }

    /// The faults of each scene: where there is time, each alone first; then two at a time, until
    /// all pairs have been, and anew.
    fn scenes(&self, machine: &Machine) -> Vec<Vec<Fault>> {
        let mut dice = fastrand::Rng::with_seed(self.seed);
        let wanted = |fault: &Fault| self.only.is_empty() || self.only.contains(fault);
        let mut all: Vec<Fault> = TABLE.iter().map(|row| row.fault).filter(wanted).collect();
        all.retain(|fault| machine.lacks(*fault).is_none());
        dice.shuffle(&mut all);
        let alone: Vec<Vec<Fault>> = all.iter().map(|fault| vec![*fault]).collect();
        // So that few scenes have all of them once: neighbours first.
        let mut pairs: Vec<Vec<Fault>> = Vec::new();
        for distance in 1..all.len() {
            let of_distance = |first: usize| vec![all[first], all[first + distance]];
            let (even, odd): (Vec<usize>, Vec<usize>) =
                (0..all.len() - distance).partition(|first| (first / distance).is_multiple_of(2));
            pairs.extend(even.into_iter().chain(odd).map(of_distance));
        }
        // A scene takes about so long.
        let room_for = (self.length.as_secs_f64() / 12.0) as usize;
        if room_for >= alone.len() || pairs.is_empty() {
            alone.into_iter().chain(pairs).collect()
        } else {
            pairs
        }
    }
}

/// A gateway is told to stop, and must end in order.
async fn leave(scene: Rc<Scene>, account: Rc<Account>) {
    let begun = Instant::now();
    scene.gateway.leaves.set(true);
    let ended = async {
        scene.gateway.process.signal("TERM")?;
        scene.gateway.process.ended().await
    };
    match ended.await {
        Ok(status) if status.code() == Some(0) && begun.elapsed() <= END => {}
        Ok(status) => account.violated(format!(
            "the gateway of {} ended with {status} after {:?}",
            scene.describe(),
            begun.elapsed()
        )),
        Err(error) => account.violated(format!("the gateway of {}: {error:#}", scene.describe())),
    }
    if let Some(line) = scene.defects() {
        account.violated(format!("the gateway of {} said {line}", scene.describe()));
    }
}

/// Everything that stays from scene to scene.
struct Stage {
    ground: Ground,
    machine: Machine,
    load: Rc<Load>,
    lanes: Vec<Lane>,
    _fronts: Fronts,
}

impl Stage {
    async fn build(
        plan: &Plan,
        folder: PathBuf,
        account: &Rc<Account>,
        done: &mut Done,
    ) -> anyhow::Result<Self> {
        let identity = Identity::new(&folder)?;
        let link = std::env::var_os("CHAOS_NAMESPACE").map(|_| Link::start()).transpose()?;
        fs::write(folder.join("authority.pem"), &identity.authority_pem)?;
        let host = if link.is_some() { format!("10.9.0.{SERVICE}") } else { "localhost".into() };
        let service = Service::start(&plan.gateway, &folder, &host).await?;
        let port = free_port()?;
        let has_store = is_there("redis-server") && is_there("redis-sentinel");
        let store = if has_store { Some(Store::start(&folder).await?) } else { None };
        let fronts = Fronts::start(&folder, port).await?;
        for missing in &fronts.missing {
            done.not_run.push((missing, "it is not on this machine".to_owned()));
        }
        let near = |name, http2| Lane { name, address: ([127, 0, 0, 1], port).into(), http2 };
        let far = |name, http2| Lane { name, address: ([10, 9, 0, GATEWAY], port).into(), http2 };
        let mut lanes = vec![near("HTTP/1.1", false), near("HTTP/2", true)];
        if link.is_some() {
            lanes.extend([far("HTTP/1.1 from afar", false), far("HTTP/2 from afar", true)]);
        }
        lanes.extend(&fronts.lanes);
        let load = Rc::new(Load {
            dial: Dial::new(&identity.authority_pem)?,
            account: Rc::clone(account),
            key: new_key()?,
            metered: new_key()?,
            budgets: store.is_some(),
            jwt: RefCell::new(identity.jwt()?),
            stop: Cell::new(false),
            pause: plan.pause,
        });
        let sentinel = store.as_ref().map(|store| store.sentinel);
        let ways = service.ways.clone();
        if ways.len() < 2 {
            let why = "haproxy is not on this machine".to_owned();
            done.not_run.push(("HTTP/2 to the service", why));
        }
        let provider = Provider::start(&folder).await?;
        let provider_url = provider.url.clone();
        let machine = Machine::new(
            link,
            (service, provider),
            store,
            Rc::new(RefCell::new(identity)),
            Rc::clone(&load),
            near("HTTP/1.1", false),
        );
        for row in TABLE {
            if let Some(why) = machine.lacks(row.fault) {
                done.not_run.push((row.name, why.to_owned()));
            }
        }
        for (name, why) in &done.not_run {
            println!("NOT RUN: {name}: {why}");
        }
        let ground = Ground {
            folder,
            binary: plan.gateway.clone(),
            port,
            ways,
            provider: provider_url,
            sentinel,
            key: load.key.clone(),
            metered: load.metered.clone(),
            faketime: machine.faketime.clone(),
        };
        Ok(Self { ground, machine, load, lanes, _fronts: fronts })
    }

    /// The faults of a scene, each with its length, and the time in which they are felt.
    async fn scene(&self, scene: &Rc<Scene>, faults: &[Fault]) -> anyhow::Result<()> {
        let account = &self.load.account;
        account.service.set(scene.way);
        if faults.iter().any(|fault| matches!(fault, Fault::LongAnswers | Fault::Unread)) {
            self.machine.service.fill().await?;
        }
        scenario_delay(QUIET).await;
        let begun = Instant::now();
        let mut events: Vec<(Duration, Fault, bool)> = Vec::new();
        for (number, fault) in (0_u32..).zip(faults) {
            let from = LATER * number;
            events.push((from, *fault, true));
            events.push((from + Duration::from_secs_f64(fault.row().lasts), *fault, false));
        }
        events.sort_by_key(|(at, ..)| *at);
        for (at, fault, begins) in events {
            tokio::time::sleep_until(begun + at).await;
            if begins {
                account.begins(fault);
                self.machine.begin(fault, scene).await.with_context(|| fault.name())?;
            } else {
                self.machine.end(fault, scene).await.with_context(|| fault.name())?;
                account.ends(fault);
            }
        }
        let felt = faults.iter().map(|fault| fault.row().after).fold(0.0, f64::max);
        // And a second in which nothing is allowed any more.
        scenario_delay(Duration::from_secs_f64(felt + 1.0)).await;
        let back = async || Ok(!faults.contains(&Fault::StoreFailover) || self.machine.is_whole());
        wait_until("the store comes back", Duration::from_secs(20), back).await?;
        let (status, body) = scene.gateway.page("/livez").await?;
        ensure!(status == 200, "/livez says {body}");
        let (status, body) = scene.gateway.page("/readyz").await?;
        ensure!(status == 200, "/readyz says {body}");
        Ok(())
    }
}
