//! Addresses of key sets: `https`, or `http` on this machine, where no one is on the way.

use std::fmt;
use std::str::FromStr;

use crate::net::{Origin, Url, UrlError, WEB, is_loopback};

/// An absolute `https` URL, or an `http` one on loopback, without user, password and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsUrl(Url);

/// Why a text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpsUrlError {
    /// No absolute URL.
    #[error("this is no absolute URL")]
    Form,
    /// `http` would let anyone on the way choose the keys.
    #[error("a URL of keys begins with https://, or is on loopback")]
    Scheme,
    /// A user, a password or a fragment.
    #[error("a URL of keys holds no user, no password and no fragment")]
    Extra,
}

impl HttpsUrl {
    /// Whom to connect to.
    pub(super) const fn origin(&self) -> &Origin {
        self.0.origin()
    }

    /// The host alone.
    pub fn host(&self) -> &str {
        &self.0.origin().host
    }

    /// The request target.
    pub(super) fn target(&self) -> &str {
        self.0.target()
    }

    /// Whether no one on the way can change what comes from there.
    pub const fn is_over_tls(&self) -> bool {
        self.0.origin().tls
    }

    /// Where a redirect leads: an absolute URL of the same host and port, or an absolute path.
    pub(super) fn redirected(&self, location: &str) -> Option<Self> {
        if location.starts_with('/') && !location.starts_with("//") {
            return self.0.with_target(location).ok().map(Self);
        }
        let next: Self = location.parse().ok()?;
        (next.origin() == self.origin()).then_some(next)
    }
}

impl FromStr for HttpsUrl {
    type Err = HttpsUrlError;

    fn from_str(text: &str) -> Result<Self, HttpsUrlError> {
        let url = Url::parse(text, WEB).map_err(|why| match why {
            UrlError::Scheme => HttpsUrlError::Scheme,
            UrlError::Fragment => HttpsUrlError::Extra,
            _ => HttpsUrlError::Form,
        })?;
        if !url.origin().tls && !is_loopback(&url.origin().host) {
            return Err(HttpsUrlError::Scheme);
        }
        if url.userinfo().is_some() {
            return Err(HttpsUrlError::Extra);
        }
        Ok(Self(url))
    }
}

/// Without its query, where some providers want a key.
impl fmt::Display for HttpsUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_taken_but_on_loopback() {
        for text in ["http://localhost:8080/realms/a", "http://127.0.0.1/keys", "http://[::1]:81/"]
        {
            assert!(!text.parse::<HttpsUrl>().unwrap().is_over_tls(), "{text}");
        }
        let url: HttpsUrl = "https://[::1]:8443/keys?a=1".parse().unwrap();
        let origin = url.origin();
        assert_eq!((&*origin.host, origin.port, url.target()), ("::1", 8443, "/keys?a=1"));
        for (text, why) in [
            ("http://idp.example.org/keys", HttpsUrlError::Scheme),
            ("http://localhost.example.org/keys", HttpsUrlError::Scheme),
            ("http://10.0.0.1/keys", HttpsUrlError::Scheme),
            ("idp.example.org", HttpsUrlError::Form),
            ("/keys", HttpsUrlError::Form),
            ("https://user:word@idp.example.org/", HttpsUrlError::Extra),
            ("https://idp.example.org/#a", HttpsUrlError::Extra),
            ("https://", HttpsUrlError::Form),
            ("https://idp.example.org:99999/", HttpsUrlError::Form),
        ] {
            assert_eq!(text.parse::<HttpsUrl>(), Err(why), "{text}");
        }
    }

    #[test]
    fn a_redirect_stays_on_its_host() {
        let url: HttpsUrl = "https://idp.example.org/a".parse().unwrap();
        let to = |location| url.redirected(location).map(|url| url.to_string());
        assert_eq!(to("/b").as_deref(), Some("https://idp.example.org/b"));
        assert_eq!(
            to("https://IDP.example.org:443/b").as_deref(),
            Some("https://idp.example.org/b")
        );
        for elsewhere in [
            "https://evil.example/b",
            "http://idp.example.org/b",
            "//evil.example/b",
            "https://idp.example.org:8443/b",
            "b",
        ] {
            assert_eq!(to(elsewhere), None, "{elsewhere}");
        }
    }
}
