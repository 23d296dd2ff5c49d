//! From the credential of a request to the caller.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::Request;

use super::client_certificate::{Holders, ShownCertificate, Transport};
use super::credential::credential;
use super::credential_cache::CredentialCache;
use super::identified_caller::{Fingerprint, IdentifiedCaller};
use super::jwt::{self, Issuers};
use super::throttle::{CredentialAttempt, Throttle};
use super::unrecognized;
use super::whiteboard_token::Participants;
use super::{
    ApiKey, ApiKeyError, Caller, Credential, Digest, KeyEnd, KeyId, PREFIX, Settings, Validity,
    number_of,
};
use crate::api::Object;
use crate::failure::{Code, Failure};
use crate::policy::{Policy, Rights};
use crate::token;

/// Everyone who may call.
pub struct Callers {
    keys: HashMap<KeyId, Entry>,
    holders: Holders<Caller>,
    /// The identity providers, for the task that fetches their keys.
    pub issuers: Arc<Issuers>,
    /// By the names that issuers give: the place of a profile, and the claim with its rooms.
    profiles: HashMap<String, (usize, jwt::RoomsFrom)>,
    participants: Participants,
    throttle: Throttle,
}

struct Entry {
    digest: Digest,
    until: Option<jiff::Timestamp>,
    caller: Arc<Caller>,
}

/// Why there can be no such callers.
#[derive(Debug, thiserror::Error)]
pub enum CallersError {
    /// A profile that is not there.
    #[error("there is no profile `{0}`")]
    Profile(String),
    /// An issuer that cannot be set up.
    #[error(transparent)]
    Issuer(#[from] jwt::IssuerError),
}

impl Callers {
    /// Makes the list. The keys of issuers, and what addresses have failed, are kept from before.
    ///
    /// # Errors
    /// [`CallersError`]. The configuration has checked most of it before.
    pub fn new(
        settings: Settings<'_>,
        policy: &Policy,
        before: Option<&Self>,
    ) -> Result<Self, CallersError> {
        let find =
            |name: &str| policy.find(name).ok_or_else(|| CallersError::Profile(name.to_owned()));
        let mut keys = HashMap::new();
        let mut holders = Holders::default();
        for one in settings.keys {
            let profile = find(&one.profile)?;
            let by = |credential, key_end| {
                let number = number_of(&["key", &one.name]);
                let rights = Rights::of_profile(profile);
                Arc::new(Caller { name: one.name.clone(), number, rights, credential, key_end })
            };
            for key in &one.keys {
                let end = KeyEnd::new(key.until, settings.key_reminder);
                let caller = by(Credential::Key(key.id), end);
                keys.insert(key.id, Entry { digest: key.digest, until: key.until, caller });
            }
            let caller = by(Credential::Certificate, None);
            for known_by in &one.certificates {
                holders.add(known_by.clone(), &caller);
            }
        }
        let mut profiles = HashMap::new();
        for name in settings.issuers.iter().flat_map(|issuer| issuer.mapping.profile.names()) {
            let place = find(name)?;
            let rooms = match policy.rooms_claim(place) {
                None => jwt::RoomsFrom::None,
                Some(path) => jwt::RoomsFrom::Claim(path.clone()),
            };
            profiles.insert(name.to_owned(), (place, rooms));
        }
        let mut issuers = Issuers::new(settings.issuers)?;
        if let Some(before) = before {
            issuers.adopt(&before.issuers);
        }
        let before = before.map(|before| &before.throttle);
        let throttle = Throttle::new(settings.failed_credentials, before);
        let participants =
            Participants::new(settings.projects, settings.denied, |name| policy.find(name))
                .map_err(CallersError::Profile)?;
        let issuers = Arc::new(issuers);
        Ok(Self { keys, holders, issuers, profiles, participants, throttle })
    }

