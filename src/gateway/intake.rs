//! Step 5 of the way: what a request holds besides its head, read, bounded and checked.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::site::{BodySettings, Site};
use crate::api::{self, Access, Body, Field, Matched, Object, Priority, TokenRequest};
use crate::failure::{Code, Failure};
use crate::field::REGION;
use crate::field::list::media_type;
use crate::upstream::{Call, RequestBody, Upload};

/// What a body that was checked is labelled.
static JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request, read.
pub(super) struct Intake<'a> {
    /// What can be forwarded.
    pub(super) call: Call<'a>,
    /// The token that it asks for.
    pub(super) asks: Option<TokenRequest>,
}

impl Site {
    /// Reads and checks the region, the query and the body.
    ///
    /// # Errors
    /// `malformed_request`, `invalid_body`, `too_large`, `unsupported_media_type`,
    /// `request_timeout`, `loop_detected`: whatever is wrong first.
    pub(super) async fn read<'a>(
        &'a self,
        request: &'a Request<()>,
        body: Incoming,
        asked: &'a Matched<'_>,
    ) -> Result<Intake<'a>, Failure> {
        let headers = request.headers();
        let via = self.upstream.check_loop(headers)?;
        let region = self.region(headers)?;
        let query = asked.operation.query.normalize(request.uri().query())?;
        let mut content_type = None;
        let mut asks = None;
        let body = match asked.operation.body {
            Body::None => {
                if self.bodies.first_bytes(body).await?.is_some() {
                    let why = "this operation takes no body";
                    return Err(Failure::fixed(Code::InvalidBody, why));
                }
                RequestBody::Empty
            }
            Body::Json(fields) => {
                self.bodies.check_type(headers)?;
                let mut bytes = self.bodies.collect(body).await?;
                let object = self.bodies.check(&mut bytes, fields)?;
                if let Access::Mints(kind) = asked.operation.access {
                    asks = TokenRequest::from_checked(kind, &object);
                    if asks.is_none() {
                        return Err(Failure::fixed(
                            Code::InvalidBody,
                            "the body asks for no token",
                        ));
                    }
                }
                content_type = Some(&JSON);
                RequestBody::Whole(bytes)
            }
            Body::Opaque => {
                self.bodies.check_length(&body)?;
                match self.bodies.first_bytes(body).await? {
                    None => RequestBody::Empty,
                    Some((first, _)) if first.len() > self.bodies.bytes => {
                        return Err(self.bodies.too_large());
                    }
                    Some((first, rest)) => {
                        content_type = headers.get(CONTENT_TYPE);
                        let BodySettings { bytes, timeout, .. } = self.bodies;
                        RequestBody::Stream(Upload::new(first, rest, bytes, timeout))
                    }
                }
            }
        };
        let call = Call {
            operation: asked.operation,
            priority: Priority::default(),
            path: asked.path(),
            query,
            region,
            body,
            content_type,
            via,
            http2: request.version() == Version::HTTP_2,
        };
        Ok(Intake { call, asks })
    }

    /// The region that was named, or the default; two that are named are refused, also two equal
    /// ones.
    fn region<'a>(&'a self, headers: &'a HeaderMap) -> Result<&'a HeaderValue, Failure> {
        // Passing over all fields takes less than to look for one.
        let mut named = headers.iter().filter(|(name, _)| **name == REGION);
        let Some((_, region)) = named.next() else { return Ok(&self.default_region) };
        if named.next().is_some() {
            let why = "the request has more than one `region` header";
            return Err(Failure::fixed(Code::MalformedRequest, why));
        }
        let text = region.to_str().unwrap_or_default();
        self.regions.parse(text).map_err(|unknown| {
            let why = format!("the `region` header names no region that is known here: {unknown}");
            Failure::new(Code::MalformedRequest, why)
        })?;
        Ok(region)
    }
}

impl BodySettings {
    fn check_type(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if !self.strict_content_type {
            return Ok(());
        }
        let Some(label) = headers.get(CONTENT_TYPE) else { return Ok(()) };
        let named = media_type(label.as_bytes());
        if named.is_some_and(|named| named.eq_ignore_ascii_case(b"application/json")) {
            return Ok(());
        }
        let why = "the body must be labelled `Content-Type: application/json`";
        Err(Failure::fixed(Code::UnsupportedMediaType, why))
    }

    fn check_length(&self, body: &Incoming) -> Result<(), Failure> {
        let promised = body.size_hint().lower();
        if promised > self.bytes as u64 { Err(self.too_large()) } else { Ok(()) }
    }

    fn too_large(&self) -> Failure {
        let why = format!("the body of the request is over {} bytes", self.bytes);
        Failure::new(Code::BodyTooLarge, why).closing()
    }

    /// The first bytes of a body, and what is to come behind them; `None` for a body without any.
    ///
    /// How it is framed says nothing: proxies make an empty body in chunks, or an empty DATA frame,
    /// of a request that has none.
    async fn first_bytes(&self, mut body: Incoming) -> Result<Option<(Bytes, Incoming)>, Failure> {
        if body.is_end_stream() {
            return Ok(None);
        }
        let first = timeout(self.timeout, async {
            while let Some(frame) = body.frame().await {
                // What is no data is trailers, which are dropped.
                let data = frame.map_err(broken)?.into_data().unwrap_or_default();
                if !data.is_empty() {
                    return Ok(Some(data));
                }
            }
            Ok(None)
        });
        let first = first.await.unwrap_or_else(|_| Err(late()))?;
        Ok(first.map(|first| (first, body)))
    }

    /// Reads a body whole. Most are there already: those need no clock.
    async fn collect(&self, body: Incoming) -> Result<Bytes, Failure> {
        self.check_length(&body)?;
        let mut reading = pin!(self.pieces(body));
        let begun = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
        let Poll::Ready(read) = begun else {
            return timeout(self.timeout, reading).await.unwrap_or_else(|_| Err(late()));
        };
        read
    }

    /// All pieces of a body. One that comes in one piece, as most do, is not copied.
    async fn pieces(&self, mut body: Incoming) -> Result<Bytes, Failure> {
        let mut first = Bytes::new();
        let mut more = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
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

    /// Checks a body; an empty one is `{}`.
    fn check<'a>(
        &self,
        bytes: &'a mut Bytes,
        fields: &'static [Field],
    ) -> Result<Object<'a>, Failure> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            *bytes = Bytes::from_static(b"{}");
        }
        let object = api::parse_object(bytes)?;
        api::check_object(&object, fields, self.unknown_fields)?;
        Ok(object)
    }
}

fn late() -> Failure {
    let why = "the body of the request did not arrive in time";
    Failure::fixed(Code::RequestTimeout, why).closing()
}

fn broken(error: hyper::Error) -> Failure {
    let why = "the body of the request is incomplete or malformed";
    Failure::fixed(Code::MalformedRequest, why).with_detail(error.to_string()).closing()
}
