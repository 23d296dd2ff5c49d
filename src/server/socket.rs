//! What hyper reads from and writes to: a socket, and the state of its connection.
//!
//! hyper answers a malformed head by itself, with an empty body, drops a late one without a word,
//! and takes the end of what a peer sends for the end of the peer. [`Guarded`] sits below hyper: it
//! follows the messages of HTTP/1 and passes on only what is in order, keeps the end of a whole
//! request from hyper until that is answered, and swallows what hyper writes while no request of
//! the service is being answered, so that the envelope can be written instead. On HTTP/2 it looks
//! at the frames that pass, and ends what is too much.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_state::{ConnectionCommand, ConnectionState, Phase};
use super::frame_flood::{ANSWERED, FrameAccounting, PREFACE, SHUTDOWN_NOTICE, Violation};
use super::framing::{Framing, FramingError};

/// A socket, the state of its connection, and what was read of it before HTTP began.
pub(super) struct Guarded<T> {
    socket: T,
    prefix: Bytes,
    state: Rc<ConnectionState>,
    inward: Inward,
    stop: Option<Stop>,
    /// hyper learns of the stop when everything is answered.
    withheld: bool,
    /// What is left to be said past hyper to a peer of HTTP/2 before the connection ends.
    notice: Option<Bytes>,
}

/// What the peer sends.
enum Inward {
    Http1(Framing),
    /// The accounting of frames, and for how many answers something was given back.
    Http2(Box<(FrameAccounting, u32)>),
}

/// Why nothing more is passed on of what the peer sends.
#[derive(Clone, Copy)]
enum Stop {
    /// It has ended.
    End,
    /// It is no HTTP/1.
    Malformed(FramingError),
    /// Whoever reads the body of the request knows.
    Known,
}

impl<T> Guarded<T> {
    /// For HTTP/1.
    pub(super) fn http1(socket: T, prefix: Bytes, state: Rc<ConnectionState>) -> Self {
        let inward = Inward::Http1(Framing::default());
        Self { socket, prefix, state, inward, stop: None, withheld: false, notice: None }
    }

    /// For HTTP/2, whose peer may send so many frames that ask for nothing.
    pub(super) fn http2(socket: T, prefix: Bytes, state: Rc<ConnectionState>, most: u32) -> Self {
        let frames = FrameAccounting::new(PREFACE.len(), most, state.now());
        state.due(frames.is_due());
        let inward = Inward::Http2(Box::new((frames, 0)));
        let notice = Some(Bytes::from_static(&SHUTDOWN_NOTICE));
        Self { socket, prefix, state, inward, stop: None, withheld: false, notice }
    }

    /// The socket, to write to it past hyper.
    pub(super) fn into_socket(self) -> T {
        self.socket
    }

