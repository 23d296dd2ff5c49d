//! A socket of HTTP/2 whose caller ends its side right behind the last frame of what it asks.
//!
//! It reads the frames that pass (RFC 9113 §4.1), so that the end comes in the same read as that frame and
//! never within a request. What h2 would write behind it is swallowed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::network::End;

const PREFACE: usize = 24;
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;

/// When a caller ends its side: behind so many requests.
#[derive(Clone, Default)]
pub(super) struct EndsBehind(Rc<Inner>);

#[derive(Default)]
struct Inner {
    /// `None` for not yet, or never.
    requests: Cell<Option<usize>>,
    ended: Cell<bool>,
    frames: RefCell<Frames>,
}

/// What was written, as far as it matters.
#[derive(Default)]
struct Frames {
    /// What was written of the preface, and of the head of a frame.
    preface: usize,
    head: Vec<u8>,
    /// What is left of the payload of a frame.
    payload: usize,
    /// The streams that were begun, and those on which nothing more comes.
    begun: BTreeSet<u32>,
    over: BTreeSet<u32>,
}

/// The socket.
pub(super) struct HalfClosing {
    pub(super) socket: End,
    pub(super) ends: EndsBehind,
}

impl EndsBehind {
    /// From now on nothing more is asked than these requests.
    pub(super) fn set(&self, requests: usize) {
        self.0.requests.set(Some(requests));
    }

    /// Whether it has ended its side.
    pub(super) fn is_ended(&self) -> bool {
        self.0.ended.get()
    }

    /// Ends it, where everything was written. Looked at when nothing is left to write, for how much a
    /// write takes hangs on its length, and that of a date or a token is not the same in each run.
    fn look(&self, socket: &mut End, context: &mut Context<'_>) {
        let Inner { requests, ended, frames } = &*self.0;
        let frames = frames.borrow();
        let is_due = requests.get().is_some_and(|count| frames.begun.len() == count)
            && frames.over.len() == frames.begun.len()
            && frames.head.is_empty()
            && frames.payload == 0;
        if is_due && !ended.get() {
            ended.set(Pin::new(socket).poll_shutdown(context).is_ready());
        }
    }
}

impl Frames {
    fn written(&mut self, mut bytes: &[u8]) {
        let preface = bytes.len().min(PREFACE - self.preface);
        self.preface += preface;
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let payload = bytes.len().min(self.payload);
            self.payload -= payload;
            bytes = &bytes[payload..];
            let head = bytes.len().min(HEAD - self.head.len());
            self.head.extend_from_slice(&bytes[..head]);
            bytes = &bytes[head..];
            if let [high, middle, low, kind, flags, a, b, c, d] = self.head[..] {
                self.payload = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.frame(kind, flags, u32::from_be_bytes([a, b, c, d]));
                self.head.clear();
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32) {
        if kind == HEADERS {
            self.begun.insert(stream);
        }
        if kind == RST_STREAM || matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.over.insert(stream);
        }
    }
}

impl AsyncRead for HalfClosing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for HalfClosing {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { socket, ends } = &mut *self;
        if ends.is_ended() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(socket).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            ends.0.frames.borrow_mut().written(&bytes[..count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, ends } = &mut *self;
        ends.look(socket, context);
        Pin::new(socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_known_in_whatever_pieces_they_are_written() {
        let mut all = vec![b'P'; PREFACE];
        for (kind, flags, stream, length) in
            [(4, 0, 0, 6), (HEADERS, 4, 1, 3), (HEADERS, 5, 3, 2), (DATA, 0, 1, 9), (DATA, 1, 1, 0)]
        {
            all.extend_from_slice(&[0, 0, length, kind, flags, 0, 0, 0, stream]);
            all.extend(vec![1; length.into()]);
        }
        for size in 1..all.len() {
            let mut frames = Frames::default();
            all.chunks(size).for_each(|piece| frames.written(piece));
            assert_eq!((frames.begun, frames.over), ([1, 3].into(), [1, 3].into()), "{size}");
        }
    }
}
