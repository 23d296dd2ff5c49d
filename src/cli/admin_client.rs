//! A thin client of the admin API: whom to ask, with which key, and what goes wrong in words that name
//! the cure.
//!
//! It sends the key nowhere in the clear but to this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::time::timeout;

use super::argument::GatewayAddress;
use super::world::World;
use crate::net::{self, Client, ClientError, Origin, Url, WEB, is_loopback};
use crate::text;

/// Which gateway is asked, and as whom.
#[derive(Args)]
pub struct AdminArgs {
    /// The admin listener: http://HOST:PORT, https://HOST:PORT or unix:PATH.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090", value_parser = target)]
    pub admin: GatewayAddress,
    /// A file with the key of an operator, `-` for standard input. Left out: the variable WBG_ADMIN_KEY.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// A PEM file of certificates to trust instead of the platform's.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// The same of a command that asks something else where no gateway is named.
#[derive(Args)]
pub struct OptionalAdminArgs {
    /// Ask a gateway that runs, by its admin listener: http://HOST:PORT, https://HOST:PORT or unix:PATH.
    #[arg(long, value_name = "URL", value_parser = target, conflicts_with = "config")]
    admin: Option<GatewayAddress>,
    /// A file with the key of an operator, `-` for standard input. Left out: the variable WBG_ADMIN_KEY.
    #[arg(long, value_name = "FILE", requires = "admin")]
    key: Option<PathBuf>,
    /// A PEM file of certificates to trust instead of the platform's.
    #[arg(long, value_name = "FILE", requires = "admin")]
    ca: Option<PathBuf>,
}

/// An answer may take so long: a reload runs commands for secrets.
const LONGEST: Duration = Duration::from_secs(70);

/// The most bytes of an answer; the status of a thousand callers has some hundred thousand.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Asks the admin API.
pub(super) struct AdminClient {
    target: GatewayAddress,
    client: Client,
    origin: Origin,
    authorization: HeaderValue,
    runtime: tokio::runtime::Runtime,
}

/// Whom the command line names.
fn target(text: &str) -> Result<GatewayAddress, String> {
    const FORM: &str = "the admin listener is http://HOST:PORT, https://HOST:PORT or unix:PATH";
    GatewayAddress::parse(text, |text| {
        let url = Url::parse(text, WEB).map_err(|_| FORM)?;
        let bare = url.userinfo().is_none() && url.target() == "/";
        bare.then_some(url).ok_or(FORM)
    })
}

impl OptionalAdminArgs {
    /// The gateway that is named.
    pub(super) fn named(&self) -> Option<AdminArgs> {
        let admin = self.admin.clone()?;
        Some(AdminArgs { admin, key: self.key.clone(), ca: self.ca.clone() })
    }
}

impl AdminClient {
    /// # Errors
    /// No key, one that may not be sent there, or certificates that cannot be read.
    pub(super) fn new(args: &AdminArgs, world: &mut World<'_>) -> anyhow::Result<Self> {
        let key = match &args.key {
            Some(file) => world.secret_in(file, "the operator's key")?,
            None => {
                let key = (world.environment)("WBG_ADMIN_KEY").filter(|key| !key.trim().is_empty());
                let key = key.context(
                    "no key: name a file with the key of an operator, --key FILE, or set WBG_ADMIN_KEY \
                     (`key new --operator NAME` makes one)",
                )?;
                crate::token::Secret::new(key.trim().to_owned())
            }
        };
        let origin = args.admin.origin();
        let client = match &args.admin {
            GatewayAddress::Unix(path) => Client::in_the_clear().to_socket(Some(path.clone())),
            GatewayAddress::Web(_) if origin.tls => {
                let ca = args.ca.as_deref().map(authorities).transpose()?;
                Client::over_tls(ca.as_deref(), "--ca").context("--ca")?
            }
            GatewayAddress::Web(_) => {
                ensure!(
                    is_loopback(&origin.host),
                    "{} is on another machine and without TLS: the key would cross the network in the \
                     clear; give the listener [admin.tls] and name it with https://",
                    args.admin
                );
                Client::in_the_clear()
            }
        };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
            .map_err(|_| anyhow!("the key holds what no header can"))?;
        authorization.set_sensitive(true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { target: args.admin.clone(), client, origin, authorization, runtime })
    }

