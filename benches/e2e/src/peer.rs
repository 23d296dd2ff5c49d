//! The peers: how each is configured, started and stopped, and whether it does the work.

mod check;
mod process;
mod template;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, getrlimit};
use tokio::time::sleep;

use crate::certificates;
use crate::load::{Call, Target};
use crate::provider::{Algorithm, SECRET, Tokens};
use crate::sample::Tree;
use crate::scenario::{Credential, Limits, Scenario, Sent, Wire};
use crate::upstream::Upstream;
use process::Process;
pub use process::{all_cores, signal};
use template::Template;

/// Who is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    Nginx,
    Haproxy,
    /// A bare proxy of hyper: the floor of the gateway's stack.
    Hyper,
    /// A bare server of hyper that answers a constant: the floor of HTTP/2 from callers.
    Constant,
    Gateway,
    /// Another build of the gateway (`--before`).
    Before,
}

impl Kind {
    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::Hyper => "bare hyper",
            Self::Constant => "hyper, a constant",
            Self::Gateway => "gateway",
            Self::Before => "gateway before",
        }
    }
}

/// The keys of callers.
pub struct Keys {
    /// The one that is let in.
    pub good: String,
    /// One that is well formed and that no one knows.
    pub wrong: String,
    id: String,
    digest: String,
}

/// What all peers of a run have in common.
pub struct Ground {
    pub directory: tempfile::TempDir,
    pub keys: Keys,
    tokens: BTreeMap<Algorithm, Tokens>,
    pub upstream: Upstream,
    pub token: String,
    gateway: PathBuf,
    before: Option<PathBuf>,
    /// The core of a proxy with one worker.
    pub proxy_core: usize,
}

impl Ground {
    /// Makes certificates and keys, and starts the upstream.
    pub async fn lay(
        gateway: PathBuf,
        before: Option<PathBuf>,
        proxy_core: usize,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("whiteboard-e2e-").tempdir()?;
        certificates::write(directory.path())?;
        let files = ["certificate.pem", "key.pem"].map(|name| directory.path().join(name));
        let upstream = Upstream::start(certificates::server_from_files(&files)?).await?;
        let keys = Keys::make(&gateway)?;
        fs::write(directory.path().join("keys.map"), format!("{} bench\n", keys.good))?;
        // As long as a real one: what is injected is part of what a request costs.
        let token = format!("NETLESSROOM_{}", "YWs9YmVuY2gmbm9uY2U9".repeat(12));
        let tokens = BTreeMap::new();
        Ok(Self { directory, keys, tokens, upstream, token, gateway, before, proxy_core })
    }

    /// Has tokens signed, so many of them to be shown once.
    pub fn sign(&mut self, algorithm: Algorithm, fresh: usize) -> anyhow::Result<()> {
        let tokens = Tokens::sign(algorithm, fresh, self.directory.path())?;
        self.tokens.insert(algorithm, tokens);
        Ok(())
    }

    /// The tokens that were signed.
    pub fn tokens(&self, algorithm: Algorithm) -> anyhow::Result<&Tokens> {
        self.tokens.get(&algorithm).context("no token was signed")
    }

    /// What is let in.
    pub fn good(&self, credential: Credential) -> anyhow::Result<&str> {
        match credential.algorithm() {
            None => Ok(&self.keys.good),
            Some(algorithm) => Ok(&self.tokens(algorithm)?.good),
        }
    }

    /// What must be refused, and what it is.
    fn refused(&self, credential: Credential) -> anyhow::Result<Vec<(&'static str, &str)>> {
        let wrong = ("a request with a wrong key", &*self.keys.wrong);
        let Some(algorithm) = credential.algorithm() else { return Ok(vec![wrong]) };
        let tokens = self.tokens(algorithm)?.refused.iter();
        Ok(tokens.map(|(what, token)| (*what, &**token)).chain([wrong]).collect())
    }
}

