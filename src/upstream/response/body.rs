//! The body of an answer: from where it comes, a connection of HTTP/1.1 or a stream of HTTP/2, and as
//! it is passed on to the caller.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::json::{JsonReader, NotJsonError};
use crate::text::BOM;
use crate::token::{Masking, Sent};
use crate::upstream::connection::deadline::{DeadlineTimer, Deadlines};
use crate::upstream::connection::pool::Pool;
use crate::upstream::connection::{http1, http2};
use crate::upstream::request::error::BodyError;
use crate::upstream::resilience::evidence::Evidence;
use crate::upstream::resilience::in_flight::InFlight;
use crate::upstream::resilience::streamed_answers::StreamedAnswer;
use crate::upstream::resilience::unread_bytes::{Account, LEAST, Reserved, is_counted};

/// The body of an answer, as it comes.
pub(in crate::upstream) enum ResponseSource {
    /// Comes on a connection that goes back to the pool when all of it has come; when it does not
    /// come that far, the connection is closed.
    Http1 {
        connection: Option<Box<http1::Http1Connection>>,
        pool: Rc<Pool>,
        since: Instant,
    },
    Http2 {
        answer: Box<http2::IncomingBody>,
        deadline: DeadlineTimer,
    },
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(in crate::upstream) enum ResponseError {
    #[error("the answer came too slowly")]
    Late,
    #[error(transparent)]
    Http1(http1::Http1Error),
    #[error(transparent)]
    Http2(http2::Http2Error),
}

impl ResponseSource {
    pub(in crate::upstream) fn http2(answer: http2::IncomingBody, deadlines: Deadlines) -> Self {
        Self::Http2 { answer: Box::new(answer), deadline: DeadlineTimer::with_body(deadlines) }
    }

    /// The next piece; `None` when all of it has come.
    pub(in crate::upstream) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ResponseError>>> {
        match self {
            Self::Http1 { connection, pool, since } => {
                let Some(open) = connection else { return Poll::Ready(None) };
                let piece = ready!(open.poll_piece(context, &pool.buffers));
                // Where the length is known, no one asks for the end that comes after the last piece.
                let over = match &piece {
                    Some(Ok(_)) => open.left() == Some(0),
                    Some(Err(_)) => false,
                    None => true,
                };
                if over && let Some(connection) = connection.take() {
                    pool.give_back(connection, *since);
                }
                Poll::Ready(piece.map(|piece| {
                    piece.map_err(|fault| {
                        *connection = None;
                        match fault {
                            http1::Http1Error::Late => ResponseError::Late,
                            fault => ResponseError::Http1(fault),
                        }
                    })
                }))
            }
            Self::Http2 { answer, deadline } => {
                let Poll::Ready(piece) = answer.poll_piece(context) else {
                    ready!(deadline.poll(context));
                    return Poll::Ready(Some(Err(ResponseError::Late)));
                };
                deadline.renew();
                Poll::Ready(piece.map(|piece| piece.map_err(ResponseError::Http2)))
            }
        }
    }

    /// How many bytes are still to come, where that is known.
    pub(in crate::upstream) fn left(&self) -> Option<u64> {
        match self {
            Self::Http1 { connection: None, .. } => Some(0),
            Self::Http1 { connection: Some(connection), .. } => connection.left(),
            Self::Http2 { answer, .. } => answer.left(),
        }
    }
}

/// The body of an answer.
pub enum ResponseBody {
    /// All of it.
    Whole(Bytes),
    /// Passed through as it comes: more than is read before the head is sent.
    Stream(Box<StreamedBody>),
}

/// What there is of an answer that its caller has not taken.
struct Remainder {
    /// What was read of it already.
    begun: std::vec::IntoIter<Bytes>,
    /// That is counted, until all of it is taken.
    reserved: Option<Reserved>,
    /// Where the rest comes from; none, when all was read.
    source: Option<ResponseSource>,
    /// What can be passed on, and that it is counted where it waits.
    ready: Bytes,
    waits: Option<Reserved>,
}

/// An answer that passes through.
pub struct StreamedBody {
    /// None, when it had to give way.
    remainder: Rc<RefCell<Option<Remainder>>>,
    /// Looks whether it goes on as JSON, where it must.
    json: Option<JsonReader>,
    masking: Masking,
    /// All of it has come.
    ended: bool,
    /// Why there is no more, as long as it was not told.
    broken: Option<BodyError>,
    /// The request is in flight until its answer is over.
    passing: Option<Rc<StreamedAnswer>>,
    /// Where its pieces are counted until the caller has taken them.
    unread: Option<Account>,
}

impl Remainder {
    /// The next of what was read already.
    fn begun(&mut self) -> Option<Bytes> {
        let piece = self.begun.next();
        if self.begun.as_slice().is_empty() {
            self.reserved = None;
        }
        piece
    }

