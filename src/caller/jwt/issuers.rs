//! Everyone whose tokens are taken, and the way of a token through the checks.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::check::check;
use super::compact::Compact;
use super::error::{InvalidJwtError, JwtError};
use super::jwks_client::JwksClient;
use super::key::{Key, KeyError};
use super::key_set::{KeySet, KeySetError};
use super::key_store::{KeyStore, Status};
use super::mapping::RoomsFrom;
use super::{Algorithm, HttpsUrl, HttpsUrlError, IssuerSettings, KeySource, MAX_LEEWAY};
use crate::api::{Json, Object};
use crate::caller::identified_caller::IdentifiedCaller;
use crate::caller::throttle::CredentialAttempt;
use crate::caller::{Caller, Validity};
use crate::metric::Metric;
use crate::policy::Rights;
use crate::{certificate, text};

/// The identity providers.
pub const METRICS: &[Metric<Issuers>] = &[
    Metric::gauge(
        "wbg_issuer_keys",
        "Keys that an identity provider has",
        &["issuer"],
        |issuers, out| {
            for issuer in issuers.status() {
                out.add(&[&issuer.issuer], issuer.keys.unwrap_or_default());
            }
        },
    ),
    Metric::gauge(
        "wbg_issuer_keys_age_seconds",
        "How long ago the keys of an identity provider were fetched",
        &["issuer"],
        |issuers, out| {
            for issuer in issuers.status() {
                issuer.age.iter().for_each(|age| out.add(&[&issuer.issuer], age.as_secs_f64()));
            }
        },
    ),
    Metric::counter(
        "wbg_issuer_fetches",
        "Fetches of the keys of an identity provider, by what came of them",
        &["issuer", "result"],
        |issuers, out| {
            for issuer in issuers.status() {
                let succeeded = issuer.fetches.saturating_sub(issuer.failures);
                out.add(&[&issuer.issuer, "succeeded"], succeeded);
                out.add(&[&issuer.issuer, "failed"], issuer.failures);
            }
        },
    ),
];

/// Everyone whose tokens are taken. Shared by the workers and the [`super::Fetcher`].
#[derive(Default)]
pub struct Issuers {
    list: Vec<Issuer>,
    by_issuer: HashMap<String, usize>,
}

/// One issuer, and the keys that it has at the moment.
pub(super) struct Issuer {
    pub(super) settings: IssuerSettings,
    /// Shared with the issuer of the configuration before that fetches from the same place, so that
    /// a fetch that is under way is for this one too.
    pub(super) store: Arc<KeyStore>,
    /// When the first certificate ends in the file that holds its keys, in Unix time.
    key_file_end: Option<i64>,
    /// Where keys are fetched; `None` where the configuration holds them.
    pub(super) remote: Option<Remote>,
}

/// Where keys are fetched, and by what.
pub(super) struct Remote {
    pub(super) client: JwksClient,
    pub(super) place: KeyLocation,
}

/// What a URL leads to.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum KeyLocation {
    KeySet(HttpsUrl),
    Discovery(HttpsUrl),
}

/// A token whose signature held and whose claims are what its issuer's must be.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified<'a> {
    /// The place of the issuer.
    pub issuer: usize,
    /// `exp`.
    pub expires_at: Timestamp,
    /// `exp` and the leeway: the first moment at which it is not taken any more.
    pub(super) taken_until: Timestamp,
    /// Every claim.
    pub claims: Object<'a>,
    /// The keys that it was verified with.
    pub(super) generation: u64,
}

impl Verified<'_> {
    /// What is remembered of it, with what its claims made.
    pub(in crate::caller) fn verdict(&self, caller: Arc<Caller>) -> IdentifiedCaller {
        let validity = Validity::of_keys(self.taken_until, self.issuer, self.generation);
        IdentifiedCaller { caller, validity }
    }
}

/// An issuer cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("issuers.{issuer}: {problem}")]
pub struct IssuerError {
    /// Its name in the configuration.
    pub issuer: String,
    /// Why.
    pub problem: IssuerSettingsError,
}

