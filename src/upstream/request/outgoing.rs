//! A request to the upstream, built anew from an allow-list: nothing of a caller's reaches a third
//! party unless it is named here.
//!
//! It is in the form of no version of HTTP yet, since one that was not sent on a connection may
//! find the next to be of another version.

use http::Method;
use http::header::HeaderValue;
use http::uri::Authority;

use super::call::Call;
use crate::failure::{Code, Failure};
use crate::field::{joined, unique};
use crate::net::USER_AGENT;
use crate::upstream::settings::Settings;

/// What the gateway takes, and by which name it goes.
pub(in crate::upstream) const ACCEPT: &str = "application/json";
pub(in crate::upstream) const ACCEPT_ENCODING: &str = "identity";

/// What requests to one upstream have in common.
pub(in crate::upstream) struct Common {
    /// What `Host` and `:authority` say.
    pub(in crate::upstream) authority: Authority,
    /// The fields that never change, as HTTP/1.1 writes them.
    pub(in crate::upstream) block: Box<[u8]>,
    /// The gateway's own `Via`, for callers of HTTP/1.1 and of HTTP/2.
    via: [HeaderValue; 2],
}

/// What the upstream is to see of a request, lent: enough to write it at once.
pub(in crate::upstream) struct Outgoing<'a> {
    pub(in crate::upstream) method: &'a Method,
    /// Path and query: printable ASCII without a fragment.
    pub(in crate::upstream) path: &'a str,
    pub(in crate::upstream) query: Option<&'a str>,
    pub(in crate::upstream) token: Option<&'a HeaderValue>,
    pub(in crate::upstream) region: &'a HeaderValue,
    pub(in crate::upstream) content_type: Option<&'a HeaderValue>,
    pub(in crate::upstream) content_encoding: Option<&'a HeaderValue>,
    /// The `Via` of those before, and our own.
    pub(in crate::upstream) via: (Option<&'a HeaderValue>, &'a HeaderValue),
    /// It has the form of a value of a field.
    pub(in crate::upstream) request_id: Option<&'a str>,
    pub(in crate::upstream) traceparent: Option<&'a HeaderValue>,
}

/// The same, owned: it can be sent later, on whatever connection there is then.
pub(in crate::upstream) struct OwnedOutgoing {
    pub(in crate::upstream) method: Method,
    pub(in crate::upstream) target: String,
    pub(in crate::upstream) token: Option<HeaderValue>,
    pub(in crate::upstream) region: HeaderValue,
    pub(in crate::upstream) content_type: Option<HeaderValue>,
    pub(in crate::upstream) content_encoding: Option<HeaderValue>,
    pub(in crate::upstream) via: HeaderValue,
    pub(in crate::upstream) request_id: Option<HeaderValue>,
    pub(in crate::upstream) traceparent: Option<HeaderValue>,
}

impl Common {
    pub(in crate::upstream) fn new(settings: &Settings) -> Result<Self, http::Error> {
        let value = HeaderValue::from_str;
        let authority: Authority = settings.origin.authority.parse()?;
        let via =
            [value(&format!("1.1 {}", settings.via))?, value(&format!("2.0 {}", settings.via))?];
        let mut block = b"host: ".to_vec();
        block.extend_from_slice(authority.as_str().as_bytes());
        for (name, field) in
            [("accept", ACCEPT), ("accept-encoding", ACCEPT_ENCODING), ("user-agent", USER_AGENT)]
        {
            block.extend_from_slice(format!("\r\n{name}: {field}").as_bytes());
        }
        block.extend_from_slice(b"\r\n");
        Ok(Self { authority, block: block.into(), via })
    }
}

impl<'a> Outgoing<'a> {
    /// Takes of a call what the upstream is to see.
    ///
    /// # Errors
    /// `malformed_request`: its target could be read as more than a target.
    pub(in crate::upstream) fn new(
        call: &'a Call<'_>,
        token: Option<&'a HeaderValue>,
        request_id: Option<&'a str>,
        common: &'a Common,
    ) -> Result<Self, Failure> {
        let (path, query) = (&*call.path, call.query.as_deref().filter(|query| !query.is_empty()));
        check(path, query.unwrap_or_default())?;
        Ok(Self {
            method: &call.operation.method,
            path,
            query,
            token,
            region: call.region,
            content_type: call.content_type,
            content_encoding: call.content_encoding,
            via: (call.via.as_ref(), &common.via[usize::from(call.http2)]),
            request_id,
            traceparent: None,
        })
    }

    pub(in crate::upstream) fn keep(&self) -> OwnedOutgoing {
        let (before, own) = self.via;
        let via = before.and_then(|before| joined(before, own));
        let mut target = self.path.to_owned();
        if let Some(query) = self.query {
            target.push('?');
            target.push_str(query);
        }
        OwnedOutgoing {
            method: self.method.clone(),
            target,
            token: self.token.cloned(),
            region: self.region.clone(),
            content_type: self.content_type.cloned(),
            content_encoding: self.content_encoding.cloned(),
            via: via.unwrap_or_else(|| own.clone()),
            request_id: self.request_id.and_then(|id| HeaderValue::from_str(id).ok()).map(unique),
            traceparent: self.traceparent.cloned(),
        }
    }
}

impl OwnedOutgoing {
    pub(in crate::upstream) fn lend(&self) -> Outgoing<'_> {
        Outgoing {
            method: &self.method,
            path: &self.target,
            query: None,
            token: self.token.as_ref(),
            region: &self.region,
            content_type: self.content_type.as_ref(),
            content_encoding: self.content_encoding.as_ref(),
            via: (None, &self.via),
            request_id: self.request_id.as_ref().and_then(|id| id.to_str().ok()),
            traceparent: self.traceparent.as_ref(),
        }
    }
}

/// Path and query were put into their normal form long before; that no byte of them can end a
/// request line is seen to here, beside where they are written.
fn check(path: &str, query: &str) -> Result<(), Failure> {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if path.starts_with('/') && plain(path) && plain(query) {
        return Ok(());
    }
    Err(Failure::fixed(Code::MalformedRequest, "the request target cannot be forwarded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_holds_nothing_that_could_end_it() {
        assert!(check("/v5/rooms", "").is_ok());
        assert!(check("/v5/rooms", "a=%20b&c").is_ok());
        for (path, query) in [
            ("/a b", ""),
            ("/a\r\nhost: x", ""),
            ("/a", "b\n"),
            ("/a", "b c"),
            ("/a#b", ""),
            ("/a", "b#c"),
            ("/\u{7f}", ""),
            ("/é", ""),
            ("", ""),
            ("*", ""),
            ("http://elsewhere/", ""),
        ] {
            let failure = check(path, query).err().unwrap();
            assert_eq!(failure.code(), Code::MalformedRequest, "{path} {query:?}");
        }
    }
}
