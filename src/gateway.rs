//! The way of a request: `Current::answer` is all of it, one line a step.
//!
//! Each step is a module; a step that refuses leaves by `?` with a [`Failure`]. What happened is
//! gathered in `Facts` and recorded in one place, when the answer is over; but the record of a
//! token for the audit comes before the token.

mod audit;
mod body;
mod browser;
mod client;
mod cors;
mod intake;
mod origin;
mod record;
mod request_id;
mod site;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;

use crate::api::{Access, Matched, TokenKind};
use crate::caller::{self, Caller};
use crate::failure::Failure;
use crate::policy::{Grant, Permit};
use crate::server::{Peer, Service};
use crate::telemetry::{Recorder, Trail};
use crate::token::{self, Credentials, Minted, Need};
use crate::upstream::{AnswerBody, Answered, Pool, RequestBody};
use intake::Intake;
use record::{Entry, Facts};

pub use body::Body;
pub use client::ClientField;
pub use cors::CorsSettings;
pub use origin::{InvalidOrigin, OriginPattern};
pub use site::{BodySettings, BuildError, Settings, Site};

const WHITEBOARD_GRANTED: HeaderName = HeaderName::from_static("whiteboard-granted");

/// The gateway on one worker.
pub struct Gateway {
    latest: RefCell<Cache<Arc<ArcSwap<Site>>, Arc<Site>>>,
    current: RefCell<Rc<Current>>,
    recorder: Rc<Recorder>,
}

/// What the requests of a worker go by until the configuration changes. Connections, tokens and
/// verified credentials belong to it: after a change, nothing of the old is used for the new.
struct Current {
    site: Arc<Site>,
    pool: Rc<Pool>,
    tokens: token::Cache,
    memory: caller::Memory,
    trail: Option<Trail>,
}

impl Current {
    /// The way of a request.
    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        facts: &mut Facts,
    ) -> Result<Answered, Failure> {
        let site = &*self.site;
        if let Some(permission) = site.preflight(&request)? {
            return Ok(permission);
        }
        browser::refuse_sdk_token(request.headers(), facts)?;
        let caller = self.identify(&request, facts).await?;
        let asked = site.operations.find(request.method(), request.uri().path())?;
        facts.asks_for(asked.id);
        let permit = site.policy.authorize(&caller.rights, &asked)?;
        self.pool.load().admit(asked.operation, permit.priority())?;
        facts.allowance = site.limits.take(permit.profile_index, caller.number)?;
        let intake = site.read(request, peer, &asked).await?;
        let grant = intake.asks.as_ref().map(|asks| permit.grant(asks)).transpose()?;
        match self.mint(grant.as_ref(), &permit, &asked, facts)? {
            Some(answer) => Ok(answer),
            None => self.forward(intake, grant.as_ref(), &permit, &asked, facts).await,
        }
    }

    /// Finds out who is calling.
    async fn identify(
        &self,
        request: &Request<Incoming>,
        facts: &mut Facts,
    ) -> Result<Arc<Caller>, Failure> {
        let callers = &self.site.callers;
        let (client, now) = (facts.client, facts.now());
        let standing = || facts.standing();
        let memory = &self.memory;
        let caller = callers.identify(request.headers(), client, standing, now, memory).await?;
        Ok(facts.called_by(caller))
    }

    /// Answers a token operation here; `None` for every other, and for a project whose keys only
    /// the upstream has.
    fn mint(
        &self,
        grant: Option<&Grant>,
        permit: &Permit<'_>,
        asked: &Matched<'_>,
        facts: &mut Facts,
    ) -> Result<Option<Answered>, Failure> {
        let Some(grant) = grant else { return Ok(None) };
        let project = self.site.project(permit.project())?;
        let minted = project.mint(&grant.request, asked.target.uuid(), facts.at_ms)?;
        let Some(minted) = minted else { return Ok(None) };
        self.audit_minted(&minted, grant, project, asked, facts)?;
        facts.minted_for_caller = 1;
        Ok(Some(token_answer(&minted, grant, asked)))
    }

    /// Forwards with the weakest token that will do.
    async fn forward(
        &self,
        intake: Intake<'_>,
        grant: Option<&Grant>,
        permit: &Permit<'_>,
        asked: &Matched<'_>,
        facts: &mut Facts,
    ) -> Result<Answered, Failure> {
        let site = &*self.site;
        let project = site.project(permit.project())?;
        let mut call = intake.call;
        let need = match (asked.operation.access, grant) {
            (Access::Open, _) => None,
            (Access::Needs(kind, role), _) => {
                let uuid = asked.target.uuid().filter(|_| kind != TokenKind::Sdk);
                Some(Need { kind, role, uuid })
            }
            (Access::Mints(_), grant) => grant.map(|grant| {
                call.body = RequestBody::Whole(grant.request.to_body().into());
                Need { kind: TokenKind::Sdk, role: grant.request.role, uuid: None }
            }),
        };
        call.priority = permit.priority();
        call.request_id = facts.request_id.as_str();
        let mut credentials =
            Credentials::new(project, permit.project(), need, &self.tokens, facts.at_ms);
        let exchange = &mut facts.exchange;
        let answered = site.upstream.forward(&self.pool, call, &mut credentials, exchange).await;
        facts.minted_for_upstream = credentials.minted;
        let mut answered = answered?;
        if let Some(grant) = grant {
            self.audit_answered(&answered, grant, project, asked, facts)?;
            let headers = answered.headers_mut();
            headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            say_what_was_granted(grant, headers);
        }
        Ok(answered)
    }
}

