//! Who may ask at the admin listener: operators by their keys and certificates, and the names under
//! which it answers them.
//!
//! What comes here is no credential of the data plane, and the reverse: the form of a key says for
//! which of the two it is.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, Request};
use jiff::Timestamp;

use super::host::{HostName, HostNames};
use crate::caller::{
    ApiKey, ApiKeyError, ApiKeySettings, CertificateSettings, Digest, Holders, KeyId,
    ShownCertificate, Transport,
};
use crate::certificate::CertificateStatus;
use crate::expiry::{Expiry, ExpiryKind};
use crate::failure::{Code, Failure};
use crate::server::Tls;

/// What an operator may do, the least first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Look at everything.
    Viewer,
    /// That, and change something.
    Operator,
}

/// Someone who runs the gateway, from an `[operators.NAME]` section.
#[derive(Clone, Debug)]
pub struct OperatorSettings {
    /// The name in the audit.
    pub name: String,
    /// What they may do.
    pub role: OperatorRole,
    /// Their keys: one, or two while one is being replaced.
    pub keys: Vec<ApiKeySettings>,
    /// The names by which their client certificates are known.
    pub certificates: Vec<CertificateSettings>,
}

/// Who may ask, and how.
#[derive(Clone, Debug)]
pub struct AccessSettings {
    /// Whoever may ask. Without one, what shows no more than before there were any stays open.
    pub operators: Vec<OperatorSettings>,
    /// The names under which the listener answers them; `None` for those of loopback and of its
    /// certificate.
    pub hosts: Option<Vec<HostName>>,
    /// Client certificates that only secure the transport.
    pub transport_certificates: Transport,
    /// Whether keys may cross a network in the clear.
    pub insecure: bool,
}

/// How the admin listener is reached; a reload does not change it.
#[derive(Clone, Default)]
pub struct AdminTransport {
    /// Whether it is reached from this machine alone.
    pub on_loopback: bool,
    /// Its certificates, where it speaks TLS.
    pub tls: Option<Arc<Tls>>,
}

/// Operators would send their keys through a network in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "[operators] cannot be: the admin listener of this process is reached from other machines and \
     speaks no TLS, so that keys would cross the network in the clear. Give it [admin.tls] and start \
     again, or set admin.insecure = true"
)]
pub struct ClearTextError;

/// An operator, as requests are judged by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) name: String,
    pub(super) role: OperatorRole,
}

/// Who may ask now.
pub struct OperatorAccess {
    keys: HashMap<KeyId, OperatorKey>,
    holders: Holders<Operator>,
    transport_certificates: Transport,
    hosts: HostNames,
    /// Whether anyone is asked who they are.
    pub(super) has_operators: bool,
}

struct OperatorKey {
    digest: Digest,
    until: Option<Timestamp>,
    operator: Arc<Operator>,
}

/// A key that was good when it was shown: what a session is kept for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyProof {
    pub(super) id: KeyId,
    digest: Digest,
}

impl KeyProof {
    pub(super) fn of(key: &ApiKey<'_>) -> Self {
        Self { id: key.id(), digest: key.digest() }
    }
}

impl OperatorRole {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl AdminTransport {
    const fn is_private(&self) -> bool {
        self.on_loopback || self.tls.is_some()
    }
}

impl AccessSettings {
    /// The keys of operators that end.
    pub fn expiries(&self) -> impl Iterator<Item = Expiry> {
        self.operators
            .iter()
            .flat_map(|one| one.keys.iter().filter_map(|key| expiry(&one.name, key.id, key.until)))
    }
}

fn expiry(operator: &str, id: KeyId, until: Option<Timestamp>) -> Option<Expiry> {
    let (kind, item) = (ExpiryKind::OperatorKey, Some(id.to_string()));
    Some(Expiry { at: until?, kind, owner: operator.to_owned(), item })
}

impl OperatorAccess {
    /// What a configuration says, for a listener that is reached so.
    ///
    /// # Errors
    /// [`ClearTextError`].
    pub fn new(
        settings: AccessSettings,
        transport: &AdminTransport,
    ) -> Result<Self, ClearTextError> {
        let AccessSettings { operators, hosts, transport_certificates, insecure } = settings;
        let has_operators = !operators.is_empty();
        if has_operators && !insecure && !transport.is_private() {
            return Err(ClearTextError);
        }
        let (mut keys, mut holders) = (HashMap::new(), Holders::default());
        for OperatorSettings { name, role, keys: own, certificates } in operators {
            let operator = Arc::new(Operator { name, role });
            for ApiKeySettings { id, digest, until } in own {
                keys.insert(id, OperatorKey { digest, until, operator: Arc::clone(&operator) });
            }
            certificates.into_iter().for_each(|known_by| holders.add(known_by, &operator));
        }
        let hosts = HostNames { listed: hosts, tls: transport.tls.clone() };
        Ok(Self { keys, holders, transport_certificates, hosts, has_operators })
    }

