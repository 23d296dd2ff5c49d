//! Distinguished names as RFC 4514 writes them, in one form of the many that it permits.
//!
//! Two names are the same when these forms are: same types, same texts, same order. How a
//! certificate encodes a text (UTF8String, PrintableString, …) makes no difference; what is no
//! text in it, or an empty one, or in an encoding that is read in more than one way, is written in
//! hex.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::Chars;

use x509_parser::asn1_rs::{Any, FromDer as _, Tag, ToDer as _};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Types that have a short name: those of RFC 4514 §3, and the two that are met besides.
const TYPES: [(&str, &str); 11] = [
    ("CN", "2.5.4.3"),
    ("OU", "2.5.4.11"),
    ("O", "2.5.4.10"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("C", "2.5.4.6"),
    ("STREET", "2.5.4.9"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("serialNumber", "2.5.4.5"),
];

/// Why a text is no name. Holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNameError {
    /// No SPIFFE id of a workload.
    #[error("a SPIFFE id is spiffe://, a trust domain in small letters, and a path")]
    Spiffe,
    /// No DNS name.
    #[error("a DNS name has labels of letters, digits and hyphens; a wildcard names nobody")]
    Dns,
    /// No distinguished name.
    #[error(
        "a subject is written as in RFC 4514, the most specific part first, as `openssl x509 \
         -noout -subject -nameopt RFC2253` prints it"
    )]
    Subject,
    /// Of another kind of attribute.
    #[error(
        "a subject has parts of the types CN, OU, O, L, ST, C, STREET, DC, UID, emailAddress and \
         serialNumber, and others by their number, such as 2.5.4.12"
    )]
    Attribute,
}

/// What must be escaped within a value (RFC 4514 §2.4).
const SPECIAL: &str = "\"+,;<>\\";

/// Writes the name of a certificate; `None` for an empty one, and for one so malformed, such as a
/// type without a number, that no configuration could hold it.
pub(super) fn write(name: &X509Name<'_>) -> Option<String> {
    // The last part of the encoding is the first of the text (RFC 4514 §2.1).
    let parts: Vec<_> = name.iter_rdn().collect();
    let parts = parts.into_iter().rev().map(|part| joined(part.iter().map(attribute).collect()));
    let text = parts.collect::<Vec<_>>().join(",");
    parse(&text).is_ok_and(|read| read == text).then_some(text)
}

/// The attributes of one part, whose order means nothing.
fn joined(mut attributes: Vec<String>) -> String {
    attributes.sort_unstable();
    attributes.join("+")
}

fn attribute(one: &AttributeTypeAndValue<'_>) -> String {
    let number = one.attr_type().to_id_string();
    let short = TYPES.iter().find(|(_, known)| *known == number);
    let kind = short.map_or(number.as_str(), |(short, _)| short);
    format!("{kind}={}", value(one.attr_value()))
}

/// A value: as text where it is one, else all of its encoding in hex.
fn value(any: &Any<'_>) -> String {
    let text = match any.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            str::from_utf8(any.data).ok()
        }
        _ => None,
    };
    match text {
        Some(text) if !text.is_empty() => escaped(text),
        // Nothing after `=` is refused where a person writes it: something was forgotten.
        _ => {
            let encoding = any.to_der_vec().unwrap_or_default();
            encoding.iter().fold("#".to_owned(), |mut hex, byte| {
                // Writing to a String cannot fail.
                _ = write!(hex, "{byte:02x}");
                hex
            })
        }
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (place, character) in text.chars().enumerate() {
        let edge = (place == 0 && " #".contains(character)) || (place == last && character == ' ');
        if character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                _ = write!(out, "\\{byte:02x}");
            }
            continue;
        }
        if edge || SPECIAL.contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

