//! One connection, from the accepted socket to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONNECTION, ORIGIN};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Duration, Instant, timeout};

use super::bounds::Bounds;
use super::connection_state::{ConnectionCommand, ConnectionState, Phase};
use super::counts::{CloseReason, ConnectionCounts};
use super::eviction::ConnectionTable;
use super::executor::LocalExecutor;
use super::frame_flood::{PREFACE, Violation};
use super::network::NetworkSocket;
use super::panic::catch_panic;
use super::service::{Peer, Protocol, Service};
use super::socket::Guarded;
use super::tls::Tls;
use super::tracked_body::{NoAnswer, TrackedBody};
use super::{head, linger};
use crate::failure::{Code, Failure, RawHead};
use crate::net::Corked;

/// How long a peer of HTTP/2 has for its end of a connection that has to go.
const GOAWAY_TIMEOUT: Duration = Duration::from_millis(500);

/// What a peer of HTTP/2 may send of all its requests' bodies, and of one, before they are read.
/// They are read at once, so that this bounds only what is kept of requests that are not yet seen.
const WINDOWS: (u32, u32) = (256 * 1024, 64 * 1024);

/// The most that is read at once of the body of a request on HTTP/1, and kept of an answer that the
/// peer does not take, besides one piece of it: 64 KiB with the head that they come with.
const PIECE: usize = 80 * 1024;

/// How much of an answer HTTP/2 keeps for a peer that does not take it.
const SEND_BUFFER: usize = 64 * 1024;

/// So many streams of a connection may be malformed, or too many at once, in its life. Each has
/// cost a request, and the peer nothing.
const FAULTY_STREAMS: usize = 256;

/// What the connections of a worker share.
pub(super) struct WorkerContext<S> {
    pub(super) service: Rc<S>,
    pub(super) bounds: Bounds,
    pub(super) connections: ConnectionTable,
    pub(super) counts: Arc<ConnectionCounts>,
    http1: http1::Builder,
    http2: http2::Builder<LocalExecutor>,
}

/// How a connection ended.
enum ConnectionEnd {
    /// As it should, or so that there is no one to tell; the peer may still send.
    Done,
    /// So that nothing is to be done.
    Gone,
    /// For another one to have its place, at once.
    Evicted,
    /// With frames that may not be.
    Violation,
    /// With something to say.
    Refused(Failure),
    /// Not at all: it is idle, and there may be the beginning of a head.
    Parked(Bytes),
}

impl<S: Service> WorkerContext<S> {
    pub(super) fn new(service: Rc<S>, bounds: Bounds, counts: Arc<ConnectionCounts>) -> Self {
        let mut http1 = http1::Builder::new();
        // `ConnectionState` has the timeouts: hyper's would need a timer re-armed at each request.
        http1.header_read_timeout(None);
        http1.max_buf_size(bounds.head_bytes.max(PIECE));
        http1.max_header_size(bounds.head_bytes);
        // The most fields are hyper's own: a number that is said costs it a copy of that many
        // places at each request.
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2.max_concurrent_streams(bounds.streams);
        // Above our own bound, so that ours speaks first: h2 answers with an empty 431.
        let list = u32::try_from(bounds.head_bytes.saturating_mul(4)).unwrap_or(u32::MAX);
        http2.max_header_list_size(list);
        http2.header_table_size(4096);
        let (connection, stream) = WINDOWS;
        http2.initial_connection_window_size(connection);
        http2.initial_stream_window_size(stream);
        http2.max_send_buf_size(SEND_BUFFER);
        // All of them at once, before any was seen: a page that is closed does that.
        http2.max_pending_accept_reset_streams(bounds.streams as usize);
        http2.max_local_error_reset_streams(FAULTY_STREAMS);
        Self { service, bounds, connections: ConnectionTable::new(), counts, http1, http2 }
    }

    /// Counts a connection that was ended, or not even begun, for what it or others did.
    pub(super) fn closes(&self, reason: CloseReason) {
        self.counts.closed(reason);
        self.service.closes(reason);
    }

    /// Serves a connection until it ends.
    pub(super) async fn serve(
        self: Rc<Self>,
        socket: impl NetworkSocket,
        mut peer: Peer,
        tls: Option<&Arc<Tls>>,
    ) {
        // Without it small answers wait for acknowledgements that the peer delays.
        if socket.without_delay().is_err() {
            return;
        }
        let Some(tls) = tls else { return self.plain(socket, peer).await };
        peer.tls = true;
        // What a handshake needs goes with it, on the heap: no connection has room for it afterwards.
        let Some((stream, state)) = Box::pin(self.handshake(socket, &mut peer, tls)).await else {
            return;
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            Box::pin(self.http2(stream, Bytes::new(), peer, state)).await;
        } else {
            self.http1(stream, Bytes::new(), peer, state).await;
        }
    }