    /// The API keys of the callers of the configuration: of whom, which, and when each ends.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &KeyId, Option<jiff::Timestamp>)> {
        self.keys.iter().map(|(id, entry)| (entry.caller.name.as_str(), id, entry.until))
    }

    /// Identifies the caller of a request by its one credential. A certificate counts where no
    /// header for credentials is there: who sends one says with it who it is. `certificate` is asked
    /// then.
    ///
    /// # Errors
    /// `unauthenticated` when there is none, `invalid_token` when it is none of ours (a wrong
    /// secret and an unknown id are told in the same words and the same time), `expired_token`
    /// after its grace, `malformed_request` when credentials are repeated or disagree,
    /// `rate_limited` for an address that has shown too many that do not hold, `auth_unavailable`
    /// when the keys of an issuer never came.
    pub async fn identify<'c>(
        &self,
        request: &Request<()>,
        address: IpAddr,
        certificate: impl FnOnce() -> ShownCertificate<'c>,
        now: jiff::Timestamp,
        memory: &CredentialCache,
    ) -> Result<IdentifiedCaller, Failure> {
        let headers = request.headers();
        let Some(credential) = credential(headers)? else {
            let shown = certificate();
            let identify_here = *shown.transport != Transport::All && !self.holders.is_empty();
            let by_certificate = self.holders.identify(headers, shown)?;
            let nobody = || nobody(request.uri().query(), identify_here);
            let caller = by_certificate.ok_or_else(nobody)?;
            return Ok(IdentifiedCaller { caller, validity: Validity::CERTIFICATE });
        };
        let shown = self.throttle.fingerprint(credential);
        if let Some(known) = shown.and_then(|shown| memory.recall(shown, &self.issuers, now)) {
            return Ok(known);
        }
        let verdict = self.verify(credential, shown, address, now).await?;
        if let Some(shown) = shown {
            memory.keep(shown, verdict.clone(), now);
        }
        Ok(verdict)
    }

    /// Whether what a credential proved still counts, while the configuration is the same.
    pub fn still_hold(&self, validity: &Validity, now: impl FnOnce() -> jiff::Timestamp) -> bool {
        validity.holds(|issuer| self.issuers.generation(issuer), now)
    }

    /// Verifies a credential that the worker does not remember.
    async fn verify(
        &self,
        credential: &str,
        shown: Option<Fingerprint>,
        address: IpAddr,
        now: jiff::Timestamp,
    ) -> Result<IdentifiedCaller, Failure> {
        let attempt = self.throttle.attempt(address, shown);
        if let Some(why) = unrecognized::damage(credential) {
            Err(Failure::invalid_credential(Code::InvalidToken, why))
        } else if credential.starts_with(PREFIX) {
            self.by_key(credential, now)
        } else if let Some(kind) = token::kind_of(credential) {
            self.participants.identify(credential, kind, now, &attempt)
        } else if jwt::looks_like(credential) && !self.issuers.is_empty() {
            self.by_jwt(credential, &attempt, now).await
        } else {
            let why = unrecognized::describe(credential);
            Err(Failure::invalid_credential(Code::InvalidToken, why))
        }
    }

    fn by_key(&self, credential: &str, now: jiff::Timestamp) -> Result<IdentifiedCaller, Failure> {
        let key = ApiKey::parse(credential).map_err(|why| {
            Failure::invalid_credential(
                Code::InvalidToken,
                match why {
                    ApiKeyError::Form => "this is no API key of this gateway",
                    ApiKeyError::Checksum => {
                        "the API key was copied incompletely or mistyped: its checksum is wrong"
                    }
                },
            )
        })?;
        if key.is_operators() {
            let why = "this is the key of an operator, for the admin listener: it is no credential \
                       here";
            return Err(Failure::invalid_credential(Code::InvalidToken, why));
        }
        let entry = self.keys.get(&key.id());
        let expected = entry.map_or(Digest::NOBODY, |entry| entry.digest);
        let matches = key.digest().matches(&expected);
        let Some(entry) = entry.filter(|_| matches) else {
            let why = "this API key is not known here";
            return Err(Failure::invalid_credential(Code::InvalidToken, why));
        };
        if entry.until.is_some_and(|until| until <= now) {
            let why = "this API key was replaced and its grace is over";
            return Err(Failure::invalid_credential(Code::ExpiredToken, why));
        }
        let validity = Validity::until(entry.until);
        Ok(IdentifiedCaller { caller: Arc::clone(&entry.caller), validity })
    }

    async fn by_jwt(
        &self,
        credential: &str,
        attempt: &CredentialAttempt<'_>,
        now: jiff::Timestamp,
    ) -> Result<IdentifiedCaller, Failure> {
        let mut decoded = Vec::new();
        let verified = self.issuers.verify_shown(credential, &mut decoded, now, attempt).await?;
        let caller = Arc::new(self.of_claims(verified.issuer, &verified.claims)?);
        Ok(verified.verdict(caller))
    }

    /// The caller of a name in the configuration, whatever it would show.
    pub fn of_name(&self, name: &str) -> Option<Arc<Caller>> {
        let by_key = self.keys.values().map(|entry| &entry.caller);
        by_key.chain(self.holders.all()).find(|caller| caller.name == name).cloned()
    }

    /// The names of the callers of the configuration who have a credential.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let by_key = self.keys.values().map(|entry| &entry.caller);
        by_key.chain(self.holders.all()).map(|caller| caller.name.as_str())
    }

    /// The name of a caller of the configuration, by its number.
    pub fn name_of(&self, number: u64) -> Option<&str> {
        let by_key = self.keys.values().map(|entry| &entry.caller);
        let mut callers = by_key.chain(self.holders.all());
        callers.find(|caller| caller.number == number).map(|caller| caller.name.as_str())
    }

    /// The caller that the claims of a verified token of an issuer make.
    ///
    /// # Errors
    /// A claim of the wrong type.
    pub fn of_claims(&self, issuer: usize, claims: &Object<'_>) -> Result<Caller, jwt::JwtError> {
        let (rights, id) = self.issuers.rights(issuer, claims, &self.profiles)?;
        let name = self.issuers.name(issuer).unwrap_or_default();
        Ok(Caller {
            number: number_of(&["jwt", name, &id]),
            name: [name, "/", &id].concat(),
            rights,
            credential: Credential::Jwt,
            key_end: None,
        })
    }
}

