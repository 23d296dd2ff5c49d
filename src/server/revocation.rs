//! The lists of revoked certificates: which of them counts, and what they say of a chain.
//!
//! rustls-webpki takes the first list of an issuer that it finds, whatever its age. So the newest
//! of each issuer, key and scope is chosen here, before a chain is judged; and a certificate that
//! is on any list that was chosen is revoked, whichever of them webpki looks into.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateRevocationListDer, TrustAnchor};
use webpki::{
    BorrowedCertRevocationList, Cert, CertRevocationList, Error, ExpirationPolicy,
    RevocationOptions, RevocationOptionsBuilder, VerifiedPath,
};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use super::pem::{PemFileError, TlsFileError, read};

/// The lists that count: of each issuer, key and scope the newest.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    list: CertRevocationList<'static>,
    /// The key that signed it, where it says which: an authority may change its key and keep its
    /// name.
    key: Option<Box<[u8]>>,
    age: Age,
    file: PathBuf,
}

/// What makes a list newer than another: when it was issued, then its number (RFC 5280 §5.2.3),
/// then how long it is good. The time comes first, for an authority that is set up anew begins to
/// count again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    issued: i64,
    /// Big-endian, and its length before it, so that they compare as numbers.
    number: (usize, Vec<u8>),
    good_until: i64,
}

impl Revocations {
    /// Reads lists, and keeps those that count.
    pub(super) fn read(files: &[PathBuf]) -> Result<Self, TlsFileError> {
        let mut lists: Vec<List> = Vec::new();
        for file in files {
            let none = || PemFileError::Pem("list of revoked certificates").of(file);
            let here = CertificateRevocationListDer::pem_slice_iter(&read(file)?)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| none())?;
            if here.is_empty() {
                return Err(none());
            }
            for der in here {
                let list = List::read(&der, file).map_err(|why| match unusable(&why) {
                    None => none(),
                    Some(why) => PemFileError::List(why).of(file),
                })?;
                lists.push(list);
            }
        }
        let superseded = |one: &List| lists.iter().any(|other| other.supersedes(one));
        let counts: Vec<bool> = lists.iter().map(|one| !superseded(one)).collect();
        let mut counts = counts.into_iter();
        lists.retain(|_| counts.next().unwrap_or(false));
        lists.sort_by(|one, other| other.age.cmp(&one.age));
        Ok(Self { lists })
    }

    /// The files of lists that count and are good no more.
    pub(super) fn out_of_date(&self, second: i64) -> impl Iterator<Item = &PathBuf> {
        self.lists.iter().filter(move |one| one.age.good_until < second).map(|one| &one.file)
    }

    /// The files of lists that count, and when the next one of each is due.
    pub(super) fn ends(&self) -> impl Iterator<Item = (&PathBuf, i64)> {
        self.lists.iter().map(|one| (&one.file, one.age.good_until))
    }

    /// The first of these authorities that has no list while others do: whether a certificate of
    /// its is revoked could never be known.
    pub(super) fn unlisted(&self, anchors: &[TrustAnchor<'_>]) -> Option<usize> {
        let listed = |anchor: &TrustAnchor<'_>| {
            self.lists.iter().any(|one| one.list.issuer() == anchor.subject.as_ref())
        };
        let first = anchors.iter().position(|anchor| !listed(anchor));
        first.filter(|_| !self.lists.is_empty())
    }

    /// Judges a path that holds but for revocation. `again` verifies it once more, by the lists
    /// that it is given.
    pub(super) fn check(
        &self,
        path: &VerifiedPath<'_>,
        root_key: Option<&[u8]>,
        again: impl FnOnce(RevocationOptions<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let issuers: Vec<CrlIssuer<'_>> = issuers(path, root_key);
        // The lists of the keys that this path has come first: webpki looks no further.
        let (mut lists, others): (Vec<_>, Vec<_>) =
            self.lists.iter().partition(|one| issuers.iter().any(|issuer| one.is_of(issuer)));
        lists.extend(others);
        let lists: Vec<_> = lists.into_iter().map(|one| &one.list).collect();
        // Without lists nothing is ever revoked.
        let Ok(options) = RevocationOptionsBuilder::new(&lists) else { return Ok(()) };
        // A list that is out of date proves nothing.
        again(options.with_expiration_policy(ExpirationPolicy::Enforce).build())?;
        let own: &Cert<'_> = path.end_entity();
        for certificate in std::iter::once(own).chain(path.intermediate_certificates()) {
            for list in lists.iter().filter(|list| list.issuer() == certificate.issuer()) {
                if list.find_serial(certificate.serial())?.is_some() {
                    return Err(Error::CertRevoked);
                }
            }
        }
        Ok(())
    }
}

