//! Certificates of clients: asked for in the handshake, judged when a request relies on one.
//!
//! A verifier of rustls that does not trust a certificate ends the handshake, and all that the
//! client learns is an alert. So the handshake takes any certificate whose key the client proves
//! to have, which needs no trust; the chain is judged afterwards, where there is an answer to say
//! it in. Nothing shows a certificate but [`super::Presented::standing`], which judges it first.
//!
//! Chains are verified by rustls-webpki itself: rustls' own verifier does not tell which authority
//! a chain leads to, and a name is believed from the authority alone that it belongs to.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use webpki::{EndEntityCert, Error, KeyUsage, RevocationOptions, VerifiedPath};

use super::pem::{PemFileError, TlsFileError, certificates, provider};
use super::revocation::{Revocations, key_of};
use super::settings::{AuthoritySettings, ClientSettings};
use crate::certificate::{Attested, AuthorityName, Distrust, IssuableNames, Name, Names, last_end};
use crate::expiry::{Expiry, ExpiryKind};

/// Whom clients may be certified by, of one configuration.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    /// What chains lead to, and at the same index what is known of each.
    anchors: Vec<TrustAnchor<'static>>,
    roots: Vec<Root>,
    /// Of each authority the end of its last certificate, in Unix time: until then it can have issued
    /// one that is good.
    ends: Vec<(AuthorityName, i64)>,
    hints: Vec<DistinguishedName>,
    /// The only authority of a SPIFFE trust domain.
    trust_domains: Vec<(Box<str>, AuthorityName)>,
    revocations: Revocations,
    algorithms: WebPkiSupportedAlgorithms,
    pub(super) required: bool,
}

#[derive(Debug)]
struct Root {
    authority: AuthorityName,
    reach: IssuableNames,
    key: Option<Box<[u8]>>,
}

/// Of which certificate a path is looked for, and at what time it must hold.
struct PathSearch<'a> {
    certificate: EndEntityCert<'a>,
    at: UnixTime,
}

/// Is shown each path that holds.
type See<'a> = dyn Fn(&VerifiedPath<'_>) -> Result<(), Error> + 'a;

impl ClientVerifier {
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, TlsFileError> {
        let (mut anchors, mut roots, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for AuthoritySettings { name, file } in &settings.authorities {
            let certificates = certificates(file)?;
            ends.extend(last_end(&certificates).map(|end| (Arc::clone(name), end)));
            for der in certificates {
                let anchor = webpki::anchor_from_trusted_cert(&der)
                    .map_err(|why| PemFileError::Authority(explain(&why)).of(file))?;
                anchors.push(anchor.to_owned());
                let (authority, key) = (Arc::clone(name), key_of(&der));
                roots.push(Root { authority, reach: IssuableNames::read(&der), key });
            }
        }
        let revocations = Revocations::read(&settings.crls)?;
        if let Some(index) = revocations.unlisted(&anchors) {
            let root = roots.get(index).map(|root| Arc::clone(&root.authority));
            return Err(TlsFileError::Unlisted { authority: root.unwrap_or_default(), index });
        }
        let subject = |one: &TrustAnchor<'_>| DistinguishedName::in_sequence(&one.subject);
        Ok(Self {
            hints: anchors.iter().map(subject).collect(),
            anchors,
            roots,
            ends,
            trust_domains: settings.trust_domains.clone(),
            revocations,
            algorithms: provider().signature_verification_algorithms,
            required: settings.required,
        })
    }

    /// The files of lists of revoked certificates that are out of date.
    pub(super) fn out_of_date(&self, second: i64) -> impl Iterator<Item = &PathBuf> {
        self.revocations.out_of_date(second)
    }

    /// When the authorities end, and the lists of revoked certificates; `section` is that of the
    /// listener.
    pub(super) fn expiries(&self, section: &str) -> impl Iterator<Item = Expiry> {
        let (ca, crl) = (format!("{section}.tls.client_ca"), format!("{section}.tls.client_crl"));
        let authorities = self.ends.iter().filter_map(move |(name, end)| {
            let one = Expiry::at_second(ExpiryKind::Authority, &ca, *end)?;
            Some(if name.is_empty() { one } else { one.of(&**name) })
        });
        let lists = self.revocations.ends().filter_map(move |(file, end)| {
            let one = Expiry::at_second(ExpiryKind::RevocationList, &crl, end)?;
            Some(one.of(file.display().to_string()))
        });
        authorities.chain(lists)
    }

    /// Judges a chain, the client's own certificate first.
    pub(super) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        names: &Names,
        now: u64,
    ) -> Result<Attested, DistrustError> {
        let why = match self.verify(chain, names, now) {
            Ok(attested) => return Ok(attested),
            Err(why) => why,
        };
        let distrust = distrust(&why);
        if !matches!(distrust, Distrust::Expired | Distrust::NotYetValid) {
            return Err((distrust, why));
        }
        // Times are compared before signatures are. That a certificate is expired is a fact only
        // if it was trusted while it was not; else it is someone's own make.
        let begin = u64::try_from(names.validity.0).unwrap_or(0);
        match self.verify(chain, names, begin) {
            Ok(_) => Err((distrust, why)),
            Err(then) => match self::distrust(&then) {
                Distrust::Expired | Distrust::NotYetValid => Err((Distrust::Untrusted, why)),
                distrust => Err((distrust, then)),
            },
        }
    }