    /// The next of what can be passed on, counted until it is taken. hyper takes a piece before its
    /// peer has room for it, and then nothing can be done about that any more: who has much to take
    /// already gets a little at a time, and what waits here can give way.
    fn ready(&mut self, unread: Option<&Account>) -> Option<Bytes> {
        if self.ready.is_empty() {
            return None;
        }
        let Some(unread) = unread else { return Some(std::mem::take(&mut self.ready)) };
        if !unread.is_high() || !is_counted(&self.ready) {
            self.waits = None;
            return Some(unread.count(std::mem::take(&mut self.ready)));
        }
        // A copy, since a part of it would hold the whole.
        let piece = Bytes::copy_from_slice(&self.ready.split_to(LEAST));
        self.waits = Some(unread.reserve(self.ready.len()));
        Some(piece)
    }

    /// The next piece of what was not read yet; `None` when all of it has come.
    fn poll_source(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ResponseError>>> {
        match &mut self.source {
            Some(source) => source.poll_piece(context),
            None => Poll::Ready(None),
        }
    }

    /// How many bytes are still to be looked at, where that is known.
    fn left(&self) -> Option<u64> {
        let begun: usize = self.begun.as_slice().iter().map(Bytes::len).sum();
        let source = self.source.as_ref().map_or(Some(0), ResponseSource::left);
        source.map(|rest| rest + begun as u64)
    }
}

impl StreamedBody {
    /// One of which so much was read already, and the rest comes from there.
    pub(in crate::upstream) fn new(begun: Vec<Bytes>, source: Option<ResponseSource>) -> Self {
        let (begun, ready) = (begun.into_iter(), Bytes::new());
        let remainder = Remainder { begun, reserved: None, source, ready, waits: None };
        Self {
            remainder: Rc::new(RefCell::new(Some(remainder))),
            json: None,
            masking: Sent::default().in_pieces(),
            ended: false,
            broken: None,
            passing: None,
            unread: None,
        }
    }

    /// From now on it has to be JSON, as what was read of it has to be already.
    pub(super) fn must_be_json(&mut self) -> Result<(), NotJsonError> {
        let Some(remainder) = &mut *self.remainder.borrow_mut() else { return Ok(()) };
        let mut json = JsonReader::default();
        remainder.begun.as_slice().iter().try_for_each(|piece| json.push(piece))?;
        self.json = Some(json);
        let first = remainder.begun.as_slice().first();
        if first.is_some_and(|first| first.starts_with(BOM)) {
            let mut begun: Vec<Bytes> = std::mem::take(&mut remainder.begun).collect();
            if let Some(first) = begun.first_mut() {
                *first = first.slice(BOM.len()..);
            }
            remainder.begun = begun.into_iter();
        }
        Ok(())
    }

    /// Nothing that was sent comes back in it.
    pub(super) fn hide(&mut self, sent: &Sent<'_>) {
        self.masking = sent.in_pieces();
    }

