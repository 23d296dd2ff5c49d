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
    /// A file cannot be used.
    #[error("{path}: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: PemFileError,
    },
    /// Whether a certificate of this authority is revoked could never be known.
    #[error("no list of revoked certificates is of the authority {index} ({authority})")]
    Unlisted {
        /// Its name; empty where it has none.
        authority: AuthorityName,
        /// Its index among all certificates of authorities.
        index: usize,
    },
    /// Certificate or key are of a kind that is not taken.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] Error),
}

/// What is wrong with one file.
#[derive(Debug, thiserror::Error)]
pub enum PemFileError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is not what PEM is written in, but this.
    #[error("this file {0}")]
    Text(#[from] TextError),
    /// It does not hold what it should, a certificate or a key.
    #[error("no {0} in PEM form is in this file")]
    Pem(&'static str),
    /// An authority cannot be trusted.
    #[error("a certificate in this file cannot be that of an authority: {0}")]
    Authority(String),
    /// A list of revoked certificates is of a kind that is not taken: what it is, and what would do.
    #[error("{0}")]
    List(&'static str),
    /// The private key asks for a password, and no one is there to type it.
    #[error("the private key is encrypted")]
    Encrypted,
    /// The key is that of another certificate of the chain than the first, counted from 1.
    #[error("the key is that of certificate {0} in this file, which must be the first")]
    Order(usize),
    /// The key is that of no certificate of the chain.
    #[error("the certificate and this key do not belong together")]
    Mismatch,
    /// Two certificates have a name in common; this is the file of the later one.
    #[error("the certificate has the name {name}, and so has that of {other}")]
    SameName {
        /// The file of the one before.
        other: PathBuf,
        /// The name.
        name: String,
    },
    /// A certificate of several that no client could ask for.
    #[error("the certificate has no DNS name")]
    NoName,
}

impl PemFileError {
    pub(super) fn of(self, file: &Path) -> TlsFileError {
        TlsFileError::File { path: file.to_owned(), why: self }
    }
}

/// Reads a private key.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let pem = read(path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        // The two forms: of PKCS#8, and of before.
        let contains = |mark: &[u8]| pem.windows(mark.len()).any(|part| part == mark);
        if contains(b"BEGIN ENCRYPTED PRIVATE KEY") || contains(b"Proc-Type: 4,ENCRYPTED") {
            return PemFileError::Encrypted.of(path);
        }
        PemFileError::Pem("private key").of(path)
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
    let empty = || PemFileError::Pem("certificate").of(path);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|_| empty())?;
    if chain.is_empty() { Err(empty()) } else { Ok(chain) }
}

/// Reads a file in PEM form.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsFileError> {
    let bytes = text::read(path).map_err(|why| PemFileError::Read(why).of(path))?;
    text::pem(&bytes).map_err(|why| PemFileError::Text(why).of(path))
}
