//! A worker's side of the upstream: the connections that it keeps, and what it counts for itself.
//! Not shared, so there is no lock.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use super::Settings;
use super::body::RequestBody;
use super::load::Load;
use super::retry::Budget;

/// The sending end of a connection.
pub(super) enum Sender {
    Http1(http1::SendRequest<RequestBody>),
    Http2(http2::SendRequest<RequestBody>),
}

/// Why a request got no answer on a connection.
pub(super) struct NotAnswered {
    pub(super) error: hyper::Error,
    /// The request, when not a byte of it was sent.
    pub(super) unsent: Option<Box<Request<RequestBody>>>,
}

/// A worker's connections to the upstream.
pub struct Pool {
    load: Rc<Load>,
    pub(super) budget: Budget,
    pub(super) draining: Cell<bool>,
    idle: RefCell<Vec<Idle>>,
    /// One HTTP/2 connection carries many requests.
    shared: RefCell<Option<http2::SendRequest<RequestBody>>>,
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

impl Sender {
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, NotAnswered> {
        let sent = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| {
            let unsent = error.take_message().map(Box::new);
            NotAnswered { error: error.into_error(), unsent }
        })
    }

    pub(super) const fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
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

    /// A connection that can take a request now: the shared one, or the one that was used last.
    pub(super) fn take(&self, idle_for: Duration) -> Option<Sender> {
        let mut shared = self.shared.borrow_mut();
        if let Some(sender) = &*shared {
            if !sender.is_closed() {
                return Some(Sender::Http2(sender.clone()));
            }
            *shared = None;
        }
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        // One whose answer is still being read stays where it is.
        let mut index = idle.len();
        while index > 0 {
            index -= 1;
            let one = &idle[index];
            if one.sender.is_closed() || now.duration_since(one.since) > idle_for {
                idle.remove(index);
            } else if one.sender.is_ready() {
                return Some(Sender::Http1(idle.remove(index).sender));
            }
        }
        None
    }

    /// Gives a connection back once the head of its answer is there; it is taken again when all
    /// of the answer is.
    pub(super) fn give_back(&self, sender: Sender, most: usize) {
        match sender {
            Sender::Http2(sender) => {
                let mut shared = self.shared.borrow_mut();
                if shared.as_ref().is_none_or(http2::SendRequest::is_closed) {
                    *shared = Some(sender);
                }
            }
            Sender::Http1(sender) => {
                let mut idle = self.idle.borrow_mut();
                if idle.len() < most && !sender.is_closed() {
                    idle.push(Idle { sender, since: Instant::now() });
                }
            }
        }
    }

    /// Gives no further request to the shared connection: it may be dead, and nobody told.
    pub(super) fn forget_shared(&self) {
        *self.shared.borrow_mut() = None;
    }

    /// Closes connections that were idle for too long.
    pub fn prune(&self, idle_for: Duration) {
        let now = Instant::now();
        let keep =
            |one: &Idle| !one.sender.is_closed() && now.duration_since(one.since) <= idle_for;
        self.idle.borrow_mut().retain(keep);
    }
}
