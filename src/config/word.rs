//! Values that are one of a few words, and those that only one section takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::{Method, StatusCode};

use super::value::{Nature, Parse, Reason, one_of};
use crate::api::{Priority, Role, TargetKind, TokenKind, UnknownFields};
use crate::budget::{BudgetUnit, Period, Whose};
use crate::caller::jwt::{Algorithm, HttpsUrl, InvalidUrl};
use crate::certificate::Name;
use crate::edge::{ClientField, OriginPattern};
use crate::failure;
use crate::net::{Origin, Url, UrlError, WEB};
use crate::policy::Excess;
use crate::telemetry::{AccessLog, AuditFile, AuditMode, Format, Level};
use crate::token::KeyState;

/// A type whose values are words of the file.
macro_rules! words {
    ($type:ty: $allowed:literal, $($word:literal => $value:expr),+ $(,)?) => {
        impl Parse for $type {
            const ALLOWED: &'static str = $allowed;

            fn text(text: &str) -> Result<Self, Reason> {
                one_of(text, &[$(($word, $value)),+])
            }
        }
    };
}

words! { failure::Profile: "\"documented\" or \"extended\"",
    "documented" => Self::Documented,
    "extended" => Self::Extended,
}

words! { UnknownFields: "\"pass\" or \"refuse\"",
    "pass" => Self::Pass,
    "refuse" => Self::Refuse,
}

words! { Level: "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"",
    "error" => Self::Error,
    "warn" => Self::Warn,
    "info" => Self::Info,
    "debug" => Self::Debug,
    "trace" => Self::Trace,
}

words! { Format: "\"auto\", \"text\" or \"json\"",
    "auto" => Self::Auto,
    "text" => Self::Text,
    "json" => Self::Json,
}

words! { ClientField: "\"x-forwarded-for\" or \"forwarded\"",
    "x-forwarded-for" => Self::XForwardedFor,
    "forwarded" => Self::Forwarded,
}

words! { AuditMode: "\"best_effort\" or \"required\"",
    "required" => Self::Required,
    "best_effort" => Self::BestEffort,
}

words! { KeyState: "\"active\", \"verify_only\" or \"retired\"",
    "active" => Self::Active,
    "verify_only" => Self::VerifyOnly,
    "retired" => Self::Retired,
}

words! { Role: "\"reader\", \"writer\" or \"admin\"",
    "admin" => Self::Admin,
    "writer" => Self::Writer,
    "reader" => Self::Reader,
}

words! { Priority: "\"low\", \"normal\" or \"high\"",
    "high" => Self::High,
    "normal" => Self::Normal,
    "low" => Self::Low,
}

words! { Excess: "\"clamp\" or \"refuse\"",
    "clamp" => Self::Clamp,
    "refuse" => Self::Refuse,
}

words! { BudgetUnit: "\"requests\", \"tokens\" or \"conversions\"",
    "requests" => Self::Requests,
    "tokens" => Self::Tokens,
    "conversions" => Self::Conversions,
}

words! { Period: "\"hour\", \"day\" or \"month\"",
    "hour" => Self::Hour,
    "day" => Self::Day,
    "month" => Self::Month,
}

words! { Whose: "\"caller\" or \"profile\"",
    "caller" => Self::Caller,
    "profile" => Self::Profile,
}

words! { Algorithm:
    "\"RS256\", \"RS384\", \"RS512\", \"PS256\", \"PS384\", \"PS512\", \"ES256\", \"ES384\", \"Ed25519\", \"EdDSA\" or \"HS256\"",
    "RS256" => Self::Rs256,
    "RS384" => Self::Rs384,
    "RS512" => Self::Rs512,
    "PS256" => Self::Ps256,
    "PS384" => Self::Ps384,
    "PS512" => Self::Ps512,
    "ES256" => Self::Es256,
    "ES384" => Self::Es384,
    "EdDSA" => Self::EdDsa,
    "Ed25519" => Self::EdDsa,
    "HS256" => Self::Hs256,
}

/// Which bodies are taken: `strict` wants them labelled.
#[derive(Clone, Copy)]
pub(super) enum ContentType {
    Any,
    Strict,
}

words! { ContentType: "\"any\" or \"strict\"",
    "any" => Self::Any,
    "strict" => Self::Strict,
}

/// Whether clients must have a certificate: `require` ends the handshake of those that have none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientAuth {
    Request,
    Require,
}

words! { ClientAuth: "\"request\" or \"require\"",
    "request" => Self::Request,
    "require" => Self::Require,
}

/// What an added operation takes as a token.
#[derive(Clone, Copy)]
pub(super) enum Token {
    Kind(TokenKind),
    None,
}

words! { Token: "\"sdk\", \"room\", \"task\" or \"none\"",
    "sdk" => Self::Kind(TokenKind::Sdk),
    "room" => Self::Kind(TokenKind::Room),
    "task" => Self::Kind(TokenKind::Task),
    "none" => Self::None,
}

