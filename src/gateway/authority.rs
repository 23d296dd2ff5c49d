//! Whether what allowed a request still counts, asked right before something is done for it.
//!
//! A request waits: for its body, for a budget, for the audit, for the upstream, for a retry.
//! Meanwhile the configuration can be replaced, a credential can end, a certificate be revoked.
//! After each such wait comes a look, which costs a comparison where nothing changed. Where
//! something did, the request begins again at *identify* with what it has. What only passes through
//! cannot begin again: see [`Uploader`].

use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use http::Request;

use super::context::RequestContext;
use super::snapshot::Snapshot;
use crate::caller::{CredentialCache, Validity};
use crate::certificate::CertificateStatus;
use crate::clock::{milliseconds, timestamp};
use crate::failure::Failure;
use crate::server::Peer;
use crate::telemetry::WallClock;
use crate::upstream;

/// The configuration of the moment, as a worker sees it: one atomic load.
pub(super) struct LatestSnapshot(RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>);

/// A configuration, and what tells whether it is still the one that counts.
pub(super) struct Basis {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) latest: Rc<LatestSnapshot>,
}

/// By what a request is allowed.
#[derive(Clone)]
pub(super) struct RequestAuthority {
    basis: Rc<Basis>,
    validity: Validity,
    peer: Peer,
    client: IpAddr,
    clock: WallClock,
}

/// The authority of a request whose body passes through, with the head to look at again.
struct Uploader {
    authority: RequestAuthority,
    request: Request<()>,
}

impl LatestSnapshot {
    pub(super) fn new(snapshots: Arc<ArcSwap<Snapshot>>) -> Self {
        Self(RefCell::new(Cache::new(snapshots)))
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.0.borrow_mut().load())
    }

    /// Whether it is this one.
    pub(super) fn is(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(self.0.borrow_mut().load(), snapshot)
    }
}

impl RequestAuthority {
    pub(super) fn new(basis: &Rc<Basis>, validity: Validity, context: &RequestContext) -> Self {
        let RequestContext { peer, client, clock, .. } = context;
        let (peer, client, clock) = (peer.clone(), *client, *clock);
        Self { basis: Rc::clone(basis), validity, peer, client, clock }
    }

    /// The look.
    ///
    /// # Errors
    /// [`Failure::superseded`]: the request begins again.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.holds() { Ok(()) } else { Err(Failure::superseded()) }
    }

    fn holds(&self) -> bool {
        let Basis { snapshot, latest } = &*self.basis;
        latest.is(snapshot)
            && snapshot.callers.still_hold(&self.validity, || self.now())
            && (!self.validity.is_of_certificate()
                || matches!(self.peer.standing(self.now()), CertificateStatus::Trusted(_)))
    }

    fn now(&self) -> jiff::Timestamp {
        timestamp(milliseconds((self.clock)())).unwrap_or(jiff::Timestamp::MAX)
    }

    /// For an upload, which must keep what it says of itself.
    pub(super) fn over_upload(&self, request: &Request<()>) -> Rc<dyn upstream::FinalCheck> {
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.headers_mut() = request.headers().clone();
        Rc::new(Uploader { authority: self.clone(), request: head })
    }
}

impl upstream::Authority for RequestAuthority {
    fn check(&self) -> Result<(), Failure> {
        self.check()
    }

    fn is_half_closed(&self) -> bool {
        self.peer.signals.is_half_closed()
    }

    fn keep(&self) -> Rc<dyn upstream::Authority> {
        Rc::new(self.clone())
    }
}

impl upstream::FinalCheck for Uploader {
    fn look(self: Rc<Self>) -> Option<Pin<Box<dyn Future<Output = bool>>>> {
        if self.authority.holds() {
            return None;
        }
        Some(Box::pin(async move { self.is_allowed_anew().await.is_ok() }))
    }
}

impl Uploader {
    /// Whether the configuration and the credential of now allow what has been begun.
    async fn is_allowed_anew(&self) -> Result<(), Failure> {
        let RequestAuthority { basis, peer, client, .. } = &self.authority;
        let (snapshot, now) = (basis.latest.snapshot(), self.authority.now());
        // Nothing is remembered of it: the request is about to end.
        let memory = CredentialCache::default();
        let shown = || snapshot.listeners.certificate(peer, now);
        let known = snapshot.callers.identify(&self.request, *client, shown, now, &memory).await?;
        let asked = snapshot.find(&self.request)?;
        snapshot.policy.authorize(&known.caller.rights, &asked).map(|_| ())
    }
}
