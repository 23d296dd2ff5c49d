//! Which operator a request is of: by a key, by the cookie of a session, or by a client certificate.

use std::sync::Arc;

use http::header::{COOKIE, HOST, ORIGIN};
use http::{HeaderMap, Request};
use jiff::Timestamp;

use super::access::{Operator, OperatorRole};
use super::context::AdminContext;
use super::session::KnownSession;
use crate::caller::credential;
use crate::failure::{Code, Failure};
use crate::field::{SEC_FETCH_SITE, WHITEBOARD_SESSION_TOKEN};
use crate::server::Peer;

/// The cookie of a session, over TLS and without it. With that prefix a browser takes it from this
/// host alone, over TLS, for all paths (RFC 6265bis §4.1.3).
const COOKIE_OVER_TLS: &str = "__Host-wbg_session";
const COOKIE_IN_THE_CLEAR: &str = "wbg_session";

/// The operator of a request, and by what that is known.
pub(super) struct IdentifiedOperator {
    pub(super) operator: Arc<Operator>,
    pub(super) proof: Proof,
}

/// By what an operator is known.
pub(super) enum Proof {
    /// The id of the key.
    Key(String),
    Certificate,
    /// Begun with the key of this id.
    Session(KnownSession),
}

impl Proof {
    /// The word in the audit.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Certificate => "certificate",
            Self::Session(_) => "session",
        }
    }

    /// The id of the key that it goes back to.
    pub(super) fn key_id(&self) -> Option<&str> {
        match self {
            Self::Key(id) => Some(id),
            Self::Session(session) => Some(session.key.id.as_str()),
            Self::Certificate => None,
        }
    }
}

/// The name of the cookie of a session.
pub(super) const fn cookie_name(tls: bool) -> &'static str {
    if tls { COOKIE_OVER_TLS } else { COOKIE_IN_THE_CLEAR }
}

/// The value of that cookie, where a request carries one.
pub(super) fn session_cookie(headers: &HeaderMap, tls: bool) -> Option<&str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
    let mut named = pairs.filter(|(name, _)| name.trim() == cookie_name(tls));
    named.next().map(|(_, value)| value.trim())
}

/// Refuses what another page asks for: its browser says so, in `Origin` where it could read the
/// answer or send a body, and in `Sec-Fetch-Site` always.
pub(super) fn check_origin<B>(request: &Request<B>, tls: bool) -> Result<(), Failure> {
    let headers = request.headers();
    let host = headers.get(HOST).map(http::HeaderValue::as_bytes);
    let host = request.uri().authority().map(|authority| authority.as_str().as_bytes()).or(host);
    let own = |origin: &[u8]| {
        let secure = origin.strip_prefix(b"https://");
        // A proxy that speaks TLS may be in front of a listener that does not.
        let clear = origin.strip_prefix(b"http://").filter(|_| !tls);
        let named = secure.or(clear);
        named.zip(host).is_some_and(|(named, host)| named.eq_ignore_ascii_case(host))
    };
    let foreign = headers.get_all(ORIGIN).iter().any(|origin| !own(origin.as_bytes()));
    let site = headers.get(SEC_FETCH_SITE).map(http::HeaderValue::as_bytes);
    if foreign || site.is_some_and(|site| !matches!(site, b"same-origin" | b"none")) {
        let why = "the page of another origin asks for this: only a page of this listener may";
        return Err(Failure::fixed(Code::Forbidden, why));
    }
    Ok(())
}

impl AdminContext {
    /// The operator of a request: who its key says, else its session, else its certificate.
    ///
    /// # Errors
    /// `unauthenticated` where there is none of these, `invalid_token` and `expired_token` for one
    /// that is none, `rate_limited` for an address that has shown too many such.
    pub(super) fn identify<B>(
        &self,
        request: &Request<B>,
        peer: &Peer,
        now: Timestamp,
    ) -> Result<IdentifiedOperator, Failure> {
        self.identified(request, peer, now)
            .map_err(|failure| self.refused(peer.address.ip(), failure))
    }

