//! `[store]`: what several gateways share.

use std::num::NonZeroU32;

use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Deserialize;

use super::build::Build;
use super::file::{OneOrMore, Parse, ValueError, section, word_types};
use super::placeholder::is_example_host;
use super::secret::SecretSource;
use super::value::{FilePath, Prefix, Within};
use crate::limit::Replicas;
use crate::net::{Origin, Scheme, UnixPath, Url, UrlError, is_loopback};
use crate::store::{Address, Settings, Topology, Trust};
use crate::token::Secret;

section! {
    pub(super) struct StoreSection {
        /// `"redis://"` or `"valkey://"`, with TLS `"rediss://"` or `"valkeys://"`, followed by the host, the port (6379; of a
        /// Sentinel 26379) and the number of the database: `"redis://127.0.0.1:6379/0"`. A list for
        /// the other two modes. It may contain a user and a password; `check` warns of a password
        /// in the file itself.
        url: Option<OneOrMore<StoreUrl>>;
        /// `"single"`: one server. `"sentinel"`: the URLs are those of Sentinels, which say where
        /// the server is. `"cluster"`: the URLs are those of some servers of a cluster, which say
        /// where the others are.
        mode: StoreMode = "single";
        /// The Sentinels' name for the server.
        master: Option<String> => "required with `\"sentinel\"`";
        /// The user of the server's access list.
        username: Option<String> => "that of the URL, else the default user";
        /// Its password.
        password: Option<SecretSource> => "that of the URL, else none";
        /// The password of the sentinels.
        sentinel_password: Option<SecretSource>;
        /// A PEM file of the certificates to trust for `rediss://`.
        ca: Option<FilePath> => "the platform's";
        /// How long a request waits for a response.
        timeout: Within<LONGEST_TIMEOUT> = "25ms";
        /// The prefix of every key in the store, so that several systems can share one.
        prefix: Prefix = "wbg";
        /// How many gateways there are: while the store does not answer, each admits that share of
        /// a limit. `check` warns of more than one without a store.
        replicas: NonZeroU32 = 1;
        /// Whether a worker takes some requests ahead for a caller that sends many, which saves
        /// most round trips to the store.
        lease: bool = true;
    }
}

/// What the URLs are of.
#[derive(Clone, Copy, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoreMode {
    /// One server.
    Single,
    /// Sentinels, which say where the server is.
    Sentinel,
    /// Some servers of a cluster, which say where the others are.
    Cluster,
}

word_types!(StoreMode);

/// Whoever waits longer than so many seconds does not want to wait for a store at all.
const LONGEST_TIMEOUT: u64 = 5;

/// The ports of a server and of a sentinel.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// A URL of a store. No `Debug`: a password may stand in it.
pub(super) struct StoreUrl {
    tls: bool,
    username: Option<String>,
    password: Option<Secret>,
    host: String,
    /// `None` for the usual one, which depends on what listens there.
    port: Option<u16>,
    database: Option<u32>,
}

impl StoreUrl {
    fn address(&self, usual_port: u16) -> Address {
        Address { host: self.host.clone(), port: self.port.unwrap_or(usual_port) }
    }
}

