//! A request to the upstream, built anew from an allow-list: nothing of a caller's reaches a third
//! party unless it is named here.
//!
//! It is in the form of no version of HTTP yet, since one that was not sent on a connection may
//! find the next to be of another version.

use http::Method;
use http::header::{HeaderName, HeaderValue};

use super::forward::{Call, Upstream};
use super::{RequestBody, Settings, TlsSetupError};
use crate::failure::{Code, Failure};
use crate::trace::Context;

pub(super) const TOKEN: HeaderName = HeaderName::from_static("token");
pub(super) const REGION: HeaderName = HeaderName::from_static("region");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What the gateway takes, and by which name it goes.
pub(super) const ACCEPT: &str = "application/json";
pub(super) const ACCEPT_ENCODING: &str = "identity";
pub(super) const USER_AGENT: &str = concat!("whiteboard-gateway/", env!("CARGO_PKG_VERSION"));

/// What requests to one upstream have in common.
pub(super) struct Common {
    /// What `Host` and `:authority` say.
    pub(super) authority: HeaderValue,
    /// The fields that never change, as HTTP/1.1 writes them.
    pub(super) block: Box<[u8]>,
    /// The gateway's own `Via`, for callers of HTTP/1.1 and of HTTP/2.
    via: [HeaderValue; 2],
}

/// A request that can be sent.
pub(super) struct Outgoing {
    pub(super) method: Method,
    /// Path and query: printable ASCII without a fragment.
    pub(super) target: String,
    pub(super) token: Option<HeaderValue>,
    pub(super) region: HeaderValue,
    pub(super) content_type: Option<HeaderValue>,
    pub(super) via: HeaderValue,
    pub(super) request_id: Option<HeaderValue>,
    pub(super) traceparent: Option<HeaderValue>,
    pub(super) body: RequestBody,
}

impl Common {
    pub(super) fn new(settings: &Settings) -> Result<Self, TlsSetupError> {
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| TlsSetupError::Name);
        let authority = value(&settings.origin.authority)?;
        let via =
            [value(&format!("1.1 {}", settings.via))?, value(&format!("2.0 {}", settings.via))?];
        let mut block = b"host: ".to_vec();
        block.extend_from_slice(authority.as_bytes());
        for (name, field) in
            [("accept", ACCEPT), ("accept-encoding", ACCEPT_ENCODING), ("user-agent", USER_AGENT)]
        {
            block.extend_from_slice(format!("\r\n{name}: {field}").as_bytes());
        }
        block.extend_from_slice(b"\r\n");
        Ok(Self { authority, block: block.into(), via })
    }
}

impl Outgoing {
    /// Takes of a call what the upstream is to see.
    ///
    /// # Errors
    /// `malformed_request`: its target could be read as more than a target.
    pub(super) fn new(
        call: &Call<'_>,
        request_id: &str,
        token: Option<&HeaderValue>,
        body: RequestBody,
        upstream: &Upstream,
    ) -> Result<Self, Failure> {
        let Upstream { common, settings, .. } = upstream;
        let own = &common.via[usize::from(call.http2)];
        let via = call.via.as_ref().and_then(|before| joined(before, own));
        let request_id = || HeaderValue::from_str(request_id).ok();
        Ok(Self {
            method: call.operation.method.clone(),
            target: target(&call.path, call.query.as_deref())?,
            token: token.cloned(),
            region: call.region.clone(),
            content_type: call.content_type.cloned(),
            via: via.unwrap_or_else(|| own.clone()),
            request_id: if settings.send_request_id { request_id() } else { None },
            traceparent: None,
            body,
        })
    }

    /// Says which trace it belongs to, where the third party is to know.
    pub(super) fn belongs_to(&mut self, context: Context, settings: &Settings) {
        self.traceparent = settings.send_traceparent.then(|| context.value());
    }
}

/// Path and query. They were put into their normal form long before; that no byte of them can end
/// a request line is seen to here, beside where it is written.
fn target(path: &str, query: Option<&str>) -> Result<String, Failure> {
    let query = query.unwrap_or_default();
    let mut target = String::with_capacity(path.len() + query.len() + 1);
    target.push_str(path);
    if !query.is_empty() {
        target.push('?');
        target.push_str(query);
    }
    let plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if plain && target.starts_with('/') {
        return Ok(target);
    }
    Err(Failure::fixed(Code::MalformedRequest, "the request target cannot be forwarded"))
}

/// Two values of a field that is a list, as one.
pub(super) fn joined(before: &HeaderValue, after: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&[before.as_bytes(), after.as_bytes()].join(&b", "[..])).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_holds_nothing_that_could_end_it() {
        assert_eq!(target("/v5/rooms", None).unwrap(), "/v5/rooms");
        assert_eq!(target("/v5/rooms", Some("a=%20b&c")).unwrap(), "/v5/rooms?a=%20b&c");
        for (path, query) in [
            ("/a b", None),
            ("/a\r\nhost: x", None),
            ("/a", Some("b\n")),
            ("/a", Some("b c")),
            ("/a#b", None),
            ("/a", Some("b#c")),
            ("/\u{7f}", None),
            ("/é", None),
            ("", None),
            ("*", None),
            ("http://elsewhere/", None),
        ] {
            let failure = target(path, query).err().unwrap();
            assert_eq!(failure.code(), Code::MalformedRequest, "{path} {query:?}");
        }
    }
}
