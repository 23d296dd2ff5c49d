//! The way of a request: `Current::answer` is all of it, one line a step.
//!
//! Each step is a module; a step that refuses leaves by `?` with a [`Failure`]. What happened is
//! gathered in `Facts` and recorded in one place, when the answer is over; but the record of a
//! token for the audit comes before the token.

mod acceptance;
mod arriving;
mod audit;
mod authority;
mod body;
mod budget;
mod intake;
mod method;
mod metrics;
mod record;
mod site;
mod trace;

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use crate::api::{Access, Matched, TokenKind};
use crate::caller::{self, Caller};
use crate::edge::browser;
use crate::failure::Failure;
use crate::field::WHITEBOARD_GRANTED;
use crate::limit::Limiter;
use crate::otlp::Spans;
use crate::policy::{Grant, Permit};
use crate::server::{Linger, Peer, Service};
use crate::store::Store;
use crate::telemetry::{Recorder, Trail};
use crate::token::{self, Credentials, Minted, Need};
use crate::upstream::{AnswerBody, Answered, Call, ForwardRecord, Pool, RequestBody};
use arriving::Arriving;
use authority::{Authority, Basis, Latest};
use body::Streaming;
use budget::settle;
use intake::Intake;
use record::{Entry, Facts};

pub use body::Body;
pub use metrics::{SENT, UPSTREAM, USED, WorkerCounts};
pub use site::{BodySettings, BuildError, Settings, Site};

/// The gateway on one worker.
pub struct Gateway {
    latest: Rc<Latest>,
    current: RefCell<Rc<Current>>,
    /// The pools of configurations before, for as long as requests are finished on them.
    former: RefCell<Vec<Weak<Pool>>>,
    recorder: Rc<Recorder>,
}

/// What the requests of a worker go by until the configuration changes. Verified credentials belong
/// to it: after a change, nothing of the old is used for the new. What belongs to the service
/// (connections, counts, the tokens that it is shown) outlives a change that is not about it.
struct Current {
    site: Arc<Site>,
    /// The same, for whatever looks whether it still counts.
    basis: Rc<Basis>,
    pool: Rc<Pool>,
    tokens: Rc<token::Cache>,
    memory: caller::Memory,
    limiter: Limiter,
    /// The connection, which a change that is not about it leaves open.
    store: Option<Store>,
    trail: Option<Trail>,
    budgets: crate::budget::Memory,
    /// Where the spans of requests that are traced wait.
    spans: Option<Spans>,
}

impl Current {
    /// The way of a request. Each step that does something for it looks before whether what allowed
    /// it still counts; where it does not, the request begins again with what it has.
    async fn answer(
        &self,
        request: &Request<()>,
        body: &mut Arriving,
        facts: &mut Facts,
    ) -> Result<Answered, Failure> {
        let site = &*self.site;
        if let Some(permission) = site.preflight(request)? {
            return Ok(permission);
        }
        facts.browser_sends(browser::refuse_sdk_token(facts.from_browser, request.headers()))?;
        let (caller, authority) = self.identify(request, facts).await?;
        let asked = site.operations.find(request.method(), request.uri().path())?;
        facts.asks_for(asked.id);
        let permit = site.policy.authorize(&caller.rights, &asked)?;
        self.pool.check_room(asked.operation, caller.number, permit.priority())?;
        self.limiter.take(permit.profile_index, caller.number, &mut facts.allowance).await?;
        let mut intake = site.read(request, body, &asked, &authority).await?;
        intake.is_granted_by(&permit)?;
        let reservation = self.reserve(&permit, &caller, &asked, facts).await?;
        let answered = self.serve(&mut intake, &permit, &asked, facts).await;
        body.take_back(&mut intake.call.body, answered.as_ref().err());
        settle(reservation, &answered, &asked, facts);
        answered
    }

    /// Finds out who is calling.
    async fn identify(
        &self,
        request: &Request<()>,
        facts: &mut Facts,
    ) -> Result<(Arc<Caller>, Authority), Failure> {
        let callers = &self.site.callers;
        let (client, now) = (facts.client, facts.now());
        let standing = || facts.standing();
        let memory = &self.memory;
        let known = callers.identify(request, client, standing, now, memory).await?;
        if facts.trace.is_some() && self.site.policy.vouches_for_traces(&known.caller.rights) {
            facts.is_vouched_for(&self.site);
        }
        Ok(facts.called_by(known, &self.basis))
    }

    /// Answers here, or forwards.
    async fn serve(
        &self,
        intake: &mut Intake<'_>,
        permit: &Permit<'_>,
        asked: &Matched<'_>,
        facts: &mut Facts,
    ) -> Result<Answered, Failure> {
        match self.mint(intake, permit, asked, facts).await? {
            Some(answer) => Ok(answer),
            None => self.forward(intake, permit, asked, facts).await,
        }
    }

