//! TLS to the gateway, as a client that trusts one authority.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Authority;

/// A TLS connection that stands.
pub(crate) type Secured = StreamOwned<ClientConnection, TcpStream>;

/// How a client that trusts this authority, and offers these protocols, speaks TLS.
pub(super) fn config(authority: &Authority, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let der = CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap();
    roots.add(der).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Makes a TLS connection for `localhost`, and offers these protocols.
pub(crate) fn handshake(
    address: SocketAddr,
    authority: &Authority,
    protocols: &[&str],
) -> io::Result<Secured> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(config(authority, protocols), name).unwrap();
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(tls, socket))
}
