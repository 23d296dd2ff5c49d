//! Certificates: the names in one of a client and what it is worth, and whether a chain is whole.
//!
//! Names are read and compared here. Whether a chain is trusted is found out in `server`, whom a
//! name belongs to in `caller`. Nothing here does I/O, and nothing here trusts anything.

mod chain;
mod name;
mod name_constraints;
mod subject;

use std::rc::Rc;
use std::sync::Arc;

use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

pub use chain::{Gap, gap, is_root_of};
pub use name::{Kind, Name};
pub use name_constraints::IssuableNames;
pub use subject::InvalidNameError;

/// So many names of a certificate are looked at: no holder has more, and a certificate may have
/// thousands.
const MOST: usize = 64;

/// What a certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    names: Vec<Name>,
    /// The seconds of Unix time from which, and until which, it says so; both are included.
    pub validity: (i64, i64),
}

/// A certificate that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no X.509 certificate, or its names are malformed")]
pub struct UnreadableCertificateError;

/// The name of an authority in the configuration; empty where it has none.
pub type AuthorityName = Arc<str>;

/// The names of a certificate that is trusted, and from whom each is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attested {
    believed: Vec<(Name, AuthorityName)>,
    /// The names that do not: none of the authorities above the certificate may give them.
    pub doubted: Vec<Name>,
}

/// What the certificate of a peer is worth at a moment.
#[derive(Clone, Debug)]
pub enum CertificateStatus {
    /// There is none.
    None,
    /// There is one that says nothing.
    Distrusted {
        /// What is wrong with it.
        why: Distrust,
        /// The same, for the log alone.
        detail: String,
    },
    /// Its chain leads to an authority that is trusted, at this moment.
    Trusted(Rc<Attested>),
}

/// Why a certificate is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It was trusted until its time was over.
    Expired,
    /// It will be trusted from a later time on.
    NotYetValid,
    /// Its authority has revoked it, or one above it.
    Revoked,
    /// It was issued for something else than to prove who a client is.
    Purpose,
    /// Its chain leads to no authority that is trusted, or is broken.
    Untrusted,
    /// Whether it is revoked is not known: the lists are out of date, or none is of its authority.
    RevocationUnknown,
}

impl Names {
    /// Reads the names in a certificate.
    ///
    /// A name that no configuration could hold, such as a wildcard, is passed over. Of a
    /// certificate with more than one URI none is a SPIFFE id, as its specification demands.
    ///
    /// # Errors
    /// [`UnreadableCertificateError`].
    pub fn read(der: &[u8]) -> Result<Self, UnreadableCertificateError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| UnreadableCertificateError)?;
        let alternative =
            certificate.subject_alternative_name().map_err(|_| UnreadableCertificateError)?;
        let alternative = alternative.map(|extension| extension.value.general_names.as_slice());
        let alternative = alternative.unwrap_or_default();
        let uris = alternative.iter().filter(|name| matches!(name, GeneralName::URI(_))).count();
        let names = alternative.iter().filter_map(|name| match name {
            GeneralName::URI(text) if uris == 1 => Name::spiffe(text).ok(),
            GeneralName::DNSName(text) => Name::dns(text).ok(),
            _ => None,
        });
        let mut names: Vec<Name> = names.take(MOST).collect();
        names.extend(Name::of_subject(certificate.subject()));
        let validity = certificate.validity();
        let validity = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self { names, validity })
    }

    /// The names, the subject last.
    pub fn iter(&self) -> impl Iterator<Item = &Name> {
        self.names.iter()
    }
}

impl Attested {
    /// An authority vouches for a name.
    pub fn believe(&mut self, name: &Name, by: &AuthorityName) {
        let pair = (name.clone(), Arc::clone(by));
        if !self.believed.contains(&pair) {
            self.believed.push(pair);
        }
    }

    /// Notes the names that no authority vouches for which may.
    pub fn doubt_the_rest_of(&mut self, names: &Names) {
        let believed = |name: &Name| self.believed.iter().any(|(one, _)| one == name);
        self.doubted = names.iter().filter(|name| !believed(name)).cloned().collect();
    }

    /// The names that count, each with an authority that vouches for it.
    pub fn believed(&self) -> impl Iterator<Item = (&Name, &AuthorityName)> {
        self.believed.iter().map(|(name, by)| (name, by))
    }
}

/// Until when a certificate is good, in seconds of Unix time; `None` for what is none.
pub fn end(der: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// Until when the last of several certificates is good: an authority with two keys, of which one is
/// being replaced, is good as long as one of them.
pub fn last_end<T: AsRef<[u8]>>(certificates: &[T]) -> Option<i64> {
    certificates.iter().filter_map(|der| end(der.as_ref())).max()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn names(change: impl FnOnce(&mut CertificateParams)) -> Vec<String> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut parameters);
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let names = Names::read(certificate.der()).unwrap();
        names.iter().map(ToString::to_string).collect()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    #[test]
    fn the_names_are_the_spiffe_id_the_dns_names_and_the_subject() {
        let names = names(|one| {
            one.subject_alt_names = vec![uri("spiffe://td/ns/app"), dns("Svc.example.org")];
            one.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
            one.distinguished_name.push(DnType::CommonName, "svc");
        });
        let expected = [
            "spiffe spiffe://td/ns/app",
            "dns svc.example.org",
            "subject CN=svc,O=Example\\, Inc.",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_certificate_with_two_uris_has_no_spiffe_id() {
        for other in ["spiffe://td/other", "https://example.org/"] {
            let names =
                names(|one| one.subject_alt_names = vec![uri("spiffe://td/app"), uri(other)]);
            assert!(names.is_empty(), "{names:?}");
        }
    }

    #[test]
    fn a_wildcard_and_another_uri_are_names_of_nobody() {
        let alternative = vec![dns("*.example.org"), uri("https://example.org/app")];
        assert!(names(|one| one.subject_alt_names = alternative).is_empty());
    }

    #[test]
    fn what_is_no_certificate_is_unreadable() {
        assert_eq!(Names::read(b""), Err(UnreadableCertificateError));
        assert_eq!(Names::read(&[0x30, 0x82, 0xff, 0xff]), Err(UnreadableCertificateError));
    }
}
