//! `[listen]`: addresses, bounds, TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Build, copied};
use crate::certificate::{Gap, gap, is_root_of};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::{Count, Written};
use crate::net::tls;
use crate::server::{Bounds, PortSharing, Settings, Tls, TlsFileError, TlsSettings, certificates};

/// hyper reads into no smaller buffer.
const LEAST_HEAD: usize = 8 * 1024;

/// A larger head is an attack, and each connection may hold one.
const MOST_HEAD: usize = 1024 * 1024;

/// No machine has more cores.
const MOST_WORKERS: usize = 1024;

/// With fewer a connection could not even begin as honest clients do.
const FEWEST_FRAMES: u32 = 100;

impl Build<'_> {
    pub(super) fn listen(&mut self, raw: &raw::Listen) -> Settings {
        let section = KeyPath::of(&["listen"]);
        if raw.client_address.is_some() && raw.trusted_proxies.is_empty() {
            let why = "means nothing without listen.trusted_proxies: the field is believed of \
                       nobody, and behind a proxy everybody is one address";
            self.report.warn(&section.key("client_address"), why);
        }
        Settings {
            addresses: self.addresses(&section.key("address"), raw),
            share: if copied(&raw.share, false) { PortSharing::Yes } else { PortSharing::No },
            tls: raw.tls.as_ref().and_then(|tls| self.listen_tls(&section.key("tls"), tls)),
            workers: self.workers(&section.key("workers"), &raw.workers),
            bounds: self.bounds(&section, raw),
            proxies: raw.trusted_proxies.iter().map(|network| network.0).collect(),
        }
    }

    fn addresses(&mut self, path: &KeyPath, raw: &raw::Listen) -> Vec<SocketAddr> {
        let Some(written) = &raw.address else {
            return vec![SocketAddr::from(([127, 0, 0, 1], 8080))];
        };
        let addresses: Vec<SocketAddr> = written.0.iter().map(|address| address.0).collect();
        if addresses.is_empty() {
            self.report.wrong(path, "is an empty list: nobody could reach the gateway");
        }
        for (index, address) in addresses.iter().enumerate() {
            if address.port() != 0 && addresses[..index].contains(address) {
                self.report.wrong(&path.index(index), "is in the list already");
            }
        }
        addresses
    }

    fn workers(&mut self, path: &KeyPath, raw: &Option<Written<Count>>) -> Option<usize> {
        let workers = raw.as_ref()?.0.get();
        if workers > MOST_WORKERS {
            self.report.wrong(path, format_args!("must be from 1 to {MOST_WORKERS}"));
        }
        Some(workers)
    }

    fn bounds(&mut self, section: &KeyPath, raw: &raw::Listen) -> Bounds {
        let usual = Bounds::default();
        let head_bytes = raw.head_bytes.as_ref().map_or(usual.head_bytes, |size| size.0.0);
        if !(LEAST_HEAD..=MOST_HEAD).contains(&head_bytes) {
            self.report.wrong(&section.key("head_bytes"), "must be from 8KiB to 1MiB");
        }
        Bounds {
            head_bytes,
            head_timeout: copied(&raw.head_timeout, usual.head_timeout),
            idle: copied(&raw.idle_timeout, usual.idle),
            write: copied(&raw.write_timeout, usual.write),
            streams: raw.max_streams.as_ref().map_or(usual.streams, |count| count.0.0.get()),
            overhead_frames: self.overhead_frames(section, raw, usual.overhead_frames),
            connections: raw
                .max_connections
                .as_ref()
                .map_or(usual.connections, |count| count.0.get()),
            per_address: raw.max_connections_per_address.as_ref().map(|count| count.0.get()),
            pre_drain: copied(&raw.pre_drain, usual.pre_drain),
            drain: copied(&raw.drain, usual.drain),
        }
    }

    fn overhead_frames(&mut self, section: &KeyPath, raw: &raw::Listen, usual: u32) -> u32 {
        let Some(frames) = &raw.max_overhead_frames else { return usual };
        let frames = frames.0.0.get();
        if frames < FEWEST_FRAMES {
            let why = format_args!("must be {FEWEST_FRAMES} or more");
            self.report.wrong(&section.key("max_overhead_frames"), why);
        }
        frames
    }

    /// Reads every file as the server will, so that `check` finds what is wrong.
    fn listen_tls(&mut self, path: &KeyPath, raw: &raw::Tls) -> Option<TlsSettings> {
        let certificate = raw.certificate.as_ref().map(|path| self.files.path(&path.0.0));
        let key = raw.key.as_ref().map(|path| self.files.path(&path.0.0));
        let mut readable = true;
        for (name, file) in [("certificate", &certificate), ("key", &key)] {
            let path = path.key(name);
            match file {
                None => self.report.missing(&path, "the path of a PEM file"),
                Some(file) => readable &= self.readable(&path, file).is_some(),
            }
        }
        let client = self.client_auth(path, raw, &mut readable);
        let settings = TlsSettings { certificate: certificate?, key: key?, client };
        if readable {
            self.private(&path.key("key"), &settings.key);
            match Tls::new(&settings) {
                Ok(tls) => {
                    self.check_lists(path, &settings, &tls);
                    self.check_chain(&path.key("certificate"), &settings);
                }
                Err(why) => self.unusable(path, &settings, &why),
            }
        }
        Some(settings)
    }

    /// Warns about a chain that a client who has only the root cannot follow.
    fn check_chain(&mut self, path: &KeyPath, settings: &TlsSettings) {
        let Ok(chain) = certificates(&settings.certificate) else { return };
        let Some(Gap { below, issuer, broken }) = gap(&chain) else { return };
        if broken {
            let why = format_args!(
                "names a file whose certificate {} has not issued certificate {below}: clients that \
                 have only the root will refuse it; put the certificate of the issuer there, `{issuer}`",
                below + 1
            );
            return self.report.warn(path, why);
        }
        let authorities = settings.client.iter().flat_map(|client| &client.authorities);
        let mut roots = authorities.filter_map(|one| certificates(&one.file).ok()).flatten();
        // Who knows the issuer has it as a root: the platform, or these.
        if roots.any(|root| is_root_of(&root, &chain)) || tls::is_issuer_known(&chain) {
            return;
        }
        let why = format_args!(
            "names a file with one certificate, and `{issuer}` has issued it: unless that is a root \
             which every client has, they will refuse it; append the certificate of that issuer \
             (authorities call such a file the full chain)"
        );
        self.report.warn(path, why);
    }

    /// Warns about lists of revoked certificates that are out of date.
    fn check_lists(&mut self, path: &KeyPath, settings: &TlsSettings, tls: &Tls) {
        let crls = settings.client.as_ref().map_or(&[][..], |client| &client.crls);
        let old = tls.out_of_date_lists(self.now);
        for index in (0..crls.len()).filter(|index| old.contains(&crls[*index])) {
            let why = "names a file with a list that is out of date, and there is no newer one: no \
                       certificate that it is about is trusted";
            self.report.warn(&crl_path(path, crls, index), why);
        }
    }

    /// The path of a file is a text of the configuration as any other: it is told by its key.
    fn unusable(&mut self, path: &KeyPath, settings: &TlsSettings, why: &TlsFileError) {
        let key_of = |file: &Path| {
            let client = settings.client.as_ref();
            let crls = client.map_or(&[][..], |client| &client.crls);
            let authorities = client.map_or(&[][..], |client| &client.authorities);
            if file == settings.key {
                path.key("key")
            } else if let Some(authority) = authorities.iter().find(|one| file == one.file) {
                authority_path(path, &authority.name)
            } else if let Some(index) = crls.iter().position(|crl| file == crl) {
                crl_path(path, crls, index)
            } else {
                path.key("certificate")
            }
        };
        match why {
            TlsFileError::Read { path: file, .. } => {
                self.report.wrong(&key_of(file), "names a file that cannot be read");
            }
            TlsFileError::Text { path: file, why } => {
                self.report.wrong(&key_of(file), format_args!("names a file that {why}"));
            }
            TlsFileError::Pem { path: file, what } => {
                let why = format_args!("names a file without a {what} in PEM form");
                self.report.wrong(&key_of(file), why);
            }
            TlsFileError::Authority { path: file, why } => {
                let why = format_args!("names a file with no authority's certificate: {why}");
                self.report.wrong(&key_of(file), why);
            }
            TlsFileError::List { path: file, why } => {
                self.report.wrong(&key_of(file), format_args!("names a file with {why}"));
            }
            TlsFileError::Unlisted { authority, index } => {
                let which = match &**authority {
                    "" => format!("certificate {} of listen.tls.client_ca", index + 1),
                    name => format!("the authority `{name}` of listen.tls.client_ca"),
                };
                let why = format!(
                    "has no list of {which}: while others have one, each needs one, for its \
                     certificates could never be trusted"
                );
                self.report.wrong(&path.key("client_crl"), why);
            }
            TlsFileError::Encrypted { path: file } => {
                let why = "names a file whose private key is encrypted, and nobody is there to \
                           type the password: write it in the clear, readable by the gateway \
                           alone (`openssl pkey -in old.pem -out new.pem`)";
                self.report.wrong(&key_of(file), why);
            }
            TlsFileError::Order { path: file, index } => {
                let why = format_args!(
                    "names a file with the certificates in the wrong order: the key is that of \
                     certificate {index}, and the gateway's own comes first, then those that have \
                     issued it"
                );
                self.report.wrong(&key_of(file), why);
            }
            TlsFileError::Mismatch => {
                let why = "is of another certificate than the first of `certificate`: they do not \
                           belong together";
                self.report.wrong(&path.key("key"), why);
            }
            TlsFileError::Unusable(why) => {
                self.report.wrong(path, format_args!("cannot be used: {why}"));
            }
        }
    }
}

/// The key of a list of revoked certificates.
pub(super) fn crl_path(path: &KeyPath, crls: &[PathBuf], index: usize) -> KeyPath {
    let path = path.key("client_crl");
    if crls.len() == 1 { path } else { path.index(index) }
}

/// The key of an authority.
fn authority_path(path: &KeyPath, name: &str) -> KeyPath {
    let path = path.key("client_ca");
    if name.is_empty() { path } else { path.key(name) }
}
