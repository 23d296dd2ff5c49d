//! The values of arguments of the command line, parsed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::api::{Lifespan, Role, TokenKind};
use crate::net::{Origin, UnixPath, Url, WEB};

pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|_| "a duration is a number with a unit, such as 500ms or 2s")?;
    Duration::try_from(span).map_err(|_| "a duration is not negative")
}

/// A time ahead, which is days more often than hours.
pub(super) fn span(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "a time is a number with a unit, such as 14d, 48h or 2w";
    let span: jiff::Span = text.parse().map_err(|_| FORM)?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let time = span.to_duration(relative).map_err(|_| FORM)?;
    Duration::try_from(time).map_err(|_| "a time ahead is not negative")
}

pub(super) fn kinds() -> impl TypedValueParser<Value = TokenKind> {
    let find = |text: String| TokenKind::ALL.into_iter().find(|kind| kind.as_str() == text);
    PossibleValuesParser::new(TokenKind::ALL.map(TokenKind::as_str))
        .try_map(move |text| find(text).ok_or("a kind is one of sdk, room, task"))
}

pub(super) fn roles() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|text| text.parse::<Role>())
}

/// A name of the configuration. Upper case is refused because the environment, from which
/// settings come as well, cannot tell it from lower case.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    let inner = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if text.bytes().all(inner) && text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err(
            "a name has lower-case letters, digits, `_` and `-`, and begins with one of the first two",
        )
    }
}

pub(super) fn lifespan(text: &str) -> Result<Lifespan, &'static str> {
    const FORM: &str =
        "a lifespan is a number with a unit, such as 90s, 30m, 2h or 7d; 0 is permanent";
    if text == "0" {
        return Ok(Lifespan::Permanent);
    }
    let span: jiff::Span = text.parse().map_err(|_| FORM)?;
    let relative = jiff::SpanRelativeTo::days_are_24_hours();
    let millis = span.to_duration(relative).map_err(|_| FORM)?.as_millis();
    match u64::try_from(millis) {
        Ok(0) => Err("a lifespan of no time would mean a permanent token; write 0 for that"),
        Ok(millis) if millis <= Lifespan::LONGEST_MS => Ok(Lifespan::Millis(millis)),
        Ok(_) => Err("no whiteboard token lives that long"),
        Err(_) => Err(FORM),
    }
}

/// Where the gateway is that a command asks: at an address of HTTP, or behind a Unix socket.
#[derive(Clone, Debug)]
pub enum GatewayAddress {
    /// By TCP.
    Web(Url),
    /// On this machine.
    Unix(UnixPath),
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(url) => out.write_str(url.to_string().trim_end_matches('/')),
            Self::Unix(path) => path.fmt(out),
        }
    }
}

impl GatewayAddress {
    /// As the command line says it; `web` reads what is no Unix socket.
    pub(super) fn parse(
        text: &str,
        web: impl FnOnce(&str) -> Result<Url, &'static str>,
    ) -> Result<Self, String> {
        match UnixPath::of_address(text) {
            Some(path) => path.map(Self::Unix).map_err(|why| why.to_string()),
            None => web(text).map(Self::Web).map_err(str::to_owned),
        }
    }

    /// What it is to HTTP.
    pub(super) fn origin(&self) -> Origin {
        match self {
            Self::Web(url) => url.origin().clone(),
            Self::Unix(_) => Origin::new(WEB[0], "localhost".to_owned(), None),
        }
    }
}

/// Where the secret key (SK) of a project is.
#[derive(Args)]
#[group(multiple = false)]
pub struct SecretKeySource {
    /// The environment variable that holds the secret key.
    #[arg(long, value_name = "VARIABLE")]
    pub secret_key_env: Option<String>,
    /// The file that holds the secret key.
    #[arg(long, value_name = "PATH")]
    pub secret_key_file: Option<PathBuf>,
}
