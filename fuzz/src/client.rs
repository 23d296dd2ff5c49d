//! The address of a client behind proxies: only the word of a trusted one counts, and what anyone
//! wrote before that changes nothing.
//!
//! An input is the address of the peer, then values of the field, a line each.

use std::net::IpAddr;
use std::sync::LazyLock;

use http::{HeaderMap, HeaderName, HeaderValue};
use whiteboard_gateway::edge::{ClientField, TrustedProxies};

const FIELDS: [(ClientField, &str); 2] =
    [(ClientField::XForwardedFor, "x-forwarded-for"), (ClientField::Forwarded, "forwarded")];

/// What someone far away may have written, to be taken for another.
const MADE_UP: [&str; 5] = [
    "9.9.9.9",
    "for=9.9.9.9",
    "for=\"[2001:db8::9]:1\", for=10.9.9.9",
    "10.9.9.9, unknown",
    "for=\"9.9.9.9",
];

static TRUSTED: LazyLock<[TrustedProxies; 2]> = LazyLock::new(|| {
    FIELDS.map(|(field, _)| {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|one| one.parse().expect("a network"));
        TrustedProxies::new(networks.to_vec(), field)
    })
});

/// One input.
pub fn run(input: &str) {
    let mut lines = input.lines();
    let Some(peer) = lines.next().and_then(|line| line.parse::<IpAddr>().ok()) else { return };
    let values: Vec<HeaderValue> = lines.filter_map(|line| line.parse().ok()).collect();
    for (trusted, (_, name)) in TRUSTED.iter().zip(FIELDS) {
        let client = trusted.client(&headers(name, &values), peer);
        if !trusted.contain(peer) {
            assert_eq!(client, peer, "a stranger is its own address");
            continue;
        }
        let other = FIELDS.iter().find(|(_, other)| *other != name).expect("there are two").1;
        assert_eq!(trusted.client(&headers(other, &values), peer), peer, "the other field counts");
        if trusted.contain(client) {
            continue;
        }
        for made_up in MADE_UP {
            let mut more = vec![HeaderValue::from_static(made_up)];
            more.extend(values.iter().cloned());
            let told = trusted.client(&headers(name, &more), peer);
            assert_eq!(told, client, "{made_up} before {values:?} is believed");
            // A proxy may write behind what came, on the same line.
            let Some(first) = values.first() else { continue };
            let line = [made_up.as_bytes(), b", ", first.as_bytes()].concat();
            let mut joined = vec![HeaderValue::from_bytes(&line).expect("bytes of two values")];
            joined.extend(values.iter().skip(1).cloned());
            let told = trusted.client(&headers(name, &joined), peer);
            assert_eq!(told, client, "{made_up} on the line of {values:?} is believed");
        }
    }
}

fn headers(name: &'static str, values: &[HeaderValue]) -> HeaderMap {
    let name = HeaderName::from_static(name);
    values.iter().map(|value| (name.clone(), value.clone())).collect()
}
