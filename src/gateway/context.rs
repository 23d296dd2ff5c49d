//! What is known of a request when it comes, before any step. Made once; the steps only read it.

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use http::{HeaderValue, Request};
use tokio::time::Instant;

use super::method::method_name;
use super::snapshot::Snapshot;
use crate::edge::{HeadFields, RequestId, RequestTrace};
use crate::field::list::accepted;
use crate::server::Peer;
use crate::telemetry::WallClock;

pub(super) struct RequestContext {
    pub(super) clock: WallClock,
    /// When it came, in milliseconds of Unix time.
    pub(super) at_ms: u64,
    /// The same in nanoseconds.
    pub(super) at_ns: u64,
    /// The same, for what it took.
    pub(super) begun: Instant,
    pub(super) peer: Peer,
    /// The address of the client: the peer's, or what a trusted proxy says in its place.
    pub(super) client: IpAddr,
    pub(super) request_id: RequestId,
    /// Where there are traces.
    pub(super) trace: Option<Box<RequestTrace>>,
    /// The peer is a trusted proxy.
    pub(super) from_proxy: bool,
    pub(super) from_browser: bool,
    /// `None` for what never became a request.
    pub(super) method: Option<&'static str>,
    pub(super) origin: Option<HeaderValue>,
    accept: Option<HeaderValue>,
}

impl RequestContext {
    pub(super) fn of<B>(
        request: &Request<B>,
        peer: Peer,
        clock: WallClock,
        snapshot: &Snapshot,
    ) -> Self {
        let headers = request.headers();
        let fields = HeadFields::of(headers);
        let proxies = &snapshot.listeners.of(peer.listener).trusted_proxies;
        let address = peer.address.ip();
        let from_proxy = proxies.contain(address);
        let mut context = Self::new(peer, clock, fields.origin);
        if from_proxy {
            context.client = proxies.client(headers, address);
            if let Some(given) = fields.request_id.and_then(RequestId::given) {
                context.request_id = given;
            }
        } else {
            proxies.notice(fields.forwarded_for, address);
        }
        let trace = |sampling| Box::new(RequestTrace::new(Some(headers), sampling));
        context.trace = snapshot.sampling.map(trace);
        context.from_proxy = from_proxy;
        context.from_browser = fields.from_browser;
        context.method = Some(method_name(request.method()));
        context.accept = fields.accept;
        context
    }

    /// Of what never became a request.
    pub(super) fn of_no_request(
        peer: Peer,
        clock: WallClock,
        origin: Option<&HeaderValue>,
        snapshot: &Snapshot,
    ) -> Self {
        let trace = |sampling| Box::new(RequestTrace::new(None, sampling));
        let trace = snapshot.sampling.map(trace);
        Self { trace, ..Self::new(peer, clock, origin) }
    }

    fn new(peer: Peer, clock: WallClock, origin: Option<&HeaderValue>) -> Self {
        let since = clock().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self {
            at_ms,
            at_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            begun: Instant::now(),
            client: peer.address.ip(),
            request_id: RequestId::mint(at_ms),
            trace: None,
            from_proxy: false,
            from_browser: false,
            method: None,
            origin: origin.cloned(),
            accept: None,
            clock,
            peer,
        }
    }

    /// Whether the caller asked for `application/problem+json`, and not rather for plain JSON.
    pub(super) fn wants_problem(&self) -> bool {
        let Some(accept) = self.accept.as_ref().map(HeaderValue::as_bytes) else { return false };
        let problem = accepted(accept, "application/problem+json");
        problem > 0 && problem >= accepted(accept, "application/json")
    }
}
