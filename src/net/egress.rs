//! By which way a connection goes out: straight, or through an HTTP proxy, and what goes past that.
//!
//! A host is compared as it is written: where a proxy is used, the proxy resolves names, and so a
//! network in the list of exceptions is one of addresses that are written as such.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::endpoint::{Scheme, Url, UrlError, host_and_port};

/// The way out of this process. A clone is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress(Option<Arc<EgressRules>>);

#[derive(Debug, PartialEq, Eq)]
struct EgressRules {
    proxy: Proxy,
    exceptions: Vec<ProxyException>,
}

/// An HTTP proxy that makes tunnels (RFC 9110 §9.3.6). `Debug` and `Display` show no credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// A name or an address, in lower case; an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What `Proxy-Authorization` says; sensitive.
    pub(super) authorization: Option<HeaderValue>,
}

/// A URL of a proxy, with the user and password in it. No `Debug`.
#[derive(Clone)]
pub struct ProxyUrl {
    host: String,
    port: u16,
    credentials: Option<(String, String)>,
}

/// What is reached without the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyException {
    hosts: Hosts,
    /// On this port alone.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    Network(IpNet),
    /// The name, and every one below it.
    Below(String),
}

/// Why a text is no proxy of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// `https://`: TLS to the proxy itself.
    #[error(
        "its scheme is https: the way to the proxy itself is plain HTTP, through which TLS to the \
         other side passes unseen; write http://"
    )]
    Https,
    /// `socks5://` and whatever else.
    #[error(
        "its scheme is not http: a proxy is one that takes CONNECT, as in \"http://proxy:3128\""
    )]
    Scheme,
    /// A path or a query.
    #[error("it has a path or a query")]
    Path,
    /// It cannot be sent.
    #[error("its user or password is not UTF-8, or a colon is in the user (RFC 7617 §2)")]
    Credentials,
    /// Anything else of a URL.
    #[error("{0}")]
    Url(#[from] UrlError),
}

/// Why a text names nothing that could be reached without a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no name, no domain, no IP address, no network and no \"*\"")]
pub struct ExceptionError;

impl Egress {
    /// Everything through this proxy but for the exceptions.
    pub fn through(proxy: Proxy, exceptions: Vec<ProxyException>) -> Self {
        Self(Some(Arc::new(EgressRules { proxy, exceptions })))
    }

    /// The proxy on the way to a host, if there is one.
    pub fn proxy_of(&self, host: &str, port: u16) -> Option<&Proxy> {
        let EgressRules { proxy, exceptions } = self.0.as_deref()?;
        let excepted = exceptions.iter().any(|exception| exception.covers(host, port));
        (!excepted).then_some(proxy)
    }
}

impl Proxy {
    /// One that asks for no credentials.
    pub fn new(host: String, port: u16) -> Self {
        Self { host, port, authorization: None }
    }

    /// Says who we are (RFC 7617).
    ///
    /// # Errors
    /// When the user holds a colon, or either of them a control character.
    pub fn with_credentials(self, user: &str, password: &str) -> Result<Self, ProxyUrlError> {
        if user.contains(':') || user.chars().chain(password.chars()).any(char::is_control) {
            return Err(ProxyUrlError::Credentials);
        }
        let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut value = HeaderValue::try_from(value).map_err(|_| ProxyUrlError::Credentials)?;
        value.set_sensitive(true);
        Ok(Self { authorization: Some(value), ..self })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        authority(&self.host, self.port).fmt(out)
    }
}

/// A host and its port, as CONNECT names them: the port always (RFC 9110 §9.3.6).
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

impl ProxyUrl {
    /// The schemes of proxies elsewhere, so that each is told what it is.
    const SCHEMES: &[Scheme] = &[
        Scheme { name: "http", tls: false, port: 80 },
        Scheme { name: "https", tls: true, port: 443 },
    ];

    /// The host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The user and the password that stand in it.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// The proxy, without what stands before the `@`.
    pub fn proxy(&self) -> Proxy {
        Proxy::new(self.host.clone(), self.port)
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        // `proxy:3128` is what many variables hold.
        let written = if text.contains("://") { text.into() } else { format!("http://{text}") };
        let url = Url::parse(&written, Self::SCHEMES).map_err(|why| match why {
            UrlError::Scheme => ProxyUrlError::Scheme,
            why => ProxyUrlError::Url(why),
        })?;
        if url.origin().tls {
            return Err(ProxyUrlError::Https);
        }
        if url.target() != "/" {
            return Err(ProxyUrlError::Path);
        }
        let credentials = match url.userinfo() {
            None => None,
            Some(userinfo) => {
                let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
                Some((decoded(user)?, decoded(password)?))
            }
        };
        let proxy = Proxy::new(url.origin().host.clone(), url.origin().port);
        if let Some((user, password)) = &credentials {
            proxy.clone().with_credentials(user, password)?;
        }
        Ok(Self { host: proxy.host, port: proxy.port, credentials })
    }
}

fn decoded(text: &str) -> Result<String, ProxyUrlError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| ProxyUrlError::Credentials)
}

impl ProxyException {
    fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.port.is_none_or(|only| only == port)
            && match &self.hosts {
                Hosts::All => true,
                Hosts::Network(network) => {
                    let address = host.parse::<IpAddr>();
                    address.is_ok_and(|address| network.contains(&address.to_canonical()))
                }
                Hosts::Below(name) => host
                    .strip_suffix(name.as_str())
                    .is_some_and(|above| above.is_empty() || above.ends_with('.')),
            }
    }
}

impl FromStr for ProxyException {
    type Err = ExceptionError;