/// Why an issuer cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum IssuerSettingsError {
    /// Another one has the same `iss`: whose keys would count?
    #[error("another issuer has the same `issuer`")]
    Twice,
    /// A value that must not be empty is.
    #[error("`{0}` must not be empty")]
    Empty(&'static str),
    /// More leeway than clocks need.
    #[error("`leeway` is at most {} s", MAX_LEEWAY.as_secs())]
    Leeway,
    /// HS256 with public keys would make them secrets.
    #[error("HS256 takes a `secret`, and a `secret` takes HS256 alone; `{0}` does not fit")]
    Algorithm(Algorithm),
    /// Discovery takes an issuer that is a URL.
    #[error("`discovery` takes an `issuer` that is a URL: {0}")]
    Discovery(#[from] HttpsUrlError),
    /// The file cannot be read.
    #[error("the file of keys cannot be read: {0}")]
    Read(#[from] io::Error),
    /// The file holds no keys.
    #[error("the file of keys: {0}")]
    Keys(#[from] KeySetError),
    /// The shared secret is too short.
    #[error("the `secret` cannot be used: {0}")]
    Secret(KeyError),
    /// The certificates of `ca`, or the platform's, cannot be used.
    #[error("the certificates that the issuer is to be trusted by cannot be used: {0}")]
    Roots(#[from] rustls::Error),
}

impl Issuers {
    /// Sets up the issuers; reads the keys that stand in files.
    ///
    /// # Errors
    /// [`IssuerError`] with the name of the issuer and what is wrong with it.
    pub fn new(settings: Vec<IssuerSettings>) -> Result<Self, IssuerError> {
        let mut issuers = Self::default();
        for one in settings {
            let name = one.name.clone();
            let failed = |problem| IssuerError { issuer: name.clone(), problem };
            let place = issuers.list.len();
            if issuers.by_issuer.insert(one.issuer.clone(), place).is_some() {
                return Err(failed(IssuerSettingsError::Twice));
            }
            issuers.list.push(Issuer::new(one).map_err(failed)?);
        }
        Ok(issuers)
    }

    /// Takes over the keys of the issuers before a reload, where they come from the same place.
    pub fn adopt(&mut self, old: &Self) {
        for issuer in self.list.iter_mut().filter(|issuer| issuer.remote.is_some()) {
            let before = old.find(&issuer.settings.issuer).and_then(|index| old.get(index));
            if let Some(before) = before.filter(|before| issuer.fetches_as(before)) {
                if issuer.settings.max_stale == before.settings.max_stale {
                    issuer.store = Arc::clone(&before.store);
                } else {
                    issuer.store.adopt(&before.store);
                }
            }
        }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether no one's tokens are taken.
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The name of an issuer in the configuration.
    pub fn name(&self, issuer: usize) -> Option<&str> {
        self.get(issuer).map(|issuer| issuer.settings.name.as_str())
    }

    /// The names of the issuers.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|issuer| issuer.settings.name.as_str())
    }

    /// The issuers whose keys are in a file with certificates, and when the first of these ends, in
    /// Unix time. The key in it is good beyond that, as far as we are concerned.
    pub fn key_file_ends(&self) -> impl Iterator<Item = (&str, i64)> {
        self.list.iter().filter_map(|one| Some((one.settings.name.as_str(), one.key_file_end?)))
    }

    /// How the keys of each issuer are.
    pub fn status(&self) -> impl Iterator<Item = Status> {
        self.list.iter().map(|issuer| issuer.store.status(&issuer.settings.name))
    }

    /// Verifies a token. Whatever it says, it costs at most the decoding of 8 KiB, one signature,
    /// and, where its key is not known, a second of waiting. The claims borrow from `decoded`,
    /// where the parts of the token are put.
    ///
    /// # Errors
    /// [`JwtError`]; that a token is expired is told only where its signature held.
    pub async fn verify<'a>(
        &self,
        token: &'a str,
        decoded: &'a mut Vec<u8>,
        now: Timestamp,
    ) -> Result<Verified<'a>, JwtError> {
        self.verify_shown(token, decoded, now, &CredentialAttempt::UNCOUNTED).await
    }

    /// Verifies a token that an address shows: as [`Issuers::verify`], but where the address has
    /// spent its failures, no signature is computed for a token that is not known as authentic.
    pub(in crate::caller) async fn verify_shown<'a>(
        &self,
        token: &'a str,
        decoded: &'a mut Vec<u8>,
        now: Timestamp,
        attempt: &CredentialAttempt<'_>,
    ) -> Result<Verified<'a>, JwtError> {
        let token = Compact::parse(token, decoded)?;
        let name = match token.claims.get("iss") {
            None => return Err(InvalidJwtError::Claim("iss", "is missing").into()),
            Some(Json::Text(name)) => name,
            Some(_) => return Err(InvalidJwtError::Claim("iss", "is not a string").into()),
        };
        let found = self.find(name).and_then(|index| Some((index, self.get(index)?)));
        let Some((index, issuer)) = found else {
            return Err(InvalidJwtError::unknown_issuer(name).into());
        };
        let verified = issuer.verify(index, token, now, attempt).await;
        verified.map_err(|reason| reason.of(&issuer.settings.name))
    }

    /// The index of the issuer whose token a text claims to be. Nothing is proved by that.
    pub fn claimed(&self, token: &str) -> Option<usize> {
        let mut decoded = Vec::new();
        let token = Compact::parse(token, &mut decoded).ok()?;
        self.find(token.claims.text("iss")?)
    }

    /// The place of an issuer, by its name in the configuration.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|issuer| issuer.settings.name == name)
    }

    /// The rights that the claims of a verified token of an issuer give, and the id of its caller;
    /// `profiles` are the places of the profiles, and where their rooms come from.
    ///
    /// # Errors
    /// [`JwtError`] where a claim is not of the type that the mapping needs.
    pub fn rights(
        &self,
        issuer: usize,
        claims: &Object<'_>,
        profiles: &HashMap<String, (usize, RoomsFrom)>,
    ) -> Result<(Rights, String), JwtError> {
        let Some(issuer) = self.get(issuer) else {
            return Err(InvalidJwtError::unknown_issuer("").into());
        };
        let rights = issuer.settings.mapping.rights(claims, |name| profiles.get(name));
        rights.map_err(|why| InvalidJwtError::from(why).of(&issuer.settings.name))
    }

    pub(super) fn get(&self, issuer: usize) -> Option<&Issuer> {
        self.list.get(issuer)
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.by_issuer.get(name).copied()
    }

    /// The number of an issuer's keys of the moment.
    pub(in crate::caller) fn generation(&self, issuer: usize) -> Option<u64> {
        self.get(issuer)?.store.generation()
    }
}

