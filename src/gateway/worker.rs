//! What the requests of a worker go by until the configuration changes.
//!
//! Verified credentials belong to a configuration: after a change, nothing of the old one is used.
//! What belongs to the service (connections, counts, the tokens that it is shown) outlives a change
//! that is not about it.

use std::rc::Rc;
use std::sync::Arc;

use http::Request;

use super::authority::{Basis, LatestSnapshot, RequestAuthority};
use super::context::RequestContext;
use super::snapshot::Snapshot;
use crate::caller::{self, Caller, IdentifiedCaller};
use crate::clock::timestamp;
use crate::failure::Failure;
use crate::limit::Limiter;
use crate::otlp::Spans;
use crate::store::Store;
use crate::telemetry::{AuditRecorder, Recorder};
use crate::upstream::Pool;
use crate::{budget, token};

pub(super) struct GatewayWorker {
    pub(super) snapshot: Arc<Snapshot>,
    /// The same, with what tells whether it is still the latest.
    basis: Rc<Basis>,
    pub(super) pool: Rc<Pool>,
    pub(super) tokens: Rc<token::Cache>,
    memory: caller::CredentialCache,
    pub(super) limiter: Limiter,
    store: Option<Store>,
    pub(super) trail: Option<AuditRecorder>,
    pub(super) budgets: budget::WorkerBudgets,
    /// The spans that wait to be sent.
    pub(super) spans: Option<Spans>,
}

/// Who is calling.
pub(super) struct Identified {
    pub(super) caller: Arc<Caller>,
    pub(super) authority: RequestAuthority,
    /// The trace that the request names is its trace.
    pub(super) trusts_trace: bool,
}

impl GatewayWorker {
    /// `before` is what it was until now.
    pub(super) fn new(
        latest: &Rc<LatestSnapshot>,
        before: Option<&Self>,
        recorder: &Recorder,
    ) -> Self {
        let snapshot = latest.snapshot();
        let trail = |ledger| AuditRecorder::new(Arc::clone(ledger), Arc::clone(&recorder.metrics));
        let store = snapshot.store.as_ref().map(|shared| {
            let open = before.and_then(|before| before.store.as_ref());
            let same = open.filter(|open| Arc::ptr_eq(open.shared(), shared)).cloned();
            same.unwrap_or_else(|| Store::open(Arc::clone(shared)))
        });
        // What belongs to the service outlives a change that is not about it.
        let pool = Pool::followed_by(before.map(|before| &before.pool), &snapshot.upstream);
        let tokens = before.map(|before| Rc::clone(&before.tokens)).unwrap_or_default();
        tokens.retain(snapshot.projects());
        let budgets = snapshot.budgets.memory(store.as_ref(), before.map(|one| &one.budgets));
        Self {
            limiter: Limiter::new(Arc::clone(&snapshot.limits), store.clone()),
            store,
            budgets,
            trail: snapshot.audit.as_ref().map(trail),
            pool,
            spans: snapshot.collector.as_ref().map(|collector| Spans::new(Arc::clone(collector))),
            basis: Rc::new(Basis { snapshot: Arc::clone(&snapshot), latest: Rc::clone(latest) }),
            snapshot,
            tokens,
            memory: caller::CredentialCache::default(),
        }
    }

    /// Finds out who is calling.
    ///
    /// # Errors
    /// As [`caller::Callers::identify`].
    pub(super) async fn identify(
        &self,
        request: &Request<()>,
        context: &RequestContext,
        now_ms: u64,
    ) -> Result<Identified, Failure> {
        let Snapshot { callers, policy, listeners, .. } = &*self.snapshot;
        let (client, now) = (context.client, timestamp(now_ms).unwrap_or(jiff::Timestamp::MAX));
        let certificate = || listeners.certificate(&context.peer, now);
        let known = callers.identify(request, client, certificate, now, &self.memory).await?;
        let IdentifiedCaller { caller, validity } = known;
        let trusts_trace = context.trace.is_some() && policy.vouches_for_traces(&caller.rights);
        let authority = RequestAuthority::new(&self.basis, validity, context);
        Ok(Identified { caller, authority, trusts_trace })
    }

    /// Writes the records that wait, and hands in what was counted.
    pub(super) fn flush(&self, recorder: &Recorder) {
        if let Some(counts) = self.snapshot.worker_counts.get(recorder.worker) {
            counts.take_load(self.pool.concurrency());
        }
        let highest = self.pool.concurrency().take_highest();
        recorder.metrics.overview.in_flight().set(recorder.worker, highest);
        self.limiter.tick();
        if let Some(trail) = &self.trail {
            trail.flush();
        }
        if let Some(spans) = &self.spans {
            spans.hand_over();
        }
    }
}
