//! The second listener, for operators: health, readiness, metrics, the OpenAPI document.
//!
//! It has no credential, so it listens on loopback unless it is told otherwise, and nothing here
//! shows a secret, but for the page beside the sandbox, which has the sandbox's keys. It reads what others keep and changes nothing.

mod accept;
mod budgets;
mod host;
mod metrics;
mod shared;
mod try_page;

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::openapi;
use crate::failure::{self, Code, Failure, RenderOptions};
use crate::gateway::Snapshot;
use crate::metric::{Counter, TextFormat};
use crate::net::ListenAddress;
use crate::server::{
    Connections, ListenerCertificates, Liveness, Peer, Running, Service, SocketFile,
};
use crate::telemetry::Metrics;
use crate::upstream::BreakerState;
use shared::SharedPage;
pub use try_page::TryPage;

/// What answers under every name of the listener: machines ask for it by an address.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// What there is to see.
const PLACES: [&str; 5] = ["/livez", "/readyz", "/metrics", "/budgets", "/openapi.json"];

/// Where the admin listener is, from the `[admin]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its address; `None` for no admin listener.
    pub address: Option<ListenAddress>,
    /// Its file, where that is a Unix socket.
    pub socket: SocketFile,
}

/// What the process is doing, as the admin listener tells it.
pub struct ProcessStatus {
    /// What requests go by.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The certificates of the gateway's listeners.
    certificates: Box<ListenerCertificates>,
    draining: AtomicBool,
    /// The gateway's workers and connections, once they are started.
    running: OnceLock<(Arc<Liveness>, Arc<Connections>)>,
    started: Duration,
    reloads: Counter,
    reloads_failed: Counter,
    /// The version of the configuration that counts.
    version: Mutex<String>,
    /// Why the last reload failed, in words that hold no secret.
    reload_error: ArcSwap<Option<String>>,
}

impl ProcessStatus {
    /// Of a process that has just begun to serve a configuration of that version.
    #[must_use]
    pub fn new(
        snapshots: Arc<ArcSwap<Snapshot>>,
        metrics: Arc<Metrics>,
        certificates: Box<ListenerCertificates>,
        version: String,
    ) -> Self {
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
            reload_error: ArcSwap::from_pointee(None),
        }
    }

    /// The gateway serves. Whether the process is alive is whether its workers move.
    pub fn serves(&self, gateway: &Running) {
        let connections = Arc::clone(gateway.connections());
        _ = self.running.set((Arc::clone(gateway.liveness()), connections));
    }

    /// # Errors
    /// `internal` while a worker has not moved for 10 s.
    fn liveness(&self) -> Result<(), Failure> {
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
        self.reload_error.store(Arc::new(result.err().map(str::to_owned)));
    }

    /// The version of the configuration that counts.
    #[must_use]
    pub fn version(&self) -> String {
        self.version.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last reload failed, if it did.
    #[must_use]
    pub fn reload_error(&self) -> Option<String> {
        self.reload_error.load().as_ref().clone()
    }

    /// Whether requests should be sent here, and the detail.
    ///
    /// A configuration that could not be reloaded leaves the old one serving, so the process is
    /// still ready: starting it again would not help. A project that nothing opens is not.
    fn readiness(&self) -> (bool, Value) {
        let draining = self.draining.load(Ordering::Relaxed);
        let snapshot = self.snapshots.load();
        // A project without a key or token cannot be built; only a fixed token can end.
        let now = Timestamp::now();
        let mut usable = true;
        let projects = snapshot.projects().map(|project| {
            let end = project.ends_at_ms().map(|end| i64::try_from(end).unwrap_or(i64::MAX));
            let lives = end.is_none_or(|end| now.as_millisecond() < end);
            usable &= lives;
            let end = end.and_then(|end| Timestamp::from_millisecond(end).ok());
            let end = end.map(|end| end.to_string());
            let since = project.acceptance.refused_since_ms();
            let since = since.and_then(|since| i64::try_from(since).ok());
            let since = since.and_then(|since| Timestamp::from_millisecond(since).ok());
            let since = since.map(|since| since.to_string());
            let detail = json!({ "usable": lives, "sdk_token_ends": end, "refused_since": since });
            (project.name.clone(), detail)
        });
        let projects: Map<String, Value> = projects.collect();
        let ready = usable && !draining;
        // An issuer without keys keeps nobody else waiting.
        let issuers = snapshot.callers().issuers().status().map(|issuer| {
            let age = issuer.age.map(|age| age.as_secs());
            let detail = json!({
                "usable": issuer.usable, "keys": issuer.keys.unwrap_or_default(),
                "age_seconds": age, "error": issuer.last_error,
            });
            (issuer.issuer, detail)
        });
        let issuers: Map<String, Value> = issuers.collect();
        // While the upstream is not asked, what it takes to hear of its recovery is requests.
        let breakers = snapshot.upstream().breakers();
        let breakers = breakers.filter(|(_, state, _)| *state != BreakerState::Closed);
        let breakers: Map<String, Value> =
            breakers.map(|(region, state, _)| (region.to_owned(), state.as_str().into())).collect();
        let mut detail = json!({
            "ready": ready,
            "draining": draining,
            "config": { "version": self.version(), "reload_error": **self.reload_error.load() },
            "projects": projects,
            "issuers": issuers,
            "breakers": breakers,
        });
        if let Some(store) = snapshot.store() {
            // Every request is answered without it too, as the profiles say; one under a budget
            // that is kept there is refused.
            detail["store"] = json!({ "answers": !store.is_down(), "error": store.error() });
        }
        (ready, detail)
    }
}