    fn identified<B>(
        &self,
        request: &Request<B>,
        peer: &Peer,
        now: Timestamp,
    ) -> Result<IdentifiedOperator, Failure> {
        let (access, headers) = (self.status.access(), request.headers());
        if let Some(key) = credential(headers)? {
            let (operator, shown) = access.by_key(key, now)?;
            return Ok(IdentifiedOperator { operator, proof: Proof::Key(shown.id.to_string()) });
        }
        if let Some(cookie) = session_cookie(headers, peer.tls) {
            let over = "the session is over: log in again";
            let over = || Failure::invalid_credential(Code::InvalidToken, over);
            let session = self.sessions.find(cookie).ok_or_else(over)?;
            let operator = access.of_shown(&session.key, now)?.ok_or_else(over)?;
            return Ok(IdentifiedOperator { operator, proof: Proof::Session(session) });
        }
        let status = peer.standing(now);
        match access.by_certificate(headers, status)? {
            Some(operator) => Ok(IdentifiedOperator { operator, proof: Proof::Certificate }),
            None => {
                let why = "no credential came: send the key of an operator, wbg_admin_…, as \
                           `Authorization: Bearer`";
                Err(Failure::fixed(Code::Unauthenticated, why))
            }
        }
    }
}

impl IdentifiedOperator {
    /// Refuses who may not do it.
    pub(super) fn needs(&self, role: OperatorRole) -> Result<(), Failure> {
        let Operator { name, role: own } = &*self.operator;
        if *own >= role {
            return Ok(());
        }
        let (role, own) = (role.as_str(), own.as_str());
        let why = format!("this needs the role {role}, and operators.{name} is a {own}");
        Err(Failure::new(Code::Forbidden, why).with_rule(format!("operators.{name}.role")))
    }

    /// Refuses a change by a session without the token of that session.
    pub(super) fn may_change(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let Proof::Session(session) = &self.proof else { return Ok(()) };
        let shown = headers.get(WHITEBOARD_SESSION_TOKEN).map(http::HeaderValue::as_bytes);
        if session.has_token(shown.unwrap_or_default()) {
            return Ok(());
        }
        let why = "a change by a session carries the token of that session, which GET \
                   /admin/v1/session tells, in Whiteboard-Session-Token";
        Err(Failure::fixed(Code::Forbidden, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get("/admin/v1/status").header(HOST, "localhost:9090");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn only_a_page_of_this_listener_may_ask() {
        for (headers, tls, allowed) in [
            (&[][..], false, true),
            (&[("origin", "http://localhost:9090")], false, true),
            (&[("origin", "https://localhost:9090")], false, true),
            (&[("origin", "http://localhost:9090")], true, false),
            (&[("origin", "http://localhost:3000")], false, false),
            (&[("origin", "http://localhost")], false, false),
            (&[("origin", "null")], false, false),
            (&[("origin", "")], false, false),
            (&[("origin", "http://localhost:9090"), ("origin", "http://a")], false, false),
            (&[("sec-fetch-site", "same-origin")], false, true),
            (&[("sec-fetch-site", "none")], false, true),
            (&[("sec-fetch-site", "same-site")], false, false),
            (&[("sec-fetch-site", "cross-site")], false, false),
        ] {
            assert_eq!(check_origin(&asked(headers), tls).is_ok(), allowed, "{headers:?}");
        }
    }

    #[test]
    fn the_cookie_of_a_session_is_found_among_others() {
        let cookie = |line, tls| {
            let request = asked(&[("cookie", line)]);
            session_cookie(request.headers(), tls).map(str::to_owned)
        };
        assert_eq!(cookie("a=b; wbg_session=c; d=e", false).as_deref(), Some("c"));
        assert_eq!(cookie("wbg_session=c", true), None);
        assert_eq!(cookie("__Host-wbg_session=c", true).as_deref(), Some("c"));
        for other in ["", "wbg_session", "xwbg_session=c", "a=wbg_session=c"] {
            assert_eq!(cookie(other, false), None, "{other}");
        }
    }
}
