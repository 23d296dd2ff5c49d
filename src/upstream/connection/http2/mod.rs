//! HTTP/2 to the upstream, by h2: a connection that many requests share, driven by a task of its
//! own.
//!
//! How many streams are open on it, and for whom, is counted here: the peer's bound is never
//! exceeded, so that no request waits in a queue that no one sees.

mod exchange;
mod ping;
mod request;
mod state;
mod stream;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio::time::Instant;
use tokio_util::io::InspectReader;

use super::http1::HEAD_BYTES;
use crate::net::Corked;

use ping::{Ping, SILENCE};
use state::Http2State;

pub(in crate::upstream) use exchange::{Http2Error, IncomingBody};
pub(in crate::upstream) use request::request;
pub(in crate::upstream) use stream::Http2Stream;

/// What may come of all answers on a connection, and of one, before it is taken: a caller that reads
/// slowly holds its part, and must not hold up the others that share the connection.
const WINDOWS: (u32, u32) = (64 * 1024 * 1024, 128 * 1024);

/// The most streams of a connection, whatever the peer allows: with as many answers that no one
/// takes, its window is used up.
const MOST_STREAMS: usize = (WINDOWS.0 / WINDOWS.1) as usize;

/// A head of an answer that is too long is to be found here, where it can be called that.
const LIST_BYTES: usize = 4 * HEAD_BYTES;

/// How long bodies may wait for the peer's window, and nothing of any be sent, until no other body is
/// sent on the connection.
const STUCK: Duration = Duration::from_millis(100);

/// The sending end of a connection. Once it is dropped, the connection ends with its last stream.
pub(super) struct Http2Connection {
    sender: SendRequest<Bytes>,
    state: Rc<Http2State>,
}

/// Begins a connection, starts the task that drives it on this thread, and waits for the SETTINGS of
/// the peer, which are the first that it sends (RFC 9113 §3.4). The error says nothing where the peer
/// closed the connection and said nothing.
pub(super) async fn handshake<T>(socket: T) -> Result<Http2Connection, Option<h2::Error>>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = client::Builder::new();
    builder.max_header_list_size(u32::try_from(LIST_BYTES).unwrap_or(u32::MAX));
    builder.initial_connection_window_size(WINDOWS.0).initial_window_size(WINDOWS.1);
    builder.enable_push(false).initial_max_send_streams(0);
    // Whoever sends anything lives, and need not have answered a PING, which may lie behind a long body
    // on a slow way.
    let received = Rc::new(Cell::new(false));
    let any = Rc::clone(&received);
    let see = move |bytes: &[u8]| any.set(any.get() || !bytes.is_empty());
    let socket = Corked::new(InspectReader::new(socket, see));
    let (sender, mut driven) = builder.handshake(socket.clone()).await?;
    poll_fn(|context| {
        match socket.around(context, |context| Pin::new(&mut driven).poll(context)) {
            Poll::Ready(ended) => Poll::Ready(Err(ended.err())),
            Poll::Pending if driven.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    let state = Http2State::new(driven.max_concurrent_send_streams());
    spawn_local(drive(driven, socket, Rc::clone(&state), received));
    Ok(Http2Connection { sender, state })
}

/// Moves a connection on until it ends. What goes wrong on it is told to whoever waits for an
/// answer.
async fn drive<T>(
    mut driven: client::Connection<Corked<T>, Bytes>,
    socket: Corked<T>,
    state: Rc<Http2State>,
    received: Rc<Cell<bool>>,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut ping = driven.ping_pong().map(|ping| Ping::new(ping, received));
    poll_fn(|context| {
        // The requests that are ready in this poll go out in one write.
        let over = socket.around(context, |context| Pin::new(&mut driven).poll(context));
        if over.is_ready() {
            state.broke_alone.set(state.streams() == 1);
            return Poll::Ready(());
        }
        let allowed = driven.max_concurrent_send_streams();
        if state.allowed.replace(allowed) < allowed {
            state.changed();
        }
        // One that is to end needs a peer that reads: without one it would never be closed.
        let waits = state.streams() > 0 || state.dropped.get();
        let dead = ping.as_mut().is_some_and(|ping| waits && ping.is_dead(context));
        if !dead {
            return Poll::Pending;
        }
        state.silent_since.set(Instant::now().checked_sub(SILENCE));
        Poll::Ready(())
    })
    .await;
    state.retired.set(true);
    // Whoever has a stream on it is told.
    drop(driven);
    state.changed();
}

impl Drop for Http2Connection {
    fn drop(&mut self) {
        self.state.dropped.set(true);
    }
}

impl Http2Connection {
    /// Calls this when there may be room for a stream, or the connection has ended.
    pub(super) fn on_change(&self, call: impl Fn() + 'static) {
        // It is set once, when the connection is shared.
        _ = self.state.on_change.set(Box::new(call));
    }

    /// Whether the peer takes requests on it: neither has ended it, nor has said that it will.
    pub(super) fn is_open(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        !self.state.retired.get()
            && !matches!(self.sender.poll_ready(&mut context), Poll::Ready(Err(_)))
    }

    /// Whether a request can be sent at once; `body` where it has one.
    pub(super) fn has_room(&self, body: bool, now: Instant) -> bool {
        let stuck = || self.state.stuck.get().is_some_and(|since| since + STUCK <= now);
        self.state.streams() < self.most_streams() && !(body && stuck())
    }

    /// How many streams may be open on it.
    pub(super) fn most_streams(&self) -> usize {
        self.state.allowed.get().min(MOST_STREAMS)
    }

    /// Opens a stream for a request of this caller.
    pub(super) fn open(&self, caller: u64) -> Http2Stream {
        Http2Stream::new(self.sender.clone(), Rc::clone(&self.state).open(caller))
    }

    /// Who has streams on it, each as often as it has one.
    pub(super) fn callers(&self, each: impl FnMut(u64)) {
        self.state.callers.borrow().iter().for_each(each);
    }

    /// Nothing is asked on it.
    pub(super) fn is_idle(&self) -> bool {
        self.state.streams() == 0
    }

    /// Since when nothing came on it, where it was given up for that; once.
    pub(super) fn fell_silent(&self) -> Option<Instant> {
        self.state.silent_since.take()
    }

    /// When it was made.
    pub(super) fn made(&self) -> Instant {
        self.state.made
    }

    /// When the head of an answer last came on it, or it was made.
    pub(super) fn heard(&self) -> Instant {
        self.state.heard.get()
    }
}