impl Keys {
    /// Real keys if there is a gateway to make them, else some that are as long.
    fn make(gateway: &Path) -> anyhow::Result<Self> {
        if !gateway.exists() {
            let key = |fill: &str| format!("wbg_test_{}_{}", fill.repeat(12), fill.repeat(49));
            let (id, digest) = (String::new(), String::new());
            return Ok(Self { good: key("a"), wrong: key("b"), id, digest });
        }
        let (good, wrong) = (new_key(gateway)?, new_key(gateway)?);
        let text = |name: &str| Some(good[name].as_str()?.to_owned());
        let told = || {
            let wrong = wrong["key"].as_str()?.to_owned();
            Some(Self { good: text("key")?, wrong, id: text("id")?, digest: text("digest")? })
        };
        told().context("`key new --json` tells no key, id or digest")
    }
}

fn new_key(gateway: &Path) -> anyhow::Result<serde_json::Value> {
    let output = Command::new(gateway).args(["key", "new", "--test", "--json"]).output()?;
    ensure!(output.status.success(), "`{} key new --test --json` failed", gateway.display());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A peer that runs and does the work.
pub struct Peer {
    /// Where it is spoken to; offers HTTP/1.1, or HTTP/2 where the scenario says so.
    pub target: Rc<Target>,
    /// Its processes.
    pub tree: Tree,
    /// From its start to its first answer.
    pub took: Duration,
    _process: Process,
    /// What it counts in; its CPU is not the peer's.
    _store: Option<Process>,
}

impl Peer {
    /// Starts it as the scenario wants it and sees that it does the work.
    pub async fn start(kind: Kind, scenario: &Scenario, ground: &Ground) -> anyhow::Result<Self> {
        let (port, admin, store) = (free_port()?, free_port()?, free_port()?);
        let plan = Plan { kind, scenario, ground, port, admin, store };
        let store = match scenario.limits {
            Limits::Memory => None,
            Limits::Leased | Limits::Asked => Some(plan.start_store().await?),
        };
        let command = plan.command()?;
        let log = ground.directory.path().join(format!("{kind:?}.out").to_lowercase());
        let cores = (scenario.workers == 1).then_some(ground.proxy_core);
        let began = Instant::now();
        let mut process = Process::start(command, cores, &log)?;
        let http1 = plan.target(b"http/1.1")?;
        let call = Call::get(ground.good(scenario.credential)?);
        first_answer(&http1, &call, &mut process).await.with_context(|| process.said())?;
        let took = began.elapsed();
        if kind != Kind::Constant {
            check::works(&http1, scenario, ground).await.with_context(|| process.said())?;
        }
        let target = if scenario.inbound == Wire::TlsH2 { plan.target(b"h2")? } else { http1 };
        let tree = Tree::of(process.id());
        Ok(Self { target: Rc::new(target), tree, took, _process: process, _store: store })
    }
}

/// Asks until there is an answer.
async fn first_answer(target: &Target, call: &Call, process: &mut Process) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        // Refused while no one listens.
        if let Ok(mut connection) = target.connect(8 * 1024).await
            && let Ok(status) = connection.exchange(&call.bytes).await
        {
            ensure!(call.takes(status), "the first answer is a {status}");
            return Ok(());
        }
        process.still_runs()?;
        ensure!(Instant::now() < deadline, "no answer within 10 s");
        sleep(Duration::from_millis(1)).await;
    }
}

/// How a peer is to run.
struct Plan<'a> {
    kind: Kind,
    scenario: &'a Scenario,
    ground: &'a Ground,
    port: u16,
    admin: u16,
    store: u16,
}

