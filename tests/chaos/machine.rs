//! What breaks things: each fault by the means of this machine, and whether it has them.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::task::{JoinHandle, spawn_local};

use crate::identity::Identity;
use crate::load::{Lane, Load};
use crate::peers;
use crate::provider::Provider;
use crate::scene::{Scene, root};
use crate::service::Service;
use crate::store::Store;
use crate::table::Fault;
use crate::time::scenario_delay;

/// The host of the link that is the service.
pub(crate) const SERVICE: u8 = 11;

/// The host of the link by which far callers come.
pub(crate) const GATEWAY: u8 = 12;

/// The round trip of the link when nothing is broken, and when it is long, in seconds.
const SHORT: &str = "0.002";
const LONG: &str = "0.3";

/// Everything around the gateway.
pub(crate) struct Machine {
    pub(crate) link: Option<RefCell<Link>>,
    pub(crate) service: Service,
    pub(crate) provider: Provider,
    pub(crate) store: Option<RefCell<Store>>,
    pub(crate) identity: Rc<RefCell<Identity>>,
    pub(crate) load: Rc<Load>,
    /// A way to the gateway with nothing in between.
    pub(crate) near: Lane,
    pub(crate) faketime: Option<PathBuf>,
    /// Where groups of processes have bounds of threads.
    pub(crate) threads: Option<PathBuf>,
    tasks: RefCell<Vec<(Fault, JoinHandle<()>)>>,
    crowd: Rc<Cell<u64>>,
}

/// The link, as a program that goes by lines.
pub(crate) struct Link {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Link {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut command = Command::new("/usr/bin/python3");
        command.arg(root().join("tests/it/link/relay.py")).args(["--round-trip", SHORT]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("a link without input")?;
        let output = BufReader::new(child.stdout.take().context("a link without output")?);
        let mut link = Self { child, input, output };
        link.wait("ready")?;
        Ok(link)
    }

    fn say(&mut self, words: &str) -> anyhow::Result<()> {
        writeln!(self.input, "{words}")?;
        self.wait("done")
    }

    fn wait(&mut self, word: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line.trim() == word, "the link does not stand");
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Machine {
    pub(crate) fn new(
        link: Option<Link>,
        (service, provider): (Service, Provider),
        store: Option<Store>,
        identity: Rc<RefCell<Identity>>,
        load: Rc<Load>,
        near: Lane,
    ) -> Self {
        Self {
            link: link.map(RefCell::new),
            service,
            provider,
            store: store.map(RefCell::new),
            identity,
            load,
            near,
            faketime: faketime(),
            threads: group(),
            tasks: RefCell::default(),
            crowd: Rc::default(),
        }
    }

    /// Why this machine cannot make a fault.
    pub(crate) fn lacks(&self, fault: Fault) -> Option<&'static str> {
        let namespace = std::env::var_os("CHAOS_NAMESPACE").is_some();
        let (lacks, what) = match fault {
            Fault::BlackHole
            | Fault::DeadConnections
            | Fault::LongLink
            | Fault::NarrowLink
            | Fault::LossyLink => (self.link.is_none(), "there is no network of one's own here"),
            Fault::StoreFailover | Fault::StorePaused => {
                (self.store.is_none(), "redis-server and redis-sentinel are not here")
            }
            Fault::FullDisk => (!namespace, "nothing can be mounted here"),
            Fault::HungDisk => (
                !namespace || !Path::new("/dev/fuse").exists(),
                "there is no file system in user space here",
            ),
            Fault::ClockJump => (self.faketime.is_none(), "libfaketime is not here"),
            Fault::FewThreads => (self.threads.is_none(), "threads have no bound here"),
            _ => (false, ""),
        };
        lacks.then_some(what)
    }

