//! The address of a client: the peer's, or what a trusted proxy says in its place.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Peers whose word about the client counts, from `listen.trusted_proxies`.
#[derive(Debug, Default)]
pub(super) struct TrustedProxies(Vec<ipnet::IpNet>);

impl TrustedProxies {
    pub(super) const fn new(networks: Vec<ipnet::IpNet>) -> Self {
        Self(networks)
    }

    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client of a request: walking from the peer towards the caller, the first address that
    /// is no trusted proxy. Whoever stands further left may have been made up.
    pub(super) fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        if !self.contain(peer) {
            return peer;
        }
        let mut client = peer;
        for said in said(headers).into_iter().rev() {
            let Some(address) = said else { break };
            client = address;
            if !self.contain(address) {
                break;
            }
        }
        client
    }
}

/// The addresses from `Forwarded` (RFC 7239 §4), or else `X-Forwarded-For`, in the order of the
/// fields; `None` for what is no address (`unknown`, an obfuscated name).
fn said(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let mut found = Vec::new();
    for value in headers.get_all(FORWARDED) {
        for element in value.to_str().unwrap_or_default().split(',') {
            let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
            let node = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
            found.push(node.and_then(|(_, node)| address(node)));
        }
    }
    if found.is_empty() {
        for value in headers.get_all(&X_FORWARDED_FOR) {
            found.extend(value.to_str().unwrap_or_default().split(',').map(address));
        }
    }
    found
}

/// An address with or without a port, quoted or not, IPv6 in brackets or not.
fn address(node: &str) -> Option<IpAddr> {
    let node = node.trim().trim_matches('"');
    if let Ok(address) = node.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = node.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    node.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, fields: &[(&str, &str)]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers
                .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let proxies = TrustedProxies::new(trusted.to_vec());
        proxies.client(&headers, peer.parse().unwrap()).to_string()
    }

    #[test]
    fn a_stranger_is_its_own_address_whatever_it_says() {
        assert_eq!(client("192.0.2.1", &[("x-forwarded-for", "10.1.1.1")]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &[("forwarded", "for=8.8.8.8")]), "192.0.2.1");
    }

    #[test]
    fn a_trusted_proxy_is_believed_as_far_as_the_first_stranger() {
        for (fields, expected) in [
            (vec![], "10.0.0.1"),
            (vec![("x-forwarded-for", "1.1.1.1, 2.2.2.2")], "2.2.2.2"),
            (vec![("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.7")], "2.2.2.2"),
            (vec![("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2:443")], "2.2.2.2"),
            (
                vec![("forwarded", "for=1.1.1.1;proto=https, For=\"[2001:db8::1]:4711\"")],
                "2001:db8::1",
            ),
            (vec![("forwarded", "for=2.2.2.2"), ("x-forwarded-for", "3.3.3.3")], "2.2.2.2"),
            (vec![("x-forwarded-for", "1.1.1.1, unknown")], "10.0.0.1"),
            (vec![("forwarded", "for=_hidden")], "10.0.0.1"),
            (vec![("x-forwarded-for", "10.0.0.8, 10.0.0.7")], "10.0.0.8"),
        ] {
            assert_eq!(client("10.0.0.1", &fields), expected, "{fields:?}");
        }
        assert_eq!(client("::ffff:10.0.0.1", &[("x-forwarded-for", "2.2.2.2")]), "2.2.2.2");
    }
}
