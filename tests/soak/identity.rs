//! Who is trusted: the certificate that is shown, the keys of an identity provider, API keys; and how
//! each is replaced.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    SerialNumber,
};
use serde_json::{Value, json};
use whiteboard_gateway::caller::{self, ApiKey};

/// How many keys of the identity provider count: a caller may take seconds from the choice of its token
/// to the gateway, which may turn to another key each second.
const COUNTED: usize = 8;

/// What is trusted, as files in a folder.
pub(crate) struct Identity {
    folder: PathBuf,
    authority: Issuer<'static, KeyPair>,
    pub(crate) authority_pem: String,
    certificates: u64,
    signers: Vec<Signer>,
}

/// A key of the identity provider.
struct Signer {
    id: String,
    pair: Ed25519KeyPair,
}

impl Identity {
    /// Writes the first of each.
    pub(crate) fn new(folder: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named("soak");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_pem = params.self_signed(&key)?.pem();
        let mut identity = Self {
            folder: folder.to_owned(),
            authority: Issuer::new(params, key),
            authority_pem,
            certificates: 0,
            signers: Vec::new(),
        };
        identity.rotate_certificate()?;
        identity.rotate_keys()?;
        Ok(identity)
    }

    /// Another certificate, for `localhost` and for the service that chaos has; gives its bytes. Certificate and key change at once, by
    /// the turn of a symbolic link.
    pub(crate) fn rotate_certificate(&mut self) -> anyhow::Result<Vec<u8>> {
        self.certificates += 1;
        let key = KeyPair::generate()?;
        let names = ["localhost", "10.9.0.11"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("gateway");
        params.serial_number = Some(SerialNumber::from(self.certificates));
        let certificate = params.signed_by(&key, &self.authority)?;
        let own = self.folder.join(format!("tls-{}", self.certificates));
        fs::create_dir(&own)?;
        fs::write(own.join("certificate.pem"), certificate.pem())?;
        private(&own.join("key.pem"), &key.serialize_pem())?;
        let turned = self.folder.join("tls.new");
        symlink(&own, &turned)?;
        fs::rename(turned, self.folder.join("tls"))?;
        Ok(certificate.der().to_vec())
    }

    /// Another key of the identity provider; those before count for a while.
    pub(crate) fn rotate_keys(&mut self) -> anyhow::Result<()> {
        let pair = Ed25519KeyPair::generate().ok().context("the system gives no randomness")?;
        let id = format!("key-{}", self.signers.last().map_or(1, |last| last.number() + 1));
        self.signers.push(Signer { id, pair });
        if self.signers.len() > COUNTED {
            self.signers.remove(0);
        }
        let keys: Vec<Value> = self.signers.iter().map(Signer::jwk).collect();
        replace(&self.folder.join("keys.json"), &json!({ "keys": keys }).to_string())
    }

    /// A token that the newest key has signed.
    pub(crate) fn jwt(&self) -> anyhow::Result<String> {
        let signer = self.signers.last().context("there is no key")?;
        let now = Timestamp::now().as_second();
        let header = json!({ "alg": "EdDSA", "kid": signer.id, "typ": "JWT" });
        let claims = json!({
            "iss": "https://idp.example", "aud": "whiteboard", "sub": "ada",
            "iat": now, "exp": now + 3_600,
        });
        let encode = |part: String| URL_SAFE_NO_PAD.encode(part);
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode(signer.pair.sign(signed.as_bytes()));
        Ok(format!("{signed}.{signature}"))
    }
}

impl Signer {
    fn number(&self) -> u64 {
        self.id.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    fn jwk(&self) -> Value {
        let x = URL_SAFE_NO_PAD.encode(self.pair.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": self.id, "x": x })
    }
}

/// An API key.
pub(crate) fn new_key() -> anyhow::Result<String> {
    let key = caller::generate(true).ok().context("the system gives no randomness")?;
    Ok(key.expose().to_owned())
}

/// The entry of a key in the configuration.
pub(crate) fn slot(key: &str) -> anyhow::Result<String> {
    let key = ApiKey::parse(key).ok().context("a key that cannot be read")?;
    Ok(format!("{{ id = \"{}\", digest = \"{}\" }}", key.id(), key.digest()))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn private(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Replaces a file whole, as a deployment does.
pub(crate) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let other = path.with_extension("new");
    fs::write(&other, text)?;
    Ok(fs::rename(other, path)?)
}