fn first_certificate_end(text: &[u8]) -> Option<i64> {
    let pem = text::pem(text).ok()?;
    let certificates = CertificateDer::pem_slice_iter(&pem).flatten();
    certificates.filter_map(|der| certificate::end(&der)).min()
}

impl Issuer {
    fn new(settings: IssuerSettings) -> Result<Self, IssuerSettingsError> {
        validate(&settings)?;
        let allowed = &settings.algorithms;
        let client = || match &settings.dialler {
            Some(dialler) => Ok(JwksClient::over(dialler)),
            None => JwksClient::new(settings.ca.as_deref(), &settings.egress),
        };
        let mut key_file_end = None;
        let (fixed, remote) = match &settings.keys {
            KeySource::Jwks(url) => {
                (None, Some(Remote { client: client()?, place: KeyLocation::KeySet(url.clone()) }))
            }
            KeySource::Discovery => {
                (None, Some(Remote { client: client()?, place: discovery(&settings.issuer)? }))
            }
            KeySource::File(path) => {
                let text = text::read(path)?;
                key_file_end = first_certificate_end(&text);
                (Some(KeySet::of_file(&text, allowed)?), None)
            }
            KeySource::Secret(secret) => {
                let key = Key::of_secret(secret).map_err(IssuerSettingsError::Secret)?;
                (Some(KeySet::of_key(key)), None)
            }
        };
        let store = Arc::new(KeyStore::new(fixed, settings.max_stale));
        Ok(Self { settings, store, key_file_end, remote })
    }

