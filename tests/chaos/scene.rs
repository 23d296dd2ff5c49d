//! A gateway as one scene needs it: its configuration, its disks and its pipes.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::identity::{replace, slot};
use crate::process::{Gateway, Process};
use crate::service::Way;
use crate::table::Fault;

/// The limit of the backend in a second: nothing comes up to it.
const LIMIT: u32 = 1_000_000;

/// What all gateways of a run have in common.
pub(crate) struct Ground {
    pub(crate) folder: PathBuf,
    pub(crate) binary: PathBuf,
    /// Where it listens.
    pub(crate) port: u16,
    /// The ways to the service, which take turns.
    pub(crate) ways: Vec<Way>,
    /// Where the identity provider gives out its keys.
    pub(crate) provider: String,
    /// The port of the sentinel, where there is a store.
    pub(crate) sentinel: Option<u16>,
    pub(crate) key: String,
    pub(crate) metered: String,
    /// The library that makes a clock jump.
    pub(crate) faketime: Option<PathBuf>,
}

/// A gateway that runs, and what it writes to.
pub(crate) struct Scene {
    pub(crate) gateway: Gateway,
    pub(crate) folder: PathBuf,
    /// What reads its standard output and error.
    pub(crate) reader: Process,
    /// What reads its access log, where that is a pipe.
    pub(crate) log_reader: RefCell<Option<Process>>,
    /// By which way it asks the service.
    pub(crate) way: &'static str,
    faults: Vec<Fault>,
    round: Cell<u32>,
    /// Its configuration under a limit of so many requests a second.
    configuration: Box<dyn Fn(u32) -> String>,
}

impl Ground {
    /// Starts the gateway of a scene, and waits until it is ready.
    pub(crate) async fn start(&self, number: usize, faults: &[Fault]) -> anyhow::Result<Scene> {
        let folder = self.folder.join(format!("scene-{number}"));
        fs::create_dir(&folder)?;
        fs::create_dir(folder.join("disk"))?;
        if faults.contains(&Fault::FullDisk) {
            fs::create_dir(folder.join("small"))?;
            run("mount", &["-t", "tmpfs", "-o", "size=1m", "none"], &folder.join("small"))?;
        }
        let way = &self.ways[number % self.ways.len()];
        let configuration = self.configuration(&folder, faults, way)?;
        let config = folder.join("gateway.toml");
        replace(&config, &configuration(LIMIT))?;
        // A line of the file is how far ahead the clock is.
        fs::write(folder.join("clock"), "+0")?;
        let log = folder.join("log");
        let fifo = folder.join("pipe");
        run("mkfifo", &[], &fifo)?;
        let mut reads = Command::new("cat");
        reads.arg(&fifo);
        let reader = Process::start(reads, log.clone())?;
        let log_reader = RefCell::new(match faults.contains(&Fault::LogReader) {
            true => {
                run("mkfifo", &[], &folder.join("access.fifo"))?;
                Some(log_reader(&folder)?)
            }
            false => None,
        });
        let output = File::options().write(true).open(&fifo)?;
        let command = self.command(&folder, &config, faults);
        let gateway = Gateway::of(Process::writing(command, output, log)?).await?;
        let (faults, round) = (faults.to_vec(), Cell::new(0));
        let way = way.name;
        Ok(Scene { gateway, folder, reader, log_reader, way, faults, round, configuration })
    }

