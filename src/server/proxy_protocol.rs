//! The header of the PROXY protocol, in which a proxy of TCP says who has connected to it: version 1,
//! a line, and version 2, of bytes (haproxy.org, proxy-protocol.txt).
//!
//! Bytes in, an address out, and how many of the bytes that were; no I/O. The parsers that others have
//! written take numbers with a sign or with zeros before them, or want the whole header in one
//! piece, so it is read here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most bytes of a header. One of version 2 could have 64 KiB of values that no one reads here; a
/// proxy that sends the certificate of its client needs some of them.
pub const LONGEST: usize = 4096;

/// The most bytes of a line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// What a line of version 1 begins with.
const LINE: &[u8] = b"PROXY ";

/// What a header of version 2 begins with: no other protocol does.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and protocol, and the length of the rest.
const FIXED: usize = 16;

/// Who is said to have connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// This address.
    Address(SocketAddr),
    /// The proxy itself (its own checks, `LOCAL`), or someone without an IP address (`UNKNOWN`,
    /// `UNSPEC`, a Unix socket).
    Proxy,
}

/// What bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// The beginning of a header; all of them belong to it.
    Partial,
    /// They begin with a header.
    Whole {
        /// Who has connected.
        source: ProxySource,
        /// How many bytes it has.
        length: usize,
    },
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub enum ProxyHeaderError {
    /// They are something else.
    Absent,
    /// More than [`LONGEST`] bytes.
    Long,
    /// A line that is not as the protocol says.
    Line,
    /// A header of version 2 that is not as the protocol says.
    Binary,
    /// It is about datagrams.
    Datagram,
}

impl ProxyHeaderError {
    /// What the peer is told.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Absent => {
                "this peer begins each connection with a PROXY protocol header, and none came"
            }
            Self::Long => "the PROXY protocol header has more than 4096 bytes",
            Self::Line => "the PROXY protocol header of version 1 is not valid",
            Self::Binary => "the PROXY protocol header of version 2 is not valid",
            Self::Datagram => {
                "the PROXY protocol header is about datagrams, and this is a connection"
            }
        }
    }
}

impl ProxyHeader {
    /// Reads a header, as far as it is there.
    ///
    /// # Errors
    /// [`ProxyHeaderError`] as soon as no more bytes could make it one.
    pub fn read(bytes: &[u8]) -> Result<Self, ProxyHeaderError> {
        let begins = |mark: &[u8]| bytes.starts_with(mark) || mark.starts_with(bytes);
        if begins(LINE) {
            line(bytes)
        } else if begins(SIGNATURE) {
            binary(bytes)
        } else {
            Err(ProxyHeaderError::Absent)
        }
    }

    /// Whether bytes look like one.
    pub fn is_begun(bytes: &[u8]) -> bool {
        bytes.starts_with(LINE) || bytes.starts_with(SIGNATURE)
    }
}

/// Version 1.
fn line(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        let over = within.len() == LONGEST_LINE;
        return if over { Err(ProxyHeaderError::Line) } else { Ok(ProxyHeader::Partial) };
    };
    let source = within[..end].strip_suffix(b"\r").and_then(|line| source(&line[LINE.len()..]));
    let source = source.ok_or(ProxyHeaderError::Line)?;
    Ok(ProxyHeader::Whole { source, length: end + 1 })
}

/// What a line says behind its first word.
fn source(line: &[u8]) -> Option<ProxySource> {
    let line = str::from_utf8(line).ok()?;
    // What follows that word is nothing to go by.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(ProxySource::Proxy);
    }
    let mut words = line.split(' ');
    let ip = |text: &str, four: bool| {
        let four: Option<IpAddr> = if four {
            text.parse().ok().map(IpAddr::V4)
        } else {
            text.parse().ok().map(IpAddr::V6)
        };
        four
    };
    let four = match words.next()? {
        "TCP4" => true,
        "TCP6" => false,
        _ => return None,
    };
    let (from, _) = (ip(words.next()?, four)?, ip(words.next()?, four)?);
    let (port, _) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    Some(ProxySource::Address(SocketAddr::new(from.to_canonical(), port)))
}

/// A number without a sign, and without zeros before it.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// Version 2.
fn binary(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    use ProxyHeaderError::{Binary, Datagram, Long};

    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else {
        // What is there already may be wrong.
        return match bytes.get(SIGNATURE.len()) {
            Some(command) if !matches!(command, 0x20 | 0x21) => Err(Binary),
            _ => Ok(ProxyHeader::Partial),
        };
    };
    let (command, family) = (fixed[12], fixed[13]);
    let rest_length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if !matches!(command, 0x20 | 0x21) || family >> 4 > 3 || family & 0xF > 2 {
        return Err(Binary);
    }
    let length = FIXED + rest_length;
    if length > LONGEST {
        return Err(Long);
    }
    let Some(rest) = rest.get(..rest_length) else { return Ok(ProxyHeader::Partial) };
    let whole = |source| Ok(ProxyHeader::Whole { source, length });
    // The proxy speaks for itself: whatever follows is skipped.
    if command == 0x20 {
        return whole(ProxySource::Proxy);
    }
    if family & 0xF == 2 {
        return Err(Datagram);
    }
    let (source, values) = match (family >> 4, family & 0xF) {
        (1, 1) => {
            let (at, values) = rest.split_at_checked(12).ok_or(Binary)?;
            let ip = Ipv4Addr::new(at[0], at[1], at[2], at[3]);
            let port = u16::from_be_bytes([at[8], at[9]]);
            (ProxySource::Address(SocketAddr::from((ip, port))), values)
        }
        (2, 1) => {
            let (at, values) = rest.split_at_checked(36).ok_or(Binary)?;
            let ip: [u8; 16] = at[..16].try_into().map_err(|_| Binary)?;
            let port = u16::from_be_bytes([at[32], at[33]]);
            let ip = IpAddr::from(Ipv6Addr::from(ip)).to_canonical();
            (ProxySource::Address(SocketAddr::new(ip, port)), values)
        }
        (3, 1) => (ProxySource::Proxy, rest.get(216..).ok_or(Binary)?),
        // Unspecified: nothing is known of what follows.
        _ => return whole(ProxySource::Proxy),
    };
    if are_values(values) { whole(source) } else { Err(Binary) }
}

