//! `sandbox`: the stand-in for api.netless.link alone, for people who develop against it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::argument::{SecretKeySource, duration};
use super::outcome::CommandOutcome;
use super::world::World;
use crate::net::ListenAddress;
use crate::sandbox::{Sandbox, Settings};
use crate::server::{self, Bounds, ListenerSettings, Tls, TlsSettings};
use crate::token::Secret;

/// The arguments of `sandbox`.
#[derive(Args)]
pub struct SandboxArgs {
    /// The address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub listen: ListenAddress,
    /// The access key (AK) whose tokens are taken.
    #[arg(long, value_name = "AK", default_value = "sandbox")]
    pub access_key: String,
    /// Where the secret key is; `sandbox-secret-key` when left out.
    #[command(flatten)]
    pub secret_key: SecretKeySource,
    /// How long a conversion takes for each step, such as 500ms.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub pace: Duration,
    /// Take a Room token only when the access key that created the room has signed it.
    #[arg(long)]
    pub strict_keys: bool,
    /// A PEM file with a certificate chain, to speak TLS with HTTP/2.
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// The PEM file with its private key.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// The secret key when none is given: the sandbox guards nothing.
const SECRET_KEY: &str = "sandbox-secret-key";

/// Serves until a signal says to stop.
pub(super) fn run(
    arguments: &SandboxArgs,
    world: &mut World<'_>,
) -> anyhow::Result<CommandOutcome> {
    let secret = world.secret_key(&arguments.secret_key)?;
    let shown = if secret.is_some() { "(the one you gave)" } else { SECRET_KEY };
    let secret = secret.unwrap_or_else(|| Secret::new(SECRET_KEY.to_owned()));
    let settings = Settings {
        pace: arguments.pace,
        strict_keys: arguments.strict_keys,
        ..Settings::new(vec![(arguments.access_key.clone(), secret)])
    };
    let tls = tls(arguments)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Before anyone can know that it serves: a signal must not find its default action.
    let (mut terminate, mut interrupt) = runtime.block_on(async {
        io::Result::Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
    })?;
    let listen = listen(arguments.listen.clone());
    let mut listeners = listen.open()?;
    listeners.iter_mut().for_each(|listener| listener.tls.clone_from(&tls));
    let running = Sandbox::new(settings).start(&listen, listeners)?;
    let address = running.addresses().first().context("it listens nowhere")?;
    let ak = &arguments.access_key;
    writeln!(
        world.output,
        "The sandbox of the whiteboard API serves on {scheme}://{address}\n\
         access key {ak}, secret key {shown}\n\
         {scheme}://{address}/ lists what else it does: faults, and the requests it received"
    )?;
    world.output.flush()?;
    runtime.block_on(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    running.drain();
    Ok(CommandOutcome::Done)
}

fn tls(arguments: &SandboxArgs) -> anyhow::Result<Option<Arc<Tls>>> {
    let (certificate, key) = (arguments.certificate.clone(), arguments.key.clone());
    ensure!(certificate.is_some() == key.is_some(), "--certificate and --key go together");
    let (Some(certificate), Some(key)) = (certificate, key) else { return Ok(None) };
    Ok(Some(Arc::new(Tls::new(&TlsSettings::of(certificate, key))?)))
}

/// The listener of a sandbox: one worker, since it is no benchmark.
pub(super) fn listen(address: impl Into<ListenAddress>) -> server::Settings {
    let bounds = Bounds { drain: Duration::from_secs(1), ..Bounds::default() };
    let listener = ListenerSettings::plain("sandbox", vec![address.into()]);
    server::Settings { listeners: vec![listener], workers: Some(1), bounds }
}
