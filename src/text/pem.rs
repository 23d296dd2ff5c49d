//! PEM (RFC 7468): certificates, keys and lists in text form, as editors, mail and YAML leave it.

use zeroize::Zeroizing;

use super::{TextError, is_utf16, without_bom};

/// Reads bytes as PEM: lines without blanks around them and with one kind of end, for whoever looks
/// for the marks at the beginnings of lines (RFC 7468 §3 lets a reader ignore blanks). What explains
/// a block stands outside of it, and may be in any code page.
///
/// # Errors
/// [`TextError`] says what the bytes are instead; DER above all.
pub fn pem(bytes: &[u8]) -> Result<Zeroizing<Vec<u8>>, TextError> {
    // A sequence, as every certificate and key is; its length is in bytes of its own, or it is short
    // and holds another.
    let der = match bytes {
        [0x30, 0x80..=0x84, ..] => true,
        [0x30, length, 0x30, ..] => bytes.len() == usize::from(*length) + 2,
        _ => false,
    };
    if der {
        return Err(TextError::Der);
    }
    if is_utf16(bytes) {
        return Err(TextError::Utf16);
    }
    if bytes.contains(&0) {
        return Err(TextError::Nul);
    }
    const TRUSTED: &[u8] = b"-----BEGIN TRUSTED CERTIFICATE-----";
    if bytes.windows(TRUSTED.len()).any(|part| part == TRUSTED) {
        return Err(TextError::Trusted);
    }
    let mut out = Zeroizing::new(Vec::with_capacity(bytes.len() + 1));
    for line in without_bom(bytes).split(|byte| b"\r\n".contains(byte)).map(<[u8]>::trim_ascii) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    #[test]
    fn a_certificate_is_read_however_an_editor_has_saved_it() {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert;
        let (plain, der) = (made.pem(), made.der().to_vec());
        let unix = plain.replace("\r\n", "\n");
        for saved in [
            unix.clone(),
            unix.replace('\n', "\r\n"),
            unix.replace('\n', "\r"),
            format!("\u{feff}{unix}"),
            unix.lines().map(|line| format!("    {line}  \n")).collect(),
            format!("Bag Attributes\n    friendlyName: é\n{unix}"),
            unix.trim_end().to_owned(),
        ] {
            let text = pem(saved.as_bytes()).unwrap();
            let read = CertificateDer::from_pem_slice(&text);
            assert_eq!(read.unwrap().as_ref(), der, "{saved:?}");
        }
        assert_eq!(pem(&der).err(), Some(TextError::Der));
        let trusted = unix.replace("BEGIN CERT", "BEGIN TRUSTED CERT");
        assert_eq!(pem(trusted.as_bytes()).err(), Some(TextError::Trusted));
        let wide: Vec<u8> = unix.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(pem(&wide).err(), Some(TextError::Utf16));
    }
}
