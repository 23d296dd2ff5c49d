//! The configuration that a command is about.

use std::path::Path;
use std::sync::Arc;

use crate::config::{self, Loaded, Source};
use crate::gateway::Snapshot;
use crate::telemetry::Metrics;

/// The configuration that the arguments name, or the one in the usual places.
pub(super) fn source(named: Option<&Path>) -> anyhow::Result<Source> {
    Ok(Source::File(match named {
        Some(path) => path.to_owned(),
        None => config::search()?,
    }))
}

/// What a configuration says, as the gateway builds it.
pub(super) fn snapshot(config: Option<&Path>) -> anyhow::Result<Snapshot> {
    let source = source(config)?;
    let Loaded { settings, .. } = config::load(&source, &config::environment())?;
    Ok(Snapshot::new(settings.gateway, None, &Arc::new(Metrics::new(1)))?)
}
