//! `config show`: what counts in the end, of the file, of variables and of defaults.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::configuration::source;
use super::outcome::CommandOutcome;
use super::world::World;
use crate::config;

/// The commands about the configuration.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print what counts in the end, and where each value comes from.
    #[command(after_long_help = concat!(
        "It is TOML that loads again, with the line or the variable behind each key, and defaults as\n",
        "comments.\n",
        "A secret that stands in the file or a variable is printed as ********; { env = … } and\n",
        "{ file = … } are printed as they are. The exit code is 2 when the configuration is wrong.\n\n",
        "Example:\n  whiteboard-gateway config show --changed --config gateway.toml",
    ))]
    Show(ShowArgs),
}

/// The arguments of `config show`.
#[derive(Args)]
pub struct ShowArgs {
    /// The configuration; gateway.toml here, then in /etc/whiteboard-gateway, when left out.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Leave out what is a default.
    #[arg(long)]
    pub changed: bool,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Prints it.
pub(super) fn run(args: &ShowArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let shown = config::show(&source(args.config.as_deref())?, &config::environment())?;
    world.answer(args.json, || shown.json(args.changed), || shown.toml(args.changed))?;
    Ok(CommandOutcome::Done)
}
