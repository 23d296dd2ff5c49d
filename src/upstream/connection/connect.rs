//! Connections to the upstream: name, TCP, TLS, and the version of HTTP that was agreed on.

use std::io;
use std::time::Duration;

use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::either::Either;

use super::deadline::before;
use super::http1::{self, UpstreamSocket};
use super::http2;
use super::network::{Dialled, Network, Wire};
use crate::failure::{Code, Failure, ProxyError};
use crate::net::tls::{self, TlsError};
use crate::net::{DialError, Dialler, Origin, TunnelError, UnixPath};
use crate::upstream::settings::Settings;

/// What a caller is told when nothing came of a connection that stood.
const CLOSED: &str = "the whiteboard service closed the connection without an answer";

/// A connection that was made.
pub(super) enum NewConnection {
    /// For one request at a time.
    Http1(Box<http1::Http1Connection>),
    /// To be shared.
    Http2(http2::Http2Connection),
}

/// After how long without a byte a peer is asked whether it is there, and how often then.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// How long what was sent may be without an acknowledgement: longer than the default deadlines, since
/// it also ends a connection whose peer takes nothing.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes connections to one origin.
pub(in crate::upstream) struct UpstreamConnector {
    origin: Origin,
    socket: Option<UnixPath>,
    network: Network,
    dialler: Dialler,
    tls: Option<(tls::Connector, ServerName<'static>)>,
    http2: bool,
    timeout: Duration,
}

/// Why TLS to the upstream cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The certificates of `upstream.ca`, or the platform's, cannot be used.
    #[error("the certificates that the upstream is to be trusted by cannot be used: {0}")]
    Roots(#[from] rustls::Error),
    /// The host is no name that a certificate can have.
    #[error("the host of the upstream is no name that a certificate can have")]
    Name,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// It did not stand in this time.
    Late(Duration),
    Dial(DialError),
    Tls(TlsError),
    /// What came first is no HTTP/2; or nothing came, where there is no error.
    Http(Option<h2::Error>),
}

impl UpstreamConnector {
    pub(in crate::upstream) fn new(settings: &Settings) -> Result<Self, TlsSetupError> {
        let origin = settings.origin.clone();
        let tls = if origin.tls {
            let name = tls::server_name(&origin.host).ok_or(TlsSetupError::Name)?;
            let protocols: &[&[u8]] =
                if settings.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
            Some((tls::Connector::new(settings.ca.as_deref(), "upstream.ca", protocols)?, name))
        } else {
            None
        };
        let network = settings.network.clone();
        let dialler = Dialler::system().through(settings.egress.clone());
        let (http2, timeout) = (settings.http2, settings.timeouts.connect);
        let socket = settings.socket.clone();
        Ok(Self { origin, socket, network, dialler, tls, http2, timeout })
    }

    /// Whether a connection may turn out to be one of HTTP/2.
    pub(super) fn may_be_http2(&self) -> bool {
        self.http2 && (self.tls.is_some() || self.network != Network::System)
    }

    /// Opens a connection, in the time that one may take and never past the `end` of the request
    /// that it is for, where it is for one alone.
    pub(super) async fn connect(
        &self,
        end: Option<Instant>,
    ) -> Result<NewConnection, ConnectError> {
        let now = Instant::now();
        let deadline = now + self.timeout;
        let deadline = end.map_or(deadline, |end| end.min(deadline));
        // Boxed: most requests find a connection, and should not carry room for making one.
        let opened = before(deadline, Box::pin(self.open(deadline))).await;
        let late = ConnectError::Late(deadline.saturating_duration_since(now));
        opened.unwrap_or(Err(late)).inspect_err(|_| {
            self.dialler.failed(&self.origin.host, self.origin.port);
        })
    }

