//! TLS to others: one configuration of the client for whoever goes out.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::{BuilderVerifierExt as _, Verifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use webpki::Error as WebPkiError;

/// So many of the names in a certificate are told, where none of them is the right one.
const NAMES: usize = 5;

/// Makes TLS of connections: 1.2 and 1.3.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    trusts: Trusts,
}

/// Whom a connector trusts, as whoever has to change that is told.
#[derive(Clone, Copy)]
struct Trusts {
    /// The key of the configuration that names authorities.
    key: &'static str,
    /// It does, and those of the platform are not trusted.
    named: bool,
}

/// Why no TLS came about.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate of the other side does not hold: why, and what would help.
    #[error("{0}")]
    Certificate(String),
    /// Anything else.
    #[error("{0}")]
    Handshake(#[from] io::Error),
}

impl Connector {
    /// One that trusts these authorities, which this key of the configuration names, or those of the
    /// platform, and offers these protocols (ALPN). The key exchange that it offers first is
    /// X25519MLKEM768, which is safe from who records today and has a quantum computer tomorrow
    /// (`prefer-post-quantum` of rustls).
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn new(
        authorities: Option<&[CertificateDer<'static>]>,
        key: &'static str,
        protocols: &[&[u8]],
    ) -> Result<Self, rustls::Error> {
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
                if authorities.is_empty() {
                    builder.with_root_certificates(roots).with_no_client_auth()
                } else {
                    let verifier = PinningVerifier::new(roots, authorities)?;
                    let builder = builder.dangerous();
                    builder
                        .with_custom_certificate_verifier(Arc::new(verifier))
                        .with_no_client_auth()
                }
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let trusts = Trusts { key, named: authorities.is_some() };
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), trusts })
    }

    /// Does the handshake with whoever is to have this name.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        name: ServerName<'static>,
        socket: T,
    ) -> Result<TlsStream<T>, TlsError> {
        self.tls.connect(name, socket).await.map_err(|error| {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
            match tls {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    TlsError::Certificate(self.trusts.why_not(why))
                }
                _ => TlsError::Handshake(error),
            }
        })
    }
}

/// Verifies as rustls does, and takes a certificate as well that is named itself: that of an
/// authority (CA:TRUE), as a self-signed one of `openssl req -x509` is, which webpki takes for no
/// server's. It looks at its dates before that, and the name is compared here.
#[derive(Debug)]
struct PinningVerifier {
    usual: Arc<WebPkiServerVerifier>,
    pins: Vec<CertificateDer<'static>>,
}

impl PinningVerifier {
    fn new(roots: RootCertStore, pins: &[CertificateDer<'static>]) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let usual = usual.map_err(|why| rustls::Error::General(why.to_string()))?;
        Ok(Self { usual, pins: pins.to_vec() })
    }
}

impl ServerCertVerifier for PinningVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.usual.verify_server_cert(own, between, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)))
                if is(&why, &WebPkiError::CaUsedAsEndEntity)
                    && self.pins.iter().any(|pin| pin == own) =>
            {
                verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

impl Trusts {
    /// Why a certificate does not hold, in words that name the cure.
    fn why_not(self, why: &CertificateError) -> String {
        use CertificateError as E;
        let Self { key, named } = self;
        match why {
            E::UnknownIssuer if named => {
                format!(
                    "none of the authorities in `{key}` has issued its certificate: add the one that \
                     has, or the intermediate certificate that its chain lacks there"
                )
            }
            E::UnknownIssuer => {
                format!(
                    "no authority that this machine trusts has issued its certificate: name the one \
                     that has in `{key}`"
                )
            }
            E::ExpiredContext { not_after, .. } => {
                format!(
                    "its certificate, or one above it, ended on {}: renew it there, or put the clock \
                     of this machine right",
                    date(*not_after)
                )
            }
            E::NotValidYetContext { not_before, .. } => {
                format!(
                    "its certificate, or one above it, begins on {}: put the clock of this machine \
                     right, or renew it there",
                    date(*not_before)
                )
            }
            E::NotValidForNameContext { expected, presented } => {
                let names: Vec<&str> = presented.iter().take(NAMES).map(|name| bare(name)).collect();
                let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
                format!(
                    "its certificate is for {names} and not for {}: name it in the URL as its \
                     certificate does, or have that name certified",
                    expected.to_str()
                )
            }
            E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
                "its certificate is not one for servers (`serverAuth` is not among its extended key \
                 usages): it needs another"
                    .to_owned()
            }
            E::Other(other) if is(other, &WebPkiError::CaUsedAsEndEntity) => {
                format!(
                    "it shows the certificate of an authority (CA:TRUE) as its own, as a self-signed \
                     one of `openssl req -x509` is: name that certificate itself in `{key}`, or let \
                     that authority issue it one for servers (CA:FALSE)"
                )
            }
            why => format!("its certificate does not hold: {why}"),
        }
    }
}

/// Whether what rustls has no word for is this.
fn is(other: &rustls::OtherError, error: &WebPkiError) -> bool {
    other.0.downcast_ref() == Some(error)
}

/// A time as people read it.
fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

/// A name without what says of which kind it is: `DnsName("a.example")`.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

/// Whether the platform trusts the issuer of a server's chain: what a client of everyone's sees who
/// has nothing but the roots. Other faults of a certificate, its end for instance, are none here.
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
        let connector = Connector::new(Some(&[]), "upstream.ca", &[b"h2", b"http/1.1"]).unwrap();
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