    /// Whether the keys that the other fetched are those that this one would.
    fn fetches_as(&self, other: &Self) -> bool {
        let place = |remote: &'_ Option<Remote>| remote.as_ref().map(|remote| remote.place.clone());
        place(&self.remote) == place(&other.remote)
            && self.settings.algorithms == other.settings.algorithms
            && self.settings.ca == other.settings.ca
    }

    async fn verify<'a>(
        &self,
        index: usize,
        token: Compact<'a>,
        now: Timestamp,
        attempt: &CredentialAttempt<'_>,
    ) -> Result<Verified<'a>, InvalidJwtError> {
        let Compact { header, claims, signed, signature } = token;
        let checked = check(&self.settings, &header, &claims, now)?;
        let id = header.key_id.as_deref();
        let mut keys = self.store.keys().await?;
        let key = match (keys.set.find(id, header.algorithm), id, checked.expired) {
            (Ok(key), ..) => key,
            // Over anyway: not worth a question to the provider.
            (Err(InvalidJwtError::UnknownKey(_)), Some(_), Some(over)) => {
                return Err(InvalidJwtError::ExpiredUnproved(over));
            }
            (Err(InvalidJwtError::UnknownKey(_)), Some(id), None) if self.remote.is_some() => {
                keys = self.store.keys_with(id).await?;
                keys.set.find(Some(id), header.algorithm)?
            }
            (Err(reason), ..) => return Err(reason),
        };
        let authentic = attempt.is_authentic();
        // One that is over, and is known to be authentic, is not worth another signature.
        if !(authentic && checked.expired.is_some()) {
            if let Some(wait) = attempt.wait().filter(|_| !authentic) {
                return Err(InvalidJwtError::Throttled(wait));
            }
            if !key.verify(signed, signature) {
                attempt.failed();
                return Err(InvalidJwtError::Signature);
            }
            if !authentic {
                attempt.held();
            }
        }
        if let Some(over) = checked.expired {
            return Err(InvalidJwtError::Expired(over));
        }
        Ok(Verified {
            issuer: index,
            expires_at: checked.expires_at,
            taken_until: checked.taken_until,
            claims,
            generation: keys.generation,
        })
    }
}

fn validate(settings: &IssuerSettings) -> Result<(), IssuerSettingsError> {
    let empty = |texts: &[String]| texts.is_empty() || texts.iter().any(String::is_empty);
    if settings.issuer.is_empty() {
        return Err(IssuerSettingsError::Empty("issuer"));
    }
    if empty(&settings.audience) {
        return Err(IssuerSettingsError::Empty("audience"));
    }
    if settings.algorithms.is_empty() {
        return Err(IssuerSettingsError::Empty("algorithms"));
    }
    if settings.leeway > MAX_LEEWAY {
        return Err(IssuerSettingsError::Leeway);
    }
    let shared = matches!(settings.keys, KeySource::Secret(_));
    let unfit = |algorithm: &&Algorithm| (**algorithm == Algorithm::Hs256) != shared;
    settings
        .algorithms
        .iter()
        .find(unfit)
        .map_or(Ok(()), |one| Err(IssuerSettingsError::Algorithm(*one)))
}

/// OpenID Connect Discovery §4.1: after the issuer, less a slash at its end.
fn discovery(issuer: &str) -> Result<KeyLocation, HttpsUrlError> {
    let base = issuer.strip_suffix('/').unwrap_or(issuer);
    // A query would swallow the path.
    if base.contains('?') {
        return Err(HttpsUrlError::Extra);
    }
    format!("{base}/.well-known/openid-configuration").parse().map(KeyLocation::Discovery)
}
