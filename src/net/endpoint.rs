//! Where something is: the one parser of URLs that the gateway goes to, and the origin in them.
//!
//! The grammar is that of RFC 3986 §3 with an authority, without fragments. What a URL may hold
//! besides (a user, a path, a query) is for whoever asks for one to say.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use http::uri::PathAndQuery;

/// A scheme: its name, whether it is TLS, and its own port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// In lower case.
    pub name: &'static str,
    /// Whether it is over TLS.
    pub tls: bool,
    /// Which port is meant when none is written.
    pub port: u16,
}

/// `http` and `https`.
pub const WEB: &[Scheme] = &[
    Scheme { name: "http", tls: false, port: 80 },
    Scheme { name: "https", tls: true, port: 443 },
];

/// Whom to connect to, and what to call them: scheme, host and port (RFC 9110 §4.3.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is over TLS.
    pub tls: bool,
    /// A name or an address, in lower case; an IPv6 address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What `Host` and `:authority` say: the host, and the port where it is not the scheme's own.
    pub authority: String,
}

/// An absolute URL. Its `Debug` and `Display` leave out the user and the query, where secrets stand.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    scheme: Scheme,
    origin: Origin,
    port: Option<u16>,
    userinfo: Option<String>,
    target: PathAndQuery,
}

/// Why a text is no URL of the schemes that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Nothing like a URL.
    #[error("it is no URL")]
    Form,
    /// No `scheme://`.
    #[error("the scheme is missing")]
    NoScheme,
    /// Another scheme.
    #[error("its scheme is another")]
    Scheme,
    /// Nothing where the host is to be.
    #[error("the host is missing")]
    NoHost,
    /// No name and no address.
    #[error("its host is neither a name nor an address")]
    Host,
    /// Not 1 to 65535.
    #[error("its port is no number from 1 to 65535")]
    Port,
    /// Which is never sent.
    #[error("it has a fragment")]
    Fragment,
}

