//! The body of a request that passes through as it comes: how much of it may come, how long that
//! may take, whose fault it is when the upstream gets less than all of it, whether its end may
//! still be sent, and whether another attempt can have it as well.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::authority::{FinalCheck, PendingCheck};
use super::error::BodyError;
use super::replay_buffer::ReplayBuffer;
use crate::failure::Failure;
use crate::net::grace;

/// A body on its way, as one attempt takes it.
pub struct Upload {
    source: Rc<RefCell<UploadSource>>,
    /// The number of the attempt: an earlier one may not take what a later one needs.
    attempt: u32,
    status: UploadStatus,
}

/// Where all attempts take it from.
struct UploadSource {
    /// The attempt that takes it now.
    attempt: u32,
    /// What it got already, as long as another one can be made.
    kept: ReplayBuffer,
    /// What was taken of the body, and no attempt got.
    next: Bytes,
    /// What is to come; `None` once a request that begins again has it.
    body: Option<Incoming>,
    /// How many bytes may still come.
    left: usize,
    /// Ends the time that all of it may take.
    end: Pin<Box<Sleep>>,
    /// That is over, and the caller's socket is looked at once more.
    late: bool,
    status: UploadStatus,
    authority: Rc<dyn FinalCheck>,
    /// The last piece, or the end that comes after it, while it is looked whether it may be sent.
    held: Option<(PendingCheck, Option<Bytes>)>,
}

/// What became of an upload, for whoever waits for the answer: over HTTP/2 another task sends it.
#[derive(Clone, Default)]
pub(in crate::upstream) struct UploadStatus(Rc<Cell<UploadState>>);

#[derive(Clone, Copy, Default)]
enum UploadState {
    /// It goes on, or all of it has come.
    #[default]
    Moving,
    /// The caller has not sent the next piece.
    Awaited,
    Broken(BodyError),
}

/// What an attempt gets of a body.
type Piece = Option<Result<Frame<Bytes>, BodyError>>;

impl Upload {
    /// A body that begins with these bytes, of so many at most, for which the caller has so much
    /// time.
    pub fn new(
        first: Bytes,
        rest: Incoming,
        most: usize,
        time: Duration,
        authority: Rc<dyn FinalCheck>,
    ) -> Self {
        let status = UploadStatus::default();
        let source = UploadSource {
            attempt: 0,
            kept: ReplayBuffer::default(),
            left: most.saturating_sub(first.len()),
            next: first,
            body: Some(rest),
            end: Box::pin(sleep(time)),
            late: false,
            status: status.clone(),
            authority,
            held: None,
        };
        Self { source: Rc::new(RefCell::new(source)), attempt: 0, status }
    }

    /// It as the next attempt takes it, from its beginning; the one before gets no more.
    pub(in crate::upstream) fn for_attempt(&self) -> Self {
        let mut source = self.source.borrow_mut();
        source.attempt += 1;
        source.kept.rewind();
        let (attempt, status) = (source.attempt, self.status.clone());
        status.0.set(UploadState::Moving);
        Self { source: Rc::clone(&self.source), attempt, status }
    }

    /// Whether another attempt can have it from its beginning.
    pub(in crate::upstream) fn is_replayable(&self) -> bool {
        self.source.borrow().kept.is_whole()
    }

    /// No further attempt is made: what has been sent of it need not be kept.
    pub fn is_decided(&self) {
        self.source.borrow_mut().kept.release();
    }

    /// What has come of it, and the rest, where all that has come is kept: a request that begins
    /// again has it then. Otherwise no one has it any more.
    pub fn into_parts(self) -> Option<(Bytes, Incoming)> {
        let mut source = self.source.borrow_mut();
        // An attempt that was given up may have a part in it still, and gets no more.
        source.attempt += 1;
        let held = source.held.take().and_then(|(_, piece)| piece).unwrap_or_default();
        let next = std::mem::take(&mut source.next);
        let come = std::mem::take(&mut source.kept).into_whole(&[&next, &held])?;
        Some((come, source.body.take()?))
    }

    /// Whether it may still be begun.
    ///
    /// # Errors
    /// [`Failure::superseded`].
    pub(in crate::upstream) async fn check(&self) -> Result<(), Failure> {
        let authority = Rc::clone(&self.source.borrow().authority);
        let allowed = match authority.look() {
            None => true,
            Some(looking) => looking.await,
        };
        if allowed { Ok(()) } else { Err(Failure::superseded()) }
    }

