//! The last words on a connection that is ended for another one: as far as the socket takes them at
//! once, since nobody waits for a peer whose place is needed.
//!
//! A request may be on its way to it. Whoever sent it knows by these words that nobody has read it
//! (RFC 9113 §6.8, RFC 8446 §6.1), and may send it again, whatever it is.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

/// HTTP/1 has no word for it.
pub(super) const NOTHING: Option<[u8; 0]> = None;

/// Says these words, and that nothing more will come.
pub(super) async fn say<T: AsyncWrite + Unpin>(mut socket: T, words: Option<impl AsRef<[u8]>>) {
    let mut saying = pin!(async {
        if let Some(words) = words {
            socket.write_all(words.as_ref()).await?;
        }
        socket.shutdown().await
    });
    poll_fn(|context| {
        // However it goes, the connection is over.
        _ = saying.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, duplex};

    #[tokio::test]
    async fn a_peer_that_takes_it_gets_it_and_nobody_waits_for_another() {
        for (room, gets) in [(64, "bye"), (3, "bye"), (2, "by")] {
            let (ours, mut theirs) = duplex(room);
            say(ours, Some("bye")).await;
            let mut got = String::new();
            theirs.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, gets, "{room}");
        }
    }
}