/// Who has issued a certificate of a path: its name, and its key where it says which.
struct CrlIssuer<'a> {
    subject: &'a [u8],
    key: Option<Box<[u8]>>,
}

fn issuers<'a>(path: &'a VerifiedPath<'_>, root_key: Option<&[u8]>) -> Vec<CrlIssuer<'a>> {
    let root = CrlIssuer { subject: path.anchor().subject.as_ref(), key: root_key.map(Into::into) };
    let between = path.intermediate_certificates();
    let between = between.map(|one| CrlIssuer { subject: one.subject(), key: key_of(&one.der()) });
    between.chain([root]).collect()
}

/// What a certificate says that its key is called.
pub(super) fn key_of(der: &[u8]) -> Option<Box<[u8]>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(key) => Some(key.0.into()),
        _ => None,
    })
}

impl List {
    fn read(der: &[u8], file: &Path) -> Result<Self, Error> {
        let (_, parsed) = CertificateRevocationList::from_der(der).map_err(|_| Error::BadDer)?;
        if parsed.version() != Some(X509Version::V2) {
            return Err(Error::UnsupportedCrlVersion);
        }
        let list = BorrowedCertRevocationList::from_der(der)?.to_owned()?;
        let key = parsed.extensions().iter().find_map(|one| match one.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(key) => {
                key.key_identifier.as_ref().map(|key| key.0.into())
            }
            _ => None,
        });
        let number = parsed.crl_number().map(|number| number.to_bytes_be()).unwrap_or_default();
        let age = Age {
            issued: parsed.last_update().timestamp(),
            number: (number.len(), number),
            good_until: parsed.next_update().map_or(i64::MAX, |time| time.timestamp()),
        };
        Ok(Self { list: list.into(), key, age, file: file.to_owned() })
    }

    /// Whether it is the later word on the same matter.
    fn supersedes(&self, other: &Self) -> bool {
        self.list.issuer() == other.list.issuer()
            && self.list.issuing_distribution_point() == other.list.issuing_distribution_point()
            && same_key(self.key.as_deref(), other.key.as_deref())
            && self.age > other.age
    }

    fn is_of(&self, issuer: &CrlIssuer<'_>) -> bool {
        self.list.issuer() == issuer.subject && same_key(self.key.as_deref(), issuer.key.as_deref())
    }
}

/// Whoever does not say which key it is may be any.
fn same_key(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    one.zip(other).is_none_or(|(one, other)| one == other)
}

/// What is wrong with a list that is one, of a kind that cannot be taken; `None` for what is none.
const fn unusable(why: &Error) -> Option<&'static str> {
    match why {
        Error::UnsupportedDeltaCrl => Some(
            "a delta list, which says only what has changed since another: give the complete list",
        ),
        Error::UnsupportedIndirectCrl => Some(
            "an indirect list, which revokes certificates of other authorities: give the list of \
             each authority itself",
        ),
        Error::UnsupportedRevocationReasonsPartitioning => Some(
            "a list of certificates that were revoked for some reasons alone: give the list with \
             all of them",
        ),
        Error::UnsupportedCrlIssuingDistributionPoint => Some(
            "a list whose scope cannot be taken: one for all certificates of the authority, or for \
             those of one distribution point, can",
        ),
        Error::UnsupportedCrlVersion => Some(
            "a list of version 1, which has no number and no key of its authority: issue it with \
             extensions (`crl_extensions` of `openssl ca`)",
        ),
        Error::UnsupportedCriticalExtension => {
            Some("a list with a critical extension that is not understood")
        }
        _ => None,
    }
}
