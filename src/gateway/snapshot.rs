//! What the gateway goes by: everything that the configuration says, ready to be used. Never
//! changed; a reload makes another and swaps it in whole.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Request};

use crate::api::openapi::{self, ApiDescription};
use crate::api::{Matched, OperationId, Operations, Regions};
use crate::budget::{self, BudgetUsage, Budgets};
use crate::caller::{self, Callers, CallersError};
use crate::edge::CorsSettings;
use crate::edge::cors::CorsPolicy;
use crate::expiry::Expiry;
use crate::failure::{self, Code, Failure};
use crate::limit::{self, Limits};
use crate::metric::PerWorker;
use crate::otlp;
use crate::policy::{self, Policy};
use crate::store::{self, Store};
use crate::telemetry::{
    AuditLog, AuditSettings, Metrics, OperationCounts, OperatorAction, ProfileCounts,
};
use crate::token::{self, Project, ProjectError};
use crate::trace::Sampling;
use crate::upstream::{self, ResponseBody, TlsSetupError, Upstream, UpstreamResponse};

use super::body_settings::BodySettings;
use super::expiries;
use super::listener::{ListenerPolicies, ListenerPolicySettings};
use super::metrics::WorkerCounts;
use super::shadow::Shadow;

/// What the path of `legacy_conversions.get` begins with.
const LEGACY: &str = "/v5/services/";

/// Everything that a gateway is built from: what the configuration says, parsed into what each
/// module needs.
pub struct Settings {
    /// The operations, those of the configuration included.
    pub operations: Operations,
    /// Whether access lines say what the policy was asked.
    pub log_decisions: bool,
    /// The regions.
    pub regions: Regions,
    /// What is taken as a request body.
    pub bodies: BodySettings,
    /// How failures are told, unless a listener says otherwise.
    pub errors: failure::Settings,
    /// The callers with API keys.
    pub callers: Vec<caller::CallerSettings>,
    /// How long before the end of their key callers are told of it; `None` for never.
    pub key_reminder: Option<Duration>,
    /// The identity providers whose JWTs are taken.
    pub issuers: Vec<caller::jwt::IssuerSettings>,
    /// The profiles.
    pub profiles: Vec<policy::ProfileSettings>,
    /// The rates.
    pub limits: limit::Settings,
    /// Where several gateways keep what they count together; `None` for in memory alone.
    pub store: Option<store::Settings>,
    /// The whiteboard projects.
    pub projects: Vec<token::ProjectSettings>,
    /// Whiteboard tokens that are taken no more.
    pub denied: Vec<token::DeniedToken>,
    /// The upstream.
    pub upstream: upstream::Settings,
    /// Where tokens that callers get are recorded.
    pub audit: Option<AuditSettings>,
    /// Where traces and metrics are sent.
    pub otlp: Option<otlp::Settings>,
    /// How much callers get in hours, days and months.
    pub budgets: budget::Settings,
    /// The pages of other origins that may call; `None` for none.
    pub cors: Option<CorsSettings>,
    /// The listeners, in the order of [`crate::server::Settings`].
    pub listeners: Vec<ListenerPolicySettings>,
}

impl Settings {
    /// What ends of all that it says, listeners and what only building finds excepted.
    fn expiries(&self) -> Vec<Expiry> {
        let store = self.store.as_ref().and_then(|store| match &store.tls {
            Some(store::Trust::Authorities(authorities)) => Some(authorities),
            Some(store::Trust::Platform) | None => None,
        });
        let collector = self.otlp.as_ref().and_then(|otlp| otlp.ca.as_ref());
        let trusted = [
            ("upstream.ca".to_owned(), self.upstream.ca.as_ref()),
            ("store.ca".to_owned(), store),
            ("otlp.ca".to_owned(), collector),
        ];
        let issuers = self.issuers.iter();
        let issuers = issuers.map(|one| (format!("issuers.{}.ca", one.name), one.ca.as_ref()));
        let authorities = expiries::of_authorities(trusted.into_iter().chain(issuers));
        expiries::of_keys(&self.callers).chain(authorities).collect()
    }
}

