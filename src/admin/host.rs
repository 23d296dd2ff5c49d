//! Whether a request names this machine by a name of loopback.
//!
//! A page of any site can have its own name resolved to 127.0.0.1 and then read, as its own origin,
//! whatever answers there (DNS rebinding). Its browser sends the site's name with each request; so a
//! listener on loopback shows what is not for everybody under names of loopback alone.

use std::net::{IpAddr, Ipv6Addr};

use http::Request;
use http::header::HOST;
use http::uri::Authority;

/// Whether the request names loopback, or, as no browser does, nothing.
pub(super) fn names_loopback<B>(request: &Request<B>) -> bool {
    if let Some(authority) = request.uri().authority() {
        return is_loopback(authority.host());
    }
    match request.headers().get(HOST) {
        None => true,
        Some(host) => Authority::try_from(host.as_bytes())
            .is_ok_and(|authority| is_loopback(authority.host())),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let address = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    };
    name.eq_ignore_ascii_case("localhost")
        || address.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: &str) -> bool {
        names_loopback(&Request::get("/budgets").header(HOST, host).body(()).unwrap())
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
            assert!(named(host), "{host}");
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
            assert!(!named(host), "{host}");
        }
    }

    #[test]
    fn an_authority_outweighs_the_field_and_no_browser_leaves_both_out() {
        let of = |uri: &str| Request::get(uri).header(HOST, "localhost").body(()).unwrap();
        assert!(names_loopback(&of("http://localhost:1/budgets")));
        assert!(!names_loopback(&of("http://evil.example/budgets")));
        assert!(names_loopback(&Request::get("/budgets").body(()).unwrap()));
    }
}
