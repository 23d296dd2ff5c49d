//! What everything that goes out stands on: where it goes ([`Url`], [`Origin`]), the connection
//! ([`Dialler`]), TLS ([`tls`]), and a small HTTP client ([`Client`]).
//!
//! It knows no upstream, no store and no issuer: those bring their endpoints and their timeouts.
//! A proxy in front of an endpoint, or a Unix socket in place of one, belongs into [`Dialler`].

mod address;
mod client;
mod deadline;
mod dial;
mod endpoint;
mod resolve;
pub mod tls;

pub use address::{AddressError, ListenAddress, UnixPath, UnixPathError};
pub use client::{Client, ClientError, Connection, USER_AGENT, read};
pub use deadline::{before, grace, within};
pub use dial::{DialError, Dialler};
pub use endpoint::{Origin, Scheme, Url, UrlError, WEB, host_and_port, is_loopback};
pub use resolve::Resolver;
