//! An answer that is being read: whole when it is short or no success, as far as its beginning
//! otherwise.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::body::{AnswerBody, Fault, Source, Stream};
use crate::failure::{Code, Failure, ProxyError};
use crate::token::without_tokens;
use crate::upstream::connection::head::Head;
use crate::upstream::connection::http1::WHOLE;

/// An answer, read as far as it is before the caller gets a byte.
pub(in crate::upstream) struct Read {
    pub(in crate::upstream) head: Head,
    pub(super) body: AnswerBody,
    /// The JSON object of a failure.
    pub(super) told: Option<Map<String, Value>>,
}

impl Read {
    /// An answer that came whole.
    pub(super) fn whole(head: Head, body: Bytes) -> Self {
        let told = if head.status.is_success() { None } else { object(&body) };
        Self { head, body: AnswerBody::Whole(body), told }
    }
}

/// An answer that is being read: whole when it is short or no success, begun otherwise.
pub(in crate::upstream) struct Reading {
    head: Head,
    body: Source,
    /// Most bodies come in one piece, which is passed on as it is.
    first: Bytes,
    more: Vec<Bytes>,
    length: usize,
    /// All of it has come.
    ended: bool,
}

impl Reading {
    pub(in crate::upstream) const fn new(head: Head, body: Source) -> Self {
        Self { head, body, first: Bytes::new(), more: Vec::new(), length: 0, ended: false }
    }

    /// Ready when enough was read.
    pub(in crate::upstream) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        let success = self.head.status.is_success();
        while self.length <= WHOLE && !(success && self.body.is_over(WHOLE as u64)) {
            match ready!(self.body.poll_piece(context)) {
                None => {
                    self.ended = true;
                    break;
                }
                Some(Err(Fault::Late)) => return Poll::Ready(Err(slow())),
                Some(Err(fault)) => return Poll::Ready(Err(incomplete(&fault))),
                Some(Ok(piece)) => {
                    self.length += piece.len();
                    if self.first.is_empty() {
                        self.first = piece;
                    } else {
                        self.more.push(piece);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What was read.
    pub(in crate::upstream) fn into_read(self) -> Read {
        let Self { head, body, first, mut more, length, ended } = self;
        if ended {
            return Read::whole(head, whole(first, &more, length));
        }
        if !head.status.is_success() {
            // The rest of a failure is not waited for.
            let body = AnswerBody::Whole(whole(first, &more, length).slice(..WHOLE));
            return Read { head, body, told: None };
        }
        if !first.is_empty() {
            more.insert(0, first);
        }
        Read { head, body: AnswerBody::Stream(Box::new(Stream::new(more, body))), told: None }
    }
}

fn whole(first: Bytes, more: &[Bytes], length: usize) -> Bytes {
    if more.is_empty() {
        return first;
    }
    let mut whole = BytesMut::with_capacity(length);
    whole.extend_from_slice(&first);
    more.iter().for_each(|piece| whole.extend_from_slice(piece));
    whole.freeze()
}

/// The JSON object of a failure, with no token in it.
fn object(body: &Bytes) -> Option<Map<String, Value>> {
    match serde_json::from_slice(body).map(plain) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// Looks through what was parsed: JSON can write every letter of a token as an escape.
fn plain(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(without_tokens(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(members) => {
            let plain =
                |(name, value): (String, Value)| (without_tokens(&name).into_owned(), plain(value));
            members.into_iter().map(plain).collect()
        }
        other => other,
    }
}

fn slow() -> Failure {
    let why = "the whiteboard service's answer came too slowly";
    Failure::fixed(Code::UpstreamTimeout, why)
}

fn incomplete(fault: &Fault) -> Failure {
    let why = "the whiteboard service's answer broke off";
    Failure::fixed(Code::UpstreamError, why)
        .with_proxy_error(ProxyError::ResponseIncomplete)
        .with_detail(fault.to_string())
}
