//! Values as the file writes them: durations, rates, addresses, names.
//!
//! Each says what is allowed, and what is wrong with a text without repeating it.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::file::reader::{Nature, Parse, ValueError, not_among};
use super::number::number_and_unit;
use crate::admin::HostName;
use crate::api::{Lifespan, RoomId};
use crate::budget::Zone;
use crate::caller::jwt::{HttpsUrl, HttpsUrlError};
use crate::caller::{Digest, KeyId};
use crate::certificate::Name;
use crate::edge::OriginPattern;
use crate::net::{AddressError, ListenAddress, Origin, UnixPath, Url, UrlError, WEB, canonical};
use crate::otlp::Endpoint;
use crate::token::TokenHash;

/// A second, a minute, an hour, a day.
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// No deadline is longer: nothing that adds one to a time may overflow.
const LONGEST: Duration = Duration::from_millis(366 * DAY);

/// Values that are texts: what is allowed, the pattern that each of them has, and the function that
/// reads them.
macro_rules! texts {
    ($($type:ty: $allowed:literal $(~ $pattern:literal)?, $read:expr;)+) => { $(
        impl Parse for $type {
            const ALLOWED: &'static str = $allowed;
            $(const PATTERN: &'static str = $pattern;)?

            fn text(text: &str) -> Result<Self, ValueError> {
                let read: Result<Self, _> = $read(text);
                read.map_err(|why| ValueError::from(why.to_string()))
            }
        }
    )+ };
}

texts! {
    String: "a string", parsed;
    jiff::Timestamp: "a time with its offset, such as \"2026-12-31T00:00:00Z\"" ~ "^[0-9]{4}-?[0-9]{2}-?[0-9]{2}[Tt ]",
        |text| parsed(text).map_err(|_: jiff::Error| OTHER);
    RoomId: "the uuid of a room", RoomId::new;
    KeyId: "the id of a key" ~ "^[0-9A-Za-z]{12}$", parsed;
    Digest: "the digest of a key" ~ "^sha256:[0-9A-Fa-f]{64}$", parsed;
    TokenHash: "the SHA-256 of a token" ~ "^(sha256:)?[0-9A-Fa-f]{64}$", parsed;
    HostName: "the name or the address of a host, such as \"gateway.example.org\"" ~ "^[A-Za-z0-9._:\\[\\]-]+$",
        parsed;
    Endpoint: "a URL such as \"https://collector.example.org:4318\"" ~ "^[Hh][Tt][Tt][Pp][Ss]?://[^@?#*]+$",
        parsed;
    OriginPattern: "an origin such as \"https://app.example.org\" or \"https://*.example.org\""
        ~ "^[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]+$", OriginPattern::parse;
    SpiffeName: "a SPIFFE id such as \"spiffe://example.org/app\"" ~ "^spiffe://[a-z0-9._-]+/[A-Za-z0-9._/-]+$",
        |text| Name::spiffe(text).map(SpiffeName);
    DnsName: "a DNS name such as \"app.example.org\"" ~ "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$", |text| Name::dns(text).map(DnsName);
    SubjectName: "a subject such as \"CN=app,O=Example\"" ~ "=", |text| Name::subject(text).map(SubjectName);
    FilePath: "the path of a file" ~ "^[^\\u0000]+$", |text: &str| match text.is_empty() || text.contains('\0') {
        true => Err("found a string that is no path"),
        false => Ok(FilePath(text.into())),
    };
    RegionName: "the name of a region, such as \"us-sv\"" ~ "^[a-z0-9-]{1,32}$", |text| {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let why = "a region has up to 32 small letters, digits and hyphens";
        spelled(text, 32, letter).map(RegionName).ok_or(why)
    };
    // A token of RFC 9110 §5.6.2.
    Pseudonym: "a name such as \"wbg-eu-1\"" ~ "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}$", |text| {
        let letter = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let why = "it has 1 to 64 letters, digits and !#$%&'*+-.^_`|~";
        spelled(text, 64, letter).map(Pseudonym).ok_or(why)
    };
    Prefix: "1 to 32 letters, digits, hyphens, underscores, dots and colons" ~ "^[A-Za-z0-9_.:-]{1,32}$", |text| {
        let letter = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        spelled(text, 32, letter).map(Prefix).ok_or(OTHER)
    };
    IssuerName: "what its tokens say in `iss`, such as \"https://idp.example.org\"" ~ "^\\S+$",
        |text| claim_text(text).map(IssuerName);
    Audience: "what its tokens say in `aud`, such as \"whiteboard\"" ~ "^\\S+$",
        |text| claim_text(text).map(Audience);
    TokenType: "what its tokens say in `typ`, such as \"at+jwt\"" ~ "^\\S+$",
        |text| claim_text(text).map(TokenType);
    HttpsUrl: "an https URL, such as \"https://idp.example.org/keys\", or an http one on loopback"
        ~ "^[Hh][Tt][Tt][Pp][Ss]?://[^@#*]+$",
        |text| parsed(text).map_err(|why: HttpsUrlError| match why {
            HttpsUrlError::Scheme => "its scheme is another: over http, anybody on the way could choose \
                                   the keys",
            HttpsUrlError::Form => OTHER,
            HttpsUrlError::Extra => "it has a user, a password or a fragment",
        });
    ServiceUrl: "a URL of scheme, host and perhaps port, such as \"https://api.netless.link\", or a \
                 Unix socket such as \"unix:/run/service.sock\""
        ~ "^([Hh][Tt][Tt][Pp][Ss]?://[^/?#@*]+/?|unix:/.*[^/])$", service_url;
    Zone: "a time zone of the IANA database, such as \"Europe/Berlin\"", |text| {
        Zone::new(text).map_err(|_| not_among(text, Zone::names().iter().map(String::as_str)))
    };
}

const OTHER: &str = "found another string";

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, T::Err> {
    text.parse()
}

/// A text of so many letters at most.
fn spelled(text: &str, most: usize, letter: impl Fn(char) -> bool) -> Option<String> {
    ((1..=most).contains(&text.len()) && text.chars().all(letter)).then(|| text.to_owned())
}

/// A text that is compared with one of a token: a space at its end would never be found.
fn claim_text(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("found an empty string"),
        _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err("found a string with a space or a control character in it")
        }
        _ => Ok(text.to_owned()),
    }
}

