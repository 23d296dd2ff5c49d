//! Which certificate a client is shown, by the name that it asks for in the handshake (SNI, RFC 6066
//! §3).
//!
//! A name that a certificate has exactly comes before a wildcard; who asks for no name, or for one
//! that none has, is shown the listener's own. No name is in two of them, so that the order of a list
//! never decides.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use webpki::EndEntityCert;

use super::pem::{PemFileError, TlsFileError, certificates, private_key, provider};
use super::settings::{CertificateFiles, TlsSettings};
use crate::certificate;

/// The certificates of a listener.
#[derive(Debug)]
pub(super) struct CertificatesByName {
    own: Arc<CertifiedKey>,
    /// By their DNS names in small letters; a wildcard without its asterisk, `.example.org`.
    by_name: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// The files, and when the first certificate in each ends, in Unix time.
    pub(super) ends: Vec<(PathBuf, i64)>,
}

impl CertificatesByName {
    pub(super) fn read(settings: &TlsSettings) -> Result<Self, TlsFileError> {
        let own = certified(&settings.certificate)?;
        let end = |files: &CertificateFiles, key: &CertifiedKey| {
            end_of(key).map(|end| (files.certificate.clone(), end))
        };
        let mut ends = Vec::from_iter(end(&settings.certificate, &own));
        let mut by_name = HashMap::new();
        let mut named_by: HashMap<Box<str>, &Path> = HashMap::new();
        if !settings.others.is_empty() {
            // Its exact names are its own; what its wildcards cover, another may have.
            for name in names(&own) {
                named_by.insert(name, &settings.certificate.certificate);
            }
        }
        for files in &settings.others {
            let key = certified(files)?;
            ends.extend(end(files, &key));
            let names = names(&key);
            if names.is_empty() {
                return Err(PemFileError::NoName.of(&files.certificate));
            }
            for name in names {
                if let Some(other) = named_by.insert(name.clone(), &files.certificate) {
                    let (other, name) = (other.to_owned(), written(&name));
                    return Err(PemFileError::SameName { other, name }.of(&files.certificate));
                }
                by_name.insert(name, Arc::clone(&key));
            }
        }
        Ok(Self { own, by_name, ends })
    }

    fn of(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        self.found(name).unwrap_or(&self.own)
    }

    /// Whether one of them is for a host, a name or an address.
    pub(super) fn are_for(&self, host: &str) -> bool {
        let Ok(host) = ServerName::try_from(host) else { return false };
        let is_for = |key: &Arc<CertifiedKey>| {
            let certificate = key.cert.first().map(EndEntityCert::try_from);
            matches!(certificate, Some(Ok(one)) if one.verify_is_valid_for_subject_name(&host).is_ok())
        };
        [&self.own].into_iter().chain(self.by_name.values()).any(is_for)
    }

    fn found(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        if self.by_name.is_empty() {
            return None;
        }
        let name = name?.to_ascii_lowercase();
        // A wildcard is for one label (RFC 9525 §6.3).
        let above = || self.by_name.get(&name[name.find('.')?..]);
        self.by_name.get(&*name).or_else(above)
    }
}

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.of(hello.server_name())))
    }
}

/// A certificate with its key, which belong together.
fn certified(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, TlsFileError> {
    let chain = certificates(&files.certificate)?;
    let key = private_key(&files.key)?;
    let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider());
    certified.map(Arc::new).map_err(|why| misfit(why, files, &chain, &key))
}

/// Why a chain and a key are not taken: the key may be that of another certificate of the chain.
fn misfit(
    why: Error,
    files: &CertificateFiles,
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> TlsFileError {
    if why != Error::InconsistentKeys(InconsistentKeys::KeyMismatch) {
        return why.into();
    }
    let fits = |one: &CertificateDer<'static>| {
        CertifiedKey::from_der(vec![one.clone()], key.clone_key(), &provider()).is_ok()
    };
    match chain.iter().position(fits) {
        Some(index) => PemFileError::Order(index + 1).of(&files.certificate),
        None => PemFileError::Mismatch.of(&files.key),
    }
}

/// When the first certificate of a chain ends.
fn end_of(key: &CertifiedKey) -> Option<i64> {
    key.cert.iter().filter_map(|one| certificate::end(one)).min()
}

