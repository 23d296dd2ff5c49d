//! Origins of web pages, as the configuration names them and as browsers send them.
//!
//! An origin is scheme, host and port (RFC 6454 §6.2). A pattern is one of them, or all below a
//! domain; what a browser sends is compared with it as text, and nothing of it is resolved.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The most bytes of a host name (RFC 1035 §2.3.4), and of a label of it.
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;

/// An origin, or every origin below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    /// `https://` or `http://`.
    scheme: &'static str,
    /// Whether labels come before `rest`.
    below: bool,
    /// Host and port as browsers write them, with a dot before when it is a domain to be below of.
    rest: Box<str>,
    /// Whether no one between a browser and these pages can change them: they come by TLS, or from
    /// the browser's own machine.
    pub trustworthy: bool,
}

/// Why a text is no pattern of origins; holds nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// `*`.
    #[error("`*` alone would let every page in: name each origin")]
    Everybody,
    /// `null`, which sandboxed frames and local files of anyone send.
    #[error("`null` is what pages of anybody can send, so it names nobody")]
    Null,
    /// No `://`.
    #[error("the scheme is missing: it begins with https:// or http://")]
    NoScheme,
    /// Another scheme than http and https.
    #[error("its scheme is neither https nor http")]
    Scheme,
    /// A user or password.
    #[error("it has a user or password")]
    User,
    /// A path, be it only a slash.
    #[error("it goes on after the host and port: leave the path, and the slash, out")]
    Path,
    /// A port that is none.
    #[error("its port is no number from 1 to 65535")]
    Port,
    /// A host that browsers write otherwise.
    #[error("its host is not as browsers send it: write the xn-- form of an international name")]
    International,
    /// A host that cannot be.
    #[error("its host is no name of letters, digits, hyphens and dots, and no IP address")]
    Host,
    /// A `*` elsewhere than in place of the first labels.
    #[error("a `*` stands for whole labels and comes first, as in https://*.example.org")]
    Star,
    /// A `*` under which everyone can have a name.
    #[error("what follows `*.` must be a domain of yours, of two labels or more")]
    TopLevel,
}

impl OriginPattern {
    /// Reads `https://app.example.org`, `http://localhost:5173` or `https://*.example.org`.
    ///
    /// # Errors
    /// [`OriginError`] says what an origin has not.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        match text {
            "*" => return Err(OriginError::Everybody),
            "null" => return Err(OriginError::Null),
            _ => {}
        }
        let (scheme, rest) = text.split_once("://").ok_or(OriginError::NoScheme)?;
        let (scheme, usual) = match scheme.to_ascii_lowercase().as_str() {
            "https" => ("https://", 443),
            "http" => ("http://", 80),
            _ => return Err(OriginError::Scheme),
        };
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(OriginError::Path);
        }
        if rest.contains('@') {
            return Err(OriginError::User);
        }
        let (host, port) = split_port(rest)?;
        let (below, host) = match host.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, host),
        };
        let host = Host::parse(host)?;
        if below && !host.may_be_shared() {
            return Err(OriginError::TopLevel);
        }
        let dot = if below { "." } else { "" };
        // Browsers leave the port of the scheme out.
        let port = port.filter(|port| *port != usual);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let trustworthy = scheme == "https://" || host.is_here();
        let rest = format!("{dot}{}{port}", host.text()).into();
        Ok(Self { scheme, below, rest, trustworthy })
    }

    /// Whether an origin, as a browser sends it, is one of these.
    pub fn admits(&self, origin: &str) -> bool {
        let Some(sent) = origin.strip_prefix(self.scheme) else { return false };
        if !self.below {
            return sent.eq_ignore_ascii_case(&self.rest);
        }
        let at = sent.len().checked_sub(self.rest.len());
        let Some((labels, rest)) = at.and_then(|at| sent.split_at_checked(at)) else {
            return false;
        };
        // What comes before the dot must be labels alone: `https://evil.org/.example.org` is no
        // origin, and a pattern must not depend on no one ever sending it.
        rest.eq_ignore_ascii_case(&self.rest) && are_labels(labels)
    }
}

/// The host and the port; the colons of an IPv6 address are none of a port.
fn split_port(rest: &str) -> Result<(&str, Option<u16>), OriginError> {
    let end = if rest.starts_with('[') {
        rest.find(']').ok_or(OriginError::Host)? + 1
    } else {
        rest.find(':').unwrap_or(rest.len())
    };
    let (host, port) = rest.split_at(end);
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.strip_prefix(':').filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let port = digits.and_then(|digits| digits.parse().ok()).filter(|port| *port > 0);
    port.map(|port| (host, Some(port))).ok_or(OriginError::Port)
}

/// A host in the one form in which browsers write it.
enum Host {
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Host {
    fn parse(text: &str) -> Result<Self, OriginError> {
        if !text.is_ascii() {
            return Err(OriginError::International);
        }
        if text.contains('*') {
            return Err(OriginError::Star);
        }
        if let Some(bare) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
            return bare.parse().map(Self::V6).map_err(|_| OriginError::Host);
        }
        if !are_labels(text) || text.len() > LONGEST_HOST {
            return Err(OriginError::Host);
        }
        let last = text.rsplit('.').next().unwrap_or(text);
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::V4).map_err(|_| OriginError::Host);
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }

    fn text(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::V4(address) => address.to_string(),
            Self::V6(address) => format!("[{address}]"),
        }
    }

    /// Whether names below it can be of one owner; no one owns `org`.
    fn may_be_shared(&self) -> bool {
        matches!(self, Self::Name(name) if name.contains('.') || name == "localhost")
    }

    fn is_here(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Self::V4(address) => address.is_loopback(),
            Self::V6(address) => address.is_loopback(),
        }
    }
}

