//! The second listener, for operators: health, readiness, metrics, the OpenAPI document.

use std::net::SocketAddr;

/// Where the admin listener is, from the `[admin]` section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its address; `None` for no admin listener.
    pub address: Option<SocketAddr>,
}