impl Build<'_> {
    /// The store, and how the limits use it; `None` for no store.
    pub(super) fn store(&mut self, section: StoreSection) -> (Option<Settings>, Replicas) {
        let replicas = Replicas { count: section.replicas, lease: section.lease };
        if section.url.is_none() {
            self.without_a_store(&section);
        }
        (self.store_settings(section), replicas)
    }

    /// What is said in vain, and what a user may not know.
    fn without_a_store(&mut self, StoreSection { path, replicas, .. }: &StoreSection) {
        let needy = ["mode", "master", "username", "password", "sentinel_password", "ca"];
        if self.was_removed(&path.key("url")) {
        } else if *replicas > NonZeroU32::MIN {
            let why = format_args!(
                "is {replicas} without a store: each replica counts for itself, so that together \
                 they let {replicas} times as much through; set store.url"
            );
            self.warn(&path.key("replicas"), why);
        } else if needy.iter().any(|key| self.is_set(&path.key(key))) {
            self.report.missing(&path.key("url"), "a URL such as \"redis://host:6379/0\"");
        }
    }

    fn store_settings(&mut self, section: StoreSection) -> Option<Settings> {
        let at = |key| section.path.key(key);
        let (path, urls) = (at("url"), &section.url.as_ref()?.0);
        let Some(first) = urls.first() else {
            self.wrong(&path, "is an empty list: leave it out for no store");
            return None;
        };
        let why = "has more than one URL, which only mode = \"sentinel\" and \"cluster\" take";
        self.wrong_if(section.mode == StoreMode::Single && urls.len() > 1, &path, why);
        let alike = |one: &StoreUrl| (one.tls, one.database) == (first.tls, first.database);
        let why = "has URLs with different schemes or databases: the servers of a store are alike";
        self.wrong_if(!urls.iter().all(alike), &path, why);
        if let Some(nobody) = urls.iter().find(|url| is_example_host(&url.host)) {
            self.check_host(&path, &nobody.host);
        }
        let topology = self.topology(&section, first)?;
        let authorities = self.certificates(&at("ca"), section.ca.as_ref());
        let vain = !first.tls && section.ca.is_some();
        self.wrong_if(vain, &at("ca"), "is only for a URL that begins with rediss://");
        let tls = first.tls.then(|| authorities.map_or(Trust::Platform, Trust::Authorities));
        let socket = urls.iter().any(StoreUrl::is_socket);
        let why = "is a Unix socket, which only mode = \"single\" takes";
        self.wrong_if(socket && section.mode != StoreMode::Single, &path, why);
        let clear =
            urls.iter().any(|url| !first.tls && !url.is_socket() && !is_loopback(&url.host));
        let password = self.store_password(&section.path, first, section.password);
        let why = "is not rediss: the password crosses the network in the clear";
        self.warn_if(clear && password.is_some(), &path, why);
        let usual_port = if section.mode == StoreMode::Sentinel { SENTINEL_PORT } else { PORT };
        let sentinel_password = section.sentinel_password;
        Some(Settings {
            topology,
            addresses: urls.iter().map(|url| url.address(usual_port)).collect(),
            tls,
            username: section.username.or_else(|| first.username.clone()),
            password,
            sentinel_password: sentinel_password
                .and_then(|secret| self.secret(&at("sentinel_password"), secret)),
            database: first.database.unwrap_or(0),
            timeout: section.timeout.0,
            prefix: section.prefix.0,
            dialler: None,
        })
    }

    fn topology(&mut self, section: &StoreSection, first: &StoreUrl) -> Option<Topology> {
        let at = |key| section.path.key(key);
        for key in ["master", "sentinel_password"] {
            let vain = section.mode != StoreMode::Sentinel && self.is_set(&at(key));
            self.wrong_if(vain, &at(key), "is only for mode = \"sentinel\"");
        }
        match section.mode {
            StoreMode::Single => Some(Topology::Single),
            StoreMode::Cluster => {
                let why = "names a database: a cluster has only the one with the number 0";
                self.wrong_if(first.database.unwrap_or(0) != 0, &at("url"), why);
                Some(Topology::Cluster)
            }
            StoreMode::Sentinel => {
                if section.master.is_none() {
                    let what = "the name that the sentinels know the master by";
                    self.report.missing(&at("master"), what);
                }
                Some(Topology::Sentinel { master: section.master.clone()? })
            }
        }
    }

    /// The password, from its own key or from the URL, where it is warned about.
    fn store_password(
        &mut self,
        section: &super::file::KeyPath,
        url: &StoreUrl,
        own: Option<SecretSource>,
    ) -> Option<Secret> {
        let (in_url, path) = (section.key("url"), section.key("password"));
        if url.password.is_some() {
            self.wrong_if(own.is_some(), &path, "is given twice: in store.url as well");
            let why = "has a password in it, in the file itself: write password = \
                       { env = \"NAME\" } or { file = \"path\" } in [store]";
            self.warn_if(self.is_in_file(&in_url), &in_url, why);
            return url.password.clone();
        }
        self.secret(&path, own?)
    }
}