/// Whether a text is labels of a host name with dots between: one at least, none empty.
fn are_labels(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.split('.')
        .all(|label| (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_admits_itself_and_no_other() {
        for (pattern, same, others) in [
            (
                "https://app.example.org",
                ["https://app.example.org", "https://APP.example.ORG"],
                vec![
                    "http://app.example.org",
                    "https://app.example.org:8443",
                    "https://app.example.org.evil.org",
                    "https://evil-app.example.org",
                    "https://x.app.example.org",
                    "https://app.example.org.",
                    "https://app.example.org/",
                    "https://user@app.example.org",
                    "https://app.example.orgx",
                    "https://app.example.or",
                    "HTTPS://app.example.org",
                    "app.example.org",
                    "null",
                    "",
                    "*",
                ],
            ),
            (
                "http://localhost:5173",
                ["http://localhost:5173", "http://LocalHost:5173"],
                vec!["http://localhost", "http://localhost:51730", "https://localhost:5173"],
            ),
            (
                "HTTPS://Example.ORG:443",
                ["https://example.org", "https://EXAMPLE.org"],
                // Nor is this sent by a browser: it leaves the port of the scheme out.
                vec!["https://example.org:443"],
            ),
            (
                "https://xn--bcher-kva.example",
                ["https://xn--bcher-kva.example", "https://XN--BCHER-KVA.example"],
                vec!["https://bücher.example", "https://bcher-kva.example"],
            ),
            (
                "http://[0:0:0:0:0:0:0:1]:8080",
                ["http://[::1]:8080"; 2],
                vec!["http://[::1]", "http://[::2]:8080"],
            ),
        ] {
            let read = OriginPattern::parse(pattern).unwrap();
            for origin in same {
                assert!(read.admits(origin), "{pattern} admits {origin}");
            }
            for origin in others {
                assert!(!read.admits(origin), "{pattern} does not admit {origin}");
            }
        }
    }

    #[test]
    fn a_star_stands_for_whole_labels() {
        let below = OriginPattern::parse("https://*.example.org").unwrap();
        for origin in
            ["https://a.example.org", "https://A.Example.Org", "https://a-1.b_2.example.org"]
        {
            assert!(below.admits(origin), "{origin}");
        }
        for origin in [
            "https://evilexample.org",
            "https://example.org",
            "https://.example.org",
            "https://a..example.org",
            "https://..example.org",
            "https://evil.org/.example.org",
            "https://evil.org?.example.org",
            "https://evil.org#.example.org",
            "https://evil.org:1.example.org",
            "https://evil@a.example.org",
            "https://evil.org\\.example.org",
            "https://a.example.org:8443",
            "https://a.example.org.evil.org",
            "https://é.example.org",
            "http://a.example.org",
            "https://*.example.org",
            ".example.org",
        ] {
            assert!(!below.admits(origin), "{origin}");
        }
        let with_port = OriginPattern::parse("http://*.localhost:5173").unwrap();
        assert!(with_port.admits("http://school.localhost:5173"));
        assert!(!with_port.admits("http://school.localhost"));
    }

    #[test]
    fn what_is_no_origin_is_told_apart() {
        use OriginError as I;
        for (text, why) in [
            ("*", I::Everybody),
            ("null", I::Null),
            ("", I::NoScheme),
            ("app.example.org", I::NoScheme),
            ("https:/app.example.org", I::NoScheme),
            ("htps://app.example.org", I::Scheme),
            ("file://app", I::Scheme),
            ("https://app.example.org/", I::Path),
            ("https://app.example.org/path", I::Path),
            ("https://app.example.org?x", I::Path),
            ("https://app.example.org#x", I::Path),
            ("https://user:pw@app.example.org", I::User),
            ("https://app.example.org:", I::Port),
            ("https://app.example.org:0", I::Port),
            ("https://app.example.org:65536", I::Port),
            ("https://app.example.org:+80", I::Port),
            ("https://app.example.org:*", I::Port),
            ("https://bücher.example", I::International),
            ("https://", I::Host),
            ("https://a..b", I::Host),
            ("https://example.org.", I::Host),
            ("https://a b", I::Host),
            ("https://1.2.3", I::Host),
            ("https://[::1", I::Host),
            ("https://[x]", I::Host),
            ("https://app.*.org", I::Star),
            ("https://*app.example.org", I::Star),
            ("https://*.*.example.org", I::Star),
            ("https://*", I::Star),
            ("https://*.", I::Host),
            ("https://*.org", I::TopLevel),
            ("https://*.127.0.0.1", I::TopLevel),
        ] {
            assert_eq!(OriginPattern::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_page_that_crosses_the_network_in_the_clear_can_be_changed_on_its_way() {
        for (text, trustworthy) in [
            ("https://app.example.org", true),
            ("http://localhost:5173", true),
            ("http://*.localhost", true),
            ("http://127.0.0.2", true),
            ("http://[::1]", true),
            ("http://app.example.org", false),
            ("http://10.0.0.1", false),
            ("http://localhost.example.org", false),
        ] {
            let read = OriginPattern::parse(text).unwrap();
            assert_eq!(read.trustworthy, trustworthy, "{text}");
        }
    }
}
