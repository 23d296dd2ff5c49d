//! `Forwarded` (RFC 7239) and `X-Forwarded-For`, read from the right, where what a trusted proxy
//! wrote stands.
//!
//! Only the elements that are asked for must be well-formed: what stands further left may be
//! anybody's, an open quotation mark and bytes of no text included.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The elements of one line of a field, from the last to the first. What is empty between commas is
/// none (RFC 9110 §5.6.1.2).
pub(super) struct Elements<'a> {
    left: &'a [u8],
    /// Whether commas within quotation marks separate nothing.
    quotes: bool,
}

/// Where an element would be, there is a quoted string without a beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MalformedError;

impl<'a> Elements<'a> {
    /// Of a line of `Forwarded`.
    pub(super) const fn of_forwarded(line: &'a [u8]) -> Self {
        Self { left: line, quotes: true }
    }

    /// Of a line of `X-Forwarded-For`, which knows no quotation.
    pub(super) const fn of_x_forwarded_for(line: &'a [u8]) -> Self {
        Self { left: line, quotes: false }
    }

    /// Takes what stands behind the last comma.
    fn take(&mut self) -> Result<&'a [u8], MalformedError> {
        let mut quoted = false;
        for (at, byte) in self.left.iter().enumerate().rev() {
            match byte {
                b'"' if self.quotes => {
                    if !is_escaped(self.left, at) {
                        quoted = !quoted;
                    } else if !quoted {
                        return Err(MalformedError);
                    }
                }
                b',' if !quoted => {
                    let (left, element) = self.left.split_at(at);
                    self.left = left;
                    return Ok(element.get(1..).unwrap_or_default());
                }
                _ => {}
            }
        }
        if quoted { Err(MalformedError) } else { Ok(std::mem::take(&mut self.left)) }
    }
}

/// Whether the byte at this index is the second one of a quoted pair, if it is in a quoted string.
fn is_escaped(line: &[u8], at: usize) -> bool {
    let before = line.iter().take(at).rev();
    before.take_while(|byte| **byte == b'\\').count() % 2 == 1
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<&'a [u8], MalformedError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.left.is_empty() {
            match self.take().map(<[u8]>::trim_ascii) {
                Ok([]) => {}
                Err(error) => {
                    self.left = &[];
                    return Some(Err(error));
                }
                found => return Some(found),
            }
        }
        None
    }
}

/// The address that an element of `X-Forwarded-For` names.
pub(super) fn of_x_forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let inner = element.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    node(std::str::from_utf8(inner.unwrap_or(element)).ok()?)
}

/// The address that an element of `Forwarded` names with `for`; `None` also where it names two.
pub(super) fn of_forwarded(element: &[u8]) -> Option<IpAddr> {
    let mut named = None;
    let mut rest = element.trim_ascii();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b";") {
            rest = after.trim_ascii_start();
            continue;
        }
        let (name, value, after) = pair(rest)?;
        if name.eq_ignore_ascii_case(b"for") && named.replace(value).is_some() {
            return None;
        }
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b";") {
            return None;
        }
    }
    node(std::str::from_utf8(&named?).ok()?)
}

/// A pair at the beginning of a text, and what stands behind it.
fn pair(text: &[u8]) -> Option<(&[u8], Cow<'_, [u8]>, &[u8])> {
    let (name, rest) = text.split_at(text.iter().take_while(|byte| is_tchar(**byte)).count());
    let rest = rest.strip_prefix(b"=")?;
    if name.is_empty() {
        return None;
    }
    if let Some(rest) = rest.strip_prefix(b"\"") {
        let (value, rest) = quoted(rest)?;
        return Some((name, value, rest));
    }
    // Many proxies write `for=[2001:db8::1]:80` and `host=a:80` without the quotation marks that
    // the grammar asks for. No one can read these in two ways.
    let bare = |byte: u8| is_tchar(byte) || matches!(byte, b':' | b'[' | b']' | b'/' | b'@');
    let (value, rest) = rest.split_at(rest.iter().take_while(|byte| bare(**byte)).count());
    (!value.is_empty()).then_some((name, Cow::Borrowed(value), rest))
}

/// What a quoted string holds, from behind its first quotation mark, and what stands behind its
/// last (RFC 9110 §5.6.4).
fn quoted(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut unescaped: Option<Vec<u8>> = None;
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let (value, rest) = text.split_at(at);
                let value = unescaped.map_or(Cow::Borrowed(value), Cow::Owned);
                return Some((value, rest.get(1..)?));
            }
            b'\\' => {
                let so_far = unescaped.get_or_insert_with(|| text.split_at(at).0.to_vec());
                so_far.push(*bytes.next()?.1);
            }
            byte => {
                if let Some(so_far) = &mut unescaped {
                    so_far.push(*byte);
                }
            }
        }
    }
    None
}

