//! HTTP/1.1 to the upstream: a connection that is polled by the request that has it.
//!
//! There is one origin and one request at a time, so there is no task, no channel and no map of
//! fields: a request is written from its parts into one buffer, and an answer is read in another,
//! off which its body is split without a copy; for a long one the worker lends a buffer.

mod buffers;
mod chunked;
mod request;
mod response;
mod socket;
mod syntax;

#[cfg(test)]
mod tests;

use std::future::Future as _;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;

use super::deadline::{DeadlineTimer, Deadlines};
use super::head::ResponseHead;
use crate::upstream::request::body::RequestBody;
use crate::upstream::request::error::BodyError;
use crate::upstream::request::outgoing::{Common, Outgoing};
use request::{RequestWriteError, Writer};

pub use buffers::Buffers;
pub use response::ResponseParser;
pub(in crate::upstream) use response::WHOLE;
pub(in crate::upstream) use socket::UpstreamSocket;
pub(in crate::upstream) use syntax::{FIELDS, HEAD_BYTES};
pub use syntax::{ParseStep, ResponseSyntaxError};

/// A connection, whoever has it.
pub(in crate::upstream) struct Http1Connection {
    socket: UpstreamSocket,
    writer: Writer,
    reader: ResponseParser,
    deadline: DeadlineTimer,
    /// Why the rest of a request cannot be written. An answer may be there all the same.
    unwritable: Option<io::Error>,
}

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(in crate::upstream) enum Http1Error {
    /// It took too long.
    #[error("the answer did not come in time")]
    Late,
    /// What came is none.
    #[error(transparent)]
    Malformed(#[from] ResponseSyntaxError),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Socket(#[from] io::Error),
    /// The caller's body broke off.
    #[error(transparent)]
    Request(BodyError),
}

impl Http1Connection {
    pub(in crate::upstream) fn new(socket: UpstreamSocket) -> Self {
        Self {
            socket,
            writer: Writer::default(),
            reader: ResponseParser::default(),
            deadline: DeadlineTimer::default(),
            unwritable: None,
        }
    }

    /// Begins an exchange.
    pub(in crate::upstream) fn begin(
        &mut self,
        request: &Outgoing<'_>,
        body: RequestBody,
        common: &Common,
        deadlines: Deadlines,
    ) {
        self.reader.expect(*request.method == http::Method::HEAD);
        self.writer.begin(request, body, common);
        self.deadline.begin(deadlines);
    }

    /// Whether the next request can be sent on it: the last answer is over, and nothing came since,
    /// not even the end of the connection.
    pub(in crate::upstream) fn is_quiet(&mut self) -> bool {
        self.is_reusable() && socket::is_quiet(&mut self.socket)
    }

    /// Whether it can be kept for another request.
    pub(in crate::upstream) fn is_reusable(&self) -> bool {
        self.writer.is_done() && self.reader.is_reusable() && self.unwritable.is_none()
    }

    /// Whether nothing of the request was sent.
    pub(in crate::upstream) const fn is_unsent(&self) -> bool {
        self.writer.is_unsent()
    }

    /// Whether no byte of an answer has come.
    pub(in crate::upstream) fn is_silent(&self) -> bool {
        self.reader.is_silent()
    }

    /// The body of a request of which nothing was sent.
    pub(in crate::upstream) fn take_body(&mut self) -> RequestBody {
        self.writer.take_body()
    }

    /// How many bytes of the body are still to be taken, where that is known.
    pub(in crate::upstream) fn left(&self) -> Option<u64> {
        self.reader.left()
    }

    /// Sends the request, and reads until the head of the answer is there. It may be there before
    /// all of the request is sent.
    pub(in crate::upstream) fn poll_head(
        &mut self,
        context: &mut Context<'_>,
        buffers: &Buffers,
    ) -> Poll<Result<ResponseHead, Http1Error>> {
        loop {
            self.write(context)?;
            if self.unwritable.is_some() && self.writer.is_unsent() {
                return Poll::Ready(Err(self.closed(ResponseSyntaxError::Closed)));
            }
            if let Some(head) = self.reader.head()? {
                self.deadline.renew();
                return Poll::Ready(Ok(head));
            }
            ready!(self.read(context, buffers))?;
        }
    }

    /// The next piece of the body; `None` when all of it has come.
    pub(in crate::upstream) fn poll_piece(
        &mut self,
        context: &mut Context<'_>,
        buffers: &Buffers,
    ) -> Poll<Option<Result<Bytes, Http1Error>>> {
        loop {
            let step = self.reader.body();
            if self.reader.left() == Some(0) {
                self.reader.rest(buffers);
            }
            match step {
                Ok(ParseStep::Piece(piece)) => return Poll::Ready(Some(Ok(piece))),
                Ok(ParseStep::End) => return Poll::Ready(None),
                Ok(ParseStep::More) => {}
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
            self.write(context)?;
            ready!(self.read(context, buffers))?;
            self.deadline.renew();
        }
    }

    /// Writes what can be written of the request. That it cannot be sent is no end yet: who refuses
    /// a request may answer and close before all of it has come.
    fn write(&mut self, context: &mut Context<'_>) -> Result<(), Http1Error> {
        if self.writer.is_done() || self.unwritable.is_some() {
            return Ok(());
        }
        match self.writer.poll(&mut self.socket, context) {
            Poll::Pending | Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(RequestWriteError::Socket(error))) => self.unwritable = Some(error),
            Poll::Ready(Err(RequestWriteError::Body(broken))) => {
                return Err(Http1Error::Request(broken));
            }
        }
        Ok(())
    }

    /// Reads once, and waits for that as long as may be.
    fn read(
        &mut self,
        context: &mut Context<'_>,
        buffers: &Buffers,
    ) -> Poll<Result<(), Http1Error>> {
        let reading = pin!(self.socket.read_buf(self.reader.buffer(buffers)));
        let result = match reading.poll(context) {
            Poll::Ready(Ok(0)) => self.reader.close().map_err(|malformed| self.closed(malformed)),
            Poll::Ready(Ok(_)) => Ok(()),
            Poll::Ready(Err(error)) => Err(Http1Error::Socket(error)),
            Poll::Pending => {
                self.reader.rest(buffers);
                ready!(self.deadline.poll(context));
                Err(Http1Error::Late)
            }
        };
        Poll::Ready(result)
    }

    /// Why the connection was closed: what is known of it tells more than that it was.
    fn closed(&mut self, malformed: ResponseSyntaxError) -> Http1Error {
        match self.unwritable.take() {
            Some(error) if malformed == ResponseSyntaxError::Closed => Http1Error::Socket(error),
            _ => Http1Error::Malformed(malformed),
        }
    }
}

impl Http1Error {
    /// Whether the connection ended.
    pub(in crate::upstream) const fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Malformed(ResponseSyntaxError::Closed | ResponseSyntaxError::Cut)
                | Self::Socket(_)
        )
    }
}