    /// Why the peer has to go, where it has to.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.frames()?.violation()
    }

    /// What is to be said, past hyper, to a peer that has to go.
    pub(super) fn goaway_frame(&self) -> Option<impl AsRef<[u8]> + use<T>> {
        self.frames()?.goaway_frame()
    }

    fn frames(&self) -> Option<&FrameAccounting> {
        match &self.inward {
            Inward::Http1(_) => None,
            Inward::Http2(frames) => Some(&frames.0),
        }
    }

    /// Whether what is written now is hyper's own: no request is being answered.
    fn swallows(&self) -> bool {
        matches!(self.inward, Inward::Http1(_))
            && matches!(self.state.phase(), Phase::Idle | Phase::Head)
    }

    /// Bytes have arrived. Gives how many of them may be passed on, and what stops there.
    fn arrived(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        match &mut self.inward {
            Inward::Http1(framing) => {
                let before = framing.received();
                let fed = framing.feed(bytes);
                self.state.signals.receives(framing.received().wrapping_sub(before));
                if framing.is_in_head() && self.state.phase() == Phase::Idle {
                    self.state.begun();
                }
                match fed {
                    Ok(()) => (bytes.len(), None),
                    Err(violation) => (violation.before, Some(Stop::Malformed(violation.error))),
                }
            }
            Inward::Http2(inward) => {
                let (frames, given) = &mut **inward;
                self.state.passes();
                let answered = self.state.answered();
                frames.give(answered.wrapping_sub(*given).saturating_mul(ANSWERED));
                *given = answered;
                let paid = frames.arrived(bytes, self.state.now());
                self.state.due(frames.is_due());
                if !paid {
                    // The task is woken for it, and reads no more.
                    self.state.send(ConnectionCommand::CloseViolation);
                }
                (if paid { bytes.len() } else { 0 }, None)
            }
        }
    }

    /// Whether the peer waits for an answer, or for the rest of one. h2 gives out streams later than
    /// it reads them, and holds parts of answers that the service is done with.
    fn is_answering(&self) -> bool {
        matches!(self.state.phase(), Phase::Answering(_) | Phase::Flushing)
            || self.frames().is_some_and(|frames| !frames.are_answered())
    }

    /// What hyper reads where nothing more is passed on.
    ///
    /// As long as something is being answered it learns nothing of it, for it would take the answer
    /// back; but whoever reads a body that is not whole has to know. The task is woken when the
    /// answer is out.
    fn stopped(&mut self, stop: Stop) -> Poll<io::Result<()>> {
        let is_answering = self.is_answering();
        let is_whole = match &self.inward {
            Inward::Http1(framing) => framing.is_between() || framing.is_in_head(),
            Inward::Http2(_) => true,
        };
        match stop {
            Stop::End if is_answering && is_whole => {
                self.state.signals.half_closed();
                self.withheld = true;
                Poll::Pending
            }
            Stop::End => {
                if is_answering {
                    self.stop = Some(Stop::Known);
                }
                Poll::Ready(Ok(()))
            }
            Stop::Malformed(error) if is_answering && !is_whole => {
                self.stop = Some(Stop::Known);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error.message())))
            }
            Stop::Malformed(_) | Stop::Known if is_answering => {
                self.withheld = true;
                Poll::Pending
            }
            Stop::Malformed(error) => {
                self.state.send(ConnectionCommand::Refuse(error));
                Poll::Pending
            }
            Stop::Known => Poll::Ready(Ok(())),
        }
    }

    /// The peer has taken bytes.
    fn sent(&mut self, bytes: &[u8]) {
        match &mut self.inward {
            Inward::Http1(_) => self.state.taken(),
            Inward::Http2(frames) => {
                self.state.passes();
                if frames.0.sent(bytes) {
                    self.state.flushes();
                }
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> Guarded<T> {
    /// Says that the connection ends, where it does, as soon as no frame is half written.
    fn poll_notice(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Inward::Http2(frames) = &self.inward else { return Poll::Ready(Ok(())) };
        let Some(notice) = &mut self.notice else { return Poll::Ready(Ok(())) };
        let begun = notice.len() < SHUTDOWN_NOTICE.len();
        if !(begun || self.state.ends.get().is_some() && frames.0.is_between_frames()) {
            return Poll::Ready(Ok(()));
        }
        while !notice.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(context, notice))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => notice.advance(count),
            }
        }
        self.notice = None;
        // What a layer below keeps goes out with what is written next, if not now.
        Pin::new(&mut self.socket).poll_flush(context).map_ok(|()| ())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // An error is that of the next write as well.
        _ = self.poll_notice(context);
        if let Some(stop) = self.stop {
            return self.stopped(stop);
        }
        let before = buffer.filled().len();
        if self.prefix.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_read(context, buffer)) {
                // A peer that ends TLS without a word has ended all the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                read => read?,
            }
        } else {
            let count = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..count]);
            self.prefix.advance(count);
        }
        let arrived = &buffer.filled()[before..];
        if arrived.is_empty() {
            self.stop = Some(Stop::End);
            return self.stopped(Stop::End);
        }
        let (passed, stop) = self.arrived(arrived);
        buffer.set_filled(before + passed);
        self.stop = stop;
        match (passed, stop) {
            (0, Some(stop)) => self.stopped(stop),
            (0, None) => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
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
        ready!(self.poll_notice(context))?;
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
        ready!(self.poll_notice(context))?;
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
        if self.state.flushed() {
            context.waker().wake_by_ref();
        }
        let is_out = self.frames().is_none_or(FrameAccounting::are_answered);
        if let Some(frames) = self.frames() {
            self.state.owes(frames.unanswered());
        }
        if is_out && self.state.phase() == Phase::Flushing {
            self.state.enter(Phase::Idle);
            self.withheld |= self.stop.is_some();
        }
        if self.withheld && !self.is_answering() {
            // Now hyper may learn of it.
            self.withheld = false;
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    /// Left to [`super::connection`], which may have something to say before.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.inward {
            Inward::Http1(_) => Poll::Ready(Ok(())),
            Inward::Http2(_) => Pin::new(&mut self.socket).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::server::ConnectionSignals;
    use crate::server::eviction::ConnectionTable;

    fn new_state() -> Rc<ConnectionState> {
        let state = ConnectionTable::new().add([127, 0, 0, 1].into(), ConnectionSignals::default());
        state.idle();
        state
    }

    #[tokio::test]
    async fn the_rest_of_a_body_that_nobody_wanted_begins_no_head() {
        let state = new_state();
        let (mut peer, socket) = duplex(64);
        let mut guarded = Guarded::http1(socket, Bytes::new(), Rc::clone(&state));
        let head = "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n";
        for (bytes, phase) in [(head, Phase::Idle), ("abc", Phase::Idle), ("GET", Phase::Head)] {
            peer.write_all(bytes.as_bytes()).await.unwrap();
            let count = guarded.read(&mut [0; 64]).await.unwrap();
            assert_eq!((count, state.phase()), (bytes.len(), phase), "{bytes}");
        }
    }

    #[tokio::test]
    async fn the_end_of_what_a_peer_of_http2_sends_is_kept_until_it_has_every_answer() {
        let state = new_state();
        let (mut peer, socket) = duplex(1024);
        let mut guarded = Guarded::http2(socket, Bytes::new(), Rc::clone(&state), 100);
        let frame = |kind, flags, stream| [0, 0, 1, kind, flags, 0, 0, 0, stream, 0x88];
        let (headers, end_headers, both) = (1, 4, 5);
        peer.write_all(PREFACE).await.unwrap();
        peer.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        peer.write_all(&frame(headers, both, 1)).await.unwrap();
        peer.shutdown().await.unwrap();
        let asked = guarded.read(&mut [0; 1024]).await.unwrap();
        assert_eq!(asked, PREFACE.len() + 9 + 10);
        let ended = async |guarded: &mut Guarded<DuplexStream>| {
            guarded.flush().await.unwrap();
            let mut read = [0; 1];
            let mut buffer = ReadBuf::new(&mut read);
            let mut context = Context::from_waker(std::task::Waker::noop());
            Pin::new(guarded).poll_read(&mut context, &mut buffer).is_ready()
        };
        // The service has not seen the request yet; then it is done with it, and the peer has a part.
        assert!(!ended(&mut guarded).await);
        drop(state.answering());
        for part in [frame(headers, end_headers, 1), frame(0, 0, 1)] {
            guarded.write_all(&part).await.unwrap();
            assert!(!ended(&mut guarded).await);
            assert_eq!(state.phase(), Phase::Flushing);
        }
        guarded.write_all(&frame(0, 1, 1)).await.unwrap();
        assert!(ended(&mut guarded).await);
        assert_eq!(state.phase(), Phase::Idle);
    }

    #[tokio::test]
    async fn that_the_connection_ends_is_said_behind_the_first_settings() {
        let state = new_state();
        let (mut peer, socket) = duplex(1024);
        let mut guarded = Guarded::http2(socket, Bytes::new(), Rc::clone(&state), 100);
        state.ends();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        guarded.write_all(&settings).await.unwrap();
        guarded.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap();
        let mut read = [0; 9 + SHUTDOWN_NOTICE.len()];
        peer.read_exact(&mut read).await.unwrap();
        assert_eq!(read, [&settings[..], &SHUTDOWN_NOTICE].concat()[..]);
    }

    #[tokio::test]
    async fn what_is_no_http_is_not_passed_on_and_what_comes_before_it_is() {
        let state = new_state();
        let good = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let all = Bytes::from([&good[..], b"GET / HTTP/1.1\nhost: a\n\n"].concat());
        let (_peer, socket) = duplex(64);
        let mut guarded = Guarded::http1(socket, all, Rc::clone(&state));
        let mut read = [0; 128];
        let count = guarded.read(&mut read).await.unwrap();
        assert_eq!(&read[..count], good);
        let mut buffer = ReadBuf::new(&mut read);
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut guarded).poll_read(&mut context, &mut buffer).is_pending());
        assert_eq!(state.command(&context), ConnectionCommand::Refuse(FramingError::BareLineFeed));
    }
}
