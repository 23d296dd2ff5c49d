//! A small client of HTTP/1.1 for what the gateway asks or tells others by itself, away from
//! requests: documents of identity providers, reports to a collector.
//!
//! Bounded in time and in size. It follows nothing and repeats nothing: what an answer means is for
//! whoever asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// By which name the gateway goes.
pub const USER_AGENT: &str = concat!("whiteboard-gateway/", env!("CARGO_PKG_VERSION"));

/// Until a connection stands, TLS included.
const CONNECT: Duration = Duration::from_secs(2);

/// The longest head of an answer.
const HEAD_BYTES: usize = 64 * 1024;

/// Makes connections, with TLS or without.
pub struct Client {
    tls: Option<TlsConnector>,
}

/// A connection that stands; it is closed when it is dropped.
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Whose one task drives it, and ends with it.
    _driver: JoinSet<()>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// No address was found.
    #[error("its name could not be resolved: {0}")]
    Name(io::Error),
    /// Nobody is there.
    #[error("it could not be connected to: {0}")]
    Tcp(io::Error),
    /// Its certificate does not hold, for instance.
    #[error("no TLS connection could be made: {0}")]
    Tls(io::Error),
    /// What came is no answer, or the connection ended.
    #[error("it does not speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// Nobody took the connection in time.
    #[error("no connection stood after {} s", CONNECT.as_secs())]
    Connecting,
    /// There is more than whoever asked can use.
    #[error("its answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The end is missing.
    #[error("its answer broke off")]
    Broken,
}

impl Client {
    /// Over TLS; trusts these certificates, or those of the platform.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn over_tls(ca: Option<&[CertificateDer<'static>]>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = match ca {
            None => builder.with_platform_verifier()?.with_no_client_auth(),
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                for certificate in ca {
                    roots.add(certificate.clone())?;
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// Without TLS: whoever is on the way can read and change everything.
    #[must_use]
    pub const fn in_the_clear() -> Self {
        Self { tls: None }
    }

    /// Makes a connection to a name or an address (IPv6 without brackets).
    ///
    /// # Errors
    /// [`NoAnswer`], after two seconds at the latest.
    pub async fn connect(&self, host: &str, port: u16) -> Result<Connection, NoAnswer> {
        timeout(CONNECT, self.open(host, port)).await.unwrap_or(Err(NoAnswer::Connecting))
    }

    async fn open(&self, host: &str, port: u16) -> Result<Connection, NoAnswer> {
        let socket = dial(host, port).await?;
        let Some(tls) = &self.tls else { return Connection::over(socket).await };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| NoAnswer::Name(io::Error::other(error)))?;
        Connection::over(tls.connect(name, socket).await.map_err(NoAnswer::Tls)?).await
    }
}

/// Tries each address in turn; each gets its share of the time, so that a dead one does not use up
/// that of the others.
async fn dial(host: &str, port: u16) -> Result<TcpStream, NoAnswer> {
    let addresses: Vec<_> = lookup_host((host, port)).await.map_err(NoAnswer::Name)?.collect();
    let share = CONNECT / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut last = NoAnswer::Name(io::ErrorKind::NotFound.into());
    for address in addresses {
        last = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => NoAnswer::Tcp(error),
            Err(_) => NoAnswer::Connecting,
        };
    }
    Err(last)
}

impl Connection {
    async fn over<T>(socket: T) -> Result<Self, NoAnswer>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(socket)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // What goes wrong on it is told to whoever waits for the answer.
            _ = connection.await;
        });
        Ok(Self { sender, _driver: driver })
    }

    /// Whether it can take another request. The peer may have closed it meanwhile.
    pub async fn is_open(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and waits for the head of its answer, as long as the caller likes.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, NoAnswer> {
        Ok(self.sender.send_request(request).await?)
    }
}

/// Reads an answer's body, up to so many bytes.
///
/// # Errors
/// [`NoAnswer::TooLarge`], [`NoAnswer::Broken`].
pub async fn read(body: Incoming, most: usize) -> Result<Bytes, NoAnswer> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(NoAnswer::TooLarge(most)),
        Err(_) => Err(NoAnswer::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_that_says_nothing_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let client = Client::over_tls(Some(&[])).unwrap();
        let why = client.connect("127.0.0.1", port).await.err().unwrap();
        assert!(matches!(why, NoAnswer::Connecting), "{why}");
    }
}