    /// Looks for every path from a certificate to an authority that holds, and takes from each the
    /// names that it vouches for: what counts must not hang on the order in which they are found.
    fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        names: &Names,
        at: u64,
    ) -> Result<Attested, Error> {
        let (own, above) = chain.split_first().ok_or(Error::BadDer)?;
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let search = PathSearch { certificate: EndEntityCert::try_from(own)?, at };
        let attested = RefCell::new(None);
        let see = |path: &VerifiedPath<'_>| {
            let index = self.anchors.iter().position(|one| std::ptr::eq(one, path.anchor()));
            let root = index.and_then(|index| self.roots.get(index)).ok_or(Error::UnknownIssuer)?;
            let between: Vec<_> = path.intermediate_certificates().map(|one| one.der()).collect();
            let anchor = std::slice::from_ref(path.anchor());
            self.revocations.check(path, root.key.as_deref(), |lists| {
                self.path(&search, anchor, &between, Some(lists), None)
            })?;
            let reaches: Vec<_> = between.iter().map(|der| IssuableNames::read(der)).collect();
            let mut attested = attested.borrow_mut();
            let attested: &mut Attested = attested.get_or_insert_default();
            let covered = names.iter().filter(|name| {
                let mut reaches = reaches.iter().chain([&root.reach]);
                reaches.all(|reach| reach.covers(name)) && self.at_home(name, &root.authority)
            });
            covered.for_each(|name| attested.believe(name, &root.authority));
            // So that the others are found as well.
            Err(Error::UnknownIssuer)
        };
        let ended = self.path(&search, &self.anchors, above, None, Some(&see));
        let Some(mut attested) = attested.into_inner() else {
            return ended.and(Err(Error::UnknownIssuer));
        };
        attested.doubt_the_rest_of(names);
        Ok(attested)
    }

    /// Looks for a path, by the lists of revoked certificates that are given.
    fn path(
        &self,
        search: &PathSearch<'_>,
        anchors: &[TrustAnchor<'_>],
        above: &[CertificateDer<'_>],
        lists: Option<RevocationOptions<'_>>,
        see: Option<&See<'_>>,
    ) -> Result<(), Error> {
        let PathSearch { certificate, at } = search;
        let (algorithms, usage) = (self.algorithms.all, KeyUsage::client_auth());
        certificate.verify_for_usage(algorithms, anchors, above, *at, usage, lists, see).map(|_| ())
    }

    /// Whether the trust domain of a SPIFFE id is this authority's, or no one's in particular.
    fn at_home(&self, name: &Name, authority: &AuthorityName) -> bool {
        let Some(domain) = name.trust_domain() else { return true };
        let mut own = self.trust_domains.iter().filter(|(of, _)| **of == *domain);
        own.all(|(_, only)| only == authority)
    }
}

/// Why a chain is not trusted: for the caller, and for the log.
pub(super) type DistrustError = (Distrust, Error);

const fn distrust(why: &Error) -> Distrust {
    use Error as E;
    match why {
        E::CertExpired { .. } => Distrust::Expired,
        E::CertNotValidYet { .. } => Distrust::NotYetValid,
        E::CertRevoked => Distrust::Revoked,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => Distrust::Purpose,
        // No list, one that is out of date, with a wrong signature or of who may sign none.
        E::UnknownRevocationStatus
        | E::CrlExpired { .. }
        | E::InvalidCrlSignatureForPublicKey
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
        | E::IssuerNotCrlSigner => Distrust::RevocationUnknown,
        _ => Distrust::Untrusted,
    }
}

/// What is wrong with a chain, in words, and in brackets as the library calls it.
pub(super) fn explain(why: &Error) -> String {
    let words = match why {
        Error::UnknownIssuer => {
            "no certificate of `client_ca`, nor any that was sent along, has issued it: a client \
             sends the authorities in between with its own certificate"
        }
        Error::CaUsedAsEndEntity => {
            "it is the certificate of an authority (CA:TRUE): a client's has basicConstraints \
             CA:FALSE"
        }
        Error::EndEntityUsedAsCa => {
            "one of the certificates above it is not that of an authority (CA:FALSE)"
        }
        Error::NameConstraintViolation => {
            "the name constraints of an authority above it do not permit its names; those on URIs \
             and on directory names permit none, since they are not compared"
        }
        Error::InvalidSignatureForPublicKey => {
            "the key of the authority whose name it bears has not signed it"
        }
        Error::CertRevoked => "it was revoked, or one above it",
        Error::UnknownRevocationStatus => {
            "no list of `client_crl` is of the authority that has issued it, or one above it"
        }
        Error::CrlExpired { .. } => "a list of `client_crl` has expired",
        Error::InvalidCrlSignatureForPublicKey => {
            "the key of the authority has not signed the list of `client_crl` that bears its name"
        }
        Error::RequiredEkuNotFoundContext(_) => "its purposes (extendedKeyUsage) lack clientAuth",
        Error::CertExpired { .. } => "it is expired, or one above it",
        Error::CertNotValidYet { .. } => "it is not valid yet, or one above it",
        Error::UnsupportedCertVersion => "it is not of version 3",
        _ => return format!("{why:?}"),
    };
    let name = format!("{why:?}");
    let name = name.split([' ', '{', '(']).next().unwrap_or_default();
    format!("{words} ({name})")
}

/// Takes no signature that the key of a certificate did not make; and, unless one is required,
/// every certificate.
impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.required {
            let chain: Vec<_> = std::iter::once(own).chain(above).cloned().collect();
            let names = Names::read(own).map_err(|_| CertificateError::BadEncoding)?;
            self.judge(&chain, &names, now.as_secs()).map_err(|(why, _)| alerting(why))?;
        }
        // Else it is judged by `Presented::standing`.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The error whose alert tells the client why its certificate does not do.
const fn alerting(why: Distrust) -> CertificateError {
    match why {
        Distrust::Expired => CertificateError::Expired,
        Distrust::NotYetValid => CertificateError::NotValidYet,
        Distrust::Revoked => CertificateError::Revoked,
        Distrust::Purpose => CertificateError::InvalidPurpose,
        Distrust::Untrusted => CertificateError::UnknownIssuer,
        Distrust::RevocationUnknown => CertificateError::UnknownRevocationStatus,
    }
}
