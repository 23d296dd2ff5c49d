//! `[listen]`: addresses and bounds.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::build::Build;
use super::file::{KeyPath, OneOrMore, section, word_types};
use super::number::{Between, Size};
use super::tls::TlsSection;
use crate::edge::ClientField;
use crate::server::{Bounds, PortSharing, Settings};

section! {
    pub(super) struct ListenSection {
        /// One address or a list of them. Port 0 selects a free one. Sockets that
        /// [systemd](production.md#under-systemd) passes replace them.
        address: OneOrMore<SocketAddr> = "127.0.0.1:8080";
        /// Whether another process may serve the same port, for a
        /// [hand-over](production.md#a-second-process-on-the-same-port). Otherwise a port that is
        /// in use is an error.
        share: bool = false;
        /// Worker threads. The cores are those that the process may use.
        workers: Option<Between<1, MOST_WORKERS>> => "one per core";
        /// Networks and addresses of peers whose `X-Request-Id` and `listen.client_address` are
        /// trusted.
        trusted_proxies: Vec<IpNet>;
        /// The field in which trusted proxies name the client, `"x-forwarded-for"` or `"forwarded"`
        /// (RFC 7239). The other is ignored: a proxy forwards unchanged the field that it does not
        /// write, so a client can forge it.
        client_address: ClientField = "x-forwarded-for";
        /// The largest head of a request.
        head_bytes: Size<LEAST_HEAD, MOST_HEAD> = "16KiB";
        /// How long a head, and a TLS handshake, may take to arrive.
        head_timeout: Duration = "5s";
        /// How long a connection may be idle.
        idle_timeout: Duration = "75s";
        /// How long a peer may read nothing of a response. Then the connection ends, and so does
        /// the response's source.
        write_timeout: Duration = "30s";
        /// The most HTTP/2 streams of a connection.
        max_streams: u32 = 100;
        /// The most HTTP/2 frames at once that ask for no response: [what they
        /// are](http2.md#frames-that-ask-for-no-answer).
        max_overhead_frames: Between<FEWEST_FRAMES, { u32::MAX }> = 1000;
        /// The most connections of the process. At this number an idle one is ended for a new one;
        /// see [production.md](production.md#slow-clients).
        max_connections: usize = 10000;
        /// The most connections from one address, or one /64 of IPv6. `listen.trusted_proxies` are
        /// not limited.
        max_connections_per_address: Option<usize>;
        /// How long, after SIGTERM, the process is not ready but still serves, so that load
        /// balancers can send requests elsewhere. Each response is then the last one on its
        /// connection. SIGINT does not wait, nor does a second SIGTERM.
        pre_drain: Duration = "5s";
        /// How long requests in flight, and creations whose caller has gone, may take after a stop
        /// signal.
        drain: Duration = "25s";
        tls: Option<TlsSection>;
    }
}

word_types!(ClientField);

/// hyper reads into no smaller buffer.
const LEAST_HEAD: u32 = 8 * 1024;

/// A larger head is an attack, and each connection may hold one.
const MOST_HEAD: u32 = 1024 * 1024;

/// No machine has more cores.
const MOST_WORKERS: u32 = 1024;

/// With fewer a connection could not even begin as honest clients do.
const FEWEST_FRAMES: u32 = 100;

impl Build<'_> {
    pub(super) fn listen(&mut self, section: &ListenSection) -> Settings {
        let at = |key| section.path.key(key);
        let vain = self.is_set(&at("client_address")) && section.trusted_proxies.is_empty();
        let why = "means nothing without listen.trusted_proxies: the field is believed of \
                   nobody, and behind a proxy everybody is one address";
        self.warn_if(vain, &at("client_address"), why);
        self.check_addresses(&at("address"), &section.address.0);
        Settings {
            addresses: section.address.0.clone(),
            share: if section.share { PortSharing::Yes } else { PortSharing::No },
            tls: section.tls.as_ref().and_then(|tls| self.listen_tls(tls)),
            workers: section.workers.as_ref().and_then(|workers| usize::try_from(workers.0).ok()),
            bounds: section.bounds(),
            proxies: section.trusted_proxies.clone(),
        }
    }

    fn check_addresses(&mut self, path: &KeyPath, addresses: &[SocketAddr]) {
        let why = "is an empty list: nobody could reach the gateway";
        self.wrong_if(addresses.is_empty(), path, why);
        for (index, address) in addresses.iter().enumerate() {
            let twice = address.port() != 0 && addresses[..index].contains(address);
            self.wrong_if(twice, &path.index(index), "is in the list already");
        }
    }
}

impl ListenSection {
    const fn bounds(&self) -> Bounds {
        Bounds {
            head_bytes: self.head_bytes.0,
            head_timeout: self.head_timeout,
            idle: self.idle_timeout,
            write: self.write_timeout,
            streams: self.max_streams,
            overhead_frames: self.max_overhead_frames.0,
            connections: self.max_connections,
            per_address: self.max_connections_per_address,
            pre_drain: self.pre_drain,
            drain: self.drain,
        }
    }
}
