//! A Redis or Valkey that several gateways share: a connection per worker, and scripts run on it
//! within a deadline.
//!
//! It knows no limits and no budgets: whoever keeps something there brings a [`Script`]. A store
//! that does not answer costs nothing: after a few failures nobody waits for it, and a task of
//! its own finds out when it is back. Nothing here is waited for without an end.

mod address;
mod breaker;
mod cluster;
mod connect;
mod network;
mod script;
mod server;
mod status;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::ToRedisArgs;
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use crate::token::Secret;
use cluster::Cluster;
use connect::StoreConnector;
use server::{CommandError, ServerLink};

pub use address::Address;
pub use connect::SetupError;
pub use network::{StoreDialler, StoreDialling, StoreStream};
pub use script::Script;
pub use status::{METRICS, StoreStatus};

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
    /// How long anybody waits for an answer.
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

/// What all workers know of the store: where it is, and how it does.
pub struct SharedStore {
    settings: Settings,
    connector: StoreConnector,
    status: StoreStatus,
}

/// The store did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It is known not to answer, so it was not asked.
    #[error("the store is known not to answer")]
    Down,
    /// It has not answered in time.
    #[error("the store has not answered in time")]
    Late,
    /// It answered with an error, or the connection broke.
    #[error("the store has failed")]
    Failed,
}

/// How long a request waits for an answer, and who wants one that comes after that.
#[derive(Clone, Copy)]
struct Wait<'a> {
    deadline: Instant,
    /// Hears of the deadline; `None` where an answer is of no use then.
    late: Option<&'a dyn Fn()>,
}

/// The store, as a worker has it: one pipelined connection to each server.
#[derive(Clone)]
pub struct Store(Rc<StoreInner>);

struct StoreInner {
    shared: Arc<SharedStore>,
    route: StoreRoute,
}

enum StoreRoute {
    /// The one server, or the one that the sentinels name.
    One(ServerLink),
    Many(Cluster),
}

impl SharedStore {
    /// Prepares connections; makes none.
    ///
    /// # Errors
    /// [`SetupError`] when TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let connector = StoreConnector::new(&settings)?;
        Ok(Self { settings, connector, status: StoreStatus::default() })
    }

    /// The settings that it was made of.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Connects once, as a worker would, and runs a script: on the one server, or on each of a
    /// cluster. Says which servers those are. Called within a `LocalSet`.
    ///
    /// # Errors
    /// Why the store is of no use, in words that hold no secret.
    pub async fn probe(&self) -> Result<String, String> {
        self.connector.probe(&self.settings).await.map_err(|why| why.to_string())
    }

    /// How the store does.
    #[must_use]
    pub const fn status(&self) -> &StoreStatus {
        &self.status
    }
}

impl Store {
    /// Opens the connection of a worker, within whose runtime this must be called; it comes up,
    /// and comes back, by itself.
    #[must_use]
    pub fn open(shared: Arc<SharedStore>) -> Self {
        let route = match &shared.settings.topology {
            Topology::Cluster => StoreRoute::Many(Cluster::open(&shared)),
            Topology::Single | Topology::Sentinel { .. } => {
                StoreRoute::One(ServerLink::open(&shared, None))
            }
        };
        Self(Rc::new(StoreInner { shared, route }))
    }

    /// What all workers know of it.
    #[must_use]
    pub fn shared(&self) -> &Arc<SharedStore> {
        &self.0.shared
    }

    /// When a request that begins now waits no longer.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::now() + self.0.shared.settings.timeout
    }

    /// Runs a script, which answers with whole numbers. In a cluster its keys must be in one slot:
    /// give them the same tag in braces.
    ///
    /// # Errors
    /// [`StoreError`], at the deadline at the latest; the script may have run all the same.
    pub async fn run<A: ToRedisArgs>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[A],
        deadline: Instant,
    ) -> Result<Vec<i64>, StoreError> {
        let answered = self.ask(script, keys, arguments, Wait { deadline, late: None }).await;
        self.0.shared.status.calls().count(answered.as_ref().err().copied());
        answered
    }

    /// As [`Self::run`], for whoever must know whether the script has run: an answer that comes
    /// within a second after the deadline is given as well. `late` hears of the deadline.
    ///
    /// # Errors
    /// [`StoreError`]; the script may have run all the same.
    pub async fn run_out<A: ToRedisArgs>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[A],
        deadline: Instant,
        late: &dyn Fn(),
    ) -> Result<Vec<i64>, StoreError> {
        let was_late = Cell::new(false);
        let late = || {
            was_late.set(true);
            late();
        };
        let wait = Wait { deadline, late: Some(&late) };
        let answered = self.ask(script, keys, arguments, wait).await;
        let failed = match was_late.get() {
            true => Some(StoreError::Late),
            false => answered.as_ref().err().copied(),
        };
        self.0.shared.status.calls().count(failed);
        answered
    }

    async fn ask<A: ToRedisArgs>(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[A],
        wait: Wait<'_>,
    ) -> Result<Vec<i64>, StoreError> {
        let first = keys.first().copied().unwrap_or_default();
        let by_digest = script.by_digest(keys, arguments);
        let answered = match self.send(first, &by_digest, wait).await {
            Err(CommandError::NoScript) => {
                self.send(first, &script.whole(keys, arguments), wait).await
            }
            answered => answered,
        };
        let answered = answered.and_then(|value| {
            redis::from_redis_value(value)
                .map_err(|_| CommandError::Failed("an odd answer".to_owned()))
        });
        answered.map_err(|fault| {
            let unavailable = fault.unavailable();
            if let CommandError::Failed(why) = fault {
                tracing::debug!(why, "the store has failed");
            }
            unavailable
        })
    }

    async fn send(
        &self,
        key: &str,
        command: &redis::Cmd,
        wait: Wait<'_>,
    ) -> Result<redis::Value, CommandError> {
        match &self.0.route {
            StoreRoute::One(link) => link.send(command, false, wait).await,
            StoreRoute::Many(cluster) => cluster.send(key, command, wait).await,
        }
    }
}
