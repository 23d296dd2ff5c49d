//! What the process is doing, as the admin listener and a service manager are told it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::access::OperatorAccess;
use super::widened::{LastWidened, WidenedRights};
use crate::clock::{milliseconds, now_ms, timestamp};
use crate::expiry::{self, Expiry};
use crate::failure::{Code, Failure};
use crate::gateway::Snapshot;
use crate::metric::Counter;
use crate::server::{Connections, ListenerCertificates, Liveness, Running};
use crate::telemetry::Metrics;
use crate::upstream::BreakerState;

/// The most ends that the status shows, the next ones. `check --ending` lists all.
const ENDS_SHOWN: usize = 100;

/// What the process is doing, as the admin listener tells it.
pub struct ProcessStatus {
    /// What requests go by.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The certificates of listeners.
    pub(super) certificates: Box<ListenerCertificates>,
    draining: AtomicBool,
    /// The gateway's workers and connections, once they are started.
    pub(super) running: OnceLock<(Arc<Liveness>, Arc<Connections>)>,
    pub(super) started: Duration,
    pub(super) reloads: Counter,
    pub(super) reloads_failed: Counter,
    /// The version of the configuration that counts.
    version: Mutex<String>,
    /// The last reload; `None` before the first.
    last_reload: ArcSwapOption<LastReload>,
    widened: LastWidened,
    /// What the configuration is called.
    file: String,
    /// Who may ask at the admin listener.
    access: ArcSwap<OperatorAccess>,
    /// The configuration as it counts, without its secrets, while anyone may ask for it.
    configuration: ArcSwapOption<String>,
    /// Where reloads are asked for.
    reloads_by: OnceLock<ReloadQueue>,
}

/// What a process begins with.
pub struct StartedWith {
    /// What requests go by.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The certificates of listeners.
    pub certificates: Box<ListenerCertificates>,
    /// What the configuration is called, and its version.
    pub configuration: (String, String),
    /// Who may ask at the admin listener.
    pub access: OperatorAccess,
    /// The configuration as it counts, without its secrets, where anyone may ask for it.
    pub shown: Option<String>,
}

/// How a reload went, and when.
struct LastReload {
    at: Timestamp,
    /// Why it failed, in words that hold no secret.
    error: Option<String>,
}

/// What came of a reload: the version of the configuration that counts now, or why it failed.
pub type ReloadReply = Result<String, String>;

/// Takes requests for reloads, with whom to reply to.
pub type ReloadQueue = Sender<Option<oneshot::Sender<ReloadReply>>>;

impl ProcessStatus {
    /// Of a process that has just begun to serve.
    pub fn new(with: StartedWith) -> Self {
        let StartedWith { snapshots, metrics, certificates, configuration, access, shown } = with;
        let (file, version) = configuration;
        Self {
            snapshots,
            metrics,
            certificates,
            draining: AtomicBool::new(false),
            running: OnceLock::new(),
            started: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            reloads: Counter::default(),
            reloads_failed: Counter::default(),
            version: Mutex::new(version),
            last_reload: ArcSwapOption::empty(),
            widened: LastWidened::default(),
            file,
            access: ArcSwap::from_pointee(access),
            configuration: ArcSwapOption::from_pointee(shown),
            reloads_by: OnceLock::new(),
        }
    }

    /// Reloads are asked for there.
    pub fn reloads_by(&self, queue: ReloadQueue) {
        _ = self.reloads_by.set(queue);
    }

    /// Others may ask at the admin listener from now on, and this is the configuration as it counts.
    pub fn admits(&self, access: OperatorAccess, configuration: Option<String>) {
        self.access.store(Arc::new(access));
        self.configuration.store(configuration.map(Arc::new));
    }

    /// Who may ask now.
    pub(super) fn access(&self) -> Arc<OperatorAccess> {
        self.access.load_full()
    }

    /// The gateway serves. Whether the process is alive is whether its workers move.
    pub fn serves(&self, gateway: &Running) {
        let connections = Arc::clone(gateway.connections());
        _ = self.running.set((Arc::clone(gateway.liveness()), connections));
    }

    /// # Errors
    /// `internal` while a worker has not moved for 10 s.
    pub(super) fn liveness(&self) -> Result<(), Failure> {
        match self.running.get().and_then(|(workers, _)| workers.stuck()) {
            None => Ok(()),
            Some(worker) => Err(Failure::new(
                Code::Internal,
                format!("the worker {worker} has not moved for 10 s: start the process again"),
            )),
        }
    }

    /// The process is about to stop: it is not ready any more.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Counts a reload. With the version of the configuration that counts from now on, or why that
    /// stays the same.
    pub fn reloaded(&self, result: Result<&str, &str>) {
        match result {
            Ok(version) => {
                self.reloads.add_shared(1);
                version
                    .clone_into(&mut self.version.lock().unwrap_or_else(PoisonError::into_inner));
            }
            Err(_) => self.reloads_failed.add_shared(1),
        }
        let error = result.err().map(str::to_owned);
        self.last_reload.store(Some(Arc::new(LastReload { at: Timestamp::now(), error })));
    }

