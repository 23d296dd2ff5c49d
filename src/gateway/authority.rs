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
use std::time::UNIX_EPOCH;

use arc_swap::{ArcSwap, Cache};
use http::Request;

use super::site::Site;
use crate::caller::{Memory, Validity};
use crate::certificate::Standing;
use crate::failure::Failure;
use crate::server::Peer;
use crate::telemetry::WallClock;
use crate::upstream;

/// The configuration of the moment, as a worker sees it: one atomic load.
pub(super) struct Latest(RefCell<Cache<Arc<ArcSwap<Site>>, Arc<Site>>>);

/// A configuration, and what tells whether it is still the one that counts.
pub(super) struct Basis {
    pub(super) site: Arc<Site>,
    pub(super) latest: Rc<Latest>,
}

/// By what a request is allowed.
#[derive(Clone)]
pub(super) struct Authority {
    basis: Rc<Basis>,
    validity: Validity,
    peer: Peer,
    client: IpAddr,
    clock: WallClock,
}

/// The authority of a request whose body passes through, with the head to look at again.
struct Uploader {
    authority: Authority,
    request: Request<()>,
}

impl Latest {
    pub(super) fn new(sites: Arc<ArcSwap<Site>>) -> Self {
        Self(RefCell::new(Cache::new(sites)))
    }

    pub(super) fn site(&self) -> Arc<Site> {
        Arc::clone(self.0.borrow_mut().load())
    }

    /// Whether it is this one.
    pub(super) fn is(&self, site: &Arc<Site>) -> bool {
        Arc::ptr_eq(self.0.borrow_mut().load(), site)
    }
}

/// Milliseconds of Unix time as the calendar has them.
pub(super) fn timestamp(ms: u64) -> jiff::Timestamp {
    let ms = i64::try_from(ms).ok();
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or(jiff::Timestamp::MAX)
}

/// The time by a clock, in milliseconds of Unix time.
pub(super) fn milliseconds(clock: WallClock) -> u64 {
    let since = clock().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Authority {
    pub(super) fn new(
        basis: &Rc<Basis>,
        validity: Validity,
        peer: &Peer,
        client: IpAddr,
        clock: WallClock,
    ) -> Self {
        Self { basis: Rc::clone(basis), validity, peer: peer.clone(), client, clock }
    }

    /// The look.
    ///
    /// # Errors
    /// [`Failure::superseded`]: the request begins again.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.holds() { Ok(()) } else { Err(Failure::superseded()) }
    }

    fn holds(&self) -> bool {
        let Basis { site, latest } = &*self.basis;
        latest.is(site)
            && site.callers.still_hold(&self.validity, || self.now())
            && (!self.validity.is_of_certificate()
                || matches!(self.peer.standing(self.now()), Standing::Trusted(_)))
    }

    fn now(&self) -> jiff::Timestamp {
        timestamp(milliseconds(self.clock))
    }

    /// For an upload, which must keep what it says of itself.
    pub(super) fn over_upload(&self, request: &Request<()>) -> Rc<dyn upstream::LastLook> {
        let mut head = Request::new(());
        *head.method_mut() = request.method().clone();
        *head.uri_mut() = request.uri().clone();
        *head.headers_mut() = request.headers().clone();
        Rc::new(Uploader { authority: self.clone(), request: head })
    }
}

impl upstream::Authority for Authority {
    fn check(&self) -> Result<(), Failure> {
        self.check()
    }

    fn is_half_closed(&self) -> bool {
        self.peer.link.is_half_closed()
    }

    fn keep(&self) -> Rc<dyn upstream::Authority> {
        Rc::new(self.clone())
    }
}

impl upstream::LastLook for Uploader {
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
        let Authority { basis, peer, client, .. } = &self.authority;
        let (site, now) = (basis.latest.site(), self.authority.now());
        // Nothing is remembered of it: the request is about to end.
        let memory = Memory::default();
        let standing = || peer.standing(now);
        let known = site.callers.identify(&self.request, *client, standing, now, &memory).await?;
        let asked = site.operations.find(self.request.method(), self.request.uri().path())?;
        site.policy.authorize(&known.caller.rights, &asked).map(|_| ())
    }
}
