//! A small HTTPS client for the documents of providers: GET, bounded in time and in size.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AGE, CACHE_CONTROL, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::HttpsUrl;

/// Until a connection stands, TLS included.
const CONNECT: Duration = Duration::from_secs(2);
/// Until a document is there, redirects included.
const TOTAL: Duration = Duration::from_secs(5);
/// The longest document.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// The longest head of an answer.
const HEAD_BYTES: usize = 64 * 1024;
const MAX_REDIRECTS: usize = 3;

/// Fetches documents over TLS and nothing else.
pub(super) struct Client {
    tls: TlsConnector,
}

/// A document as it came.
pub(super) struct Document {
    pub(super) body: Bytes,
    /// How long the provider lets it be kept, where it says so.
    pub(super) fresh: Option<Duration>,
}

/// Why a document did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoDocument {
    #[error("its name could not be resolved: {0}")]
    Name(io::Error),
    #[error("it could not be connected to: {0}")]
    Tcp(io::Error),
    #[error("no TLS connection could be made: {0}")]
    Tls(io::Error),
    #[error("it does not speak HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("no connection stood after {} s", CONNECT.as_secs())]
    Connecting,
    #[error("no answer was there after {} s", TOTAL.as_secs())]
    Slow,
    #[error("it answered {0}")]
    Status(http::StatusCode),
    #[error("it sent us elsewhere than to another path of its own")]
    Redirect,
    #[error("it sent us on more than {MAX_REDIRECTS} times")]
    Redirects,
    #[error("its answer is longer than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("its answer broke off")]
    Broken,
    #[error("the request could not be made: {0}")]
    Request(#[from] http::Error),
}

impl Client {
    /// Trusts these certificates, or those of the platform.
    pub(super) fn new(ca: Option<&[CertificateDer<'static>]>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = match ca {
            None => builder.with_platform_verifier()?.with_no_client_auth(),
            Some(ca) => {
                let mut roots = rustls::RootCertStore::empty();
                for certificate in ca {
                    roots.add(certificate.clone())?;
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Fetches a document. Nothing of the attempt is left when the future is dropped.
    pub(super) async fn get(&self, url: &HttpsUrl) -> Result<Document, NoDocument> {
        timeout(TOTAL, self.follow(url)).await.unwrap_or(Err(NoDocument::Slow))
    }

    async fn follow(&self, url: &HttpsUrl) -> Result<Document, NoDocument> {
        let mut url = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            // The connection lives as long as the set of its one task.
            let mut driver = JoinSet::new();
            let answer = self.ask(&url, &mut driver).await?;
            let status = answer.status();
            if status.is_redirection() {
                let location = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                url = location.and_then(|to| url.redirected(to)).ok_or(NoDocument::Redirect)?;
            } else if status == http::StatusCode::OK {
                return read(answer).await;
            } else {
                return Err(NoDocument::Status(status));
            }
        }
        Err(NoDocument::Redirects)
    }

    async fn ask(
        &self,
        url: &HttpsUrl,
        driver: &mut JoinSet<()>,
    ) -> Result<Response<Incoming>, NoDocument> {
        let socket =
            timeout(CONNECT, self.connect(url)).await.unwrap_or(Err(NoDocument::Connecting))?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES);
        let (mut sender, connection) = builder.handshake(TokioIo::new(socket)).await?;
        driver.spawn(async move {
            // What goes wrong on it is told to whoever waits for the answer.
            _ = connection.await;
        });
        let request = Request::get(url.target())
            .header(HOST, url.authority())
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
            .header(USER_AGENT, concat!("whiteboard-gateway/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())?;
        Ok(sender.send_request(request).await?)
    }

    /// Tries each address in turn; each gets its share of the time, so that a dead one does not
    /// use up that of the others.
    async fn connect(&self, url: &HttpsUrl) -> Result<TlsStream<TcpStream>, NoDocument> {
        let name = ServerName::try_from(url.host().to_owned())
            .map_err(|error| NoDocument::Name(io::Error::other(error)))?;
        let found = lookup_host((url.host(), url.port())).await.map_err(NoDocument::Name)?;
        let addresses: Vec<_> = found.collect();
        let share = CONNECT / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut last = NoDocument::Name(io::ErrorKind::NotFound.into());
        for address in addresses {
            last = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(socket)) => {
                    return self.tls.connect(name, socket).await.map_err(NoDocument::Tls);
                }
                Ok(Err(error)) => NoDocument::Tcp(error),
                Err(_) => NoDocument::Connecting,
            };
        }
        Err(last)
    }
}

async fn read(answer: Response<Incoming>) -> Result<Document, NoDocument> {
    let fresh = freshness(answer.headers());
    match Limited::new(answer.into_body(), MAX_BYTES).collect().await {
        Ok(body) => Ok(Document { body: body.to_bytes(), fresh }),
        Err(error) if error.is::<LengthLimitError>() => Err(NoDocument::TooLarge),
        Err(_) => Err(NoDocument::Broken),
    }
}

/// How long the answer is still fresh (RFC 9111 §4.2): `max-age` less the time that it spent in
/// caches on the way. One that must not be kept is fresh for no time.
fn freshness(headers: &HeaderMap) -> Option<Duration> {
    let texts = |name: HeaderName| {
        headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
    };
    let mut max_age = None;
    for directive in texts(CACHE_CONTROL).flat_map(|text| text.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return Some(Duration::ZERO),
            "max-age" => max_age = value.trim().trim_matches('"').parse::<u64>().ok(),
            _ => {}
        }
    }
    let age = texts(AGE).next().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    max_age.map(|seconds| Duration::from_secs(seconds.saturating_sub(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_what_is_left_of_the_age() {
        for (control, age, fresh) in [
            (None, None, None),
            (Some("public"), None, None),
            (Some("public, Max-Age=3600, must-revalidate"), None, Some(3600)),
            (Some("max-age=\"3600\""), Some("600"), Some(3000)),
            (Some("max-age=60"), Some("600"), Some(0)),
            (Some("no-store, max-age=3600"), None, Some(0)),
            (Some("max-age=soon"), None, None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [(CACHE_CONTROL, control), (AGE, age)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            assert_eq!(freshness(&headers), fresh.map(Duration::from_secs), "{control:?}");
        }
    }

    #[tokio::test]
    async fn a_host_that_says_nothing_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}/keys", silent.local_addr().unwrap()).parse().unwrap();
        let why = Client::new(Some(&[])).unwrap().get(&url).await.err().unwrap();
        assert!(matches!(why, NoDocument::Connecting), "{why}");
    }
}
