//! The network that leads to the upstream: the system's, or one that a simulation makes up.
//!
//! The second is a variant beside the socket of the system and never in its way: bytes of a real
//! connection over TCP pass through no trait object; those of a Unix socket do.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::net::Origin;

/// By which network the upstream is reached.
#[derive(Clone, Default)]
pub enum Network {
    /// The system's: names, TCP and TLS.
    #[default]
    System,
    /// One of someone else's making, which stands for all three.
    Other(Arc<dyn Dial>),
}

impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::System, Self::System) => true,
            (Self::Other(one), Self::Other(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Other(_) => "Other",
        })
    }
}

/// Makes connections to the upstream.
pub trait Dial: Send + Sync {
    /// Opens one, on the thread of the worker that asks.
    fn dial(&self, origin: &Origin) -> Dialling;
}

/// A connection that is being opened.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Dialled>>>>;

/// A connection, and the version of HTTP that was agreed on.
pub enum Dialled {
    /// HTTP/1.1.
    Http1(Box<dyn Wire>),
    /// HTTP/2.
    Http2(Box<dyn Wire>),
}

/// What a connection is made of.
pub trait Wire: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}