impl Plan<'_> {
    fn command(&self) -> anyhow::Result<Command> {
        let command = match self.kind {
            Kind::Nginx => {
                self.write("jwt.lua", include_str!("../peers/jwt.lua"))?;
                let mut command = Command::new("nginx");
                command.arg("-p").arg(self.ground.directory.path());
                command
                    .arg("-c")
                    .arg(self.write("nginx.conf", include_str!("../peers/nginx.conf"))?);
                command
            }
            Kind::Haproxy => {
                let file = self.write("haproxy.cfg", include_str!("../peers/haproxy.cfg"))?;
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(file);
                command
            }
            Kind::Hyper | Kind::Constant => self.bare()?,
            Kind::Gateway => self.gateway(&self.ground.gateway)?,
            Kind::Before => {
                self.gateway(self.ground.before.as_deref().context("`--before` is missing")?)?
            }
        };
        Ok(command)
    }

    fn gateway(&self, binary: &Path) -> anyhow::Result<Command> {
        let file = self.write("gateway.toml", include_str!("../peers/gateway.toml"))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(file);
        command.env("BENCH_SECRET_KEY", "bench-secret-key-of-no-project");
        command.env("BENCH_JWT_SECRET", SECRET);
        Ok(command)
    }

    /// Starts a Redis beside the load, and waits until it takes connections.
    async fn start_store(&self) -> anyhow::Result<Process> {
        let directory = self.ground.directory.path();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &self.store.to_string()]);
        command.arg("--dir").arg(directory);
        // On the core of the load: there is none but the peer's otherwise.
        let core = (0..all_cores()).find(|core| *core != self.ground.proxy_core);
        let mut store = Process::start(command, core, &directory.join("redis.out"))?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.store)).is_err() {
            store.still_runs().with_context(|| store.said())?;
            ensure!(Instant::now() < deadline, "redis takes no connections");
            sleep(Duration::from_millis(5)).await;
        }
        Ok(store)
    }

    fn bare(&self) -> anyhow::Result<Command> {
        let directory = self.ground.directory.path();
        let limit = Limit::of(self.scenario);
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["proxy", "--listen", &self.address().to_string()]);
        command.args(["--upstream", &format!("127.0.0.1:{}", self.upstream_port())]);
        command.args(["--workers", &self.scenario.workers.to_string()]);
        command.args(["--key", &self.ground.keys.good, "--token", &self.ground.token]);
        command.args(["--interval-ns", limit.interval_ns, "--burst", limit.burst]);
        if self.scenario.inbound != Wire::Plain {
            command
                .arg("--tls")
                .args(["certificate.pem", "key.pem"].map(|name| directory.join(name)));
        }
        if self.scenario.outbound != Wire::Plain {
            command.arg("--upstream-ca").arg(directory.join("ca.pem"));
        }
        if self.scenario.outbound == Wire::TlsH2 {
            command.arg("--upstream-h2");
        }
        if self.scenario.sent == Sent::SchoolDay {
            command.arg("--all");
        }
        if self.kind == Kind::Constant {
            command.arg("--constant");
        }
        if self.scenario.access_log {
            command.arg("--access-log").arg(directory.join("hyper.access.log"));
        }
        Ok(command)
    }

    fn write(&self, name: &str, template: &str) -> anyhow::Result<PathBuf> {
        let Self { scenario, ground, .. } = self;
        let directory = ground.directory.path();
        let limit = Limit::of(scenario);
        let algorithm = scenario.credential.algorithm();
        let jwt = algorithm.map(Algorithm::name).unwrap_or_default();
        let jwt_key = match algorithm {
            Some(Algorithm::Hs256) => SECRET.to_owned(),
            _ => directory.join(format!("jwt-{jwt}.pem")).display().to_string(),
        };
        let filled = Template {
            words: &[
                ("plain", scenario.inbound == Wire::Plain),
                ("tls", scenario.inbound != Wire::Plain),
                ("tls_h1", scenario.inbound == Wire::TlsH1),
                ("tls_h2", scenario.inbound == Wire::TlsH2),
                ("plain_upstream", scenario.outbound == Wire::Plain),
                ("tls_upstream", scenario.outbound != Wire::Plain),
                ("h1_upstream", scenario.outbound == Wire::TlsH1),
                ("h2_upstream", scenario.outbound == Wire::TlsH2),
                ("part", scenario.sent != Sent::SchoolDay),
                ("all", scenario.sent == Sent::SchoolDay),
                ("part_key", scenario.sent != Sent::SchoolDay && algorithm.is_none()),
                ("part_jwt", scenario.sent != Sent::SchoolDay && algorithm.is_some()),
                ("key", algorithm.is_none()),
                ("jwt", algorithm.is_some()),
                ("jwt_secret", algorithm == Some(Algorithm::Hs256)),
                ("jwt_public", algorithm.is_some_and(|one| one != Algorithm::Hs256)),
                ("log", scenario.access_log),
                ("quiet", !scenario.access_log),
                ("store", scenario.limits != Limits::Memory),
                ("asked", scenario.limits == Limits::Asked),
                ("long_bodies", matches!(scenario.sent, Sent::LongBodies(_))),
            ],
            values: &[
                ("directory", &directory.display().to_string()),
                ("port", &self.port.to_string()),
                ("admin_port", &self.admin.to_string()),
                ("store_port", &self.store.to_string()),
                ("upstream_port", &self.upstream_port().to_string()),
                ("workers", &scenario.workers.to_string()),
                ("descriptors", &descriptors().to_string()),
                ("haproxy_connections", &haproxy_connections().to_string()),
                ("key", &ground.keys.good),
                ("key_id", &ground.keys.id),
                ("key_digest", &ground.keys.digest),
                ("token", &ground.token),
                ("jwt_algorithm", jwt),
                ("jwt_key", &jwt_key),
                ("nginx_rate", limit.nginx_rate),
                ("nginx_burst", limit.nginx_burst),
                ("haproxy_most", limit.haproxy_most),
                ("haproxy_window", limit.haproxy_window),
                ("gateway_rate", limit.gateway_rate),
                ("gateway_burst", limit.burst),
            ],
        }
        .fill(template)
        .with_context(|| format!("in peers/{name}"))?;
        let path = directory.join(name);
        fs::write(&path, filled)?;
        Ok(path)
    }

    fn target(&self, protocol: &[u8]) -> anyhow::Result<Target> {
        if self.scenario.inbound == Wire::Plain {
            return Ok(Target::new(self.address(), None));
        }
        let mut tls = certificates::client_from_file(&self.ground.directory.path().join("ca.pem"))?;
        tls.alpn_protocols = vec![protocol.to_vec()];
        Ok(Target::new(self.address(), Some(tls)))
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    fn upstream_port(&self) -> u16 {
        let upstream = &self.ground.upstream;
        match self.scenario.outbound {
            Wire::Plain => upstream.plain,
            Wire::TlsH1 => upstream.tls,
            Wire::TlsH2 => upstream.tls_h2,
        }
    }
}

