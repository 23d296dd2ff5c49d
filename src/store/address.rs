//! Where a server of the store is.

use std::fmt;
use std::path::Path;

/// The host and the port of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// A name or an IP address, without brackets; or the path of a Unix socket, where the port means
    /// nothing.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// The path of a Unix socket, if it is one: no host begins with a slash.
    pub(super) fn socket(&self) -> Option<&Path> {
        self.host.starts_with('/').then(|| Path::new(&self.host))
    }

    /// From `host:port`, with an IPv6 address in brackets or without.
    pub(super) fn parsed(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().ok()?;
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.socket().is_some() {
            write!(out, "unix:{}", self.host)
        } else if self.host.contains(':') {
            write!(out, "[{}]:{}", self.host, self.port)
        } else {
            write!(out, "{}:{}", self.host, self.port)
        }
    }
}
