//! `[listen]` and `[listeners.NAME]`: addresses and what is believed of whoever comes by them; and
//! the bounds of the process, which are keys of `[listen]` alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::build::Build;
use super::certificates::AskingListener;
use super::errors::LimitStatus;
use super::file::{KeyPath, OneOrMore, section, word_types};
use super::number::{Between, Size};
use super::socket_file::{SocketMode, SocketOwner};
use super::tls::TlsSection;
use crate::caller::Transport;
use crate::edge::ClientField;
use crate::net::ListenAddress;
use crate::server::{Bounds, LISTEN, ListenerSettings, PortSharing, Settings, SocketFile};
use crate::{failure, gateway};

section! {
    pub(super) struct ListenSection {
        /// One address or a list of them. Port 0 selects a free one. Sockets that
        /// [systemd](production.md#under-systemd) passes replace them.
        address: OneOrMore<ListenAddress> = "127.0.0.1:8080";
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
        /// The status of a response over a limit to requests by this listener, 403 or 429.
        rate_limit_status: Option<LimitStatus> => "that of `errors.rate_limit_status`";
        /// Networks and addresses of proxies of TCP that begin each connection with a
        /// [PROXY protocol](production.md#the-proxy-protocol) header, of version 1 or 2: whom it
        /// names is the peer then. No other peer may send one.
        proxy_protocol: Vec<IpNet>;
        /// The rights of the files of Unix sockets, in octal digits.
        socket_mode: SocketMode = "0660";
        /// Their owner, `"user"`, `"user:group"` or `":group"`, names or numbers.
        socket_owner: Option<SocketOwner> => "that of the process";
        /// The largest head of a request. This bound and those below hold for every
        /// listener.
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
        /// The most connections of the process, over all listeners. At this number an idle one is
        /// ended for a new one; see [production.md](production.md#slow-clients).
        max_connections: usize = 10000;
        /// The most connections from one address, or one /64 of IPv6, over all listeners. Those of
        /// a listener's `trusted_proxies` are not limited.
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

section! {
    pub(super) struct ListenerSection {
        /// One address or a list of them, as `listen.address`. See
        /// [Several listeners](production.md#several-listeners).
        address: Option<OneOrMore<ListenAddress>> | "where to listen, such as \"0.0.0.0:8443\"";
        /// As `listen.share`.
        share: bool = false;
        /// As `listen.trusted_proxies`, and not inherited from there: what proxies of one listener
        /// say is not believed of those of another.
        trusted_proxies: Vec<IpNet>;
        /// As `listen.client_address`.
        client_address: ClientField = "x-forwarded-for";
        /// As `listen.rate_limit_status`.
        rate_limit_status: Option<LimitStatus> => "that of `errors.rate_limit_status`";
        /// As `listen.proxy_protocol`.
        proxy_protocol: Vec<IpNet>;
        /// As `listen.socket_mode`.
        socket_mode: SocketMode = "0660";
        /// As `listen.socket_owner`.
        socket_owner: Option<SocketOwner> => "that of the process";
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

/// Each has sockets on every worker, and series in the metrics.
const MOST_LISTENERS: usize = 64;

/// Names that mean something else: to a service manager that hands down sockets, and in metrics.
const TAKEN: [&str; 3] = [LISTEN, "http", "admin"];

/// What the listeners make together.
pub(super) struct Listeners {
    pub(super) server: Settings,
    pub(super) gateway: Vec<gateway::ListenerPolicySettings>,
    /// Every address, with its key.
    pub(super) addresses: Vec<(KeyPath, ListenAddress)>,
    /// Whom clients are certified by, of each listener that asks for certificates.
    pub(super) asking: Vec<AskingListener>,
}

impl Build<'_> {
    pub(super) fn listeners(
        &mut self,
        listen: ListenSection,
        named: BTreeMap<String, ListenerSection>,
        errors: failure::Settings,
    ) -> Listeners {
        let workers = listen.workers.as_ref().and_then(|workers| workers.0.try_into().ok());
        let bounds = Self::bounds(&listen);
        let path = KeyPath::of(&["listeners"]);
        let why = format_args!("has more than {MOST_LISTENERS} listeners");
        self.wrong_if(named.len() > MOST_LISTENERS, &path, why);
        let (mut listeners, mut gateway) = (Vec::new(), Vec::new());
        let (mut addresses, mut asking) = (Vec::new(), Vec::new());
        let first = (LISTEN.to_owned(), ListenerSection::from(listen));
        for (index, (name, section)) in [first].into_iter().chain(named).enumerate() {
            if index > 0 {
                self.check_listener_name(&section.path, &name);
            }
            let (of_server, of_gateway) = self.listener(&name, &section, errors);
            if of_server.tls.as_ref().is_some_and(|tls| tls.client.is_some())
                && let Some(tls) = &section.tls
            {
                let (path, transport) =
                    (tls.path.clone(), of_gateway.transport_certificates.clone());
                asking.push(AskingListener { path, index, transport });
            }
            self.collect_addresses(&section, &mut addresses);
            listeners.push(of_server);
            gateway.push(of_gateway);
        }
        let server = Settings { listeners, workers, bounds };
        Listeners { server, gateway, addresses, asking }
    }

    fn check_listener_name(&mut self, path: &KeyPath, name: &str) {
        self.check_name(path, name);
        let why = "has a name that means another listener: `listen` and `http` are [listen], `admin` \
                   is [admin]; choose another";
        self.wrong_if(TAKEN.contains(&name), path, why);
    }

    fn listener(
        &mut self,
        name: &str,
        section: &ListenerSection,
        errors: failure::Settings,
    ) -> (ListenerSettings, gateway::ListenerPolicySettings) {
        let at = |key| section.path.key(key);
        let name: Arc<str> = name.into();
        let proxies = at("trusted_proxies");
        let vain = self.is_set(&at("client_address")) && section.trusted_proxies.is_empty();
        let why = format_args!(
            "means nothing without {proxies}: the field is believed of nobody, and behind a proxy \
             everybody is one address"
        );
        self.warn_if(vain, &at("client_address"), why);
        let everyone = section.proxy_protocol.iter().position(|network| network.prefix_len() == 0);
        if let Some(index) = everyone {
            let why = "names everyone, so that any client could take any address: name the proxies";
            self.wrong(&at("proxy_protocol").index(index), why);
        }
        let addresses = section.address.as_ref().map_or(&[][..], |addresses| &addresses.0);
        let why = "is an empty list: nobody could reach the gateway";
        self.wrong_if(section.address.is_some() && addresses.is_empty(), &at("address"), why);
        let tls = section.tls.as_ref().and_then(|tls| self.listen_tls(tls));
        let asks = tls.as_ref().is_some_and(|tls| tls.client.is_some());
        let transport = self.transport(section.tls.as_ref());
        let status = section.rate_limit_status;
        let of_gateway = gateway::ListenerPolicySettings {
            name: Arc::clone(&name),
            trusted_proxies: section.trusted_proxies.clone(),
            client_field: section.client_address,
            errors: status.map_or(errors, |status| errors.with_rate_limit_status(status.0)),
            transport_certificates: if asks { transport } else { Transport::All },
        };
        let owner = self.socket_owner(&at("socket_owner"), section.socket_owner.as_ref());
        let of_server = ListenerSettings {
            name,
            socket: SocketFile { mode: section.socket_mode.0, ..owner },
            addresses: addresses.to_vec(),
            share: if section.share { PortSharing::Yes } else { PortSharing::No },
            tls,
            proxies: section.trusted_proxies.clone(),
            proxy_protocol: section.proxy_protocol.clone(),
        };
        (of_server, of_gateway)
    }

    fn bounds(section: &ListenSection) -> Bounds {
        Bounds {
            head_bytes: section.head_bytes.0,
            head_timeout: section.head_timeout,
            idle: section.idle_timeout,
            write: section.write_timeout,
            streams: section.max_streams,
            overhead_frames: section.max_overhead_frames.0,
            connections: section.max_connections,
            per_address: section.max_connections_per_address,
            pre_drain: section.pre_drain,
            drain: section.drain,
        }
    }

    /// Notes the addresses of a listener; each must be its own.
    fn collect_addresses(
        &mut self,
        section: &ListenerSection,
        all: &mut Vec<(KeyPath, ListenAddress)>,
    ) {
        let addresses = section.address.as_ref().map_or(&[][..], |addresses| &addresses.0);
        let path = section.path.key("address");
        let (before, alone) = (all.len(), addresses.len() == 1);
        for (index, address) in addresses.iter().enumerate() {
            let own = if alone { path.clone() } else { path.index(index) };
            let twice = address.port() != Some(0)
                && all[before..].iter().any(|(_, other)| other == address);
            if twice {
                self.wrong(&own, "is in the list already");
            } else {
                self.check_collision(&own, address, all);
            }
            all.push((own, address.clone()));
        }
    }

    /// Whether an address is, or covers, one of these; that it does is reported.
    pub(super) fn check_collision(
        &mut self,
        path: &KeyPath,
        address: &ListenAddress,
        others: &[(KeyPath, ListenAddress)],
    ) {
        for (other, known) in others {
            if known == address && address.port() != Some(0) {
                let why = format_args!("is an address of {other} as well: give each its own");
                return self.wrong(path, why);
            }
            if overlap(known, address) {
                let why = format_args!(
                    "takes connections of `{other}` as well: this process listens there already, \
                     where one of the two is every address or both name the same one; choose another \
                     port, or name each address"
                );
                return self.wrong(path, why);
            }
        }
    }
}

/// Whether both would listen on the same port of an address.
fn overlap(one: &ListenAddress, other: &ListenAddress) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| {
        let all = |ip: IpAddr| ip.is_unspecified();
        a.port() != 0
            && a.port() == b.port()
            && a.is_ipv4() == b.is_ipv4()
            && (a.ip() == b.ip() || all(a.ip()) || all(b.ip()))
    };
    let (one, other) = (one.sockets(), other.sockets());
    one.iter().any(|a| other.iter().any(|b| covers(*a, *b)))
}

impl From<ListenSection> for ListenerSection {
    fn from(listen: ListenSection) -> Self {
        Self {
            path: listen.path,
            address: Some(listen.address),
            share: listen.share,
            trusted_proxies: listen.trusted_proxies,
            client_address: listen.client_address,
            rate_limit_status: listen.rate_limit_status,
            proxy_protocol: listen.proxy_protocol,
            socket_mode: listen.socket_mode,
            socket_owner: listen.socket_owner,
            tls: listen.tls,
        }
    }
}
