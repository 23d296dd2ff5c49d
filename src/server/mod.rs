//! Listeners, one worker per core, TLS, protocol limits, and the envelope for what no service
//! sees. It serves any service and knows no gateway.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where and how to listen, from the `[listen]` section.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The addresses; port 0 takes a free one.
    pub addresses: Vec<SocketAddr>,
    /// Whether other processes may serve the same port.
    pub share: bool,
    /// TLS, when it is spoken.
    pub tls: Option<TlsSettings>,
    /// The number of workers; `None` for one per core that the process may use.
    pub workers: Option<usize>,
    /// The bounds of a connection.
    pub bounds: Bounds,
}

/// The certificate and its key, as PEM files; read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// The bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most bytes of a request head.
    pub head_bytes: usize,
    /// How long a head may take to arrive, from its first byte (TLS handshake alike).
    pub head_timeout: Duration,
    /// How long a connection may be idle.
    pub idle: Duration,
    /// The most HTTP/2 streams of a connection.
    pub streams: u32,
    /// The most connections of the process.
    pub connections: usize,
    /// How long requests in flight may take once the process is to stop.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head_bytes: 16 * 1024,
            head_timeout: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            streams: 100,
            connections: 10_000,
            drain: Duration::from_secs(25),
        }
    }
}
