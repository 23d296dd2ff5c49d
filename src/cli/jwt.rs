//! `jwt inspect`: what a JWT says, and which check of the gateway it fails. Also who a credential
//! makes, for `policy explain --token`.
//!
//! The checks are the gateway's own, with keys that are fetched for the one token. A token comes from
//! a file or standard input, never from the command line, where every user of the machine sees it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::configuration::snapshot;
use super::outcome::CommandOutcome;
use super::world::World;
use crate::caller::{Caller, CredentialCache, ShownCertificate};
use crate::failure::Failure;
use crate::gateway::Snapshot;

/// The commands about JWTs.
#[derive(Subcommand)]
pub enum JwtCommand {
    /// Say what a JWT holds, whether the gateway takes it, and which check it fails.
    #[command(after_long_help = concat!(
        "The keys of its issuer are fetched for it; nothing else is sent anywhere. The exit code\n",
        "is 1 when it is not taken.\n\n",
        "Example:\n  whiteboard-gateway jwt inspect token.jwt --config gateway.toml",
    ))]
    Inspect(JwtInspectArgs),
}

/// The arguments of `jwt inspect`.
#[derive(Args)]
pub struct JwtInspectArgs {
    /// A file with the JWT; standard input is read for `-` or when it is left out.
    #[arg(default_value = "-", hide_default_value = true)]
    pub token: PathBuf,
    /// The configuration; gateway.toml here, then in /etc/whiteboard-gateway, when left out.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Exit code 0 when the gateway takes it, 1 when it does not.
pub(super) fn inspect(
    args: &JwtInspectArgs,
    world: &mut World<'_>,
) -> anyhow::Result<CommandOutcome> {
    let snapshot = snapshot(args.config.as_deref())?;
    let token = world.secret_in(&args.token, "the JWT")?;
    let [header, claims] = [0, 1].map(|part| part_of(token.expose(), part));
    let identified = identify(&snapshot, token.expose(), world.now)?;
    if args.json {
        let failure = identified.as_ref().err();
        let told = json!({
            "good": identified.is_ok(),
            "header": header,
            "claims": claims,
            "caller": identified.as_ref().ok().map(|caller| &caller.name),
            "code": failure.map(|failure| failure.code().name()),
            "message": failure.map(Failure::message),
            "detail": failure.and_then(Failure::detail),
        });
        writeln!(world.output, "{told:#}")?;
    } else {
        for (name, part) in [("header", &header), ("claims", &claims)] {
            match part {
                Some(part) => writeln!(world.output, "{name} {part:#}")?,
                None => writeln!(world.output, "{name} cannot be read")?,
            }
        }
        match &identified {
            Ok(caller) => writeln!(world.output, "good: its caller is {}", caller.name)?,
            Err(failure) => {
                writeln!(world.output, "not good: {}", failure.message())?;
                if let Some(detail) = failure.detail() {
                    writeln!(world.output, "  {detail}")?;
                }
            }
        }
    }
    Ok(if identified.is_ok() { CommandOutcome::Done } else { CommandOutcome::No })
}

/// One part of a token, as it claims.
fn part_of(token: &str, part: usize) -> Option<Value> {
    let part = URL_SAFE_NO_PAD.decode(token.split('.').nth(part)?).ok()?;
    serde_json::from_slice(&part).ok()
}

/// Who calls with a credential, by the code of the gateway.
///
/// # Errors
/// The keys of the issuer cannot be fetched, or the text can stand in no header.
pub(super) fn identify(
    snapshot: &Snapshot,
    credential: &str,
    now: Timestamp,
) -> anyhow::Result<Result<Arc<Caller>, Failure>> {
    let request = Request::builder().header("token", credential).body(());
    let request = request.map_err(|_| anyhow!("the token holds what no header can"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (callers, issuers) = (&snapshot.callers, &snapshot.callers.issuers);
        if let Some(issuer) = issuers.claimed(credential) {
            let fetched = issuers.fetch_now(issuer).await.map_err(anyhow::Error::msg);
            let name = issuers.name(issuer).unwrap_or_default();
            fetched.with_context(|| format!("the keys of the issuer `{name}` did not come"))?;
        }
        let (here, memory) = (IpAddr::from([127, 0, 0, 1]), CredentialCache::default());
        let identified =
            callers.identify(&request, here, || ShownCertificate::NONE, now, &memory).await;
        Ok(identified.map(|verdict| verdict.caller))
    })
}