    fn command(&self, folder: &Path, config: &Path, faults: &[Fault]) -> Command {
        let mut command = if faults.contains(&Fault::HungDisk) {
            let mut over = Command::new("/usr/bin/python3");
            over.arg(root().join("tests/it/disks/stops.py"));
            over.arg(folder.join("disk")).arg(folder.join("disk.pid")).arg("--").arg(&self.binary);
            over
        } else {
            Command::new(&self.binary)
        };
        command.args(["serve", "--config"]).arg(config);
        command.env("SOAK_SK", "soak-secret-key").env("WBG__ADMIN__ADDRESS", "127.0.0.1:0");
        if let (true, Some(library)) = (faults.contains(&Fault::ClockJump), &self.faketime) {
            command.env("LD_PRELOAD", library);
            command.env("FAKETIME_TIMESTAMP_FILE", folder.join("clock"));
            command.env("FAKETIME_CACHE_DURATION", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        command
    }

    fn configuration(
        &self,
        folder: &Path,
        faults: &[Fault],
        way: &Way,
    ) -> anyhow::Result<Box<dyn Fn(u32) -> String>> {
        let (port, upstream) = (self.port, way.url.clone());
        let authority = way.authority.as_ref().map(|path| format!("ca = \"{}\"\n", path.display()));
        let authority = authority.unwrap_or_default();
        let (shared, own) = (self.folder.display().to_string(), folder.display().to_string());
        let (key, metered) = (slot(&self.key)?, slot(&self.metered)?);
        let access = match faults {
            _ if faults.contains(&Fault::BlockedPipe) => "stdout".to_owned(),
            _ if faults.contains(&Fault::LogReader) => format!("{own}/access.fifo"),
            _ if faults.contains(&Fault::FullDisk) => format!("{own}/small/access.log"),
            _ => format!("{own}/access.log"),
        };
        let audit = match faults.contains(&Fault::HungDisk) {
            true => format!("file = \"{own}/disk/audit.jsonl\"\nmode = \"required\""),
            false => format!("file = \"{own}/audit.jsonl\"\nmode = \"best_effort\""),
        };
        let keys = match faults.contains(&Fault::ProviderHangs) {
            true => format!("jwks = \"{}\"", self.provider),
            false => format!("key_file = \"{shared}/keys.json\""),
        };
        let (store, budget) = match self.sentinel {
            Some(sentinel) => (
                format!(
                    "[store]\nurl = [\"redis://127.0.0.1:{sentinel}\"]\nmode = \"sentinel\"\n\
                     master = \"gateways\"\ntimeout = \"500ms\"\n"
                ),
                "budgets = [{ of = \"tokens\", most = 1000000, per = \"day\" }]",
            ),
            None => (String::new(), ""),
        };
        Ok(Box::new(move |limit| {
            format!(
                r#"
[listen]
address = "0.0.0.0:{port}"
share = true
workers = 2
pre_drain = "1s"
drain = "10s"
max_connections = 400
trusted_proxies = ["127.0.0.0/8"]
[listen.tls]
certificate = "{shared}/tls/certificate.pem"
key = "{shared}/tls/key.pem"
[log]
format = "json"
access = "{access}"
[audit]
{audit}
[upstream]
url = "{upstream}"
{authority}connect_timeout = "1s"
first_byte_timeout = "2s"
timeout = "5s"
[upstream.breaker]
max_open = "2s"
{store}[projects.classroom]
keys = [{{ access_key = "soak", secret_key = {{ env = "SOAK_SK" }} }}]
[profiles.backend]
project = "classroom"
allow = ["rooms.create", "rooms.get", "rooms.list", "tokens.room"]
rooms = "any"
role = "admin"
max_lifespan = "24h"
limit = {{ rate = "{limit}/s", burst = 1000000 }}
[profiles.metered]
project = "classroom"
allow = ["tokens.room"]
rooms = "any"
role = "admin"
max_lifespan = "24h"
{budget}
[callers.load]
profile = "backend"
keys = [{key}]
[callers.metered]
profile = "metered"
keys = [{metered}]
[issuers.soak]
issuer = "https://idp.example"
audience = "whiteboard"
{keys}
profile = "backend"
"#
            )
        }))
    }
}

impl Scene {
    /// Another configuration: a real change, or every other time one that is broken.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        self.round.set(self.round.get() + 1);
        let round = self.round.get();
        let text = match round % 2 {
            0 => "[listen\naddress = 7\n".to_owned(),
            _ => (self.configuration)(LIMIT + round),
        };
        replace(&self.folder.join("gateway.toml"), &text)?;
        if round.is_multiple_of(3) {
            self.gateway.process.signal("HUP")?;
        }
        Ok(())
    }

    /// The configuration that it began with.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        replace(&self.folder.join("gateway.toml"), &(self.configuration)(LIMIT))
    }

    /// Lets somebody read its access log, where that is a pipe that nobody reads.
    pub(crate) fn read_log(&self) -> anyhow::Result<()> {
        let mut reader = self.log_reader.borrow_mut();
        if reader.is_none() {
            *reader = Some(log_reader(&self.folder)?);
        }
        Ok(())
    }

    /// The process that serves its disk.
    pub(crate) fn disk_signal(&self, name: &str) -> anyhow::Result<()> {
        let pid = fs::read_to_string(self.folder.join("disk.pid"))?;
        ensure!(Command::new("kill").args(["-s", name, &pid]).status()?.success(), "no disk");
        Ok(())
    }

    /// What it says of the clock: so many seconds ahead.
    pub(crate) fn clock(&self, ahead: &str) -> anyhow::Result<()> {
        replace(&self.folder.join("clock"), ahead)
    }

    /// Sets a limit of the process, the soft one.
    pub(crate) fn limit(&self, what: &str, most: &str) -> anyhow::Result<()> {
        let id = self.gateway.process.id().to_string();
        let limit = format!("--{what}={most}:");
        let mut command = Command::new("prlimit");
        command.args(["--pid", &id, &limit]);
        ensure!(command.status()?.success(), "{limit} cannot be set");
        Ok(())
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.gateway.process.id()))?.count())
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.gateway.process.id()))?.count())
    }

    /// What it has said that it never may.
    pub(crate) fn defects(&self) -> Option<String> {
        let said = self.gateway.process.said();
        said.lines().find(|line| line.contains("a defect")).map(str::to_owned)
    }

    pub(crate) fn describe(&self) -> String {
        let names: Vec<_> = self.faults.iter().map(|fault| fault.name()).collect();
        format!("{}, the service over {}", names.join(" + "), self.way)
    }
}

/// Reads the pipe that is the access log, until it is killed: open for both, it sees no end.
fn log_reader(folder: &Path) -> anyhow::Result<Process> {
    let mut command = Command::new("/usr/bin/python3");
    // F_SETPIPE_SZ: what is written while nobody reads is to find no room.
    let reads = "import fcntl, os, sys\nend = os.open(sys.argv[1], os.O_RDWR)\n\
                 fcntl.fcntl(end, 1031, 4096)\nwhile os.read(end, 65536): pass";
    command.arg("-c").arg(reads).arg(folder.join("access.fifo"));
    Process::start(command, folder.join("log-reader.log"))
}

/// Where the project is.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn run(program: &str, arguments: &[&str], path: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).arg(path).stdin(Stdio::null());
    let status = command.status().with_context(|| format!("{program} cannot be run"))?;
    ensure!(status.success(), "{program} failed");
    Ok(())
}
