//! Callers, and operators, by the names in their client certificates.
//!
//! What is told of a certificate that does not do is coarse; the log has the names in it, in the
//! form in which the configuration takes them, and what exactly is wrong.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::ORIGIN;

use super::CertificateSettings;
use crate::certificate::{Attested, AuthorityName, CertificateStatus, Distrust, Name};
use crate::failure::{Code, Failure};
use crate::field::SEC_FETCH_SITE;

/// So many characters of the names in a certificate are logged.
const LOGGED: usize = 1024;

/// The client certificates that only secure the transport: a proxy's, which passes on requests of
/// others and must not lend them its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Those that have one of these names, whoever issued them.
    Names(HashSet<Name>),
    /// All of them.
    All,
}

impl Default for Transport {
    /// None.
    fn default() -> Self {
        Self::Names(HashSet::new())
    }
}

/// The certificate of a connection, and what those of its listener are for.
pub struct ShownCertificate<'a> {
    /// What it is worth now.
    pub status: CertificateStatus,
    /// Which certificates identify no one there.
    pub transport: &'a Transport,
}

impl ShownCertificate<'_> {
    /// None, where none is asked for.
    pub const NONE: Self = Self { status: CertificateStatus::None, transport: &Transport::All };
}

impl Transport {
    /// Refuses a certificate that only secures the transport, by whatever authority and beside
    /// whatever other names.
    fn check(&self, attested: &Attested) -> Result<(), Failure> {
        let Self::Names(transport) = self else { return Ok(()) };
        let mut names = attested.believed().map(|(name, _)| name).chain(&attested.doubted);
        if names.any(|name| transport.contains(name)) {
            let why = "no credential came: the client certificate of this connection secures the \
                       transport alone, and each request through it carries a key or a token";
            return Err(Failure::fixed(Code::Unauthenticated, why));
        }
        Ok(())
    }
}

/// Whom the names belong to: callers, or operators.
pub struct Holders<T> {
    by_name: HashMap<Name, Vec<Holder<T>>>,
}

struct Holder<T> {
    /// The authority that the name is believed from; `None` for any.
    authority: Option<AuthorityName>,
    is: Arc<T>,
}

impl<T> Default for Holders<T> {
    fn default() -> Self {
        Self { by_name: HashMap::new() }
    }
}

impl<T: PartialEq> Holders<T> {
    /// Notes whose a name is. The configuration sees to it that it is no one else's.
    pub fn add(&mut self, known_by: CertificateSettings, is: &Arc<T>) {
        let CertificateSettings { name, authority } = known_by;
        let holder = Holder { authority, is: Arc::clone(is) };
        self.by_name.entry(name).or_default().push(holder);
    }

    /// Everyone whom a name belongs to.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_name.values().flatten().map(|holder| &holder.is)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Identifies the sender of a request that carries no other credential; `None` when there is
    /// no certificate either.
    ///
    /// # Errors
    /// `invalid_token` and `expired_token` when the certificate does not do, `auth_unavailable`
    /// when that cannot be found out, `unauthenticated` for a browser.
    pub fn identify(
        &self,
        headers: &HeaderMap,
        shown: ShownCertificate<'_>,
    ) -> Result<Option<Arc<T>>, Failure> {
        let ShownCertificate { status, transport } = shown;
        let attested = match status {
            _ if *transport == Transport::All => return Ok(None),
            CertificateStatus::None => return Ok(None),
            CertificateStatus::Distrusted { why, detail } => return Err(distrusted(why, detail)),
            CertificateStatus::Trusted(attested) => attested,
        };
        transport.check(&attested)?;
        // A browser shows the certificate of its user on behalf of whatever page asks.
        if headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE) {
            let why = "a client certificate is no credential of a browser's: any page could use it";
            return Err(Failure::fixed(Code::Unauthenticated, why));
        }
        self.holder(&attested).map(Some)
    }

    /// Whom a certificate that is trusted belongs to.
    fn holder(&self, attested: &Attested) -> Result<Arc<T>, Failure> {
        let of_authority = |(name, by): (&Name, &AuthorityName)| {
            let mut holders = self.by_name.get(name)?.iter();
            holders.find(|holder| holder.authority.as_ref().is_none_or(|only| only == by))
        };
        let mut holders = attested.believed().filter_map(of_authority).map(|one| &one.is);
        let refuse = |why| {
            let failure = Failure::invalid_credential(Code::InvalidToken, why);
            failure.with_detail(format!("{why}: {}", listed(attested)))
        };
        let Some(holder) = holders.next() else {
            return Err(refuse(
                "the client certificate is trusted, and of no caller that is known",
            ));
        };
        if holders.any(|other| other != holder) {
            return Err(refuse("the names in the client certificate are of different callers"));
        }
        Ok(Arc::clone(holder))
    }
}

fn distrusted(why: Distrust, detail: String) -> Failure {
    let (code, message) = match why {
        Distrust::Expired => (Code::ExpiredToken, "the client certificate has expired"),
        Distrust::NotYetValid => (Code::InvalidToken, "the client certificate is not valid yet"),
        Distrust::Revoked => (Code::InvalidToken, "the client certificate was revoked"),
        Distrust::Purpose => {
            let why = "the client certificate is for another purpose than to identify a client";
            (Code::InvalidToken, why)
        }
        Distrust::Untrusted => {
            let why = "the client certificate is of no authority that is trusted here";
            (Code::InvalidToken, why)
        }
        Distrust::RevocationUnknown => {
            let why = "whether the client certificate was revoked cannot be found out now";
            return Failure::fixed(Code::AuthUnavailable, why)
                .with_retry_after(Duration::from_secs(60))
                .with_detail(detail);
        }
    };
    Failure::invalid_credential(code, message).with_detail(format!("{message}: {detail}"))
}

/// The names of a certificate, each with the authority that it is believed from.
fn listed(attested: &Attested) -> String {
    let believed = attested.believed().map(|(name, by)| match &**by {
        "" => name.to_string(),
        by => format!("{name} (of {by})"),
    });
    let doubted = attested.doubted.iter().map(|name| {
        format!("{name} (not believed: it is not for the authorities above it to give)")
    });
    let names: Vec<String> = believed.chain(doubted).collect();
    if names.is_empty() {
        return "it has no name that a caller can have".to_owned();
    }
    names.join("; ").chars().take(LOGGED).collect()
}
