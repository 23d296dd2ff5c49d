//! Authorities that issue and revoke certificates, and a client that shows them in a handshake.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::client::ResolvesClientCert;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, SignatureScheme,
    StreamOwned,
};
use time::{Duration, OffsetDateTime};

use super::{Client, Secured, dial};

/// The serial number of the next certificate, of whatever authority.
static SERIAL: AtomicU64 = AtomicU64::new(1);

/// Who issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
    /// What lies between it and an authority that is trusted, sent along with what it issues.
    between: String,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    /// The certificate, and what is sent along with it.
    pub(crate) pem: String,
    pub(crate) key: String,
    serial: u64,
}

impl Identity {
    /// One that is made elsewhere.
    pub(crate) const fn of(pem: String, key: String) -> Self {
        Self { pem, key, serial: 0 }
    }
}

impl Authority {
    /// A certificate of a server, for a name or an address.
    pub(crate) fn certify(&self, name: &str) -> Identity {
        self.issue(|params| {
            params.subject_alt_names = names(name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// One whose time is over.
    pub(crate) fn certify_expired(&self, name: &str) -> Identity {
        self.issue(|params| {
            params.subject_alt_names = names(name);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        })
    }

    /// Writes its own certificate into a folder.
    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("authority.pem");
        fs::write(&path, &self.pem).unwrap();
        path
    }

    pub(crate) fn new(name: &str) -> Self {
        let (parameters, key) = (Self::parameters(name), KeyPair::generate().unwrap());
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(parameters, key), pem, between: String::new() }
    }

    /// An authority that this one has certified.
    pub(crate) fn below(&self, name: &str) -> Self {
        self.below_as(name, |_| {})
    }

    /// One whose certificate is changed as a test wants it.
    pub(crate) fn below_as(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut parameters, key) = (Self::parameters(name), KeyPair::generate().unwrap());
        change(&mut parameters);
        let pem = parameters.signed_by(&key, &self.issuer).unwrap().pem();
        let between = pem.clone() + &self.between;
        Self { issuer: Issuer::new(parameters, key), between, pem }
    }

    fn parameters(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = subject(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        parameters
    }

    /// Issues a certificate for a client, changed as a test wants it.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.serial_number = Some(SerialNumber::from(serial));
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let pem = parameters.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { pem: pem + &self.between, key: key.serialize_pem(), serial }
    }

    /// A certificate for a client of this DNS name.
    pub(crate) fn client(&self, name: &str) -> Identity {
        self.issue(|one| one.subject_alt_names = vec![SanType::DnsName(name.try_into().unwrap())])
    }

    /// A certificate for the server `localhost`.
    pub(crate) fn server(&self) -> Identity {
        self.issue(|one| {
            one.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
            one.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// The list of what it has revoked, good for so long from now.
    pub(crate) fn revoked(&self, those: &[&Identity], good: Duration) -> String {
        self.list(those, good, |_| {})
    }

    /// One that is changed as a test wants it.
    pub(crate) fn list(
        &self,
        those: &[&Identity],
        good: Duration,
        change: impl FnOnce(&mut CertificateRevocationListParams),
    ) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = those.iter().map(|one| RevokedCertParams {
            serial_number: SerialNumber::from(one.serial),
            revocation_time: now - Duration::DAY,
            reason_code: None,
            invalidity_date: None,
        });
        let mut list = CertificateRevocationListParams {
            this_update: now - Duration::DAY,
            next_update: now + good,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut list);
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// A subject of this common name in the organization `Example`.
/// One alternative name, of a host or an address.
fn names(name: &str) -> Vec<SanType> {
    CertificateParams::new([name.to_owned()]).unwrap().subject_alt_names
}

pub(crate) fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Example");
    subject.push(DnType::CommonName, name);
    subject
}

impl Identity {
    /// Writes both into a folder, in the place of others: `certificate.pem` and `key.pem`.
    pub(crate) fn write(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        super::replace(&certificate, &self.pem);
        super::replace(&key, &self.key);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        (certificate, key)
    }

    /// How a server with this certificate speaks TLS, and these protocols inside.
    pub(crate) fn serving(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified())));
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn certified(&self) -> CertifiedKey {
        let chain = CertificateDer::pem_slice_iter(self.pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap();
        let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
        CertifiedKey::new(chain.map(Result::unwrap).collect(), key)
    }

    /// This certificate with the key of another.
    pub(crate) fn with_key_of(&self, other: &Self) -> Self {
        Self { key: other.key.clone(), ..self.clone() }
    }
}

/// What a client shows when it is asked for a certificate, whether or not it will be liked.
#[derive(Debug)]
struct Shows(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// A client under TLS. Its sessions are resumed.
pub(crate) struct TlsClient(Arc<ClientConfig>);

/// A connection of it, and how its handshake went.
pub(crate) struct Shown {
    pub(crate) stream: Secured,
}

impl TlsClient {
    /// Trusts an authority for the server, and shows a certificate when it is asked for one.
    pub(crate) fn new(authority: &Authority, identity: Option<&Identity>) -> Self {
        Self::speaking(authority, identity, rustls::DEFAULT_VERSIONS)
    }

    pub(crate) fn speaking(
        authority: &Authority,
        identity: Option<&Identity>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let shows = Shows(identity.map(|identity| Arc::new(identity.certified())));
        let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(shows));
        Self(Arc::new(config))
    }

    /// Trusts an authority, shows no certificate, and speaks TLS by this provider.
    pub(crate) fn by(authority: &Authority, provider: Arc<CryptoProvider>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(Arc::new(config))
    }

    /// The same, which offers HTTP/2 alone.
    pub(crate) fn of_http2(&self) -> Arc<ClientConfig> {
        let mut config = (*self.0).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// Connects, and finishes the handshake as far as a client can.
    pub(crate) fn try_connect(&self, address: SocketAddr) -> io::Result<Shown> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        let mut socket = dial(address);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Shown { stream: StreamOwned::new(connection, socket) })
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> Client<Secured> {
        Client::over(self.try_connect(address).unwrap().stream)
    }
}

impl Shown {
    pub(crate) fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}
