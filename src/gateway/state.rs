//! What a request has taken so far: its body, its part of the limits and budgets. A request that
//! begins again under another configuration brings it along, so that nothing is taken twice.

use hyper::body::Incoming;

use super::request_body::ArrivingBody;
use crate::budget::Reservation;
use crate::clock::milliseconds;
use crate::limit::Allowance;
use crate::telemetry::WallClock;
use crate::upstream::CallProgress;

/// A request begins again so often: each time needs a change, and a reload is seldom.
const MOST_RESTARTS: u8 = 20;

pub(super) struct RequestState {
    /// When it came or began again, in milliseconds of Unix time: the one clock of its steps.
    pub(super) now_ms: u64,
    pub(super) body: ArrivingBody,
    pub(super) allowance: Allowance,
    pub(super) reservation: Option<Box<Reservation>>,
    /// How far the call to the upstream got.
    pub(super) progress: Option<CallProgress>,
    restarts: u8,
}

impl RequestState {
    pub(super) fn new(body: Incoming, now_ms: u64) -> Self {
        let body = ArrivingBody::new(body);
        let (allowance, reservation, progress) = (Allowance::default(), None, None);
        Self { now_ms, body, allowance, reservation, progress, restarts: 0 }
    }

    /// Whether it may begin again.
    pub(super) fn begins_again(&mut self, clock: WallClock) -> bool {
        if self.restarts == MOST_RESTARTS {
            return false;
        }
        self.restarts += 1;
        self.now_ms = milliseconds(clock());
        true
    }
}
