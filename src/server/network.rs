//! Where connections come from: sockets of the system, or what a simulation has in their place.
//!
//! Everything above is generic over it and compiled once for each network, so that a real
//! connection pays nothing for there being others.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::listener;

/// Something that others connect to.
pub trait NetworkListener: 'static {
    /// A connection of theirs.
    type Socket: NetworkSocket;

    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>>;

    /// The next connection that is there already; `None` when there is none.
    ///
    /// # Errors
    /// As with [`NetworkListener::accept`].
    fn waiting(&self) -> io::Result<Option<(Self::Socket, SocketAddr)>>;

    /// Lets no one begin a connection any more; gives whether some may be on their way still.
    ///
    /// # Errors
    /// When that cannot be done.
    fn turn_away(&self) -> io::Result<bool>;
}

/// A connection, before anything is known of it.
pub trait NetworkSocket: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Sends what is written at once, however little it is.
    ///
    /// # Errors
    /// When the connection is gone already.
    fn without_delay(&self) -> io::Result<()>;

    /// Reads, and leaves what was read where it is.
    fn poll_peek(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>>;

    /// Writes as much as can be without waiting.
    ///
    /// # Errors
    /// When nothing can.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// The first byte, which is left where it is; `None` when none will come.
pub(super) async fn first_byte(socket: &impl NetworkSocket) -> Option<u8> {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let peeked = poll_fn(|context| socket.poll_peek(context, &mut buffer)).await;
    matches!(peeked, Ok(1)).then(|| byte[0])
}

/// A listening socket of the system.
pub(super) struct TcpListening {
    pub(super) listener: TcpListener,
    /// Whether other processes may have sockets of their own on the same port.
    pub(super) shared: bool,
}

impl NetworkListener for TcpListening {
    type Socket = TcpStream;

    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> {
        self.listener.accept()
    }

    fn waiting(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let next = listener::next(&self.listener)?;
        next.map(|(socket, address)| Ok((TcpStream::from_std(socket)?, address))).transpose()
    }

    fn turn_away(&self) -> io::Result<bool> {
        if self.shared { listener::turn_away(&self.listener) } else { Ok(false) }
    }
}

impl NetworkSocket for TcpStream {
    fn without_delay(&self) -> io::Result<()> {
        self.set_nodelay(true)
    }

    fn poll_peek(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        Self::poll_peek(self, context, buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }
}
