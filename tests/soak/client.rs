//! A caller's connection, over HTTP/1.1 or HTTP/2: kept for a while, and made anew as every client
//! does.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::tls::Dial;

/// Longer than the gateway may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, once it is made.
pub(crate) struct Client {
    pub(crate) http2: bool,
    dial: Dial,
    /// With how many requests it is used still.
    connection: Option<(Sender, u32)>,
    /// Connections made, by all who share this.
    made: Rc<Cell<u64>>,
    /// The region that it names; where none is named, that of the gateway counts.
    pub(crate) region: Option<&'static str>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) request_id: bool,
}

impl Client {
    pub(crate) const fn new(dial: Dial, http2: bool, made: Rc<Cell<u64>>) -> Self {
        Self { http2, dial, connection: None, made, region: None }
    }

    /// Sends a request, on the connection that there is or a new one.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        credential: &str,
        body: &'static str,
    ) -> anyhow::Result<Answer> {
        let uri = format!("{}{path}", if self.http2 { "https://localhost" } else { "" });
        let mut request = Request::builder().method(method).uri(uri);
        if !self.http2 {
            request = request.header("host", "localhost");
        }
        if let Some(region) = self.region {
            request = request.header("region", region);
        }
        let request = request.header("authorization", format!("Bearer {credential}"));
        let mut request = request.body(Full::from(body))?;
        let exchange = async {
            loop {
                let (mut sender, left) = match self.connection.take() {
                    Some(kept) => kept,
                    None => (self.connect().await?, fastrand::u32(20..300)),
                };
                match sender.send(request).await {
                    Ok(response) => {
                        let answer = Answer::read(response).await?;
                        self.connection = (left > 1).then_some((sender, left - 1));
                        return Ok(answer);
                    }
                    // The gateway had closed the connection, and not a byte was sent: every client
                    // takes another one then.
                    Err((_, Some(unsent))) => request = unsent,
                    Err((error, None)) => {
                        return Err(anyhow!(error)).context("a request without an answer");
                    }
                }
            }
        };
        timeout(PATIENCE, exchange).await.context("no answer in time")?
    }

    async fn connect(&self) -> anyhow::Result<Sender> {
        let stream = TokioIo::new(self.dial.connect(self.http2).await?);
        self.made.set(self.made.get() + 1);
        if self.http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            spawn_local(connection);
            Ok(Sender::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(stream).await?;
            spawn_local(connection);
            Ok(Sender::Http1(sender))
        }
    }
}

impl Sender {
    /// Sends a request; gives it back when it was not sent.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, (hyper::Error, Option<Request<Full<Bytes>>>)> {
        let ready = match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        };
        if let Err(error) = ready {
            return Err((error, Some(request)));
        }
        let sent = match self {
            Self::Http1(sender) => sender.try_send_request(request).await,
            Self::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| {
            let unsent = error.take_message();
            (error.into_error(), unsent)
        })
    }
}

impl Answer {
    async fn read(response: Response<Incoming>) -> anyhow::Result<Self> {
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("an answer that breaks off")?.to_bytes();
        if head.headers.get("content-length").is_none() && !body.is_empty() {
            bail!("an answer without its length");
        }
        let request_id = head.headers.contains_key("x-request-id");
        Ok(Self { status: head.status, body, request_id })
    }

    /// A member of its JSON.
    pub(crate) fn member(&self, name: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body[name].as_str().map(str::to_owned)
    }

    /// The code of a failure in the gateway's envelope; `None` where it is no such.
    pub(crate) fn failure(&self) -> Option<String> {
        let says = |name| self.member(name).is_some_and(|text| !text.is_empty());
        let enveloped = self.request_id && says("message") && says("requestId");
        self.member("code").filter(|_| enveloped)
    }
}
