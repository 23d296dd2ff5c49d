//! Requests of HTTP/1.1, written: the head and a small body in one piece and one write; what passes
//! through as it comes, with its length or in chunks.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, Method};
use http_body::Body as _;
use tokio::io::AsyncWrite as _;

use super::socket::{UpstreamSocket, fails_unsent};
use crate::upstream::request::body::RequestBody;
use crate::upstream::request::error::BodyError;
use crate::upstream::request::outgoing::{Common, Outgoing};

/// Bodies up to this are copied behind the head: less work than to write two pieces.
const COPIED: usize = 8 * 1024;

/// Writes requests on one connection, one after the other.
#[derive(Default)]
pub(super) struct Writer {
    /// What goes out first: the head, or the size of a chunk.
    out: BytesMut,
    /// Then a piece of the body.
    piece: Bytes,
    /// Then the end of a chunk.
    tail: &'static [u8],
    /// The body, as far as it has not been taken. One at hand is kept until no one can want it
    /// for another connection.
    body: RequestBody,
    rest: Rest,
    /// Whether any byte of the request may have left.
    begun: bool,
    done: bool,
}

/// What of a body that passes through is still to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Rest {
    #[default]
    None,
    Length(u64),
    Chunks,
}

/// Why a request was not written.
#[derive(Debug)]
pub(super) enum RequestWriteError {
    Socket(io::Error),
    Body(BodyError),
}

