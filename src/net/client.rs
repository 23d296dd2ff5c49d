//! A small client of HTTP/1.1 for what the gateway asks or tells others by itself, away from
//! requests: documents of identity providers, reports to a collector.
//!
//! Bounded in time and in size. It follows nothing and repeats nothing: what an answer means is for
//! whoever asked.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::address::UnixPath;
use super::deadline::before;
use super::dial::{DialError, Dialler};
use super::egress::Egress;
use super::endpoint::Origin;
use super::tls::{self, TlsError};

/// Until a connection stands, TLS included.
const CONNECT: Duration = Duration::from_secs(2);

/// The longest head of an answer.
const HEAD_BYTES: usize = 64 * 1024;

/// Makes connections, with TLS or without.
pub struct Client {
    dialler: Dialler,
    tls: Option<tls::Connector>,
    /// What connects in place of the two.
    other: Option<Arc<dyn ClientDialler>>,
    /// In place of the host.
    socket: Option<UnixPath>,
}

/// Makes connections in place of the system's network, for a simulation: it stands for names, TCP and
/// TLS.
pub trait ClientDialler: Send + Sync {
    /// Opens one.
    fn dial(&self, origin: &Origin) -> ClientDialling;
}

/// A connection that is being opened.
pub type ClientDialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn ClientStream>>> + Send>>;

/// What such a connection is made of.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ClientStream for T {}

/// A connection that stands; it is closed when it is dropped.
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Whose one task drives it, and ends with it.
    _driver: JoinSet<()>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No address was found.
    #[error("its name could not be resolved: {0}")]
    Name(io::Error),
    /// No one is there.
    #[error("it could not be connected to: {0}")]
    Tcp(io::Error),
    /// Its certificate does not hold, for instance.
    #[error("no TLS connection could be made: {0}")]
    Tls(TlsError),
    /// What came is no answer, or the connection ended.
    #[error("it does not speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    /// The proxy on the way made no connection.
    #[error("{0}")]
    Proxy(DialError),
    /// No one took the connection in time.
    #[error("no connection stood after {} s", CONNECT.as_secs())]
    Connecting,
    /// There is more than whoever asked can use.
    #[error("its answer is longer than {0} bytes")]
    TooLarge(usize),
    /// The end is missing.
    #[error("its answer broke off")]
    Broken,
}

impl From<DialError> for ClientError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Name(error) => Self::Name(error),
            DialError::Remote(error) | DialError::Local(error) => Self::Tcp(error),
            error @ DialError::Proxy { .. } => Self::Proxy(error),
            DialError::Timeout => Self::Connecting,
        }
    }
}

impl Client {
    /// Over TLS; trusts these certificates, which this key of the configuration names, or those of the
    /// platform.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn over_tls(
        ca: Option<&[CertificateDer<'static>]>,
        key: &'static str,
    ) -> Result<Self, rustls::Error> {
        let tls = tls::Connector::new(ca, key, &[b"http/1.1"])?;
        Ok(Self { dialler: Dialler::system(), tls: Some(tls), other: None, socket: None })
    }

    /// Without TLS: whoever is on the way can read and change everything.
    pub fn in_the_clear() -> Self {
        Self { dialler: Dialler::system(), tls: None, other: None, socket: None }
    }

    /// Over another network than the system's.
    pub fn over(other: Arc<dyn ClientDialler>) -> Self {
        Self { other: Some(other), ..Self::in_the_clear() }
    }

    /// The same to this Unix socket, whatever the host, without TLS.
    #[must_use]
    pub fn to_socket(self, socket: Option<UnixPath>) -> Self {
        Self { socket, ..self }
    }

    /// The same with this way out.
    #[must_use]
    pub fn through(self, egress: Egress) -> Self {
        Self { dialler: self.dialler.through(egress), ..self }
    }

    /// Makes a connection.
    ///
    /// # Errors
    /// [`ClientError`], after two seconds at the latest.
    pub async fn connect(&self, origin: &Origin) -> Result<Connection, ClientError> {
        let deadline = Instant::now() + CONNECT;
        let open = async {
            if let Some(other) = &self.other {
                let socket = other.dial(origin).await.map_err(ClientError::Tcp)?;
                return Connection::over(socket).await;
            }
            if let Some(path) = &self.socket {
                let socket = self.dialler.connect_unix(path.as_path(), deadline).await?;
                return Connection::over(socket).await;
            }
            let socket = self.dialler.connect(&origin.host, origin.port, deadline).await?;
            let Some(tls) = &self.tls else { return Connection::over(socket).await };
            let name = tls::server_name(&origin.host)
                .ok_or_else(|| ClientError::Name(io::ErrorKind::InvalidInput.into()))?;
            Connection::over(tls.connect(name, socket).await.map_err(ClientError::Tls)?).await
        };
        let late = || Err(self.dialler.late(&origin.host, origin.port).into());
        let opened = before(deadline, open).await.unwrap_or_else(late);
        if opened.is_err() {
            self.dialler.failed(&origin.host, origin.port);
        }
        opened
    }

    /// Makes a connection to one of these addresses, without TLS and without a look at any name.
    ///
    /// # Errors
    /// [`ClientError`], after two seconds at the latest.
    pub async fn connect_to(&self, addresses: &[SocketAddr]) -> Result<Connection, ClientError> {
        let deadline = Instant::now() + CONNECT;
        let socket = self.dialler.connect_to(addresses, deadline).await?;
        Connection::over(socket).await
    }
}

impl Connection {
    async fn over<T>(socket: T) -> Result<Self, ClientError>
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
    /// [`ClientError`].
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        Ok(self.sender.send_request(request).await?)
    }
}

/// Reads an answer's body, up to so many bytes.
///
/// # Errors
/// [`ClientError::TooLarge`], [`ClientError::Broken`].
pub async fn read(body: Incoming, most: usize) -> Result<Bytes, ClientError> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge(most)),
        Err(_) => Err(ClientError::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Resolver, Url, WEB};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// Of two addresses, the first takes connections and says nothing.
    #[tokio::test]
    async fn an_address_that_ends_no_handshake_keeps_nobody_from_the_other() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let good = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let certified = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let key = certified.signing_key.serialize_der().try_into().unwrap();
        let chain = vec![certified.cert.der().clone()];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key)
            .unwrap();
        let serving = tokio::spawn(async move {
            let (socket, _) = good.accept().await.unwrap();
            TlsAcceptor::from(Arc::new(config)).accept(socket).await.map(drop)
        });
        let both = ["127.0.0.1", "127.0.0.2"].map(|one| one.parse().unwrap());
        let dialler = Dialler::over(Resolver::with(move |_| Ok(both.to_vec())));
        let tls = Some(tls::Connector::new(Some(&chain), "ca", &[]).unwrap());
        let client = Client { dialler, tls, other: None, socket: None };
        let url = Url::parse(&format!("https://a.example:{port}"), WEB).unwrap();
        let first = client.connect(url.origin()).await;
        assert!(matches!(first, Err(ClientError::Connecting)));
        client.connect(url.origin()).await.unwrap();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_host_that_says_nothing_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", silent.local_addr().unwrap());
        let client = Client::over_tls(Some(&[]), "ca").unwrap();
        let origin = Url::parse(&url, WEB).unwrap();
        let why = client.connect(origin.origin()).await.err().unwrap();
        assert!(matches!(why, ClientError::Connecting), "{why}");
    }
}
