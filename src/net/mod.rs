//! What everything that goes out stands on: where it goes ([`Url`], [`Origin`]), the connection
//! ([`Dialler`]), TLS ([`tls`]), and a small HTTP client ([`Client`]).
//!
//! It knows no upstream, no store and no issuer: those bring their endpoints and their timeouts.
//! A proxy in front of an endpoint ([`Egress`]) is a step of the [`Dialler`].

mod address;
mod client;
mod corked;
mod deadline;
mod dial;
mod egress;
mod endpoint;
mod resolve;
pub mod tls;
mod tunnel;

pub use address::{AddressError, ListenAddress, UnixPath, UnixPathError};
pub use client::{
    Client, ClientDialler, ClientDialling, ClientError, ClientStream, Connection, read,
};
pub use corked::Corked;
pub use deadline::{before, grace, within};
pub use dial::{DialError, Dialler};
pub use egress::{
    Egress, ExceptionError, Proxy, ProxyException, ProxyUrl, ProxyUrlError, canonical,
};
pub use endpoint::{Origin, Scheme, Url, UrlError, WEB, host_and_port, is_loopback};
pub use resolve::Resolver;
pub use tunnel::{TunnelError, USER_AGENT};
