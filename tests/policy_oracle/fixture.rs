//! What every configuration takes from: keys, signers and certificates that are made once, for they
//! cost more than a configuration does.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::hmac;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use whiteboard_gateway::caller::{ApiKey, generate};

use crate::oracle::{Kind, Life, PERMANENT, Role};
use crate::signer::{Signer, encode};

/// The time of day, in seconds of Unix time: it stands still.
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const NOW_MS: u64 = NOW * 1000;

/// As many callers a configuration has at most, and issuers.
pub(crate) const CALLERS: usize = 4;
pub(crate) const ISSUERS: usize = 2;

pub(crate) static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::new);

pub(crate) struct Fixture {
    /// Keys of callers, one for each and one that nobody has.
    pub(crate) keys: Vec<Key>,
    /// Of the issuers that sign with HS256 and with ES256.
    pub(crate) signers: Vec<Signer>,
    /// A signer that nobody trusts, of the same name.
    pub(crate) forger: Signer,
    pub(crate) folder: PathBuf,
    /// A client without a certificate, one for each caller, and one that nobody knows.
    pub(crate) clients: Vec<Arc<ClientConfig>>,
    _folder: tempfile::TempDir,
}

pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) id: String,
    pub(crate) digest: String,
}

impl Key {
    /// A key of the same id, whose form and checksum are right.
    pub(crate) fn of_another_secret(&self) -> String {
        let (begin, _) = self.text.rsplit_once('_').unwrap();
        let last = if begin.ends_with('A') { "B" } else { "A" };
        let begin = format!("{}{last}", &begin[..begin.len() - 1]);
        let mut rest = crc32fast::hash(begin.as_bytes());
        let mut checksum = [b'0'; 6];
        for digit in checksum.iter_mut().rev() {
            *digit = BASE62[rest as usize % BASE62.len()];
            rest /= 62;
        }
        format!("{begin}_{}", String::from_utf8_lossy(&checksum))
    }
}

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The shared secret of the issuers that sign with HS256.
pub(crate) const SHARED: &str = "a shared secret of forty bytes, for tests";

impl Fixture {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().to_owned();
        let key = |_| {
            let text = generate(false).unwrap().expose().to_owned();
            let key = ApiKey::parse(&text).ok().unwrap();
            let (id, digest) = (key.id().to_string(), key.digest().to_string());
            Key { text, id, digest }
        };
        let keys: Vec<Key> = (0..=CALLERS).map(key).collect();
        for key in &keys {
            // A forged key that is none of ours by its form would test nothing.
            assert!(ApiKey::parse(&key.of_another_secret()).is_ok());
        }
        let (authority, es256) = (Authority::new(), Signer::es256("es"));
        let (certificate, private) = authority.certify("localhost");
        fs::write(folder.join("certificate.pem"), certificate).unwrap();
        fs::write(folder.join("key.pem"), private).unwrap();
        fs::write(folder.join("authority.pem"), &authority.pem).unwrap();
        fs::write(folder.join("keys.json"), json!({"keys": [es256.jwk()]}).to_string()).unwrap();
        let names = (0..=CALLERS).map(|caller| Some(dns(caller)));
        Self {
            keys,
            signers: vec![Signer::hs256("hs", SHARED), es256],
            forger: Signer::es256("es"),
            clients: std::iter::once(None)
                .chain(names)
                .map(|name| authority.client(name))
                .collect(),
            folder,
            _folder: temporary,
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }
}

/// Who issues the certificates of the gateway and of its callers.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let (mut parameters, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// A certificate and its key.
    fn certify(&self, name: &str) -> (String, String) {
        let mut parameters = CertificateParams::new([name.to_owned()]).unwrap();
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A client of the gateway, with the certificate of this name or without one.
    fn client(&self, name: Option<String>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match name.map(|name| self.certify(&name)) {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        })
    }
}

/// The name in the certificate of a caller.
pub(crate) fn dns(caller: usize) -> String {
    format!("caller-{caller}.example.org")
}

/// A whiteboard token as a back end or the service signs it.
pub(crate) struct Signed<'a> {
    pub(crate) kind: Kind,
    pub(crate) access_key: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) role: Role,
    pub(crate) uuid: Option<&'a str>,
    pub(crate) end: Life,
}

pub(crate) fn prefix(kind: Kind) -> &'static str {
    match kind {
        Kind::Sdk => "NETLESSSDK_",
        Kind::Room => "NETLESSROOM_",
        Kind::Task => "NETLESSTASK_",
    }
}

impl Signed<'_> {
    pub(crate) fn text(&self) -> String {
        let role = match self.role {
            Role::Admin => "0",
            Role::Writer => "1",
            Role::Reader => "2",
        };
        let mut fields = vec![("ak", self.access_key.to_owned())];
        if self.end != PERMANENT {
            fields.push(("expireAt", self.end.to_string()));
        }
        fields.extend([("nonce", self.nonce.to_owned()), ("role", role.to_owned())]);
        fields.extend(self.uuid.map(|uuid| ("uuid", uuid.to_owned())));
        let object: serde_json::Map<String, _> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let text = serde_json::to_string(&object).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let signature = hmac::sign(&key, text.as_bytes());
        let hex: String = signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        fields.push(("sig", hex));
        let escape = percent_encoding::NON_ALPHANUMERIC;
        let pairs = fields.iter().map(|(name, value)| {
            format!("{name}={}", percent_encoding::utf8_percent_encode(value, escape))
        });
        let payload = pairs.collect::<Vec<_>>().join("&");
        format!("{}{}", prefix(self.kind), encode(payload))
    }
}
