//! Listening sockets: one per worker on the same port, so that the kernel spreads connections; or
//! one that was handed down, which all workers accept from.
//!
//! A socket that is closed resets the connections in its queue. So a socket is closed when its
//! queue is empty, and one that another process takes over from when nothing is on its way to it.

#[cfg(target_os = "linux")]
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use super::port_owner::{self, PortOwner};
use super::settings::{ListenerSettings, PortSharing};
use crate::net::{ListenAddress, UnixPath};
use crate::text;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

/// As many connections may wait to be accepted.
pub(super) const BACKLOG: i32 = 4096;

/// The sockets of one address.
pub(super) struct AddressListeners {
    /// The address, with its real port.
    pub(super) address: ListenAddress,
    /// One for each worker.
    pub(super) sockets: Vec<WorkerSocket>,
}

/// A socket that listens.
pub(super) enum BoundSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A socket of a worker.
pub(super) struct WorkerSocket {
    pub(super) socket: BoundSocket,
    /// Whether other processes may have sockets of their own on the same port.
    pub(super) shared: bool,
}

/// Binds `count` sockets for each address that this one means. A machine without one of the
/// families has the other alone, where both are meant.
pub(super) fn bind_all(
    address: &ListenAddress,
    all: &[SocketAddr],
    count: usize,
    listener: &ListenerSettings,
) -> io::Result<Vec<AddressListeners>> {
    let mut bound: Vec<AddressListeners> = Vec::new();
    let sockets = address.sockets();
    let both = sockets.len() > 1;
    for mut socket in sockets {
        // A free port is the same one of both.
        if let (0, Some(first)) = (socket.port(), bound.first()) {
            socket.set_port(first.address.port().unwrap_or_default());
        }
        match bind(socket, all, count, listener) {
            Ok(listeners) => bound.push(listeners),
            Err(why) if both && lacks_family(&why) => {}
            Err(why) => return Err(why),
        }
    }
    if bound.is_empty() {
        let why = format!("cannot listen on {address}: this machine has none of its addresses");
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, why));
    }
    Ok(bound)
}

/// Whether this machine has no address of that family.
fn lacks_family(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
}

/// Binds `count` sockets with `SO_REUSEPORT`.
///
/// With `SO_REUSEPORT` a second process of the same user would bind the same port without a word
/// and take half of the requests; so one socket is bound without it first, unless that is wanted.
/// That one also finds the number for port 0.
///
/// Where IPv4 has an address of its own on the port, a socket of IPv6 leaves it alone; where it has
/// none, `[::]` is both.
fn bind(
    address: SocketAddr,
    all: &[SocketAddr],
    count: usize,
    listener: &ListenerSettings,
) -> io::Result<AddressListeners> {
    let share = listener.share;
    let of_ipv4 = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
    let alone = address.is_ipv6() && address.port() != 0 && all.iter().any(of_ipv4);
    let fails = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => hint(port_owner::of(address), listener),
            _ => String::new(),
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}{hint}: {error}"))
    };
    let probed = if share == PortSharing::Yes && address.port() != 0 {
        address
    } else {
        socket(address, alone, false).and_then(|probe| probe.local_addr()).map_err(fails)?
    };
    let one = |_| {
        let socket = BoundSocket::Tcp(socket(probed, alone, true).map_err(fails)?);
        Ok(WorkerSocket { socket, shared: share == PortSharing::Yes })
    };
    let sockets = (0..count).map(one).collect::<io::Result<_>>()?;
    Ok(AddressListeners { address: probed.into(), sockets })
}

