//! A worker's side of the upstream: the connections that it keeps, and what it counts for itself.
//! Not shared, so there is no lock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connect::{ConnectError, NewConnection};
use super::deadline::before;
use super::http1;
use super::service::Upstream;
use super::shared::{ConnectionChoice, For, Given, RequestChannel, SharedConnections};
use crate::api::{Operation, Priority};
use crate::failure::Failure;
use crate::upstream::report::AttemptReport;
use crate::upstream::request::call::Call;
use crate::upstream::resilience::concurrency::ConcurrencyLimit;
use crate::upstream::resilience::in_flight::{Admission, InFlight};

/// A worker's connections to the upstream.
pub struct Pool {
    pub(in crate::upstream) upstream: Arc<Upstream>,
    pub(in crate::upstream) admission: Rc<Admission>,
    pub(in crate::upstream) draining: Cell<bool>,
    /// What long answers are read into.
    pub(in crate::upstream) buffers: http1::Buffers,
    idle: RefCell<Vec<Idle>>,
    shared: Rc<SharedConnections>,
}

struct Idle {
    connection: Box<http1::Http1Connection>,
    /// When its last request began: early rather than late, and no clock is read for it.
    since: Instant,
}

impl Idle {
    fn is_usable(&mut self, now: Instant, upstream: &Upstream) -> bool {
        now.duration_since(self.since) <= upstream.settings.idle
            && !upstream.last_timeout.is_after(self.since)
            && self.connection.is_quiet()
    }
}

impl Pool {
    /// Those of a configuration before, where nothing of the upstream changed. Where only bounds and
    /// times did, what is counted and what is idle goes on under the new ones.
    pub fn followed_by(before: Option<&Rc<Self>>, upstream: &Arc<Upstream>) -> Rc<Self> {
        if let Some(same) = before.filter(|before| Arc::ptr_eq(&before.upstream, upstream)) {
            return Rc::clone(same);
        }
        let settings = &upstream.settings;
        let before = before.filter(|before| before.upstream.settings.is_of_the_service(settings));
        let bounds = settings.concurrency;
        let admission = match before {
            Some(before) => before.admission.follow(bounds, &upstream.breakers),
            None => Admission::new(ConcurrencyLimit::new(bounds), &upstream.breakers),
        };
        Rc::new(Self {
            upstream: Arc::clone(upstream),
            admission,
            draining: Cell::new(before.is_some_and(|before| before.draining.get())),
            buffers: http1::Buffers::default(),
            idle: RefCell::new(before.map(|before| before.idle.take()).unwrap_or_default()),
            shared: SharedConnections::new(upstream),
        })
    }

    /// What is in flight, and how much may be.
    pub fn concurrency(&self) -> &ConcurrencyLimit {
        &self.admission.concurrency
    }

    /// The process is about to stop: nothing is retried.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// As [`ConcurrencyLimit::check_room`], after who takes nothing of an answer has given way.
    ///
    /// # Errors
    /// `overloaded`.
    pub fn check_room(
        &self,
        operation: &Operation,
        caller: u64,
        priority: Priority,
    ) -> Result<(), Failure> {
        if !self.concurrency().has_room(priority) {
            self.admission.make_room(caller, priority, Instant::now());
        }
        self.concurrency().check_room(operation, priority)
    }

    /// Lets a request begin.
    ///
    /// # Errors
    /// `upstream_unavailable`, `overloaded`.
    pub(in crate::upstream) fn begin(
        &self,
        call: &Call<'_>,
        now: Instant,
    ) -> Result<InFlight, Failure> {
        self.admission.begin(call, now)
    }

    /// Whether a request is at the upstream, waited for by its caller or not.
    pub fn is_busy(&self) -> bool {
        self.concurrency().level().0 > 0
    }

    /// What a request can be sent on at once: a stream of a shared connection, or the connection that
    /// was used last.
    pub(in crate::upstream) fn take(&self, request: For, now: Instant) -> Option<RequestChannel> {
        if let Some(stream) = self.shared.take(request, now) {
            return Some(RequestChannel::Http2(stream));
        }
        if request.wanted != ConnectionChoice::Any {
            return None;
        }
        let mut idle = self.idle.borrow_mut();
        while let Some(mut last) = idle.pop() {
            if last.is_usable(now, &self.upstream) {
                return Some(RequestChannel::Http1(last.connection));
            }
        }
        None
    }

    /// A new connection, or a stream of one that is made for all who wait; or of one that was there,
    /// when that is free before. Never past the `end` of the request.
    pub(in crate::upstream) async fn connect(
        &self,
        request: For,
        end: Instant,
        report: &mut AttemptReport,
    ) -> Result<RequestChannel, Failure> {
        loop {
            let connector = &self.upstream.connector;
            if self.shared.is_exclusive() {
                match connector.connect(Some(end)).await {
                    Ok(NewConnection::Http1(connection)) => {
                        report.connects += 1;
                        return Ok(RequestChannel::Http1(connection));
                    }
                    Ok(NewConnection::Http2(connection)) => {
                        report.connects += 1;
                        self.shared.add(connection);
                    }
                    Err(why) => {
                        report.connects_failed += 1;
                        return Err(connector.failure(&why));
                    }
                }
            }
            let now = Instant::now();
            if let Some(stream) = self.shared.take(request, now) {
                return Ok(RequestChannel::Http2(stream));
            }
            match before(end, Box::pin(self.shared.wait(request, now))).await.flatten() {
                Some(Given::RequestChannel { link, first }) => {
                    report.connects += u8::from(first);
                    return Ok(link);
                }
                Some(Given::Alone) => {}
                Some(Given::Failed { failure, first }) => {
                    report.connects_failed += u8::from(first);
                    report.secondhand = !first;
                    return Err(failure);
                }
                // It had less time left than a connection may take: that says nothing about it.
                None => {
                    report.secondhand = true;
                    return Err(self.no_time(end - now));
                }
            }
        }
    }

    /// A request of which nothing was sent has had this time, and no more.
    pub(in crate::upstream) fn no_time(&self, time: Duration) -> Failure {
        self.upstream.connector.failure(&ConnectError::Late(time))
    }

    /// Keeps a connection whose answer is over; `since` is when its request began.
    pub(in crate::upstream) fn give_back(
        &self,
        connection: Box<http1::Http1Connection>,
        since: Instant,
    ) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.upstream.settings.max_idle && connection.is_reusable() {
            idle.push(Idle { connection, since });
        }
    }

    /// A connection that was kept gave no answer in time. It may be dead, and so may be all that were
    /// idle meanwhile: none of them is given a further request.
    pub(in crate::upstream) fn timed_out(&self, begun: Instant, now: Instant) {
        self.upstream.last_timeout.note(begun, now);
        self.idle.borrow_mut().clear();
    }

    /// Closes connections that were idle for too long, or that the upstream has closed.
    pub fn prune(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain_mut(|idle| idle.is_usable(now, &self.upstream));
        self.shared.prune(now, self.upstream.settings.idle);
        self.admission.unread.prune();
    }
}