/// Over a Unix socket HTTP is spoken in the clear, and `Host` says `localhost`.
fn service_url(text: &str) -> Result<ServiceUrl, ValueError> {
    let Some(path) = UnixPath::of_address(text) else {
        return origin(text).map(|origin| ServiceUrl { origin, socket: None });
    };
    let path = path.map_err(|why| ValueError::from(why.to_string()))?;
    let origin = Origin::new(WEB[0], "localhost".to_owned(), None);
    Ok(ServiceUrl { origin, socket: Some(path) })
}

fn origin(text: &str) -> Result<Origin, ValueError> {
    let url = Url::parse(text, WEB).map_err(|why| match why {
        UrlError::Form | UrlError::NoHost => OTHER.into(),
        UrlError::Scheme => "its scheme is neither http nor https".into(),
        why => ValueError::from(why.to_string()),
    })?;
    if url.userinfo().is_some() {
        return Err("it has a user or password".into());
    }
    if url.target() != "/" {
        return Err("it has a path or a query".into());
    }
    Ok(url.origin().clone())
}

/// Where the whiteboard service is.
pub(super) struct ServiceUrl {
    pub(super) origin: Origin,
    pub(super) socket: Option<UnixPath>,
}

/// The path of a file.
pub(super) struct FilePath(pub(super) PathBuf);
/// Names in client certificates, by their kinds.
pub(super) struct SpiffeName(pub(super) Name);
pub(super) struct DnsName(pub(super) Name);
pub(super) struct SubjectName(pub(super) Name);
/// The name of a region.
pub(super) struct RegionName(pub(super) String);
/// The pseudonym in `Via`.
pub(super) struct Pseudonym(pub(super) String);
/// What every key in the store begins with.
pub(super) struct Prefix(pub(super) String);
/// What a JWT says in `iss` (RFC 7519 §4.1.1): compared as it is written.
pub(super) struct IssuerName(pub(super) String);
/// What a JWT says in `aud` (RFC 7519 §4.1.3).
pub(super) struct Audience(pub(super) String);
/// What a JWT says in `typ` (RFC 7515 §4.1.9).
pub(super) struct TokenType(pub(super) String);

