//! TLS by rustls, with a certificate that can be replaced while connections are served.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsSettings;

/// The TLS configuration of the moment. New handshakes see the newest; those that stand keep theirs.
pub struct Tls {
    current: ArcSwap<ServerConfig>,
    /// Kept over reloads, so that clients can resume.
    tickets: Option<Arc<dyn rustls::server::ProducesTickets>>,
}

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
    /// Certificate and key do not belong together, or are of a kind that is not taken.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`TlsError`] names the file and what is wrong with it.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        // Without randomness there are no tickets, and every handshake is a full one.
        let tickets = aws_lc_rs::Ticketer::new().ok();
        let current = ArcSwap::new(server_config(settings, tickets.clone())?);
        Ok(Self { current, tickets })
    }

    /// Reads certificate and key again; on an error the old ones stay.
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn reload(&self, settings: &TlsSettings) -> Result<(), TlsError> {
        self.current.store(server_config(settings, self.tickets.clone())?);
        Ok(())
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        self.current.load_full().into()
    }
}

fn server_config(
    settings: &TlsSettings,
    tickets: Option<Arc<dyn rustls::server::ProducesTickets>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let certificates = certificates(&settings.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&settings.key)?)
        .map_err(|_| TlsError::Pem { path: settings.key.clone(), what: "private key" })?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if let Some(tickets) = tickets {
        config.ticketer = tickets;
    }
    Ok(Arc::new(config))
}

/// Reads a chain of certificates.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let empty = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| empty())?;
    if chain.is_empty() { Err(empty()) } else { Ok(chain) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}
