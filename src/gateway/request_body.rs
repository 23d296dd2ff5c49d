//! The body of a request as it arrives: bounded, timed, and kept once it has come, for a request
//! that begins again.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::body_settings::BodySettings;
use crate::failure::{Code, Failure};
use crate::net::within;
use crate::upstream::{FinalCheck, RequestBody, Upload};

/// The body of a request.
pub(super) enum ArrivingBody {
    /// What has come, and what is to come behind it.
    Coming(Bytes, Incoming),
    /// All of it.
    Come(Bytes),
    /// It has passed through.
    Gone,
}

impl ArrivingBody {
    pub(super) const fn new(body: Incoming) -> Self {
        Self::Coming(Bytes::new(), body)
    }

    /// Whether there are no bytes in it, which may have to be waited for.
    ///
    /// How it is framed says nothing: proxies make an empty body in chunks, or an empty DATA frame,
    /// of a request that has none.
    pub(super) async fn is_empty(&mut self, bounds: &BodySettings) -> Result<bool, Failure> {
        let Self::Coming(first, rest) = self else {
            return Ok(matches!(self, Self::Come(bytes) if bytes.is_empty()));
        };
        if !first.is_empty() {
            return Ok(false);
        }
        if !rest.is_end_stream() {
            let reading = within(bounds.timeout, next_piece(rest));
            if let Some(piece) = reading.await.unwrap_or_else(|| Err(late()))? {
                *first = piece;
                return Ok(false);
            }
        }
        *self = Self::Come(Bytes::new());
        Ok(true)
    }

    /// All of it. Most are there already: those need no clock.
    pub(super) async fn whole(&mut self, bounds: &BodySettings) -> Result<Bytes, Failure> {
        let bytes = match std::mem::replace(self, Self::Gone) {
            Self::Coming(first, rest) => {
                bounds.check_length(first.len(), &rest)?;
                let mut reading = pin!(bounds.collect(first, rest));
                let begun = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
                let Poll::Ready(read) = begun else {
                    let read = within(bounds.timeout, reading).await;
                    return self.has_come(read.unwrap_or_else(|| Err(late()))?);
                };
                read?
            }
            Self::Come(bytes) if bytes.len() > bounds.bytes => return Err(bounds.too_large()),
            Self::Come(bytes) => bytes,
            Self::Gone => return Err(gone()),
        };
        self.has_come(bytes)
    }

    fn has_come(&mut self, bytes: Bytes) -> Result<Bytes, Failure> {
        *self = Self::Come(bytes.clone());
        Ok(bytes)
    }

    /// As it comes.
    pub(super) fn pass(
        &mut self,
        bounds: &BodySettings,
        last_look: impl FnOnce() -> Rc<dyn FinalCheck>,
    ) -> Result<RequestBody, Failure> {
        match std::mem::replace(self, Self::Gone) {
            Self::Coming(first, rest) => {
                bounds.check_length(first.len(), &rest)?;
                let BodySettings { bytes, timeout, .. } = *bounds;
                Ok(RequestBody::Stream(Upload::new(first, rest, bytes, timeout, last_look())))
            }
            Self::Come(bytes) if bytes.len() > bounds.bytes => Err(bounds.too_large()),
            Self::Come(bytes) => Ok(RequestBody::Whole(bytes)),
            Self::Gone => Err(gone()),
        }
    }

    /// What becomes of a body that was passed on, or was to be: a request that begins again takes it
    /// back, where that is possible, and any other needs it no more.
    pub(super) fn take_back(&mut self, body: &mut RequestBody, failure: Option<&Failure>) {
        let RequestBody::Stream(upload) = std::mem::take(body) else { return };
        if !failure.is_some_and(Failure::is_superseded) {
            upload.is_decided();
        } else if let Some((come, rest)) = upload.into_parts() {
            *self = Self::Coming(come, rest);
        }
    }
}

impl BodySettings {
    fn check_length(&self, come: usize, rest: &Incoming) -> Result<(), Failure> {
        let promised = rest.size_hint().lower().saturating_add(come as u64);
        if promised > self.bytes as u64 { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Failure {
        let why = format!("the body of the request is over {} bytes", self.bytes);
        Failure::new(Code::BodyTooLarge, why).closing()
    }

    /// All pieces of a body. One that comes in one piece, as most do, is not copied.
    async fn collect(&self, mut first: Bytes, mut rest: Incoming) -> Result<Bytes, Failure> {
        let mut more = BytesMut::new();
        while let Some(data) = next_piece(&mut rest).await? {
            if first.len() + more.len() + data.len() > self.bytes {
                return Err(self.too_large());
            }
            if first.is_empty() {
                first = data;
            } else {
                more.extend_from_slice(&data);
            }
        }
        if more.is_empty() {
            return Ok(first);
        }
        let mut whole = BytesMut::with_capacity(first.len() + more.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&more);
        Ok(whole.freeze())
    }
}

/// The next bytes of a body. What is no data is trailers, which are dropped.
async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(broken)?.into_data().unwrap_or_default();
        if !data.is_empty() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// It went to the upstream as far as it came, and no one has it any more.
fn gone() -> Failure {
    let why = "what this request is allowed by changed while its body was passed on: send it again";
    Failure::fixed(Code::Overloaded, why).with_retry_after(Duration::from_secs(1)).closing()
}

fn late() -> Failure {
    let why = "the body of the request did not arrive in time";
    Failure::fixed(Code::RequestTimeout, why).closing()
}

fn broken(error: hyper::Error) -> Failure {
    let why = "the body of the request is incomplete or malformed";
    Failure::fixed(Code::MalformedRequest, why).with_detail(error.to_string()).closing()
}
