//! `check`: what is wrong with a configuration, and what is doubtful, without starting anything.

mod online;
mod service;

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use self::online::{OnlineResult, Others};
use super::configuration::source;
use super::outcome::CommandOutcome;
use super::world::World;
use crate::api::Region;
use crate::config::{self, Loaded};
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
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Exit code 0 when all is well, 1 with warnings, 2 with errors, or with a question that somebody did
/// not answer as they should.
pub(super) fn run(arguments: &CheckArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let source = source(arguments.config.as_deref())?;
    let name = source.name();
    let loaded = match config::load(&source, &config::environment()) {
        Ok(loaded) => loaded,
        Err(errors) if arguments.json => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let told = json!({ "file": name, "errors": errors, "warnings": [] });
            writeln!(world.output, "{told:#}")?;
            return Ok(CommandOutcome::Wrong);
        }
        Err(errors) => return Err(errors.into()),
    };
    let Loaded { settings, warnings, version, .. } = loaded;
    // What only building it shows: certificates that cannot be used, above all.
    settings.server.open().context("the certificates of listeners")?;
    let others = Others::of(&settings.gateway);
    let snapshot =
        Rc::new(Snapshot::new(settings.gateway, None, &std::sync::Arc::new(Metrics::new(1)))?);
    let budgets = snapshot.budgets().described();
    let answers = if arguments.online {
        online::ask(&others, &snapshot, &regions(arguments, &snapshot)?, world.now)?
    } else {
        Vec::new()
    };
    let failed = answers.iter().filter(|answer| !answer.is_good()).count();
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    warnings.extend(few_descriptors(&settings.server, server::highest_limit()));
    if arguments.json {
        let mut told = json!({ "file": name, "version": version, "errors": [],
            "warnings": warnings, "budgets": budgets });
        if arguments.online {
            told["online"] = answers.iter().map(OnlineResult::json).collect();
        }
        writeln!(world.output, "{told:#}")?;
    } else {
        for budget in &budgets {
            writeln!(world.output, "budget: {budget}")?;
        }
        for warning in &warnings {
            writeln!(world.output, "warning: {warning}")?;
        }
        for answer in &answers {
            answer.print(world.output)?;
        }
        let doubts = match warnings.len() {
            0 => "is good".to_owned(),
            1 => "can be used, with 1 warning".to_owned(),
            count => format!("can be used, with {count} warnings"),
        };
        let unmet = match failed {
            0 => String::new(),
            failed => format!("; {failed} of {} questions online failed", answers.len()),
        };
        writeln!(world.output, "{name} {doubts}{unmet}")?;
    }
    Ok(match (failed, warnings.len()) {
        (0, 0) => CommandOutcome::Done,
        (0, _) => CommandOutcome::No,
        _ => CommandOutcome::Wrong,
    })
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
