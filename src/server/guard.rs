//! The watch over a connection: what it is doing, since when, and whose bytes it writes.
//!
//! hyper answers a malformed head by itself, with an empty body, and drops a late one without a
//! word. [`Guarded`] sits below hyper: it notices when a head begins to arrive, and swallows what
//! hyper writes while no request of the service is being answered, so that the envelope can be
//! written instead.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Bounds, Protocol};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing, since it was accepted: somebody who connects has something to say.
    Fresh,
    /// Nothing: between requests.
    Idle,
    /// A head has begun to arrive.
    Head,
    /// That many requests are being answered.
    Answering(u32),
    /// The last answer is complete and on its way out.
    Flushing,
}

/// What a connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    None,
    /// Its time is over in the phase that it is in.
    Expired(Phase),
    /// Finish and close.
    Drain,
}

/// How long, when the process is to stop, a new connection may take to begin its first request.
const FIRST: Duration = Duration::from_millis(500);

/// The watch over one connection.
pub(super) struct Watch {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// How many answers wait for the peer to take more of them.
    sending: Cell<u32>,
    /// Whether a request was ever answered on it.
    asked: Cell<bool>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    clock: Rc<Clock>,
}

/// A clock that is read once a tick: deadlines of seconds need no finer one, and a request should
/// not pay for it.
pub(super) struct Clock(Cell<Instant>);

/// Every connection of a worker, looked over once a tick; so no connection needs a timer.
pub(super) struct Watches {
    clock: Rc<Clock>,
    all: RefCell<Vec<Weak<Watch>>>,
    leaving: Cell<bool>,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self {
            clock: Rc::new(Clock(Cell::new(Instant::now()))),
            all: RefCell::default(),
            leaving: Cell::new(false),
        }
    }

    /// Watches a new connection.
    pub(super) fn watch(&self) -> Rc<Watch> {
        let watch = Rc::new(Watch {
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(self.clock.0.get()),
            sending: Cell::new(0),
            asked: Cell::new(false),
            order: Cell::new(Order::None),
            waker: RefCell::default(),
            clock: Rc::clone(&self.clock),
        });
        self.all.borrow_mut().push(Rc::downgrade(&watch));
        watch
    }

    /// Reads the clock, forgets closed connections and ends those whose time is over.
    pub(super) fn tick(&self, bounds: &Bounds) {
        let now = Instant::now();
        self.clock.0.set(now);
        self.all.borrow_mut().retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            let limit = match watch.phase.get() {
                Phase::Fresh | Phase::Head => bounds.head_timeout,
                // The service has its own deadlines; a peer that reads nothing has none.
                Phase::Answering(_) if watch.sending.get() == 0 => Duration::MAX,
                Phase::Idle | Phase::Answering(_) | Phase::Flushing => bounds.idle,
            };
            if now.saturating_duration_since(watch.since.get()) >= limit {
                watch.give(Order::Expired(watch.phase.get()));
            }
            true
        });
    }

    /// From now on an answer is the last one on its connection.
    pub(super) fn leave(&self) {
        self.leaving.set(true);
    }

    /// Whether an answer is the last one on its connection.
    pub(super) fn leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Tells every connection to finish, but those on which a request is coming.
    pub(super) fn drain(&self) {
        let now = self.clock.0.get();
        for watch in self.all.borrow().iter().filter_map(Weak::upgrade) {
            if !watch.expects_request(now) {
                watch.give(Order::Drain);
            }
        }
    }
}

impl Watch {
    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// The order, once; the task is woken when one comes.
    pub(super) fn order(&self, context: &Context<'_>) -> Order {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        self.order.replace(Order::None)
    }

    /// Waits for a future until an order comes.
    pub(super) async fn unless_ordered<F: Future>(&self, future: F) -> Result<F::Output, Order> {
        let mut future = pin!(future);
        poll_fn(|context| match self.order(context) {
            Order::None => future.as_mut().poll(context).map(Ok),
            order => Poll::Ready(Err(order)),
        })
        .await
    }

