//! Whether a chain that a server shows is whole: what is missing of it for a client that has only
//! the root.

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

/// What a chain lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The certificate whose issuer does not follow, counted from 1.
    pub below: usize,
    /// The issuer that is missing, by its name.
    pub issuer: String,
    /// Whether another certificate follows in its place. Else it is the end of the chain, and that
    /// issuer may be the root itself.
    pub broken: bool,
}

/// What this chain lacks; `None` when each certificate was issued by the next, and more than one is
/// there or the one is its own issuer. The last of several is taken to be below the root.
///
/// Names and key ids are compared: that is how a client looks for an issuer. Signatures are not.
pub fn gap(chain: &[CertificateDer<'_>]) -> Option<Gap> {
    let chain: Vec<X509Certificate<'_>> = chain.iter().map_while(|der| read(der)).collect();
    let gap = |below: usize, broken| {
        let issuer = chain.get(below - 1)?.issuer().to_string();
        Some(Gap { below, issuer, broken })
    };
    for (index, pair) in chain.windows(2).enumerate() {
        // A root at the end is of no use, and does no harm.
        if !has_issued(&pair[1], &pair[0]) && !has_issued(&pair[0], &pair[0]) {
            return gap(index + 1, true);
        }
    }
    match chain.as_slice() {
        [one] if !has_issued(one, one) => gap(1, false),
        _ => None,
    }
}

/// Whether this certificate of an authority is that of who has issued the last of a chain, and of
/// no one above: a root.
pub fn is_root_of(der: &[u8], chain: &[CertificateDer<'_>]) -> bool {
    let (Some(root), Some(last)) = (read(der), chain.last().and_then(|last| read(last))) else {
        return false;
    };
    has_issued(&root, &root) && has_issued(&root, &last)
}

fn read(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

fn has_issued(issuer: &X509Certificate<'_>, certificate: &X509Certificate<'_>) -> bool {
    let same_key = match (key_id(issuer), authority_key_id(certificate)) {
        (Some(own), Some(named)) => own == named,
        _ => true,
    };
    issuer.subject().as_raw() == certificate.issuer().as_raw() && same_key
}

fn key_id<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

fn authority_key_id<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    type Authority = Issuer<'static, KeyPair>;

    fn parameters(name: &str) -> CertificateParams {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.use_authority_key_identifier_extension = true;
        parameters
    }

    /// An authority and its certificate; its own root without one above.
    fn authority(name: &str, above: Option<&Authority>) -> (Authority, CertificateDer<'static>) {
        let (mut parameters, key) = (parameters(name), KeyPair::generate().unwrap());
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = match above {
            Some(above) => parameters.signed_by(&key, above).unwrap(),
            None => parameters.self_signed(&key).unwrap(),
        };
        let der = certificate.der().clone();
        (Issuer::new(parameters, key), der)
    }

    fn leaf(by: &Authority) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        parameters("server").signed_by(&key, by).unwrap().der().clone()
    }

    #[test]
    fn the_issuer_that_is_missing_is_named() {
        let (root, root_der) = authority("Root", None);
        let (between, between_der) = authority("Between", Some(&root));
        let (_, renewed_der) = authority("Between", Some(&root));
        let (own, below) = (leaf(&between), leaf(&root));
        let gap = |chain: &[&CertificateDer<'static>]| {
            let chain: Vec<_> = chain.iter().map(|one| (*one).clone()).collect();
            gap(&chain).map(|gap| (gap.below, gap.issuer, gap.broken))
        };
        let missing = |below, issuer: &str, broken| Some((below, issuer.to_owned(), broken));
        assert_eq!(gap(&[&own, &between_der]), None);
        assert_eq!(gap(&[&own, &between_der, &root_der]), None);
        assert_eq!(gap(&[&root_der]), None, "its own issuer");
        assert_eq!(gap(&[&below, &root_der]), None);
        assert_eq!(gap(&[&own]), missing(1, "CN=Between", false));
        assert_eq!(gap(&[&own, &root_der]), missing(1, "CN=Between", true));
        assert_eq!(gap(&[&own, &below]), missing(1, "CN=Between", true));
        assert_eq!(gap(&[&own, &renewed_der]), missing(1, "CN=Between", true), "another key");
        assert!(is_root_of(&root_der, &[below]) && !is_root_of(&between_der, &[own]));
    }
}
