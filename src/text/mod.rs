//! Text that comes from outside, from a file, a variable, standard input or a body: one reader, and
//! one rule.
//!
//! Text is UTF-8. A byte order mark before it is skipped (RFC 8259 §8.1 allows it, and editors write
//! it); UTF-16, DER and a NUL are named. A [`value`] (a secret, a token, a variable) is one line:
//! blanks and line ends around it are those of an editor or a shell, and do not belong to it. No
//! error holds anything of the text.

mod pem;

use std::fs::{self, File};
use std::io::{self, BufRead, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

pub use pem::pem;

/// The byte order mark in UTF-8.
pub const BOM: &[u8] = b"\xef\xbb\xbf";

/// No file that is read as text is larger.
pub const LARGEST: u64 = 4 << 20;

/// Why bytes are not the text that they should be. Each reads on from "this file" or a key's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// By its byte order mark, or since every other byte is zero.
    #[error("is UTF-16 (as `>` of Windows PowerShell writes it): save it as UTF-8")]
    Utf16,
    /// Any other bytes.
    #[error("is not UTF-8")]
    Utf8,
    /// A zero byte, which would end the text for whoever reads it in C.
    #[error("holds a NUL, which no text has")]
    Nul,
    /// More than one line where a value is one.
    #[error("holds more than one line: it is one value, on a line of its own")]
    Lines,
    /// A certificate as OpenSSL alone writes it, with what it is trusted for.
    #[error(
        "has a BEGIN TRUSTED CERTIFICATE, OpenSSL's own form: `openssl x509 -in FILE -out ca.pem` \
         writes it as everyone reads it"
    )]
    Trusted,
    /// The binary form of certificates and keys.
    #[error(
        "is in binary form (DER, or PKCS#12): PEM is the text that begins with -----BEGIN \
         (`openssl x509 -inform der`, `openssl pkey -inform der`, `openssl pkcs12 -nodes`)"
    )]
    Der,
}

/// What stands behind a byte order mark.
pub fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes)
}

/// Whether bytes are UTF-16, by their mark or by the zero beside their first character of ASCII.
pub const fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [0, first, ..] | [first, 0, ..] => first.is_ascii_graphic(),
        _ => false,
    }
}

/// Reads bytes as text.
///
/// # Errors
/// [`TextError`] says what they are instead.
pub fn decode(bytes: &[u8]) -> Result<&str, TextError> {
    if is_utf16(bytes) {
        return Err(TextError::Utf16);
    }
    let text = str::from_utf8(without_bom(bytes)).map_err(|_| TextError::Utf8)?;
    if text.contains('\0') { Err(TextError::Nul) } else { Ok(text) }
}

/// Reads text as one value: without the byte order mark, blanks and line ends around it. Empty when
/// there is nothing else.
///
/// # Errors
/// [`TextError`] when it is more than one line, or was no text to begin with.
pub fn value(text: &str) -> Result<&str, TextError> {
    let value = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    if value.contains('\0') {
        return Err(TextError::Nul);
    }
    // What `variable` could not read as text.
    if value.contains(char::REPLACEMENT_CHARACTER) {
        return Err(TextError::Utf8);
    }
    if value.contains(['\n', '\r']) { Err(TextError::Lines) } else { Ok(value) }
}

/// Reads a file; its bytes are wiped when dropped.
///
/// # Errors
/// Why it cannot be read, without its name.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 4MiB"));
    }
    Ok(bytes)
}

/// The first line of a stream that is not blank, of so many bytes at most; nothing at its end. What
/// comes after that line is not waited for: someone may be typing.
///
/// # Errors
/// Why the stream cannot be read.
pub fn line(input: &mut dyn BufRead, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut input = input.take(most);
    let mut line = Zeroizing::new(Vec::new());
    while input.read_until(b'\n', &mut line)? > 0 {
        if !without_bom(&line).trim_ascii().is_empty() {
            break;
        }
        line.clear();
    }
    Ok(line)
}

/// A variable of the environment; what is no UTF-8 in it is replaced by U+FFFD, which [`value`]
/// refuses by name.
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// All variables of the environment, as [`variable`] reads them.
pub fn variables() -> Vec<(String, String)> {
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// A file of the kernel, such as those under `/proc`; `None` where there is none.
pub fn of_kernel(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf_16(text: &str, mark: [u8; 2]) -> Vec<u8> {
        let code =
            |unit: u16| if mark[0] == 0xff { unit.to_le_bytes() } else { unit.to_be_bytes() };
        mark.into_iter().chain(text.encode_utf16().flat_map(code)).collect()
    }

    #[test]
    fn text_is_utf_8_behind_a_byte_order_mark_that_is_no_part_of_it() {
        for (bytes, read) in [
            (&b"a = 1\r\n"[..], Ok("a = 1\r\n")),
            (b"\xef\xbb\xbfa", Ok("a")),
            (b"", Ok("")),
            (b"\xef\xbb\xbf", Ok("")),
            (&utf_16("a", [0xff, 0xfe]), Err(TextError::Utf16)),
            (&utf_16("a", [0xfe, 0xff]), Err(TextError::Utf16)),
            (&utf_16("a", [0xff, 0xfe])[2..], Err(TextError::Utf16)),
            (b"\xd6\xd0", Err(TextError::Utf8)),
            (b"ab\0c", Err(TextError::Nul)),
        ] {
            assert_eq!(decode(bytes), read, "{bytes:?}");
        }
    }

    #[test]
    fn a_value_is_one_line_without_what_an_editor_or_a_shell_put_around_it() {
        for (text, read) in [
            ("s3cret", Ok("s3cret")),
            ("s3cret\n", Ok("s3cret")),
            ("s3cret\r\n\r\n", Ok("s3cret")),
            (" \ts3 cret \u{a0}\n", Ok("s3 cret")),
            ("\u{feff}s3cret", Ok("s3cret")),
            ("", Ok("")),
            (" \r\n", Ok("")),
            ("one\ntwo", Err(TextError::Lines)),
            ("one\rtwo", Err(TextError::Lines)),
            ("a\0b", Err(TextError::Nul)),
            ("a\u{fffd}b", Err(TextError::Utf8)),
        ] {
            assert_eq!(value(text), read, "{text:?}");
        }
    }

    #[test]
    fn of_a_stream_the_first_line_counts_that_is_not_blank() {
        for (input, read) in [
            (&b"\r\n\n key \r\nmore\n"[..], &b" key \r\n"[..]),
            (b"\xef\xbb\xbf\r\nkey", b"key"),
            (b"", b""),
            (b"\n\n", b""),
        ] {
            assert_eq!(&**line(&mut &*input, 64).unwrap(), read, "{input:?}");
        }
        assert_eq!(line(&mut &b"123456789"[..], 4).unwrap().len(), 4, "and no more of it");
    }
}