impl Parse for bool {
    const ALLOWED: &'static str = "true or false";
    const NATURE: Nature = Nature::Boolean;

    fn boolean(value: bool) -> Result<Self, ValueError> {
        Ok(value)
    }
}

impl Parse for Duration {
    const ALLOWED: &'static str =
        "a duration such as \"500ms\", \"10s\" or \"24h\" (units ms, s, m, h, d)";
    // Some part is not zero.
    const PATTERN: &'static str = "^([0-9]+(\\.[0-9]+)?\\s*(ms|s|m|h|d)\\s*)*\
        ([0-9]*[1-9][0-9]*(\\.[0-9]+)?|[0-9]+\\.[0-9]*[1-9][0-9]*)\\s*(ms|s|m|h|d)\
        (\\s*[0-9]+(\\.[0-9]+)?\\s*(ms|s|m|h|d))*$";
    const NO_INTEGER: &'static str = "the unit is missing: found an integer";

    fn text(text: &str) -> Result<Self, ValueError> {
        let duration = Self::from_millis(millis(text)?);
        if duration > LONGEST { Err("it is longer than a year".into()) } else { Ok(duration) }
    }
}

impl Parse for Lifespan {
    const ALLOWED: &'static str =
        "a duration such as \"90s\", \"2h\" or \"24h\" (units ms, s, m, h, d), or \"permanent\"";
    const PATTERN: &'static str = "^(permanent|([0-9]+(\\.[0-9]+)?\\s*(ms|s|m|h|d)\\s*)*\
        ([0-9]*[1-9][0-9]*(\\.[0-9]+)?|[0-9]+\\.[0-9]*[1-9][0-9]*)\\s*(ms|s|m|h|d)\
        (\\s*[0-9]+(\\.[0-9]+)?\\s*(ms|s|m|h|d))*)$";
    const NO_INTEGER: &'static str = "the unit is missing: found an integer";

    fn text(text: &str) -> Result<Self, ValueError> {
        if text == "permanent" {
            return Ok(Self::Permanent);
        }
        let millis = millis(text)?;
        if millis <= Self::LONGEST_MS {
            Ok(Self::Millis(millis))
        } else {
            Err("it is longer than a token can live; write \"permanent\" for no end".into())
        }
    }
}

/// A duration of so many seconds at most.
pub(super) struct Within<const SECONDS: u64>(pub(super) Duration);

impl<const SECONDS: u64> Parse for Within<SECONDS> {
    const PATTERN: &'static str = Duration::PATTERN;

    fn allowed() -> ValueError {
        format!("{}, {SECONDS}s at most", Duration::ALLOWED).into()
    }

    fn text(text: &str) -> Result<Self, ValueError> {
        let duration =
            Some(Duration::text(text)?).filter(|one| *one <= Duration::from_secs(SECONDS));
        duration.map(Self).ok_or_else(|| "it is longer".into())
    }

    fn integer(number: i64) -> Result<Self, ValueError> {
        Duration::integer(number).map(Self)
    }

    fn schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "title": Self::allowed(), "pattern": Self::PATTERN,
            "x-range": format!("`\"{SECONDS}s\"` at most"),
        })
    }
}

