//! `[store]`: what several gateways share.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Build, copied};
use crate::config::place::{KeyPath, Place};
use crate::config::placeholder::is_example_host;
use crate::config::raw;
use crate::config::store_url::{StoreMode, StoreUrl};
use crate::limit::{OnStoreError, Replicas};
use crate::net::is_loopback;
use crate::store::{Settings, Topology, Trust};
use crate::token::Secret;

/// How long a request waits for the store.
const TIMEOUT: Duration = Duration::from_millis(25);

/// Whoever waits longer than this does not want to wait for a store at all.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The ports of a server and of a sentinel.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

impl Build<'_> {
    /// The store, and how the limits use it; `None` for no store.
    pub(super) fn store(&mut self, raw: raw::Store) -> (Option<Settings>, Replicas) {
        let section = KeyPath::of(&["store"]);
        let replicas = Replicas {
            count: raw.replicas.as_ref().map_or(NonZeroU32::MIN, |count| count.0.0),
            lease: copied(&raw.lease, true),
        };
        let Some(urls) = &raw.url else {
            self.without_a_store(&section, &raw, replicas.count);
            return (None, replicas);
        };
        let urls: Vec<StoreUrl> = urls.0.iter().map(|url| url.0.clone()).collect();
        let settings = self.store_settings(&section, &urls, raw);
        (settings, replicas)
    }

    /// What is said in vain, and what a user may not know.
    fn without_a_store(&mut self, section: &KeyPath, raw: &raw::Store, replicas: NonZeroU32) {
        let url = section.key("url");
        if self.report.was_removed(&url) {
            return;
        }
        if replicas > NonZeroU32::MIN {
            let why = format_args!(
                "is {replicas} without a store: each replica counts for itself, so that together \
                 they let {replicas} times as much through; set store.url"
            );
            self.report.warn(&section.key("replicas"), why);
        } else if raw.is_about_a_store() {
            self.report.missing(&url, "a URL such as \"redis://host:6379/0\"");
        }
    }

    fn store_settings(
        &mut self,
        section: &KeyPath,
        urls: &[StoreUrl],
        raw: raw::Store,
    ) -> Option<Settings> {
        let path = section.key("url");
        let mode = copied(&raw.mode, StoreMode::default());
        let Some(first) = urls.first() else {
            self.report.wrong(&path, "is an empty list: leave it out for no store");
            return None;
        };
        if mode == StoreMode::Single && urls.len() > 1 {
            let why = "has more than one URL, which only mode = \"sentinel\" and \"cluster\" take";
            self.report.wrong(&path, why);
        }
        let alike = |one: &StoreUrl| (one.tls, one.database) == (first.tls, first.database);
        if !urls.iter().all(alike) {
            let why = "has URLs with different schemes or databases: the servers of a store are \
                       alike";
            self.report.wrong(&path, why);
        }
        if let Some(nobody) = urls.iter().find(|url| is_example_host(&url.host)) {
            self.check_host(&path, &nobody.host);
        }
        let topology = self.topology(section, mode, first, &raw)?;
        let usual_port = if mode == StoreMode::Sentinel { SENTINEL_PORT } else { PORT };
        let tls = self.trust(section, first.tls, &raw);
        let password = self.store_password(section, first, raw.password);
        let clear = urls.iter().any(|url| !first.tls && !is_loopback(&url.host));
        if clear && password.is_some() {
            let why = "is not rediss: the password crosses the network in the clear";
            self.report.warn(&path, why);
        }
        let timeout = copied(&raw.timeout, TIMEOUT);
        if timeout > LONGEST_TIMEOUT {
            self.report.wrong(&section.key("timeout"), "must be 5s at most: requests wait for it");
        }
        Some(Settings {
            topology,
            addresses: urls.iter().map(|url| url.address(usual_port)).collect(),
            tls,
            username: raw.username.map(|name| name.0).or_else(|| first.username.clone()),
            password,
            sentinel_password: raw
                .sentinel_password
                .and_then(|secret| self.secret(&section.key("sentinel_password"), secret)),
            database: first.database.unwrap_or(0),
            timeout,
            prefix: raw.prefix.map_or_else(|| "wbg".to_owned(), |prefix| prefix.0.0),
        })
    }

    fn topology(
        &mut self,
        section: &KeyPath,
        mode: StoreMode,
        first: &StoreUrl,
        raw: &raw::Store,
    ) -> Option<Topology> {
        let of_sentinels = [
            ("master", raw.master.is_some()),
            ("sentinel_password", raw.sentinel_password.is_some()),
        ];
        if mode != StoreMode::Sentinel {
            for (name, _) in of_sentinels.into_iter().filter(|(_, set)| *set) {
                self.report.wrong(&section.key(name), "is only for mode = \"sentinel\"");
            }
        }
        match mode {
            StoreMode::Single => Some(Topology::Single),
            StoreMode::Cluster => {
                if first.database.unwrap_or(0) != 0 {
                    let why = "names a database: a cluster has only the one with the number 0";
                    self.report.wrong(&section.key("url"), why);
                }
                Some(Topology::Cluster)
            }
            StoreMode::Sentinel => match &raw.master {
                Some(master) => Some(Topology::Sentinel { master: master.0.clone() }),
                None => {
                    let what = "the name that the sentinels know the master by";
                    self.report.missing(&section.key("master"), what);
                    None
                }
            },
        }
    }

    fn trust(&mut self, section: &KeyPath, tls: bool, raw: &raw::Store) -> Option<Trust> {
        let path = section.key("ca");
        let authorities = self.certificates(&path, &raw.ca);
        if !tls {
            if raw.ca.is_some() {
                self.report.wrong(&path, "is only for a URL that begins with rediss://");
            }
            return None;
        }
        Some(authorities.map_or(Trust::Platform, Trust::Authorities))
    }

    /// The password, from its own key or from the URL, where it is warned about.
    fn store_password(
        &mut self,
        section: &KeyPath,
        url: &StoreUrl,
        raw: Option<raw::Secret>,
    ) -> Option<Secret> {
        let in_url = section.key("url");
        if url.password.is_some() {
            if raw.is_some() {
                let why = "is given twice: in store.url as well";
                self.report.wrong(&section.key("password"), why);
            }
            let in_file = !matches!(self.report.places.of(&in_url), Place::Variable(_));
            if in_file && !self.embedded {
                let why = "has a password in it, in the file itself: write password = \
                           { env = \"NAME\" } or { file = \"path\" } in [store]";
                self.report.warn(&in_url, why);
            }
            return url.password.clone();
        }
        self.secret(&section.key("password"), raw?)
    }

    /// What a profile says of a store that is not there.
    pub(super) fn check_on_store_error(
        &mut self,
        path: &KeyPath,
        raw: &raw::Profile,
        has_store: bool,
    ) -> OnStoreError {
        if raw.on_store_error.is_some() && !has_store {
            let why = "means nothing without a store: limits are in memory; set store.url";
            self.report.warn(&path.key("on_store_error"), why);
        }
        copied(&raw.on_store_error, OnStoreError::default())
    }
}
