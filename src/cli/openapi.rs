//! `openapi`: the OpenAPI 3.1 document, made from the table of operations.

use clap::Args;

use super::document::DocumentFile;
use super::outcome::CommandOutcome;
use super::world::World;
use crate::api::openapi::{self, ApiDescription};
use crate::api::{Operations, Regions, UnknownFields};
use crate::failure::{Settings, StatusProfile};

/// The arguments of `openapi`.
#[derive(Args)]
pub struct OpenapiArgs {
    /// Where it goes.
    #[command(flatten)]
    pub file: DocumentFile,
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
        errors: Settings::of(StatusProfile::Documented),
        unknown_fields: UnknownFields::Pass,
        server: args.server.trim_end_matches('/'),
    });
    args.file.write(&document, world.output)?;
    Ok(CommandOutcome::Done)
}

/// The region that the gateway means when neither request nor configuration names one.
const DEFAULT_REGION: &str = "us-sv";
