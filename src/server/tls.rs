//! TLS by rustls, with a certificate that can be replaced while connections are served.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ProducesTickets};

use super::client_auth::ClientVerifier;
use super::pem::{TlsFileError, provider};
use super::settings::{TlsSettings, section};
use super::sni::CertificatesByName;
use crate::expiry::{Expiry, ExpiryKind};

/// The certificates of listeners, by their names.
pub type ListenerCertificates = [(Arc<str>, Arc<Tls>)];

/// The TLS configuration of the moment. New handshakes see the newest; those that stand keep
/// theirs, but whether the certificate of a client is trusted is seen by the newest.
pub struct Tls {
    current: ArcSwap<LoadedTls>,
}

struct LoadedTls {
    config: Arc<ServerConfig>,
    certificates: Arc<CertificatesByName>,
    client_auth: Option<Arc<ClientVerifier>>,
    tickets: Option<Arc<dyn ProducesTickets>>,
}

/// What was read again and does not count yet.
pub struct Reread(LoadedTls);

impl Tls {
    /// Reads certificate and key, and whom clients may be certified by.
    ///
    /// # Errors
    /// [`TlsFileError`] names the file and what is wrong with it.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsFileError> {
        Ok(Self { current: ArcSwap::from_pointee(LoadedTls::new(settings, None)?) })
    }

    /// Reads everything again, and changes nothing before it is taken with [`Tls::take`].
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn read_again(&self, settings: &TlsSettings) -> Result<Reread, TlsFileError> {
        LoadedTls::new(settings, Some(&self.current.load())).map(Reread)
    }

    /// From now on this counts.
    pub fn take(&self, reread: Reread) {
        self.current.store(Arc::new(reread.0));
    }

    /// What ends of all this: certificates, authorities of clients, lists of revoked certificates.
    /// `listener` is the name of the listener.
    pub fn expiries(&self, listener: &str) -> Vec<Expiry> {
        let current = self.current.load();
        let shown = current.certificates.ends.iter().filter_map(|(file, end)| {
            let one = Expiry::at_second(ExpiryKind::Certificate, listener, *end)?;
            Some(one.of(file.display().to_string()))
        });
        let section = section(listener);
        let asked = current.client_auth.iter().flat_map(|by| by.expiries(&section));
        shown.chain(asked).collect()
    }

    /// When the first of the certificates that are shown ends, in seconds of Unix time.
    pub fn end(&self) -> Option<i64> {
        self.current.load().certificates.ends.iter().map(|(_, end)| *end).min()
    }

    /// Whether one of the certificates that are shown is for a host, a name or an address.
    pub fn is_for(&self, host: &str) -> bool {
        self.current.load().certificates.are_for(host)
    }

    /// The files of lists of revoked certificates that count and are out of date.
    pub fn out_of_date_lists(&self, now: jiff::Timestamp) -> Vec<PathBuf> {
        let current = self.current.load();
        let lists = current.client_auth.iter().flat_map(|by| by.out_of_date(now.as_second()));
        lists.cloned().collect()
    }

    pub(super) fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.current.load().config).into()
    }

    /// Whom clients may be certified by, now; `None` when they are not asked.
    pub(super) fn client_auth(&self) -> Option<Arc<ClientVerifier>> {
        self.current.load().client_auth.clone()
    }

    /// Whether that is still what counts.
    pub(super) fn judges_by(&self, client_auth: &Arc<ClientVerifier>) -> bool {
        let current = self.current.load();
        current.client_auth.as_ref().is_some_and(|now| Arc::ptr_eq(now, client_auth))
    }
}

impl LoadedTls {
    fn new(settings: &TlsSettings, before: Option<&Self>) -> Result<Self, TlsFileError> {
        let certificates = Arc::new(CertificatesByName::read(settings)?);
        let client_auth =
            settings.client.as_ref().map(ClientVerifier::new).transpose()?.map(Arc::new);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?;
        let builder = match &client_auth {
            None => builder.with_no_client_auth(),
            Some(client_auth) => builder.with_client_cert_verifier(Arc::clone(client_auth) as _),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&certificates) as _);
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
        Ok(Self { config: Arc::new(config), certificates, client_auth, tickets })
    }
}

/// What makes tickets. Kept over reloads, so that clients can resume; but not beyond one that
/// begins to ask for certificates: a ticket of before has none, and who resumes is not asked.
fn tickets(asks: bool, before: Option<&LoadedTls>) -> Option<Arc<dyn ProducesTickets>> {
    let before = before.filter(|before| before.client_auth.is_some() == asks);
    let kept = before.and_then(|before| before.tickets.clone());
    // Without randomness there are no tickets, and every handshake is a full one.
    kept.or_else(|| aws_lc_rs::Ticketer::new().ok())
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tls").finish_non_exhaustive()
    }
}
