//! Where the store is and how it is spoken to, from the `[store]` section.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::{Address, StoreDialler};
use crate::token::Secret;

/// Where the store is, and how it is spoken to, from the `[store]` section.
#[derive(Clone)]
pub struct Settings {
    /// What the addresses are of.
    pub topology: Topology,
    /// The server; of a sentinel or a cluster, those that are asked for it.
    pub addresses: Vec<Address>,
    /// The authorities that its certificate is to be from; `None` for no TLS.
    pub tls: Option<Trust>,
    /// The user of its access list; `None` for the default one.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// The password of the sentinels, which have one of their own.
    pub sentinel_password: Option<Secret>,
    /// The number of the database.
    pub database: u32,
    /// How long anyone waits for an answer.
    pub timeout: Duration,
    /// What every key begins with, so that several may share a store.
    pub prefix: String,
    /// What connects to it in place of the system's network.
    pub dialler: Option<Arc<dyn StoreDialler>>,
}

/// How the servers of a store belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// One at a time, which the sentinels name.
    Sentinel {
        /// The name that they know it by.
        master: String,
    },
    /// Each has some of the keys.
    Cluster,
}

/// Whose certificates are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that the platform trusts.
    Platform,
    /// Those of these authorities alone.
    Authorities(Vec<CertificateDer<'static>>),
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        fn exposed(secret: &Option<Secret>) -> Option<&str> {
            secret.as_ref().map(Secret::expose)
        }
        let plain = |one: &Self| {
            let Self { topology, addresses, tls, username, database, timeout, prefix, .. } = one;
            let place = (topology.clone(), addresses.clone(), tls.clone());
            (place, username.clone(), *database, *timeout, prefix.clone())
        };
        plain(self) == plain(other)
            && exposed(&self.password) == exposed(&other.password)
            && exposed(&self.sentinel_password) == exposed(&other.sentinel_password)
    }
}