impl Parse for StoreUrl {
    const ALLOWED: &'static str = "a URL such as \"redis://host:6379/0\" or \"rediss://host\"";
    const PATTERN: &'static str = "^(([Rr][Ee][Dd][Ii][Ss]|[Vv][Aa][Ll][Kk][Ee][Yy])[Ss]?://[^?#]+|\
                                   ((redis|valkey)\\+)?unix:/([^?#]*[^/?#])(\\?db=[0-9]+)?)$";

    fn text(text: &str) -> Result<Self, ValueError> {
        if let Some(url) = Self::of_socket(text) {
            return url;
        }
        let url = Url::parse(text, REDIS).map_err(said)?;
        if url.query().is_some() {
            return Err(said(UrlError::Fragment));
        }
        let database = match &url.path()[1..] {
            "" => None,
            number => Some(number.parse().map_err(|_| NO_DATABASE)?),
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

impl StoreUrl {
    /// That of `unix:/run/redis.sock`, as other clients write it too: `redis+unix:///run/redis.sock`,
    /// with the number of the database behind it, `?db=1`. `None` for one of a host.
    fn of_socket(text: &str) -> Option<Result<Self, ValueError>> {
        let bare = ["redis+", "valkey+"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let (path, query) = bare
            .unwrap_or(text)
            .split_once('?')
            .map_or_else(|| (bare.unwrap_or(text), None), |(path, query)| (path, Some(query)));
        let path = UnixPath::of_address(path)?;
        Some(path.map_err(|why| why.to_string().into()).and_then(|path| {
            let database = match query.map(|query| query.strip_prefix("db=")) {
                None => None,
                Some(Some(number)) => Some(
                    number.parse().map_err(|_| "what follows ?db= is no number of a database")?,
                ),
                Some(None) => {
                    return Err(
                        "of a query, only ?db= is taken: there are keys for the rest".into()
                    );
                }
            };
            let host = path.as_path().display().to_string();
            Ok(Self { tls: false, username: None, password: None, host, port: Some(0), database })
        }))
    }

    /// Whether it is that of a Unix socket.
    fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }
}

const NO_DATABASE: &str = "what follows the host is no number of a database";

const REDIS: &[Scheme] = &[
    Scheme { name: "redis", tls: false, port: 6379 },
    Scheme { name: "rediss", tls: true, port: 6379 },
    Scheme { name: "valkey", tls: false, port: 6379 },
    Scheme { name: "valkeys", tls: true, port: 6379 },
];

/// What is wrong with a URL of a store.
fn said(why: UrlError) -> ValueError {
    match why {
        UrlError::Form | UrlError::NoScheme => {
            "found a string without redis:// or rediss://, valkey:// or valkeys://, or unix:".into()
        }
        UrlError::Scheme => {
            "its scheme is neither redis nor rediss, valkey nor valkeys, nor unix".into()
        }
        UrlError::Fragment => {
            "it has a query or a fragment: there are keys for all that can be set".into()
        }
        UrlError::Port => "its port is no port".into(),
        UrlError::NoHost | UrlError::Host => why.to_string().into(),
    }
}

/// A part of what stands before the `@`; `None` for an empty one.
fn decoded(text: &str) -> Result<Option<String>, ValueError> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| ValueError::from("its user or password is not UTF-8"))?;
    Ok((!text.is_empty()).then(|| text.into_owned()))
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
        assert!(parsed("valkeys://h").tls && !parsed("valkey://h").tls);
        for (text, database) in [
            ("unix:/run/redis.sock", None),
            ("unix:///run/redis.sock?db=3", Some(3)),
            ("redis+unix:///run/redis.sock", None),
            ("valkey+unix:///run/redis.sock?db=1", Some(1)),
        ] {
            let url = parsed(text);
            assert_eq!(url.address(6379).to_string(), "unix:/run/redis.sock", "{text}");
            assert_eq!(url.database, database, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_text() {
        for (text, why) in [
            ("localhost:6379", "without redis://"),
            ("unix:secret", "absolute"),
            ("unix:/secret?x=1", "only ?db="),
            ("unix:/secret?db=x", "no number"),
            ("redis+unix:///secret/", "ends with a slash"),
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
