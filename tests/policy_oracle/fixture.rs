//! What every configuration takes from: keys, signers and certificates that are made once, for they
//! cost more than a configuration does.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::{digest, hmac};
use percent_encoding::AsciiSet;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use whiteboard_gateway::caller::{ApiKey, generate};

use crate::oracle::{Kind, Life, PERMANENT, Role, base64url};
use crate::signer::{Signer, encode};

/// The time of day, in seconds of Unix time: it stands still.
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const NOW_MS: u64 = NOW * 1000;

/// As many callers a configuration has at most, and issuers.
pub(crate) const CALLERS: usize = 4;
pub(crate) const ISSUERS: usize = 2;

pub(crate) static FIXTURE: LazyLock<Fixture> = LazyLock::new(Fixture::new);

pub(crate) struct Fixture {
    /// Keys of callers, one for each and one that no one has.
    pub(crate) keys: Vec<Key>,
    /// Of the issuers that sign with HS256 and with ES256.
    pub(crate) signers: Vec<Signer>,
    /// A signer that no one trusts, of the same name.
    pub(crate) forger: Signer,
    pub(crate) folder: PathBuf,
    /// A client without a certificate; of each authority one for each caller, and one that no one
    /// knows: each over HTTP/1.1, and over HTTP/2.
    pub(crate) clients: Vec<[Arc<ClientConfig>; 2]>,
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
        let [authority, partner] = [Authority::new("ours"), Authority::new("partner")];
        let es256 = Signer::es256("es");
        let (certificate, private) = authority.certify(&["localhost"]);
        fs::write(folder.join("certificate.pem"), certificate).unwrap();
        fs::write(folder.join("key.pem"), private).unwrap();
        fs::write(folder.join("authority.pem"), &authority.pem).unwrap();
        fs::write(folder.join("partner.pem"), &partner.pem).unwrap();
        fs::write(folder.join("keys.json"), json!({"keys": [es256.jwk()]}).to_string()).unwrap();
        let identities = [&authority, &partner].into_iter().flat_map(|by| {
            (0..=CALLERS).map(|caller| Some(by.certify(&[&dns(caller), &spiffe(caller)])))
        });
        Self {
            keys,
            signers: vec![Signer::hs256("hs", SHARED), es256],
            forger: Signer::es256("es"),
            clients: std::iter::once(None)
                .chain(identities)
                .map(|identity| authority.client(identity))
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
    fn new(name: &str) -> Self {
        let (mut parameters, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// A certificate and its key.
    fn certify(&self, names: &[&str]) -> (String, String) {
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = names
            .iter()
            .map(|name| match name.strip_prefix("spiffe://") {
                Some(_) => SanType::URI((*name).try_into().unwrap()),
                None => SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A client of the gateway, with a certificate or without one.
    fn client(&self, identity: Option<(String, String)>) -> [Arc<ClientConfig>; 2] {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let mut over_http2 = config.clone();
        over_http2.alpn_protocols = vec![b"h2".to_vec()];
        [config, over_http2].map(Arc::new)
    }
}

/// The client with the certificate of a caller by an authority: ours, or the partner's.
pub(crate) const fn client_of(authority: usize, caller: usize) -> usize {
    1 + authority * (CALLERS + 1) + caller
}

/// The name in the certificate of a caller.
pub(crate) fn dns(caller: usize) -> String {
    format!("caller-{caller}.example.org")
}

/// The SPIFFE id in the certificate of a caller.
pub(crate) fn spiffe(caller: usize) -> String {
    format!("spiffe://{DOMAIN}/caller-{caller}")
}

/// The trust domain of all these ids, whoever issues them.
pub(crate) const DOMAIN: &str = "example.org";

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
        written(self.kind, fields.iter().map(|(name, value)| (*name, value.as_str())), false)
    }
}

/// A token with these fields; in the one text that all its texts have, or in another.
fn written<'a>(
    kind: Kind,
    fields: impl Iterator<Item = (&'a str, &'a str)>,
    canonical: bool,
) -> String {
    let escape = if canonical { URI_COMPONENT } else { percent_encoding::NON_ALPHANUMERIC };
    let pairs = fields.map(|(name, value)| {
        format!("{name}={}", percent_encoding::utf8_percent_encode(value, escape))
    });
    format!("{}{}", prefix(kind), encode(pairs.collect::<Vec<_>>().join("&")))
}

/// What `encodeURIComponent` escapes.
const URI_COMPONENT: &AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The fields of a token, as they stand in it.
fn fields_of(token: &str) -> (Kind, Vec<(String, String)>) {
    let (name, payload) = token.split_at(token.find('_').unwrap() + 1);
    let kind = [Kind::Sdk, Kind::Room, Kind::Task].into_iter().find(|kind| prefix(*kind) == name);
    let payload = String::from_utf8(base64url(payload.trim_end_matches('=')).unwrap()).unwrap();
    let unescaped =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let pairs = payload.split('&').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(name, value)| (unescaped(name), unescaped(value))).collect();
    (kind.unwrap(), pairs)
}

/// The SHA-256 of a token's canonical text, in hex.
pub(crate) fn sha256(token: &str) -> String {
    let (kind, mut fields) = fields_of(token);
    fields.sort();
    let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let digest = digest::digest(&digest::SHA256, written(kind, fields, true).as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same token in another text: its fields in another order, other escapes, and padding.
pub(crate) fn respelled(token: &str) -> String {
    let (kind, mut fields) = fields_of(token);
    fields.reverse();
    let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut text = written(kind, fields, false);
    let payload = text.len() - prefix(kind).len();
    text.extend(std::iter::repeat_n('=', (4 - payload % 4) % 4));
    text
}
