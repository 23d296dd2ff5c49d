//! Where the upstream is.

/// The origin of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is `https`.
    pub tls: bool,
    /// A name or an address; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What `Host` and `:authority` say: the host, and the port where it is not the scheme's own.
    pub authority: String,
}
