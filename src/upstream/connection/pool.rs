//! A worker's side of the upstream: the connections that it keeps, and what it counts for itself.
//! Not shared, so there is no lock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::connect::Link;
use super::service::Upstream;
use super::{http1, http2};
use crate::failure::Failure;
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
    /// One HTTP/2 connection carries many requests.
    shared: RefCell<Option<http2::Sender>>,
}

/// On which connection a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Wanted {
    /// One that was kept, if there is one.
    Any,
    /// A new one.
    New,
}

struct Idle {
    connection: Box<http1::Connection>,
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
    /// Whether its connections, counts and bounds are those of this upstream.
    #[must_use]
    pub fn is_of(&self, upstream: &Arc<Upstream>) -> bool {
        Arc::ptr_eq(&self.upstream, upstream)
    }

    /// No connections yet, and nothing in flight.
    #[must_use]
    pub fn new(upstream: &Arc<Upstream>) -> Self {
        let concurrency = ConcurrencyLimit::new(upstream.settings.concurrency);
        Self {
            upstream: Arc::clone(upstream),
            admission: Admission::new(concurrency, &upstream.breakers),
            draining: Cell::new(false),
            buffers: http1::Buffers::default(),
            idle: RefCell::default(),
            shared: RefCell::default(),
        }
    }

    /// What is in flight, and how much may be.
    #[must_use]
    pub fn concurrency(&self) -> &ConcurrencyLimit {
        &self.admission.concurrency
    }

    /// The process is about to stop: nothing is sent once more.
    pub fn drain(&self) {
        self.draining.set(true);
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
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.concurrency().level().0 > 0
    }

    /// A connection that can take a request now: the shared one, or the one that was used last.
    pub(in crate::upstream) fn take(&self, wanted: Wanted, now: Instant) -> Option<Link> {
        if wanted == Wanted::New {
            return None;
        }
        let mut shared = self.shared.borrow_mut();
        if let Some(sender) = &*shared {
            if !sender.is_closed() {
                return Some(Link::Http2(sender.clone()));
            }
            *shared = None;
        }
        let mut idle = self.idle.borrow_mut();
        while let Some(mut last) = idle.pop() {
            if last.is_usable(now, &self.upstream) {
                return Some(Link::Http1(last.connection));
            }
        }
        None
    }

    /// Keeps a connection whose answer is over; `since` is when its request began.
    pub(in crate::upstream) fn give_back(
        &self,
        connection: Box<http1::Connection>,
        since: Instant,
    ) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < self.upstream.settings.max_idle && connection.is_reusable() {
            idle.push(Idle { connection, since });
        }
    }

    /// Gives later requests a part of a connection of HTTP/2, unless they have one.
    pub(in crate::upstream) fn share(&self, sender: http2::Sender) {
        let mut shared = self.shared.borrow_mut();
        if shared.as_ref().is_none_or(http2::Sender::is_closed) {
            *shared = Some(sender);
        }
    }

    /// A connection that was kept gave no answer in time. It may be dead, and so may be all that were
    /// idle meanwhile: none of them is given a further request.
    pub(in crate::upstream) fn timed_out(&self, now: Instant) {
        self.upstream.last_timeout.note(now);
        self.idle.borrow_mut().clear();
        *self.shared.borrow_mut() = None;
    }

    /// Closes connections that were idle for too long, or that the upstream has closed.
    pub fn prune(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain_mut(|idle| idle.is_usable(now, &self.upstream));
    }
}