    /// Answers a token operation here; `None` for every other, and for a project whose keys only
    /// the upstream has.
    async fn mint(
        &self,
        intake: &Intake<'_>,
        permit: &Permit<'_>,
        asked: &Matched<'_>,
        facts: &mut Facts,
    ) -> Result<Option<Answered>, Failure> {
        let Intake { call: Call { authority, .. }, grant: Some(grant), .. } = intake else {
            return Ok(None);
        };
        authority.check()?;
        let project = self.site.project(permit.project())?;
        let minted = project.mint(
            &grant.request,
            asked.target.uuid(),
            facts.caller_number(),
            facts.now_ms,
        )?;
        let Some(minted) = minted else { return Ok(None) };
        self.audit_minted(&minted, grant, project, asked, facts).await?;
        // A disk can take its time; then the audit has a token that nobody gets.
        authority.check()?;
        facts.minted_for_caller = 1;
        Ok(Some(token_answer(&minted, grant, asked)))
    }

    /// Forwards with the weakest token that will do.
    async fn forward(
        &self,
        intake: &mut Intake<'_>,
        permit: &Permit<'_>,
        asked: &Matched<'_>,
        facts: &mut Facts,
    ) -> Result<Answered, Failure> {
        let (site, call, grant) = (&*self.site, &mut intake.call, intake.grant.as_ref());
        let project = site.project(permit.project())?;
        let need = match (asked.operation.access, grant) {
            (Access::Open, _) => None,
            (Access::Needs(kind, role), _) => {
                let uuid = asked.target.uuid().filter(|_| kind != TokenKind::Sdk);
                Some(Need { kind, role, uuid, or_sdk: permit.sdk_token })
            }
            (Access::Mints(_), grant) => grant.map(|grant| {
                call.body = RequestBody::Whole(grant.request.to_body().into());
                Need { kind: TokenKind::Sdk, role: grant.request.role, uuid: None, or_sdk: false }
            }),
        };
        (call.priority, call.caller) = (permit.priority(), facts.caller_number());
        let mut credentials = Credentials::new(project, need, &self.tokens, facts.now_ms);
        let mut record = ForwardRecord {
            request_id: facts.request_id.as_str(),
            traced: facts.trace.as_mut().map(|trace| &mut trace.traced),
            report: &mut facts.forwarded,
        };
        let answered = site.upstream.forward(&self.pool, call, &mut credentials, &mut record).await;
        facts.minted_for_upstream = credentials.minted;
        if need.is_some() {
            acceptance::note(project, &answered, facts.at_ms);
        }
        let mut answered = answered?;
        if let Some(grant) = grant {
            self.audit_answered(&answered, grant, project, asked, facts).await?;
            call.authority.check()?;
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
        let latest = Rc::new(Latest::new(sites));
        let current = Rc::new(Current::of(&latest, None, &recorder));
        Self {
            latest,
            current: RefCell::new(current),
            former: RefCell::default(),
            recorder: Rc::new(recorder),
        }
    }

    /// What counts now: a look at one atomic pointer, and no count that workers share.
    fn current(&self) -> Rc<Current> {
        let mut current = self.current.borrow_mut();
        if !self.latest.is(&current.site) {
            current.flush(&self.recorder);
            let mut former = self.former.borrow_mut();
            former.retain(|pool| pool.strong_count() > 0);
            former.push(Rc::downgrade(&current.pool));
            let before = Some(&**current);
            *current = Rc::new(Current::of(&self.latest, before, &self.recorder));
        }
        Rc::clone(&current)
    }

    /// The pools on which requests are, those of configurations before included.
    fn pools(&self) -> Vec<Rc<Pool>> {
        let former = self.former.borrow();
        let former = former.iter().filter_map(Weak::upgrade);
        former.chain([Rc::clone(&self.current.borrow().pool)]).collect()
    }
}

impl Current {
    fn of(latest: &Rc<Latest>, before: Option<&Self>, recorder: &Recorder) -> Self {
        let site = latest.site();
        let trail = |ledger| Trail::new(Arc::clone(ledger), Arc::clone(&recorder.metrics));
        let store = site.store.as_ref().map(|shared| {
            let open = before.and_then(|before| before.store.as_ref());
            let same = open.filter(|open| Arc::ptr_eq(open.shared(), shared)).cloned();
            same.unwrap_or_else(|| Store::open(Arc::clone(shared)))
        });
        // What belongs to the service outlives a change that is not about it.
        let pool = Pool::followed_by(before.map(|before| &before.pool), &site.upstream);
        let tokens = before.map(|before| Rc::clone(&before.tokens)).unwrap_or_default();
        tokens.retain(site.projects());
        let budgets = site.budgets.memory(store.as_ref(), before.map(|before| &before.budgets));
        Self {
            limiter: Limiter::new(Arc::clone(&site.limits), store.clone()),
            store,
            budgets,
            trail: site.audit.as_ref().map(trail),
            pool,
            spans: site.collector.as_ref().map(|collector| Spans::new(Arc::clone(collector))),
            basis: Rc::new(Basis { site: Arc::clone(&site), latest: Rc::clone(latest) }),
            site,
            tokens,
            memory: caller::Memory::default(),
        }
    }

