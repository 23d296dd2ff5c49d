//! A socket whose small writes are kept until its task has nothing more to write, and then go out
//! together.
//!
//! h2 flushes each DATA frame of 256 bytes and more by itself. Under TLS that would make each answer
//! a record and a system call of its own, however many are ready in one poll of the connection.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that is kept: as much as a record of TLS holds (RFC 8446 §5.1).
const MOST: usize = 16 * 1024;

/// So many slices go to the socket at once.
const SLICES: usize = 8;

thread_local! {
    /// What the writes of one poll are kept in, and given back with its end: a connection holds none
    /// of it between its polls, unless its peer takes nothing.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A socket, shared by whoever writes to it and by whoever polls that one, by [`Corked::around`].
pub struct Corked<T>(Rc<RefCell<KeptWrites<T>>>);

struct KeptWrites<T> {
    socket: T,
    kept: Vec<u8>,
    /// How much of what is kept has been sent.
    sent: usize,
    /// Whether the writer has asked for a flush.
    flushes: bool,
    /// Why what was kept could not be sent: the writer's to learn.
    error: Option<io::Error>,
}

impl<T> Clone for Corked<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Corked<T> {
    /// With nothing kept.
    pub fn new(socket: T) -> Self {
        let state = KeptWrites { socket, kept: Vec::new(), sent: 0, flushes: false, error: None };
        Self(Rc::new(RefCell::new(state)))
    }

    /// The socket, where no one else has it any more. What is kept is lost.
    #[must_use]
    pub fn into_socket(self) -> Option<T> {
        Rc::into_inner(self.0).map(|state| state.into_inner().socket)
    }
}

impl<T: AsyncWrite + Unpin> Corked<T> {
    /// Polls whoever writes to it, then sends what that has written, as far as the socket takes it. The
    /// task is woken when it takes more, and for the writer to learn of an error.
    pub fn around<R>(
        &self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> R,
    ) -> R {
        let polled = poll(context);
        let mut state = self.0.borrow_mut();
        if let Poll::Ready(Err(error)) = state.poll_release(context) {
            state.error = Some(error);
            context.waker().wake_by_ref();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> KeptWrites<T> {
    fn poll_release(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.kept.len() {
            ready!(self.poll_send(context, &[]))?;
        }
        if self.kept.capacity() > 0 {
            self.sent = 0;
            self.kept.clear();
            SPARE.set(mem::take(&mut self.kept));
        }
        if self.flushes {
            ready!(Pin::new(&mut self.socket).poll_flush(context))?;
            self.flushes = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is kept, and these behind it. Gives how much of these the socket has taken.
    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let kept = &self.kept[self.sent..];
        let mut all = [IoSlice::new(kept); SLICES];
        let count = slices.len().min(SLICES - 1);
        all[1..=count].copy_from_slice(&slices[..count]);
        let socket = Pin::new(&mut self.socket);
        let taken = ready!(socket.poll_write_vectored(context, &all[..=count]))?;
        if taken == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_kept = taken.min(kept.len());
        self.sent += of_kept;
        Poll::Ready(Ok(taken - of_kept))
    }

    fn poll_keep(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.fails()?;
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.kept.len() + length > MOST {
            loop {
                match ready!(self.poll_send(context, slices))? {
                    // The socket has taken what was kept alone.
                    0 => {}
                    taken => return Poll::Ready(Ok(taken)),
                }
            }
        }
        if self.kept.capacity() == 0 {
            self.kept = SPARE.take();
        }
        slices.iter().for_each(|slice| self.kept.extend_from_slice(slice));
        Poll::Ready(Ok(length))
    }

    fn fails(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Corked<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().socket).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Corked<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_keep(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_keep(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// With the end of the poll.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        state.flushes = true;
        Poll::Ready(state.fails())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        state.fails()?;
        ready!(state.poll_release(context))?;
        Pin::new(&mut state.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[tokio::test]
    async fn what_is_written_in_one_poll_goes_out_together_and_in_order() {
        let (mut peer, socket) = duplex(64 * 1024);
        let mut corked = Corked::new(socket);
        let mut read = vec![0; 64 * 1024];
        for piece in ["one ", "two ", "three"] {
            corked.write_all(piece.as_bytes()).await.unwrap();
            corked.flush().await.unwrap();
        }
        let mut buffer = ReadBuf::new(&mut read);
        assert!(Pin::new(&mut peer).poll_read(&mut context(), &mut buffer).is_pending());
        corked.around(&mut context(), |_| ());
        let count = peer.read(&mut read).await.unwrap();
        assert_eq!(&read[..count], b"one two three");
        // What is too long to be kept goes behind what is, at once.
        corked.write_all(b"short").await.unwrap();
        corked.write_all(&[b'x'; MOST]).await.unwrap();
        let count = peer.read(&mut read).await.unwrap();
        assert_eq!((count, &read[..6]), (5 + MOST, &b"shortx"[..]));
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_holds_up_the_writer_and_loses_nothing() {
        let (mut peer, socket) = duplex(100);
        let mut corked = Corked::new(socket);
        let bytes: Vec<u8> = (0..40_000_u32).map(|number| number as u8).collect();
        let (mut written, mut read) = (0, Vec::new());
        while read.len() < bytes.len() {
            while written < bytes.len() {
                let end = bytes.len().min(written + 300);
                match Pin::new(&mut corked).poll_write(&mut context(), &bytes[written..end]) {
                    Poll::Ready(count) => written += count.unwrap(),
                    Poll::Pending => break,
                }
            }
            corked.around(&mut context(), |_| ());
            assert!(written <= read.len() + 100 + MOST);
            let mut piece = [0; 64];
            let count = peer.read(&mut piece).await.unwrap();
            read.extend_from_slice(&piece[..count]);
        }
        assert_eq!(read, bytes);
    }

    #[tokio::test]
    async fn the_writer_learns_that_what_was_kept_could_not_be_sent() {
        let (peer, socket) = duplex(100);
        let mut corked = Corked::new(socket);
        corked.write_all(b"lost").await.unwrap();
        drop(peer);
        corked.around(&mut context(), |_| ());
        assert_eq!(corked.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        corked.flush().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_kept_is_sent_before_the_end() {
        let (mut peer, socket) = duplex(100);
        let mut corked = Corked::new(socket);
        corked.write_all(b"last words").await.unwrap();
        corked.shutdown().await.unwrap();
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last words");
    }
}
