//! JWTs of identity providers: verified by the issuer's own keys, and mapped to what they grant.
//!
//! The configuration of the issuer picks everything: keys, algorithms, audience. The token picks
//! nothing but the issuer, by its `iss`. Workers verify against an immutable snapshot of the keys
//! ([`Issuers`]) and remember what they verified ([`super::CredentialCache`]); one task on the control thread
//! ([`Fetcher`]) brings the keys and keeps them fresh. No lock is taken on the way of a token
//! whose key is known.
//!
//! Signatures are verified by aws-lc-rs itself. A JWT library above it would leave most checks to
//! us (`crit`, `typ`, `iat`, a missing `aud`, duplicate members), parse the claims a second time
//! and the key anew for each token; what remains of it is one call.

mod algorithm;
mod check;
mod compact;
mod early_refresh;
mod error;
mod issuers;
mod jwks_client;
mod jwks_refresh;
mod key;
mod key_set;
mod key_store;
mod mapping;
mod pem;
#[cfg(test)]
mod tests;
mod url;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::net::{ClientDialler, Egress};
use crate::token::Secret;

pub use crate::policy::ClaimPath;
pub use algorithm::{Algorithm, AlgorithmError};
pub use error::{InvalidJwtError, JwtError};
pub use issuers::{IssuerError, IssuerSettingsError, Issuers, METRICS, Verified};
pub use jwks_refresh::Fetcher;
pub use key::KeyError;
pub use key_set::KeySetError;
pub use key_store::Status;
pub use mapping::{
    Cap, CapFrom, ClaimError, ClaimGrant, ClaimPathError, Mapping, ProfileFrom, RoomsFrom,
};
pub use pem::PemError;
pub use url::{HttpsUrl, HttpsUrlError};

/// The longest token, in bytes. A refusal costs at most the decoding of that many, one signature,
/// and, where its key is not known, one second of waiting.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The most leeway for the clocks of others.
pub const MAX_LEEWAY: Duration = Duration::from_secs(60);

/// Whether a credential is meant as a JWT: keys of ours and whiteboard tokens hold no dot.
pub fn looks_like(credential: &str) -> bool {
    credential.contains('.')
}

/// An identity provider, from an `[issuers.<name>]` section.
#[derive(Clone)]
pub struct IssuerSettings {
    /// Its name in the configuration, which logs and metrics use.
    pub name: String,
    /// What `iss` says, exactly.
    pub issuer: String,
    /// What `aud` must hold one of. Never empty.
    pub audience: Vec<String>,
    /// Where its keys come from.
    pub keys: KeySource,
    /// The algorithms that are taken; [`KeySource::default_algorithms`] where none are named.
    pub algorithms: Vec<Algorithm>,
    /// How wrong clocks may be: 30 s, at most [`MAX_LEEWAY`].
    pub leeway: Duration,
    /// The longest time between `iat` and `exp`.
    pub max_lifetime: Duration,
    /// What `typ` must say; `None` takes none, `JWT` and `at+jwt`.
    pub typ: Option<String>,
    /// Whether ID tokens are taken (those with a `nonce`, `at_hash` or `c_hash`).
    pub id_tokens: bool,
    /// Certificates that are trusted instead of the platform's, to fetch the keys.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// By which way they are fetched.
    pub egress: Egress,
    /// How long keys are relied on when they cannot be fetched anew.
    pub max_stale: Duration,
    /// What its tokens grant.
    pub mapping: Mapping,
    /// What connects to where its keys are, in place of the system's network.
    pub dialler: Option<Arc<dyn ClientDialler>>,
}

/// Where the keys of an issuer come from.
#[derive(Clone)]
pub enum KeySource {
    /// A JWK Set at a URL.
    Jwks(HttpsUrl),
    /// A JWK Set that the issuer's discovery document points to.
    Discovery,
    /// A JWK Set or public keys in PEM form, in a file that is read at start and on reload.
    File(PathBuf),
    /// A shared secret, for HS256 alone.
    Secret(Secret),
}

impl KeySource {
    /// The algorithms that are taken where the configuration names none.
    pub fn default_algorithms(&self) -> Vec<Algorithm> {
        match self {
            Self::Secret(_) => vec![Algorithm::Hs256],
            _ => Algorithm::ASYMMETRIC.to_vec(),
        }
    }
}

impl IssuerSettings {
    /// An issuer with everything that has a default at its default.
    pub fn new(name: String, issuer: String, audience: Vec<String>, keys: KeySource) -> Self {
        Self {
            algorithms: keys.default_algorithms(),
            name,
            issuer,
            audience,
            keys,
            leeway: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(24 * 3600),
            typ: None,
            id_tokens: false,
            ca: None,
            egress: Egress::default(),
            max_stale: Duration::from_secs(24 * 3600),
            mapping: Mapping::default(),
            dialler: None,
        }
    }
}
