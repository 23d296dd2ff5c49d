//! The way of a request: `GatewayWorker::answer` is all of it, one line a step.
//!
//! A step that refuses leaves by `?` with a [`Failure`]. What steps return is put into a
//! `RequestRecord`, which is written in one place when the answer is over; but the record of a
//! token for the audit comes before the token.

mod admitted;
mod audit;
mod authority;
mod body_settings;
mod budget;
mod context;
mod expiries;
mod explain;
mod intake;
mod listener;
mod method;
mod metrics;
mod record;
mod request_body;
mod response_body;
mod serve;
mod shadow;
mod snapshot;
mod spans;
mod state;
mod worker;

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;

use crate::edge::browser;
use crate::failure::Failure;
use crate::limit::Allowance;
use crate::server::{Linger, Peer, Service};
use crate::telemetry::Recorder;
use crate::upstream::{Pool, ResponseBody, UpstreamResponse};
use authority::LatestSnapshot;
use context::RequestContext;
use record::{RecordGuard, RequestRecord};
use response_body::Streaming;
use state::RequestState;
use worker::GatewayWorker;

pub use body_settings::BodySettings;
pub use explain::{PolicyAnswer, PolicyQuestion, QuestionError};
pub use listener::ListenerPolicySettings;
pub use metrics::{SENT, UPSTREAM, USED, WorkerCounts};
pub use response_body::Body;
pub use snapshot::{BuildError, Settings, Snapshot};

/// The gateway on one worker.
pub struct Gateway {
    latest: Rc<LatestSnapshot>,
    worker: RefCell<Rc<GatewayWorker>>,
    /// The pools of configurations before, for as long as requests are finished on them.
    former: RefCell<Vec<Weak<Pool>>>,
    recorder: Rc<Recorder>,
}

impl GatewayWorker {
    /// The way of a request. Each step that does something for it checks before whether what allowed
    /// it still counts; where it does not, the request begins again with its `state`.
    async fn answer(
        &self,
        request: &Request<()>,
        context: &RequestContext,
        state: &mut RequestState,
        record: &mut RequestRecord,
    ) -> Result<UpstreamResponse, Failure> {
        if let Some(permission) = self.snapshot.preflight(request)? {
            return Ok(permission);
        }
        record.browser(browser::refuse_sdk_token(context.from_browser, request.headers()))?;
        let identified = self.identify(request, context, state.now_ms).await?;
        let (caller, authority) = record.identified(identified, context);
        let matched = record.matched(self.snapshot.find(request)?, &self.snapshot);
        let permit = self.snapshot.policy.authorize(&caller.rights, &matched)?;
        self.pool.check_room(matched.operation, caller.number, permit.priority())?;
        self.limiter.take(permit.profile_index, caller.number, &mut state.allowance).await?;
        let read = self.snapshot.read(request, state, &matched, &authority).await;
        let (mut call, asks) = record.read(read)?;
        let admitted = self.snapshot.admit(&caller, permit, &matched, asks, state.now_ms)?;
        let reservation = self.reserve(&admitted, state).await?;
        let served = self.serve(&mut call, &admitted, context, record.forwarded(context)).await;
        state.take_back(call, reservation, &served);
        record.served(served)
    }
}

impl Gateway {
    /// The gateway for a worker; `snapshots` holds the configuration of the moment.
    pub fn new(snapshots: Arc<ArcSwap<Snapshot>>, recorder: Recorder) -> Self {
        let latest = Rc::new(LatestSnapshot::new(snapshots));
        let worker = Rc::new(GatewayWorker::new(&latest, None, &recorder));
        Self {
            latest,
            worker: RefCell::new(worker),
            former: RefCell::default(),
            recorder: Rc::new(recorder),
        }
    }

    /// The worker as the latest configuration has it: a look at one atomic pointer, and no count that
    /// workers share.
    fn worker(&self) -> Rc<GatewayWorker> {
        let mut worker = self.worker.borrow_mut();
        if !self.latest.is(&worker.snapshot) {
            worker.flush(&self.recorder);
            let mut former = self.former.borrow_mut();
            former.retain(|pool| pool.strong_count() > 0);
            former.push(Rc::downgrade(&worker.pool));
            let before = Some(&**worker);
            *worker = Rc::new(GatewayWorker::new(&self.latest, before, &self.recorder));
        }
        Rc::clone(&worker)
    }

    /// The pools on which requests are, those of configurations before included.
    fn pools(&self) -> Vec<Rc<Pool>> {
        let former = self.former.borrow();
        let former = former.iter().filter_map(Weak::upgrade);
        former.chain([Rc::clone(&self.worker.borrow().pool)]).collect()
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
            let mut worker = self.worker();
            let clock = self.recorder.clock;
            let context = RequestContext::of(&request, peer, clock, &worker.snapshot);
            let mut state = RequestState::new(body, context.at_ms);
            let mut guard = RecordGuard::new(context, &worker, &self.recorder);
            let answered = loop {
                let RecordGuard { context, record, .. } = &mut guard;
                let answered = worker.answer(&request, context, &mut state, record).await;
                if !answered.as_ref().is_err_and(Failure::is_superseded) {
                    break answered;
                }
                worker = self.worker();
                if !guard.begins_again(&worker, &mut state) {
                    break answered;
                }
            };
            let (head, body) = guard.answer(answered, &request, state).into_parts();
            let body = match body {
                ResponseBody::Whole(bytes) => Body::Whole(bytes),
                passing => Body::Stream(Box::new(Streaming::new(passing, guard))),
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
        let worker = self.worker();
        let Recorder { clock, .. } = *self.recorder;
        let context = RequestContext::of_no_request(peer, clock, origin, &worker.snapshot);
        let mut guard = RecordGuard::new(context, &worker, &self.recorder);
        guard.refuse(&failure, false, &Allowance::default())
    }

    fn linger(&self) -> Linger {
        self.worker().snapshot.bodies.linger()
    }

    fn tick(&self) {
        let worker = self.worker();
        worker.pool.prune();
        worker.flush(&self.recorder);
        self.recorder.tick();
    }

    fn drain(&self) {
        self.pools().iter().for_each(|pool| pool.drain());
    }

    fn is_busy(&self) -> bool {
        self.worker.borrow().budgets.is_busy() || self.pools().iter().any(|pool| pool.is_busy())
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
        let snapshot = Snapshot::new(settings.gateway, None, &metrics).unwrap();
        let snapshots = Arc::new(ArcSwap::from_pointee(snapshot));
        let log = telemetry::Settings { access: AccessLog::Off, ..telemetry::Settings::default() };
        let sink = Arc::new(Sink::open(&log, &metrics).unwrap());
        let server = server::Settings::plain("listen", ([127, 0, 0, 1], 0).into(), 1);
        let make = move |worker| {
            let recorder = Recorder::new(Arc::clone(&metrics), worker, Arc::clone(&sink));
            Panicking(Gateway::new(Arc::clone(&snapshots), recorder))
        };
        let running = server::start(&server, server.open().unwrap(), make).unwrap();
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
