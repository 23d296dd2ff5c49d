//! What ends by the clock of all that a configuration says, listeners excepted: their files are read
//! again without it.

use rustls::pki_types::CertificateDer;

use crate::caller::{CallerSettings, Callers};
use crate::certificate;
use crate::clock::timestamp;
use crate::expiry::{Expiry, ExpiryKind};
use crate::token::Project;

/// The keys of callers.
pub(super) fn of_keys(callers: &[CallerSettings]) -> impl Iterator<Item = Expiry> {
    callers.iter().flat_map(keys)
}

/// The authorities that the keys of the configuration with these names trust.
pub(super) fn of_authorities<'a>(
    trusted: impl IntoIterator<Item = (String, Option<&'a Vec<CertificateDer<'static>>>)>,
) -> impl Iterator<Item = Expiry> {
    trusted.into_iter().filter_map(|(setting, trusted)| authority(&setting, trusted?))
}

/// What only building finds: it is in the tokens and files themselves.
pub(super) fn of_built<'a>(
    callers: &'a Callers,
    projects: impl Iterator<Item = &'a Project> + 'a,
) -> impl Iterator<Item = Expiry> + 'a {
    let tokens = projects.filter_map(|project| {
        let at = timestamp(project.ends_at_ms()?)?;
        Some(Expiry { at, kind: ExpiryKind::SdkToken, owner: project.name.clone(), item: None })
    });
    let keys = callers
        .issuers
        .key_file_ends()
        .filter_map(|(issuer, second)| Expiry::at_second(ExpiryKind::IssuerKey, issuer, second));
    tokens.chain(keys)
}

fn keys(caller: &CallerSettings) -> impl Iterator<Item = Expiry> {
    caller.keys.iter().filter_map(|key| {
        let (at, owner) = (key.until?, caller.name.clone());
        Some(Expiry { at, kind: ExpiryKind::Key, owner, item: Some(key.id.to_string()) })
    })
}

fn authority(setting: &str, trusted: &[CertificateDer<'_>]) -> Option<Expiry> {
    Expiry::at_second(ExpiryKind::Authority, setting, certificate::last_end(trusted)?)
}
