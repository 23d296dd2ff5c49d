//! The one dialler: from a name to a TCP connection, as RFC 8305 (Happy Eyeballs) says.
//!
//! All addresses are tried, of both families in turn, each a little after the one before and beside
//! it, each with all the time that there is: neither a dead address nor a slow way uses up the time
//! of another. The first that stands is taken, remembered, and tried first the next time.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::deadline::before;
use super::egress::{Egress, Proxy};
use super::resolve::{ResolveError, Resolver};
use super::tunnel::{self, TunnelError};

/// How long after an address the next one is tried beside it (RFC 8305 §5 recommends it).
const APART: Duration = Duration::from_millis(250);

/// It is less where there are so many addresses that some would have no turn, and never less than
/// this (RFC 8305 §5: an absolute minimum).
const LEAST_APART: Duration = Duration::from_millis(10);

/// How many addresses of a name are tried, and of how many hosts what worked is remembered.
const MOST_ADDRESSES: usize = 32;
const MOST_REMEMBERED: usize = 1024;

/// Makes TCP connections. A clone shares the resolver and what is remembered.
#[derive(Clone)]
pub struct Dialler {
    state: Arc<DiallerState>,
    egress: Egress,
}

struct DiallerState {
    resolver: Resolver,
    /// What is known of the addresses of a host that has several.
    remembered: Mutex<HashMap<(String, u16), KnownAddress>>,
}

/// What is known of the addresses of a host.
#[derive(Clone, Debug, Default)]
struct KnownAddress {
    /// Which one worked the last time.
    good: Option<SocketAddr>,
    /// Which took a connection that came to nothing, the last one last.
    failed: Vec<SocketAddr>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or whoever knows it did not say so.
    #[error("{0}")]
    Name(io::Error),
    /// The other side, or the way there: it refused, it reset, it cannot be reached.
    #[error("{0}")]
    Remote(io::Error),
    /// This side lacks something: descriptors, ports, memory, threads. It says nothing about the
    /// other side.
    #[error("{0}")]
    Local(io::Error),
    /// The proxy on the way: it cannot be reached, or made no tunnel.
    #[error("the proxy {proxy} on the way: {why}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// What became of it.
        why: TunnelError,
    },
    /// Nothing stood in time.
    #[error("no connection stood in time")]
    Timeout,
}

impl Dialler {
    /// The one of this process, over the system's resolver.
    pub fn system() -> Self {
        static SYSTEM: LazyLock<Dialler> = LazyLock::new(|| Dialler::over(Resolver::system()));
        SYSTEM.clone()
    }

    /// One of its own.
    pub fn over(resolver: Resolver) -> Self {
        let state = Arc::new(DiallerState { resolver, remembered: Mutex::default() });
        Self { state, egress: Egress::default() }
    }

    /// The same with this way out.
    #[must_use]
    pub fn through(self, egress: Egress) -> Self {
        Self { egress, ..self }
    }

    /// The proxy on the way to a host, if there is one.
    pub fn proxy_of(&self, host: &str, port: u16) -> Option<&Proxy> {
        self.egress.proxy_of(host, port)
    }

