//! The certificate that a client has shown on a connection, judged whenever a request relies on it.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::client_auth::{ClientVerifier, explain};
use super::tls::Tls;
use crate::certificate::{CertificateStatus, Distrust, Names, UnreadableCertificateError};

/// A judgement is good for so many seconds: what can change meanwhile, without a reload, is that
/// a certificate above the client's own, or a list of revoked ones, runs out.
const GOOD: u64 = 60;

/// The certificates that a client presented on a connection, whose key it proved to have.
#[derive(Debug)]
pub struct Presented {
    chain: Vec<CertificateDer<'static>>,
    names: Result<Names, UnreadableCertificateError>,
    tls: Arc<Tls>,
    last: RefCell<Option<Judgement>>,
}

/// What was found at some moment.
struct Judgement {
    by: Arc<ClientVerifier>,
    /// In seconds of Unix time.
    good: Range<u64>,
    standing: CertificateStatus,
}

impl Presented {
    /// The certificates of a connection whose handshake is done; `None` when there are none. A
    /// resumed session has those of its first handshake, and they are judged like any.
    pub(super) fn of(connection: &rustls::ServerConnection, tls: &Arc<Tls>) -> Option<Rc<Self>> {
        let chain = connection.peer_certificates()?;
        let chain: Vec<_> = chain.iter().map(|one| one.clone().into_owned()).collect();
        let names = Names::read(chain.first()?);
        Some(Rc::new(Self { chain, names, tls: Arc::clone(tls), last: RefCell::new(None) }))
    }

    /// What the certificate is worth now, by the authorities and lists of now.
    pub fn standing(&self, now: jiff::Timestamp) -> CertificateStatus {
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        let mut last = self.last.borrow_mut();
        if let Some(last) = &*last
            && last.good.contains(&now)
            && self.tls.judges_by(&last.by)
        {
            return last.standing.clone();
        }
        // No one is asked for a certificate any more: it counts no more than one that never came.
        let Some(by) = self.tls.client_auth() else { return CertificateStatus::None };
        let judgement = self.judge(by, now);
        last.insert(judgement).standing.clone()
    }

    fn judge(&self, by: Arc<ClientVerifier>, now: u64) -> Judgement {
        let names = match &self.names {
            Ok(names) => names,
            Err(why) => {
                let (why, detail) = (Distrust::Untrusted, why.to_string());
                let standing = CertificateStatus::Distrusted { why, detail };
                return Judgement { by, good: now..now + GOOD, standing };
            }
        };
        let standing = match by.judge(&self.chain, names, now) {
            Ok(attested) => CertificateStatus::Trusted(Rc::new(attested)),
            Err((why, error)) => CertificateStatus::Distrusted { why, detail: explain(&error) },
        };
        // It may not outlast the certificate by a second, nor a certificate wait to become valid.
        let (begin, end) = names.validity;
        let bounds = [begin, end.saturating_add(1)];
        let bounds = bounds.iter().filter_map(|at| u64::try_from(*at).ok());
        let until = bounds.filter(|at| *at > now).fold(now + GOOD, u64::min);
        Judgement { by, good: now..until, standing }
    }
}

impl std::fmt::Debug for Judgement {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Judgement").field(&self.good).field(&self.standing).finish()
    }
}
