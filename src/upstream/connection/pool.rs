//! A worker's side of the upstream: the connections that it keeps, and what it counts for itself.
//! Not shared, so there is no lock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::{http1, http2};
use crate::upstream::resilience::concurrency::Load;
use crate::upstream::resilience::retry::Budget;
use crate::upstream::settings::Settings;

/// A connection that a request can be sent on.
pub(in crate::upstream) enum Link {
    /// This request's alone, until its answer is over.
    Http1(Box<http1::Connection>),
    /// Shared.
    Http2(http2::Sender),
}

/// A worker's connections to the upstream.
pub struct Pool {
    load: Rc<Load>,
    pub(in crate::upstream) budget: Budget,
    pub(in crate::upstream) draining: Cell<bool>,
    /// What long answers are read into.
    pub(in crate::upstream) buffers: http1::Buffers,
    idle: RefCell<Vec<Idle>>,
    /// One HTTP/2 connection carries many requests.
    shared: RefCell<Option<http2::Sender>>,
}

struct Idle {
    connection: Box<http1::Connection>,
    /// When its last request began: early rather than late, and no clock is read for it.
    since: Instant,
}

impl Idle {
    fn is_usable(&mut self, now: Instant, idle_for: Duration) -> bool {
        now.duration_since(self.since) <= idle_for && self.connection.is_quiet()
    }
}

impl Pool {
    /// No connections yet, and nothing in flight.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            load: Rc::new(Load::new(settings.load)),
            budget: Budget::default(),
            draining: Cell::new(false),
            buffers: http1::Buffers::default(),
            idle: RefCell::default(),
            shared: RefCell::default(),
        }
    }

    /// What is in flight.
    #[must_use]
    pub const fn load(&self) -> &Rc<Load> {
        &self.load
    }

    /// The process is about to stop: nothing is sent once more.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// Whether a request is at the upstream, waited for by its caller or not.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.load.level().0 > 0
    }

    /// A connection that can take a request now: the shared one, or the one that was used last.
    pub(in crate::upstream) fn take(&self, now: Instant, idle_for: Duration) -> Option<Link> {
        let mut shared = self.shared.borrow_mut();
        if let Some(sender) = &*shared {
            if !sender.is_closed() {
                return Some(Link::Http2(sender.clone()));
            }
            *shared = None;
        }
        let mut idle = self.idle.borrow_mut();
        while let Some(mut last) = idle.pop() {
            if last.is_usable(now, idle_for) {
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
        most: usize,
    ) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < most && connection.is_reusable() {
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

    /// Gives no further request to the shared connection: it may be dead, and nobody told.
    pub(in crate::upstream) fn forget_shared(&self) {
        *self.shared.borrow_mut() = None;
    }

    /// Closes connections that were idle for too long, or that the upstream has closed.
    pub fn prune(&self, idle_for: Duration) {
        let now = Instant::now();
        self.idle.borrow_mut().retain_mut(|idle| idle.is_usable(now, idle_for));
    }
}
