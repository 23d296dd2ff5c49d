//! The PEM files of TLS, and what is wrong with one: certificates, keys, and how they fit.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::Error;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::certificate::AuthorityName;
use crate::text::{self, TextError};

/// Why a certificate or key cannot be used. Holds nothing of their contents.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what PEM is written in.
    #[error("{path}: this file {why}")]
    Text {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: TextError,
    },
    /// A file holds no certificate, or no key.
    #[error("{path}: no {what} in PEM form is in this file")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// An authority cannot be trusted.
    #[error("{path}: a certificate in this file cannot be that of an authority: {why}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A list of revoked certificates is of a kind that is not taken.
    #[error("{path}: {why}")]
    List {
        /// The file.
        path: PathBuf,
        /// What it is, and what would do.
        why: &'static str,
    },
    /// Whether a certificate of this authority is revoked could never be known.
    #[error("no list of revoked certificates is of the authority {index} ({authority})")]
    Unlisted {
        /// Its name; empty where it has none.
        authority: AuthorityName,
        /// Its index among all certificates of authorities.
        index: usize,
    },
    /// The private key asks for a password, and no one is there to type it.
    #[error("{path}: the private key is encrypted")]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// The key is that of another certificate of the chain than the first.
    #[error("{path}: the key is that of certificate {index} in this file, which must be the first")]
    Order {
        /// The file of the certificates.
        path: PathBuf,
        /// Which certificate it is, counted from 1.
        index: usize,
    },
    /// The key is that of no certificate of the chain.
    #[error("{path}: the certificate and this key do not belong together")]
    Mismatch {
        /// The file of the key.
        path: PathBuf,
    },
    /// Two certificates have a name in common.
    #[error("{path}: the certificate has the name {name}, and so has that of {other}")]
    SameName {
        /// The file of the later certificate.
        path: PathBuf,
        /// That of the one before.
        other: PathBuf,
        /// The name.
        name: String,
    },
    /// A certificate of several that no client could ask for.
    #[error("{path}: the certificate has no DNS name")]
    NoName {
        /// The file.
        path: PathBuf,
    },
    /// Certificate or key are of a kind that is not taken.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] Error),
}

/// Reads a private key.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let path = path.to_owned();
        // The two forms: of PKCS#8, and of before.
        let contains = |mark: &[u8]| pem.windows(mark.len()).any(|part| part == mark);
        if contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED") {
            return TlsFileError::Encrypted { path };
        }
        TlsFileError::Pem { path, what: "private key" }
    })
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Reads a chain of certificates.
///
/// # Errors
/// [`TlsFileError`] when the file cannot be read, or holds none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let empty = || TlsFileError::Pem { path: path.to_owned(), what: "certificate" };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| empty())?;
    if chain.is_empty() { Err(empty()) } else { Ok(chain) }
}

/// Reads a file in PEM form.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    let bytes =
        text::read(path).map_err(|source| TlsFileError::Read { path: path.to_owned(), source })?;
    text::pem(&bytes).map_err(|why| TlsFileError::Text { path: path.to_owned(), why })
}