/// What an added operation takes as a body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyKind {
    None,
    Json,
    Opaque,
}

words! { BodyKind: "\"none\", \"json\" or \"opaque\"",
    "none" => Self::None,
    "json" => Self::Json,
    "opaque" => Self::Opaque,
}

words! { TargetKind: "\"room\" or \"task\"",
    "room" => Self::Room,
    "task" => Self::Task,
}

/// The method of an added operation.
#[derive(Clone)]
pub(super) struct AddedMethod(pub(super) Method);

impl Parse for AddedMethod {
    const ALLOWED: &'static str = "\"GET\", \"POST\", \"PUT\", \"PATCH\" or \"DELETE\"";

    fn text(text: &str) -> Result<Self, Reason> {
        let words = [("GET", 0), ("POST", 1), ("PUT", 2), ("PATCH", 3), ("DELETE", 4)];
        let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        one_of(text, &words).map(|index| Self(methods[index].clone()))
    }
}

/// The status of a limit answer.
pub(super) struct LimitStatus(pub(super) StatusCode);

impl Parse for LimitStatus {
    const ALLOWED: &'static str = "403 or 429";
    const NATURE: Nature = Nature::Integer;

    fn integer(number: i64) -> Result<Self, Reason> {
        match number {
            403 => Ok(Self(StatusCode::FORBIDDEN)),
            429 => Ok(Self(StatusCode::TOO_MANY_REQUESTS)),
            _ => Err("found another integer".into()),
        }
    }
}

/// The status of an added operation's success.
pub(super) struct Success(pub(super) StatusCode);

impl Parse for Success {
    const ALLOWED: &'static str = "200 or 201";
    const NATURE: Nature = Nature::Integer;

    fn integer(number: i64) -> Result<Self, Reason> {
        match number {
            200 => Ok(Self(StatusCode::OK)),
            201 => Ok(Self(StatusCode::CREATED)),
            _ => Err("found another integer".into()),
        }
    }
}

/// The address of the admin listener, or none.
pub(super) struct AdminAddress(pub(super) Option<SocketAddr>);

impl Parse for AdminAddress {
    const ALLOWED: &'static str = "an address such as \"127.0.0.1:9090\", or \"off\"";

    fn text(text: &str) -> Result<Self, Reason> {
        match text {
            // What a variable can say of `false`.
            "off" | "false" => Ok(Self(None)),
            _ => SocketAddr::text(text).map(|address| Self(Some(address))),
        }
    }

    fn boolean(value: bool) -> Result<Self, Reason> {
        if value { Err("found true".into()) } else { Ok(Self(None)) }
    }

    fn integer(number: i64) -> Result<Self, Reason> {
        SocketAddr::integer(number).map(|address| Self(Some(address)))
    }
}

/// Where access lines go.
pub(super) struct Access(pub(super) AccessLog);

impl Parse for Access {
    const ALLOWED: &'static str = "\"stdout\", \"off\", or the path of a file, with a `/` in it";

    fn text(text: &str) -> Result<Self, Reason> {
        if let Some(path) = path(text) {
            return Ok(Self(AccessLog::File(path)));
        }
        let off = one_of(text, &[("stdout", false), ("off", true)])?;
        Ok(Self(if off { AccessLog::Off } else { AccessLog::Stdout }))
    }
}

/// Where records of tokens go.
pub(super) struct AuditPlace(pub(super) AuditFile);

impl Parse for AuditPlace {
    const ALLOWED: &'static str = "\"stdout\", or the path of a file, with a `/` in it";

    fn text(text: &str) -> Result<Self, Reason> {
        match path(text) {
            Some(path) => Ok(Self(AuditFile::Path(path))),
            None => one_of(text, &[("stdout", ())]).map(|()| Self(AuditFile::Stdout)),
        }
    }
}

/// A path among words: with a slash, so that a mistyped word is not taken for a file.
fn path(text: &str) -> Option<PathBuf> {
    let path = text.contains('/') && !text.ends_with('/') && !text.contains('\0');
    path.then(|| PathBuf::from(text))
}

/// The path of a file.
pub(super) struct FilePath(pub(super) PathBuf);

impl Parse for FilePath {
    const ALLOWED: &'static str = "the path of a file";

    fn text(text: &str) -> Result<Self, Reason> {
        if text.is_empty() || text.contains('\0') {
            return Err("found a string that is no path".into());
        }
        Ok(Self(PathBuf::from(text)))
    }
}

/// A type whose values are names in client certificates.
macro_rules! name {
    ($type:ident, $read:path, $allowed:literal) => {
        #[doc = concat!("Written as ", $allowed, ".")]
        pub(super) struct $type(pub(super) Name);

        impl Parse for $type {
            const ALLOWED: &'static str = $allowed;

            fn text(text: &str) -> Result<Self, Reason> {
                $read(text).map(Self).map_err(|why| why.to_string().into())
            }
        }
    };
}

