//! Reloading: parse, validate, build, swap. On an error the old configuration stays.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::admin::{self, Status};
use crate::config::{self, Loaded, Settings, Source};
use crate::gateway::Site;
use crate::server::{self, Tls};
use crate::telemetry::{Logs, Metrics, Sink};

/// What a reload reads and what it changes.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) environment: Vec<(String, String)>,
    pub(super) sites: Arc<ArcSwap<Site>>,
    pub(super) status: Arc<Status>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) sink: Arc<Sink>,
    pub(super) logs: Logs,
    /// What only a start can change.
    pub(super) fixed: (server::Settings, admin::Settings),
}

impl Reloader {
    /// Reloads; `adjust` changes what was read before it is used. Gives the files that are to be
    /// watched now; `None` when the old configuration stays.
    pub(super) fn reload(&self, adjust: impl Fn(&mut Settings)) -> Option<Vec<PathBuf>> {
        match self.try_reload(adjust) {
            Ok((files, version)) => {
                self.metrics.reloaded(Some(&version));
                self.status.reloaded(None);
                tracing::info!(version, "the configuration was reloaded");
                Some(files)
            }
            Err(error) => {
                let error = format!("{error:#}");
                self.metrics.reloaded(None);
                self.status.reloaded(Some(error.clone()));
                // Last: whoever reads it finds everything else as it says.
                tracing::error!(error, "the configuration was not reloaded: the old one stays");
                None
            }
        }
    }

    fn try_reload(&self, adjust: impl Fn(&mut Settings)) -> anyhow::Result<(Vec<PathBuf>, String)> {
        let Loaded { mut settings, warnings, files, version } =
            config::load(&self.source, &self.environment)?;
        adjust(&mut settings);
        let site = Site::new(settings.gateway, Some(&self.sites.load()), &self.metrics)?;
        // What can still fail comes before what cannot: all of it is taken, or nothing.
        let tls = self.tls.as_ref().zip(settings.server.tls.as_ref());
        let tls = match tls {
            Some((tls, files)) => Some((tls, tls.read_again(files)?)),
            None => None,
        };
        site.open_audit()?;
        site.open_budgets()?;
        self.sink.reopen(&settings.log)?;
        if let Some((tls, reread)) = tls {
            tls.take(reread);
        }
        self.sites.store(Arc::new(site));
        self.logs.set_level(settings.log.level);
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        if (&settings.server, &settings.admin) != (&self.fixed.0, &self.fixed.1) {
            tracing::warn!(
                "[listen] or [admin] has changed: certificates count at once, the rest of these \
                 sections at the next start"
            );
        }
        Ok((files, version))
    }
}
