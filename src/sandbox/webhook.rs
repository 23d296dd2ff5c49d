//! The call that the service makes when a conversion has ended.
//!
//! The sandbox calls loopback addresses over plain HTTP and nothing else: whoever can start a
//! conversion must not be able to make this machine talk to others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::shared::SharedSandbox;
use super::state::Notice;
use crate::clock::now_ms;
use crate::net::{Client, ClientError, Scheme, Url, UrlError};

/// How often a call is retried when the request does not say.
const RETRIES: u64 = 3;

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where to call.
#[derive(Debug, PartialEq, Eq)]
struct WebhookEndpoint {
    addresses: Vec<SocketAddr>,
    url: Url,
}

/// The sandbox speaks no TLS to anyone.
const HTTP: &[Scheme] = &[Scheme { name: "http", tls: false, port: 80 }];

/// Why an endpoint is not called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum WebhookTargetError {
    #[error("it is no http:// URL")]
    Scheme,
    #[error("its host is neither `localhost` nor a loopback address")]
    Host,
}

/// Why a call did not arrive.
#[derive(Debug, thiserror::Error)]
enum WebhookError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Request(#[from] http::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("it took too long")]
    Timeout,
}

/// Waits for the end of a conversion and tells the endpoint about it, on this thread.
pub(super) fn follow(
    shared: &Arc<SharedSandbox>,
    uuid: String,
    endpoint: &str,
    retries: Option<u64>,
) {
    let endpoint = match WebhookEndpoint::parse(endpoint) {
        Ok(endpoint) => endpoint,
        Err(why) => {
            tracing::warn!(%why, task = uuid, "the webhook of a conversion will not be called");
            return;
        }
    };
    let shared = Arc::clone(shared);
    spawn_local(async move {
        // Fine enough to be close to the end, coarse enough to cost nothing.
        let step = (shared.pace / 4).clamp(Duration::from_millis(10), Duration::from_millis(500));
        let notice = loop {
            let notice = shared.state().conversions.notice(&uuid, now_ms());
            match notice {
                Notice::Pending => sleep(step).await,
                Notice::Ready(notice) => break notice,
                Notice::Never => return,
            }
        };
        let notice = Bytes::from(notice.to_string());
        endpoint.tell(&notice, retries.unwrap_or(RETRIES), step).await;
    });
}

impl WebhookEndpoint {
    fn parse(url: &str) -> Result<Self, WebhookTargetError> {
        // A fragment is never sent.
        let url = url.split('#').next().unwrap_or_default();
        let url = Url::parse(url, HTTP).map_err(|why| match why {
            UrlError::Form | UrlError::NoScheme | UrlError::Scheme => WebhookTargetError::Scheme,
            _ => WebhookTargetError::Host,
        })?;
        let origin = url.origin();
        let addresses = if origin.host == "localhost" {
            // Not resolved: another resolver's word for `localhost` is not taken.
            vec![IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
        } else {
            let address: IpAddr = origin.host.parse().map_err(|_| WebhookTargetError::Host)?;
            vec![Some(address).filter(IpAddr::is_loopback).ok_or(WebhookTargetError::Host)?]
        };
        let to = |address| SocketAddr::new(address, origin.port);
        Ok(Self { addresses: addresses.into_iter().map(to).collect(), url })
    }

    async fn tell(&self, notice: &Bytes, retries: u64, pause: Duration) {
        for attempt in 0..=retries {
            let told =
                timeout(PATIENCE, self.call(notice)).await.unwrap_or(Err(WebhookError::Timeout));
            match told {
                Ok(()) => return,
                Err(why) => tracing::debug!(%why, attempt, "a webhook did not take its call"),
            }
            if attempt < retries {
                sleep(pause).await;
            }
        }
        tracing::warn!(attempts = retries + 1, "a webhook was given up");
    }

    /// One call, which succeeds with a 2xx; redirects are not followed.
    async fn call(&self, notice: &Bytes) -> Result<(), WebhookError> {
        let request = Request::post(self.url.target())
            .header(HOST, &self.url.origin().authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(notice.clone()))?;
        let mut connection = Client::in_the_clear().connect_to(&self.addresses).await?;
        // Its body is of no interest.
        let status = connection.send(request).await?.status();
        if status.is_success() { Ok(()) } else { Err(WebhookError::Status(status)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    #[test]
    fn only_loopback_addresses_are_called() {
        for (url, expected) in [
            ("https://127.0.0.1/", WebhookTargetError::Scheme),
            ("ftp://127.0.0.1/", WebhookTargetError::Scheme),
            ("/hook", WebhookTargetError::Scheme),
            ("nonsense", WebhookTargetError::Scheme),
            ("http://example.org/", WebhookTargetError::Host),
            ("http://localhost.example.org/", WebhookTargetError::Host),
            ("http://127.0.0.1.example.org/", WebhookTargetError::Host),
            ("http://127.0.0.1@example.org/", WebhookTargetError::Host),
            ("http://10.0.0.1/", WebhookTargetError::Host),
            ("http://169.254.169.254/latest", WebhookTargetError::Host),
            ("http://0.0.0.0/", WebhookTargetError::Host),
            ("http://127.1/", WebhookTargetError::Host),
            ("http://2130706433/", WebhookTargetError::Host),
            ("http://[::ffff:10.0.0.1]/", WebhookTargetError::Host),
            ("http://[::]/", WebhookTargetError::Host),
        ] {
            assert_eq!(WebhookEndpoint::parse(url), Err(expected), "{url}");
        }
        let endpoint =
            WebhookEndpoint::parse("http://user:word@LocalHost:8000/hook?a=1#b").unwrap();
        assert_eq!(
            (endpoint.url.origin().authority.as_str(), endpoint.url.target()),
            ("localhost:8000", "/hook?a=1")
        );
        assert!(endpoint.addresses.iter().all(|address| address.ip().is_loopback()));
        assert_eq!(WebhookEndpoint::parse("http://[::1]").unwrap().addresses[0].port(), 80);
        assert!(WebhookEndpoint::parse("http://127.0.0.9:1/").is_ok());
    }

    /// Answers one request with a status; what it got.
    async fn answer(listener: &TcpListener, status: &str) -> String {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut got = vec![0; 4096];
        let mut length = 0;
        while !got[..length].ends_with(b"{}") {
            length += socket.read(&mut got[length..]).await.unwrap();
        }
        let answer = format!("HTTP/1.1 {status}\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(got[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_call_is_tried_again_until_it_is_taken() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/hook", listener.local_addr().unwrap());
            let endpoint = WebhookEndpoint::parse(&url).unwrap();
            let notice = Bytes::from_static(b"{}");
            let (_, got) = tokio::join!(endpoint.tell(&notice, 3, Duration::ZERO), async {
                answer(&listener, "500 No").await;
                answer(&listener, "302 Elsewhere").await;
                answer(&listener, "204 Yes").await
            });
            assert!(got.starts_with("POST /hook HTTP/1.1\r\n"), "{got}");
            assert!(got.contains("content-type: application/json\r\n"), "{got}");
        });
    }
}
