//! `health`: whether a gateway is well, asked where there is neither a shell nor curl: in its own
//! container, by the engine.
//!
//! It reads no configuration: one that is broken while the process goes on with the former is no
//! reason to call the process ill.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{HealthArgs, Outcome, World};

/// Where the admin listener is unless somebody says otherwise.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// The most bytes of an answer that are printed; those of the admin listener have some hundred.
const LONGEST: usize = 64 * 1024;

/// Exit code 0 when it is well, and 1 when it is not or does not answer: an engine knows no other.
pub(super) fn run(arguments: &HealthArgs, world: &mut World<'_>) -> anyhow::Result<Outcome> {
    let url = match &arguments.url {
        Some(url) => url.clone(),
        None => liveness(world)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async { timeout(arguments.timeout, ask(&url)).await });
    let outcome = match asked {
        Ok(Ok((status, body))) => {
            writeln!(world.output, "{}", String::from_utf8_lossy(&body).trim_end())?;
            if status.is_success() { Outcome::Done } else { Outcome::No }
        }
        Ok(Err(why)) => {
            writeln!(world.output, "{url} does not answer: {why:#}")?;
            Outcome::No
        }
        Err(_) => {
            let seconds = arguments.timeout.as_secs_f64();
            writeln!(world.output, "{url} does not answer within {seconds} s")?;
            Outcome::No
        }
    };
    Ok(outcome)
}

/// Liveness as the admin listener of this machine tells it.
fn liveness(world: &World<'_>) -> anyhow::Result<Uri> {
    let address = match (world.environment)("WBG__ADMIN__ADDRESS") {
        Some(text) => {
            let address = text.parse();
            address.context("WBG__ADMIN__ADDRESS is no address: name the URL to ask")?
        }
        None => USUAL,
    };
    Ok(format!("http://{}/livez", reachable(address)).parse()?)
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

async fn ask(url: &Uri) -> anyhow::Result<(StatusCode, Bytes)> {
    let authority = url.authority().context("the URL names no host")?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let socket = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // What goes wrong on it is told to whoever waits for the answer.
        _ = connection.await;
    });
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("whiteboard-gateway/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, LONGEST).collect().await;
    let body = body.map_err(|why| anyhow!("its answer cannot be read: {why}"))?;
    Ok((head.status, body.to_bytes()))
}

/// A URL of the command line.
pub(super) fn url(text: &str) -> Result<Uri, &'static str> {
    const FORM: &str = "a URL is http://HOST:PORT/PATH; TLS is not spoken";
    let url: Uri = text.parse().map_err(|_| FORM)?;
    let named = url.scheme_str() == Some("http") && !text.contains('@');
    if named { Ok(url) } else { Err(FORM) }
}

/// A time of the command line in which an answer must come.
pub(super) fn patience(text: &str) -> Result<Duration, &'static str> {
    let time = super::duration(text)?;
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
