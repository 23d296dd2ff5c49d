//! Connections to the upstream: name, TCP, TLS, and the version of HTTP that was agreed on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::http1::{self, Socket};
use super::http2;
use super::network::{Dialled, Network};
use crate::failure::{Code, Failure, ProxyError};
use crate::upstream::origin::Origin;
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
    Name(io::Error),
    Tcp(io::Error),
    Tls(io::Error),
    Http(hyper::Error),
    Timeout,
}

impl Connector {
    pub(in crate::upstream) fn new(settings: &Settings) -> Result<Self, TlsSetupError> {
        let origin = settings.origin.clone();
        let tls = if origin.tls {
            let name =
                ServerName::try_from(origin.host.clone()).map_err(|_| TlsSetupError::Name)?;
            Some((TlsConnector::from(Arc::new(client_config(settings)?)), name))
        } else {
            None
        };
        let network = settings.network.clone();
        Ok(Self { origin, network, tls, patience: settings.timeouts.connect })
    }

    /// Opens a connection, in the time that one may take and never past the `end` of the request
    /// that it is for.
    pub(in crate::upstream) async fn connect(&self, end: Instant) -> Result<Link, Failure> {
        let patience = self.patience.min(end.saturating_duration_since(Instant::now()));
        // Boxed: most requests find a connection, and should not carry room for making one.
        timeout(patience, Box::pin(self.open(patience)))
            .await
            .unwrap_or(Err(NoConnection::Timeout))
            .map_err(|why| self.failure(&why, patience))
    }

    async fn open(&self, patience: Duration) -> Result<Link, NoConnection> {
        if let Network::Other(network) = &self.network {
            return match network.dial(&self.origin).await.map_err(NoConnection::Tcp)? {
                Dialled::Http1(wire) => Ok(over_http1(Socket::Other(wire))),
                Dialled::Http2(wire) => {
                    http2::handshake(wire).await.map(Link::Http2).map_err(NoConnection::Http)
                }
            };
        }
        let socket = self.dial(patience).await?;
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

    /// Tries each address in turn; each gets its share of the time, so that a dead one does not
    /// use up that of the others.
    async fn dial(&self, patience: Duration) -> Result<TcpStream, NoConnection> {
        let host = (self.origin.host.as_str(), self.origin.port);
        let addresses: Vec<_> = lookup_host(host).await.map_err(NoConnection::Name)?.collect();
        let share = patience / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut last = NoConnection::Name(io::ErrorKind::NotFound.into());
        for address in addresses {
            last = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    socket.set_nodelay(true).map_err(NoConnection::Tcp)?;
                    return Ok(socket);
                }
                Ok(Err(error)) => NoConnection::Tcp(error),
                Err(_) => NoConnection::Timeout,
            };
        }
        Err(last)
    }

    fn failure(&self, why: &NoConnection, patience: Duration) -> Failure {
        let (code, error, message, detail) = match why {
            NoConnection::Name(error) => (
                Code::UpstreamError,
                ProxyError::Dns,
                "the whiteboard service's name could not be resolved",
                error.to_string(),
            ),
            NoConnection::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused => (
                Code::UpstreamError,
                ProxyError::ConnectionRefused,
                "the whiteboard service refused the connection",
                error.to_string(),
            ),
            // It stood, and was reset before anybody could look.
            NoConnection::Tcp(error) if error.kind() == io::ErrorKind::ConnectionReset => (
                Code::UpstreamError,
                ProxyError::ConnectionTerminated,
                "the whiteboard service closed the connection without an answer",
                error.to_string(),
            ),
            NoConnection::Tcp(error) => (
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
            NoConnection::Timeout => (
                Code::UpstreamTimeout,
                ProxyError::ConnectionTimeout,
                "the whiteboard service could not be connected to in time",
                format!("no connection to {} in {patience:?}", self.origin.authority),
            ),
        };
        Failure::fixed(code, message).with_proxy_error(error).with_detail(detail)
    }
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

fn client_config(settings: &Settings) -> Result<ClientConfig, TlsSetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = match &settings.ca {
        Some(ca) => builder.with_root_certificates(roots(ca)?).with_no_client_auth(),
        None => builder.with_platform_verifier()?.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if settings.http2 {
        config.alpn_protocols.insert(0, b"h2".to_vec());
    }
    Ok(config)
}

fn roots(certificates: &[CertificateDer<'static>]) -> Result<rustls::RootCertStore, rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone())?;
    }
    Ok(roots)
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
