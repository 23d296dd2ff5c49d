//! The URL of a store: `redis://` or `rediss://`, with what may stand in it.

use percent_encoding::percent_decode_str;

use super::value::{Parse, Reason, one_of};
use crate::limit::OnStoreError;
use crate::store::Address;
use crate::token::Secret;

/// A URL of a store. No `Debug`: a password may stand in it.
#[derive(Clone)]
pub(super) struct StoreUrl {
    pub(super) tls: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) host: String,
    /// `None` for the usual one, which depends on what listens there.
    pub(super) port: Option<u16>,
    pub(super) database: Option<u32>,
}

impl StoreUrl {
    pub(super) fn address(&self, usual_port: u16) -> Address {
        Address { host: self.host.clone(), port: self.port.unwrap_or(usual_port) }
    }
}

impl Parse for StoreUrl {
    const ALLOWED: &'static str = "a URL such as \"redis://host:6379/0\" or \"rediss://host\"";

    fn text(text: &str) -> Result<Self, Reason> {
        let (tls, rest) = match text.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            Some(_) => return Err("its scheme is neither redis nor rediss".into()),
            None => return Err("found a string without redis:// or rediss://".into()),
        };
        if rest.contains(['?', '#']) {
            return Err(
                "it has a query or a fragment: there are keys for all that can be set".into()
            );
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let database =
            match path {
                "" => None,
                number => Some(number.parse().map_err(|_| {
                    Reason::from("what follows the host is no number of a database")
                })?),
            };
        let (us, server) = match authority.rsplit_once('@') {
            Some((us, server)) => (Some(us), server),
            None => (None, authority),
        };
        let (username, password) = match us.map(|us| us.split_once(':').unwrap_or((us, ""))) {
            None => (None, None),
            Some((username, password)) => (decoded(username)?, decoded(password)?),
        };
        let (host, port) = host_and_port(server)?;
        let password = password.map(Secret::new);
        Ok(Self { tls, username, password, host, port, database })
    }
}

/// A part of what stands before the `@`; `None` for an empty one.
fn decoded(text: &str) -> Result<Option<String>, Reason> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| Reason::from("its user or password is not UTF-8"))?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
}

fn host_and_port(server: &str) -> Result<(String, Option<u16>), Reason> {
    let bracketed = server.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (host, port) = match bracketed {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match server.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (server, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().map_err(|_| Reason::from("its port is no port"))?),
    };
    Ok((host.to_owned(), port))
}

/// What the addresses are of.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum StoreMode {
    #[default]
    Single,
    Sentinel,
    Cluster,
}

impl Parse for StoreMode {
    const ALLOWED: &'static str = "\"single\", \"sentinel\" or \"cluster\"";

    fn text(text: &str) -> Result<Self, Reason> {
        let words =
            [("single", Self::Single), ("sentinel", Self::Sentinel), ("cluster", Self::Cluster)];
        one_of(text, &words)
    }
}

impl Parse for OnStoreError {
    const ALLOWED: &'static str = "\"local\", \"open\" or \"closed\"";

    fn text(text: &str) -> Result<Self, Reason> {
        one_of(text, &[("local", Self::Local), ("open", Self::Open), ("closed", Self::Closed)])
    }
}

/// What every key in the store begins with.
#[derive(Clone)]
pub(super) struct Prefix(pub(super) String);

impl Parse for Prefix {
    const ALLOWED: &'static str = "1 to 32 letters, digits, hyphens, underscores, dots and colons";

    fn text(text: &str) -> Result<Self, Reason> {
        let good = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if (1..=32).contains(&text.len()) && text.chars().all(good) {
            return Ok(Self(text.to_owned()));
        }
        Err("found another string".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> StoreUrl {
        StoreUrl::text(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn a_url_says_where_and_who() {
        let url = parsed("rediss://wbg:p%40ss@store.example.org:7000/3");
        assert!(url.tls);
        assert_eq!(url.address(1), Address { host: "store.example.org".to_owned(), port: 7000 });
        assert_eq!((url.username.as_deref(), url.database), (Some("wbg"), Some(3)));
        assert_eq!(url.password.as_ref().map(Secret::expose), Some("p@ss"));
        let url = parsed("redis://:secret@[::1]");
        assert_eq!(url.address(6379), Address { host: "::1".to_owned(), port: 6379 });
        assert_eq!((url.username, url.database), (None, None));
        assert_eq!(parsed("redis://h/").database, None);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        for (text, why) in [
            ("localhost:6379", "without redis://"),
            ("http://secret@h", "neither redis nor rediss"),
            ("redis://", "host is missing"),
            ("redis://:secret@", "host is missing"),
            ("redis://h:secret", "no port"),
            ("redis://h/secret", "no number of a database"),
            ("redis://h?db=secret", "query"),
        ] {
            let said = StoreUrl::text(text).err().unwrap();
            assert!(said.contains(why), "{text}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