name!(SpiffeName, Name::spiffe, "a SPIFFE id such as \"spiffe://example.org/app\"");
name!(DnsName, Name::dns, "a DNS name such as \"app.example.org\"");
name!(SubjectName, Name::subject, "a subject such as \"CN=app,O=Example\"");

/// The name of a region.
pub(super) struct RegionName(pub(super) String);

impl Parse for RegionName {
    const ALLOWED: &'static str = "the name of a region, such as \"us-sv\"";

    fn text(text: &str) -> Result<Self, Reason> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if (1..=32).contains(&text.len()) && text.chars().all(letter) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a region has up to 32 small letters, digits and hyphens".into())
        }
    }
}

/// The pseudonym in `Via`: a token of RFC 9110 §5.6.2.
pub(super) struct Pseudonym(pub(super) String);

impl Parse for Pseudonym {
    const ALLOWED: &'static str = "a name such as \"wbg-eu-1\"";

    fn text(text: &str) -> Result<Self, Reason> {
        let letter = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(letter) {
            Ok(Self(text.to_owned()))
        } else {
            Err("it has 1 to 64 letters, digits and !#$%&'*+-.^_`|~".into())
        }
    }
}

/// What a JWT says in `iss` (RFC 7519 §4.1.1): compared as it is written.
pub(super) struct IssuerName(pub(super) String);

impl Parse for IssuerName {
    const ALLOWED: &'static str =
        "what its tokens say in `iss`, such as \"https://idp.example.org\"";

    fn text(text: &str) -> Result<Self, Reason> {
        claim_text(text).map(Self)
    }
}

/// What a JWT says in `aud` (RFC 7519 §4.1.3).
pub(super) struct Audience(pub(super) String);

impl Parse for Audience {
    const ALLOWED: &'static str = "what its tokens say in `aud`, such as \"whiteboard\"";

    fn text(text: &str) -> Result<Self, Reason> {
        claim_text(text).map(Self)
    }
}

/// What a JWT says in `typ` (RFC 7515 §4.1.9).
pub(super) struct TokenType(pub(super) String);

impl Parse for TokenType {
    const ALLOWED: &'static str = "what its tokens say in `typ`, such as \"at+jwt\"";

    fn text(text: &str) -> Result<Self, Reason> {
        claim_text(text).map(Self)
    }
}

/// A text that is compared with one of a token: a space at its end would never be found.
fn claim_text(text: &str) -> Result<String, Reason> {
    if text.is_empty() {
        return Err("found an empty string".into());
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("found a string with a space or a control character in it".into());
    }
    Ok(text.to_owned())
}

impl Parse for HttpsUrl {
    const ALLOWED: &'static str =
        "an https URL, such as \"https://idp.example.org/keys\", or an http one on loopback";

    fn text(text: &str) -> Result<Self, Reason> {
        text.parse().map_err(|why| match why {
            InvalidUrl::Scheme => {
                "its scheme is another: over http, anybody on the way could choose the keys".into()
            }
            InvalidUrl::Form => "found another string".into(),
            InvalidUrl::Extra => "it has a user, a password or a fragment".into(),
        })
    }
}

impl Parse for Origin {
    const ALLOWED: &'static str =
        "a URL of scheme, host and perhaps port, such as \"https://api.netless.link\"";

    fn text(text: &str) -> Result<Self, Reason> {
        let url = Url::parse(text, WEB).map_err(|why| match why {
            UrlError::Form | UrlError::NoHost => "found another string".into(),
            UrlError::Scheme => "its scheme is neither http nor https".into(),
            why => Reason::from(why.to_string()),
        })?;
        if url.userinfo().is_some() {
            return Err("it has a user or password".into());
        }
        if url.target() != "/" {
            return Err("it has a path or a query".into());
        }
        Ok(url.origin().clone())
    }
}

impl Parse for OriginPattern {
    const ALLOWED: &'static str =
        "an origin such as \"https://app.example.org\" or \"https://*.example.org\"";

    fn text(text: &str) -> Result<Self, Reason> {
        Self::parse(text).map_err(|why| why.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(Origin::text(text), Ok(Origin { tls, host, port, authority }), "{text}");
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
            let said = Origin::text(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }

    #[test]
    fn a_mistyped_word_is_no_file() {
        assert!(matches!(Access::text("./access.log"), Ok(Access(AccessLog::File(_)))));
        let said = Access::text("stdotu").err().unwrap();
        assert!(said.contains("did you mean \"stdout\"?"), "{said}");
        assert!(Access::text("access.log").is_err());
        assert!(matches!(AuditPlace::text("stdout"), Ok(AuditPlace(AuditFile::Stdout))));
        assert!(AuditPlace::text("off").is_err());
    }

    #[test]
    fn the_admin_listener_can_be_left_out() {
        assert!(matches!(AdminAddress::boolean(false), Ok(AdminAddress(None))));
        assert!(matches!(AdminAddress::text("off"), Ok(AdminAddress(None))));
        assert!(AdminAddress::boolean(true).is_err());
    }
}
