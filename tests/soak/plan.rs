//! What happens when: restarts of the upstream on their own, everything else one after another, so
//! that each change can be seen to have taken effect.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::identity::new_key;
use crate::load::Load;
use crate::process::{self, Gateway, free_port};
use crate::report::{self, Changes, Lives};
use crate::sample::Series;
use crate::tally::Tally;
use crate::time::{scenario_delay, wait_until};
use crate::tls::Dial;
use crate::world::World;

/// How often the configuration changes.
const RELOAD: Duration = Duration::from_secs(5);

/// How often the certificate and the identity provider's keys do.
const ROTATE: Duration = Duration::from_secs(10);

/// How often the upstream is restarted.
const RESTART: Duration = Duration::from_secs(20);

/// How long it is away.
const AWAY: Duration = Duration::from_millis(400);

/// How long a change may take to be seen.
const SEEN: Duration = Duration::from_secs(15);

/// What is to be done.
pub(crate) struct Plan {
    pub(crate) gateway: PathBuf,
    pub(crate) length: Duration,
    pub(crate) callers: usize,
    pub(crate) pause: Duration,
}

/// What came of it.
pub(crate) struct Soaked {
    pub(crate) report: String,
    pub(crate) well: bool,
    pub(crate) folder: TempDir,
}

/// What is under way.
struct Course {
    plan: Rc<Plan>,
    world: World,
    load: Rc<Load>,
    /// The process that serves, or that is to take over.
    current: Rc<Gateway>,
    lives: Lives,
    changes: Changes,
    /// The key of a caller that comes and goes.
    guest: Option<String>,
    round: u32,
}

impl Plan {
    /// Does all of it.
    pub(crate) async fn carry_out(self: Rc<Self>) -> anyhow::Result<Soaked> {
        let folder = tempfile::tempdir()?;
        let world = World::new(folder.path(), free_port()?, free_port()?)?;
        let tally = Rc::new(Tally::new());
        let log = folder.path().join("sandbox.log");
        let listen = SocketAddr::from(([127, 0, 0, 1], world.upstream));
        let sandbox = process::sandbox(&self.gateway, listen, log.clone()).await?;
        let first = Rc::new(Gateway::start(&self.gateway, &world.config(), "first").await?);
        let load = Rc::new(Load {
            dial: Dial::new(&world.identity.authority_pem)?
                .to(SocketAddr::from(([127, 0, 0, 1], world.port))),
            tally: Rc::clone(&tally),
            key: world.key.clone(),
            jwt: RefCell::new(world.identity.jwt()?),
            stop: Cell::new(false),
            pause: self.pause,
        });
        let restarting = Rc::clone(&self).restart(sandbox, listen, log, Rc::clone(&tally));
        let restarting = spawn_local(restarting);
        let calling: Vec<_> =
            (0..self.callers).map(|number| spawn_local(Rc::clone(&load).call(number))).collect();
        let lives = vec![watched(&first)];
        let mut course = Course {
            plan: Rc::clone(&self),
            world,
            load: Rc::clone(&load),
            current: first,
            lives,
            changes: Changes::default(),
            guest: None,
            round: 0,
        };
        let done = course.run().await;
        load.stop.set(true);
        for caller in calling {
            caller.await?;
        }
        restarting.abort();
        if let Err(error) = done {
            tally.violated(format!("{error:#}"));
        }
        let (report, well) = report::write(&self, &tally, &course.changes, &course.lives);
        Ok(Soaked { report, well, folder })
    }

    /// Restarts the upstream forever, by turns with and without a word.
    async fn restart(
        self: Rc<Self>,
        mut sandbox: process::Process,
        listen: SocketAddr,
        log: PathBuf,
        tally: Rc<Tally>,
    ) {
        for signal in ["TERM", "KILL"].iter().cycle() {
            scenario_delay(RESTART).await;
            tally.upstream_goes();
            let restarted = async {
                sandbox.signal(signal)?;
                sandbox.ended().await?;
                scenario_delay(AWAY).await;
                process::sandbox(&self.gateway, listen, log.clone()).await
            };
            match restarted.await {
                Ok(another) => sandbox = another,
                Err(error) => return tally.violated(format!("the sandbox: {error:#}")),
            }
            tally.upstream_is_back();
        }
    }
}

/// Looks at a process once a second for as long as someone holds it.
fn watched(gateway: &Rc<Gateway>) -> Rc<RefCell<Series>> {
    let series = Rc::new(RefCell::new(Series::default()));
    let (seen, gateway) = (Rc::clone(&series), Rc::downgrade(gateway));
    spawn_local(async move {
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let Some(gateway) = gateway.upgrade() else { return };
            if gateway.leaves.get() {
                return;
            }
            seen.borrow_mut().look(gateway.process.id(), begun.elapsed());
        }
    });
    series
}