/// The service of the admin listener.
pub struct AdminService {
    status: Arc<ProcessStatus>,
    settings: failure::Settings,
    on_loopback: bool,
    readiness: SharedPage,
    metrics: SharedPage,
    plain_metrics: SharedPage,
    budgets: SharedPage,
    openapi: SharedPage,
    /// Beside the sandbox alone.
    try_page: Option<TryPage>,
}

impl AdminService {
    /// Tells a status. Operators' tools know every status, so `503` may appear here. A listener on
    /// loopback shows what is not for everybody under names of loopback alone.
    #[must_use]
    pub fn new(status: Arc<ProcessStatus>, on_loopback: bool, try_page: Option<TryPage>) -> Self {
        Self {
            status,
            settings: failure::Settings::of(failure::StatusProfile::Extended),
            on_loopback,
            readiness: SharedPage::new(),
            metrics: SharedPage::new(),
            plain_metrics: SharedPage::new(),
            budgets: SharedPage::new(),
            openapi: SharedPage::new(),
            // It has keys in it.
            try_page: try_page.filter(|_| on_loopback),
        }
    }

    async fn told<B>(&self, request: &Request<B>) -> Result<Response<Bytes>, Failure> {
        let path = request.uri().path();
        if self.on_loopback && !OPEN.contains(&path) && !host::names_loopback(request) {
            let why = "a listener on loopback shows this under a name of loopback alone, such as \
                       localhost: the Host of the request is another";
            return Err(Failure::fixed(Code::Forbidden, why));
        }
        if path != "/" && !self.places().any(|place| place == path) {
            let why = "there are /livez, /readyz, /metrics, /budgets and /openapi.json";
            return Err(Failure::fixed(Code::NotFound, why));
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Failure::method_not_allowed("GET"));
        }
        if let Some(page) = self.try_page.as_ref().filter(|_| path == try_page::PATH) {
            return Ok(page.answer());
        }
        match path {
            // It waits for nothing.
            "/livez" => self.status.liveness().map(|()| told(&json!({ "alive": true }))),
            "/readyz" => self.readiness.get(async { self.ready() }).await,
            "/metrics" if accept::prefers_plain(request.headers()) => {
                self.plain_metrics.get(async { self.measured(TextFormat::Plain) }).await
            }
            "/metrics" => self.metrics.get(async { self.measured(TextFormat::OpenMetrics) }).await,
            "/openapi.json" => self.openapi.get(async { self.described() }).await,
            "/budgets" => self.budgets.get(self.budgeted()).await,
            _ => {
                let places: Vec<&str> = self.places().collect();
                Ok(told(&json!({ "whiteboard-gateway": env!("CARGO_PKG_VERSION"), "see": places })))
            }
        }
    }

    /// What there is to see here.
    fn places(&self) -> impl Iterator<Item = &'static str> {
        PLACES.into_iter().chain(self.try_page.is_some().then_some(try_page::PATH))
    }

    fn ready(&self) -> Response<Bytes> {
        let (ready, detail) = self.status.readiness();
        let mut response = told(&detail);
        if !ready {
            *response.status_mut() = Code::Draining.status(&self.settings);
        }
        response
    }

    fn measured(&self, format: TextFormat) -> Response<Bytes> {
        answer(format.media_type(), Bytes::from(self.status.measure().text(format)))
    }

    fn described(&self) -> Response<Bytes> {
        told(&openapi::document(&self.status.snapshots.load().describes()))
    }

    async fn budgeted(&self) -> Response<Bytes> {
        // Not held while whoever keeps budgets answers: a reload need not wait for it.
        let snapshot = self.status.snapshots.load_full();
        match budgets::page(&snapshot).await {
            Ok(page) => told(&page),
            Err(failure) => self.envelope(&failure),
        }
    }

    fn envelope(&self, failure: &Failure) -> Response<Bytes> {
        let options = RenderOptions {
            settings: &self.settings,
            request_id: "admin",
            problem: false,
            titled: false,
        };
        failure.answer(&options)
    }
}

fn told(value: &Value) -> Response<Bytes> {
    answer("application/json", Bytes::from(format!("{value}\n")))
}

fn answer(media_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Service for AdminService {
    type Body = Full<Bytes>;

    async fn answer(self: Rc<Self>, request: Request<Incoming>, _: Peer) -> Response<Full<Bytes>> {
        self.told(&request).await.unwrap_or_else(|failure| self.envelope(&failure)).map(Full::new)
    }

    fn refuse(&self, failure: Failure, _: Peer, _: Option<&HeaderValue>) -> Response<Bytes> {
        self.envelope(&failure)
    }
}
