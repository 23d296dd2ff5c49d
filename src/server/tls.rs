//! TLS by rustls, with a certificate that can be replaced while connections are served.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};

use super::TlsSettings;
use super::client_auth::ClientAuth;

/// The TLS configuration of the moment. New handshakes see the newest; those that stand keep
/// theirs, but whether the certificate of a client is trusted is seen by the newest.
pub struct Tls {
    current: ArcSwap<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    client_auth: Option<Arc<ClientAuth>>,
    tickets: Option<Arc<dyn ProducesTickets>>,
}

/// What was read again and does not count yet.
pub struct Reread(Current);

/// Why a certificate or key cannot be used. Holds nothing of their contents.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate, or no key.
    #[error("{path}: no {what} in PEM form is in this file")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// An authority cannot be trusted.
    #[error("{path}: a certificate in this file cannot be that of an authority: {source}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Certificate and key do not belong together, or are of a kind that is not taken.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// Reads certificate and key, and whom clients may be certified by.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        Ok(Self { current: ArcSwap::from_pointee(Current::new(settings, None)?) })
    }

    /// Reads everything again, and changes nothing before it is taken with [`Tls::take`].
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn read_again(&self, settings: &TlsSettings) -> Result<Reread, TlsError> {
        Current::new(settings, Some(&self.current.load())).map(Reread)
    }

    /// From now on this counts.
    pub fn take(&self, reread: Reread) {
        self.current.store(Arc::new(reread.0));
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.current.load().config).into()
    }

    /// Whom clients may be certified by, now; `None` when they are not asked.
    pub(super) fn client_auth(&self) -> Option<Arc<ClientAuth>> {
        self.current.load().client_auth.clone()
    }

    /// Whether that is still what counts.
    pub(super) fn judges_by(&self, client_auth: &Arc<ClientAuth>) -> bool {
        let current = self.current.load();
        current.client_auth.as_ref().is_some_and(|now| Arc::ptr_eq(now, client_auth))
    }
}

impl Current {
    fn new(settings: &TlsSettings, before: Option<&Self>) -> Result<Self, TlsError> {
        let certificates = certificates(&settings.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&settings.key)?)
            .map_err(|_| TlsError::Pem { path: settings.key.clone(), what: "private key" })?;
        let client_auth = settings.client.as_ref().map(ClientAuth::new).transpose()?.map(Arc::new);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let builder = match &client_auth {
            None => builder.with_no_client_auth(),
            Some(client_auth) => builder.with_client_cert_verifier(client_auth.verifier()),
        };
        let mut config = builder.with_single_cert(certificates, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tickets = if client_auth.as_ref().is_some_and(|client_auth| client_auth.required) {
            // A resumed session shows the verifier nothing: who is to be refused in the handshake
            // makes a full one each time.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            None
        } else {
            tickets(client_auth.is_some(), before)
        };
        if let Some(tickets) = &tickets {
            config.ticketer = Arc::clone(tickets);
        }
        Ok(Self { config: Arc::new(config), client_auth, tickets })
    }
}

/// What makes tickets. Kept over reloads, so that clients can resume; but not beyond one that
/// begins to ask for certificates: a ticket of before has none, and who resumes is not asked.
fn tickets(asks: bool, before: Option<&Current>) -> Option<Arc<dyn ProducesTickets>> {
    let before = before.filter(|before| before.client_auth.is_some() == asks);
    let kept = before.and_then(|before| before.tickets.clone());
    // Without randomness there are no tickets, and every handshake is a full one.
    kept.or_else(|| aws_lc_rs::Ticketer::new().ok())
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Reads a chain of certificates.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let empty = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| empty())?;
    if chain.is_empty() { Err(empty()) } else { Ok(chain) }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tls").finish_non_exhaustive()
    }
}