/// What requests go by.
pub struct Snapshot {
    pub(super) operations: Operations,
    pub(super) log_decisions: bool,
    /// By profile; none at all where no profile has one.
    shadows: Vec<Option<Shadow>>,
    pub(super) regions: Regions,
    pub(super) default_region: HeaderValue,
    pub(super) bodies: BodySettings,
    pub(super) errors: failure::Settings,
    /// Who may call, for the task that fetches the keys of identity providers.
    pub callers: Callers,
    /// The profiles, for whoever asks why.
    pub policy: Policy,
    pub(super) cors: Option<CorsPolicy>,
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The limits, for the timer that forgets idle callers.
    pub limits: Arc<Limits>,
    pub(super) store: Option<Arc<store::SharedStore>>,
    pub(super) audit: Option<Arc<AuditLog>>,
    /// The collector that traces and metrics are sent to, when there is one.
    pub collector: Option<Arc<otlp::Collector>>,
    pub(super) sampling: Option<Sampling>,
    /// The budgets, for whoever asks what they are.
    pub budgets: Budgets,
    /// All of the projects.
    pub projects: Vec<Arc<Project>>,
    /// What ends by the clock of all that requests go by, listeners excepted.
    pub expiries: Vec<Expiry>,
    pub(super) listeners: ListenerPolicies,
    /// By operation.
    counts: Vec<Arc<OperationCounts>>,
    unmatched: Arc<OperationCounts>,
    /// By profile.
    profile_counts: Vec<Arc<ProfileCounts>>,
    /// What each worker counts. It outlives a configuration.
    pub worker_counts: Arc<PerWorker<WorkerCounts>>,
    /// The operation whose clients crash on a failure without `error.title`.
    titled: Option<OperationId>,
}