/// RFC 9110 §5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An address with or without a port (RFC 7239 §6), in the one form that it has everywhere;
/// `None` for `unknown` and an obfuscated name.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim_ascii();
    let address = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
            return None;
        }
        IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = text.split_once(':')?;
        IpAddr::V4(address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?)
    };
    Some(address.to_canonical())
}

/// Digits, or an obfuscated port.
fn is_port(text: &str) -> bool {
    let obfuscated = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.chars().all(obfuscated),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(line: &[u8]) -> Vec<Result<&[u8], MalformedError>> {
        Elements::of_forwarded(line).collect()
    }

    #[test]
    fn elements_are_separated_by_commas_outside_of_quoted_strings() {
        let ok = |texts: &[&'static [u8]]| -> Vec<Result<&'static [u8], MalformedError>> {
            texts.iter().copied().map(Ok).collect()
        };
        for (line, expected) in [
            (&b"a=1, b=2"[..], ok(&[b"b=2", b"a=1"])),
            (b"a=1,,b=2, ,", ok(&[b"b=2", b"a=1"])),
            (br#"a="x,y";b="z,",c=3"#, ok(&[b"c=3", br#"a="x,y";b="z,""#])),
            (br#"a="x\",b=2""#, ok(&[br#"a="x\",b=2""#])),
            (br#"a="x\\",b=2"#, ok(&[b"b=2", br#"a="x\\""#])),
            (b"", ok(&[])),
        ] {
            assert_eq!(elements(line), expected, "{}", line.escape_ascii());
        }
        // What stands left of a trusted element may be anything.
        assert_eq!(elements(br#"a="x, b=2"#), [Ok(&b"b=2"[..]), Err(MalformedError)]);
        assert_eq!(elements(br#"a=x\", b=2"#), [Ok(&b"b=2"[..]), Err(MalformedError)]);
        assert_eq!(elements(b"\xff\xfe, b=2"), [Ok(&b"b=2"[..]), Ok(&b"\xff\xfe"[..])]);
    }

    #[test]
    fn an_element_of_forwarded_names_one_address_or_none() {
        for (element, address) in [
            ("for=192.0.2.1", Some("192.0.2.1")),
            ("For=\"192.0.2.1:4711\";proto=https", Some("192.0.2.1")),
            ("for=\"[2001:db8::1]:_port\"", Some("2001:db8::1")),
            ("for=\"[::ffff:192.0.2.1]\"", Some("192.0.2.1")),
            ("for=[2001:db8::1]:80;host=a:80", Some("2001:db8::1")),
            ("for=\"192.0.2\\.1\"", Some("192.0.2.1")),
            ("proto=http;host=\"x;for=6.6.6.6\";for=192.0.2.1;", Some("192.0.2.1")),
            (";;for=192.0.2.1 ; proto=http", Some("192.0.2.1")),
            ("for=unknown", None),
            ("for=_hidden", None),
            ("for=\"192.0.2.1:port\"", None),
            ("for=\"192.0.2.1\"x", None),
            ("for=192.0.2.1 proto=http", None),
            ("for=192.0.2.1;for=192.0.2.2", None),
            ("for=192.0.2.1;proto", None),
            ("for=192.0.2.1;=x", None),
            ("for =192.0.2.1", None),
            ("for=", None),
            ("for=[192.0.2.1]", None),
            ("proto=https", None),
        ] {
            let expected = address.map(|address| address.parse::<IpAddr>().unwrap());
            assert_eq!(of_forwarded(element.as_bytes()), expected, "{element}");
        }
    }

    #[test]
    fn an_element_of_x_forwarded_for_is_an_address_with_or_without_a_port() {
        for (element, address) in [
            (&b"192.0.2.1"[..], Some("192.0.2.1")),
            (b"192.0.2.1:443", Some("192.0.2.1")),
            (b"2001:db8::1", Some("2001:db8::1")),
            (b"[2001:db8::1]:443", Some("2001:db8::1")),
            (b"\"[2001:db8::1]:443\"", Some("2001:db8::1")),
            (b"::ffff:192.0.2.1", Some("192.0.2.1")),
            (b"192.0.2.1 192.0.2.2", None),
            (b"192.0.2.1:", None),
            (b"192.0.2.1:443443", None),
            (b"\"192.0.2.1", None),
            (b"unknown", None),
            (b"\xff", None),
        ] {
            let expected = address.map(|address| address.parse::<IpAddr>().unwrap());
            let element_text = element.escape_ascii();
            assert_eq!(of_x_forwarded_for(element), expected, "{element_text}");
        }
    }
}
