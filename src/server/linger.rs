//! Lingering close: a connection that we close is read on for a while, since closing a socket with
//! unread bytes resets it, and a reset can overtake the answer.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::connection_state::{ConnectionState, Phase};

/// For how long without a byte of the peer it is read on.
const QUIET: Duration = Duration::from_secs(2);

/// How much, and for how long, a peer is read on that was answered before it had sent all: it may
/// read only then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger {
    /// So many bytes.
    pub bytes: usize,
    /// For so long.
    pub time: Duration,
}

impl Default for Linger {
    fn default() -> Self {
        Self { bytes: 1024 * 1024, time: Duration::from_secs(10) }
    }
}

/// Ends our side and reads on, so that the peer gets the answer: one that writes first reads it only
/// when all of its body is written.
pub(super) async fn close<T: AsyncRead + AsyncWrite + Unpin>(
    mut socket: T,
    state: &ConnectionState,
    linger: Linger,
) {
    state.enter(Phase::Lingering);
    let Linger { bytes: mut left, time } = linger;
    let end = Instant::now() + time;
    if !matches!(state.unless_evicted(timeout(QUIET, socket.shutdown())).await, Some(Ok(Ok(())))) {
        return;
    }
    let mut scratch = [0; 4096];
    loop {
        let next = timeout_at(end.min(Instant::now() + QUIET), socket.read(&mut scratch));
        match state.unless_evicted(next).await {
            Some(Ok(Ok(count))) if count > 0 && count <= left => left -= count,
            // However it ends, the connection is over.
            _ => return,
        }
    }
}

/// The same with a last message, of which a peer does not get what it does not take in this time.
pub(super) async fn close_with<T: AsyncRead + AsyncWrite + Unpin>(
    mut socket: T,
    (last, time): (Option<impl AsRef<[u8]>>, Duration),
    state: &ConnectionState,
    linger: Linger,
) {
    if let Some(last) = last {
        _ = timeout(time, socket.write_all(last.as_ref())).await;
    }
    close(socket, state, linger).await;
}

/// HTTP/1 has no last message.
pub(super) const NOTHING: Option<[u8; 0]> = None;

/// Closes a connection that is evicted: what the socket takes of the last message at once is sent, and
/// nothing is waited for, since another connection needs the slot.
///
/// A request may be on its way. Its sender knows by this message that no one has read it (RFC 9113
/// §6.8, RFC 8446 §6.1), and may send it again, whatever it is.
pub(super) async fn shut_down_at_once<T: AsyncWrite + Unpin>(
    mut socket: T,
    last: Option<impl AsRef<[u8]>>,
) {
    let mut closing = pin!(async {
        if let Some(last) = last {
            socket.write_all(last.as_ref()).await?;
        }
        socket.shutdown().await
    });
    poll_fn(|context| {
        // However it goes, the connection is over.
        _ = closing.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    #[tokio::test]
    async fn a_peer_that_takes_it_gets_it_and_nobody_waits_for_another() {
        for (room, gets) in [(64, "bye"), (3, "bye"), (2, "by")] {
            let (ours, mut theirs) = duplex(room);
            shut_down_at_once(ours, Some("bye")).await;
            let mut got = String::new();
            theirs.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, gets, "{room}");
        }
    }
}