impl Writer {
    /// Makes a request ready to be written.
    pub(super) fn begin(&mut self, request: &Outgoing<'_>, body: RequestBody, common: &Common) {
        let Self { out, .. } = self;
        out.clear();
        let (before, own) = request.via;
        let body_fields = [request.content_type, request.content_encoding];
        let values = [request.token, request.traceparent, before].into_iter().chain(body_fields);
        let values: usize = values.flatten().map(HeaderValue::len).sum();
        let target = request.path.len() + request.query.map_or(0, str::len);
        out.reserve(512 + common.block.len() + target + values);
        out.extend_from_slice(request.method.as_str().as_bytes());
        out.extend_from_slice(b" ");
        out.extend_from_slice(request.path.as_bytes());
        if let Some(query) = request.query {
            out.extend_from_slice(b"?");
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        out.extend_from_slice(&common.block);
        let bytes = HeaderValue::as_bytes;
        field(out, b"region: ", Some(request.region.as_bytes()));
        out.extend_from_slice(b"via: ");
        if let Some(before) = before {
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(b", ");
        }
        field(out, b"", Some(own.as_bytes()));
        field(out, b"token: ", request.token.map(bytes));
        field(out, b"content-type: ", request.content_type.map(bytes));
        field(out, b"content-encoding: ", request.content_encoding.map(bytes));
        field(out, b"x-request-id: ", request.request_id.map(str::as_bytes));
        field(out, b"traceparent: ", request.traceparent.map(bytes));
        self.begun = false;
        self.done = false;
        self.piece = Bytes::new();
        self.tail = b"";
        self.body = body;
        self.frame(request.method);
    }

    /// Ends the head with how the body is framed, and puts behind it what is at hand.
    fn frame(&mut self, method: &Method) {
        self.rest = Rest::None;
        let out = &mut self.out;
        match &self.body {
            // Where a body could be, it is said that there is none (RFC 9110 §8.6).
            RequestBody::Empty if [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
                content_length(out, 0);
            }
            RequestBody::Empty => {}
            RequestBody::Whole(bytes) => {
                content_length(out, bytes.len() as u64);
                if bytes.len() > COPIED {
                    self.piece = bytes.clone();
                }
            }
            RequestBody::Stream(upload) => match upload.size_hint().exact() {
                Some(length) => {
                    content_length(out, length);
                    self.rest = if length == 0 { Rest::None } else { Rest::Length(length) };
                }
                None => {
                    out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                    self.rest = Rest::Chunks;
                }
            },
        }
        out.extend_from_slice(b"\r\n");
        if let RequestBody::Whole(bytes) = &self.body
            && bytes.len() <= COPIED
        {
            out.extend_from_slice(bytes);
        }
    }

    /// Whether all of the request has left.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }

    /// Whether no byte of it has.
    pub(super) const fn is_unsent(&self) -> bool {
        !self.begun
    }

    /// The body of a request of which nothing was sent.
    pub(super) fn take_body(&mut self) -> RequestBody {
        let piece = std::mem::take(&mut self.piece);
        match std::mem::take(&mut self.body) {
            RequestBody::Stream(upload) => RequestBody::Stream(upload.unsent(piece)),
            whole => whole,
        }
    }

    /// Writes as much as can be. Ready when all has left.
    pub(super) fn poll(
        &mut self,
        socket: &mut UpstreamSocket,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), RequestWriteError>> {
        // What there is of a body already goes out with the head.
        if !self.begun
            && self.rest != Rest::None
            && self.piece.is_empty()
            && let Poll::Ready(pulled) = self.pull(context)
        {
            pulled.map_err(RequestWriteError::Body)?;
        }
        loop {
            while !(self.out.is_empty() && self.piece.is_empty() && self.tail.is_empty()) {
                self.begun |= !fails_unsent(socket);
                match ready!(self.write(socket, context)) {
                    Ok(0) => {
                        let error = io::ErrorKind::WriteZero.into();
                        return Poll::Ready(Err(RequestWriteError::Socket(error)));
                    }
                    Ok(length) => self.advance(length),
                    Err(error) => return Poll::Ready(Err(RequestWriteError::Socket(error))),
                }
            }
            if self.rest == Rest::None {
                ready!(Pin::new(socket).poll_flush(context)).map_err(RequestWriteError::Socket)?;
                self.done = true;
                self.body = RequestBody::Empty;
                return Poll::Ready(Ok(()));
            }
            match self.pull(context) {
                Poll::Ready(pulled) => pulled.map_err(RequestWriteError::Body)?,
                Poll::Pending => {
                    // What TLS holds must not wait for more.
                    _ = Pin::new(socket).poll_flush(context).map_err(RequestWriteError::Socket)?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn write(
        &self,
        socket: &mut UpstreamSocket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let socket = Pin::new(socket);
        if self.piece.is_empty() && self.tail.is_empty() {
            return socket.poll_write(context, &self.out);
        }
        let slices = [&self.out, &self.piece[..], self.tail].map(IoSlice::new);
        let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or_default();
        socket.poll_write_vectored(context, &slices[first..])
    }

    fn advance(&mut self, mut length: usize) {
        self.begun = true;
        let mut part = |whole: usize| {
            let part = length.min(whole);
            length -= part;
            part
        };
        self.out.advance(part(self.out.len()));
        self.piece.advance(part(self.piece.len()));
        self.tail = &self.tail[part(self.tail.len())..];
    }

    /// Takes what comes next of a body that passes through.
    fn pull(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            // The trailers of a caller are not on the list of what a third party sees.
            Some(frame) => self.take(frame?.into_data().unwrap_or_default()),
            None => self.end(),
        })
    }

    /// Takes the next piece of a body that passes through.
    fn take(&mut self, piece: Bytes) -> Result<(), BodyError> {
        match &mut self.rest {
            Rest::None => {}
            // A chunk of no bytes would be the last.
            Rest::Chunks if piece.is_empty() => {}
            Rest::Chunks => {
                self.out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                self.piece = piece;
                self.tail = b"\r\n";
            }
            Rest::Length(left) => {
                *left = left.checked_sub(piece.len() as u64).ok_or(BodyError::Request)?;
                if *left == 0 {
                    self.rest = Rest::None;
                }
                self.piece = piece;
            }
        }
        Ok(())
    }

    /// Hears that there are no more pieces.
    fn end(&mut self) -> Result<(), BodyError> {
        match std::mem::take(&mut self.rest) {
            Rest::None => {}
            Rest::Chunks => self.tail = b"0\r\n\r\n",
            Rest::Length(_) => return Err(BodyError::Request),
        }
        Ok(())
    }
}

/// A field with a value that cannot hold the end of a line: whoever made it saw to that.
fn field(out: &mut BytesMut, name: &[u8], value: Option<&[u8]>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

fn content_length(out: &mut BytesMut, length: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}
