//! The address of a client: the peer's, or what a trusted proxy says in its place.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderValue};

use super::forwarded;
use crate::field::X_FORWARDED_FOR;
use crate::field::last::Elements;

/// Peers whose word about the client counts, from `trusted_proxies` of a listener.
#[derive(Debug)]
pub struct TrustedProxies {
    networks: Vec<ipnet::IpNet>,
    field: ClientField,
    unheeded: Unheeded,
}

/// What is said of clients while no proxy is trusted: more than one of them means that there is a
/// proxy all the same, whose callers all have its address then.
#[derive(Debug, Default)]
struct Unheeded {
    /// The client that was named first, as a hash; 0 for none.
    first: AtomicU64,
    told: AtomicBool,
}

/// The one field in which trusted proxies name the client. The other is not looked at: a proxy
/// passes on what it does not write itself, so whoever stands before it could write there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientField {
    /// `X-Forwarded-For`, which nearly every proxy writes.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl TrustedProxies {
    /// Those in these networks, which name the client in this field.
    pub fn new(networks: Vec<ipnet::IpNet>, field: ClientField) -> Self {
        Self { networks, field, unheeded: Unheeded::default() }
    }

    /// Whether an address is one of theirs.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Notes what a peer that is no trusted proxy says of its clients: it is not believed, but says
    /// it for a reason.
    pub(crate) fn notice(&self, forwarded_for: Option<&HeaderValue>, peer: IpAddr) {
        if self.networks.is_empty() && self.unheeded.names_another(forwarded_for) {
            let about = "X-Forwarded-For names several clients, and trusted_proxies of the \
                         listener names no proxy: they all count as one, by its address";
            tracing::warn!(%peer, "{about}");
        }
    }

    /// The client of a request: walking from the peer towards the caller, the first address that
    /// is no trusted proxy. Whoever stands further left may have been made up.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        if !self.contain(peer) {
            return peer;
        }
        let mut client = peer;
        for address in self.field.addresses(headers) {
            let Some(address) = address else { break };
            client = address;
            if !self.contain(address) {
                break;
            }
        }
        client
    }
}

impl ClientField {
    /// The addresses that are named, from the last to the first; `None` for what is no address
    /// (`unknown`, an obfuscated name) or is no element at all, which is where belief ends.
    fn addresses(self, headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
        let (name, read): (_, fn(&[u8]) -> _) = match self {
            Self::XForwardedFor => (X_FORWARDED_FOR, forwarded::of_x_forwarded_for),
            Self::Forwarded => (FORWARDED, forwarded::of_forwarded),
        };
        let lines = headers.get_all(name).into_iter().rev();
        let elements = lines.flat_map(move |line| self.elements(line));
        elements.map(move |element| read(element.ok()?))
    }

    fn elements(self, line: &HeaderValue) -> Elements<'_> {
        match self {
            Self::XForwardedFor => Elements::of_x_forwarded_for(line.as_bytes()),
            Self::Forwarded => Elements::of_forwarded(line.as_bytes()),
        }
    }
}

