//! `openapi`: the OpenAPI 3.1 document, made from the table of operations.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::outcome::CommandOutcome;
use super::world::World;
use crate::api::openapi::{self, ApiDescription};
use crate::api::{Operations, Regions, UnknownFields};
use crate::failure::{Profile, Settings};

/// The arguments of `openapi`.
#[derive(Args)]
pub struct OpenapiArgs {
    /// The file to write; standard output when left out.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The URL at which the gateway is called.
    #[arg(long, value_name = "URL", default_value = openapi::DEFAULT_SERVER)]
    pub server: String,
}

/// Prints the document, or writes it to a file.
pub(super) fn run(args: &OpenapiArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let regions = Regions::new([], DEFAULT_REGION)?;
    let document = openapi::document(&ApiDescription {
        operations: &Operations::documented(),
        regions: &regions,
        errors: Settings::of(Profile::Documented),
        unknown_fields: UnknownFields::Pass,
        server: args.server.trim_end_matches('/'),
    });
    let text = format!("{document:#}\n");
    match &args.output {
        None => world.output.write_all(text.as_bytes())?,
        Some(path) => {
            fs::write(path, text)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
    }
    Ok(CommandOutcome::Done)
}

/// The region that the gateway means when neither request nor configuration names one.
const DEFAULT_REGION: &str = "us-sv";
