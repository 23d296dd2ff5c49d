//! The body of a request that passes through as it comes: how much of it may come, how long that
//! may take, whose fault it is when the upstream gets less than all of it, and whether its end may
//! still be sent.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::authority::{LastLook, Looking};
use super::error::BodyError;
use crate::failure::Failure;

/// A body on its way.
pub struct Upload {
    /// A piece that was taken and could not be sent.
    again: Bytes,
    body: Incoming,
    /// How many bytes may still come.
    left: usize,
    /// Ends the time that all of it may take.
    end: Pin<Box<Sleep>>,
    status: UploadStatus,
    authority: Rc<dyn LastLook>,
    /// The last piece, or the end that comes after it, while it is looked whether it may be sent.
    held: Option<(Looking, Option<Bytes>)>,
}

/// What became of an upload, for whoever waits for the answer: over HTTP/2 another task sends it.
#[derive(Clone, Default)]
pub(in crate::upstream) struct UploadStatus(Rc<Cell<State>>);

#[derive(Clone, Copy, Default)]
enum State {
    /// It goes on, or all of it has come.
    #[default]
    Moving,
    /// The caller has not sent the next piece.
    Awaited,
    Broken(BodyError),
}

impl Upload {
    /// A body that begins with these bytes, of so many at most, for which the caller has so much
    /// time.
    #[must_use]
    pub fn new(
        first: Bytes,
        rest: Incoming,
        most: usize,
        time: Duration,
        authority: Rc<dyn LastLook>,
    ) -> Self {
        let left = most.saturating_sub(first.len());
        let (status, end) = (UploadStatus::default(), Box::pin(sleep(time)));
        Self { again: first, body: rest, left, end, status, authority, held: None }
    }

    /// What it begins with, and the rest, where nothing of it was sent.
    pub fn into_parts(self) -> (Bytes, Incoming) {
        (self.again, self.body)
    }

    /// Whether it may still be begun.
    ///
    /// # Errors
    /// [`Failure::superseded`].
    pub(in crate::upstream) async fn check(&self) -> Result<(), Failure> {
        let looking = Rc::clone(&self.authority).look();
        let allowed = match looking {
            None => true,
            Some(looking) => looking.await,
        };
        if allowed { Ok(()) } else { Err(Failure::superseded()) }
    }

    /// The same with its last piece, of which nothing was sent, to come again.
    pub(in crate::upstream) fn with_again(self, piece: Bytes) -> Self {
        Self { again: piece, ..self }
    }

    pub(in crate::upstream) fn status(&self) -> UploadStatus {
        self.status.clone()
    }

    pub(in crate::upstream) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.again.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.again)))));
        }
        if let Some((looking, _)) = &mut self.held {
            let allowed = ready!(looking.as_mut().poll(context));
            let last = self.held.take().and_then(|(_, last)| last);
            return Poll::Ready(if allowed {
                last.map(|piece| Ok(Frame::data(piece)))
            } else {
                Some(Err(self.breaks(BodyError::Superseded)))
            });
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
            self.status.0.set(State::Awaited);
            ready!(self.end.as_mut().poll(context));
            return Poll::Ready(Some(Err(self.breaks(BodyError::Late))));
        };
        self.status.0.set(State::Moving);
        let Some(frame) = frame else { return self.last(None, context) };
        let Ok(frame) = frame else {
            return Poll::Ready(Some(Err(self.breaks(BodyError::Request))));
        };
        // Trailers are not on the allow-list to a third party.
        let Ok(data) = frame.into_data() else { return self.last(None, context) };
        match self.left.checked_sub(data.len()) {
            None => Poll::Ready(Some(Err(self.breaks(BodyError::TooLarge)))),
            Some(rest) => {
                self.left = rest;
                if self.body.is_end_stream() {
                    return self.last(Some(data), context);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
        }
    }

    /// The last piece, or the end after it: with it the request would be whole.
    fn last(
        &mut self,
        piece: Option<Bytes>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Rc::clone(&self.authority).look() {
            None => Poll::Ready(piece.map(|piece| Ok(Frame::data(piece)))),
            Some(looking) => {
                self.held = Some((looking, piece));
                self.poll(context)
            }
        }
    }

    fn breaks(&self, broken: BodyError) -> BodyError {
        self.status.0.set(State::Broken(broken));
        broken
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.again.is_empty() && self.held.is_none() && self.body.is_end_stream()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().and_then(|(_, piece)| piece.as_ref());
        let again = (self.again.len() + held.map_or(0, Bytes::len)) as u64;
        let rest = self.body.size_hint().exact();
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(again + rest))
    }
}

impl UploadStatus {
    /// What the caller did wrong, if it is that which kept an answer from coming; `late` where it
    /// did not come in time.
    pub(in crate::upstream) fn fault(&self, late: bool) -> Option<BodyError> {
        match self.0.get() {
            State::Broken(broken) => Some(broken),
            // The upstream waited for the caller as well.
            State::Awaited if late => Some(BodyError::Late),
            State::Awaited | State::Moving => None,
        }
    }
}