    /// The first bytes of a head, or of a TLS handshake, have come.
    pub(super) fn begun(&self) {
        // Once: its time does not begin anew with each byte.
        if self.phase.get() != Phase::Head {
            self.enter(Phase::Head);
        }
    }

    /// What began has been taken.
    pub(super) fn idle(&self) {
        self.enter(Phase::Idle);
    }

    /// Whether closing the connection would take away a request that has begun, or the first one of
    /// a connection that was made to send it.
    fn expects_request(&self, now: Instant) -> bool {
        match self.phase.get() {
            Phase::Head => true,
            Phase::Fresh | Phase::Idle => {
                !self.asked.get() && now.saturating_duration_since(self.since.get()) < FIRST
            }
            Phase::Answering(_) | Phase::Flushing => false,
        }
    }

    fn give(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.0.get());
    }

    /// A request is being answered until the guard is dropped.
    pub(super) fn answering(self: &Rc<Self>) -> Answering {
        let count = match self.phase.get() {
            Phase::Answering(count) => count,
            Phase::Fresh | Phase::Idle | Phase::Head | Phase::Flushing => 0,
        };
        self.asked.set(true);
        self.phase.set(Phase::Answering(count + 1));
        Answering { watch: Rc::clone(self), sending: false }
    }
}

/// A request that is being answered.
pub(super) struct Answering {
    watch: Rc<Watch>,
    /// It is the peer's turn: hyper asks for more when that has taken what there is.
    sending: bool,
}

impl Answering {
    /// Nothing new is to begin on the connection.
    pub(super) fn is_last(&self) {
        self.watch.give(Order::Drain);
    }

    /// Whose turn it is now.
    fn sends(&mut self, sending: bool) {
        let Watch { sending: all, since, clock, .. } = &*self.watch;
        since.set(clock.0.get());
        match (self.sending, sending) {
            (false, true) => all.set(all.get() + 1),
            (true, false) => all.set(all.get() - 1),
            _ => {}
        }
        self.sending = sending;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.sends(false);
        match self.watch.phase.get() {
            Phase::Answering(count) if count > 1 => {
                self.watch.phase.set(Phase::Answering(count - 1));
            }
            _ => self.watch.enter(Phase::Flushing),
        }
    }
}

/// The body of an answer, with the guard that ends when hyper has taken all of it.
pub(super) struct Watched<B> {
    body: B,
    answering: Answering,
}

impl<B> Watched<B> {
    pub(super) fn new(body: B, mut answering: Answering) -> Self {
        answering.sends(true);
        Self { body, answering }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        self.answering.sends(polled.is_ready());
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket with a watch over it, and with what was read of it before HTTP began.
pub(super) struct Guarded<T> {
    socket: T,
    prefix: Bytes,
    watch: Rc<Watch>,
    protocol: Protocol,
}

impl<T> Guarded<T> {
    pub(super) const fn new(
        socket: T,
        prefix: Bytes,
        watch: Rc<Watch>,
        protocol: Protocol,
    ) -> Self {
        Self { socket, prefix, watch, protocol }
    }

    /// The socket, to write to it past hyper.
    pub(super) fn into_socket(self) -> T {
        self.socket
    }

    /// Whether what is written now is hyper's own: no request is being answered.
    fn swallows(&self) -> bool {
        self.protocol == Protocol::Http1 && matches!(self.watch.phase(), Phase::Idle | Phase::Head)
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
        let begun = buffer.filled().len() > before && self.watch.phase() == Phase::Idle;
        if begun && self.protocol == Protocol::Http1 {
            self.watch.enter(Phase::Head);
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
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.swallows() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
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
        match self.protocol {
            Protocol::Http1 => Poll::Ready(Ok(())),
            Protocol::Http2 => Pin::new(&mut self.socket).poll_shutdown(context),
        }
    }
}
