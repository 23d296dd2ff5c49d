//! A connection to one server that comes back by itself.
//!
//! A request takes what is there and waits for nothing but its own answer; a task keeps the
//! connection: it makes it, notices its end, and retries in growing pauses.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd, pipe};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local, yield_now};
use tokio::time::{Instant, sleep, timeout_at};

use super::Address;
use super::breaker::ServerBreaker;
use super::error::StoreError;
use super::shared::{SharedStore, Wait};

/// How long an answer that is too late is still taken by whoever has a use for it.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// A connection to one server.
pub(super) struct ServerLink {
    line: Rc<Server>,
    keeper: AbortHandle,
}

struct Server {
    shared: Arc<SharedStore>,
    /// The server of a cluster; `None` for the one that there is.
    node: Option<Address>,
    state: RefCell<ServerState>,
    breaker: ServerBreaker,
    /// The state has changed.
    changed: Notify,
    /// The server was given up.
    given_up: Notify,
}

enum ServerState {
    /// It is being made, and there is no reason to think that it will not be.
    Opening,
    Up(MultiplexedConnection),
    Down,
}

/// Why a command was not done.
pub(super) enum CommandError {
    Down,
    Late,
    /// The server does not know a script of that digest.
    NoScript,
    /// Another server of the cluster has the slot, forever or while it moves.
    Elsewhere {
        slot: u16,
        address: String,
        asking: bool,
    },
    Failed(String),
}

impl CommandError {
    pub(super) const fn unavailable(&self) -> StoreError {
        match self {
            Self::Down => StoreError::Down,
            Self::Late => StoreError::Late,
            Self::NoScript | Self::Elsewhere { .. } | Self::Failed(_) => StoreError::Failed,
        }
    }
}

impl ServerLink {
    pub(super) fn open(shared: &Arc<SharedStore>, node: Option<Address>) -> Self {
        let line = Rc::new(Server {
            shared: Arc::clone(shared),
            node,
            state: RefCell::new(ServerState::Opening),
            breaker: ServerBreaker::new(),
            changed: Notify::new(),
            given_up: Notify::new(),
        });
        let keeper = spawn_local(Rc::clone(&line).keep()).abort_handle();
        Self { line, keeper }
    }

    /// Sends a command; `asking` is for a slot that is moving to this server.
    pub(super) async fn send(
        &self,
        command: &Cmd,
        asking: bool,
        Wait { deadline, late }: Wait<'_>,
    ) -> Result<Value, CommandError> {
        let line = &*self.line;
        let mut connection = line.connection(deadline).await?;
        let answered = async {
            if !asking {
                return connection.send_packed_command(command).await?.extract_error();
            }
            let mut both = pipe();
            both.add_command(cmd("ASKING")).add_command(command.clone());
            let mut answers = connection.send_packed_commands(&both, 1, 1).await?;
            answers.pop().unwrap_or(Value::Nil).extract_error()
        };
        let mut answered = pin!(answered);
        let mut timely = timeout_at(deadline, &mut answered).await;
        if timely.is_err() {
            // A worker that was kept from running sees the deadline before the answer that has
            // come meanwhile: whoever reads it has its turn first.
            yield_now().await;
            timely = timeout_at(deadline, &mut answered).await;
        }
        match timely {
            Ok(Ok(value)) => {
                line.breaker.answered();
                Ok(value)
            }
            Ok(Err(error)) => Err(line.failed(&error)),
            Err(_) => {
                if line.breaker.late() {
                    line.give_up("its answers are too late");
                }
                let Some(late) = late else { return Err(CommandError::Late) };
                late();
                match timeout_at(deadline + AFTERWARDS, answered).await {
                    Ok(answered) => answered.map_err(|_| CommandError::Late),
                    Err(_) => Err(CommandError::Late),
                }
            }
        }
    }
}

impl Drop for ServerLink {
    fn drop(&mut self) {
        self.keeper.abort();
        if matches!(*self.line.state.borrow(), ServerState::Down) {
            self.line.shared.status.gone();
        }
    }
}

impl Server {
    /// The connection, when there is one before the deadline.
    async fn connection(&self, deadline: Instant) -> Result<MultiplexedConnection, CommandError> {
        loop {
            // Before the look, so that no change is missed.
            let changed = self.changed.notified();
            match &*self.state.borrow() {
                ServerState::Up(connection) => return Ok(connection.clone()),
                ServerState::Down => return Err(CommandError::Down),
                ServerState::Opening => {}
            }
            timeout_at(deadline, changed).await.map_err(|_| CommandError::Late)?;
        }
    }

    /// What an error is to the one who asked, and to all that come after.
    fn failed(&self, error: &RedisError) -> CommandError {
        let moved = |asking| {
            let (address, slot) = error.redirect_node()?;
            Some(CommandError::Elsewhere { slot, address: address.to_owned(), asking })
        };
        let fault = match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Some(CommandError::NoScript),
            ErrorKind::Server(ServerErrorKind::Moved) => moved(false),
            ErrorKind::Server(ServerErrorKind::Ask) => moved(true),
            // Of this moment and these keys alone.
            ErrorKind::Server(ServerErrorKind::TryAgain) => {
                return CommandError::Failed(error.to_string());
            }
            _ => None,
        };
        if let Some(fault) = fault {
            self.breaker.answered();
            return fault;
        }
        let why = error.to_string();
        // A connection that is gone is made anew at once: its keeper sees the end of it.
        if !error.is_unrecoverable_error() {
            self.give_up(&why);
        }
        CommandError::Failed(why)
    }

    /// From now on no one waits for it.
    fn give_up(&self, why: &str) {
        if matches!(*self.state.borrow(), ServerState::Up(_)) {
            self.is_down(why);
            self.given_up.notify_one();
        }
    }

    fn is_down(&self, why: &str) {
        if !matches!(self.state.replace(ServerState::Down), ServerState::Down) {
            let why = match &self.node {
                Some(node) => format!("{node}: {why}"),
                None => why.to_owned(),
            };
            self.shared.status.down(&why);
        }
        self.changed.notify_waiters();
    }

    fn is_up(&self, connection: MultiplexedConnection) {
        if matches!(self.state.replace(ServerState::Up(connection)), ServerState::Down) {
            self.shared.status.up();
        }
        self.changed.notify_waiters();
    }

    async fn keep(self: Rc<Self>) {
        let SharedStore { settings, connector, .. } = &*self.shared;
        loop {
            match connector.connect(settings, self.node.as_ref()).await {
                Ok(mut connection) => {
                    let opened = Instant::now();
                    self.breaker.connected();
                    self.is_up(connection.commands.clone());
                    tokio::select! {
                        // Of both at once, the end of the connection is what has come about.
                        biased;
                        _ = &mut connection.driver => {
                            // Servers close what was idle, and restart: until the next attempt
                            // fails, it is not down.
                            self.state.replace(ServerState::Opening);
                            if self.breaker.was_good(opened.elapsed()) {
                                continue;
                            }
                        }
                        () = self.given_up.notified() => {}
                    }
                }
                Err(error) => self.is_down(&error.to_string()),
            }
            sleep(self.breaker.pause()).await;
        }
    }
}