    fn from_str(text: &str) -> Result<Self, ExceptionError> {
        let network = |network| Ok(Self { hosts: Hosts::Network(canonical(network)), port: None });
        if text == "*" {
            return Ok(Self { hosts: Hosts::All, port: None });
        }
        if let Ok(one) = text.parse::<IpNet>() {
            return network(one);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return network(address.into());
        }
        // A domain is written with a dot before it, with `*.`, or with neither.
        let name = text.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(text);
        let name = name.strip_prefix('.').unwrap_or(name);
        let (host, port) = host_and_port(name).map_err(|_| ExceptionError)?;
        let hosts = match host.parse::<IpAddr>() {
            Ok(address) => Hosts::Network(canonical(address.into())),
            Err(_) => Hosts::Below(host.strip_suffix('.').unwrap_or(&host).to_owned()),
        };
        // What no name can be is a mistake, such as `10.0.0.` and `192.168.*`, and covers nothing.
        let numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        match &hosts {
            Hosts::Below(name) if name.rsplit('.').next().is_some_and(numeric) => {
                Err(ExceptionError)
            }
            _ => Ok(Self { hosts, port }),
        }
    }
}

/// A network of IPv4-mapped addresses is one of IPv4, as its addresses are everywhere.
pub fn canonical(network: IpNet) -> IpNet {
    let mapped = network.addr().to_canonical();
    let length = network.prefix_len().checked_sub(96).filter(|_| mapped != network.addr());
    length.and_then(|length| IpNet::new(mapped, length).ok()).unwrap_or(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn egress(exceptions: &str) -> Egress {
        let proxy = Proxy::new("proxy.example".to_owned(), 3128);
        let each = exceptions.split(',').filter(|one| !one.is_empty());
        Egress::through(proxy, each.map(|one| one.parse().unwrap()).collect())
    }

    #[test]
    fn what_an_exception_covers_goes_past_the_proxy() {
        for (exceptions, past, through) in [
            ("", "", "a.example localhost 127.0.0.1"),
            ("*", "a.example 10.0.0.1 ::1", ""),
            ("a.example", "a.example b.a.example a.example.", "na.example example a.example.org"),
            (".a.example", "a.example b.a.example", "na.example"),
            ("*.A.example", "a.example b.a.example", "na.example"),
            ("a.example.", "a.example b.a.example", "na.example"),
            ("localhost", "localhost x.localhost", "127.0.0.1 nolocalhost"),
            ("10.0.0.1", "10.0.0.1 ::ffff:10.0.0.1", "10.0.0.10 a10.0.0.1"),
            ("10.0.0.0/8", "10.1.2.3", "11.0.0.1 ten.example"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
            ("[::1]", "::1", "::2"),
            ("::1", "::1", "::2"),
            ("fd00::/8", "fd12::1", "fe80::1 10.0.0.1"),
            ("a.example:443", "a.example b.a.example", ""),
            ("a.example:8080,10.0.0.1:80,[::1]:80", "", "a.example 10.0.0.1 ::1"),
        ] {
            let egress = egress(exceptions);
            let goes = |hosts: &str, past: bool| {
                for host in hosts.split_whitespace() {
                    let proxy = egress.proxy_of(host, 443);
                    assert_eq!(proxy.is_none(), past, "{exceptions}: {host}");
                }
            };
            goes(past, true);
            goes(through, false);
        }
        assert_eq!(Egress::default().proxy_of("a.example", 443), None);
    }

    #[test]
    fn what_covers_nothing_is_no_exception() {
        for text in ["", ".", "*.", "10.0.0.", "192.168.*", "*example", "a b", "10.0.0.0/33", "a:0"]
        {
            assert_eq!(text.parse::<ProxyException>(), Err(ExceptionError), "{text}");
        }
    }

    #[test]
    fn a_proxy_is_a_url_or_a_host_and_a_port() {
        for (text, shown, credentials) in [
            ("http://proxy:3128", "proxy:3128", None),
            ("HTTP://Proxy.Example/", "proxy.example:80", None),
            ("proxy:3128", "proxy:3128", None),
            ("http://[::1]:3128", "[::1]:3128", None),
            ("http://us%40corp:p%3A%2Fw@proxy:1", "proxy:1", Some(("us@corp", "p:/w"))),
            ("us@proxy:1", "proxy:1", Some(("us", ""))),
        ] {
            let url: ProxyUrl = text.parse().ok().unwrap();
            assert_eq!(url.proxy().to_string(), shown, "{text}");
            assert_eq!(url.credentials(), credentials, "{text}");
        }
        for (text, why) in [
            ("https://proxy:3128", "TLS"),
            ("socks5://proxy:1080", "CONNECT"),
            ("http://", "host is missing"),
            ("", "host is missing"),
            ("http://proxy:0", "port"),
            ("http://proxy/path", "path"),
            ("http://us%3Aer:pw@proxy", "colon"),
            ("http://us:p%0Aw@proxy", "user or password"),
            ("http://%ff@proxy", "not UTF-8"),
            ("http://proxy#x", "fragment"),
        ] {
            let said = text.parse::<ProxyUrl>().err().unwrap().to_string();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn no_credential_of_a_proxy_is_shown() {
        let proxy = Proxy::new("proxy".to_owned(), 3128).with_credentials("me", "secret").unwrap();
        let basic = STANDARD.encode("me:secret");
        assert_eq!(proxy.authorization.as_ref().unwrap(), format!("Basic {basic}").as_str());
        let egress = Egress::through(proxy.clone(), Vec::new());
        let shown = format!("{proxy:?} {proxy} {egress:?}");
        assert!(!shown.contains("secret") && !shown.contains(&basic), "{shown}");
    }
}
