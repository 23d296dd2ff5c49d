//! Step 5 of the way: what a request holds besides its head, read, bounded and checked.

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Version};

use super::authority::RequestAuthority;
use super::body_settings::BodySettings;
use super::snapshot::Snapshot;
use super::state::RequestState;
use crate::api::{self, Access, BodySpec, Field, Matched, Object, Priority, TokenRequest};
use crate::edge::check_loop;
use crate::failure::{Code, Failure};
use crate::field::REGION;
use crate::field::list::media_type;
use crate::server::Linger;
use crate::text;
use crate::upstream::{Call, RequestBody};

/// What a body that was checked is labelled.
static JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Snapshot {
    /// Reads and checks the region, the query and the body: what can be forwarded, and the token that
    /// is asked for.
    ///
    /// # Errors
    /// `malformed_request`, `invalid_body`, `too_large`, `unsupported_media_type`,
    /// `request_timeout`, `loop_detected`: whatever is wrong first.
    pub(super) async fn read<'a>(
        &'a self,
        request: &'a Request<()>,
        state: &mut RequestState,
        asked: &'a Matched<'_>,
        authority: &'a RequestAuthority,
    ) -> Result<(Call<'a>, Option<TokenRequest>), Failure> {
        let body = &mut state.body;
        let headers = request.headers();
        let via = check_loop(headers, &self.upstream.settings.via)?;
        let region = self.region(headers)?;
        let query = asked.operation.query.normalize(request.uri().query())?;
        let mut content_type = None;
        let mut content_encoding = None;
        let mut asks = None;
        let body = match asked.operation.body {
            BodySpec::None => {
                if !body.is_empty(&self.bodies).await? {
                    let why = "this operation takes no body";
                    return Err(Failure::fixed(Code::InvalidBody, why));
                }
                RequestBody::Empty
            }
            BodySpec::Json(fields) => {
                self.bodies.check_type(headers)?;
                refuse_coding(headers)?;
                let mut bytes = body.whole(&self.bodies).await?;
                let object = self.bodies.check(&mut bytes, fields, headers.get(CONTENT_TYPE))?;
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
            BodySpec::Opaque => {
                if body.is_empty(&self.bodies).await? {
                    RequestBody::Empty
                } else {
                    refuse_a_part(headers)?;
                    content_type = headers.get(CONTENT_TYPE);
                    content_encoding = coding(headers)?;
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
            content_encoding,
            via,
            http2: request.version() == Version::HTTP_2,
            progress: state.progress,
        };
        Ok((call, asks))
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

    /// Checks a body, and leaves what is to be forwarded of it: without a byte order mark, and `{}`
    /// for one that is empty, or an empty list, as some languages write an empty object.
    fn check<'a>(
        &self,
        bytes: &'a mut Bytes,
        fields: &'static [Field],
        label: Option<&HeaderValue>,
    ) -> Result<Object<'a>, Failure> {
        let marked = bytes.len() - text::without_bom(bytes).len();
        bytes.advance(marked);
        if bytes.iter().all(u8::is_ascii_whitespace) || is_empty_list(bytes) {
            if let Some(failure) = missing(bytes, fields) {
                return Err(failure);
            }
            *bytes = Bytes::from_static(b"{}");
        }
        let object = match api::parse_object(bytes) {
            Ok(object) => object,
            Err(failure) => return Err(named(failure, bytes, label)),
        };
        api::check_object(&object, fields, self.unknown_fields)?;
        Ok(object)
    }
}

/// `[]`, with whatever white space.
fn is_empty_list(bytes: &[u8]) -> bool {
    let inside = bytes.trim_ascii().strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// A list was sent where fields are required: it is not taken for an object then.
fn missing(bytes: &[u8], fields: &'static [Field]) -> Option<Failure> {
    let required: Vec<_> = fields.iter().filter(|field| field.required).collect();
    if required.is_empty() || bytes.trim_ascii().is_empty() {
        return None;
    }
    let names: Vec<_> = required.iter().map(|field| format!("`{}`", field.name)).collect();
    let why = format!("the body must be an object with {}, found an empty list", names.join(", "));
    Some(Failure::new(Code::InvalidBody, why))
}

/// A body that is no JSON, named for what it is.
fn named(failure: Failure, bytes: &[u8], label: Option<&HeaderValue>) -> Failure {
    match api::what_it_is(bytes, label.map(HeaderValue::as_bytes)) {
        None => failure,
        Some(what) => Failure::fixed(Code::InvalidBody, what),
    }
}

/// The coding of a body; none where the field is empty or says that there is none.
fn coding(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Failure> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let coding = codings.next();
    if codings.next().is_some() {
        let why = "the request has more than one Content-Encoding field: name the codings in one";
        return Err(Failure::fixed(Code::MalformedRequest, why));
    }
    let none = |said: &[u8]| said.is_empty() || said.eq_ignore_ascii_case(b"identity");
    Ok(coding.filter(|coding| !none(coding.as_bytes().trim_ascii())))
}

/// JSON is checked, so it must come plain (RFC 9110 §8.4).
fn refuse_coding(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(coding) = coding(headers)? else { return Ok(()) };
    let known = ["gzip", "deflate", "br", "zstd", "compress"];
    let named = known.iter().find(|name| coding.as_bytes().eq_ignore_ascii_case(name.as_bytes()));
    let what = named.map_or_else(|| "coded".to_owned(), |name| format!("{name}-coded"));
    let why = format!("the body is {what} and must come plain: send it without Content-Encoding");
    Err(Failure::new(Code::UnsupportedMediaType, why))
}

/// A part of a representation would be stored as the whole (RFC 9110 §14.4).
fn refuse_a_part(headers: &HeaderMap) -> Result<(), Failure> {
    if !headers.contains_key(CONTENT_RANGE) {
        return Ok(());
    }
    let why = "a part of a body (Content-Range) is not taken: send it whole";
    Err(Failure::fixed(Code::MalformedRequest, why))
}