impl Url {
    /// Reads a URL of one of these schemes.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse(text: &str, schemes: &[Scheme]) -> Result<Self, UrlError> {
        if text.contains('#') {
            return Err(UrlError::Fragment);
        }
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(UrlError::Form);
        }
        let (name, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        let scheme = schemes.iter().find(|scheme| scheme.name.eq_ignore_ascii_case(name));
        let scheme = *scheme.ok_or(UrlError::Scheme)?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let (userinfo, server) = match authority.rsplit_once('@') {
            Some((userinfo, server)) => (Some(userinfo.to_owned()), server),
            None => (None, authority),
        };
        let (host, port) = host_and_port(server)?;
        let target = match target {
            "" => PathAndQuery::from_static("/"),
            target if target.starts_with('?') => {
                format!("/{target}").parse().map_err(|_| UrlError::Form)?
            }
            target => target.parse().map_err(|_| UrlError::Form)?,
        };
        Ok(Self { scheme, origin: Origin::new(scheme, host, port), port, userinfo, target })
    }

    /// Whom to connect to.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The port that is written.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// What stands before the `@`, percent-encoded as it is.
    pub fn userinfo(&self) -> Option<&str> {
        self.userinfo.as_deref()
    }

    /// The path; `/` where there is none.
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// What stands behind the `?`.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }

    /// The request target: the path and the query.
    pub fn target(&self) -> &str {
        self.target.as_str()
    }

    /// The URL of another path of the same origin.
    ///
    /// # Errors
    /// [`UrlError`] when the text is no path.
    pub fn with_target(&self, target: &str) -> Result<Self, UrlError> {
        let absolute = target.starts_with('/') && !target.contains('#');
        let target = target.parse().ok().filter(|_| absolute).ok_or(UrlError::Form)?;
        Ok(Self { target, ..self.clone() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}://{}{}", self.scheme.name, self.origin.authority, self.path())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Whether a host is this machine: `localhost` (RFC 6761 §6.3), or an address of loopback.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Origin {
    /// That of a scheme; `host` is as [`host_and_port`] gives it.
    pub fn new(scheme: Scheme, host: String, port: Option<u16>) -> Self {
        let port = port.unwrap_or(scheme.port);
        let named = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = if port == scheme.port { named } else { format!("{named}:{port}") };
        Self { tls: scheme.tls, host, port, authority }
    }
}

/// A host in lower case, without the brackets of an IPv6 address, and the port behind it.
///
/// # Errors
/// [`UrlError::NoHost`], [`UrlError::Host`], [`UrlError::Port`].
pub fn host_and_port(text: &str) -> Result<(String, Option<u16>), UrlError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(UrlError::Host)?;
        let _: Ipv6Addr = host.parse().map_err(|_| UrlError::Host)?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(UrlError::Host),
        }
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if host.is_empty() {
            return Err(UrlError::NoHost);
        }
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) {
            return Err(UrlError::Host);
        }
        (host, port)
    };
    let port = match port {
        None => None,
        // Digits alone: `parse` takes a sign as well.
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(port.parse().ok().filter(|port| *port > 0).ok_or(UrlError::Port)?)
        }
        Some(_) => return Err(UrlError::Port),
    };
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, tls, host, port, authority, target) in [
            ("http://a", false, "a", 80, "a", "/"),
            ("HTTPS://A.Example:443/x?y=z", true, "a.example", 443, "a.example", "/x?y=z"),
            ("http://[::1]", false, "::1", 80, "[::1]", "/"),
            ("https://u:w@[::1]:8443?q", true, "::1", 8443, "[::1]:8443", "/?q"),
            ("http://127.0.0.1:81/", false, "127.0.0.1", 81, "127.0.0.1:81", "/"),
        ] {
            let url = Url::parse(text, WEB).unwrap();
            let (host, authority) = (host.to_owned(), authority.to_owned());
            assert_eq!(*url.origin(), Origin { tls, host, port, authority }, "{text}");
            assert_eq!(url.target(), target, "{text}");
        }
        let url = Url::parse("https://user:word@a/b?key=c", WEB).unwrap();
        assert_eq!((url.userinfo(), url.query()), (Some("user:word"), Some("key=c")));
        assert_eq!((format!("{url:?}"), url.port()), ("https://a/b".to_owned(), None));
    }

    #[test]
    fn what_is_no_url_is_told_by_its_part() {
        use UrlError as E;
        for (text, error) in [
            ("", E::Form),
            ("\u{1}", E::Form),
            ("http://a b", E::Form),
            ("http://münchen", E::Form),
            ("http://a/\"<>", E::Form),
            ("a", E::NoScheme),
            ("/a", E::NoScheme),
            ("mailto:a", E::NoScheme),
            ("ftp://a", E::Scheme),
            ("http://", E::NoHost),
            ("http:///a", E::NoHost),
            ("http://:80", E::NoHost),
            ("http://a@", E::NoHost),
            ("http://::1", E::NoHost),
            ("http://[::1", E::Host),
            ("http://[::1]8", E::Host),
            ("http://[a]", E::Host),
            ("http://[fe80::1%25eth0]", E::Host),
            ("http://a*b", E::Host),
            ("http://a:", E::Port),
            ("http://a:0", E::Port),
            ("http://a:+1", E::Port),
            ("http://a:65536", E::Port),
            ("http://a:1:2", E::Port),
            ("http://a/#b", E::Fragment),
        ] {
            assert_eq!(Url::parse(text, WEB).err(), Some(error), "{text}");
        }
    }

    #[test]
    fn another_path_stays_at_its_origin() {
        let url = Url::parse("https://a:8443/b?c", WEB).unwrap();
        assert_eq!(url.with_target("/d?e").unwrap().target(), "/d?e");
        for text in ["d", "", "/ d", "/d#e", "https://evil.example/"] {
            assert_eq!(url.with_target(text), Err(UrlError::Form), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_the_same_when_it_is_written_and_read_again(text in "(https?://)?[ -~]{0,40}") {
            if let Ok(url) = Url::parse(&text, WEB) {
                let again = Url::parse(&url.to_string(), WEB).unwrap();
                prop_assert_eq!(again.origin(), url.origin());
                prop_assert_eq!(again.path(), url.path());
            }
        }
    }
}