    /// Connects to a name or an address (IPv6 without brackets), until a deadline: straight, or by a
    /// tunnel through a proxy, which resolves the name.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<TcpStream, DialError> {
        let Some(proxy) = self.proxy_of(host, port) else {
            return self.straight(host, port, deadline).await;
        };
        let socket = self.straight(&proxy.host, proxy.port, deadline).await;
        let mut socket = socket.map_err(|error| error.of_the_way_to(proxy))?;
        match before(deadline, tunnel::open(&mut socket, proxy, host, port)).await {
            Some(Ok(())) => Ok(socket),
            Some(Err(why)) => Err(DialError::of_proxy(proxy, why)),
            None => Err(DialError::of_proxy(proxy, TunnelError::Late)),
        }
    }

    /// Why there is no connection to a host when the time is over.
    pub fn late(&self, host: &str, port: u16) -> DialError {
        self.proxy_of(host, port)
            .map_or(DialError::Timeout, |proxy| DialError::of_proxy(proxy, TunnelError::Late))
    }

    /// Connects to a Unix socket, until a deadline.
    ///
    /// # Errors
    /// [`DialError`] names the path, and what would help.
    pub async fn connect_unix(
        &self,
        path: &Path,
        deadline: Instant,
    ) -> Result<UnixStream, DialError> {
        let connecting = async {
            loop {
                match UnixStream::connect(path).await {
                    // So many wait to be accepted that there is no room for one more.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        sleep(LEAST_APART).await;
                    }
                    connected => return connected.map_err(|error| of_socket(path, error)),
                }
            }
        };
        before(deadline, connecting).await.unwrap_or(Err(DialError::Timeout))
    }

    async fn straight(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<TcpStream, DialError> {
        let resolved = before(deadline, self.state.resolver.resolve(host, port)).await;
        let mut addresses = resolved.ok_or(DialError::Timeout)?.map_err(DialError::from)?;
        if let [address] = addresses[..] {
            return connect_to(&[address], deadline).await.map(|(socket, _)| socket);
        }
        in_turn(&mut addresses, &self.known(host, port, |known| known.clone()));
        addresses.truncate(MOST_ADDRESSES);
        let (socket, address) = connect_to(&addresses, deadline).await?;
        self.known(host, port, |known| {
            known.good = Some(address);
            known.failed.retain(|failed| *failed != address);
        });
        Ok(socket)
    }

    /// Says that a connection of [`Dialler::connect`] came to nothing before it was of any use: TLS
    /// did not come about, for instance. The other addresses of the host are tried before its next
    /// time.
    pub fn failed(&self, host: &str, port: u16) {
        let proxy = self.proxy_of(host, port).map(|proxy| (proxy.host.as_str(), proxy.port));
        let (host, port) = proxy.unwrap_or((host, port));
        self.known(host, port, |known| {
            if let Some(address) = known.good.take() {
                known.failed.truncate(MOST_ADDRESSES);
                known.failed.push(address);
            }
        });
    }

    /// Connects to one of these addresses, until a deadline.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn connect_to(
        &self,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<TcpStream, DialError> {
        connect_to(addresses, deadline).await.map(|(socket, _)| socket)
    }

    fn known<T>(&self, host: &str, port: u16, look: impl FnOnce(&mut KnownAddress) -> T) -> T {
        let mut remembered = self.state.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        look(remembered.entry((host.to_owned(), port)).or_default())
    }
}

impl DialError {
    fn of_proxy(proxy: &Proxy, why: TunnelError) -> Self {
        Self::Proxy { proxy: proxy.to_string(), why }
    }

    /// Why there is no connection to a proxy. What this side lacks says nothing about it.
    fn of_the_way_to(self, proxy: &Proxy) -> Self {
        let why = match self {
            Self::Name(error) => TunnelError::Name(error),
            Self::Remote(error) => TunnelError::Unreachable(error),
            Self::Timeout => TunnelError::Late,
            error @ (Self::Local(_) | Self::Proxy { .. }) => return error,
        };
        Self::of_proxy(proxy, why)
    }
}

/// Of what the system says about a connection.
impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        if is_local(&error) { Self::Local(error) } else { Self::Remote(error) }
    }
}

impl From<ResolveError> for DialError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::Name(kind, text) => Self::Name(io::Error::new(kind, text)),
            ResolveError::Local(text) => Self::Local(io::Error::other(text)),
        }
    }
}

/// Puts addresses in the order in which they are tried: what has worked, then the families in turn,
/// each in the order of the system, which knows RFC 6724 (RFC 8305 §4); what came to nothing last.
fn in_turn(addresses: &mut Vec<SocketAddr>, known: &KnownAddress) {
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|address| address.is_ipv6() == addresses[0].is_ipv6());
    let turns = first.len().max(second.len());
    let (mut first, mut second) = (first.drain(..), second.drain(..));
    *addresses = (0..turns).flat_map(|_| [first.next(), second.next()]).flatten().collect();
    addresses.sort_by_key(|address| match known.good {
        Some(good) if good == *address => 0,
        _ => known.failed.iter().position(|failed| failed == address).map_or(1, |at| at + 2),
    });
}

/// How long after each other so many addresses are tried.
fn apart(addresses: usize, time: Duration) -> Duration {
    // The last one is to have a quarter of the time for itself.
    let turns = u32::try_from(addresses.saturating_sub(1).max(1)).unwrap_or(u32::MAX);
    (time * 3 / 4 / turns).clamp(LEAST_APART, APART)
}