    async fn plain(self: Rc<Self>, mut socket: impl NetworkSocket, peer: Peer) {
        let state = self.connections.add(peer.address.ip(), peer.signals.clone());
        let mut begun = [0; PREFACE.len()];
        let mut length = 0;
        while PREFACE.starts_with(&begun[..length]) && length < PREFACE.len() {
            match state.unless_commanded(socket.read(&mut begun[length..])).await {
                ControlFlow::Continue(Ok(count)) if count > 0 => length += count,
                ControlFlow::Break(ConnectionCommand::Expired(Phase::Head)) => {
                    return Box::pin(self.refuse(socket, head::late(), peer, &state)).await;
                }
                _ => return,
            }
            state.begun();
        }
        let prefix = Bytes::copy_from_slice(&begun[..length]);
        if length == PREFACE.len() && begun == *PREFACE {
            state.idle();
            Box::pin(self.http2(socket, prefix, peer, state)).await;
        } else {
            self.http1(socket, prefix, peer, state).await;
        }
    }

    /// Serves HTTP/1. Between requests a connection costs little: when it has been idle for a
    /// moment, hyper's part of it is given up, with its buffers, and made anew with the next byte.
    async fn http1<T>(
        self: Rc<Self>,
        mut socket: T,
        prefix: Bytes,
        peer: Peer,
        state: Rc<ConnectionState>,
    ) where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let mut prefix = prefix;
        loop {
            match self.requests(&mut socket, prefix, &peer, &state).await {
                ConnectionEnd::Gone => return,
                ConnectionEnd::Evicted => {
                    return linger::shut_down_at_once(socket, linger::NOTHING).await;
                }
                ConnectionEnd::Done | ConnectionEnd::Violation => {
                    return Box::pin(linger::close(socket, &state, self.service.linger())).await;
                }
                ConnectionEnd::Refused(failure) => {
                    return Box::pin(self.refuse(socket, failure, peer, &state)).await;
                }
                ConnectionEnd::Parked(begun) if !begun.is_empty() => prefix = begun,
                ConnectionEnd::Parked(_) => {
                    let mut first = [0; 1];
                    prefix = match state.unless_commanded(socket.read(&mut first)).await {
                        ControlFlow::Continue(Ok(1)) => Bytes::copy_from_slice(&first),
                        ControlFlow::Break(ConnectionCommand::Evict) => {
                            return linger::shut_down_at_once(socket, linger::NOTHING).await;
                        }
                        ended => {
                            if let ControlFlow::Break(ConnectionCommand::Expired(phase)) = ended {
                                self.cut_at(phase);
                            }
                            return Box::pin(linger::close(socket, &state, self.service.linger()))
                                .await;
                        }
                    };
                }
            }
        }
    }

    /// Serves HTTP/1 requests until the connection ends or is idle for a moment.
    async fn requests<T>(
        self: &Rc<Self>,
        socket: &mut T,
        prefix: Bytes,
        peer: &Peer,
        state: &Rc<ConnectionState>,
    ) -> ConnectionEnd
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        state.unparked();
        let guarded = Guarded::http1(socket, prefix, Rc::clone(state));
        let service = service_fn(|request| self.asked(request, peer, state));
        // On the heap, so that it is not there while the connection is parked.
        let mut connection = Box::new(self.http1.serve_connection(TokioIo::new(guarded), service));
        let end = poll_fn(|context| {
            let command = state.command(context);
            match command {
                // What came while the process stood still is looked at first.
                ConnectionCommand::Expired(_) | ConnectionCommand::None => {}
                ConnectionCommand::Evict => return Poll::Ready(Some(ConnectionEnd::Evicted)),
                ConnectionCommand::CloseViolation => {
                    return Poll::Ready(Some(ConnectionEnd::Violation));
                }
                ConnectionCommand::Refuse(error) => {
                    let failure = Failure::fixed(Code::MalformedRequest, error.message());
                    return Poll::Ready(Some(ConnectionEnd::Refused(failure)));
                }
                ConnectionCommand::Drain => Pin::new(&mut *connection).graceful_shutdown(),
                ConnectionCommand::Park if state.phase() == Phase::Idle => {
                    return Poll::Ready(None);
                }
                // The next request was quicker.
                ConnectionCommand::Park => state.unparked(),
            }
            match Pin::new(&mut *connection).poll(context) {
                Poll::Ready(Err(error)) => Poll::Ready(Some(self.ended(&error))),
                Poll::Ready(Ok(())) => Poll::Ready(Some(ConnectionEnd::Done)),
                Poll::Pending
                    if matches!(command, ConnectionCommand::Expired(_))
                        && state.is_overdue(&self.bounds) =>
                {
                    Poll::Ready(Some(self.expired(state.phase())))
                }
                Poll::Pending => Poll::Pending,
            }
        });
        match end.await {
            Some(end) => end,
            None => {
                let begun = connection.into_parts().read_buf;
                // An empty one would still hold the whole buffer.
                ConnectionEnd::Parked(if begun.is_empty() { Bytes::new() } else { begun })
            }
        }
    }

    /// What hyper would have answered by itself, and empty.
    fn ended(&self, error: &hyper::Error) -> ConnectionEnd {
        if error.is_parse_too_large() {
            return ConnectionEnd::Refused(head::head_too_large(self.bounds.head_bytes));
        }
        if error.is_parse() || error.is_incomplete_message() {
            let why = "the request line or a header field is not valid HTTP";
            let failure =
                Failure::fixed(Code::MalformedRequest, why).with_detail(error.to_string());
            return ConnectionEnd::Refused(failure);
        }
        ConnectionEnd::Done
    }

    async fn http2<T>(
        self: Rc<Self>,
        socket: T,
        prefix: Bytes,
        mut peer: Peer,
        state: Rc<ConnectionState>,
    ) where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        peer.protocol = Protocol::Http2;
        let address = peer.address;
        let most = self.bounds.overhead_frames;
        let socket = Corked::new(Guarded::http2(socket, prefix, Rc::clone(&state), most));
        let context = Rc::clone(&self);
        let of_stream = Rc::clone(&state);
        let service = service_fn(move |request| context.asked(request, &peer, &of_stream));
        let end = {
            let io = TokioIo::new(socket.clone());
            let mut connection = pin!(self.http2.serve_connection(io, service));
            let mut expired = None;
            poll_fn(|context| {
                match self.obey(state.command(context), &state, &mut expired) {
                    ControlFlow::Break(end) => return Poll::Ready(end),
                    ControlFlow::Continue(true) => connection.as_mut().graceful_shutdown(),
                    ControlFlow::Continue(false) => {}
                }
                // Whatever is ready in this poll goes out in one write.
                let served = socket.around(context, |context| connection.as_mut().poll(context));
                served.map(|served| {
                    if let Err(error) = served {
                        tracing::debug!(%error, peer = %address, "HTTP/2 connection ended");
                    }
                    ConnectionEnd::Gone
                })
            })
            .await
        };
        let Some(guarded) = socket.into_socket() else { return };
        match end {
            ConnectionEnd::Evicted => {
                let words = guarded.goaway_frame();
                linger::shut_down_at_once(guarded.into_socket(), words).await;
            }
            ConnectionEnd::Violation => {
                let violation = guarded.violation();
                if violation == Some(Violation::Calm) {
                    self.closes(CloseReason::Flooding);
                }
                tracing::debug!(breach = ?violation, peer = %address, "HTTP/2 connection ended for its frames");
                let last = (guarded.goaway_frame(), GOAWAY_TIMEOUT);
                let (socket, linger) = (guarded.into_socket(), self.service.linger());
                Box::pin(linger::close_with(socket, last, &state, linger)).await;
            }
            _ => {}
        }
    }

    /// What a command means on HTTP/2: that the connection ends at once, or whether the peer is to be
    /// told that it ends.
    fn obey(
        &self,
        command: ConnectionCommand,
        state: &ConnectionState,
        expired: &mut Option<Instant>,
    ) -> ControlFlow<ConnectionEnd, bool> {
        ControlFlow::Continue(match command {
            ConnectionCommand::None | ConnectionCommand::Park => false,
            ConnectionCommand::Evict => return ControlFlow::Break(ConnectionEnd::Evicted),
            ConnectionCommand::CloseViolation | ConnectionCommand::Refuse(_) => {
                return ControlFlow::Break(ConnectionEnd::Violation);
            }
            ConnectionCommand::Drain if state.is_deserted() => {
                return ControlFlow::Break(ConnectionEnd::Gone);
            }
            ConnectionCommand::Drain => state.ends(),
            ConnectionCommand::Expired(phase) => {
                let since = *expired.get_or_insert_with(Instant::now);
                if self.is_lost(since.elapsed(), state) {
                    self.cut_at(phase);
                    return ControlFlow::Break(ConnectionEnd::Gone);
                }
                state.ends()
            }
        })
    }

    /// Whether nothing more is waited for on a connection that was told to end so long ago. A
    /// graceful end waits for the peer, and such a one may not even answer a ping; what other
    /// requests there are gets the time that an answer may take.
    fn is_lost(&self, told: Duration, state: &ConnectionState) -> bool {
        told >= GOAWAY_TIMEOUT && (told >= self.bounds.write || !state.is_busy(self.bounds.write))
    }

    /// How a connection of HTTP/1 ends whose time in this phase is over.
    fn expired(&self, phase: Phase) -> ConnectionEnd {
        self.cut_at(phase);
        if phase == Phase::Head {
            ConnectionEnd::Refused(head::late())
        } else {
            ConnectionEnd::Done
        }
    }

    /// Counts a connection whose peer did not take its answers.
    fn cut_at(&self, phase: Phase) {
        if let Phase::Answering(_) | Phase::Flushing = phase {
            self.closes(CloseReason::Stalled);
        }
    }

    /// A request has come. From now on the connection is not idle: on HTTP/2 the answer begins in a
    /// task of its own, and no one may get the place of the connection before that has its turn.
    fn asked(
        self: &Rc<Self>,
        request: Request<Incoming>,
        peer: &Peer,
        state: &Rc<ConnectionState>,
    ) -> impl Future<Output = Result<Response<TrackedBody<S::Body>>, Infallible>> + use<S> {
        let mut answering = state.answering();
        peer.signals.asks();
        let origin = request.headers().get(ORIGIN).cloned();
        // On the heap, a failure too: hyper moves what is returned here about, and keeps room for it
        // on every connection, idle ones too.
        let answer = match head::check(&request, self.bounds.head_bytes) {
            Ok(()) => {
                // Room first: with nothing between the future and its place that could fail, it
                // is made where it stays, and not copied whole.
                let room = Box::new_uninit();
                let answer = Rc::clone(&self.service).answer(request, peer.clone());
                Ok(Box::into_pin(Box::write(room, answer)))
            }
            Err(failure) => Err(Box::new(failure)),
        };
        let (context, peer) = (Rc::clone(self), peer.clone());
        async move {
            let protocol = peer.protocol;
            let signals = peer.signals.clone();
            let answered = match answer {
                Ok(mut answer) => poll_fn(|context| catch_panic(answer.as_mut(), context)).await,
                Err(failure) => Err(failure),
            };
            // Said in the same poll, and so of this answer.
            answering.is_decided(signals.is_vouched_for());
            let mut response = answered.unwrap_or_else(|failure| {
                context.service.refuse(*failure, peer, origin.as_ref()).map(S::Body::from)
            });
            if protocol == Protocol::Http2 {
                // Connection-specific fields make an HTTP/2 message malformed (RFC 9113 §8.2.2).
                response.headers_mut().remove(CONNECTION);
            }
            // hyper closes behind a body that it has not read: who is not told sends another request
            // into the void. HTTP/2 has nothing to say to a peer that asks for nothing more.
            let ends = protocol == Protocol::Http1 && signals.is_last_answer();
            if context.connections.leaving() || ends {
                match protocol {
                    Protocol::Http1 => {
                        let close = HeaderValue::from_static("close");
                        response.headers_mut().insert(CONNECTION, close);
                    }
                    Protocol::Http2 => answering.is_last(),
                }
            }
            let silent = response.extensions().get::<NoAnswer>().is_some();
            let flushes = protocol == Protocol::Http1 && !silent;
            Ok(response.map(|body| TrackedBody::new(body, answering, flushes)))
        }
    }

    /// Writes an answer past hyper and closes. A peer may take its time over it as over any other:
    /// what it asked before may be on its way to it still, and fill the socket.
    pub(super) async fn refuse<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        mut socket: T,
        failure: Failure,
        peer: Peer,
        state: &ConnectionState,
    ) {
        let mut rest = Bytes::from(RawHead::encode(&self.service.refuse(failure, peer, None)));
        loop {
            state.closes();
            // TLS keeps what the socket does not take, until it is flushed.
            let step = async {
                if rest.is_empty() {
                    socket.flush().await.map(|()| 0)
                } else {
                    socket.write_buf(&mut rest).await
                }
            };
            match state.unless_evicted(timeout(self.bounds.write, step)).await {
                Some(Ok(Ok(0))) => {
                    return linger::close(socket, state, self.service.linger()).await;
                }
                Some(Ok(Ok(_))) => {}
                Some(Ok(Err(_))) | None => return,
                Some(Err(_)) => return self.closes(CloseReason::Stalled),
            }
        }
    }
}

#[cfg(test)]
mod tests;