/// A minted token as the API answers it: a bare JSON string.
fn token_answer(minted: &Minted<'_>, grant: &Grant, asked: &Matched<'_>) -> Answered {
    // A token is base64url after its prefix: there is nothing to escape.
    let body = Bytes::from(format!("\"{}\"", minted.token.expose()));
    let mut answer = Response::new(AnswerBody::Whole(body));
    *answer.status_mut() = asked.operation.success;
    let headers = answer.headers_mut();
    headers.reserve(8);
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    say_what_was_granted(grant, headers);
    answer
}

/// A caller that gets less than it asked for is told so.
fn say_what_was_granted(grant: &Grant, headers: &mut http::HeaderMap) {
    if !grant.clamped {
        return;
    }
    let (role, lifespan) = (grant.request.role, grant.request.lifespan.to_wire());
    if let Ok(value) = HeaderValue::try_from(format!("role={role}; lifespan={lifespan}")) {
        headers.insert(WHITEBOARD_GRANTED, value);
    }
}

impl Gateway {
    /// The gateway for a worker; `sites` holds what the configuration of the moment says.
    #[must_use]
    pub fn new(sites: Arc<ArcSwap<Site>>, recorder: Recorder) -> Self {
        let mut latest = Cache::new(sites);
        let current = Rc::new(Current::of(Arc::clone(latest.load()), &recorder));
        Self {
            latest: RefCell::new(latest),
            current: RefCell::new(current),
            recorder: Rc::new(recorder),
        }
    }

    /// What counts now: a look at one atomic pointer, and no count that workers share.
    fn current(&self) -> Rc<Current> {
        let mut latest = self.latest.borrow_mut();
        let latest = latest.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(latest, &current.site) {
            current.flush(&self.recorder);
            *current = Rc::new(Current::of(Arc::clone(latest), &self.recorder));
        }
        Rc::clone(&current)
    }
}

impl Current {
    fn of(site: Arc<Site>, recorder: &Recorder) -> Self {
        let Recorder { metrics, worker, .. } = recorder;
        let trail = |ledger| Trail::new(Arc::clone(ledger), Arc::clone(metrics), *worker);
        Self {
            trail: site.audit.as_ref().map(trail),
            pool: Rc::new(Pool::new(site.upstream.settings())),
            site,
            tokens: token::Cache::default(),
            memory: caller::Memory::default(),
        }
    }

    /// Writes the records that wait, and says how busy the upstream is.
    fn flush(&self, recorder: &Recorder) {
        let load = self.pool.load();
        recorder.metrics.load(recorder.worker, load.level(), load.take_shed());
        if let Some(trail) = &self.trail {
            trail.flush();
        }
    }
}

impl Service for Gateway {
    type Body = Body;

    async fn answer(self: Rc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let current = self.current();
        let mut entry = Entry::open(&current, &self.recorder, &request, peer.clone());
        let answered = current.answer(request, peer, &mut entry.facts).await;
        entry.close(answered)
    }

    fn refuse(
        &self,
        failure: Failure,
        peer: Peer,
        origin: Option<&HeaderValue>,
    ) -> Response<Bytes> {
        let mut entry = Entry::of_no_request(&self.current(), &self.recorder, peer);
        entry.comes_from(origin);
        entry.refuse(&failure)
    }

    fn tick(&self) {
        let current = self.current();
        current.pool.prune(current.site.upstream.settings().idle);
        current.flush(&self.recorder);
        self.recorder.flush();
    }

    fn drain(&self) {
        self.current().pool.drain();
    }

    fn connections(&self, change: i64) {
        self.recorder.metrics.connections(self.recorder.worker, change);
    }
}
