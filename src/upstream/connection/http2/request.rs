//! A request in the form of HTTP/2.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue,
    USER_AGENT, VIA,
};
use http::uri::{self, Scheme};
use http::{Method, Request, Uri, Version};
use http_body::Body as _;

use crate::api::TokenKind;
use crate::failure::{Code, Failure};
use crate::field::{REGION, TOKEN, TRACEPARENT, X_REQUEST_ID};
use crate::net;
use crate::token::kind_of;
use crate::upstream::request::body::RequestBody;
use crate::upstream::request::outgoing::{self, Common, OwnedOutgoing};

/// A request in the form of HTTP/2: it has no `Host` but an authority in its target (RFC 9113
/// §8.3.1).
pub(in crate::upstream) fn request(
    outgoing: &OwnedOutgoing,
    body: &RequestBody,
    common: &Common,
) -> Result<Request<()>, Failure> {
    let mut target = uri::Parts::default();
    target.scheme = Some(Scheme::HTTPS);
    target.authority = Some(common.authority.clone());
    target.path_and_query = outgoing.target.parse().ok();
    let mut request = Request::new(());
    *request.method_mut() = outgoing.method.clone();
    *request.uri_mut() = Uri::from_parts(target).map_err(|_| {
        let why = "the request target cannot be forwarded";
        Failure::fixed(Code::MalformedRequest, why)
    })?;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.reserve(8);
    headers.insert(ACCEPT, HeaderValue::from_static(outgoing::ACCEPT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(outgoing::ACCEPT_ENCODING));
    headers.insert(USER_AGENT, HeaderValue::from_static(net::USER_AGENT));
    headers.insert(REGION, outgoing.region.clone());
    headers.insert(VIA, outgoing.via.clone());
    if let Some(token) = &outgoing.token {
        headers.insert(TOKEN, for_tables(token));
    }
    for (name, value) in [
        (CONTENT_TYPE, &outgoing.content_type),
        (CONTENT_ENCODING, &outgoing.content_encoding),
        (X_REQUEST_ID, &outgoing.request_id),
        (TRACEPARENT, &outgoing.traceparent),
    ] {
        if let Some(value) = value {
            headers.insert(name, value.clone());
        }
    }
    // A method that has content says its length, also of none (RFC 9110 §8.6).
    if let Some(length) = body.size_hint().exact()
        && (length > 0 || matches!(outgoing.method, Method::POST | Method::PUT | Method::PATCH))
    {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(request)
}

/// A token as the tables of the connection may have it. That of a project is what most requests carry:
/// kept there it is one byte. No one but the gateway chooses what it is compared with, and it is
/// compared whole, so that no one can find it out by the lengths of others (RFC 7541 §7.1). Those of
/// rooms and tasks would take the place of what is the same in all requests.
fn for_tables(token: &HeaderValue) -> HeaderValue {
    let mut token = token.clone();
    let kind = token.to_str().ok().and_then(kind_of);
    token.set_sensitive(kind != Some(TokenKind::Sdk));
    token
}
