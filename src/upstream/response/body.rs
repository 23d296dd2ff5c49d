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
use crate::upstream::resilience::unread_bytes::{Account, Reserved, is_counted};

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
    #[error("the caller took nothing of the answer while others waited")]
    Untaken,
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

/// An answer that passes through.
pub struct StreamedBody {
    /// What was read of it already.
    begun: std::vec::IntoIter<Bytes>,
    /// None, when it had to give way.
    rest: Rc<RefCell<Option<ResponseSource>>>,
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
    /// What was read already is counted, until all of that is taken.
    reserved: Option<Reserved>,
}

impl StreamedBody {
    pub(in crate::upstream) fn new(begun: Vec<Bytes>, rest: ResponseSource) -> Self {
        let (begun, masking) = (begun.into_iter(), Sent::default().in_pieces());
        let rest = Rc::new(RefCell::new(Some(rest)));
        Self {
            begun,
            rest,
            json: None,
            masking,
            ended: false,
            broken: None,
            passing: None,
            unread: None,
            reserved: None,
        }
    }

    /// From now on it has to be JSON, as what was read of it has to be already.
    pub(super) fn must_be_json(&mut self) -> Result<(), NotJsonError> {
        let mut json = JsonReader::default();
        self.begun.as_slice().iter().try_for_each(|piece| json.push(piece))?;
        self.json = Some(json);
        let begun = self.begun.as_slice().first();
        if begun.is_some_and(|first| first.starts_with(BOM)) {
            let mut begun: Vec<Bytes> = std::mem::take(&mut self.begun).collect();
            if let Some(first) = begun.first_mut() {
                *first = first.slice(BOM.len()..);
            }
            self.begun = begun.into_iter();
        }
        Ok(())
    }

    /// Nothing that was sent comes back in it.
    pub(super) fn hide(&mut self, sent: &Sent<'_>) {
        self.masking = sent.in_pieces();
    }

    /// What was read of it already.
    pub(super) fn begun(&self) -> &[Bytes] {
        self.begun.as_slice()
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(broken) = self.broken.take() {
                return Poll::Ready(Some(Err(broken)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let piece = match ready!(self.poll_piece(context)) {
                Ok(piece) => piece,
                // With the fault, hyper drops what it has not sent: the head and what has come go
                // out first.
                Err(broken) => {
                    self.settle(Evidence::Fails);
                    self.broken = Some(broken);
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
            };
            if !piece.is_empty() {
                let piece = match &self.unread {
                    Some(unread) => unread.count(piece),
                    None => piece,
                };
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
    }

    /// The next piece as it is passed on; of the last one, all that was held.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, BodyError>> {
        let piece = match self.begun.next() {
            Some(piece) => Some(piece),
            None => match ready!(self.poll_rest(context)) {
                Some(Ok(piece)) => {
                    let json = self.json.as_mut();
                    json.map_or(Ok(()), |json| json.push(&piece)).map_err(|_| BodyError::Answer)?;
                    Some(piece)
                }
                Some(Err(ResponseError::Late)) => return Poll::Ready(Err(BodyError::Slow)),
                Some(Err(ResponseError::Untaken)) => return Poll::Ready(Err(BodyError::Untaken)),
                Some(Err(_)) => return Poll::Ready(Err(BodyError::Answer)),
                None => None,
            },
        };
        // Where the length is known, no one asks for what comes after the last piece.
        let over = self.begun.as_slice().is_empty() && self.left_of_rest() == Some(0);
        let (over, piece) = (over || piece.is_none(), piece.unwrap_or_default());
        let mut masked = self.masking.push(piece);
        if over {
            let json = self.json.as_ref();
            json.map_or(Ok(()), JsonReader::finish).map_err(|_| BodyError::Answer)?;
            let held = self.masking.finish();
            if !held.is_empty() {
                masked = [masked, held].concat().into();
            }
            self.ended = true;
            self.settle(Evidence::Works);
        }
        Poll::Ready(Ok(masked))
    }

    fn poll_rest(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ResponseError>>> {
        self.reserved = None;
        match &mut *self.rest.borrow_mut() {
            Some(rest) => rest.poll_piece(context),
            None => Poll::Ready(Some(Err(ResponseError::Untaken))),
        }
    }

    fn left_of_rest(&self) -> Option<u64> {
        self.rest.borrow().as_ref().and_then(ResponseSource::left)
    }

    /// Notes since when the caller takes nothing: since now, unless it waits for more.
    fn note_taken(&self, waits: bool) {
        if let Some(passing) = &self.passing {
            passing.untaken((!waits).then(Instant::now));
        }
    }

    /// How many bytes are still to come, where that is known.
    fn left(&self) -> Option<u64> {
        let begun: usize = self.begun.as_slice().iter().map(Bytes::len).sum();
        let here = (begun + self.masking.held()) as u64;
        self.left_of_rest().map(|rest| here + rest)
    }
}

impl StreamedBody {
    /// The answer is over; the caller that goes before has settled nothing.
    fn settle(&mut self, evidence: Evidence) {
        if let Some(passing) = self.passing.take() {
            passing.settle(evidence);
        }
    }
}

impl ResponseBody {
    /// Settles a request now, or when its answer is over, where that passes through.
    pub(in crate::upstream) fn settle(&mut self, in_flight: InFlight, told: Evidence, at: Instant) {
        match self {
            Self::Stream(stream) => {
                let unread = in_flight.unread();
                let begun = stream.begun().iter().map(Bytes::len).sum();
                stream.reserved = Some(unread.reserve(begun));
                stream.unread = Some(unread);
                if told == Evidence::Works {
                    let rest = Rc::clone(&stream.rest);
                    stream.passing = Some(in_flight.passes(at, move || drop(rest.take())));
                } else {
                    in_flight.settle(told, at);
                }
            }
            Self::Whole(bytes) => {
                if is_counted(bytes) {
                    *bytes = in_flight.unread().count(std::mem::take(bytes));
                }
                in_flight.settle(told, at);
            }
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
