//! How far the word of an authority goes: which names it may give, by its own certificate.
//!
//! RFC 5280 §4.2.1.10 lets name constraints bind the forms of names alone that they mention: who
//! was held to the DNS names of one team may then name any SPIFFE id. Here whoever is held to
//! anything gives no name of a form that its constraints do not speak of. Whether a name of a form
//! that they speak of fits is for the verifier of the chain, which refuses those that it cannot
//! compare (URIs and directory names).

use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints};

use super::{Kind, Name};

/// What an authority may say of others, as far as its own certificate tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IssuableNames {
    /// The kinds of names that its constraints speak of; `None` without constraints.
    constrained: Option<Vec<Kind>>,
    /// The trust domain of its SPIFFE id, outside of which it gives none (X.509-SVID §2 and §4).
    trust_domain: Option<Box<str>>,
}

impl IssuableNames {
    /// Reads the certificate of an authority. One that cannot be read gives no names.
    pub fn read(der: &[u8]) -> Self {
        let nothing = || Self { constrained: Some(Vec::new()), trust_domain: None };
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return nothing() };
        let (Ok(constraints), Ok(alternative)) =
            (certificate.name_constraints(), certificate.subject_alternative_name())
        else {
            return nothing();
        };
        let alternative = alternative.map(|extension| extension.value.general_names.as_slice());
        let mut names = alternative.unwrap_or_default().iter();
        let trust_domain = names.find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
            _ => None,
        });
        let domain = |id: &str| id.split('/').next().unwrap_or_default().into();
        Self {
            constrained: constraints.map(|extension| kinds(extension.value)),
            trust_domain: trust_domain.map(domain),
        }
    }

    /// Whether it may give this name, if the verifier of the chain agrees.
    pub fn covers(&self, name: &Name) -> bool {
        let spoken_of = self.constrained.as_ref().is_none_or(|kinds| kinds.contains(&name.kind()));
        let at_home = match (&self.trust_domain, name.trust_domain()) {
            (Some(own), Some(domain)) => **own == *domain,
            _ => true,
        };
        spoken_of && at_home
    }
}

/// The kinds of names that constraints speak of: those of what they permit, and where they permit
/// nothing by name, those of what they exclude.
fn kinds(constraints: &NameConstraints<'_>) -> Vec<Kind> {
    let of = |subtrees: &Option<Vec<GeneralSubtree<'_>>>| {
        subtrees.as_deref().unwrap_or_default().iter().map(|one| kind(&one.base)).collect()
    };
    let permitted: Vec<Option<Kind>> = of(&constraints.permitted_subtrees);
    let spoken_of =
        if permitted.is_empty() { of(&constraints.excluded_subtrees) } else { permitted };
    spoken_of.into_iter().flatten().collect()
}

fn kind(base: &GeneralName<'_>) -> Option<Kind> {
    match base {
        GeneralName::URI(_) => Some(Kind::Spiffe),
        GeneralName::DNSName(_) => Some(Kind::Dns),
        GeneralName::DirectoryName(_) => Some(Kind::Subject),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, GeneralSubtree as Subtree, IsCa, KeyPair,
        NameConstraints as Constraints, SanType,
    };

    use super::*;

    fn reach(change: impl FnOnce(&mut CertificateParams)) -> IssuableNames {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut parameters);
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        IssuableNames::read(certificate.der())
    }

    fn constrained(permitted: &[Subtree], excluded: &[Subtree]) -> IssuableNames {
        reach(|one| {
            one.name_constraints = Some(Constraints {
                permitted_subtrees: permitted.to_vec(),
                excluded_subtrees: excluded.to_vec(),
            });
        })
    }

    /// Which of a SPIFFE id, a DNS name and a subject it covers.
    fn covered(reach: &IssuableNames) -> [bool; 3] {
        [
            Name::spiffe("spiffe://example.org/app"),
            Name::dns("app.example.org"),
            Name::subject("CN=app"),
        ]
        .map(|name| reach.covers(&name.unwrap()))
    }

    #[test]
    fn whoever_is_held_to_one_form_of_names_gives_no_other() {
        let dns = || Subtree::DnsName("team.example.org".to_owned());
        let email = || Subtree::Rfc822Name("team.example.org".to_owned());
        let mut team = rcgen::DistinguishedName::new();
        team.push(DnType::OrganizationName, "Team");
        let directory = || Subtree::DirectoryName(team.clone());
        for (permitted, excluded, expected) in [
            (vec![dns()], vec![], [false, true, false]),
            (vec![email()], vec![], [false; 3]),
            (vec![directory()], vec![], [false, false, true]),
            (vec![dns(), directory()], vec![], [false, true, true]),
            (vec![], vec![dns()], [false, true, false]),
            (vec![], vec![email()], [false; 3]),
            (vec![dns()], vec![directory()], [false, true, false]),
        ] {
            let reach = constrained(&permitted, &excluded);
            assert_eq!(covered(&reach), expected, "{permitted:?}, {excluded:?}");
        }
        assert_eq!(covered(&reach(|_| {})), [true; 3]);
        assert_eq!(covered(&IssuableNames::read(b"no certificate")), [false; 3]);
    }

    #[test]
    fn an_authority_of_a_trust_domain_gives_ids_of_that_alone() {
        for (id, covers) in [
            ("spiffe://example.org", true),
            ("spiffe://example.org/intermediate", true),
            ("spiffe://partner.net", false),
            ("https://example.org/", true),
        ] {
            let reach =
                reach(|one| one.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())]);
            let name = Name::spiffe("spiffe://example.org/app").unwrap();
            assert_eq!(reach.covers(&name), covers, "{id}");
            assert!(reach.covers(&Name::dns("app.example.org").unwrap()));
        }
    }
}
