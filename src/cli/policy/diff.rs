//! `policy diff`: what another configuration would let everyone do that this one does not, and the
//! reverse.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use crate::cli::outcome::CommandOutcome;
use crate::cli::world::World;
use crate::config::{self, Loaded, Source};
use crate::policy_diff::{PolicyDiff, PolicySide};

/// The arguments of `policy diff`.
#[derive(Args)]
pub struct DiffArgs {
    /// The configuration as it is.
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// The configuration as it would be.
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Exit code 0 when no one can do more than before, 1 when someone can, 2 when a configuration is
/// wrong.
pub(super) fn run(arguments: &DiffArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let sides = [&arguments.old, &arguments.new].map(|file| side(file, world.now));
    let wrong: Vec<String> =
        sides.iter().filter_map(|side| side.as_ref().err()).flatten().cloned().collect();
    let [Ok(old), Ok(new)] = &sides else { return refuse(&wrong, arguments.json, world) };
    let diff = PolicyDiff::between(old, new);
    world.answer(arguments.json, || diff.json(), || diff.to_string())?;
    Ok(if diff.is_wider() { CommandOutcome::No } else { CommandOutcome::Done })
}

/// Says what is wrong with configurations.
pub(super) fn refuse(
    wrong: &[String],
    json: bool,
    world: &mut World<'_>,
) -> anyhow::Result<CommandOutcome> {
    if !json {
        return Err(anyhow!("{}", wrong.join("\n")));
    }
    writeln!(world.output, "{:#}", json!({ "errors": wrong }))?;
    Ok(CommandOutcome::Wrong)
}

/// A configuration, or everything that is wrong with it: each error names its file.
pub(super) fn side(file: &Path, now: Timestamp) -> Result<PolicySide, Vec<String>> {
    let loaded = config::load(&Source::File(file.to_owned()), &config::environment());
    let Loaded { settings, .. } =
        loaded.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    PolicySide::of(&settings.gateway, now)
        .map_err(|name| vec![format!("{}: there is no `{name}`", file.display())])
}
