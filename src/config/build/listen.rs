//! `[listen]`: addresses, bounds, TLS.

use std::net::SocketAddr;

use super::{Build, copied};
use crate::config::place::KeyPath;
use crate::config::raw;
use crate::config::value::{Count, Written};
use crate::server::{Bounds, Settings, Tls, TlsError, TlsSettings};

/// hyper reads into no smaller buffer.
const LEAST_HEAD: usize = 8 * 1024;

/// A larger head is an attack, and each connection may hold one.
const MOST_HEAD: usize = 1024 * 1024;

/// No machine has more cores.
const MOST_WORKERS: usize = 1024;

impl Build<'_> {
    pub(super) fn listen(&mut self, raw: &raw::Listen) -> Settings {
        let section = KeyPath::of(&["listen"]);
        Settings {
            addresses: self.addresses(&section.key("address"), raw),
            share: copied(&raw.share, false),
            tls: raw.tls.as_ref().and_then(|tls| self.listen_tls(&section.key("tls"), tls)),
            workers: self.workers(&section.key("workers"), &raw.workers),
            bounds: self.bounds(&section, raw),
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
            streams: raw.max_streams.as_ref().map_or(usual.streams, |count| count.0.0.get()),
            connections: raw
                .max_connections
                .as_ref()
                .map_or(usual.connections, |count| count.0.get()),
            drain: copied(&raw.drain, usual.drain),
        }
    }

    /// Reads certificate and key as the server will, so that `check` finds what is wrong.
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
        let settings = TlsSettings { certificate: certificate?, key: key? };
        if readable {
            self.private(&path.key("key"), &settings.key);
            match Tls::new(&settings) {
                Ok(_) => {}
                // The path is a text of the file as any other: only what it holds is told.
                Err(TlsError::Read { .. }) => self.report.wrong(path, "cannot be read"),
                Err(TlsError::Pem { path: file, what }) => {
                    let name = if file == settings.key { "key" } else { "certificate" };
                    let why = format_args!("names a file without a {what} in PEM form");
                    self.report.wrong(&path.key(name), why);
                }
                Err(TlsError::Unusable(why)) => {
                    self.report.wrong(path, format_args!("cannot be used: {why}"));
                }
            }
        }
        Some(settings)
    }
}