    /// Breaks something.
    pub(crate) async fn begin(&self, fault: Fault, scene: &Rc<Scene>) -> anyhow::Result<()> {
        match fault {
            Fault::BlackHole => ip(&["route", "add", "blackhole", &far_side()]),
            Fault::DeadConnections => self.link(&format!("forget {SERVICE}")),
            Fault::LongLink => self.link(&format!("round-trip {LONG}")),
            Fault::LossyLink => self.link("loss 0.03"),
            Fault::NarrowLink => {
                let bucket = ["rate", "320kbit", "burst", "16kb", "latency", "500ms"];
                tc(&[&["qdisc", "add", "dev", "link0", "root", "tbf"][..], &bucket].concat())
            }
            Fault::ServiceKilled => {
                self.service.kill();
                Ok(())
            }
            Fault::ServicePaused => self.service.signal("STOP"),
            Fault::StoreFailover => self.store()?.borrow_mut().kill_master(),
            Fault::StorePaused => self.store()?.borrow().stop_master(),
            Fault::FullDisk => {
                // What is there already stays; not a byte more.
                _ = fs::write(scene.folder.join("small/filler"), vec![0; 2 << 20]);
                Ok(())
            }
            Fault::HungDisk => scene.disk_signal("STOP"),
            Fault::BlockedPipe => scene.reader.signal("STOP"),
            Fault::FileSize => scene.limit("fsize", "0"),
            Fault::FewDescriptors => scene.limit("nofile", &(scene.descriptors()? + 2).to_string()),
            Fault::FewThreads => self.few_threads(scene),
            Fault::Paused => scene.gateway.process.signal("STOP"),
            Fault::Starved => {
                let scene = Rc::clone(scene);
                self.spawn(fault, async move {
                    while scene.gateway.process.signal("STOP").is_ok() {
                        scenario_delay(Duration::from_millis(120)).await;
                        _ = scene.gateway.process.signal("CONT");
                        scenario_delay(Duration::from_millis(30)).await;
                    }
                });
                Ok(())
            }
            Fault::ClockJump => scene.clock("+10m"),
            Fault::Reloads => {
                let scene = Rc::clone(scene);
                self.spawn(fault, async move {
                    while scene.reload().is_ok() {
                        scenario_delay(Duration::from_millis(500)).await;
                    }
                });
                Ok(())
            }
            Fault::Crowd => {
                let (near, count) = (self.near.address, Rc::clone(&self.crowd));
                self.spawn(fault, peers::crowd(self.load.dial.to(near), near, count));
                Ok(())
            }
            Fault::Rotation => {
                let (identity, load) = (Rc::clone(&self.identity), Rc::clone(&self.load));
                let near = self.near;
                self.spawn(fault, async move {
                    if let Err(error) = rotate(&identity, &load, near).await {
                        load.account.violated(format!("a rotation: {error:#}"));
                    }
                });
                Ok(())
            }
            Fault::LongAnswers => {
                for http2 in [false, true] {
                    let name =
                        ["HTTP/1.1, long answers", "HTTP/2, long answers"][usize::from(http2)];
                    let lane = Lane { name, http2, ..self.near };
                    self.spawn(fault, Rc::clone(&self.load).read_long(lane));
                }
                Ok(())
            }
            Fault::Unread => {
                self.spawn(fault, peers::unread(Rc::clone(&self.load), self.near));
                Ok(())
            }
            Fault::HalfCloses => {
                for _ in 0..3 {
                    self.spawn(fault, Rc::clone(&self.load).half_close(self.near));
                }
                self.spawn(fault, peers::break_off(Rc::clone(&self.load), self.near));
                Ok(())
            }
            Fault::LogReader => {
                let scene = Rc::clone(scene);
                self.spawn(fault, async move {
                    loop {
                        scene.log_reader.take();
                        scenario_delay(Duration::from_millis(667)).await;
                        _ = scene.read_log();
                        scenario_delay(Duration::from_millis(333)).await;
                    }
                });
                Ok(())
            }
            Fault::ProviderHangs => {
                self.provider.hangs.set(true);
                self.spawn(fault, peers::unknown_keys(Rc::clone(&self.load), self.near));
                Ok(())
            }
        }
    }

