//! What the `[listen]` section of the configuration says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use super::bounds::Bounds;
use super::listener::PortSharing;
use crate::certificate::AuthorityName;

/// Where and how to listen, from the `[listen]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The addresses; port 0 takes a free one.
    pub addresses: Vec<SocketAddr>,
    /// Whether other processes may serve the same port.
    pub share: PortSharing,
    /// TLS, when it is spoken.
    pub tls: Option<TlsSettings>,
    /// The number of workers; `None` for one per core that the process may use.
    pub workers: Option<usize>,
    /// The bounds of a connection.
    pub bounds: Bounds,
    /// Whose connections are not counted by address: proxies, behind which others are.
    pub proxies: Vec<ipnet::IpNet>,
}

impl Settings {
    /// How many workers there will be: as said, or one for each core that the process may use
    /// (cgroups and affinity are respected).
    #[must_use]
    pub fn worker_count(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        self.workers.unwrap_or_else(cores).max(1)
    }
}

/// The certificate and its key, as PEM files; read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
    /// Whom clients may be certified by; `None` when they are not asked for certificates.
    pub client: Option<ClientSettings>,
}

/// Which certificates of clients are trusted; PEM files as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// The authorities. Never none.
    pub authorities: Vec<AuthoritySettings>,
    /// SPIFFE trust domains whose ids count from one authority alone.
    pub trust_domains: Vec<(Box<str>, AuthorityName)>,
    /// The lists of certificates that they have revoked. With any, each authority needs one.
    pub crls: Vec<PathBuf>,
    /// Whether a handshake without a certificate that is trusted fails.
    pub required: bool,
}

/// An authority of clients: certificates that are trusted, and the name that they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthoritySettings {
    /// Its name; empty where it is the only one and has none.
    pub name: AuthorityName,
    /// A PEM file.
    pub file: PathBuf,
}
