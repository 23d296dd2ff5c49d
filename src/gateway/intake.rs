//! Step 5 of the way: what a request holds besides its head, read, bounded and checked.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Version};

use super::arriving::Arriving;
use super::authority::Authority;
use super::site::{BodySettings, Site};
use crate::api::{self, Access, Body, Field, Matched, Object, Priority, TokenRequest};
use crate::failure::{Code, Failure};
use crate::field::REGION;
use crate::field::list::media_type;
use crate::policy::{Grant, Permit};
use crate::server::Linger;
use crate::upstream::{Call, RequestBody};

/// What a body that was checked is labelled.
static JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A request, read.
pub(super) struct Intake<'a> {
    /// What can be forwarded.
    pub(super) call: Call<'a>,
    /// The token that it asks for.
    asks: Option<TokenRequest>,
    /// The token that it gets, once that was decided.
    pub(super) grant: Option<Grant>,
}

impl Intake<'_> {
    /// Decides about the token that it asks for, where it asks for one.
    ///
    /// # Errors
    /// `forbidden`, as [`Permit::grant`].
    pub(super) fn is_granted_by(&mut self, permit: &Permit<'_>) -> Result<(), Failure> {
        self.grant = self.asks.as_ref().map(|asks| permit.grant(asks)).transpose()?;
        Ok(())
    }
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
        body: &mut Arriving,
        asked: &'a Matched<'_>,
        authority: &'a Authority,
    ) -> Result<Intake<'a>, Failure> {
        let headers = request.headers();
        let via = self.upstream.check_loop(headers)?;
        let region = self.region(headers)?;
        let query = asked.operation.query.normalize(request.uri().query())?;
        let mut content_type = None;
        let mut asks = None;
        let body = match asked.operation.body {
            Body::None => {
                if !body.is_empty(&self.bodies).await? {
                    let why = "this operation takes no body";
                    return Err(Failure::fixed(Code::InvalidBody, why));
                }
                RequestBody::Empty
            }
            Body::Json(fields) => {
                self.bodies.check_type(headers)?;
                let mut bytes = body.whole(&self.bodies).await?;
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
                if body.is_empty(&self.bodies).await? {
                    RequestBody::Empty
                } else {
                    content_type = headers.get(CONTENT_TYPE);
                    body.pass(&self.bodies, || authority.over_upload(request))?
                }
            }
        };
        let call = Call {
            operation: asked.operation,
            authority,
            operation_id: asked.id,
            caller: 0,
            priority: Priority::default(),
            path: asked.path(),
            query,
            region,
            body,
            content_type,
            via,
            http2: request.version() == Version::HTTP_2,
        };
        Ok(Intake { call, asks, grant: None })
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

    /// How much is read of a body whose request was answered before: what a body may have, and of
    /// one that has too much for a while more.
    pub(super) fn linger(&self) -> Linger {
        Linger { bytes: self.bytes.max(Linger::default().bytes), time: self.timeout }
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
