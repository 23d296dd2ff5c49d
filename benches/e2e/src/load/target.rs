//! Where the load goes, and a connection to there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::wire::{self, Inbox, Stream};

/// A proxy's address and how it is spoken to.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

/// A connection that is open.
pub struct Connection {
    stream: Box<dyn Stream>,
    inbox: Inbox,
    /// Whether the handshake resumed a session.
    pub resumed: bool,
}

impl Target {
    /// With `tls`, what is trusted and which protocols are offered.
    pub fn new(address: SocketAddr, tls: Option<ClientConfig>) -> Self {
        Self { address, tls: tls.map(Arc::new) }
    }

    /// The same, with sessions of its own to resume.
    pub fn resuming(&self) -> Self {
        self.with(|| rustls::client::Resumption::in_memory_sessions(256))
    }

    /// The same, which remembers no session.
    pub fn forgetful(&self) -> Self {
        self.with(rustls::client::Resumption::disabled)
    }

    fn with(&self, resumption: impl Fn() -> rustls::client::Resumption) -> Self {
        let tls = self.tls.as_deref().map(|config| {
            let mut config = config.clone();
            config.resumption = resumption();
            Arc::new(config)
        });
        Self { address: self.address, tls }
    }

    /// Opens a connection that reads up to `inbox` bytes at once.
    pub async fn connect(&self, inbox: usize) -> io::Result<Connection> {
        let (stream, resumed) = self.open().await?;
        Ok(Connection { stream, inbox: Inbox::new(inbox), resumed })
    }

    /// Opens a connection and leaves what is said on it to the caller.
    pub async fn open(&self) -> io::Result<(Box<dyn Stream>, bool)> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok((Box::new(socket), false)) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok((Box::new(stream), resumed))
    }
}

impl Connection {
    /// Sends a request and reads its answer to the end; its status.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let Some(message) = self.inbox.read(&mut self.stream).await? else {
            return Err(io::Error::other("the connection was closed instead of an answer"));
        };
        if message.close {
            return Err(io::Error::other("the proxy closes a connection that is to stay"));
        }
        Ok(wire::status(self.inbox.head()))
    }
}