/// The DNS names of a certificate, as they are looked up.
fn names(key: &CertifiedKey) -> Vec<Box<str>> {
    let Some(Ok(certificate)) = key.cert.first().map(EndEntityCert::try_from) else {
        return Vec::new();
    };
    let plain = |name: &str| name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase().into();
    let mut names: Vec<Box<str>> = certificate.valid_dns_names().map(plain).collect();
    // One certificate may say a name twice.
    names.sort_unstable();
    names.dedup();
    names
}

/// A name as it stands in a certificate.
fn written(name: &str) -> String {
    if name.starts_with('.') { format!("*{name}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_host_is_found_by_name_wildcard_and_address() {
        let folder = tempfile::tempdir().unwrap();
        let own = files(folder.path(), "own", &["admin.example.org", "10.0.0.7"]);
        let others = vec![files(folder.path(), "other", &["*.ops.example.org"])];
        let settings = TlsSettings { certificate: own, others, client: None };
        let read = CertificatesByName::read(&settings).unwrap();
        for host in ["admin.example.org", "a.ops.example.org", "10.0.0.7"] {
            assert!(read.are_for(host), "{host}");
        }
        for host in ["example.org", "a.b.ops.example.org", "10.0.0.8", "evil.example", ""] {
            assert!(!read.are_for(host), "{host}");
        }
    }

    /// Files of a certificate with these names.
    fn files(folder: &Path, file: &str, names: &[&str]) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let files = CertificateFiles {
            certificate: folder.join(format!("{file}.pem")),
            key: folder.join(format!("{file}.key")),
        };
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    fn read(own: &[&str], others: &[&[&str]]) -> Result<CertificatesByName, TlsFileError> {
        let folder = tempfile::tempdir().unwrap();
        let certificate = files(folder.path(), "own", own);
        let others = others.iter().enumerate();
        let others = others.map(|(index, names)| files(folder.path(), &index.to_string(), names));
        let settings = TlsSettings { certificate, others: others.collect(), client: None };
        CertificatesByName::read(&settings)
    }

    #[test]
    fn the_certificate_is_the_one_of_the_name_that_is_asked_for() {
        let all = read(
            &["gateway.example", "*.example.org"],
            &[&["a.example.org", "A2.Example.Org"], &["*.b.example.org"]],
        )
        .unwrap();
        for (asked, names) in [
            (None, &["gateway.example", ".example.org"][..]),
            (Some("gateway.example"), &["gateway.example", ".example.org"]),
            (Some("other.example"), &["gateway.example", ".example.org"]),
            (Some("localhost"), &["gateway.example", ".example.org"]),
            (Some("c.example.org"), &["gateway.example", ".example.org"]),
            (Some("a.example.org"), &["a.example.org", "a2.example.org"]),
            (Some("A.EXAMPLE.org"), &["a.example.org", "a2.example.org"]),
            (Some("a2.example.org"), &["a.example.org", "a2.example.org"]),
            (Some("x.b.example.org"), &[".b.example.org"]),
            (Some("y.x.b.example.org"), &["gateway.example", ".example.org"]),
            (Some("b.example.org"), &["gateway.example", ".example.org"]),
        ] {
            let mut shown = super::names(all.of(asked));
            shown.sort_by_key(|name| std::cmp::Reverse(name.clone()));
            let mut names: Vec<&str> = names.to_vec();
            names.sort_by_key(|name| std::cmp::Reverse(*name));
            assert_eq!(shown.iter().map(|name| &**name).collect::<Vec<_>>(), names, "{asked:?}");
        }
    }

    #[test]
    fn two_certificates_with_one_name_are_an_error_that_names_it() {
        for (own, others, name) in [
            (&["a.example"][..], &[&["a.example"][..]][..], "a.example"),
            (&["x.example"], &[&["a.example"], &["A.example", "b.example"]], "a.example"),
            (&["x.example"], &[&["*.a.example"], &["*.a.example"]], "*.a.example"),
        ] {
            let error = read(own, others).unwrap_err();
            let TlsFileError::File { why, .. } = &error else { panic!("{error}") };
            let PemFileError::SameName { name: found, .. } = why else { panic!("{error}") };
            assert_eq!(found, name);
        }
        // An exact name beside a wildcard is no doubt.
        assert!(read(&["*.b.example"], &[&["a.b.example"], &["*.a.b.example"]]).is_ok());
    }

    #[test]
    fn a_certificate_that_no_name_would_ever_choose_is_an_error() {
        let error = read(&["a.example"], &[&["192.0.2.1"]]).unwrap_err();
        let no_name = matches!(error, TlsFileError::File { why: PemFileError::NoName, .. });
        assert!(no_name, "{error}");
    }
}
