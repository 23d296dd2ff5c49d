//! TLS to others: one configuration of the client for whoever goes out.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_platform_verifier::{BuilderVerifierExt as _, Verifier};
use tokio_rustls::TlsConnector;

/// A client of TLS 1.2 and 1.3 that trusts these authorities, or those of the platform, and offers
/// these protocols (ALPN). The key exchange that it offers first is X25519MLKEM768, which is safe
/// from who records today and has a quantum computer tomorrow (`prefer-post-quantum` of rustls).
///
/// # Errors
/// When the certificates cannot be used.
pub fn connector(
    authorities: Option<&[CertificateDer<'static>]>,
    protocols: &[&[u8]],
) -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = match authorities {
        None => builder.with_platform_verifier()?.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone())?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whether the platform trusts the issuer of a server's chain: what a client of everybody's sees who
/// has nothing but the roots. Other faults of a certificate, its end for instance, are none here.
#[must_use]
pub fn is_issuer_known(chain: &[CertificateDer<'_>]) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let (Some((own, between)), Ok(verifier)) = (chain.split_first(), Verifier::new(provider))
    else {
        return false;
    };
    // Any name: whether the certificate has it is looked at after whether it is trusted.
    let Some(name) = server_name("localhost") else { return false };
    let judged = verifier.verify_server_cert(own, between, &name, &[], UnixTime::now());
    !matches!(judged, Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)))
}

/// A host as a certificate names it; `None` for one that no certificate can have.
#[must_use]
pub fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::NamedGroup;
    use rustls::server::Acceptor;
    use tokio_rustls::LazyConfigAcceptor;

    #[tokio::test]
    async fn the_first_key_exchange_that_is_offered_is_a_post_quantum_one() {
        let (ours, theirs) = tokio::io::duplex(16 * 1024);
        let connector = connector(Some(&[]), &[b"h2", b"http/1.1"]).unwrap();
        let client = tokio::spawn(async move {
            connector.connect(server_name("a.example").unwrap(), ours).await
        });
        let hello = LazyConfigAcceptor::new(Acceptor::default(), theirs).await.unwrap();
        let hello = hello.client_hello();
        let groups = hello.named_groups().unwrap();
        assert_eq!(groups.first(), Some(&NamedGroup::X25519MLKEM768), "{groups:?}");
        assert!(groups.contains(&NamedGroup::X25519), "for whoever does not know it");
        let protocols: Vec<_> = hello.alpn().unwrap().collect();
        assert_eq!(protocols, [&b"h2"[..], b"http/1.1"]);
        client.abort();
    }

    #[test]
    fn a_name_or_an_address_is_what_a_certificate_can_have() {
        for (host, can) in [("a.example", true), ("127.0.0.1", true), ("::1", true), ("a b", false)]
        {
            assert_eq!(server_name(host).is_some(), can, "{host}");
        }
    }
}
