//! One name that a certificate gives its holder, in the one form in which it is compared.

use std::fmt;

use x509_parser::x509::X509Name;

use super::subject::{self, InvalidNameError};

/// The longest SPIFFE id that its specification lets be used.
const LONGEST_SPIFFE: usize = 2048;

/// The longest DNS name (RFC 1035 §2.3.4), and the longest of its labels.
const LONGEST_DNS: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A name that a certificate gives its holder. Two that are equal are the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    kind: Kind,
    text: Box<str>,
}

/// Where in a certificate a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Its only URI, a SPIFFE id.
    Spiffe,
    /// A DNS name among its alternative names.
    Dns,
    /// Its subject.
    Subject,
}

impl Name {
    /// A SPIFFE id: `spiffe://<trust domain>/<path>`, whose segments are no dots and not empty.
    ///
    /// # Errors
    /// [`InvalidNameError::Spiffe`].
    pub fn spiffe(text: &str) -> Result<Self, InvalidNameError> {
        let rest = text.strip_prefix("spiffe://").ok_or(InvalidNameError::Spiffe)?;
        let (domain, path) = rest.split_once('/').ok_or(InvalidNameError::Spiffe)?;
        let small = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let letter = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let segment = |one: &str| !["", ".", ".."].contains(&one) && one.chars().all(letter);
        let good = (1..=255).contains(&domain.len())
            && domain.chars().all(small)
            && path.split('/').all(segment)
            && text.len() <= LONGEST_SPIFFE;
        if good { Ok(Self::new(Kind::Spiffe, text)) } else { Err(InvalidNameError::Spiffe) }
    }

    /// A DNS name, in whatever case.
    ///
    /// # Errors
    /// [`InvalidNameError::Dns`].
    pub fn dns(text: &str) -> Result<Self, InvalidNameError> {
        let letter = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        let label = |one: &str| {
            (1..=LONGEST_LABEL).contains(&one.len())
                && one.chars().all(letter)
                && !one.starts_with('-')
                && !one.ends_with('-')
        };
        if text.len() > LONGEST_DNS || !text.split('.').all(label) {
            return Err(InvalidNameError::Dns);
        }
        Ok(Self::new(Kind::Dns, &text.to_ascii_lowercase()))
    }

    /// A subject as RFC 4514 writes it.
    ///
    /// # Errors
    /// [`InvalidNameError::Subject`] and [`InvalidNameError::Attribute`].
    pub fn subject(text: &str) -> Result<Self, InvalidNameError> {
        subject::parse(text).map(|text| Self::new(Kind::Subject, &text))
    }

    /// The subject of a certificate; `None` for an empty one.
    pub(super) fn of_subject(name: &X509Name<'_>) -> Option<Self> {
        subject::write(name).map(|text| Self::new(Kind::Subject, &text))
    }

    fn new(kind: Kind, text: &str) -> Self {
        Self { kind, text: text.into() }
    }

    /// Where it stands.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The trust domain of a SPIFFE id.
    pub fn trust_domain(&self) -> Option<&str> {
        self.text.strip_prefix("spiffe://")?.split('/').next().filter(|_| self.kind == Kind::Spiffe)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Spiffe => "spiffe",
            Kind::Dns => "dns",
            Kind::Subject => "subject",
        };
        write!(out, "{kind} {}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_is_that_of_a_workload() {
        for good in ["spiffe://td/app", "spiffe://example.org/ns/Prod/sa/app-1_x.y"] {
            assert_eq!(Name::spiffe(good).unwrap().as_str(), good);
        }
        for bad in [
            "spiffe://td",
            "spiffe://td/",
            "spiffe:///app",
            "spiffe://TD/app",
            "SPIFFE://td/app",
            "spiffe://td/a//b",
            "spiffe://td/a/",
            "spiffe://td/a/../b",
            "spiffe://td/./b",
            "spiffe://user@td/app",
            "spiffe://td:443/app",
            "spiffe://td/app?x",
            "spiffe://td/app#x",
            "spiffe://td/%61pp",
            "https://td/app",
            "",
        ] {
            assert_eq!(Name::spiffe(bad), Err(InvalidNameError::Spiffe), "{bad}");
        }
        let long = format!("spiffe://td/{}", "a".repeat(LONGEST_SPIFFE));
        assert_eq!(Name::spiffe(&long), Err(InvalidNameError::Spiffe));
    }

    #[test]
    fn a_dns_name_is_one_host_in_whatever_case() {
        assert_eq!(Name::dns("SVC.Example.org"), Name::dns("svc.example.org"));
        for bad in ["", "*.example.org", "svc.", ".svc", "a..b", "-a.b", "a b", "svc\0.b", "ü.org"]
        {
            assert_eq!(Name::dns(bad), Err(InvalidNameError::Dns), "{bad}");
        }
        assert!(Name::dns(&"a".repeat(64)).is_err());
        assert!(Name::dns(&"a.".repeat(126)).is_err());
    }

    #[test]
    fn names_of_different_kinds_are_different() {
        let [dns, subject] = [Name::dns("cn").unwrap(), Name::subject("CN=cn").unwrap()];
        assert_ne!(dns, subject);
        assert_eq!((dns.kind(), subject.kind()), (Kind::Dns, Kind::Subject));
    }
}
