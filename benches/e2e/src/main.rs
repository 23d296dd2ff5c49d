//! Compares what a request costs in whiteboard-gateway, nginx, HAProxy and a bare hyper proxy, in
//! one interleaved run on loopback. `benches/e2e/run` builds and installs what it needs;
//! `docs/measurements.md` has the method.
#![forbid(unsafe_code)]

mod certificates;
mod load;
mod local;
mod measure;
mod peer;
mod provider;
mod proxy;
mod report;
mod sample;
mod scenario;
mod upstream;
mod wire;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use peer::{Ground, Kind};
use provider::Algorithm;
use report::Results;
use scenario::{Credential, Scenario, Times};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares what a request costs in whiteboard-gateway, nginx, HAProxy and a bare hyper proxy.
#[derive(Parser)]
#[command(name = "benches/e2e/run", max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    comparison: Comparison,
}

#[derive(Subcommand)]
enum Role {
    /// The bare proxy of hyper, which the comparison starts itself.
    #[command(hide = true)]
    Proxy(proxy::ProxyArgs),
}

#[derive(Args)]
struct Comparison {
    /// How often each peer is measured in each scenario.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The scenarios, or the beginnings of their names: `apikey,refused`; all when omitted.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// The peers.
    #[arg(long, value_delimiter = ',', default_value = "nginx,haproxy,hyper,constant,gateway")]
    peers: Vec<Kind>,
    /// One short round of each: whether everything works, not what it costs.
    #[arg(long)]
    quick: bool,
    /// Seconds that count in one measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// For how many seconds a measurement waits for others to leave the machine alone, and is
    /// done again when they did not.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// The gateway's binary.
    #[arg(long, overrides_with = "gateway", default_value = "target/release/whiteboard-gateway")]
    gateway: PathBuf,
    /// Another build of the gateway, compared as a peer of its own.
    #[arg(long)]
    before: Option<PathBuf>,
    /// The core of a proxy with one worker.
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of the load and the upstream.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// The core of the load never sleeps, so that no proxy pays for waking it.
    #[arg(long)]
    awake: bool,
    /// A file for the tables, besides standard output.
    #[arg(long)]
    output: Option<PathBuf>,
    /// Name the scenarios and end.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    match run(CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(CommandLine { role, comparison }: CommandLine) -> anyhow::Result<()> {
    if let Some(Role::Proxy(args)) = role {
        return proxy::run(&args);
    }
    if comparison.list {
        for Scenario { name, about, .. } in scenario::TABLE {
            println!("{name:<20}{about}");
        }
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let mut terminated = signal(SignalKind::terminate())?;
        // Leaving by an error stops the peer that runs.
        tokio::select! {
            done = comparison.run() => done,
            _ = terminated.recv() => bail!("terminated"),
            _ = ctrl_c() => bail!("interrupted"),
        }
    })
}

impl Comparison {
    async fn run(mut self) -> anyhow::Result<()> {
        ensure!(peer::all_cores() >= 2, "the proxy and the load need a core each");
        if self.before.is_some() && !self.peers.contains(&Kind::Before) {
            self.peers.push(Kind::Before);
        }
        let scenarios = scenario::select(&self.scenarios)?;
        let rounds = if self.quick { 1 } else { self.rounds.max(1) };
        let mut ground =
            Ground::lay(self.gateway.clone(), self.before.clone(), self.proxy_core).await?;
        self.sign(&scenarios, &mut ground)?;
        // Others on the machine spoil every figure: who reads the tables must see it.
        let before = std::fs::read_to_string("/proc/loadavg").ok();
        let before = before.and_then(|load| Some(load.split(' ').next()?.to_owned()));
        let mut results = Results::default();
        for round in 0..rounds {
            for scenario in &scenarios {
                self.pin(scenario)?;
                let mut peers = self.peers.clone();
                // What comes first or last in a round does so by turns.
                peers.rotate_left(round % self.peers.len());
                peers.retain(|kind| scenario.takes(*kind));
                for kind in peers {
                    let place =
                        || format!("round {}, {}, {}", round + 1, scenario.name, kind.name());
                    let patience = Duration::from_secs(if self.quick { 0 } else { self.patience });
                    let measured =
                        measure::undisturbed(kind, scenario, &ground, self.times(), patience);
                    let figures = measured.await.with_context(place)?;
                    let (measure, figure) = figures[0];
                    eprintln!("{}: {measure} {figure:.1}", place());
                    results.add(scenario, kind, figures);
                }
            }
        }
        let tables = self.heading(rounds, before) + &results.markdown(&scenarios, &self.peers);
        print!("{tables}");
        if let Some(path) = &self.output {
            std::fs::write(path, &tables).context("the tables are not written")?;
        }
        Ok(())
    }

    /// Has all tokens signed that the scenarios need: nothing of that is done while one measures.
    fn sign(&self, scenarios: &[&Scenario], ground: &mut Ground) -> anyhow::Result<()> {
        let Times { warm_up, counted, .. } = self.times();
        // Some more for the connections that are under way when it ends.
        let lasting = (warm_up + counted).as_secs_f64() + 0.5;
        for algorithm in [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256] {
            let with = |credential| scenarios.iter().any(|one| one.credential == credential);
            let fresh = match with(Credential::FreshTokens(algorithm)) {
                true => (algorithm.in_a_second() * lasting) as usize,
                false if with(Credential::Token(algorithm)) => 0,
                false => continue,
            };
            eprintln!("{}: {fresh} tokens are signed", algorithm.name());
            ground.sign(algorithm, fresh)?;
        }
        Ok(())
    }

    fn times(&self) -> Times {
        let seconds = Duration::from_secs_f64;
        if self.quick {
            let (warm_up, counted, traced) = (seconds(0.2), seconds(0.5), seconds(0.3));
            let settled = seconds(1.0);
            return Times { warm_up, counted, traced, idle: 200, settled, awake: self.awake };
        }
        let (warm_up, counted) = (seconds(1.0), seconds(self.seconds));
        let (traced, settled) = (seconds(1.0), seconds(60.0));
        Times { warm_up, counted, traced, idle: usize::MAX, settled, awake: self.awake }
    }

    /// The load runs on its own core, unless the proxy has them all.
    fn pin(&self, scenario: &Scenario) -> anyhow::Result<()> {
        let cores = match scenario.workers {
            1 => self.load_core.to_string(),
            _ => format!("0-{}", peer::all_cores() - 1),
        };
        let process = std::process::id().to_string();
        let taskset = Command::new("taskset").args(["-acp", &cores, &process]).output();
        let pinned = taskset.context("`taskset` cannot be started")?.status.success();
        ensure!(pinned, "this process cannot be moved to core {cores}");
        Ok(())
    }

    fn heading(&self, rounds: usize, before: Option<String>) -> String {
        let first_line = |command: &str, argument: &str| {
            let output = Command::new(command).arg(argument).output().ok()?;
            let text = [output.stdout, output.stderr].concat();
            Some(String::from_utf8_lossy(&text).lines().next()?.trim().to_owned())
        };
        let versions: Vec<String> = [
            first_line("nginx", "-v"),
            first_line("haproxy", "-v"),
            first_line("uname", "-sr"),
            Some(format!("{} cores", peer::all_cores())),
            before.map(|load| format!("load average before {load}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        let seconds = self.times().counted.as_secs_f64();
        format!(
            "{rounds} interleaved rounds, {seconds} s each: median (least–greatest) · ratio of the \
             medians to nginx's, or to HAProxy's where nginx cannot do the work. {}.\n",
            versions.join("; ")
        )
    }
}
