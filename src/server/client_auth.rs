//! Certificates of clients: asked for in the handshake, judged when a request relies on one.
//!
//! A verifier of rustls that does not trust a certificate ends the handshake, and all that the
//! client learns is an alert. So the handshake takes any certificate whose key the client proves
//! to have, which needs no trust; the chain is judged afterwards, where there is an answer to say
//! it in. Nothing shows a certificate but [`Presented::standing`], which judges it first.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::tls::{certificates, provider, read};
use super::{ClientSettings, Tls, TlsError};
use crate::certificate::{Distrust, Names, Standing, Unreadable};

/// A judgement is good for so many seconds: what can change meanwhile, without a reload, is that
/// a certificate above the client's own, or a list of revoked ones, runs out.
const GOOD: u64 = 60;

/// Whom clients may be certified by, of one configuration.
pub(super) struct ClientAuth {
    verifier: Arc<dyn ClientCertVerifier>,
    pub(super) required: bool,
}

/// The certificates that a client presented on a connection, whose key it proved to have.
#[derive(Debug)]
pub struct Presented {
    chain: Vec<CertificateDer<'static>>,
    names: Result<Rc<Names>, Unreadable>,
    tls: Arc<Tls>,
    last: RefCell<Option<Judgement>>,
}

/// What was found at some moment.
struct Judgement {
    by: Arc<ClientAuth>,
    /// In seconds of Unix time.
    good: Range<u64>,
    standing: Standing,
}

impl ClientAuth {
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(&settings.ca)? {
            roots.add(authority).map_err(|source| {
                let path = settings.ca.clone();
                TlsError::Authority { path, source }
            })?;
        }
        let roots = Arc::new(roots);
        let build = |lists| {
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
                .with_crls(lists)
                // A list that is out of date proves nothing.
                .enforce_revocation_expiration()
                .build()
        };
        let mut lists = Vec::new();
        for path in &settings.crls {
            let pem = || TlsError::Pem { path: path.clone(), what: "list of revoked certificates" };
            let here = CertificateRevocationListDer::pem_slice_iter(&read(path)?)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| pem())?;
            // By itself first, so that the error can name the file.
            if here.is_empty() || build(here.clone()).is_err() {
                return Err(pem());
            }
            lists.extend(here);
        }
        let verifier = build(lists).map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { verifier, required: settings.required })
    }

    /// What takes part in the handshake.
    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let verifier = Arc::clone(&self.verifier);
        if self.required { verifier } else { Arc::new(Unjudged(verifier)) }
    }

    /// Judges a chain, the client's own certificate first.
    fn judge(&self, chain: &[CertificateDer<'_>], names: &Names, now: u64) -> Result<(), Refused> {
        let Err(why) = self.verify(chain, now) else { return Ok(()) };
        let distrust = distrust(&why);
        if !matches!(distrust, Distrust::Expired | Distrust::NotYetValid) {
            return Err((distrust, why));
        }
        // Times are compared before signatures are. That a certificate is expired is a fact only
        // if it was trusted while it was not; else it is somebody's own make.
        let begin = u64::try_from(names.validity.0).unwrap_or(0);
        match self.verify(chain, begin) {
            Ok(()) => Err((distrust, why)),
            Err(then) => match self::distrust(&then) {
                Distrust::Expired | Distrust::NotYetValid => Err((Distrust::Untrusted, why)),
                distrust => Err((distrust, then)),
            },
        }
    }

    fn verify(&self, chain: &[CertificateDer<'_>], at: u64) -> Result<(), Error> {
        let (own, above) = chain.split_first().ok_or(CertificateError::BadEncoding)?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        self.verifier.verify_client_cert(own, above, at).map(|_| ())
    }
}

/// Why a chain is not trusted: for the caller, and for the log.
type Refused = (Distrust, Error);

fn distrust(why: &Error) -> Distrust {
    use CertificateError as E;
    match why {
        Error::InvalidCertificate(why) => match why {
            E::Expired | E::ExpiredContext { .. } => Distrust::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Distrust::NotYetValid,
            E::Revoked => Distrust::Revoked,
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => Distrust::Purpose,
            E::UnknownRevocationStatus
            | E::ExpiredRevocationList
            | E::ExpiredRevocationListContext { .. } => Distrust::RevocationUnknown,
            _ => Distrust::Untrusted,
        },
        // A list with a wrong signature, or of a kind that cannot be read.
        Error::InvalidCertRevocationList(_) => Distrust::RevocationUnknown,
        _ => Distrust::Untrusted,
    }
}

impl Presented {
    /// The certificates of a connection whose handshake is done; `None` when there are none. A
    /// resumed session has those of its first handshake, and they are judged like any.
    pub(super) fn of(connection: &rustls::ServerConnection, tls: &Arc<Tls>) -> Option<Rc<Self>> {
        let chain = connection.peer_certificates()?;
        let chain: Vec<_> = chain.iter().map(|one| one.clone().into_owned()).collect();
        let names = Names::read(chain.first()?).map(Rc::new);
        Some(Rc::new(Self { chain, names, tls: Arc::clone(tls), last: RefCell::new(None) }))
    }

    /// What the certificate is worth now, by the authorities and lists of now.
    #[must_use]
    pub fn standing(&self, now: jiff::Timestamp) -> Standing {
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        let mut last = self.last.borrow_mut();
        if let Some(last) = &*last
            && last.good.contains(&now)
            && self.tls.judges_by(&last.by)
        {
            return last.standing.clone();
        }
        // Nobody is asked for a certificate any more: it counts no more than one that never came.
        let Some(by) = self.tls.client_auth() else { return Standing::None };
        let judgement = self.judge(by, now);
        last.insert(judgement).standing.clone()
    }

    fn judge(&self, by: Arc<ClientAuth>, now: u64) -> Judgement {
        let names = match &self.names {
            Ok(names) => names,
            Err(why) => {
                let (why, detail) = (Distrust::Untrusted, why.to_string());
                let standing = Standing::Distrusted { why, detail };
                return Judgement { by, good: now..now + GOOD, standing };
            }
        };
        let standing = match by.judge(&self.chain, names, now) {
            Ok(()) => Standing::Trusted(Rc::clone(names)),
            Err((why, error)) => Standing::Distrusted { why, detail: error.to_string() },
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

/// Takes every certificate, and no signature that its key did not make.
#[derive(Debug)]
struct Unjudged(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Unjudged {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _own: &CertificateDer<'_>,
        _above: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Judged by `Presented::standing`.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
