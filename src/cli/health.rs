//! `health`: whether a gateway is well, asked where there is neither a shell nor curl: in its own
//! container, by the engine.
//!
//! It reads no configuration: one that is broken while the process goes on with the former is no
//! reason to call the process ill.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::header::{HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::time::timeout;

use super::argument::{GatewayAddress, duration};
use super::outcome::CommandOutcome;
use super::world::World;
use crate::net::{self, Client, ClientError, ListenAddress, Scheme, Url};
use crate::text;

/// The arguments of `health`.
#[derive(Args)]
pub struct HealthArgs {
    /// The URL to ask, such as that of /readyz, or a Unix socket, unix:/run/admin.sock, whose /livez
    /// is asked. Left out: /livez of the admin listener at WBG__ADMIN__ADDRESS, or at 127.0.0.1:9090.
    #[arg(value_parser = target)]
    pub url: Option<GatewayAddress>,
    /// How long to wait for the answer.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = patience)]
    pub timeout: Duration,
}

/// Where the admin listener is unless somebody says otherwise.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// Who is asked is on this machine, or in the next container.
const HTTP: &[Scheme] = &[Scheme { name: "http", tls: false, port: 80 }];

/// The most bytes of an answer that are printed; those of the admin listener have some hundred.
const LONGEST: usize = 64 * 1024;

/// Exit code 0 when it is well, and 1 when it is not or does not answer: an engine knows no other.
pub(super) fn run(arguments: &HealthArgs, world: &mut World<'_>) -> anyhow::Result<CommandOutcome> {
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => liveness(world)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { timeout(arguments.timeout, ask(&url)).await });
    let outcome = match asked {
        Ok(Ok((status, body))) => {
            writeln!(world.output, "{}", String::from_utf8_lossy(&body).trim_end())?;
            if status.is_success() { CommandOutcome::Done } else { CommandOutcome::No }
        }
        Ok(Err(why)) => {
            writeln!(world.output, "{url} does not answer: {why}")?;
            CommandOutcome::No
        }
        Err(_) => {
            let seconds = arguments.timeout.as_secs_f64();
            writeln!(world.output, "{url} does not answer within {seconds} s")?;
            CommandOutcome::No
        }
    };
    Ok(outcome)
}

/// Liveness as the admin listener of this machine tells it.
fn liveness(world: &World<'_>) -> anyhow::Result<GatewayAddress> {
    let address: ListenAddress = match (world.environment)("WBG__ADMIN__ADDRESS") {
        Some(text) => {
            let address = text::value(&text).ok().and_then(|address| address.parse().ok());
            address.context("WBG__ADMIN__ADDRESS is no address: name the URL to ask")?
        }
        None => USUAL.into(),
    };
    let sockets = address.sockets();
    match (address, sockets.first()) {
        (ListenAddress::Unix(path), _) => Ok(GatewayAddress::Unix(path)),
        (_, Some(first)) => {
            let url = format!("http://{}/livez", reachable(*first));
            Ok(GatewayAddress::Web(Url::parse(&url, HTTP)?))
        }
        (_, None) => bail!("WBG__ADMIN__ADDRESS names no address: name the URL to ask"),
    }
}

/// An address that stands for every one of this machine can be listened at, but not asked.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

async fn ask(target: &GatewayAddress) -> anyhow::Result<(StatusCode, Bytes)> {
    let (socket, path) = match target {
        GatewayAddress::Web(url) => (None, url.target()),
        GatewayAddress::Unix(socket) => (Some(socket.clone()), "/livez"),
    };
    let origin = target.origin();
    let client = Client::in_the_clear().to_socket(socket);
    let mut connection = client.connect(&origin).await.map_err(plain)?;
    let request = Request::get(path)
        .header(HOST, &origin.authority)
        .header(USER_AGENT, net::USER_AGENT)
        .body(Full::default())?;
    let (head, body) = connection.send(request).await.map_err(plain)?.into_parts();
    let body = net::read(body, LONGEST).await;
    let body = body.map_err(|why| anyhow!("its answer cannot be read: {why}"))?;
    Ok((head.status, body))
}

/// An error as the system says it, behind "does not answer".
fn plain(error: ClientError) -> anyhow::Error {
    match error {
        ClientError::Name(error) | ClientError::Tcp(error) => error.into(),
        ClientError::Http(error) => error.into(),
        error => error.into(),
    }
}

/// Who is asked, as the command line says it.
fn target(text: &str) -> Result<GatewayAddress, String> {
    GatewayAddress::parse(text, url)
}

/// A URL of the command line.
pub(super) fn url(text: &str) -> Result<Url, &'static str> {
    const FORM: &str = "a URL is http://HOST:PORT/PATH; TLS is not spoken";
    let url = Url::parse(text, HTTP).map_err(|_| FORM)?;
    if url.userinfo().is_none() { Ok(url) } else { Err(FORM) }
}

/// A time of the command line in which an answer must come.
pub(super) fn patience(text: &str) -> Result<Duration, &'static str> {
    let time = duration(text)?;
    if time.is_zero() { Err("no answer comes in no time") } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_means_all_of_them_is_asked_on_loopback() {
        for (told, asked) in [
            ("0.0.0.0:9090", "127.0.0.1:9090"),
            ("[::]:81", "[::1]:81"),
            ("10.0.0.7:9090", "10.0.0.7:9090"),
        ] {
            assert_eq!(reachable(told.parse().unwrap()), asked.parse().unwrap(), "{told}");
        }
    }

    #[test]
    fn a_url_is_http_and_holds_no_credential() {
        for good in ["http://127.0.0.1:9090/livez", "http://sandbox:8081/", "http://[::1]:9090"] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in ["https://127.0.0.1/", "127.0.0.1:9090", "/livez", "http://a:b@127.0.0.1/", ""] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
