//! `check`: what is wrong with a configuration, and what is doubtful, without starting anything.

mod ending;
mod online;
mod service;

use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use self::ending::EndingSoon;
use self::online::{OnlineResult, Others};
use super::argument::span;
use super::configuration::source;
use super::outcome::CommandOutcome;
use super::world::World;
use crate::api::Region;
use crate::config::{self, Diagnostic, Loaded, Source};
use crate::expiry::Expiry;
use crate::gateway::Snapshot;
use crate::server;
use crate::telemetry::Metrics;

/// The arguments of `check`.
#[derive(Args)]
pub struct CheckArgs {
    /// The configuration; gateway.toml here, then in /etc/whiteboard-gateway, when left out.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ask issuers, store, service and collector as well, whether they answer as they should.
    #[arg(long)]
    pub online: bool,
    /// A region to ask the service in, for each one; the default region when left out.
    #[arg(long, value_name = "REGION", requires = "online")]
    pub region: Vec<String>,
    /// List the keys, tokens, certificates and lists of revoked ones that end within this time.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub ending: Option<Duration>,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What a configuration is found to be that can be used.
struct Examined {
    file: String,
    version: String,
    warnings: Vec<Diagnostic>,
    budgets: Vec<String>,
    /// What came of the questions; `None` when nobody was asked.
    online: Option<Vec<OnlineResult>>,
    /// What ends soon; `None` when that was not asked.
    ending: Option<EndingSoon>,
}

/// Exit code 0 when all is well, 1 with warnings, 2 with errors, or with a question that somebody did
/// not answer as they should, and 3, before 1, with something that ends within `--ending`.
pub(super) fn run(arguments: &CheckArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let source = source(arguments.config.as_deref());
    let file = source.as_ref().ok().map(Source::name);
    match source.and_then(|source| examine(arguments, &source, world.now)) {
        Ok(examined) => examined.tell(arguments.json, world),
        Err(error) if arguments.json => {
            let errors = diagnostics(&error, file.clone());
            let told = json!({ "file": file, "errors": errors, "warnings": [] });
            writeln!(world.output, "{told:#}")?;
            Ok(CommandOutcome::Wrong)
        }
        Err(error) => Err(error),
    }
}

/// What is wrong, for programs.
fn diagnostics(error: &anyhow::Error, file: Option<String>) -> Vec<Value> {
    if let Some(errors) = error.downcast_ref::<config::LoadError>() {
        return errors.iter().map(Diagnostic::json).collect();
    }
    let hint = error.downcast_ref::<config::SearchError>().map(config::SearchError::hint);
    let message = format!("{error:#}");
    let section = message.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    vec![json!({
        "file": file, "line": null, "variable": null, "key": section.map(|(key, _)| key),
        "message": message, "hint": hint,
    })]
}

fn examine(arguments: &CheckArgs, source: &Source, now: Timestamp) -> anyhow::Result<Examined> {
    let Loaded { settings, mut warnings, version, .. } =
        config::load(source, &config::environment())?;
    // What only building it shows: certificates that cannot be used, above all.
    let mut ends: Vec<Expiry> = settings.admin.access.expiries().collect();
    let mut listeners = settings.server.open().context("the certificates of listeners")?;
    let admin = server::Listener::open(&settings.admin.listener.of_server());
    listeners.push(admin.context("the certificates of the admin listener")?);
    let others = Others::of(&settings.gateway);
    let snapshot = Rc::new(Snapshot::new(settings.gateway, None, &Arc::new(Metrics::new(1)))?);
    let regions = regions(arguments, &snapshot)?;
    let online = arguments.online.then(|| online::ask(&others, &snapshot, &regions, now));
    let ending = arguments.ending.map(|time| {
        ends.extend_from_slice(&snapshot.expiries);
        ends.extend(listeners.iter().flat_map(server::Listener::expiries));
        EndingSoon::of(ends, time, now)
    });
    let few = few_descriptors(&settings.server, server::highest_limit());
    let about = |few| Diagnostic::of_file(source.name(), Some("listen.max_connections"), few);
    warnings.extend(few.map(about));
    let budgets = snapshot.budgets.described();
    let (file, online) = (source.name(), online.transpose()?);
    Ok(Examined { file, version, warnings, budgets, online, ending })
}

impl Examined {
    fn tell(&self, as_json: bool, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
        let asked = self.online.as_deref().unwrap_or_default();
        let failed = asked.iter().filter(|answer| !answer.is_good()).count();
        if as_json {
            writeln!(world.output, "{:#}", self.json())?;
        } else {
            self.print(asked, failed, world.output)?;
        }
        let ends = self.ending.as_ref().is_some_and(EndingSoon::has_any);
        Ok(match (failed, self.warnings.len()) {
            (0, _) if ends => CommandOutcome::Ending,
            (0, 0) => CommandOutcome::Done,
            (0, _) => CommandOutcome::No,
            _ => CommandOutcome::Wrong,
        })
    }

    fn json(&self) -> Value {
        let warnings: Vec<Value> = self.warnings.iter().map(Diagnostic::json).collect();
        let mut told = json!({ "file": self.file, "version": self.version, "errors": [],
            "warnings": warnings, "budgets": self.budgets });
        if let Some(online) = &self.online {
            told["online"] = online.iter().map(OnlineResult::json).collect();
        }
        if let Some(ending) = &self.ending {
            told["ending"] = ending.json();
        }
        told
    }

    fn print(&self, asked: &[OnlineResult], failed: usize, out: &mut dyn Write) -> io::Result<()> {
        for budget in &self.budgets {
            writeln!(out, "budget: {budget}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for answer in asked {
            answer.print(out)?;
        }
        if let Some(ending) = &self.ending {
            ending.print(out)?;
        }
        let doubts = match self.warnings.len() {
            0 => "is good".to_owned(),
            1 => "can be used, with 1 warning".to_owned(),
            count => format!("can be used, with {count} warnings"),
        };
        let unmet = match failed {
            0 => String::new(),
            failed => format!("; {failed} of {} questions online failed", asked.len()),
        };
        let ends = self.ending.as_ref().map(EndingSoon::summary).unwrap_or_default();
        writeln!(out, "{} {doubts}{unmet}{ends}", self.file)
    }
}

/// The regions that the service is asked in: those of the arguments, or the one that requests mean
/// which name none.
fn regions(arguments: &CheckArgs, snapshot: &Snapshot) -> anyhow::Result<Vec<Region>> {
    let known = snapshot.describes().regions;
    if arguments.region.is_empty() {
        return Ok(vec![known.default_region().clone()]);
    }
    let named = arguments.region.iter().map(|name| known.parse(name).cloned());
    named.collect::<Result<_, _>>().context("--region")
}

/// That this limit of open files does not do for as many connections as there may be.
pub(super) fn few_descriptors(server: &server::Settings, limit: u64) -> Option<String> {
    let wanted = server.bounds.connections;
    let taken = server::connections_within(wanted, limit, 32, server.worker_count());
    (taken < wanted).then(|| {
        format!(
            "the limit of open files is {limit}, and `listen.max_connections` is {wanted}: about \
             {taken} connections will be taken at once; raise it (LimitNOFILE= of systemd, \
             ulimit -n) or lower `listen.max_connections`"
        )
    })
}