    /// The keys that end.
    pub(super) fn expiries(&self) -> impl Iterator<Item = Expiry> {
        let ending = |(id, key): (&KeyId, &OperatorKey)| expiry(&key.operator.name, *id, key.until);
        self.keys.iter().filter_map(ending)
    }

    /// Whether a request names the listener as operators do.
    pub(super) fn admits_host<B>(&self, request: &Request<B>) -> bool {
        self.hosts.admit(request)
    }

    /// Whose key it is.
    ///
    /// # Errors
    /// `invalid_token` when it is of no operator (a wrong secret and an unknown id are told in the
    /// same words and the same time), `expired_token` after its end.
    pub(super) fn by_key(
        &self,
        text: &str,
        now: Timestamp,
    ) -> Result<(Arc<Operator>, KeyProof), Failure> {
        let wrong = |why| Failure::invalid_credential(Code::InvalidToken, why);
        let key = ApiKey::parse(text).map_err(|why| match why {
            ApiKeyError::Form => wrong("this is no key of an operator, wbg_admin_…"),
            ApiKeyError::Checksum => {
                wrong("the key was copied incompletely or mistyped: its checksum is wrong")
            }
        })?;
        if !key.is_operators() {
            return Err(wrong(
                "this is the key of a caller: it is no credential here, where operators have keys of \
                 their own, wbg_admin_…",
            ));
        }
        let shown = KeyProof::of(&key);
        let operator = self.of_shown(&shown, now)?;
        operator
            .map(|operator| (operator, shown))
            .ok_or_else(|| wrong("this key is not known here"))
    }

    /// Whose key it is now, of one that was shown before; `None` when it is of no one.
    ///
    /// # Errors
    /// `expired_token` after its end.
    pub(super) fn of_shown(
        &self,
        shown: &KeyProof,
        now: Timestamp,
    ) -> Result<Option<Arc<Operator>>, Failure> {
        let entry = self.keys.get(&shown.id);
        let expected = entry.map_or(Digest::NOBODY, |entry| entry.digest);
        let matches = shown.digest.matches(&expected);
        let Some(entry) = entry.filter(|_| matches) else { return Ok(None) };
        if entry.until.is_some_and(|until| until <= now) {
            let why = "this key was replaced and its grace is over";
            return Err(Failure::invalid_credential(Code::ExpiredToken, why));
        }
        Ok(Some(Arc::clone(&entry.operator)))
    }

    /// Whose certificate it is; `None` where none was shown that could say so.
    ///
    /// # Errors
    /// As for callers.
    pub(super) fn by_certificate(
        &self,
        headers: &HeaderMap,
        status: CertificateStatus,
    ) -> Result<Option<Arc<Operator>>, Failure> {
        let shown = ShownCertificate { status, transport: &self.transport_certificates };
        self.holders.identify(headers, shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::{generate, generate_for_operator};

    fn settings(insecure: bool, keys: &[&str]) -> AccessSettings {
        let slot = |text: &&str| {
            let key = ApiKey::parse(text).ok().unwrap();
            ApiKeySettings { id: key.id(), digest: key.digest(), until: None }
        };
        let operator = OperatorSettings {
            name: "ada".to_owned(),
            role: OperatorRole::Viewer,
            keys: keys.iter().map(slot).collect(),
            certificates: Vec::new(),
        };
        let operators = if keys.is_empty() { Vec::new() } else { vec![operator] };
        let transport_certificates = Transport::All;
        AccessSettings { operators, hosts: None, transport_certificates, insecure }
    }

    #[test]
    fn keys_do_not_cross_a_network_in_the_clear_unless_that_is_said() {
        let key = generate_for_operator().unwrap();
        let key = [key.expose()];
        let (open, here) =
            (AdminTransport::default(), AdminTransport { on_loopback: true, tls: None });
        assert!(OperatorAccess::new(settings(false, &key), &open).is_err());
        assert!(OperatorAccess::new(settings(true, &key), &open).is_ok());
        assert!(OperatorAccess::new(settings(false, &key), &here).is_ok());
        assert!(OperatorAccess::new(settings(false, &[]), &open).is_ok(), "nobody sends one");
    }

    /// The digest of a caller's key, pasted here, makes it no operator's.
    #[test]
    fn only_the_key_of_an_operator_is_one() {
        let [mine, other] = [(); 2].map(|()| generate_for_operator().unwrap());
        let callers = generate(true).unwrap();
        let here = AdminTransport { on_loopback: true, tls: None };
        let listed = [mine.expose(), callers.expose()];
        let access = OperatorAccess::new(settings(false, &listed), &here).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(access.by_key(mine.expose(), now).ok().unwrap().0.name, "ada");
        for wrong in [other.expose(), callers.expose(), "", "wbg_admin_a", "eyJ.e30.a"] {
            let failure = access.by_key(wrong, now).err().unwrap();
            assert_eq!(failure.code(), Code::InvalidToken, "{}", failure.message());
        }
    }
}
