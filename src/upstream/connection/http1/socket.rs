//! The socket of a connection: TCP, with or without TLS; or what a simulation has in its place.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use crate::upstream::connection::network::Wire;

/// A socket to the upstream: TCP, TLS, or anything else.
pub(in crate::upstream) type UpstreamSocket =
    Either<TcpStream, Either<Box<TlsStream<TcpStream>>, Box<dyn Wire>>>;

/// Whether nothing has come on it: no byte and no end.
///
/// The runtime was told if something had, so a quiet socket costs no system call.
pub(super) fn is_quiet(socket: &mut UpstreamSocket) -> bool {
    match socket {
        Either::Left(socket) => {
            let read = socket.try_read(&mut [0]);
            matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        }
        // What came may be no data: tickets for the next session, or a change of keys.
        Either::Right(other) => has_nothing(other),
    }
}

/// Whether a write that failed has sent nothing. TLS may have sent a part before.
pub(super) const fn fails_unsent(socket: &UpstreamSocket) -> bool {
    !matches!(socket, Either::Right(Either::Left(_)))
}

/// Whether a read would have to wait.
fn has_nothing(mut socket: impl AsyncRead + Unpin) -> bool {
    let mut byte = [0];
    let mut byte = ReadBuf::new(&mut byte);
    let read = poll_fn(|context| Pin::new(&mut socket).poll_read(context, &mut byte));
    let mut context = Context::from_waker(Waker::noop());
    // A task that has used up its budget would be told that nothing came.
    pin!(unconstrained(read)).poll(&mut context).is_pending()
}