/// The milliseconds of `90s`, `1m30s` or `1.5s`: parts from the longest unit to the shortest, of which
/// the last may have a point.
fn millis(text: &str) -> Result<u64, ValueError> {
    let (mut rest, mut total, mut above) = (text, 0_u64, u64::MAX);
    loop {
        let (number, after) = number_and_unit(rest)?;
        let (decimals, after) = match after.strip_prefix('.') {
            None => ("", after),
            Some(after) => {
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                if !(1..=9).contains(&digits) {
                    return Err("from one to nine digits stand behind a point".into());
                }
                (&after[..digits], after[digits..].trim_start())
            }
        };
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, next) = after.split_at(letters);
        let unit = match unit {
            "ms" => 1,
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            "" => return Err("the unit is missing".into()),
            _ => return Err("its unit is none of ms, s, m, h, d".into()),
        };
        if unit >= above {
            return Err("its units go from the longest to the shortest, each once".into());
        }
        let part = number.checked_mul(unit).and_then(|part| part.checked_add(total));
        total = part.ok_or("it is too long")?;
        above = unit;
        rest = next.trim_start();
        if !decimals.is_empty() {
            let scale = 10_u64.pow(u32::try_from(decimals.len()).unwrap_or(0));
            let fine = unit * decimals.parse::<u64>().unwrap_or(0);
            if fine % scale != 0 {
                return Err("it is finer than a millisecond".into());
            }
            total = total.checked_add(fine / scale).ok_or("it is too long")?;
            if !rest.is_empty() {
                return Err("a number with a point is the last one".into());
            }
        }
        match (rest, total) {
            ("", 0) => return Err("it must be longer than zero".into()),
            ("", total) => return Ok(total),
            _ => {}
        }
    }
}

/// So many in a period.
pub(super) struct Frequency {
    pub(super) requests: NonZeroU32,
    pub(super) period: Duration,
}

impl Parse for Frequency {
    const ALLOWED: &'static str = "a rate such as \"200/s\" (per s, m, h or d)";
    const PATTERN: &'static str = "^[0-9]*[1-9][0-9]*\\s*/\\s*[smhd]\\s*$";

    fn text(text: &str) -> Result<Self, ValueError> {
        let (number, per) = number_and_unit(text)?;
        let period = match per.strip_prefix('/').map(str::trim) {
            Some("s") => SECOND,
            Some("m") => MINUTE,
            Some("h") => HOUR,
            Some("d") => DAY,
            None if per.is_empty() => return Err("the period is missing, as in \"5/s\"".into()),
            _ => return Err("its period is none of /s, /m, /h, /d".into()),
        };
        let period = Duration::from_millis(period);
        let requests = u32::try_from(number).ok().and_then(NonZeroU32::new);
        // The limiter counts in nanoseconds: more than one request in each is no limit.
        let requests = requests.filter(|count| u128::from(count.get()) <= period.as_nanos());
        let requests = requests.ok_or("it is zero, or more than any limiter can count")?;
        Ok(Self { requests, period })
    }

    fn integer(_number: i64) -> Result<Self, ValueError> {
        Err("the period is missing, as in \"5/s\": found an integer".into())
    }
}

impl Parse for ListenAddress {
    const ALLOWED: &'static str =
        "an address such as \"127.0.0.1:8080\", \"localhost:8080\" or \":8080\"";
    const PATTERN: &'static str = "^(([0-9.]+|\\[[0-9A-Fa-f:.]+(%[0-9]+)?\\]|[Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt])?:[0-9]+|unix:.+)$";

    fn text(text: &str) -> Result<Self, ValueError> {
        text.parse().map_err(|why: AddressError| why.to_string().into())
    }

    fn integer(_number: i64) -> Result<Self, ValueError> {
        Err("found an integer: a port is written with a colon before it, as in \":8080\"".into())
    }
}

impl Parse for ipnet::IpNet {
    const ALLOWED: &'static str = "a network such as \"10.0.0.0/8\", or an IP address";
    const PATTERN: &'static str = "^[0-9A-Fa-f]*[.:][0-9A-Fa-f:.]*(/[0-9]{1,3})?$";

