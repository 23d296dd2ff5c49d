//! TLS to the gateway, by the authority of the soak alone.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How callers connect.
#[derive(Clone)]
pub(crate) struct Dial {
    address: SocketAddr,
    http1: TlsConnector,
    http2: TlsConnector,
}

impl Dial {
    /// To nowhere yet.
    pub(crate) fn new(authority_pem: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority_pem.as_bytes())?)?;
        let connector = |protocol: &str| {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.into()];
            // A resumed session shows no new certificate.
            config.resumption = rustls::client::Resumption::disabled();
            anyhow::Ok(TlsConnector::from(Arc::new(config)))
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self { address, http1: connector("http/1.1")?, http2: connector("h2")? })
    }

    /// To this address.
    pub(crate) fn to(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// A connection whose handshake is over.
    pub(crate) async fn connect(&self, http2: bool) -> anyhow::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address).await.context("connect")?;
        socket.set_nodelay(true)?;
        let connector = if http2 { &self.http2 } else { &self.http1 };
        let name = ServerName::try_from("localhost")?;
        connector.connect(name, socket).await.context("TLS handshake")
    }

    /// The certificate that a new connection is shown.
    pub(crate) async fn certificate(&self) -> anyhow::Result<Vec<u8>> {
        let stream = self.connect(false).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        Ok(shown.context("no certificate")?.to_vec())
    }
}