    /// Writes the records that wait, and hands in what was counted.
    fn flush(&self, recorder: &Recorder) {
        if let Some(counts) = self.site.worker_counts().get(recorder.worker) {
            counts.take_load(&self.pool.concurrency());
        }
        self.limiter.tick();
        if let Some(trail) = &self.trail {
            trail.flush();
        }
        if let Some(spans) = &self.spans {
            spans.hand_over();
        }
    }
}

impl Service for Gateway {
    type Body = Body;

    #[inline]
    fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> impl Future<Output = Response<Body>> + 'static {
        // Every step is lent the head, and one is given the body.
        let (head, body) = request.into_parts();
        let request = Request::from_parts(head, ());
        async move {
            let mut current = self.current();
            let mut entry = Entry::open(&current, &self.recorder, &request, peer);
            let mut body = Arriving::new(body);
            let answered = loop {
                let answered = current.answer(&request, &mut body, &mut entry.facts).await;
                if !answered.as_ref().is_err_and(Failure::is_superseded) {
                    break answered;
                }
                current = self.current();
                if !entry.begins_again(&current, &request) {
                    break answered;
                }
            };
            entry.facts.vouch();
            let (head, body) = entry.answer(answered).into_parts();
            let body = match body {
                AnswerBody::Whole(bytes) => Body::Whole(bytes),
                passing => Body::Stream(Box::new(Streaming::new(passing, entry))),
            };
            Response::from_parts(head, body)
        }
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

    fn linger(&self) -> Linger {
        self.current().site.bodies.linger()
    }

    fn tick(&self) {
        let current = self.current();
        current.pool.prune();
        current.flush(&self.recorder);
        self.recorder.flush();
    }

    fn drain(&self) {
        self.pools().iter().for_each(|pool| pool.drain());
    }

    fn is_busy(&self) -> bool {
        self.current.borrow().budgets.is_busy() || self.pools().iter().any(|pool| pool.is_busy())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::telemetry::{AccessLog, Metrics, Sink};
    use crate::{config, server, telemetry};

    /// A gateway that panics over every request.
    struct Panicking(Gateway);

    impl Service for Panicking {
        type Body = Body;

        async fn answer(self: Rc<Self>, _: Request<Incoming>, _: Peer) -> Response<Body> {
            panic!("as a defect would");
        }

        fn refuse(
            &self,
            failure: Failure,
            peer: Peer,
            origin: Option<&HeaderValue>,
        ) -> Response<Bytes> {
            self.0.refuse(failure, peer, origin)
        }
    }

    #[test]
    fn a_page_can_read_that_the_gateway_has_a_defect() {
        let origins = [("WBG__CORS__ORIGINS".to_owned(), "https://a.example".to_owned())];
        let settings = config::load(&config::SANDBOX, &origins).unwrap().settings;
        let metrics = Arc::new(Metrics::new(1));
        let site = Site::new(settings.gateway, None, &metrics).unwrap();
        let sites = Arc::new(ArcSwap::from_pointee(site));
        let log = telemetry::Settings { access: AccessLog::Off, ..telemetry::Settings::default() };
        let sink = Arc::new(Sink::open(&log, &metrics).unwrap());
        let server = server::Settings {
            addresses: vec!["127.0.0.1:0".parse().unwrap()],
            workers: Some(1),
            ..settings.server
        };
        let make = move |worker| {
            let recorder = Recorder::new(Arc::clone(&metrics), worker, Arc::clone(&sink));
            Panicking(Gateway::new(Arc::clone(&sites), recorder))
        };
        let running = server::start(&server, None, make).unwrap();
        for (origin, readable) in [("https://a.example", true), ("https://b.example", false)] {
            let mut socket = TcpStream::connect(running.addresses()[0]).unwrap();
            let request = format!("GET / HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\n\r\n");
            socket.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
            assert!(answer.contains("vary: Origin\r\n"), "{answer}");
            let allowed = format!("access-control-allow-origin: {origin}\r\n");
            assert_eq!(answer.contains(&allowed), readable, "{answer}");
        }
        running.drain();
    }
}