    /// The same from its beginning; of what was taken of it, which is this piece, nothing was sent.
    pub(in crate::upstream) fn unsent(self, piece: Bytes) -> Self {
        self.source.borrow_mut().give_back(piece);
        self
    }

    pub(in crate::upstream) fn status(&self) -> UploadStatus {
        self.status.clone()
    }

    pub(in crate::upstream) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        let mut source = self.source.borrow_mut();
        if source.attempt == self.attempt {
            source.poll(context)
        } else {
            Poll::Ready(Some(Err(BodyError::Request)))
        }
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        let source = self.source.borrow();
        source.waiting() == 0 && source.held.is_none() && source.has_come()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        let source = self.source.borrow();
        let held = source.held.as_ref().and_then(|(_, piece)| piece.as_ref());
        let here = (source.waiting() + held.map_or(0, Bytes::len)) as u64;
        let rest = source.body.as_ref().map_or(Some(0), |body| body.size_hint().exact());
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(here + rest))
    }
}

impl UploadSource {
    /// How many bytes are here that the attempt has not got.
    fn waiting(&self) -> usize {
        self.kept.left() + self.next.len()
    }

    /// Whether nothing is to come any more.
    fn has_come(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn give_back(&mut self, piece: Bytes) {
        if self.kept.is_whole() {
            self.kept.rewind();
        } else {
            self.next = piece;
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        if let Some(again) = self.kept.next() {
            return Poll::Ready(Some(Ok(Frame::data(again))));
        }
        if !self.next.is_empty() {
            let next = std::mem::take(&mut self.next);
            return self.gives(next);
        }
        if let Some((looking, _)) = &mut self.held {
            let allowed = ready!(looking.as_mut().poll(context));
            let last = self.held.take().and_then(|(_, last)| last);
            return match (allowed, last) {
                (true, None) => Poll::Ready(None),
                (true, Some(last)) => self.gives(last),
                (false, last) => {
                    self.next = last.unwrap_or_default();
                    self.breaks(BodyError::Superseded)
                }
            };
        }
        let Some(body) = &mut self.body else { return self.breaks(BodyError::Request) };
        let Poll::Ready(frame) = Pin::new(body).poll_frame(context) else {
            self.status.0.set(UploadState::Awaited);
            ready!(self.poll_end(context));
            return self.breaks(BodyError::Late);
        };
        self.status.0.set(UploadState::Moving);
        let Some(frame) = frame else { return self.last(None, context) };
        let Ok(frame) = frame else { return self.breaks(BodyError::Request) };
        // Trailers are not on the allow-list to a third party.
        let Ok(data) = frame.into_data() else { return self.last(None, context) };
        match self.left.checked_sub(data.len()) {
            None => self.breaks(BodyError::TooLarge),
            Some(rest) => {
                self.left = rest;
                if self.has_come() {
                    return self.last(Some(data), context);
                }
                self.gives(data)
            }
        }
    }

    /// Ready when the time is over, and nothing has come in a pause of the process either.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.end.as_mut().poll(context));
        if !std::mem::replace(&mut self.late, true) {
            let due = self.end.deadline();
            self.end.as_mut().reset(Instant::now() + grace(due));
            ready!(self.end.as_mut().poll(context));
        }
        Poll::Ready(())
    }

    /// The last piece, or the end after it: with it the request would be whole.
    fn last(&mut self, piece: Option<Bytes>, context: &mut Context<'_>) -> Poll<Piece> {
        match Rc::clone(&self.authority).look() {
            None => piece.map_or(Poll::Ready(None), |piece| self.gives(piece)),
            Some(looking) => {
                self.held = Some((looking, piece));
                self.poll(context)
            }
        }
    }

    fn gives(&mut self, piece: Bytes) -> Poll<Piece> {
        self.kept.keep(&piece);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn breaks(&self, broken: BodyError) -> Poll<Piece> {
        self.status.0.set(UploadState::Broken(broken));
        Poll::Ready(Some(Err(broken)))
    }
}

impl UploadStatus {
    /// What the caller did wrong, if it is that which kept an answer from coming; `late` where it
    /// did not come in time.
    pub(in crate::upstream) fn fault(&self, late: bool) -> Option<BodyError> {
        match self.0.get() {
            UploadState::Broken(broken) => Some(broken),
            // The upstream waited for the caller as well.
            UploadState::Awaited if late => Some(BodyError::Late),
            UploadState::Awaited | UploadState::Moving => None,
        }
    }
}