impl Unheeded {
    /// Whether a request names another client than the ones before; told once.
    fn names_another(&self, said: Option<&HeaderValue>) -> bool {
        let Some(said) = said else { return false };
        if self.told.load(Relaxed) {
            return false;
        }
        let mut hasher = DefaultHasher::new();
        let last = Elements::of_x_forwarded_for(said.as_bytes()).next().and_then(Result::ok);
        last.hash(&mut hasher);
        let named = hasher.finish().max(1);
        match self.first.compare_exchange(0, named, Relaxed, Relaxed) {
            Err(first) if first != named => !self.told.swap(true, Relaxed),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn client(field: ClientField, peer: &str, fields: &[(&str, &str)]) -> String {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        client_of_bytes(field, peer, &fields)
    }

    fn client_of_bytes(field: ClientField, peer: &str, fields: &[(&str, &[u8])]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        let proxies = TrustedProxies::new(trusted.to_vec(), field);
        proxies.client(&headers, peer.parse().unwrap()).to_string()
    }

    const FOR: ClientField = ClientField::XForwardedFor;

    #[test]
    fn a_stranger_is_its_own_address_whatever_it_says() {
        assert_eq!(client(FOR, "192.0.2.1", &[("x-forwarded-for", "10.1.1.1")]), "192.0.2.1");
        let forwarded = [("forwarded", "for=8.8.8.8")];
        assert_eq!(client(ClientField::Forwarded, "192.0.2.1", &forwarded), "192.0.2.1");
    }

    #[test]
    fn several_clients_without_a_trusted_proxy_are_noticed_once() {
        let unheeded = Unheeded::default();
        let names = |said: Option<&'static str>| {
            unheeded.names_another(said.map(HeaderValue::from_static).as_ref())
        };
        for same in [None, Some("1.1.1.1"), Some("9.9.9.9, 1.1.1.1"), Some("1.1.1.1"), None] {
            assert!(!names(same), "{same:?}");
        }
        assert!(names(Some("2.2.2.2")));
        assert!(!names(Some("3.3.3.3")), "once is enough");
    }

    #[test]
    fn a_trusted_proxy_is_believed_as_far_as_the_first_stranger() {
        for (fields, expected) in [
            (vec![], "10.0.0.1"),
            (vec![("x-forwarded-for", "1.1.1.1, 2.2.2.2")], "2.2.2.2"),
            (vec![("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.0.0.7")], "2.2.2.2"),
            (vec![("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2:443")], "2.2.2.2"),
            (vec![("x-forwarded-for", "1.1.1.1, unknown")], "10.0.0.1"),
            (vec![("x-forwarded-for", "10.0.0.8, 10.0.0.7")], "10.0.0.8"),
            (vec![("x-forwarded-for", "2.2.2.2, ")], "2.2.2.2"),
            (vec![("x-forwarded-for", "1.1.1.1 2.2.2.2")], "10.0.0.1"),
            (vec![("x-forwarded-for", "::ffff:2.2.2.2, ::ffff:10.0.0.7")], "2.2.2.2"),
        ] {
            assert_eq!(client(FOR, "10.0.0.1", &fields), expected, "{fields:?}");
        }
        let mapped = client(FOR, "::ffff:10.0.0.1", &[("x-forwarded-for", "2.2.2.2")]);
        assert_eq!(mapped, "2.2.2.2");
        for (value, expected) in [
            ("for=1.1.1.1;proto=https, For=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=2.2.2.2", "2.2.2.2"),
            ("for=_hidden", "10.0.0.1"),
        ] {
            let told = client(ClientField::Forwarded, "10.0.0.1", &[("forwarded", value)]);
            assert_eq!(told, expected, "{value}");
        }
    }

    #[test]
    fn what_stands_left_of_the_trusted_end_is_no_matter() {
        for (value, expected) in [
            (&b"\xff, 2.2.2.2"[..], "2.2.2.2"),
            (b"\xff, 10.0.0.7", "10.0.0.7"),
            (b"\xff", "10.0.0.1"),
        ] {
            let headers = [("x-forwarded-for", value)];
            assert_eq!(client_of_bytes(FOR, "10.0.0.1", &headers), expected);
        }
        for (value, expected) in [
            (&b"by=_gw;host=\"x,for=6.6.6.6\";for=1.2.3.4"[..], "1.2.3.4"),
            (b"for=\"1.2.3.4\";host=\"a\\\",for=6.6.6.6\"", "1.2.3.4"),
            (b"for=\"6.6.6.6, for=1.2.3.4", "1.2.3.4"),
            (b"for=\"6.6.6.6, for=10.0.0.7", "10.0.0.7"),
            (b"host=\"x\";for=6.6.6.6;host=\"\";for=1.2.3.4", "10.0.0.1"),
        ] {
            let headers = [("forwarded", value)];
            assert_eq!(client_of_bytes(ClientField::Forwarded, "10.0.0.1", &headers), expected);
        }
        // A quoted string ends with its line.
        let lines = [("forwarded", &b"for=6.6.6.6;x=\""[..]), ("forwarded", b"for=1.2.3.4")];
        assert_eq!(client_of_bytes(ClientField::Forwarded, "10.0.0.1", &lines), "1.2.3.4");
    }

    #[test]
    fn the_field_that_the_proxy_does_not_write_is_not_looked_at() {
        let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "2.2.2.2")];
        assert_eq!(client(FOR, "10.0.0.1", &both), "2.2.2.2");
        assert_eq!(client(ClientField::Forwarded, "10.0.0.1", &both), "6.6.6.6");
        assert_eq!(client(FOR, "10.0.0.1", &both[..1]), "10.0.0.1");
    }
}
