//! Addresses of key sets: `https` or nothing.

use std::fmt;
use std::str::FromStr;

use crate::net::{Origin, Url, UrlError, WEB};

/// An absolute `https` URL without user, password and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsUrl(Url);

/// Why a text is no such URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// No absolute URL.
    #[error("this is no absolute URL")]
    Form,
    /// `http` would let anybody on the way choose the keys.
    #[error("a URL of keys begins with https://")]
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

    /// The request target.
    pub(super) fn target(&self) -> &str {
        self.0.target()
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
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let url = Url::parse(text, WEB).map_err(|why| match why {
            UrlError::Scheme => InvalidUrl::Scheme,
            UrlError::Fragment => InvalidUrl::Extra,
            _ => InvalidUrl::Form,
        })?;
        if !url.origin().tls {
            return Err(InvalidUrl::Scheme);
        }
        if url.userinfo().is_some() {
            return Err(InvalidUrl::Extra);
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
    fn only_https_is_taken() {
        let url: HttpsUrl = "https://[::1]:8443/keys?a=1".parse().unwrap();
        let origin = url.origin();
        assert_eq!((&*origin.host, origin.port, url.target()), ("::1", 8443, "/keys?a=1"));
        for (text, why) in [
            ("http://idp.example.org/keys", InvalidUrl::Scheme),
            ("idp.example.org", InvalidUrl::Form),
            ("/keys", InvalidUrl::Form),
            ("https://user:word@idp.example.org/", InvalidUrl::Extra),
            ("https://idp.example.org/#a", InvalidUrl::Extra),
            ("https://", InvalidUrl::Form),
            ("https://idp.example.org:99999/", InvalidUrl::Form),
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