impl Course {
    async fn run(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let (end, middle) = (begun + self.plan.length, begun + self.plan.length / 2);
        let (mut reload, mut rotate) = (begun + RELOAD, begun + ROTATE / 4);
        let mut handed_over = false;
        loop {
            let next =
                if handed_over { reload.min(rotate) } else { reload.min(rotate).min(middle) };
            if next >= end {
                sleep_until(end).await;
                return Ok(());
            }
            sleep_until(next).await;
            if next == rotate {
                rotate += ROTATE;
                self.rotate().await.context("a rotation")?;
            } else if next == reload {
                reload += RELOAD;
                self.reload().await.context("a reload")?;
            } else {
                handed_over = true;
                self.hand_over().await.context("the hand-over")?;
            }
        }
    }

    /// Waits until a reload has come to `result`, once more than `before`.
    async fn reloaded(&self, result: &str, before: u64) -> anyhow::Result<()> {
        let counted = async || Ok(self.current.reloads(result).await? > before);
        wait_until(&format!("a reload is `{result}`"), SEEN, counted).await
    }

    /// Another configuration: a real change, or every fourth time one that is broken.
    async fn reload(&mut self) -> anyhow::Result<()> {
        self.round += 1;
        let version = self.current.ready().await?["config"]["version"].clone();
        if self.round.is_multiple_of(4) {
            let failed = self.current.reloads("failed").await?;
            self.world.break_configuration()?;
            self.reloaded("failed", failed).await?;
            self.changes.refused += 1;
            let ready = self.current.ready().await?;
            let config = &ready["config"];
            ensure!(ready["ready"] == true, "a broken file makes it unready: {ready}");
            ensure!(config["version"] == version, "a broken file counts: {ready}");
            ensure!(config["reload_error"].is_string(), "a broken file is not told: {ready}");
            return Ok(());
        }
        let before = self.guest.take();
        self.guest = (self.round % 2 == 1).then(new_key).transpose()?;
        let loaded = self.current.reloads("loaded").await?;
        self.world.configure(self.round, self.guest.as_deref())?;
        if self.round.is_multiple_of(3) {
            // Otherwise the change is seen without a word.
            self.current.process.signal("HUP")?;
        }
        self.reloaded("loaded", loaded).await?;
        self.changes.loaded += 1;
        let ready = self.current.ready().await?;
        ensure!(ready["config"]["version"] != version, "the old configuration counts: {ready}");
        ensure!(ready["config"]["reload_error"].is_null(), "an error is told: {ready}");
        if let Some(key) = &self.guest {
            let status = self.load.status_for(key).await?;
            ensure!(status == 201, "a caller that was added gets {status}");
        }
        if let Some(key) = &before {
            let status = self.load.status_for(key).await?;
            ensure!(status == 401, "a caller that was taken away gets {status}");
        }
        Ok(())
    }

    /// Another certificate and another key of the identity provider.
    async fn rotate(&mut self) -> anyhow::Result<()> {
        // A broken configuration would keep the gateway from reading them.
        self.world.configure(self.round, self.guest.as_deref())?;
        let certificate = self.world.identity.rotate_certificate()?;
        self.world.identity.rotate_keys()?;
        let shown = async || Ok(self.load.dial.certificate().await? == certificate);
        wait_until("the new certificate is shown", SEEN, shown).await?;
        let jwt = self.world.identity.jwt()?;
        let known = async || Ok(self.load.status_for(&jwt).await? == 201);
        wait_until("the new key is known", SEEN, known).await?;
        *self.load.jwt.borrow_mut() = jwt;
        self.changes.rotated += 1;
        Ok(())
    }

    /// A second process on the same port, and SIGTERM for the first.
    async fn hand_over(&mut self) -> anyhow::Result<()> {
        let config = self.world.config();
        self.world.configure(self.round, self.guest.as_deref())?;
        let second = Rc::new(Gateway::start(&self.plan.gateway, &config, "second").await?);
        self.lives.push(watched(&second));
        let first = std::mem::replace(&mut self.current, second);
        let begun = Instant::now();
        first.leaves.set(true);
        first.process.signal("TERM")?;
        let ended = first.process.ended().await?;
        ensure!(ended.code() == Some(0), "the first process ended with {ended}");
        self.changes.handed_over = Some(begun.elapsed());
        Ok(())
    }
}
