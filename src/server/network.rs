//! Where connections come from: sockets of the system, or what a simulation has in their place.
//!
//! Everything above is generic over it and compiled once for each network, so that a real
//! connection pays nothing for there being others.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, ready};

use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::listener::{self, BoundSocket, WorkerSocket};

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
pub(super) enum SystemListener {
    Tcp {
        listener: TcpListener,
        /// Whether other processes may have sockets of their own on the same port.
        shared: bool,
    },
    Unix(UnixListener),
}

/// A socket of the system: of TCP, or a Unix socket.
pub(super) type SystemSocket = Either<TcpStream, UnixStream>;

/// Whoever comes by a Unix socket is on this machine: all of them are one address, that of loopback.
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl SystemListener {
    /// The socket as the runtime of this thread uses it.
    pub(super) fn new(WorkerSocket { socket, shared }: WorkerSocket) -> io::Result<Self> {
        Ok(match socket {
            BoundSocket::Tcp(socket) => {
                Self::Tcp { listener: TcpListener::from_std(socket)?, shared }
            }
            BoundSocket::Unix(socket) => Self::Unix(UnixListener::from_std(socket)?),
        })
    }
}

impl NetworkListener for SystemListener {
    type Socket = SystemSocket;

    async fn accept(&self) -> io::Result<(SystemSocket, SocketAddr)> {
        match self {
            Self::Tcp { listener, .. } => listener
                .accept()
                .await
                .map(|(socket, address)| (SystemSocket::Left(socket), address)),
            Self::Unix(listener) => {
                listener.accept().await.map(|(socket, _)| (SystemSocket::Right(socket), LOCAL))
            }
        }
    }

    fn waiting(&self) -> io::Result<Option<(SystemSocket, SocketAddr)>> {
        match self {
            Self::Tcp { listener, .. } => {
                let next = listener::next(listener)?;
                let of_runtime = |(socket, address)| {
                    Ok((SystemSocket::Left(TcpStream::from_std(socket)?), address))
                };
                next.map(of_runtime).transpose()
            }
            Self::Unix(listener) => {
                let next = listener::next_local(listener)?;
                next.map(|socket| Ok((SystemSocket::Right(UnixStream::from_std(socket)?), LOCAL)))
                    .transpose()
            }
        }
    }

    fn turn_away(&self) -> io::Result<bool> {
        match self {
            Self::Tcp { listener, shared: true } => listener::turn_away(listener),
            // Another process has a socket of its own at the path by then.
            Self::Tcp { .. } | Self::Unix(_) => Ok(false),
        }
    }
}

impl NetworkSocket for SystemSocket {
    fn without_delay(&self) -> io::Result<()> {
        match self {
            Self::Left(socket) => socket.set_nodelay(true),
            Self::Right(_) => Ok(()),
        }
    }

    fn poll_peek(
        &self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let socket = match self {
            Self::Left(socket) => return socket.poll_peek(context, buffer),
            Self::Right(socket) => socket,
        };
        loop {
            ready!(socket.poll_read_ready(context))?;
            let room = buffer.initialize_unfilled();
            let peek = || Ok(rustix::net::recv(socket, room, RecvFlags::PEEK)?.0);
            match socket.try_io(Interest::READABLE, peek) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(count));
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Poll::Ready(Err(why)),
            }
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Left(socket) => socket.try_write(bytes),
            Self::Right(socket) => socket.try_write(bytes),
        }
    }
}
