//! From an address to a connection that answers: TCP, TLS, who we are, and for sentinels the
//! question where the master is.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, cmd};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout};

use super::settings::{Settings, Topology, Trust};
use super::slots::ranges;
use super::{Address, StoreDialler};
use crate::net::tls::{self, TlsError};
use crate::net::{DialError, Dialler, before};

/// How long it may take to reach a server, TLS and its password included. No one waits for it: a
/// request has a deadline of its own.
const PATIENCE: Duration = Duration::from_secs(1);

/// As many requests wait for the socket at most; more wait for their turn.
const QUEUE: usize = 1024;

/// Why TLS to the store cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The certificates of `store.ca`, or the platform's, cannot be used.
    #[error("the certificates that the store is to be trusted by cannot be used: {0}")]
    Roots(#[from] rustls::Error),
    /// A host is no name that a certificate can have.
    #[error("a host of the store is no name that a certificate can have")]
    Name,
}

/// Why there is no connection. Holds no password: the server's own words never repeat it.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreConnectError {
    #[error("{0}")]
    Dial(DialError),
    #[error("no TLS connection could be made: {0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("it took longer than {PATIENCE:?} to reach it")]
    Patience,
    #[error("it was reached, and did not answer in time")]
    Probe,
    #[error("no sentinel says where the master is: {0}")]
    NoMaster(String),
    #[error(
        "the sentinel {0} knows no master of the name that `store.master` says: write the one of its \
         `sentinel monitor` line there (SENTINEL MASTERS lists them)"
    )]
    UnknownMaster(Address),
    #[error("its name is none that a certificate can have")]
    Name,
}

impl From<DialError> for StoreConnectError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Timeout => Self::Patience,
            error => Self::Dial(error),
        }
    }
}

/// A connection that has answered, and the task that moves its bytes.
pub(super) struct StoreConnection {
    pub(super) commands: MultiplexedConnection,
    pub(super) driver: JoinHandle<()>,
}

/// The task of one that is not used any more: without its end, what hangs would hang on.
impl Drop for StoreConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Makes connections.
pub(super) struct StoreConnector {
    dialler: Dialler,
    /// In place of the system's.
    other: Option<Arc<dyn StoreDialler>>,
    tls: Option<tls::Connector>,
    /// Who we are to the servers with the data, and to the sentinels.
    us: RedisConnectionInfo,
    us_to_sentinels: RedisConnectionInfo,
}

impl StoreConnector {
    pub(super) fn new(settings: &Settings) -> Result<Self, SetupError> {
        let tls = match &settings.tls {
            None => None,
            Some(trust) => {
                let named = |address: &Address| tls::server_name(&address.host).is_some();
                if !settings.addresses.iter().all(named) {
                    return Err(SetupError::Name);
                }
                let authorities = match trust {
                    Trust::Platform => None,
                    Trust::Authorities(authorities) => Some(authorities.as_slice()),
                };
                Some(tls::Connector::new(authorities, "store.ca", &[])?)
            }
        };
        let quiet = || RedisConnectionInfo::default().set_skip_set_lib_name();
        let mut us = quiet().set_db(i64::from(settings.database));
        if let Some(username) = &settings.username {
            us = us.set_username(username);
        }
        if let Some(password) = &settings.password {
            us = us.set_password(password.expose());
        }
        let mut us_to_sentinels = quiet();
        if let Some(password) = &settings.sentinel_password {
            us_to_sentinels = us_to_sentinels.set_password(password.expose());
        }
        let (dialler, other) = (Dialler::system(), settings.dialler.clone());
        Ok(Self { dialler, other, tls, us, us_to_sentinels })
    }

    /// Connects to where the data is: to a server of a cluster, or to the one that there is.
    pub(super) async fn connect(
        &self,
        settings: &Settings,
        node: Option<&Address>,
    ) -> Result<StoreConnection, StoreConnectError> {
        if let Some(node) = node {
            let connection = self.reach(node, &self.us).await?;
            return probed(connection, &cmd("PING"), settings.timeout).await;
        }
        let connection = match &settings.topology {
            Topology::Sentinel { master } => {
                let master = self.master(settings, master).await?;
                self.reach(&master, &self.us).await?
            }
            Topology::Single | Topology::Cluster => self.any(settings).await?,
        };
        // A write: one that may only be read, or is full, or is not ours to write, is no store.
        let mut probe = cmd("SET");
        probe.arg(format!("{}:probe", settings.prefix)).arg(1).arg("PX").arg(1000);
        probed(connection, &probe, settings.timeout).await
    }