/// Whether these are whole values, each with a kind, a length and so many bytes.
fn are_values(mut bytes: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = bytes {
        let Some(left) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else {
            return false;
        };
        bytes = left;
    }
    bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    const FOUR: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 80];

    fn six(source: Ipv6Addr) -> Vec<u8> {
        [&source.octets()[..], &[0; 16], &[0x30, 0x39, 0, 80]].concat()
    }

    /// Of a whole header with a request behind it: who it names.
    fn named(header: &[u8]) -> Result<String, ProxyHeaderError> {
        let request = [header, b"GET / HTTP/1.1\r\n"].concat();
        match ProxyHeader::read(&request)? {
            ProxyHeader::Partial => Ok("more".to_owned()),
            ProxyHeader::Whole { source, length } => {
                assert_eq!(length, header.len());
                Ok(match source {
                    ProxySource::Proxy => "the proxy".to_owned(),
                    ProxySource::Address(address) => address.to_string(),
                })
            }
        }
    }

    #[test]
    fn a_header_names_who_has_connected() {
        let text = |line: &str| line.as_bytes().to_vec();
        let value = [&FOUR[..], &[4, 0, 2, 1, 1]].concat();
        for (header, who) in [
            (text("PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n"), "192.0.2.7:12345"),
            (text("PROXY TCP6 2001:db8::7 ::1 0 65535\r\n"), "[2001:db8::7]:0"),
            (text("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n"), "192.0.2.7:1"),
            (text("PROXY UNKNOWN\r\n"), "the proxy"),
            (text("PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n"), "the proxy"),
            (v2(0x21, 0x11, &FOUR), "192.0.2.7:12345"),
            (v2(0x21, 0x11, &value), "192.0.2.7:12345"),
            (v2(0x21, 0x21, &six("2001:db8::7".parse().unwrap())), "[2001:db8::7]:12345"),
            (v2(0x21, 0x21, &six("::ffff:192.0.2.7".parse().unwrap())), "192.0.2.7:12345"),
            (v2(0x20, 0x00, &[]), "the proxy"),
            (v2(0x20, 0x11, b"whatever"), "the proxy"),
            (v2(0x21, 0x00, b"whatever"), "the proxy"),
            (v2(0x21, 0x31, &[b'x'; 216]), "the proxy"),
        ] {
            assert_eq!(named(&header).as_deref(), Ok(who), "{}", header.escape_ascii());
            // However little of it is there, it is not yet one and could still be.
            for length in 0..header.len() {
                let read = ProxyHeader::read(&header[..length]);
                assert_eq!(read, Ok(ProxyHeader::Partial), "{}", header[..length].escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_not_exactly_a_header_is_refused() {
        use ProxyHeaderError::{Absent, Binary, Datagram, Line, Long};

        let text = |line: &str| line.as_bytes().to_vec();
        let short = [&FOUR[..], &[4, 0, 9, 1, 1]].concat();
        for (header, why) in [
            (text("GET / HTTP/1.1\r\n"), Absent),
            (text("PRI * HTTP/2.0\r\n"), Absent),
            (text("proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n"), Absent),
            (vec![0x16, 3, 1], Absent),
            (text("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n"), Line),
            (text("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n"), Line),
            (text("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n"), Line),
            (text("PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n"), Line),
            (text("PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n"), Line),
            (text("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n"), Line),
            (text("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n"), Line),
            (text("PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n"), Line),
            (text("PROXY TCP4 ::1 2.2.2.2 1 2\r\n"), Line),
            (text("PROXY TCP6 1.1.1.1 ::1 1 2\r\n"), Line),
            (text("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n"), Line),
            (text("PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n"), Line),
            (text("PROXY UNKNOWNX\r\n"), Line),
            (text("PROXY \r\n"), Line),
            (text(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(100))), Line),
            (v2(0x11, 0x11, &FOUR), Binary),
            (v2(0x22, 0x11, &FOUR), Binary),
            (v2(0x21, 0x41, &FOUR), Binary),
            (v2(0x21, 0x13, &FOUR), Binary),
            (v2(0x21, 0x12, &FOUR), Datagram),
            (v2(0x21, 0x11, &FOUR[..11]), Binary),
            (v2(0x21, 0x21, &FOUR), Binary),
            (v2(0x21, 0x31, &[0; 215]), Binary),
            (v2(0x21, 0x11, &short), Binary),
            (v2(0x21, 0x11, &[&FOUR[..], &[4]].concat()), Binary),
            (v2(0x21, 0x11, &[0; LONGEST]), Long),
            (v2(0x20, 0x00, &[0; 65_535]), Long),
        ] {
            assert_eq!(
                named(&header),
                Err(why),
                "{}",
                header[..header.len().min(80)].escape_ascii()
            );
        }
    }

    #[test]
    fn the_longest_header_is_taken() {
        let values = LONGEST - FIXED - FOUR.len() - 3;
        let length = u16::try_from(values).unwrap().to_be_bytes();
        let rest = [&FOUR[..], &[0xE0], &length, &vec![7; values]].concat();
        let header = v2(0x21, 0x11, &rest);
        assert_eq!(header.len(), LONGEST);
        assert_eq!(named(&header).as_deref(), Ok("192.0.2.7:12345"));
    }
}