    /// The first piece of what was read of it already.
    pub(super) fn first(&self) -> Bytes {
        let remainder = self.remainder.borrow();
        let first = remainder.as_ref().and_then(|there| there.begun.as_slice().first());
        first.cloned().unwrap_or_default()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(broken) = self.broken.take() {
                return Poll::Ready(Some(Err(broken)));
            }
            let ready = match &mut *self.remainder.borrow_mut() {
                Some(there) => there.ready(self.unread.as_ref()),
                None => return Poll::Ready(Some(Err(BodyError::Untaken))),
            };
            if self.is_passed_on() {
                self.passing = None;
            }
            if let Some(piece) = ready {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(self.poll_piece(context)) {
                Ok(()) => {}
                // With the fault, hyper drops what it has not sent: the head and what has come go
                // out first.
                Err(broken) => {
                    settle(self.passing.as_ref(), Evidence::Fails);
                    self.broken = Some(broken);
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether all of it was passed on: nothing is left that could give way.
    fn is_passed_on(&self) -> bool {
        self.ended && self.remainder.borrow().as_ref().is_some_and(|there| there.ready.is_empty())
    }

    /// Makes the next piece ready as it is passed on; of the last one, all that was held.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(there) = &mut *self.remainder.borrow_mut() else {
            return Poll::Ready(Err(BodyError::Untaken));
        };
        let piece = match there.begun() {
            Some(piece) => Some(piece),
            None => match ready!(there.poll_source(context)) {
                Some(Ok(piece)) => {
                    let json = self.json.as_mut();
                    json.map_or(Ok(()), |json| json.push(&piece)).map_err(|_| BodyError::Answer)?;
                    Some(piece)
                }
                Some(Err(ResponseError::Late)) => return Poll::Ready(Err(BodyError::Slow)),
                Some(Err(_)) => return Poll::Ready(Err(BodyError::Answer)),
                None => None,
            },
        };
        // Where the length is known, no one asks for what comes after the last piece.
        let over = piece.is_none() || there.left() == Some(0);
        let mut masked = self.masking.push(piece.unwrap_or_default());
        if over {
            let json = self.json.as_ref();
            json.map_or(Ok(()), JsonReader::finish).map_err(|_| BodyError::Answer)?;
            let held = self.masking.finish();
            if !held.is_empty() {
                masked = [masked, held].concat().into();
            }
            self.ended = true;
            settle(self.passing.as_ref(), Evidence::Works);
        }
        there.ready = masked;
        Poll::Ready(Ok(()))
    }

    /// Notes since when the caller takes nothing: since now, unless it waits for more.
    fn note_taken(&self, waits: bool) {
        if let Some(passing) = &self.passing {
            passing.untaken((!waits).then(Instant::now));
        }
    }

    /// How many bytes are still to come, where that is known.
    fn left(&self) -> Option<u64> {
        let there = self.remainder.borrow();
        let there = there.as_ref()?;
        let here = (there.ready.len() + self.masking.held()) as u64;
        there.left().map(|left| left + here)
    }

    /// Closes where it comes from, and drops what was read of it.
    fn close(&self) -> impl FnOnce() + 'static {
        let remainder = Rc::clone(&self.remainder);
        move || drop(remainder.take())
    }

    /// Counts what was read of it already, until that is taken.
    fn reserve(&self, unread: &Account) {
        if let Some(there) = &mut *self.remainder.borrow_mut() {
            let begun = there.begun.as_slice().iter().map(Bytes::len).sum();
            there.reserved = Some(unread.reserve(begun));
        }
    }
}

/// All of the answer has come; the caller that goes before has settled nothing.
fn settle(passing: Option<&Rc<StreamedAnswer>>, evidence: Evidence) {
    if let Some(passing) = passing {
        passing.settle(evidence);
    }
}

impl ResponseBody {
    /// Settles a request now, or when its answer is over, where that passes through.
    pub(in crate::upstream) fn settle(&mut self, in_flight: InFlight, told: Evidence, at: Instant) {
        match self {
            Self::Stream(stream) => {
                let unread = in_flight.unread();
                stream.reserve(&unread);
                stream.unread = Some(unread);
                stream.passing = Some(match told {
                    Evidence::Works => in_flight.passes(at, stream.close()),
                    _ => in_flight.leaves(told, at, stream.close()),
                });
            }
            Self::Whole(bytes) if is_counted(bytes) => {
                let unread = in_flight.unread();
                if !unread.is_high() {
                    *bytes = unread.count(std::mem::take(bytes));
                    return in_flight.settle(told, at);
                }
                let mut stream = Box::new(StreamedBody::new(vec![std::mem::take(bytes)], None));
                stream.reserve(&unread);
                stream.unread = Some(unread);
                stream.passing = Some(in_flight.leaves(told, at, stream.close()));
                *self = Self::Stream(stream);
            }
            Self::Whole(_) => in_flight.settle(told, at),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => {
                let polled = stream.poll(context);
                stream.note_taken(polled.is_pending());
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => {
                stream.left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
