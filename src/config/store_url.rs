//! The URL of a store: `redis://` or `rediss://`, with what may stand in it.

use percent_encoding::percent_decode_str;

use super::value::{Parse, Reason, one_of};
use crate::limit::OnStoreError;
use crate::net::{Origin, Scheme, Url, UrlError};
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
        let url = Url::parse(text, REDIS).map_err(said)?;
        if url.query().is_some() {
            return Err(said(UrlError::Fragment));
        }
        let database =
            match &url.path()[1..] {
                "" => None,
                number => Some(number.parse().map_err(|_| {
                    Reason::from("what follows the host is no number of a database")
                })?),
            };
        let (username, password) = match url.userinfo() {
            None => (None, None),
            Some(us) => {
                let (username, password) = us.split_once(':').unwrap_or((us, ""));
                (decoded(username)?, decoded(password)?)
            }
        };
        let password = password.map(Secret::new);
        let Origin { tls, host, .. } = url.origin().clone();
        Ok(Self { tls, username, password, host, port: url.port(), database })
    }
}

const REDIS: &[Scheme] = &[
    Scheme { name: "redis", tls: false, port: 6379 },
    Scheme { name: "rediss", tls: true, port: 6379 },
];

/// What is wrong with a URL of a store.
fn said(why: UrlError) -> Reason {
    match why {
        UrlError::Form | UrlError::NoScheme => {
            "found a string without redis:// or rediss://".into()
        }
        UrlError::Scheme => "its scheme is neither redis nor rediss".into(),
        UrlError::Fragment => {
            "it has a query or a fragment: there are keys for all that can be set".into()
        }
        UrlError::Port => "its port is no port".into(),
        UrlError::NoHost | UrlError::Host => why.to_string().into(),
    }
}

/// A part of what stands before the `@`; `None` for an empty one.
fn decoded(text: &str) -> Result<Option<String>, Reason> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| Reason::from("its user or password is not UTF-8"))?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
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