    async fn open(&self, deadline: Instant) -> Result<NewConnection, ConnectError> {
        if let Network::Other(network) = &self.network {
            return match network.dial(&self.origin).await.map_err(dialled)? {
                Dialled::Http1(wire) => Ok(over_http1(Either::Right(Either::Right(wire)))),
                Dialled::Http2(wire) => http2::handshake(wire)
                    .await
                    .map(NewConnection::Http2)
                    .map_err(ConnectError::Http),
            };
        }
        if let Some(path) = &self.socket {
            let socket = self.dialler.connect_unix(path.as_path(), deadline).await;
            let socket: Box<dyn Wire> = Box::new(socket.map_err(ConnectError::Dial)?);
            return Ok(over_http1(Either::Right(Either::Right(socket))));
        }
        let Origin { host, port, .. } = &self.origin;
        let socket =
            self.dialler.connect(host, *port, deadline).await.map_err(ConnectError::Dial)?;
        set_options(&socket).map_err(dialled)?;
        let Some((tls, name)) = &self.tls else {
            return Ok(over_http1(Either::Left(socket)));
        };
        let stream = tls.connect(name.clone(), socket).await.map_err(ConnectError::Tls)?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            http2::handshake(stream).await.map(NewConnection::Http2).map_err(ConnectError::Http)
        } else {
            Ok(over_http1(Either::Right(Either::Left(Box::new(stream)))))
        }
    }

    /// Why there is none, as what the caller is told.
    pub(super) fn failure(&self, why: &ConnectError) -> Failure {
        if let ConnectError::Dial(DialError::Local(error)) = why {
            return lacking(error);
        }
        let (code, error, message, detail) = match why {
            ConnectError::Dial(DialError::Name(error)) => (
                Code::UpstreamError,
                ProxyError::Dns,
                "the whiteboard service's name could not be resolved",
                error.to_string(),
            ),
            ConnectError::Dial(DialError::Remote(error))
                if error.kind() == io::ErrorKind::ConnectionRefused =>
            {
                (
                    Code::UpstreamError,
                    ProxyError::ConnectionRefused,
                    "the whiteboard service refused the connection",
                    error.to_string(),
                )
            }
            // It stood, and was reset before anyone could look.
            ConnectError::Dial(DialError::Remote(error))
                if error.kind() == io::ErrorKind::ConnectionReset =>
            {
                (Code::UpstreamError, ProxyError::ConnectionTerminated, CLOSED, error.to_string())
            }
            ConnectError::Dial(DialError::Remote(error) | DialError::Local(error)) => (
                Code::UpstreamError,
                ProxyError::DestinationUnavailable,
                "the whiteboard service could not be reached",
                error.to_string(),
            ),
            ConnectError::Tls(error) => (
                Code::UpstreamError,
                tls_error(error),
                "no TLS connection to the whiteboard service could be made",
                error.to_string(),
            ),
            ConnectError::Http(Some(error)) if error.is_library() => (
                Code::UpstreamError,
                ProxyError::ProtocolError,
                "the whiteboard service does not speak HTTP",
                error.to_string(),
            ),
            ConnectError::Http(error) => (
                Code::UpstreamError,
                ProxyError::ConnectionTerminated,
                CLOSED,
                error.as_ref().map_or_else(String::new, ToString::to_string),
            ),
            ConnectError::Late(_)
            | ConnectError::Dial(
                DialError::Timeout | DialError::Proxy { why: TunnelError::Late, .. },
            ) => (
                Code::UpstreamTimeout,
                ProxyError::ConnectionTimeout,
                "the whiteboard service could not be connected to in time",
                self.in_no_time(why),
            ),
            ConnectError::Dial(error @ DialError::Proxy { why, .. }) => (
                Code::UpstreamError,
                tunnel_error(why),
                "the proxy on the way to the whiteboard service made no connection to it",
                error.to_string(),
            ),
        };
        Failure::fixed(code, message).with_proxy_error(error).with_detail(detail)
    }
}

