//! `[listen]`: addresses, bounds, TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Build, copied};
use crate::certificate;
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::{Count, Written};
use crate::config::word::ClientAuth;
use crate::server::{Bounds, ClientSettings, Settings, Tls, TlsError, TlsSettings};

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
            share: copied(&raw.share, false),
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
            if let Err(why) = Tls::new(&settings) {
                self.unusable(path, &settings, &why);
            }
        }
        Some(settings)
    }

    fn client_auth(
        &mut self,
        path: &KeyPath,
        raw: &raw::Tls,
        readable: &mut bool,
    ) -> Option<ClientSettings> {
        let Some(ca) = &raw.client_ca else {
            let others = [
                ("client_crl", raw.client_crl.is_some()),
                ("client_auth", raw.client_auth.is_some()),
            ];
            for (name, _) in others.iter().filter(|(_, set)| *set) {
                let why = "means nothing without client_ca, the authorities of clients";
                if !self.report.was_removed(&path.key("client_ca")) {
                    self.report.wrong(&path.key(name), why);
                }
            }
            return None;
        };
        let ca = self.files.path(&ca.0.0);
        *readable &= self.readable(&path.key("client_ca"), &ca).is_some();
        let lists = raw.client_crl.as_ref().map_or(&[][..], |lists| &lists.0);
        let crls: Vec<PathBuf> = lists.iter().map(|list| self.files.path(&list.0.0)).collect();
        for (index, file) in crls.iter().enumerate() {
            let path = crl_path(path, &crls, index);
            let Some(bytes) = self.readable(&path, file) else {
                *readable = false;
                continue;
            };
            if next_updates(&bytes).any(|until| until < self.now.as_second()) {
                let why = "names a file with a list that is out of date: no certificate that it is \
                           about is trusted";
                self.report.warn(&path, why);
            }
        }
        let required = raw.client_auth.as_ref().is_some_and(|mode| mode.0 == ClientAuth::Require);
        Some(ClientSettings { ca, crls, required })
    }

    /// The path of a file is a text of the configuration as any other: it is told by its key.
    fn unusable(&mut self, path: &KeyPath, settings: &TlsSettings, why: &TlsError) {
        let key_of = |file: &Path| {
            let client = settings.client.as_ref();
            let crls = client.map_or(&[][..], |client| &client.crls);
            if file == settings.key {
                path.key("key")
            } else if client.is_some_and(|client| file == client.ca) {
                path.key("client_ca")
            } else if let Some(index) = crls.iter().position(|crl| file == crl) {
                crl_path(path, crls, index)
            } else {
                path.key("certificate")
            }
        };
        match why {
            TlsError::Read { path: file, .. } => {
                self.report.wrong(&key_of(file), "names a file that cannot be read");
            }
            TlsError::Pem { path: file, what } => {
                let why = format_args!("names a file without a {what} in PEM form");
                self.report.wrong(&key_of(file), why);
            }
            TlsError::Authority { path: file, source } => {
                let why = format_args!("names a file with no authority's certificate: {source}");
                self.report.wrong(&key_of(file), why);
            }
            TlsError::Unusable(why) => {
                self.report.wrong(path, format_args!("cannot be used: {why}"));
            }
        }
    }
}

/// The key of a list of revoked certificates.
fn crl_path(path: &KeyPath, crls: &[PathBuf], index: usize) -> KeyPath {
    let path = path.key("client_crl");
    if crls.len() == 1 { path } else { path.index(index) }
}

/// Until when the lists in a file are good, in seconds of Unix time.
fn next_updates(pem: &[u8]) -> impl Iterator<Item = i64> {
    let lists = CertificateRevocationListDer::pem_slice_iter(pem);
    lists.filter_map(|list| certificate::next_update(&list.ok()?))
}