    /// Connects to every server with data, and runs a script there, which an access list may
    /// forbid; says which they are.
    pub(super) async fn probe(&self, settings: &Settings) -> Result<String, StoreConnectError> {
        let mut script = cmd("EVAL");
        script.arg("return 1").arg(0);
        if settings.topology != Topology::Cluster {
            let connection = self.connect(settings, None).await?;
            ask(&connection, &script, PATIENCE).await?;
            return Ok(match &settings.topology {
                Topology::Sentinel { master } => {
                    format!(
                        "the sentinels know the master, {}",
                        self.master(settings, master).await?
                    )
                }
                _ => "it takes writes and scripts".to_owned(),
            });
        }
        let mut nodes: Vec<Address> =
            self.slots(settings, &[]).await?.into_iter().map(|(_, node)| node).collect();
        nodes.sort();
        nodes.dedup();
        for node in &nodes {
            let connection = self.connect(settings, Some(node)).await?;
            ask(&connection, &script, PATIENCE).await?;
        }
        let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        Ok(format!("the servers of the cluster are {}", names.join(", ")))
    }

    /// Connects to the first of the configured servers that can be reached.
    async fn any(&self, settings: &Settings) -> Result<StoreConnection, StoreConnectError> {
        let mut last = StoreConnectError::Patience;
        for address in &settings.addresses {
            match self.reach(address, &self.us).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asks the sentinels, one after the other.
    async fn master(&self, settings: &Settings, name: &str) -> Result<Address, StoreConnectError> {
        let mut last = StoreConnectError::NoMaster("none is configured".to_owned());
        for address in &settings.addresses {
            last = match self.told_by(address, name).await {
                Ok(master) => return Ok(master),
                // Whoever knows no such master says more than one that cannot be reached.
                Err(_) if matches!(last, StoreConnectError::UnknownMaster(_)) => last,
                Err(error @ StoreConnectError::UnknownMaster(_)) => error,
                Err(error) => StoreConnectError::NoMaster(format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    async fn told_by(&self, sentinel: &Address, name: &str) -> Result<Address, StoreConnectError> {
        let connection = self.reach(sentinel, &self.us_to_sentinels).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let answered = ask(&connection, &question, PATIENCE).await?;
        if answered == redis::Value::Nil {
            return Err(StoreConnectError::UnknownMaster(sentinel.clone()));
        }
        let (host, port): (String, u16) =
            redis::from_redis_value(answered).map_err(|_| StoreConnectError::Probe)?;
        Ok(Address { host, port })
    }

    /// The servers of a cluster, as one of those that are configured or known says: the last slot
    /// of each range, and who has it.
    pub(super) async fn slots(
        &self,
        settings: &Settings,
        known: &[Address],
    ) -> Result<Vec<(u16, Address)>, StoreConnectError> {
        let mut last = StoreConnectError::Patience;
        for address in known.iter().chain(&settings.addresses) {
            let told = async {
                let connection = self.reach(address, &self.us).await?;
                let mut question = cmd("CLUSTER");
                question.arg("SLOTS");
                ask(&connection, &question, PATIENCE).await
            };
            match told.await {
                Ok(value) => match ranges(value, address) {
                    Some(ranges) => return Ok(ranges),
                    None => last = StoreConnectError::Probe,
                },
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn reach(
        &self,
        address: &Address,
        us: &RedisConnectionInfo,
    ) -> Result<StoreConnection, StoreConnectError> {
        let deadline = Instant::now() + PATIENCE;
        let reached = async {
            if let Some(other) = &self.other {
                return handshake(other.dial(address).await.map_err(DialError::from)?, us).await;
            }
            if let Some(path) = address.socket() {
                return handshake(self.dialler.connect_unix(path, deadline).await?, us).await;
            }
            let tcp = self.dialler.connect(&address.host, address.port, deadline).await?;
            let Some(tls) = &self.tls else { return handshake(tcp, us).await };
            let name = tls::server_name(&address.host).ok_or(StoreConnectError::Name)?;
            handshake(tls.connect(name, tcp).await?, us).await
        };
        let reached = before(deadline, reached).await.unwrap_or(Err(StoreConnectError::Patience));
        if reached.is_err() {
            self.dialler.failed(&address.host, address.port);
        }
        reached
    }
}

/// Says who we are.
async fn handshake<T>(
    socket: T,
    us: &RedisConnectionInfo,
) -> Result<StoreConnection, StoreConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config =
        AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(QUEUE);
    let (commands, driver) = MultiplexedConnection::new_with_config(us, socket, config).await?;
    Ok(StoreConnection { commands, driver: spawn_local(driver) })
}

/// A connection whose server answers as fast as it will have to.
async fn probed(
    connection: StoreConnection,
    probe: &Cmd,
    patience: Duration,
) -> Result<StoreConnection, StoreConnectError> {
    ask(&connection, probe, patience).await?;
    Ok(connection)
}

async fn ask(
    connection: &StoreConnection,
    question: &Cmd,
    patience: Duration,
) -> Result<redis::Value, StoreConnectError> {
    let mut commands = connection.commands.clone();
    let answered = timeout(patience, commands.send_packed_command(question)).await;
    let value = answered.map_err(|_| StoreConnectError::Probe)??;
    Ok(value.extract_error()?)
}