/// The same limit in the words of each peer.
struct Limit {
    nginx_rate: &'static str,
    nginx_burst: &'static str,
    haproxy_most: &'static str,
    haproxy_window: &'static str,
    gateway_rate: &'static str,
    interval_ns: &'static str,
    burst: &'static str,
}

impl Limit {
    fn of(scenario: &Scenario) -> &'static Self {
        if scenario.sent == Sent::Limited { &Self::TIGHT } else { &Self::AMPLE }
    }

    /// It counts every request and refuses none.
    const AMPLE: Self = Self {
        nginx_rate: "1000000r/s",
        nginx_burst: "burst=1000000",
        haproxy_most: "10000000",
        haproxy_window: "1s",
        gateway_rate: "1000000/s",
        interval_ns: "1000",
        burst: "1000000",
    };

    /// It lets one request through in a minute.
    const TIGHT: Self = Self {
        nginx_rate: "1r/m",
        nginx_burst: "",
        haproxy_most: "1",
        haproxy_window: "60s",
        gateway_rate: "1/m",
        interval_ns: "60000000000",
        burst: "1",
    };
}

/// How many descriptors a process may have.
pub fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(65_536)
}

/// HAProxy does not start where it could not have two descriptors for each.
fn haproxy_connections() -> usize {
    (descriptors() / 2).saturating_sub(500).min(25_000)
}

impl Kind {
    /// How many connections of callers it can have, with some descriptors to spare on both sides.
    pub fn connections(self) -> usize {
        match self {
            Self::Haproxy => haproxy_connections() - 100,
            _ => descriptors().saturating_sub(5_000),
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