/// Takes over a socket that listens already, for `count` workers that accept from its one queue.
///
/// Each of them is woken for each connection and one gets it, for tokio has no `EPOLLEXCLUSIVE`;
/// in exchange no connection is lost as long as someone holds the socket.
pub(super) fn adopt(socket: TcpListener, count: usize) -> io::Result<AddressListeners> {
    let address = socket.local_addr()?;
    if !SockRef::from(&socket).is_listener()? {
        let why = format!("the socket that was handed down at {address} does not listen");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    socket.set_nonblocking(true)?;
    let shared = |socket| WorkerSocket { socket: BoundSocket::Tcp(socket), shared: false };
    let sockets = (0..count).map(|_| socket.try_clone().map(shared)).collect::<io::Result<_>>()?;
    Ok(AddressListeners { address: address.into(), sockets })
}

/// The same with a Unix socket that this process has bound: a path has one socket.
pub(super) fn share_local(
    path: &UnixPath,
    socket: &UnixListener,
    count: usize,
) -> io::Result<AddressListeners> {
    let shared = |socket| WorkerSocket { socket: BoundSocket::Unix(socket), shared: false };
    let sockets = (0..count).map(|_| socket.try_clone().map(shared)).collect::<io::Result<_>>()?;
    Ok(AddressListeners { address: ListenAddress::Unix(path.clone()), sockets })
}

/// How long a handshake may take that has begun: longer than nearly every round trip.
pub(super) const HANDSHAKES: Duration = Duration::from_millis(200);

/// Lets no one begin a handshake with a socket any more, so that its queue runs dry and it can be
/// closed without a reset. Whoever tries sends the packet again, after a second, and it reaches
/// the socket of another process. With `net.ipv4.tcp_migrate_req` the kernel does better, and this
/// does nothing; gives whether there is something to wait for.
#[cfg(target_os = "linux")]
pub(super) fn turn_away(socket: &impl AsFd) -> io::Result<bool> {
    use socket2::SockFilter;

    /// Classic BPF on a TCP header: load the byte of flags, test it for SYN, drop or pass.
    const NO_SYN: [SockFilter; 4] = [
        SockFilter::new(0x30, 0, 0, 13),
        SockFilter::new(0x45, 0, 1, 0x02),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    let migrates = text::of_kernel("/proc/sys/net/ipv4/tcp_migrate_req");
    if migrates.is_some_and(|value| value.trim() == "1") {
        return Ok(false);
    }
    SockRef::from(socket).attach_filter(&NO_SYN)?;
    Ok(true)
}

/// There are no filters here.
#[cfg(not(target_os = "linux"))]
pub(super) fn turn_away(_: &impl AsFd) -> io::Result<bool> {
    Ok(false)
}

/// The next connection in a queue, which does not wait for one; `None` when there is none.
pub(super) fn next(socket: &impl AsFd) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    loop {
        let Some((stream, address)) = next_of_any(socket)? else { return Ok(None) };
        if let Some(address) = address.as_socket() {
            stream.set_nonblocking(true)?;
            return Ok(Some((stream.into(), address)));
        }
    }
}

/// The same of a Unix socket.
pub(super) fn next_local(socket: &impl AsFd) -> io::Result<Option<UnixStream>> {
    let Some((stream, _)) = next_of_any(socket)? else { return Ok(None) };
    stream.set_nonblocking(true)?;
    Ok(Some(stream.into()))
}

fn next_of_any(socket: &impl AsFd) -> io::Result<Option<(Socket, SockAddr)>> {
    loop {
        match SockRef::from(socket).accept() {
            Ok(accepted) => return Ok(Some(accepted)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // It has gone already, or a signal came.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        }
    }
}

fn socket(address: SocketAddr, alone: bool, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if alone {
        socket.set_only_v6(true)?;
    }
    // Connections of the process before that wait for their last packets must not stop this one.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What to do about an address that someone has.
fn hint(owner: PortOwner, listener: &ListenerSettings) -> String {
    let section = listener.section();
    match (owner, listener.share) {
        (PortOwner::Own, _) => ": this process listens there already; give every listener, and \
                                `admin.address`, addresses that differ"
            .to_owned(),
        (PortOwner::Other, PortSharing::No) => format!(
            ": another process serves it; stop that, choose another port, or set \
             `{section}.share = true` for both to serve it"
        ),
        (PortOwner::Other, PortSharing::Yes) => format!(
            ": another process serves it and does not share it; set `{section}.share = true` for \
             that one too"
        ),
        (PortOwner::Other, PortSharing::Never) => {
            ": another process serves it; stop that or choose another port".to_owned()
        }
        (PortOwner::Connection, _) => {
            ": an outgoing connection has this port; choose one outside of \
             net.ipv4.ip_local_port_range, or reserve it (net.ipv4.ip_local_reserved_ports)"
                .to_owned()
        }
        (PortOwner::Unknown, _) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(one: &WorkerSocket) -> &TcpListener {
        let BoundSocket::Tcp(socket) = &one.socket else { panic!("a Unix socket") };
        socket
    }

    fn at(listeners: &AddressListeners) -> SocketAddr {
        listeners.address.sockets()[0]
    }

    fn shared(share: PortSharing) -> ListenerSettings {
        ListenerSettings { share, ..ListenerSettings::plain("listen", Vec::new()) }
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_same_port() {
        let listeners =
            bind("127.0.0.1:0".parse().unwrap(), &[], 3, &shared(PortSharing::No)).unwrap();
        assert_ne!(listeners.address.port(), Some(0));
        for socket in &listeners.sockets {
            assert_eq!(tcp(socket).local_addr().unwrap(), at(&listeners));
        }
    }

    #[test]
    fn what_waits_in_a_queue_is_taken_until_it_is_empty() {
        let listeners =
            bind("127.0.0.1:0".parse().unwrap(), &[], 1, &shared(PortSharing::No)).unwrap();
        let socket = tcp(&listeners.sockets[0]);
        assert!(next(socket).unwrap().is_none());
        let waiting: Vec<TcpStream> =
            (0..3).map(|_| TcpStream::connect(at(&listeners)).unwrap()).collect();
        for stream in &waiting {
            let (_, address) = next(socket).unwrap().unwrap();
            assert_eq!(address, stream.local_addr().unwrap());
        }
        assert!(next(socket).unwrap().is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn whoever_is_turned_away_reaches_another_socket_of_the_port() {
        let old = bind("127.0.0.1:0".parse().unwrap(), &[], 1, &shared(PortSharing::Yes)).unwrap();
        let new = bind(at(&old), &[], 1, &shared(PortSharing::Yes)).unwrap();
        if !turn_away(tcp(&old.sockets[0])).unwrap() {
            // The kernel of this machine is told to do better.
            return;
        }
        let old_at = at(&old);
        let connect = || std::thread::spawn(move || TcpStream::connect(old_at));
        let callers: Vec<_> = (0..16).map(|_| connect()).collect();
        std::thread::sleep(HANDSHAKES);
        assert!(next(tcp(&old.sockets[0])).unwrap().is_none(), "nobody is let in");
        drop(old.sockets);
        for caller in callers {
            assert!(caller.join().unwrap().is_ok());
        }
        let mut served = 0;
        while next(tcp(&new.sockets[0])).unwrap().is_some() {
            served += 1;
        }
        assert_eq!(served, 16);
    }

    #[test]
    fn a_socket_that_was_handed_down_is_shared_by_the_workers() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listeners = adopt(socket, 2).unwrap();
        assert_eq!(at(&listeners), address);
        let _caller = TcpStream::connect(address).unwrap();
        let accepted = listeners.sockets.iter().filter(|one| next(tcp(one)).unwrap().is_some());
        assert_eq!(accepted.count(), 1);
    }

    #[test]
    fn a_port_that_is_served_is_an_error_unless_it_is_to_be_shared() {
        let first = bind("127.0.0.1:0".parse().unwrap(), &[], 1, &shared(PortSharing::No)).unwrap();
        let error = bind(at(&first), &[], 1, &shared(PortSharing::No)).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&at(&first).to_string()), "{error}");
        assert!(error.to_string().contains("this process listens there already"), "{error}");
        assert!(bind(at(&first), &[], 1, &shared(PortSharing::Yes)).is_ok());
    }

    #[test]
    fn both_families_have_a_socket_on_one_port() {
        let free = || bind("0.0.0.0:0".parse().unwrap(), &[], 1, &shared(PortSharing::No));
        let any = at(&free().unwrap());
        let both = [any, SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, any.port()))];
        // A machine without IPv6 has nothing to show here.
        if TcpListener::bind("[::1]:0").is_ok() {
            let four = bind(both[0], &both, 2, &shared(PortSharing::No)).unwrap();
            let six = bind(both[1], &both, 2, &shared(PortSharing::No)).unwrap();
            TcpStream::connect(("127.0.0.1", any.port())).unwrap();
            TcpStream::connect(("::1", any.port())).unwrap();
            let came = |listeners: &AddressListeners| {
                listeners.sockets.iter().filter(|one| next(tcp(one)).unwrap().is_some()).count()
            };
            assert_eq!((came(&four), came(&six)), (1, 1));
        }
    }

    #[test]
    fn a_port_that_an_outgoing_connection_has_is_not_served_by_another_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let outgoing = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let error =
            bind(outgoing.local_addr().unwrap(), &[], 1, &shared(PortSharing::No)).err().unwrap();
        assert!(error.to_string().contains("an outgoing connection"), "{error}");
    }
}