/// Reads a name that a person wrote, into the form in which [`write`] gives it.
pub(super) fn parse(text: &str) -> Result<String, InvalidNameError> {
    let mut rest = text.chars().peekable();
    let mut parts = Vec::new();
    let mut part = Vec::new();
    loop {
        let kind = parse_type(&mut rest)?;
        part.push(format!("{kind}={}", parse_value(&mut rest)?));
        match rest.next() {
            Some('+') => {}
            Some(',') => parts.push(joined(std::mem::take(&mut part))),
            None => break,
            Some(_) => return Err(InvalidNameError::Subject),
        }
    }
    parts.push(joined(part));
    Ok(parts.join(","))
}

fn parse_type(rest: &mut Peekable<Chars<'_>>) -> Result<String, InvalidNameError> {
    let mut kind = String::new();
    loop {
        match rest.next().ok_or(InvalidNameError::Subject)? {
            '=' => break,
            character => kind.push(character),
        }
    }
    let kind = kind.trim();
    let known = TYPES
        .iter()
        .find(|(short, number)| short.eq_ignore_ascii_case(kind) || *number == kind)
        .map(|(short, _)| (*short).to_owned());
    let number = |one: &str| {
        !one.is_empty()
            && one.bytes().all(|byte| byte.is_ascii_digit())
            && (one == "0" || !one.starts_with('0'))
    };
    let numbered = kind.contains('.') && kind.split('.').all(number);
    known.or_else(|| numbered.then(|| kind.to_owned())).ok_or(InvalidNameError::Attribute)
}

/// Reads up to the next `,` or `+` that is not escaped, which stays.
fn parse_value(rest: &mut Peekable<Chars<'_>>) -> Result<String, InvalidNameError> {
    while rest.next_if_eq(&' ').is_some() {}
    if rest.next_if_eq(&'#').is_some() {
        return parse_hex(rest);
    }
    let mut bytes = Vec::new();
    // Spaces at the end are not of the value, unless they are escaped.
    let mut end = 0;
    while let Some(character) = rest.next_if(|character| !",+".contains(*character)) {
        match character {
            '\\' => {
                let next = rest.next().ok_or(InvalidNameError::Subject)?;
                if let Some(high) = next.to_digit(16) {
                    let low = rest.next().and_then(|low| low.to_digit(16));
                    let byte = high * 16 + low.ok_or(InvalidNameError::Subject)?;
                    bytes.push(u8::try_from(byte).map_err(|_| InvalidNameError::Subject)?);
                } else if SPECIAL.contains(next) || " #=".contains(next) {
                    // All of them are ASCII.
                    bytes.push(next as u8);
                } else {
                    return Err(InvalidNameError::Subject);
                }
                end = bytes.len();
            }
            ' ' => bytes.push(b' '),
            character if SPECIAL.contains(character) => return Err(InvalidNameError::Subject),
            character => {
                let mut buffer = [0; 4];
                bytes.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
                end = bytes.len();
            }
        }
    }
    bytes.truncate(end);
    let text = String::from_utf8(bytes).map_err(|_| InvalidNameError::Subject)?;
    if text.is_empty() { Err(InvalidNameError::Subject) } else { Ok(escaped(&text)) }
}

