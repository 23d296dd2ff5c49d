//! Callers by the names in their client certificates.
//!
//! What is told of a certificate that does not do is coarse; the log has the names in it, in the
//! form in which the configuration takes them, and what exactly is wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, ORIGIN};

use super::Caller;
use crate::certificate::{Distrust, Name, Names, Standing};
use crate::failure::{Code, Failure};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// So many characters of the names in a certificate are logged.
const LOGGED: usize = 1024;

/// Whom the names belong to.
#[derive(Default)]
pub(super) struct Holders(HashMap<Name, Arc<Caller>>);

impl Holders {
    /// Notes that a name is this caller's. The configuration sees to it that it is nobody else's.
    pub(super) fn add(&mut self, name: Name, caller: &Arc<Caller>) {
        self.0.insert(name, Arc::clone(caller));
    }

    /// Everybody whom a name belongs to.
    pub(super) fn callers(&self) -> impl Iterator<Item = &Arc<Caller>> {
        self.0.values()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Identifies the caller of a request that carries no other credential; `None` when there is
    /// no certificate either.
    ///
    /// # Errors
    /// `invalid_token` and `expired_token` when the certificate does not do, `auth_unavailable`
    /// when that cannot be found out, `unauthenticated` for a browser.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        standing: Standing,
    ) -> Result<Option<Arc<Caller>>, Failure> {
        let names = match standing {
            Standing::None => return Ok(None),
            Standing::Distrusted { why, detail } => return Err(distrusted(why, detail)),
            Standing::Trusted(names) => names,
        };
        // A browser shows the certificate of its user on behalf of whatever page asks.
        if headers.contains_key(ORIGIN) || headers.contains_key(SEC_FETCH_SITE) {
            let why = "a client certificate is no credential of a browser's: any page could use it";
            return Err(Failure::fixed(Code::Unauthenticated, why));
        }
        self.holder(&names).map(Some)
    }

    /// Whom a certificate that is trusted belongs to.
    fn holder(&self, names: &Names) -> Result<Arc<Caller>, Failure> {
        let mut holders = names.iter().filter_map(|name| self.0.get(name));
        let refuse = |why| {
            let failure = Failure::invalid_credential(Code::InvalidToken, why);
            failure.with_detail(format!("{why}: {}", listed(names)))
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

fn listed(names: &Names) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        return "it has no name that a caller can have".to_owned();
    }
    names.join("; ").chars().take(LOGGED).collect()
}