    /// Mends it.
    pub(crate) async fn end(&self, fault: Fault, scene: &Scene) -> anyhow::Result<()> {
        for (_, task) in self.tasks.borrow_mut().extract_if(.., |(of, _)| *of == fault) {
            task.abort();
        }
        match fault {
            Fault::BlackHole => ip(&["route", "del", "blackhole", &far_side()]),
            Fault::LongLink => self.link(&format!("round-trip {SHORT}")),
            Fault::LossyLink => self.link("loss 0"),
            Fault::NarrowLink => tc(&["qdisc", "del", "dev", "link0", "root"]),
            Fault::ServiceKilled => {
                self.load.account.restarts.set(self.load.account.restarts.get() + 1);
                self.service.start_again().await
            }
            Fault::ServicePaused => self.service.signal("CONT"),
            Fault::StoreFailover => self.store()?.borrow_mut().revive(),
            Fault::StorePaused => self.store()?.borrow().go_on(),
            Fault::FullDisk => Ok(fs::remove_file(scene.folder.join("small/filler"))?),
            Fault::HungDisk => scene.disk_signal("CONT"),
            Fault::BlockedPipe => scene.reader.signal("CONT"),
            Fault::FileSize => scene.limit("fsize", "unlimited"),
            Fault::FewDescriptors => scene.limit("nofile", "1024"),
            Fault::FewThreads => {
                let group = self.threads.as_ref().context("no bound of threads")?;
                Ok(fs::write(group.join("pids.max"), "max")?)
            }
            Fault::Paused | Fault::Starved => scene.gateway.process.signal("CONT"),
            Fault::ClockJump => scene.clock("+0"),
            Fault::Reloads => scene.settle(),
            Fault::LogReader => scene.read_log(),
            Fault::ProviderHangs => {
                self.provider.hangs.set(false);
                Ok(())
            }
            Fault::DeadConnections
            | Fault::Crowd
            | Fault::Rotation
            | Fault::LongAnswers
            | Fault::Unread
            | Fault::HalfCloses => Ok(()),
        }
    }

    /// Whether a fault can be made again already.
    pub(crate) fn is_whole(&self) -> bool {
        self.store.as_ref().is_none_or(|store| store.borrow().has_replica())
    }

    fn link(&self, words: &str) -> anyhow::Result<()> {
        self.link.as_ref().context("there is no link")?.borrow_mut().say(words)
    }

    fn store(&self) -> anyhow::Result<&RefCell<Store>> {
        self.store.as_ref().context("there is no store")
    }

    fn few_threads(&self, scene: &Scene) -> anyhow::Result<()> {
        let group = self.threads.as_ref().context("no bound of threads")?;
        fs::write(group.join("cgroup.procs"), scene.gateway.process.id().to_string())?;
        Ok(fs::write(group.join("pids.max"), scene.threads()?.to_string())?)
    }

    fn spawn(&self, fault: Fault, work: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push((fault, spawn_local(work)));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(group) = &self.threads {
            _ = fs::remove_dir(group);
        }
    }
}

/// From where the service's answers come to the link: without a way there, none arrives.
fn far_side() -> String {
    format!("10.9.9.{SERVICE}/32")
}

fn ip(words: &[&str]) -> anyhow::Result<()> {
    ensure!(Command::new("ip").args(words).status()?.success(), "ip {words:?} failed");
    Ok(())
}

fn tc(words: &[&str]) -> anyhow::Result<()> {
    ensure!(Command::new("tc").args(words).status()?.success(), "tc {words:?} failed");
    Ok(())
}

/// Another certificate and another key, again and again, each when the one before is known.
async fn rotate(identity: &RefCell<Identity>, load: &Load, near: Lane) -> anyhow::Result<()> {
    loop {
        // The last one first: what ended this before may have been in the midst of it.
        let jwt = identity.borrow().jwt()?;
        while load.status_for(near, &jwt).await.ok() != Some(201) {
            scenario_delay(Duration::from_millis(100)).await;
        }
        *load.jwt.borrow_mut() = jwt;
        scenario_delay(Duration::from_millis(300)).await;
        identity.borrow_mut().rotate_certificate()?;
        identity.borrow_mut().rotate_keys()?;
    }
}

/// The library that makes a clock jump, where it is.
fn faketime() -> Option<PathBuf> {
    let architectures = fs::read_dir("/usr/lib").ok()?;
    let paths =
        architectures.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    paths.into_iter().find(|path| path.exists())
}

/// A group of processes with a bound of threads, where one can be made: by either version of cgroups.
fn group() -> Option<PathBuf> {
    let name = format!("chaos-{}", std::process::id());
    let groups = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(|root| Path::new(root).join(&name));
    groups.into_iter().find(|group| {
        let made = fs::create_dir(group).is_ok();
        let works = made && fs::write(group.join("pids.max"), "max").is_ok();
        if made && !works {
            _ = fs::remove_dir(group);
        }
        works
    })
}