/// No credential at all. Clients of the API's version 4 have it in the query, where proxies
/// log it. A certificate is asked for where one would say who it is.
fn nobody(query: Option<&str>, certificates_identify: bool) -> Failure {
    let in_query = |query: &str| query.split('&').any(|one| one.starts_with("token="));
    let why = if query.is_some_and(in_query) {
        "no credential came: a token in the query is not looked at; send it in `token` or as \
         `Authorization: Bearer`"
    } else if !certificates_identify {
        "no credential came: send a key of this gateway as `Authorization: Bearer`, \
         `X-API-Key` or `token`, and leave the access and secret keys of the project out"
    } else {
        "no credential came: present a client certificate, or send a key of this gateway as \
         `Authorization: Bearer`, `X-API-Key` or `token`"
    };
    Failure::fixed(Code::Unauthenticated, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Lifespan, Operations, Role};
    use crate::caller::{ApiKeySettings, CallerSettings, generate};
    use crate::policy::{OverCap, ProfileSettings, Rooms};

    struct Case {
        callers: Callers,
        /// One for all requests of a test, as a worker has.
        memory: CredentialCache,
        key: String,
        old: String,
    }

    fn case() -> Case {
        let [key, old] = [(); 2].map(|()| generate(true).unwrap().expose().to_owned());
        let slot = |text: &str, until: Option<&str>| {
            let key = ApiKey::parse(text).ok().unwrap();
            let until = until.map(|at| at.parse().unwrap());
            ApiKeySettings { id: key.id(), digest: key.digest(), until }
        };
        let settings = CallerSettings {
            name: "lessons".to_owned(),
            profile: "backend".to_owned(),
            keys: vec![slot(&key, None), slot(&old, Some("2026-06-01T00:00:00Z"))],
            certificates: Vec::new(),
        };
        let profile = ProfileSettings {
            name: "backend".to_owned(),
            project: "p".to_owned(),
            sdk_token: false,
            allow: Vec::new(),
            rooms: Rooms::Any,
            role: Role::Admin,
            max_lifespan: Lifespan::Permanent,
            over_cap: OverCap::default(),
            priority: crate::api::Priority::default(),
            trust_traceparent: false,
            shadow: None,
        };
        let policy = Policy::new(&[profile], &Operations::documented(), |_| Some(0)).unwrap();
        let settings = Settings {
            keys: &[settings],
            key_reminder: None,
            issuers: Vec::new(),
            projects: &[],
            denied: &[],
            failed_credentials: None,
        };
        let callers = Callers::new(settings, &policy, None).ok().unwrap();
        Case { callers, memory: CredentialCache::default(), key, old }
    }

    fn identify(case: &Case, headers: &[(&str, &str)], now: &str) -> Result<String, String> {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let address = IpAddr::from([127, 0, 0, 1]);
        let now = now.parse().unwrap();
        let none = || ShownCertificate::NONE;
        let caller = case.callers.identify(&request, address, none, now, &case.memory);
        let caller = runtime.block_on(caller);
        caller.map(|found| found.caller.name.clone()).map_err(|f| f.code().name().to_owned())
    }

    const BEFORE: &str = "2026-05-31T23:59:59Z";
    const AFTER: &str = "2026-06-01T00:00:00Z";

    #[test]
    fn a_key_is_taken_in_each_of_three_headers() {
        let case = case();
        let bearer = format!("bearer {}", case.key);
        for headers in [
            vec![("authorization", bearer.as_str())],
            vec![("x-api-key", case.key.as_str())],
            vec![("token", case.key.as_str())],
            vec![("token", case.key.as_str()), ("authorization", bearer.as_str())],
        ] {
            assert_eq!(identify(&case, &headers, BEFORE).as_deref(), Ok("lessons"));
        }
    }

    #[test]
    fn a_rotated_key_works_within_its_grace_and_not_after() {
        let case = case();
        let headers = [("token", case.old.as_str())];
        assert_eq!(identify(&case, &headers, BEFORE).as_deref(), Ok("lessons"));
        assert_eq!(identify(&case, &headers, AFTER), Err("expired_token".to_owned()));
    }

    #[test]
    fn everything_else_is_refused() {
        let case = case();
        let stranger = generate(true).unwrap().expose().to_owned();
        // The id of a known key with the secret of another, its checksum made right.
        let forged = format!("{}{}", &case.key[..22], &stranger[22..65]);
        let forged = format!("{forged}_{}", crate::caller::api_key::checksum_text(&forged));
        for (headers, code) in [
            (vec![], "unauthenticated"),
            (vec![("token", "")], "invalid_token"),
            (vec![("token", stranger.as_str())], "invalid_token"),
            (vec![("token", forged.as_str())], "invalid_token"),
            (vec![("token", &case.key[..70])], "invalid_token"),
            (vec![("token", "NETLESSSDK_abc")], "invalid_token"),
            (vec![("authorization", "Basic abc")], "invalid_token"),
            (vec![("authorization", "Bearer")], "invalid_token"),
            (vec![("token", case.key.as_str()); 2], "malformed_request"),
            (
                vec![("token", case.key.as_str()), ("x-api-key", stranger.as_str())],
                "malformed_request",
            ),
        ] {
            assert_eq!(identify(&case, &headers, BEFORE), Err(code.to_owned()), "{headers:?}");
        }
    }
}