    /// The version of the configuration that counts.
    pub fn version(&self) -> String {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last reload failed, if it did.
    pub fn reload_error(&self) -> Option<String> {
        self.last_reload.load().as_ref()?.error.clone()
    }

    /// A reload has let someone do more than before.
    pub fn widen(&self, rights: WidenedRights) {
        self.widened.replace(rights);
    }

    /// Why no requests should be sent here, in a word, if so; and the detail.
    ///
    /// A configuration that could not be reloaded leaves the old one serving, so the process is
    /// still ready: starting it again would not help. A project that nothing opens is not.
    pub(super) fn readiness(&self) -> (Option<&'static str>, Value) {
        let draining = self.draining.load(Ordering::Relaxed);
        let snapshot = self.snapshots.load();
        // A project without a key or token cannot be built; only a fixed token can end.
        let (now_ms, shown) = (now_ms(), |ms| timestamp(ms).map(|at| at.to_string()));
        let mut usable = true;
        let projects = snapshot.projects().map(|project| {
            let lives = project.ends_at_ms().is_none_or(|end| now_ms < end);
            usable &= lives;
            let end = project.ends_at_ms().and_then(shown);
            let since = project.acceptance.refused_since_ms().and_then(shown);
            let detail = json!({ "usable": lives, "sdk_token_ends": end, "refused_since": since });
            (project.name.clone(), detail)
        });
        let projects: Map<String, Value> = projects.collect();
        let unready = match (draining, usable) {
            (true, _) => Some("draining"),
            (false, false) => Some("sdk_token_ended"),
            (false, true) => None,
        };
        // An issuer without keys keeps no one else waiting.
        let issuers = snapshot.callers.issuers.status().map(|issuer| {
            let age = issuer.age.map(|age| age.as_secs());
            let detail = json!({
                "usable": issuer.usable, "keys": issuer.keys.unwrap_or_default(),
                "age_seconds": age, "error": issuer.last_error,
            });
            (issuer.issuer, detail)
        });
        let issuers: Map<String, Value> = issuers.collect();
        // While the upstream is not asked, what it takes to hear of its recovery is requests.
        let breakers = snapshot.upstream.breakers();
        let breakers = breakers.filter(|(_, state, _)| *state != BreakerState::Closed);
        let breakers: Map<String, Value> =
            breakers.map(|(region, state, _)| (region.to_owned(), state.as_str().into())).collect();
        let mut detail = json!({
            "ready": unready.is_none(),
            "draining": draining,
            "config": { "version": self.version(), "reload_error": self.reload_error() },
            "projects": projects,
            "issuers": issuers,
            "breakers": breakers,
        });
        if let Some(store) = snapshot.store() {
            // Every request is answered without it too, as the profiles say; one under a budget
            // that is kept there is refused.
            detail["store"] = json!({ "answers": !store.is_down(), "error": store.error() });
        }
        (unready, detail)
    }

    /// What ends by the clock, and what ended: in the order in which it matters.
    pub fn expiries(&self, now: Timestamp) -> Vec<Expiry> {
        let mut all = self.snapshots.load().expiries.to_vec();
        all.extend(self.certificates.iter().flat_map(|(name, tls)| tls.expiries(name)));
        all.extend(self.access().expiries());
        expiry::sort(&mut all, now);
        all
    }

    /// The configuration as it counts, without its secrets.
    pub(super) fn configuration(&self) -> Option<String> {
        self.configuration.load().as_deref().cloned()
    }

    /// Asks for a reload, whose result goes there.
    pub(super) fn reload(&self, reply: oneshot::Sender<ReloadReply>) {
        if let Some(queue) = self.reloads_by.get() {
            // Whoever waits is told by the end of what it waits on.
            _ = queue.send(Some(reply));
        }
    }

    /// What runs, and whether it is well.
    pub(super) fn describe(&self) -> Value {
        let (unready, mut detail) = self.readiness();
        let last = self.last_reload.load();
        let last = last.as_ref().map(|one| json!({ "at": one.at.to_string(), "error": one.error }));
        let since = timestamp(milliseconds(UNIX_EPOCH + self.started));
        detail["why"] = json!(unready);
        detail["version"] = env!("CARGO_PKG_VERSION").into();
        detail["commit"] = env!("WBG_COMMIT").into();
        detail["build"] = env!("WBG_BUILD").into();
        detail["since"] = json!(since.map(|since| since.to_string()));
        detail["workers"] = self.metrics.workers().into();
        detail["connections"] = json!(self.running.get().map(|(_, all)| all.open()));
        detail["config"]["file"] = self.file.as_str().into();
        detail["config"]["last_reload"] = json!(last);
        detail["config"]["widened"] = json!(self.widened.get().map(|rights| rights.json()));
        let certificates = self.certificates.iter().map(|(listener, tls)| {
            let end = tls.end().and_then(|end| Timestamp::from_second(end).ok());
            json!({ "listener": &**listener, "ends": end.map(|end| end.to_string()) })
        });
        detail["certificates"] = certificates.collect();
        let ends = self.expiries(Timestamp::now()).into_iter().take(ENDS_SHOWN).map(|one| {
            json!({ "kind": one.kind.as_str(), "name": one.name(), "ends": one.at.to_string() })
        });
        detail["ends"] = ends.collect();
        detail
    }
}