async fn connect_to(
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Result<(TcpStream, SocketAddr), DialError> {
    first_of(addresses, deadline, connected).await
}

/// What the first of these addresses gives, tried after and beside each other, and which it is.
async fn first_of<T, A: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    deadline: Instant,
    attempt: impl Fn(SocketAddr) -> A,
) -> Result<(T, SocketAddr), DialError> {
    let time = deadline.saturating_duration_since(Instant::now());
    let mut race = Race::new(addresses, apart(addresses.len(), time), attempt);
    let first = poll_fn(|context| race.poll(context));
    before(deadline, first).await.unwrap_or(Err(DialError::Timeout))
}

/// Attempts beside each other, of which the first that succeeds ends all.
struct Race<'a, F, A> {
    /// What was not tried yet.
    left: &'a [SocketAddr],
    attempt: F,
    apart: Duration,
    /// When the next one is tried, whatever becomes of those that are running.
    next: Option<Pin<Box<Sleep>>>,
    running: Vec<(SocketAddr, Pin<Box<A>>)>,
    /// Why those failed that did.
    why: Option<DialError>,
}

impl<'a, T, F, A> Race<'a, F, A>
where
    F: Fn(SocketAddr) -> A,
    A: Future<Output = io::Result<T>>,
{
    fn new(addresses: &'a [SocketAddr], apart: Duration, attempt: F) -> Self {
        Self { left: addresses, attempt, apart, next: None, running: Vec::new(), why: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(T, SocketAddr), DialError>> {
        loop {
            if let Some(first) = self.poll_running(context) {
                return Poll::Ready(Ok(first));
            }
            let Some((address, left)) = self.left.split_first() else {
                if self.running.is_empty() {
                    let none = || DialError::Name(io::ErrorKind::NotFound.into());
                    return Poll::Ready(Err(self.why.take().unwrap_or_else(none)));
                }
                return Poll::Pending;
            };
            if let Some(next) = &mut self.next
                && next.as_mut().poll(context).is_pending()
            {
                return Poll::Pending;
            }
            self.left = left;
            self.next = Some(Box::pin(sleep_until(Instant::now() + self.apart)));
            self.running.push((*address, Box::pin((self.attempt)(*address))));
        }
    }

    fn poll_running(&mut self, context: &mut Context<'_>) -> Option<(T, SocketAddr)> {
        let mut at = 0;
        while let Some((address, attempt)) = self.running.get_mut(at) {
            match attempt.as_mut().poll(context) {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(socket)) => return Some((socket, *address)),
                Poll::Ready(Err(error)) => {
                    drop(self.running.swap_remove(at));
                    self.failed(error);
                    // The next one need not wait any more (RFC 8305 §5).
                    self.next = None;
                }
            }
        }
        None
    }

    /// What the other side said is told before what this side lacks, and both before an address that
    /// there is no way to: the other family, mostly.
    fn failed(&mut self, error: io::Error) {
        let rank = |error: &DialError| match error {
            DialError::Remote(error) if no_way(error) => 0,
            DialError::Local(_) => 1,
            _ => 2,
        };
        let error = DialError::from(error);
        if self.why.as_ref().is_none_or(|before| rank(before) <= rank(&error)) {
            self.why = Some(error);
        }
    }
}

async fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Why a Unix socket cannot be connected to, in words that name the cure.
fn of_socket(path: &Path, error: io::Error) -> DialError {
    use io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let cure = match error.kind() {
        NotFound => "is whoever listens there running, and is that its path?",
        PermissionDenied => {
            "the user of this process may not write to it, or not enter a directory above"
        }
        ConnectionRefused => "no one listens there any more: the file was left behind",
        _ if is_local(&error) => return DialError::Local(error),
        _ => "is it a Unix socket for streams?",
    };
    let why = format!("the Unix socket {}: {error}: {cure}", path.display());
    DialError::Remote(io::Error::new(error.kind(), why))
}

/// Whether an error is about what this side lacks.
fn is_local(error: &io::Error) -> bool {
    const LACKING: [Errno; 6] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        // No port is free, or there is no entry for a route.
        Errno::ADDRNOTAVAIL,
        Errno::AGAIN,
    ];
    error.raw_os_error().is_some_and(|code| LACKING.iter().any(|one| one.raw_os_error() == code))
}

/// Whether there is no way to an address.
fn no_way(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), HostUnreachable | NetworkUnreachable)
}

#[cfg(test)]
mod tests;
