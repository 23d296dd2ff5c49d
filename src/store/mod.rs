//! A Redis or Valkey that several gateways share: a connection per worker, and scripts run on it
//! within a deadline.
//!
//! It knows no limits and no budgets: whoever keeps something there brings a [`Script`]. A store
//! that does not answer costs nothing: after a few failures no one waits for it, and a task of
//! its own finds out when it is back. Nothing here is waited for without an end.

mod address;
mod breaker;
mod cluster;
mod connect;
mod error;
mod network;
mod script;
mod server;
mod settings;
mod shared;
mod slots;
mod status;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use redis::ToRedisArgs;
use tokio::time::Instant;

use cluster::Cluster;
use server::{CommandError, ServerLink};
use shared::Wait;

pub use address::Address;
pub use connect::SetupError;
pub use error::StoreError;
pub use network::{StoreDialler, StoreDialling, StoreStream};
pub use script::Script;
pub use settings::{Settings, Topology, Trust};
pub use shared::SharedStore;
pub use status::{METRICS, StoreStatus};

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

impl Store {
    /// Opens the connection of a worker, within whose runtime this must be called; it comes up,
    /// and comes back, by itself.
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
    pub fn shared(&self) -> &Arc<SharedStore> {
        &self.0.shared
    }

    /// When a request that begins now waits no longer.
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
