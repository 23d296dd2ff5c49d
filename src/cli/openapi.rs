//! `openapi`: the OpenAPI 3.1 document, made from the table of operations.

use std::fs;

use anyhow::Context as _;

use super::{CommandOutcome, OpenapiArgs, World};
use crate::api::openapi::{self, ApiDescription};
use crate::api::{Operations, Regions, UnknownFields};
use crate::failure::{Profile, Settings};

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