/// The encoding of a value, in hex.
fn parse_hex(rest: &mut Peekable<Chars<'_>>) -> Result<String, InvalidNameError> {
    let mut bytes = Vec::new();
    while let Some(high) = rest.next_if(|character| character.is_ascii_hexdigit()) {
        let digit = |character: char| character.to_digit(16).ok_or(InvalidNameError::Subject);
        let low = digit(rest.next().ok_or(InvalidNameError::Subject)?)?;
        bytes.push(u8::try_from(digit(high)? * 16 + low).map_err(|_| InvalidNameError::Subject)?);
    }
    while rest.next_if_eq(&' ').is_some() {}
    match Any::from_der(&bytes) {
        Ok(([], any)) => Ok(value(&any)),
        _ => Err(InvalidNameError::Subject),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    /// The subject of a certificate made of these attributes, as it is written.
    fn of_certificate(attributes: &[(DnType, DnValue)]) -> String {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in attributes {
            parameters.distinguished_name.push(kind.clone(), value.clone());
        }
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).unwrap();
        write(parsed.subject()).unwrap()
    }

    fn utf8(text: &str) -> DnValue {
        DnValue::Utf8String(text.to_owned())
    }

    #[test]
    fn what_means_the_same_is_written_the_same() {
        for (text, form) in [
            ("CN=svc,O=Example", "CN=svc,O=Example"),
            ("cn = svc , o = Example", "CN=svc,O=Example"),
            ("2.5.4.3=svc,2.5.4.10=Example", "CN=svc,O=Example"),
            ("CN=svc,O=Example\\, Inc.", "CN=svc,O=Example\\, Inc."),
            ("CN=a\\20b", "CN=a b"),
            ("CN=\\C3\\BC", "CN=ü"),
            ("CN=\\ a\\ ", "CN=\\ a\\ "),
            ("CN=\\#a", "CN=\\#a"),
            ("UID=x+CN=y,DC=example,DC=org", "CN=y+UID=x,DC=example,DC=org"),
            ("2.5.4.12=#0C0374797A", "2.5.4.12=tyz"),
            ("CN=a=b", "CN=a=b"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(form), "{text}");
            assert_eq!(parse(form).as_deref(), Ok(form), "the form is its own");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in [
            "",
            "svc",
            "CN",
            "CN=",
            "CN= ",
            "CN=a,",
            "CN=a;O=b",
            "CN=\"a\"",
            "CN=a\\",
            "CN=a\\x",
            "CN=a\\2",
            "CN=\\ff",
            "CN=#",
            "CN=#0c",
            "CN=#zz",
            "CN=#0c0161ff",
            "CN=a<b",
        ] {
            assert_eq!(parse(bad), Err(InvalidNameError::Subject), "{bad}");
        }
        for bad in ["XX=a", "=a", "1=a", "2..3=a", "2.05=a", "CN =a,XX=b", "/CN=a"] {
            assert_eq!(parse(bad), Err(InvalidNameError::Attribute), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_written_the_most_specific_part_first() {
        let attributes = [
            (DnType::CountryName, DnValue::PrintableString("DE".try_into().unwrap())),
            (DnType::OrganizationName, utf8("Example")),
            (DnType::CommonName, utf8("svc")),
        ];
        assert_eq!(of_certificate(&attributes), "CN=svc,O=Example,C=DE");
    }

    #[test]
    fn a_comma_in_a_value_does_not_make_another_part() {
        let forged = of_certificate(&[(DnType::CommonName, utf8("svc,O=Example"))]);
        assert_eq!(forged, "CN=svc\\,O=Example");
        assert_ne!(parse("CN=svc,O=Example").unwrap(), forged);
    }

    #[test]
    fn what_is_read_in_more_than_one_way_is_written_in_hex() {
        let value = DnValue::TeletexString("svc".try_into().unwrap());
        let form = of_certificate(&[(DnType::CommonName, value)]);
        assert_eq!(form, "CN=#1403737663");
        assert_eq!(parse(&form).unwrap(), form);
    }

    #[test]
    fn an_empty_value_is_written_so_that_a_caller_can_be_given_the_name() {
        let attributes = [(DnType::OrganizationName, utf8("")), (DnType::CommonName, utf8("svc"))];
        let form = of_certificate(&attributes);
        assert_eq!(form, "CN=svc,O=#0c00");
        assert_eq!(parse(&form).unwrap(), form);
    }

    #[test]
    fn a_type_without_a_number_makes_no_name() {
        // A sequence of one set of one attribute, whose object identifier has no bytes.
        let der = [0x30, 9, 0x31, 7, 0x30, 5, 0x06, 0, 0x0c, 1, b'a'];
        let (_, name) = X509Name::from_der(&der).unwrap();
        assert_eq!(write(&name), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_a_certificate_is_written_as_reads_back(one in "\\PC{1,20}", other in ".{1,20}") {
            let attributes =
                [(DnType::OrganizationName, utf8(&one)), (DnType::CommonName, utf8(&other))];
            let form = of_certificate(&attributes);
            prop_assert_eq!(parse(&form), Ok(form));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}") {
            if let Ok(form) = parse(&text) {
                prop_assert_eq!(parse(&form), Ok(form));
            }
        }
    }
}
