//! Under which names the admin listener answers.
//!
//! A page of any site can have its own name resolved to 127.0.0.1 and then read, as its own origin,
//! whatever answers there (DNS rebinding). Its browser sends the site's name with each request; so
//! what is not for everyone is shown under names that are known to be the listener's alone.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use http::Request;
use http::header::HOST;
use http::uri::Authority;

use crate::server::Tls;

/// The name of a host, or its address, as they are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(Box<str>);

/// Why a text names no host; holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no name of a host and no IP address; a port is not part of it")]
pub struct HostNameError;

/// The names that are the listener's.
pub(super) struct HostNames {
    /// As the configuration lists them; `None` for those of loopback and of the certificate.
    pub(super) listed: Option<Vec<HostName>>,
    pub(super) tls: Option<Arc<Tls>>,
}

impl HostNames {
    /// Whether the request names the listener, or, as no browser does, nothing.
    pub(super) fn admit<B>(&self, request: &Request<B>) -> bool {
        let Some(host) = host(request) else { return true };
        let Ok(host) = host.and_then(|host| host.parse::<HostName>()) else { return false };
        match &self.listed {
            Some(listed) => listed.contains(&host),
            None => host.is_loopback() || self.tls.as_ref().is_some_and(|tls| tls.is_for(&host.0)),
        }
    }
}

/// Whether the request names loopback, or, as no browser does, nothing.
pub(super) fn names_loopback<B>(request: &Request<B>) -> bool {
    HostNames { listed: None, tls: None }.admit(request)
}

/// What a request is for; `None` where it does not say.
fn host<B>(request: &Request<B>) -> Option<Result<String, HostNameError>> {
    if let Some(authority) = request.uri().authority() {
        return Some(Ok(authority.host().to_owned()));
    }
    let host = request.headers().get(HOST)?;
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| HostNameError);
    Some(authority.map(|authority| authority.host().to_owned()))
}

impl HostName {
    fn is_loopback(&self) -> bool {
        let is = |address: IpAddr| address.is_loopback();
        &*self.0 == "localhost" || self.0.parse().is_ok_and(is)
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = match inside {
            Some(address) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => text.parse().ok(),
        };
        if let Some(address) = address {
            return Ok(Self(address.to_canonical().to_string().into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let label = |label: &str| (1..64).contains(&label.len()) && label.bytes().all(letter);
        let good = inside.is_none() && name.len() <= 253 && name.split('.').all(label);
        if good { Ok(Self(name.into())) } else { Err(HostNameError) }
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str) -> Request<()> {
        Request::get("/budgets").header(HOST, host).body(()).unwrap()
    }

    #[test]
    fn names_of_loopback_are_localhost_and_its_addresses() {
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "localhost.",
            "127.0.0.1",
            "127.1.2.3:9090",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(names_loopback(&asked(host)), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
            "localhost@evil.example",
            "",
        ] {
            assert!(!names_loopback(&asked(host)), "{host}");
        }
    }

    #[test]
    fn an_authority_outweighs_the_field_and_no_browser_leaves_both_out() {
        let of = |uri: &str| Request::get(uri).header(HOST, "localhost").body(()).unwrap();
        assert!(names_loopback(&of("http://localhost:1/budgets")));
        assert!(!names_loopback(&of("http://evil.example/budgets")));
        assert!(names_loopback(&Request::get("/budgets").body(()).unwrap()));
    }

    #[test]
    fn names_that_are_listed_are_the_only_ones() {
        let listed = ["Admin.example.org", "10.0.0.7", "[2001:db8::1]"].map(|one| one.parse());
        let listed = listed.map(Result::unwrap).to_vec();
        let hosts = HostNames { listed: Some(listed), tls: None };
        for host in
            ["admin.example.org:9090", "10.0.0.7", "[2001:db8:0::1]:1", "ADMIN.example.org."]
        {
            assert!(hosts.admit(&asked(host)), "{host}");
        }
        for host in ["localhost", "127.0.0.1", "example.org", "a.admin.example.org", "10.0.0.8"] {
            assert!(!hosts.admit(&asked(host)), "{host}");
        }
        for wrong in ["", "a:1", "http://a", "*", "a..b", "[a]", "a b", "[10.0.0.1]"] {
            assert_eq!(wrong.parse::<HostName>(), Err(HostNameError), "{wrong}");
        }
    }
}
