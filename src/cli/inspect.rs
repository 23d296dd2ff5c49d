//! `token inspect`: what a whiteboard token holds, whether it is good, and everything that is
//! wrong with it.
//!
//! With `--audit`, also who got it.
//!
//! The gateway stops at the first fault ([`crate::token::verify`]); here someone wants to know
//! them all. A test holds the two against each other.

use std::fmt;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use jiff::{SignedDuration, Span, SpanRound, Timestamp, Unit};
use serde_json::{Value, json};

use super::argument::SecretKeySource;
use super::leak::Search;
use super::outcome::CommandOutcome;
use super::world::World;
use crate::api::TokenKind;
use crate::clock::timestamp;
use crate::text;
use crate::token::{Claims, InvalidTokenError, KeyPair, Nonce, Secret, TokenHash};

/// The arguments of `token inspect`.
#[derive(Args)]
pub struct InspectArgs {
    /// The token; standard input is read for `-` or when it is left out, which is where one that
    /// is good belongs: every user of the machine sees the command line.
    #[arg(default_value = "-", hide_default_value = true)]
    pub token: String,
    /// A file of the gateway's audit, to find who got the token; several for rotated ones.
    #[arg(long, value_name = "FILE")]
    pub audit: Vec<PathBuf>,
    /// Where the secret key is.
    #[command(flatten)]
    pub secret_key: SecretKeySource,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Whether the signature is that of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signature {
    Holds,
    Fails,
    /// No secret key was given.
    Unchecked,
}

/// When a token ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TokenEnd {
    Never,
    At(Timestamp),
    /// `expireAt` is no time.
    Unreadable(String),
}

/// What there is to say about a token that can be read.
struct Finding<'a> {
    claims: &'a Claims,
    signature: Signature,
    expiry: TokenEnd,
    problems: Vec<String>,
    now: Timestamp,
}

/// Reads the token, and the secret key if there is one, and says what is in it.
pub(super) fn run(args: &InspectArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let secret_key = world.secret_key(&args.secret_key)?;
    let from_input = if args.token == "-" { Some(world.read_secret("the token")?) } else { None };
    let token = from_input.as_ref().map_or(&*args.token, Secret::expose);
    let token = text::value(token).map_err(|why| anyhow!("the token {why}"))?;
    // The answer of a token operation is JSON: a text in quotes.
    let unquoted = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let token = unquoted.unwrap_or(token);
    let search = Search::through(&args.audit, token)?;
    let claims = Claims::read(token);
    // Whoever gives a secret key means the one that belongs to the token's access key.
    let finding = claims.as_ref().map(|claims| {
        let key = secret_key.map(|secret| KeyPair::new(claims.access_key().to_owned(), &secret));
        Finding::of(claims, key.as_ref(), world.now)
    });
    if args.json {
        let mut told = match &finding {
            Ok(finding) => finding.json(),
            Err(why) => json!({ "good": false, "problems": [why.to_string()] }),
        };
        if let Some(search) = &search {
            told["audit"] = search.json();
        }
        writeln!(world.output, "{told:#}")?;
    } else {
        match &finding {
            Ok(finding) => write!(world.output, "{finding}")?,
            Err(why) => writeln!(world.output, "not good: {why}")?,
        }
        if let Some(search) = &search {
            write!(world.output, "\n{search}")?;
        }
    }
    let yes = match (&search, &finding) {
        (Some(search), _) => search.has_found(),
        (None, Ok(finding)) => finding.problems.is_empty(),
        (None, Err(_)) => false,
    };
    Ok(if yes { CommandOutcome::Done } else { CommandOutcome::No })
}

impl<'a> Finding<'a> {
    fn of(claims: &'a Claims, key: Option<&KeyPair>, now: Timestamp) -> Self {
        let signature = match key.map(|key| claims.signed_by(key)) {
            Some(true) => Signature::Holds,
            Some(false) => Signature::Fails,
            None => Signature::Unchecked,
        };
        let expiry = TokenEnd::of(claims);
        let mut problems = Vec::new();
        if signature == Signature::Fails {
            problems.push(InvalidTokenError::Signature.to_string());
        }
        if claims.role().is_none() {
            problems.push("the role is none of 0 (admin), 1 (writer), 2 (reader)".to_owned());
        }
        match (claims.kind, claims.uuid()) {
            (TokenKind::Sdk, Some(_)) => problems.push("an SDK token carries no uuid".to_owned()),
            (kind @ (TokenKind::Room | TokenKind::Task), None) => {
                problems.push(format!("a {kind} token carries the uuid of its {kind}"));
            }
            _ => {}
        }
        if claims.is_renamed() {
            problems.push(
                "its nonce is that of a token of another kind: its prefix was changed".to_owned(),
            );
        }
        if claims.expired(u64::try_from(now.as_millisecond()).unwrap_or(0)) {
            problems.push(match &expiry {
                TokenEnd::Unreadable(_) => "its expireAt is no number of milliseconds".to_owned(),
                TokenEnd::At(_) | TokenEnd::Never => InvalidTokenError::Expired.to_string(),
            });
        }
        Self { claims, signature, expiry, problems, now }
    }

