//! Connections to the upstream: name, TCP, TLS, and the version of HTTP that was agreed on.

use std::io;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::http1::{self, Socket};
use super::http2;
use super::network::{Dialled, Network};
use crate::failure::{Code, Failure, ProxyError};
use crate::net::{DialError, Dialler, Origin, tls};
use crate::upstream::settings::Settings;

/// A connection that a request can be sent on.
pub(in crate::upstream) enum Link {
    /// This request's alone, until its answer is over.
    Http1(Box<http1::Connection>),
    /// Shared.
    Http2(http2::Sender),
}

/// Makes connections to one origin.
pub(in crate::upstream) struct Connector {
    origin: Origin,
    network: Network,
    dialler: Dialler,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    patience: Duration,
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
enum NoConnection {
    Dial(DialError),
    Tls(io::Error),
    Http(hyper::Error),
}

impl Connector {
    pub(in crate::upstream) fn new(settings: &Settings) -> Result<Self, TlsSetupError> {
        let origin = settings.origin.clone();
        let tls = if origin.tls {
            let name = tls::server_name(&origin.host).ok_or(TlsSetupError::Name)?;
            let protocols: &[&[u8]] =
                if settings.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
            Some((tls::connector(settings.ca.as_deref(), protocols)?, name))
        } else {
            None
        };
        let network = settings.network.clone();
        let dialler = Dialler::system();
        Ok(Self { origin, network, dialler, tls, patience: settings.timeouts.connect })
    }

    /// Opens a connection, in the time that one may take and never past the `end` of the request
    /// that it is for.
    pub(in crate::upstream) async fn connect(&self, end: Instant) -> Result<Link, Failure> {
        let now = Instant::now();
        let deadline = end.min(now + self.patience);
        // Boxed: most requests find a connection, and should not carry room for making one.
        timeout_at(deadline, Box::pin(self.open(deadline)))
            .await
            .unwrap_or(Err(NoConnection::Dial(DialError::Timeout)))
            .map_err(|why| {
                self.dialler.failed(&self.origin.host, self.origin.port);
                self.failure(&why, deadline.saturating_duration_since(now))
            })
    }

    async fn open(&self, deadline: Instant) -> Result<Link, NoConnection> {
        if let Network::Other(network) = &self.network {
            return match network.dial(&self.origin).await.map_err(dialled)? {
                Dialled::Http1(wire) => Ok(over_http1(Socket::Other(wire))),
                Dialled::Http2(wire) => {
                    http2::handshake(wire).await.map(Link::Http2).map_err(NoConnection::Http)
                }
            };
        }
        let Origin { host, port, .. } = &self.origin;
        let socket =
            self.dialler.connect(host, *port, deadline).await.map_err(NoConnection::Dial)?;
        let Some((tls, name)) = &self.tls else {
            return Ok(over_http1(Socket::Plain(socket)));
        };
        let stream = tls.connect(name.clone(), socket).await.map_err(NoConnection::Tls)?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            http2::handshake(stream).await.map(Link::Http2).map_err(NoConnection::Http)
        } else {
            Ok(over_http1(Socket::Tls(Box::new(stream))))
        }
    }

    fn failure(&self, why: &NoConnection, patience: Duration) -> Failure {
        let (code, error, message, detail) = match why {
            NoConnection::Dial(DialError::Name(error)) => (
                Code::UpstreamError,
                ProxyError::Dns,
                "the whiteboard service's name could not be resolved",
                error.to_string(),
            ),
            NoConnection::Dial(DialError::Remote(error))
                if error.kind() == io::ErrorKind::ConnectionRefused =>
            {
                (
                    Code::UpstreamError,
                    ProxyError::ConnectionRefused,
                    "the whiteboard service refused the connection",
                    error.to_string(),
                )
            }
            // It stood, and was reset before anybody could look.
            NoConnection::Dial(DialError::Remote(error))
                if error.kind() == io::ErrorKind::ConnectionReset =>
            {
                (
                    Code::UpstreamError,
                    ProxyError::ConnectionTerminated,
                    "the whiteboard service closed the connection without an answer",
                    error.to_string(),
                )
            }
            NoConnection::Dial(DialError::Remote(error) | DialError::Local(error)) => (
                Code::UpstreamError,
                ProxyError::DestinationUnavailable,
                "the whiteboard service could not be reached",
                error.to_string(),
            ),
            NoConnection::Tls(error) => (
                Code::UpstreamError,
                tls_error(error),
                "no TLS connection to the whiteboard service could be made",
                error.to_string(),
            ),
            NoConnection::Http(error) => (
                Code::UpstreamError,
                ProxyError::ProtocolError,
                "the whiteboard service does not speak HTTP",
                error.to_string(),
            ),
            NoConnection::Dial(DialError::Timeout) => (
                Code::UpstreamTimeout,
                ProxyError::ConnectionTimeout,
                "the whiteboard service could not be connected to in time",
                format!("no connection to {} in {patience:?}", self.origin.authority),
            ),
        };
        Failure::fixed(code, message).with_proxy_error(error).with_detail(detail)
    }
}

/// What a network of somebody else's making says is told apart as what the system says is.
fn dialled(error: io::Error) -> NoConnection {
    NoConnection::Dial(error.into())
}

fn over_http1(socket: Socket) -> Link {
    Link::Http1(Box::new(http1::Connection::new(socket)))
}

fn tls_error(error: &io::Error) -> ProxyError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(_)) => ProxyError::TlsCertificate,
        _ => ProxyError::TlsProtocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Timeouts;

    fn connector(host: &str, port: u16) -> Connector {
        let origin =
            Origin { tls: false, host: host.to_owned(), port, authority: format!("{host}:{port}") };
        Connector {
            origin,
            network: Network::System,
            dialler: Dialler::system(),
            tls: None,
            patience: Timeouts::default().connect,
        }
    }

    /// Why there is none, when the request has time enough.
    async fn refused(connector: &Connector) -> Failure {
        connector.connect(Instant::now() + Duration::from_secs(60)).await.err().unwrap()
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
}
