//! Public keys in PEM form (RFC 7468), every one of a file: as `SubjectPublicKeyInfo`, as PKCS#1,
//! and in a certificate. Whatever else is in the file is named, and none of it is passed over: a
//! key that is ignored without a word is a token that is refused without a reason.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;

/// Why a block of a PEM file is no public key. Holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// It does not end, or is not base64.
    #[error("it is damaged: it has no end, or holds what is not base64")]
    Form,
    /// It is private, and an issuer's private key belongs to the issuer alone.
    #[error("it is a private key: give its public half (`openssl pkey -in key.pem -pubout`)")]
    Private,
    /// It is no certificate.
    #[error("it is no certificate that can be read")]
    Certificate,
    /// Something else.
    #[error("it is neither a public key nor a certificate")]
    Other,
}

/// The DER of every key of a text in PEM form ([`crate::text::pem`]), in order; nothing where it has
/// no block at all.
pub(super) fn public_keys(text: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, PemError>> {
    let mut lines = text.split(|byte| *byte == b'\n');
    std::iter::from_fn(move || {
        let label = lines.find_map(|line| marked(line, b"-----BEGIN "))?;
        let mut content = Vec::new();
        let whole = lines.by_ref().any(|line| {
            let end = marked(line, b"-----END ") == Some(label);
            if !end {
                content.extend_from_slice(line);
            }
            end
        });
        Some(if whole { key(label, &content) } else { Err(PemError::Form) })
    })
}

fn marked<'a>(line: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(mark)?.strip_suffix(b"-----")
}

fn key(label: &[u8], content: &[u8]) -> Result<Vec<u8>, PemError> {
    if label.ends_with(b"PRIVATE KEY") {
        return Err(PemError::Private);
    }
    let der = || STANDARD.decode(content).map_err(|_| PemError::Form);
    match label {
        b"PUBLIC KEY" | b"RSA PUBLIC KEY" => der(),
        b"CERTIFICATE" => {
            let der = der()?;
            let (_, certificate) =
                X509Certificate::from_der(&der).map_err(|_| PemError::Certificate)?;
            Ok(certificate.public_key().raw.to_vec())
        }
        _ => Err(PemError::Other),
    }
}
