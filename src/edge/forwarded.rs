//! What an element of `Forwarded` (RFC 7239) or `X-Forwarded-For` names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::field::list::{Parameters, is_token};

/// The address that an element of `X-Forwarded-For` names.
pub(super) fn of_x_forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let inner = element.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    node(std::str::from_utf8(inner.unwrap_or(element)).ok()?)
}

/// The address that an element of `Forwarded` names with `for`; `None` also where it names two.
pub(super) fn of_forwarded(element: &[u8]) -> Option<IpAddr> {
    let mut named = None;
    for pair in Parameters::of_pairs(element.trim_ascii(), is_bare) {
        let (name, value) = pair.ok()?;
        if name.eq_ignore_ascii_case(b"for") && named.replace(value).is_some() {
            return None;
        }
    }
    node(std::str::from_utf8(&named?).ok()?)
}

/// What stands in a value without quotation marks. Many proxies write `for=[2001:db8::1]:80` and
/// `host=a:80` without those that the grammar asks for, which no one can read in two ways.
const fn is_bare(byte: u8) -> bool {
    is_token(byte) || matches!(byte, b':' | b'[' | b']' | b'/' | b'@')
}

/// An address with or without a port (RFC 7239 §6), in the one form that it has everywhere;
/// `None` for `unknown` and an obfuscated name.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim_ascii();
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
            return None;
        }
        IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = text.split_once(':')?;
        IpAddr::V4(address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?)
    };
    Some(address.to_canonical())
}

/// Digits, or an obfuscated port.
fn is_port(text: &str) -> bool {
    let obfuscated = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.chars().all(obfuscated),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_of_forwarded_names_one_address_or_none() {
        for (element, address) in [
            ("for=192.0.2.1", Some("192.0.2.1")),
            ("For=\"192.0.2.1:4711\";proto=https", Some("192.0.2.1")),
            ("for=\"[2001:db8::1]:_port\"", Some("2001:db8::1")),
            ("for=\"[::ffff:192.0.2.1]\"", Some("192.0.2.1")),
            ("for=[2001:db8::1]:80;host=a:80", Some("2001:db8::1")),
            ("for=\"192.0.2\\.1\"", Some("192.0.2.1")),
            ("proto=http;host=\"x;for=6.6.6.6\";for=192.0.2.1;", Some("192.0.2.1")),
            (";;for=192.0.2.1 ; proto=http", Some("192.0.2.1")),
            ("for=unknown", None),
            ("for=_hidden", None),
            ("for=\"192.0.2.1:port\"", None),
            ("for=\"192.0.2.1\"x", None),
            ("for=192.0.2.1 proto=http", None),
            ("for=192.0.2.1;for=192.0.2.2", None),
            ("for=192.0.2.1;proto", None),
            ("for=192.0.2.1;=x", None),
            ("for =192.0.2.1", None),
            ("for=", None),
            ("for=[192.0.2.1]", None),
            ("proto=https", None),
        ] {
            let expected = address.map(|address| address.parse::<IpAddr>().unwrap());
            assert_eq!(of_forwarded(element.as_bytes()), expected, "{element}");
        }
    }

    #[test]
    fn an_element_of_x_forwarded_for_is_an_address_with_or_without_a_port() {
        for (element, address) in [
            (&b"192.0.2.1"[..], Some("192.0.2.1")),
            (b"192.0.2.1:443", Some("192.0.2.1")),
            (b"2001:db8::1", Some("2001:db8::1")),
            (b"[2001:db8::1]:443", Some("2001:db8::1")),
            (b"\"[2001:db8::1]:443\"", Some("2001:db8::1")),
            (b"::ffff:192.0.2.1", Some("192.0.2.1")),
            (b"192.0.2.1 192.0.2.2", None),
            (b"192.0.2.1:", None),
            (b"192.0.2.1:443443", None),
            (b"\"192.0.2.1", None),
            (b"unknown", None),
            (b"\xff", None),
        ] {
            let expected = address.map(|address| address.parse::<IpAddr>().unwrap());
            let element_text = element.escape_ascii();
            assert_eq!(of_x_forwarded_for(element), expected, "{element_text}");
        }
    }
}
