//! What hyper reads from and writes to: a socket with a watch over it.
//!
//! hyper answers a malformed head by itself, with an empty body, and drops a late one without a
//! word. [`Guarded`] sits below hyper: it notices when a head begins to arrive, and swallows what
//! hyper writes while no request of the service is being answered, so that the envelope can be
//! written instead. On HTTP/2 it looks at the frames that pass, and ends what is too much.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::PREFACE;
use super::frames::{ANSWERED, Breach, Frames};
use super::guard::{Order, Phase, Watch};

/// A socket with a watch over it, and with what was read of it before HTTP began.
pub(super) struct Guarded<T> {
    socket: T,
    prefix: Bytes,
    watch: Rc<Watch>,
    /// Where HTTP/2 is spoken: its frames, and how many answers they were given something for.
    frames: Option<(Frames, u32)>,
}

impl<T> Guarded<T> {
    /// For HTTP/1.
    pub(super) const fn http1(socket: T, prefix: Bytes, watch: Rc<Watch>) -> Self {
        Self { socket, prefix, watch, frames: None }
    }

    /// For HTTP/2, whose peer may send so many frames that ask for nothing.
    pub(super) fn http2(socket: T, prefix: Bytes, watch: Rc<Watch>, most: u32) -> Self {
        let frames = Frames::new(PREFACE.len(), most, watch.now());
        watch.due(frames.is_due());
        Self { socket, prefix, watch, frames: Some((frames, 0)) }
    }

    /// The socket, to write to it past hyper.
    pub(super) fn into_socket(self) -> T {
        self.socket
    }

    /// Why the peer has to go, where it has to.
    pub(super) fn breach(&self) -> Option<Breach> {
        self.frames.as_ref()?.0.breach()
    }

    /// What is to be said, past hyper, to a peer that has to go.
    pub(super) fn farewell(&self) -> Option<impl AsRef<[u8]> + use<T>> {
        self.frames.as_ref()?.0.farewell()
    }

    /// Whether what is written now is hyper's own: no request is being answered.
    fn swallows(&self) -> bool {
        self.frames.is_none() && matches!(self.watch.phase(), Phase::Idle | Phase::Head)
    }

    /// Bytes have arrived; `false` when no more may.
    fn arrived(&mut self, bytes: &[u8]) -> bool {
        let Some((frames, given)) = &mut self.frames else {
            if !bytes.is_empty() {
                self.watch.come();
            }
            return true;
        };
        self.watch.passes();
        let answered = self.watch.answered();
        frames.give(answered.wrapping_sub(*given).saturating_mul(ANSWERED));
        *given = answered;
        let paid = frames.arrived(bytes, self.watch.now());
        self.watch.due(frames.is_due());
        paid
    }

    /// The peer has taken bytes.
    fn sent(&mut self, bytes: &[u8]) {
        match &mut self.frames {
            None => self.watch.taken(),
            Some((frames, _)) => {
                self.watch.passes();
                frames.sent(bytes);
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.prefix.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        } else {
            let count = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..count]);
            self.prefix.advance(count);
        }
        if !self.arrived(&buffer.filled()[before..]) {
            // The task is woken for it, and reads no more.
            self.watch.give(Order::Go);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.swallows() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let count = ready!(Pin::new(&mut self.socket).poll_write(context, bytes))?;
        self.sent(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.swallows() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let count = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, slices))?;
        let mut left = count;
        for slice in slices {
            let taken = left.min(slice.len());
            self.sent(&slice[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(context))?;
        if self.watch.phase() == Phase::Flushing {
            self.watch.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    /// Left to [`super::connection`], which may have something to say before.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.frames {
            None => Poll::Ready(Ok(())),
            Some(_) => Pin::new(&mut self.socket).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::server::guard::Watches;

    #[tokio::test]
    async fn the_rest_of_a_body_that_nobody_wanted_begins_no_head() {
        let watch = Watches::new().watch();
        let (mut peer, socket) = duplex(64);
        let mut guarded = Guarded::http1(socket, Bytes::new(), Rc::clone(&watch));
        drop(watch.answering(true));
        guarded.flush().await.unwrap();
        assert_eq!(watch.phase(), Phase::Idle);
        for (bytes, phase) in [("{\"name\":1}", Phase::Idle), ("GET", Phase::Head)] {
            peer.write_all(bytes.as_bytes()).await.unwrap();
            let count = guarded.read(&mut [0; 64]).await.unwrap();
            assert_eq!((count, watch.phase()), (bytes.len(), phase), "{bytes}");
        }
    }
}