    fn text(text: &str) -> Result<Self, ValueError> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(Self::from));
        network.map(canonical).map_err(|_| "found another string".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_an_end() {
        for (text, millis) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("24h", 86_400_000),
            ("2 m", 120_000),
            ("1m30s", 90_000),
            ("1m 30s", 90_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("1.5s", 1_500),
            ("0.25s", 250),
            ("1h0.5m", 3_630_000),
            ("0m30s", 30_000),
        ] {
            assert_eq!(Duration::text(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, why) in [
            ("10", "the unit is missing"),
            ("10min", "none of ms, s, m, h, d"),
            ("0s", "longer than zero"),
            ("367d", "longer than a year"),
            ("99999999999999999999s", "too large"),
            ("9999999999999999999d", "too long"),
            ("-1s", "does not begin"),
            ("1m30", "the unit is missing"),
            ("30s1m", "from the longest to the shortest"),
            ("1s1s", "from the longest to the shortest"),
            ("1.5m30s", "with a point is the last one"),
            ("1.0005s", "finer than a millisecond"),
            ("0.5ms", "finer than a millisecond"),
            ("1.s", "digits stand behind a point"),
            (".5s", "does not begin"),
            ("0.0s", "longer than zero"),
            ("1e3s", "none of ms, s, m, h, d"),
            ("1m-30s", "does not begin"),
            ("", "does not begin"),
        ] {
            let said = Duration::text(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        assert!(Duration::integer(10).unwrap_err().contains("the unit is missing"));
    }

    #[test]
    fn a_lifespan_may_have_no_end() {
        assert_eq!(Lifespan::text("permanent"), Ok(Lifespan::Permanent));
        assert_eq!(Lifespan::text("2h"), Ok(Lifespan::Millis(7_200_000)));
        assert!(Lifespan::text("9999999999d").is_err());
        assert!(Lifespan::text("0s").is_err());
    }

    #[test]
    fn a_rate_has_a_period() {
        let rate = Frequency::text("300/m").ok().unwrap();
        assert_eq!((rate.requests.get(), rate.period), (300, Duration::from_secs(60)));
        let why = |text| Frequency::text(text).err().unwrap().into_owned();
        assert!(why("5").contains("the period is missing"));
        assert!(why("5/w").contains("none of /s, /m, /h, /d"));
        for text in ["0/s", "4294967295/s", "4294967296/h", "/s", "a/s"] {
            assert!(Frequency::text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_told_what_it_lacks() {
        assert!(ipnet::IpNet::text("::1").is_ok() && ipnet::IpNet::text("10.0.0.0/33").is_err());
        for (text, network) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(ipnet::IpNet::text(text).unwrap().to_string(), network, "{text}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_alone() {
        for (text, tls, host, port, authority) in [
            ("https://api.netless.link", true, "api.netless.link", 443, "api.netless.link"),
            ("https://API.netless.link:443/", true, "api.netless.link", 443, "api.netless.link"),
            ("http://127.0.0.1:8081", false, "127.0.0.1", 8081, "127.0.0.1:8081"),
            ("http://[::1]", false, "::1", 80, "[::1]"),
            ("https://[::1]:8443", true, "::1", 8443, "[::1]:8443"),
        ] {
            let (host, authority) = (host.to_owned(), authority.to_owned());
            assert_eq!(origin(text), Ok(Origin { tls, host, port, authority }), "{text}");
        }
        for (text, why) in [
            ("api.netless.link", "scheme"),
            ("/v5", "scheme"),
            ("ftp://a", "neither http nor https"),
            ("https://user:pw@a", "user or password"),
            ("https://a/v5", "path"),
            ("https://a?x", "query"),
            ("https://a/#x", "fragment"),
            ("https://a:0", "port"),
            ("https://a:99999", "port"),
            ("https://a:", "port"),
            ("https://", "found another string"),
            ("", "found another string"),
        ] {
            let said = origin(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn an_endpoint_is_a_url_without_the_path_of_a_signal() {
        for text in [
            "http://127.0.0.1:4318",
            "https://collector.example.org",
            "https://otlp.example.org/otlp/",
            "http://[::1]:4318",
        ] {
            let endpoint = Endpoint::text(text).unwrap();
            assert_eq!(endpoint.to_string(), text.trim_end_matches('/'));
        }
        for (text, why) in [
            ("collector:4318", "no absolute URL"),
            ("collector", "no absolute URL"),
            ("grpc://collector:4317", "neither http nor https"),
            ("http://collector:4318/v1/traces", "the path of a signal"),
            ("https://user:word@collector", "a user"),
            ("https://collector?key=x", "a query"),
            ("https://collector:0", "no absolute URL"),
            ("https://collector#x", "a fragment"),
        ] {
            let said = Endpoint::text(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
