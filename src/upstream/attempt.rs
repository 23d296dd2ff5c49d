//! One attempt of a request: sent on a connection that was kept or on a new one, and its answer
//! read as far as it is before the caller gets a byte.
//!
//! Nearly every request finds a connection of HTTP/1.1 that was kept. There it is written at once,
//! and what is waited for then is small. All else, which must keep what the request says until
//! there is a connection, is boxed.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::task::spawn_local;
use tokio::time::{Instant, timeout_at};

use super::connection::deadline::Deadlines;
use super::connection::head::Head;
use super::connection::http1;
use super::connection::http2::{self, NotAnswered};
use super::connection::pool::{Link, Pool};
use super::forward::Upstream;
use super::request::body::RequestBody;
use super::request::outgoing::{Kept, Outgoing};
use super::request::upload::Fate;
use super::resilience::concurrency::Place;
use super::response::body::Source;
use super::response::error::{blamed, broken, no_answer, unanswered};
use super::response::read::{Read, Reading};
use crate::failure::Failure;

/// What an attempt is made with.
pub(super) struct Attempt<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) pool: &'a Rc<Pool>,
    /// Whether it may be cut off when the caller goes.
    pub(super) idempotent: bool,
    /// Not to be sent on a connection that was kept.
    pub(super) fresh: bool,
    pub(super) begun: Instant,
    pub(super) deadlines: Deadlines,
}

/// What came of an attempt.
pub(super) struct Outcome {
    pub(super) read: Result<Read, Failure>,
    pub(super) told: Told,
}

/// What is to be known of an attempt, whatever came of it.
#[derive(Clone, Copy, Default)]
pub(super) struct Told {
    /// A connection that was kept turned out to be closed, and nobody knows how much was read.
    pub(super) stale: bool,
    /// It was sent, and the upstream says that it did nothing of it.
    pub(super) untouched: bool,
    pub(super) connects: u8,
    pub(super) connects_failed: u8,
    /// How many were sent, but for one that is untouched.
    pub(super) sent: u8,
}

impl Attempt<'_> {
    /// Sends a request. The place is held for as long as the upstream works on it, whether or not
    /// anybody waits for it.
    pub(super) async fn run(
        &self,
        outgoing: &Outgoing<'_>,
        body: RequestBody,
        place: Place,
    ) -> Outcome {
        let Self { upstream, pool, idempotent, fresh, begun, deadlines } = *self;
        let kept = if fresh { None } else { pool.take(begun, upstream.settings.idle) };
        let (body, place, shared) = match kept {
            Some(Link::Http1(mut connection)) => {
                let fate = body.fate();
                connection.begin(outgoing, body, &upstream.common, deadlines);
                let sent = OverHttp1 {
                    reused: true,
                    place: Some(place),
                    ..OverHttp1::new(connection, fate, upstream, pool, begun)
                };
                match Finished::new(sent, idempotent).await {
                    Heard::Over(outcome) => return outcome,
                    // The upstream closed it while it was idle.
                    Heard::Unsent(body, place) => (body, place, None),
                }
            }
            Some(Link::Http2(sender)) => (body, Some(place), Some(sender)),
            None => (body, Some(place), None),
        };
        let (upstream, pool) = (Arc::clone(upstream), Rc::clone(pool));
        let parcel = Parcel { upstream, pool, outgoing: outgoing.keep(), body, begun, deadlines };
        Finished::new(Box::pin(parcel.send(shared, place)), idempotent).await
    }
}

/// A future that is finished though nobody waits for it any more, unless it is idempotent: what
/// must not be sent twice must not be cut off either, when the caller goes.
///
/// It is polled where it is; only when it is dropped too early does it become a task of its own.
struct Finished<F: Future + Unpin + 'static> {
    future: Option<F>,
    idempotent: bool,
}

impl<F: Future + Unpin> Finished<F> {
    const fn new(future: F, idempotent: bool) -> Self {
        Self { future: Some(future), idempotent }
    }
}

impl<F: Future + Unpin> Future for Finished<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(future) = &mut self.future else { return Poll::Pending };
        let output = ready!(Pin::new(future).poll(context));
        self.future = None;
        Poll::Ready(output)
    }
}

impl<F: Future + Unpin> Drop for Finished<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take().filter(|_| !self.idempotent) {
            spawn_local(async {
                // Nobody is there to be told.
                _ = future.await;
            });
        }
    }
}

/// What came of an exchange over HTTP/1.1.
enum Heard {
    Over(Outcome),
    /// The connection was closed before a byte was sent: all can be tried on another.
    Unsent(RequestBody, Option<Place>),
}

/// An exchange over HTTP/1.1 whose request is written. It has its state in its own fields rather
/// than in those of an `async` function, so that it can be moved when it is begun already.
struct OverHttp1 {
    /// Until the head of the answer has come.
    connection: Option<Box<http1::Connection>>,
    /// Since then.
    reading: Option<Reading>,
    pool: Rc<Pool>,
    most_idle: usize,
    begun: Instant,
    /// The connection was kept.
    reused: bool,
    told: Told,
    fate: Option<Fate>,
    place: Option<Place>,
}