/// Why nothing can be built from settings: what the configuration could not check by itself.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// TLS to the upstream cannot be set up.
    #[error(transparent)]
    Upstream(#[from] TlsSetupError),
    /// A project cannot be made of its keys.
    #[error("projects.{name}: {source}")]
    Project {
        /// The project.
        name: String,
        /// Why.
        source: ProjectError,
    },
    /// A profile names a project that is not there.
    #[error("there is no project `{0}`")]
    NoProject(String),
    /// The callers cannot be set up.
    #[error(transparent)]
    Callers(#[from] CallersError),
    /// TLS to the store cannot be set up.
    #[error(transparent)]
    Store(#[from] store::SetupError),
    /// The certificates that the collector is to be trusted by cannot be used.
    #[error("otlp: the certificates that the collector is to be trusted by cannot be used: {0}")]
    Collector(rustls::Error),
    /// No one could reach it.
    #[error("there is no listener")]
    NoListener,
    /// A region that no header can hold.
    #[error("the default region is no header value")]
    Region,
}

impl Snapshot {
    /// Builds what requests go by; what `before` counted at the same rates is kept.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(
        settings: Settings,
        before: Option<&Self>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, BuildError> {
        let mut expiries = settings.expiries();
        let place = |name: &str| settings.projects.iter().position(|one| one.name == name);
        let policy = Policy::new(&settings.profiles, &settings.operations, place)
            .map_err(BuildError::NoProject)?;
        let taken = (&settings.limits, &settings.budgets);
        let shadows = Shadow::of_profiles(&settings.profiles, taken, &policy, metrics);
        let callers = caller::Settings {
            keys: &settings.callers,
            key_reminder: settings.key_reminder,
            issuers: settings.issuers,
            projects: &settings.projects,
            denied: &settings.denied,
            failed_credentials: settings.limits.failed_credentials,
        };
        let callers = Callers::new(callers, &policy, before.map(|before| &before.callers))?;
        let store = store(settings.store, before)?;
        let collector = collector(settings.otlp, before).map_err(BuildError::Collector)?;
        let traces = collector.as_ref().is_some_and(|one| one.settings().traces.is_some())
            && (settings.listeners.iter().any(|one| !one.trusted_proxies.is_empty())
                || settings.profiles.iter().any(|profile| profile.trust_traceparent));
        let served = before.map(|before| &before.listeners);
        let listeners = ListenerPolicies::new(settings.listeners, served);
        let listeners = listeners.ok_or(BuildError::NoListener)?;
        let kept = before.map(|before| &*before.limits);
        let named = |name: &str| {
            settings.operations.iter().find(|(_, row)| row.name == name).map(|(id, _)| id)
        };
        let projects = projects(&settings.projects, before)?;
        expiries.extend(expiries::of_built(&callers, projects.iter().map(|one| &**one)));
        let default_region = HeaderValue::from_str(settings.regions.default_region().as_str())
            .map_err(|_| BuildError::Region)?;
        let known = before.map(|before| &before.upstream);
        let upstream = Upstream::new(settings.upstream, &settings.regions, known)?;
        Ok(Self {
            log_decisions: settings.log_decisions,
            shadows,
            callers,
            policy,
            default_region,
            projects,
            expiries,
            limits: Arc::new(Limits::new(&settings.limits, store.is_some(), kept)),
            store,
            upstream,
            counts: settings
                .operations
                .iter()
                .map(|(_, row)| metrics.operation(&row.name))
                .collect(),
            unmatched: metrics.operation(""),
            profile_counts: profile_counts(&settings.profiles, metrics),
            budgets: Budgets::new(settings.budgets, before.map(|one| &one.budgets)),
            worker_counts: worker_counts(before, metrics),
            sampling: collector.as_ref().and_then(|collector| collector.settings().traces),
            collector,
            audit: settings.audit.map(|audit| ledger(audit, before, metrics)),
            titled: named("legacy_conversions.get"),
            operations: settings.operations,
            regions: settings.regions,
            bodies: settings.bodies,
            errors: settings.errors,
            cors: settings.cors.map(|cors| CorsPolicy::new(cors, traces)),
            listeners,
        })
    }

    /// The shadow of a caller's profile.
    pub(super) fn shadow(&self, rights: &policy::Rights) -> Option<&Shadow> {
        self.shadows.get(rights.profile?)?.as_ref()
    }

    /// Whether anyone looks at the decision about this caller's request afterwards.
    pub(super) fn keeps_decisions(&self, rights: &policy::Rights) -> bool {
        self.log_decisions || self.shadow(rights).is_some()
    }

    /// Opens the file of the audit, so that one that cannot be opened is no surprise later.
    ///
    /// # Errors
    /// When it cannot be opened; its path is named.
    pub fn open_audit(&self) -> io::Result<()> {
        self.audit.as_ref().map_or(Ok(()), |ledger| ledger.open())
    }

    /// Waits until the records that were queued are written, and no longer than this; `false` when
    /// they were not.
    #[must_use]
    pub fn flush_audit(&self, timeout: Duration) -> bool {
        self.audit.as_ref().is_none_or(|ledger| ledger.flush(timeout))
    }

    /// Leaves in the audit, where there is one, that a reload lets someone do more than before.
    pub fn record_widened_rights(
        &self,
        at: jiff::Timestamp,
        version: &str,
        summary: &str,
        changes: &[String],
    ) {
        let at_ms = u64::try_from(at.as_millisecond()).unwrap_or_default();
        if let Some(ledger) = &self.audit {
            ledger.reload(at_ms, version, summary, changes);
        }
    }

    /// Leaves in the audit, where there is one, what an operator does.
    ///
    /// # Errors
    /// When it must be there before it is done, and cannot be written.
    pub async fn record_operator_action(&self, action: &OperatorAction<'_>) -> io::Result<()> {
        match &self.audit {
            Some(ledger) => ledger.operator(action).await,
            None => Ok(()),
        }
    }

    /// Opens the file of the budgets, for the same reason.
    ///
    /// # Errors
    /// When it cannot be used; its path is named.
    pub fn open_budgets(&self) -> Result<(), budget::CounterFileError> {
        self.budgets.open()
    }

    /// How budgets stand, those of which the least is left first, and how many are not shown. For
    /// operators, who ask seldom: a store is asked on a connection for this once.
    ///
    /// # Errors
    /// `store_unavailable` when it cannot be found out.
    pub async fn standings(&self, second: i64) -> Result<(Vec<BudgetUsage<'_>>, usize), Failure> {
        let store = self.store.as_ref().filter(|_| self.budgets.are_in_store());
        let store = store.map(|shared| Store::open(Arc::clone(shared)));
        let memory = self.budgets.memory(store.as_ref(), None);
        self.budgets.standings(&memory, second).await
    }

    /// What is served, for the OpenAPI document.
    pub const fn describes(&self) -> ApiDescription<'_> {
        ApiDescription {
            operations: &self.operations,
            regions: &self.regions,
            errors: self.errors,
            unknown_fields: self.bodies.unknown_fields,
            server: openapi::DEFAULT_SERVER,
        }
    }

    /// How the store does that limits are kept in, when there is one.
    pub fn store(&self) -> Option<&store::StoreStatus> {
        self.store.as_ref().map(|shared| &shared.status)
    }

    /// The projects.
    pub fn projects(&self) -> impl Iterator<Item = &Project> {
        self.projects.iter().map(|project| &**project)
    }

    /// The operation that a request is for, and what it is about.
    ///
    /// # Errors
    /// As [`Operations::find`].
    pub(super) fn find<'a>(&'a self, request: &'a Request<()>) -> Result<Matched<'a>, Failure> {
        self.operations.find(request.method(), request.uri().path())
    }

    /// Answers a preflight; `None` for every other request, and where no page may call.
    pub(super) fn preflight(
        &self,
        request: &Request<()>,
    ) -> Result<Option<UpstreamResponse>, Failure> {
        let Some(cors) = &self.cors else { return Ok(None) };
        let answer = cors.preflight(request, &self.operations)?;
        Ok(answer.map(|answer| answer.map(ResponseBody::Whole)))
    }

    pub(super) fn project(&self, index: usize) -> Result<&Project, Failure> {
        let none = || Failure::fixed(Code::Internal, "this caller's project is not there");
        self.projects.get(index).map(|project| &**project).ok_or_else(none)
    }

    pub(super) fn counts(&self, operation: Option<OperationId>) -> &OperationCounts {
        operation.and_then(|id| self.counts.get(id.index())).unwrap_or(&self.unmatched)
    }

    pub(super) fn counts_of_profile(&self, rights: &policy::Rights) -> Option<&ProfileCounts> {
        rights.profile.and_then(|index| self.profile_counts.get(index)).map(|counts| &**counts)
    }

    /// Whether a request is for the operation whose clients need a title.
    pub(super) fn is_titled(&self, request: &Request<()>) -> bool {
        // Hardly any request is: it is looked up for those that may be.
        request.uri().path().starts_with(LEGACY)
            && self.find(request).is_ok_and(|matched| Some(matched.id) == self.titled)
    }
}

fn profile_counts(
    profiles: &[policy::ProfileSettings],
    metrics: &Metrics,
) -> Vec<Arc<ProfileCounts>> {
    profiles.iter().map(|profile| metrics.profile(&profile.name)).collect()
}

/// The projects; what is known of those that are there already is kept.
fn projects(
    settings: &[token::ProjectSettings],
    before: Option<&Snapshot>,
) -> Result<Vec<Arc<Project>>, BuildError> {
    let there = || before.into_iter().flat_map(|before| &before.projects);
    let project = |one: &token::ProjectSettings| {
        let named = |source| BuildError::Project { name: one.name.clone(), source };
        Project::followed_by(there(), one).map_err(named)
    };
    settings.iter().map(project).collect()
}

/// The counters of the workers; those that are there already, if they are.
fn worker_counts(before: Option<&Snapshot>, metrics: &Metrics) -> Arc<PerWorker<WorkerCounts>> {
    match before {
        Some(before) => Arc::clone(&before.worker_counts),
        None => Arc::new(PerWorker::new(metrics.workers())),
    }
}

/// The store; the one that is there already, when it is the same.
fn store(
    settings: Option<store::Settings>,
    before: Option<&Snapshot>,
) -> Result<Option<Arc<store::SharedStore>>, store::SetupError> {
    let Some(settings) = settings else { return Ok(None) };
    let kept = before.and_then(|before| before.store.as_ref());
    match kept.filter(|kept| kept.settings == settings) {
        Some(kept) => Ok(Some(Arc::clone(kept))),
        None => Ok(Some(Arc::new(store::SharedStore::new(settings)?))),
    }
}

/// Where tokens are recorded; what is there already, when it is the same.
fn ledger(
    settings: AuditSettings,
    before: Option<&Snapshot>,
    metrics: &Arc<Metrics>,
) -> Arc<AuditLog> {
    let there = before.and_then(|before| before.audit.as_ref());
    match there.filter(|there| there.settings == settings) {
        Some(same) => Arc::clone(same),
        None => Arc::new(AuditLog::new(settings, Arc::clone(metrics))),
    }
}

/// The collector; the one that is there already, with what waits for it, when it is the same.
fn collector(
    settings: Option<otlp::Settings>,
    before: Option<&Snapshot>,
) -> Result<Option<Arc<otlp::Collector>>, rustls::Error> {
    let Some(settings) = settings else { return Ok(None) };
    let there = before.and_then(|before| before.collector.as_ref());
    match there.filter(|there| *there.settings() == settings) {
        Some(same) => Ok(Some(Arc::clone(same))),
        None => otlp::Collector::new(settings, there.map(|there| &**there)).map(Arc::new).map(Some),
    }
}
