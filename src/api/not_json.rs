//! Names what a body is that is no JSON, by its first bytes and its label: whoever reads one line of
//! a log learns what to send instead.
//!
//! It never repeats a byte of the body: a secret may stand anywhere.

use crate::text::{is_utf16, without_bom};

/// What a body is instead of JSON, as a sentence that ends with what would be right; `None` for
/// text that may have been meant as JSON. `label` is its `Content-Type`, in any case.
pub fn what_it_is(body: &[u8], label: Option<&[u8]>) -> Option<&'static str> {
    let text = without_bom(body).trim_ascii_start();
    // `curl -d` calls each body a form: one that begins as JSON was meant as JSON.
    let label = label.filter(|_| !text.starts_with(b"{") && !text.starts_with(b"["));
    by_first_bytes(body).or_else(|| by_label(label?)).or_else(|| by_text(text))
}

fn by_first_bytes(body: &[u8]) -> Option<&'static str> {
    Some(match body {
        [0x1f, 0x8b, ..] => "the body is gzip-coded and must come plain",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "the body is zstd-coded and must come plain",
        // JSON begins with two characters of ASCII (RFC 4627 §3).
        _ if is_utf16(body) => UTF_16,
        [b'P', b'K', 3, 4, ..] => "the body is a ZIP archive, not JSON",
        [b'%', b'P', b'D', b'F', ..] => "the body is a PDF: send JSON that names its URL",
        _ => return None,
    })
}

const UTF_16: &str = "the body is UTF-16, and JSON is UTF-8 (RFC 8259, section 8.1)";
const FORM: &str = "the body is a form (application/x-www-form-urlencoded): send JSON";
const MULTIPART: &str = "the body is multipart/form-data: send JSON";
const XML: &str = "the body is XML or HTML: send JSON";

fn by_label(label: &[u8]) -> Option<&'static str> {
    let label = label.to_ascii_lowercase();
    let is = |name: &[u8]| label.starts_with(name);
    if is(b"application/x-www-form-urlencoded") {
        Some(FORM)
    } else if is(b"multipart/") {
        Some(MULTIPART)
    } else if is(b"application/xml") || is(b"text/xml") || is(b"text/html") {
        Some(XML)
    } else {
        None
    }
}

fn by_text(body: &[u8]) -> Option<&'static str> {
    let Ok(text) = std::str::from_utf8(body) else {
        return Some(
            "the body is not UTF-8, as JSON must be; is it GBK or Latin-1, or has it been compressed?",
        );
    };
    let text = text.trim_ascii();
    if text.starts_with("--") && text.to_ascii_lowercase().contains("content-disposition") {
        return Some(MULTIPART);
    }
    if text.starts_with('<') {
        return Some(XML);
    }
    if text.starts_with("{'") || text.starts_with("['") {
        return Some("the body has single quotation marks: JSON has double ones");
    }
    let name = text.split_once('=').map(|(name, _)| name);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.[]%+".contains(&byte);
    if name.is_some_and(|name| !name.is_empty() && name.bytes().all(plain)) {
        return Some(FORM);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_called_what_it_is() {
        let utf_16 =
            |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let with_mark = [&[0xff, 0xfe][..], &utf_16("{}")].concat();
        let gbk = b"{\"name\":\"\xd6\xd0\xce\xc4\"}";
        for (body, label, said) in [
            (&b"\x1f\x8b\x08\0"[..], None, "gzip-coded and must come plain"),
            (&utf_16("{\"role\":1}"), None, "UTF-16"),
            (&with_mark, None, "UTF-16"),
            (gbk, None, "not UTF-8"),
            (b"role=admin&lifespan=0", None, "a form"),
            (b"role", Some("application/x-www-form-urlencoded; charset=UTF-8"), "a form"),
            (b" {'a':1}", Some("application/x-www-form-urlencoded"), "single quotation marks"),
            (b"", Some("Multipart/Form-Data; boundary=x"), "multipart"),
            (b"--x\r\nContent-Disposition: form-data; name=a\r\n", None, "multipart"),
            (b"<?xml version='1.0'?>", None, "XML"),
            (b"{'role': 'admin'}", None, "single quotation marks"),
        ] {
            let named = what_it_is(body, label.map(str::as_bytes)).unwrap_or_default();
            assert!(named.contains(said), "{body:?}: {named}");
        }
        for meant in ["", "{", "{\"role\":}", "nonsense", "{\"a\": \"b=c\"}", "null"] {
            assert_eq!(what_it_is(meant.as_bytes(), Some(b"application/json")), None, "{meant}");
        }
        let broken = b"\xef\xbb\xbf {\"role\":1,}";
        assert_eq!(what_it_is(broken, Some(b"application/x-www-form-urlencoded")), None);
    }
}