impl UpstreamConnector {
    /// How long a connection could take, of which that was not enough, and by which way.
    fn in_no_time(&self, why: &ConnectError) -> String {
        let time = match why {
            ConnectError::Late(time) => *time,
            _ => self.timeout,
        };
        let Origin { authority, host, port, .. } = &self.origin;
        let proxy = self.dialler.proxy_of(host, *port);
        let through = proxy.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
        format!("no connection to {authority}{through} in {time:?}")
    }
}

impl ConnectError {
    /// Whether nothing at all came back.
    pub(super) const fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Late(_)
                | Self::Dial(DialError::Timeout | DialError::Proxy { why: TunnelError::Late, .. })
        )
    }
}

/// What a network of someone else's making says is told apart as what the system says is.
fn dialled(error: io::Error) -> ConnectError {
    ConnectError::Dial(error.into())
}

/// A connection whose peer has gone without a word is to end by itself: what was sent on it is
/// acknowledged in time, and so is a question when nothing was sent for a while.
fn set_options(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

fn over_http1(socket: UpstreamSocket) -> NewConnection {
    NewConnection::Http1(Box::new(http1::Http1Connection::new(socket)))
}

/// What the gateway itself lacks says nothing about the service.
fn lacking(error: &io::Error) -> Failure {
    let why = "the gateway lacks the means to connect to the whiteboard service";
    Failure::fixed(Code::Overloaded, why)
        .with_retry_after(Duration::from_secs(1))
        .with_detail(error.to_string())
}

/// Whatever a proxy says, the way through it is closed to everyone: what it refuses one request, it
/// refuses each.
fn tunnel_error(error: &TunnelError) -> ProxyError {
    match error {
        TunnelError::Name(_) => ProxyError::Dns,
        TunnelError::Unreachable(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            ProxyError::ConnectionRefused
        }
        TunnelError::Closed(_) => ProxyError::ConnectionTerminated,
        _ => ProxyError::DestinationUnavailable,
    }
}

const fn tls_error(error: &TlsError) -> ProxyError {
    match error {
        TlsError::Certificate(_) => ProxyError::TlsCertificate,
        TlsError::Handshake(_) => ProxyError::TlsProtocol,
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::upstream::Timeouts;

    fn connector(host: &str, port: u16) -> UpstreamConnector {
        let origin =
            Origin { tls: false, host: host.to_owned(), port, authority: format!("{host}:{port}") };
        UpstreamConnector {
            origin,
            socket: None,
            network: Network::System,
            dialler: Dialler::system(),
            tls: None,
            http2: true,
            timeout: Timeouts::default().connect,
        }
    }

    /// Why there is none, when the request has time enough.
    async fn refused(connector: &UpstreamConnector) -> Failure {
        let end = Instant::now() + Duration::from_secs(60);
        connector.failure(&connector.connect(Some(end)).await.err().unwrap())
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_as_that() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let failure = refused(&connector("127.0.0.1", free)).await;
        assert_eq!(failure.code(), Code::UpstreamError);
        assert!(failure.message().contains("refused"), "{failure}");
    }

    #[tokio::test]
    async fn a_name_that_is_none_is_told_as_that() {
        let failure = refused(&connector("no-such-host.invalid", 1)).await;
        let told =
            failure.message().contains("resolved") || failure.code() == Code::UpstreamTimeout;
        assert!(told, "{failure}");
    }

    #[tokio::test]
    async fn a_connection_asks_whether_its_peer_is_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        set_options(&socket).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE.0);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }

    #[test]
    fn what_the_gateway_itself_lacks_says_nothing_about_the_service() {
        let connector = connector("127.0.0.1", 1);
        for (errno, code) in
            [(Errno::MFILE, Code::Overloaded), (Errno::CONNREFUSED, Code::UpstreamError)]
        {
            let failure = connector.failure(&dialled(errno.into()));
            assert_eq!(failure.code(), code, "{errno:?}");
        }
    }
}
