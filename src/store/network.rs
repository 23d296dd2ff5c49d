//! A network to the store that someone else makes up, for a simulation: it stands for names, TCP and
//! TLS, beside the system's and never in its way.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use super::address::Address;

/// Makes connections to the store.
pub trait StoreDialler: Send + Sync {
    /// Opens one to this server, on the thread of the worker that asks.
    fn dial(&self, address: &Address) -> StoreDialling;
}

/// A connection that is being opened.
pub type StoreDialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn StoreStream>>>>>;

/// What a connection is made of.
pub trait StoreStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> StoreStream for T {}