    /// A document of the API.
    ///
    /// # Errors
    /// Whatever it is not had for.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self.ask(Method::GET, path, Bytes::new())?;
        self.document(status, &body)
    }

    /// The same of one that a gateway of another version may not have.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(super) fn get_if_there(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let (status, body) = self.ask(Method::GET, path, Bytes::new())?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.document(status, &body).map(Some)
    }

    /// Sends an object.
    ///
    /// # Errors
    /// As [`AdminClient::get`].
    pub(super) fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let (status, body) = self.ask(Method::POST, path, body.to_string().into())?;
        self.document(status, &body)
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/admin/v1/{path}"))
            .header(HOST, &self.origin.authority)
            .header(USER_AGENT, net::USER_AGENT)
            .header(AUTHORIZATION, self.authorization.clone())
            .body(Full::new(body))?;
        let asked = async {
            let mut connection = self.client.connect(&self.origin).await?;
            let (head, body) = connection.send(request).await?.into_parts();
            Ok((head.status, net::read(body, MOST_BYTES).await?))
        };
        let asked = self.runtime.block_on(async { timeout(LONGEST, asked).await });
        let late = || anyhow!("{} does not answer within {} s", self.target, LONGEST.as_secs());
        asked.map_err(|_| late())?.map_err(|why| self.unanswered(&why))
    }

    fn unanswered(&self, why: &ClientError) -> anyhow::Error {
        let target = &self.target;
        match why {
            ClientError::Tls(why) => anyhow!(
                "{target} speaks no TLS that is trusted: {why}. Where its certificate is of an authority \
                 of your own, name that: --ca FILE; where it has none, say http://"
            ),
            ClientError::Http(_) | ClientError::Broken | ClientError::TooLarge(_) => {
                anyhow!("{target} does not answer as an admin listener does: {why}")
            }
            why => anyhow!(
                "{target} is not reached: {why}. Does the gateway run, and is this its \
                            `admin.address`?"
            ),
        }
    }

    fn document(&self, status: StatusCode, body: &[u8]) -> anyhow::Result<Value> {
        let target = &self.target;
        let document: Option<Value> = serde_json::from_slice(body).ok();
        let message = document.as_ref().and_then(|one| one["message"].as_str()).unwrap_or_default();
        match document {
            Some(document) if status.is_success() && document.is_object() => Ok(document),
            Some(_) if status == StatusCode::UNAUTHORIZED => {
                bail!("{target} does not take this key: {message}")
            }
            Some(_) if status == StatusCode::NOT_FOUND => {
                bail!("{target} is no admin listener of a gateway, or of an older one: {message}")
            }
            Some(_) if !message.is_empty() => bail!("{target} says {status}: {message}"),
            _ => bail!("{target} is no admin listener of a gateway: it says {status} and no JSON"),
        }
    }
}

/// The certificates in a file.
fn authorities(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let unreadable = || format!("--ca {} cannot be read", path.display());
    let bytes = text::read(path).with_context(unreadable)?;
    let pem = text::pem(&bytes).map_err(|why| anyhow!("--ca {}: it {why}", path.display()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|_| anyhow!("--ca {} is no PEM file", path.display()))?;
    ensure!(!found.is_empty(), "--ca {} holds no certificate", path.display());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_listener_is_a_bare_origin_or_a_socket() {
        for good in
            ["http://127.0.0.1:9090", "https://gateway.example.org/", "unix:/run/admin.sock"]
        {
            assert!(target(good).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:9090", "http://a/admin", "https://u:p@a", "ftp://a", "unix:"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }
}
