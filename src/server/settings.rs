//! What the configuration says of listeners, `[listen]` and `[listeners.NAME]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use super::bounds::Bounds;
use crate::certificate::AuthorityName;
use crate::net::ListenAddress;

/// The name of the listener of `[listen]`.
pub const LISTEN: &str = "listen";

/// Where and how a server listens. All of its workers serve each of its listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The listeners, of which no two have the same name. What a request came by is told by its
    /// index here.
    pub listeners: Vec<ListenerSettings>,
    /// The number of workers; `None` for one per core that the process may use.
    pub workers: Option<usize>,
    /// The bounds of a connection, whichever listener it came by.
    pub bounds: Bounds,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// The addresses; port 0 takes a free one.
    pub addresses: Vec<ListenAddress>,
    /// Whether other processes may serve the same port.
    pub share: PortSharing,
    /// The files of its Unix sockets.
    pub socket: SocketFile,
    /// TLS, when it is spoken.
    pub tls: Option<TlsSettings>,
    /// Whose connections are not counted by address: proxies, behind which others are.
    pub proxies: Vec<ipnet::IpNet>,
    /// Proxies that begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: Vec<ipnet::IpNet>,
}

/// Whether other processes may have sockets of their own on the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortSharing {
    /// They may.
    Yes,
    /// They may not, unless `listen.share` is set.
    No,
    /// They never may: no key is there for it.
    Never,
}

impl ListenerSettings {
    /// One that speaks no TLS and knows no proxies.
    pub fn plain(name: &str, addresses: Vec<ListenAddress>) -> Self {
        Self {
            name: name.into(),
            addresses,
            share: PortSharing::Never,
            socket: SocketFile::default(),
            tls: None,
            proxies: Vec::new(),
            proxy_protocol: Vec::new(),
        }
    }

    /// What its keys in the configuration begin with.
    pub fn section(&self) -> String {
        section(&self.name)
    }
}

/// What the keys of the listener of that name begin with.
pub(super) fn section(name: &str) -> String {
    // No listener of a configuration is called `admin`.
    if [LISTEN, "admin"].contains(&name) { name.to_owned() } else { format!("listeners.{name}") }
}

impl Settings {
    /// One plain listener, so many workers, and the usual bounds.
    pub fn plain(name: &str, address: SocketAddr, workers: usize) -> Self {
        let listeners = vec![ListenerSettings::plain(name, vec![address.into()])];
        Self { listeners, workers: Some(workers), bounds: Bounds::default() }
    }

    /// Every address that is to be bound.
    pub fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.listeners.iter().flat_map(|listener| &listener.addresses)
    }

    /// How many workers there will be: as said, or one for each core that the process may use
    /// (cgroups and affinity are respected).
    pub fn worker_count(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        self.workers.unwrap_or_else(cores).max(1)
    }
}

/// The certificates and their keys, as PEM files; read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate of who asks for no name, or for one that no other has.
    pub certificate: CertificateFiles,
    /// Others, each for who asks for a name in it.
    pub others: Vec<CertificateFiles>,
    /// Whom clients may be certified by; `None` when they are not asked for certificates.
    pub client: Option<ClientSettings>,
}

/// Who may connect to a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketFile {
    /// The rights of its file.
    pub mode: u32,
    /// Its owner; `None` for whoever runs the process.
    pub user: Option<u32>,
    /// Its group; likewise.
    pub group: Option<u32>,
}

impl Default for SocketFile {
    /// Its owner and its group.
    fn default() -> Self {
        Self { mode: 0o660, user: None, group: None }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl TlsSettings {
    /// One certificate, and no client is asked for its own.
    pub const fn of(certificate: PathBuf, key: PathBuf) -> Self {
        let certificate = CertificateFiles { certificate, key };
        Self { certificate, others: Vec::new(), client: None }
    }
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