impl Future for OverHttp1 {
    type Output = Heard;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Heard> {
        let this = self.get_mut();
        if let Some(connection) = &mut this.connection {
            match ready!(connection.poll_head(context, &this.pool.buffers)) {
                Ok(head) => {
                    this.told.sent += 1;
                    let source = Source::Http1 {
                        connection: this.connection.take(),
                        pool: Rc::clone(&this.pool),
                        most_idle: this.most_idle,
                        since: this.begun,
                    };
                    this.reading = Some(Reading::new(head, source));
                }
                Err(fault) => {
                    let (ended, unsent) = (this.reused && fault.is_end(), connection.is_unsent());
                    if ended && unsent {
                        let body = connection.take_body();
                        return Poll::Ready(Heard::Unsent(body, this.place.take()));
                    }
                    this.told.sent += u8::from(!unsent);
                    this.told.stale = ended && connection.is_silent();
                    // It is closed: an answer that comes later must not be taken for that of
                    // another request.
                    this.connection = None;
                    let failure = blamed(unanswered(&fault), this.fate.as_ref());
                    return Poll::Ready(this.over(Err(failure)));
                }
            }
        }
        let Some(reading) = &mut this.reading else { return Poll::Pending };
        let come = ready!(reading.poll(context));
        let Some(reading) = this.reading.take() else { return Poll::Pending };
        Poll::Ready(this.over(come.map(|()| reading.into_read())))
    }
}

impl OverHttp1 {
    /// On a new connection.
    fn new(
        connection: Box<http1::Connection>,
        fate: Option<Fate>,
        upstream: &Upstream,
        pool: &Rc<Pool>,
        begun: Instant,
    ) -> Self {
        Self {
            connection: Some(connection),
            reading: None,
            pool: Rc::clone(pool),
            most_idle: upstream.settings.max_idle,
            begun,
            reused: false,
            told: Told::default(),
            fate,
            place: None,
        }
    }

    const fn over(&self, read: Result<Read, Failure>) -> Heard {
        Heard::Over(Outcome { read, told: self.told })
    }
}

/// A request that is not sent yet, owned, so that it can outlive a caller that has gone.
struct Parcel {
    upstream: Arc<Upstream>,
    pool: Rc<Pool>,
    outgoing: Kept,
    body: RequestBody,
    begun: Instant,
    deadlines: Deadlines,
}

impl Parcel {
    /// Sends it on a connection that is shared, or on a new one.
    async fn send(mut self, shared: Option<http2::Sender>, mut place: Option<Place>) -> Outcome {
        let mut told = Told::default();
        let mut kept = shared.map(Link::Http2);
        loop {
            let reused = kept.is_some();
            let link = match kept.take() {
                Some(link) => link,
                None => match self.connect(&mut told).await {
                    Ok(link) => link,
                    Err(failure) => return Outcome { read: Err(failure), told },
                },
            };
            match link {
                Link::Http1(connection) => match self.over_http1(connection, told, place).await {
                    Heard::Over(outcome) => return outcome,
                    Heard::Unsent(body, again) => (self.body, place) = (body, again),
                },
                Link::Http2(sender) => {
                    let fate = self.body.fate();
                    let read = match self.over_http2(sender, reused, &mut told).await {
                        Ok(None) => continue,
                        Ok(Some(mut reading)) => {
                            let come = poll_fn(|context| reading.poll(context)).await;
                            come.map(|()| reading.into_read())
                        }
                        Err(failure) => Err(blamed(failure, fate.as_ref())),
                    };
                    return Outcome { read, told };
                }
            }
        }
    }

    fn over_http1(
        &mut self,
        mut connection: Box<http1::Connection>,
        told: Told,
        place: Option<Place>,
    ) -> OverHttp1 {
        let Self { upstream, pool, outgoing, begun, deadlines, .. } = self;
        let fate = self.body.fate();
        let body = std::mem::take(&mut self.body);
        connection.begin(&outgoing.lend(), body, &upstream.common, *deadlines);
        OverHttp1 { told, place, ..OverHttp1::new(connection, fate, upstream, pool, *begun) }
    }

    /// Sends the request and waits for the head; `None` when nothing was sent.
    async fn over_http2(
        &mut self,
        mut sender: http2::Sender,
        reused: bool,
        told: &mut Told,
    ) -> Result<Option<Reading>, Failure> {
        let body = std::mem::take(&mut self.body);
        let request = http2::request(&self.outgoing, body, &self.upstream.common)?;
        let sending = http2::send(&mut sender, request, &mut self.body);
        match timeout_at(self.deadlines.head, sending).await {
            Ok(Ok(response)) => {
                told.sent += 1;
                self.pool.share(sender);
                let (head, body) = response.into_parts();
                let head = Head::of(head.status, &head.headers);
                Ok(Some(Reading::new(head, Source::http2(body, self.deadlines))))
            }
            Err(_) => {
                told.sent += 1;
                self.pool.forget_shared();
                Err(no_answer())
            }
            Ok(Err(NotAnswered { unsent: true, .. })) if reused => Ok(None),
            Ok(Err(not)) => {
                told.untouched = not.is_untouched();
                told.sent += u8::from(!not.unsent && !told.untouched);
                told.stale = reused && !not.is_reset();
                if not.is_reset() {
                    // The connection is as good as before.
                    self.pool.share(sender);
                }
                Err(broken(&not.error))
            }
        }
    }

    async fn connect(&self, told: &mut Told) -> Result<Link, Failure> {
        let link = self.upstream.connector.connect(self.deadlines.end).await;
        match link {
            Ok(_) => told.connects += 1,
            Err(_) => told.connects_failed += 1,
        }
        link
    }
}
