//! Addresses of key sets: `https` or nothing.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// An absolute `https` URL without user, password and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsUrl {
    uri: Uri,
    /// A name or an address; an IPv6 address without brackets.
    host: String,
    port: u16,
}

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
    /// The host, an IPv6 address without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// What `Host` says.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", http::uri::Authority::as_str)
    }

    /// The request target.
    pub(super) fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// Where a redirect leads: an absolute URL of the same host and port, or an absolute path.
    pub(super) fn redirected(&self, location: &str) -> Option<Self> {
        let next: Self = if location.starts_with('/') && !location.starts_with("//") {
            format!("https://{}{location}", self.authority()).parse().ok()?
        } else {
            location.parse().ok()?
        };
        let same = next.host.eq_ignore_ascii_case(&self.host) && next.port == self.port;
        same.then_some(next)
    }
}

impl FromStr for HttpsUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        // `Uri` drops a fragment without a word.
        if text.contains('#') {
            return Err(InvalidUrl::Extra);
        }
        let uri: Uri = text.parse().map_err(|_| InvalidUrl::Form)?;
        if uri.scheme() != Some(&http::uri::Scheme::HTTPS) {
            return Err(if uri.scheme().is_some() { InvalidUrl::Scheme } else { InvalidUrl::Form });
        }
        let authority = uri.authority().ok_or(InvalidUrl::Form)?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::Extra);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(443);
        if host.is_empty() || (authority.port().is_none() && authority.as_str().ends_with(':')) {
            return Err(InvalidUrl::Form);
        }
        Ok(Self { host, port, uri })
    }
}

/// Without its query, where some providers want a key.
impl fmt::Display for HttpsUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        write!(out, "https://{authority}{}", self.uri.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_taken() {
        let url: HttpsUrl = "https://[::1]:8443/keys?a=1".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.target()), ("::1", 8443, "/keys?a=1"));
        for (text, why) in [
            ("http://idp.example.org/keys", InvalidUrl::Scheme),
            ("idp.example.org", InvalidUrl::Form),
            ("/keys", InvalidUrl::Form),
            ("https://user:word@idp.example.org/", InvalidUrl::Extra),
            ("https://idp.example.org/#a", InvalidUrl::Extra),
            ("https://", InvalidUrl::Form),
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
            Some("https://IDP.example.org:443/b")
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
