//! Reloading: parse, validate, build, swap. On an error the old configuration stays, and it is
//! retried.
//!
//! All of it happens on a thread of its own, which also looks at the files: a disk that hangs or a
//! pipe that no one reads holds up that thread, and neither requests nor signals.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::adjustment::Adjustment;
use super::systemd::Manager;
use super::watch::Watch;
use super::widened::{self, PresentRights};
use crate::admin::{
    AdminListenerSettings, AdminTransport, OperatorAccess, ProcessStatus, ReloadQueue, ReloadReply,
};
use crate::config::{self, Loaded, Source};
use crate::gateway::Snapshot;
use crate::server::{self, Reread, Tls, TlsFileError};
use crate::telemetry::{Logs, Metrics, Sink};

/// How often files are looked at.
const WATCH: Duration = Duration::from_secs(1);

/// How long after a reload that failed it is tried again, though no file that is watched has
/// changed: the one that was missing may be there. It doubles up to the longest.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What a reload reads and what it changes.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) environment: Vec<(String, String)>,
    pub(super) adjustment: Option<Adjustment>,
    pub(super) snapshots: Arc<ArcSwap<Snapshot>>,
    pub(super) rights: PresentRights,
    pub(super) status: Arc<ProcessStatus>,
    pub(super) metrics: Arc<Metrics>,
    /// Those of listeners, by their names.
    pub(super) certificates: Vec<(Arc<str>, Arc<Tls>)>,
    pub(super) sink: Arc<Sink>,
    pub(super) logs: Arc<Logs>,
    pub(super) manager: Arc<Manager>,
    /// What only a start can change.
    pub(super) fixed: (server::Settings, AdminListenerSettings),
    /// How the admin listener is reached.
    pub(super) transport: AdminTransport,
}

/// The thread that reloads, as the control thread sees it.
pub(super) struct Reloading {
    requests: ReloadQueue,
    /// Tells of each reload that is over.
    pub(super) over: UnboundedReceiver<()>,
}

impl Reloading {
    /// Starts it; it watches these files.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn start(reloader: Reloader, files: Vec<PathBuf>) -> io::Result<Self> {
        let (requests, received) = channel();
        let (done, over) = unbounded_channel();
        let watch = Watch::over(files);
        let run = move || Loop { reloader, watch, retry: None, done }.run(&received);
        thread::Builder::new().name("reload".to_owned()).spawn(run)?;
        Ok(Self { requests, over })
    }

    /// Asks for a reload.
    pub(super) fn request(&self) {
        // The thread ends only after this.
        _ = self.requests.send(None);
    }

    /// Where others ask for one.
    pub(super) fn queue(&self) -> ReloadQueue {
        self.requests.clone()
    }
}

struct Loop {
    reloader: Reloader,
    watch: Watch,
    retry: Option<PendingRetry>,
    done: UnboundedSender<()>,
}

/// The last reload failed.
struct PendingRetry {
    at: Instant,
    wait: Duration,
    error: String,
}

impl Loop {
    fn run(mut self, requests: &Receiver<Option<oneshot::Sender<ReloadReply>>>) {
        loop {
            let wait = self.retry.as_ref().map_or(WATCH, |retry| {
                retry.at.saturating_duration_since(Instant::now()).min(WATCH)
            });
            let mut asked = match requests.recv_timeout(wait) {
                Ok(reply) => vec![reply],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // One reload answers all who asked by now.
            asked.extend(requests.try_iter());
            let due = self.retry.as_ref().is_some_and(|retry| retry.at <= Instant::now());
            // Looked at before they are read, so that a change is not seen once more.
            if self.watch.changed() || !asked.is_empty() {
                self.retry = None;
                self.reload();
            } else if due {
                self.reload();
            }
            let status = &self.reloader.status;
            for reply in asked.into_iter().flatten() {
                // Whoever asked may have gone.
                _ = reply.send(status.reload_error().map_or_else(|| Ok(status.version()), Err));
            }
        }
    }

    fn reload(&mut self) {
        self.reloader.manager.reloading();
        match self.reloader.reload() {
            Ok((files, version)) => {
                self.watch = self.watch.followed_by(files);
                self.retry = None;
                self.reloader.succeeded(&version);
            }
            Err(error) => {
                let error = format!("{error:#}");
                let before = self.retry.take();
                // What is retried for the same reason is said and counted once.
                if before.as_ref().is_none_or(|retry| retry.error != error) {
                    self.reloader.failed(&error);
                }
                let wait = before.map_or(FIRST_RETRY, |retry| (retry.wait * 2).min(LAST_RETRY));
                self.retry = Some(PendingRetry { at: Instant::now() + wait, wait, error });
            }
        }
        // The control thread may be about to end.
        _ = self.done.send(());
    }
}

impl Reloader {
    fn succeeded(&self, version: &str) {
        self.status.reloaded(Ok(version));
        tracing::info!(version, "the configuration was reloaded");
    }

    fn failed(&self, error: &str) {
        self.status.reloaded(Err(error));
        // Last: whoever reads it finds everything else as it says.
        tracing::error!(error, "the configuration was not reloaded: the old one stays");
    }

    /// Reloads; gives the files that are to be watched now, and the version.
    fn reload(&self) -> anyhow::Result<(Vec<PathBuf>, String)> {
        let Loaded { mut settings, warnings, files, version } =
            config::load(&self.source, &self.environment)?;
        if let Some(adjustment) = &self.adjustment {
            adjustment.apply(&mut settings);
        }
        let rights = widened::side(&settings.gateway)?;
        let from = (&self.source, &*self.environment);
        let shown = super::admin::shown(&settings.admin.access, from, &version);
        let access = OperatorAccess::new(settings.admin.access, &self.transport)?;
        let snapshot =
            Snapshot::new(settings.gateway, Some(&self.snapshots.load()), &self.metrics)?;
        // What can still fail comes before what cannot: all of it is taken, or nothing.
        let certificates = self.reread_certificates(&settings.server, &settings.admin.listener)?;
        snapshot.open_audit()?;
        snapshot.open_budgets()?;
        self.sink.reopen(&settings.log)?;
        for (tls, reread) in certificates {
            tls.take(reread);
        }
        let snapshot = Arc::new(snapshot);
        self.snapshots.store(Arc::clone(&snapshot));
        self.status.admits(access, shown);
        self.rights.replace(rights, (&snapshot, &self.status), &version);
        self.logs.set_level(settings.log.level);
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        if (&settings.server, &settings.admin.listener) != (&self.fixed.0, &self.fixed.1) {
            tracing::warn!(
                "[listen], [listeners] or [admin] has changed: certificates, trusted_proxies, \
                 client_address and rate_limit_status count at once, the rest of these sections at \
                 the next start"
            );
        }
        Ok((files, version))
    }

    /// Reads the certificates of the listeners that are served, as the configuration has them now.
    fn reread_certificates(
        &self,
        server: &server::Settings,
        admin: &AdminListenerSettings,
    ) -> Result<Vec<(&Arc<Tls>, Reread)>, TlsFileError> {
        let anew = |(name, tls): &'_ (Arc<str>, Arc<Tls>)| {
            let mut named = server.listeners.iter().filter(|listener| listener.name == *name);
            let settings = named.next().map_or(&admin.tls, |listener| &listener.tls);
            Some(tls.read_again(settings.as_ref()?))
        };
        let reread = self.certificates.iter().filter_map(|one| Some((&one.1, anew(one)?)));
        reread.map(|(tls, reread)| Ok((tls, reread?))).collect()
    }
}