    fn json(&self) -> Value {
        let Self { claims, .. } = self;
        json!({
            "good": self.problems.is_empty(),
            "problems": self.problems,
            "signature": match self.signature {
                Signature::Holds => "holds",
                Signature::Fails => "fails",
                Signature::Unchecked => "unchecked",
            },
            "kind": claims.kind,
            "role": claims.role(),
            "roleDigit": claims.role_digit(),
            "uuid": claims.uuid(),
            "accessKey": claims.access_key(),
            "nonce": claims.nonce(),
            "mintedAt": minted_at(claims).map(|at| at.to_string()),
            "sha256": TokenHash::of(claims, claims.kind).to_string(),
            "expireAt": match &self.expiry {
                TokenEnd::At(at) => Value::from(at.to_string()),
                TokenEnd::Never | TokenEnd::Unreadable(_) => Value::Null,
            },
            "expireAtMs": claims.expire_at().and_then(|at| at.parse::<u64>().ok()),
            "permanent": self.expiry == TokenEnd::Never,
        })
    }
}

/// The token's own texts are escaped: a terminal must not obey them.
impl fmt::Display for Finding<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claims, .. } = self;
        writeln!(out, "kind:       {}", claims.kind)?;
        match claims.role() {
            Some(role) => writeln!(out, "role:       {role}")?,
            None => {
                let digit = claims.role_digit().escape_debug();
                writeln!(out, "role:       {digit}, which is none")?;
            }
        }
        if let Some(uuid) = claims.uuid() {
            let what = if claims.kind == TokenKind::Task { "task: " } else { "room: " };
            writeln!(out, "{what}      {}", uuid.escape_debug())?;
        }
        writeln!(out, "access key: {}", claims.access_key().escape_debug())?;
        writeln!(out, "nonce:      {}", claims.nonce().escape_debug())?;
        if let Some(at) = minted_at(claims) {
            writeln!(out, "minted:     {at}, for a caller of a gateway")?;
        }
        writeln!(out, "sha256:     {}", TokenHash::of(claims, claims.kind))?;
        match &self.expiry {
            TokenEnd::Never => writeln!(out, "expires:    never; it is permanent")?,
            TokenEnd::At(at) => writeln!(out, "expires:    {at}, {}", relative(*at, self.now))?,
            TokenEnd::Unreadable(text) => writeln!(out, "expires:    {}", text.escape_debug())?,
        }
        match self.signature {
            Signature::Holds => writeln!(out, "signature:  holds")?,
            Signature::Fails => writeln!(out, "signature:  does not hold under this secret key")?,
            Signature::Unchecked => writeln!(
                out,
                "signature:  not checked: give --secret-key-env or --secret-key-file"
            )?,
        }
        match (self.problems.as_slice(), self.signature) {
            ([], Signature::Unchecked) => writeln!(out, "good, as far as can be seen"),
            ([], _) => writeln!(out, "good"),
            (problems, _) => writeln!(out, "not good: {}", problems.join("; ")),
        }
    }
}

impl TokenEnd {
    fn of(claims: &Claims) -> Self {
        let Some(text) = claims.expire_at() else { return Self::Never };
        let at = text.parse().ok().and_then(timestamp);
        at.map_or_else(|| Self::Unreadable(text.to_owned()), Self::At)
    }
}

/// When a gateway minted it for a caller, where its nonce says so.
fn minted_at(claims: &Claims) -> Option<Timestamp> {
    let second = Nonce::read(claims.nonce())?.minted_at();
    Timestamp::from_second(i64::from(second)).ok()
}

/// `in 1h 59m 30s`, `3d 2h ago`.
fn relative(at: Timestamp, now: Timestamp) -> String {
    let seconds = at.duration_since(now).as_secs();
    let span = Span::try_from(SignedDuration::from_secs(seconds.abs()));
    let round = SpanRound::new().largest(Unit::Day).days_are_24_hours();
    match span.and_then(|span| span.round(round)) {
        Err(_) => format!("{seconds} s from now"),
        Ok(span) if at > now => format!("in {span:#}"),
        Ok(span) => format!("{span:#} ago"),
    }
}
