//! `check`: what is wrong with a configuration, and what is doubtful, without starting anything.

use anyhow::Context as _;
use serde_json::json;

use super::{CheckArgs, Outcome, World};
use crate::config::{self, Loaded};
use crate::gateway::Site;
use crate::server::{self, Tls};
use crate::telemetry::Metrics;

/// Exit code 0 when all is well, 1 with warnings, 2 with errors.
pub(super) fn run(arguments: &CheckArgs, world: &mut World<'_>) -> anyhow::Result<Outcome> {
    let source = super::source(arguments.config.as_deref())?;
    let name = source.name();
    let loaded = match config::load(&source, &config::environment()) {
        Ok(loaded) => loaded,
        Err(errors) if arguments.json => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let told = json!({ "file": name, "errors": errors, "warnings": [] });
            writeln!(world.output, "{told:#}")?;
            return Ok(Outcome::Wrong);
        }
        Err(errors) => return Err(errors.into()),
    };
    let Loaded { settings, warnings, version, .. } = loaded;
    // What only building it shows: certificates that cannot be used, above all.
    settings.server.tls.as_ref().map(Tls::new).transpose().context("[listen.tls]")?;
    let site = Site::new(settings.gateway, None, &std::sync::Arc::new(Metrics::new(1)))?;
    let budgets = site.budgets().described();
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    warnings.extend(few_descriptors(&settings.server, server::highest_limit()));
    if arguments.json {
        let told = json!({ "file": name, "version": version, "errors": [], "warnings": warnings,
            "budgets": budgets });
        writeln!(world.output, "{told:#}")?;
    } else {
        for budget in &budgets {
            writeln!(world.output, "budget: {budget}")?;
        }
        for warning in &warnings {
            writeln!(world.output, "warning: {warning}")?;
        }
        let doubts = match warnings.len() {
            0 => "is good".to_owned(),
            1 => "can be used, with 1 warning".to_owned(),
            count => format!("can be used, with {count} warnings"),
        };
        writeln!(world.output, "{name} {doubts}")?;
    }
    Ok(if warnings.is_empty() { Outcome::Done } else { Outcome::No })
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
