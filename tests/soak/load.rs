//! The callers: each keeps a connection for a while, asks on it, and judges what it gets.

use std::cell::{Cell, RefCell};
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
use tokio::time::{Instant, sleep, timeout};

use crate::tally::{Kind, Tally, Verdict};
use crate::tls::Dial;

/// Longer than the gateway may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the failure of an upstream that is away may be called.
const AWAY: [&str; 3] = ["upstream_error", "upstream_timeout", "upstream_unavailable"];

/// What the callers share.
pub(crate) struct Load {
    pub(crate) dial: Dial,
    pub(crate) tally: Rc<Tally>,
    pub(crate) key: String,
    /// The token of the identity provider's newest key.
    pub(crate) jwt: RefCell<String>,
    pub(crate) stop: Cell<bool>,
    pub(crate) pause: Duration,
}

/// A caller, its connection and its room.
struct Caller {
    load: Rc<Load>,
    http2: bool,
    connection: Option<(Sender, u32)>,
    /// Its uuid, and how often the upstream had come back when it was asked for.
    room: Option<(String, usize)>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

struct Answer {
    status: StatusCode,
    body: Bytes,
    request_id: bool,
}

impl Load {
    /// Asks until it is told to stop.
    pub(crate) async fn call(self: Rc<Self>, number: usize) {
        let mut caller =
            Caller { load: Rc::clone(&self), http2: number % 2 == 1, connection: None, room: None };
        sleep(Duration::from_millis(number as u64 * 7)).await;
        while !self.stop.get() {
            caller.ask().await;
            sleep(self.pause).await;
        }
    }

    /// The status of one request with this credential, on a connection of its own.
    pub(crate) async fn status_for(self: &Rc<Self>, credential: &str) -> anyhow::Result<u16> {
        let mut caller =
            Caller { load: Rc::clone(self), http2: false, connection: None, room: None };
        let (path, body) = ("/v5/tokens/rooms/4a50c7a0c71f11ea8c2ba7f2b9f8b7a1", MINT);
        Ok(caller.send("POST", path, credential, body).await?.status.as_u16())
    }
}

const MINT: &str = r#"{"role":"reader","lifespan":3600000}"#;

impl Caller {
    async fn ask(&mut self) {
        let kind = match (fastrand::u8(..100), &self.room) {
            (0..15, _) | (_, None) => Kind::CreateRoom,
            (15..60, _) => Kind::ReadRoom,
            (60..85, _) => Kind::MintByKey,
            (85.., _) => Kind::MintByJwt,
        };
        let load = Rc::clone(&self.load);
        let (uuid, returns) = self.room.clone().unwrap_or_default();
        let (method, path, body) = match kind {
            Kind::CreateRoom => ("POST", "/v5/rooms".to_owned(), r#"{"isRecord":false}"#),
            Kind::ReadRoom => ("GET", format!("/v5/rooms/{uuid}"), ""),
            Kind::MintByKey | Kind::MintByJwt => ("POST", format!("/v5/tokens/rooms/{uuid}"), MINT),
        };
        let credential = match kind {
            Kind::MintByJwt => load.jwt.borrow().clone(),
            _ => load.key.clone(),
        };
        let begun = Instant::now();
        let returned = load.tally.returns();
        load.tally.sends(kind);
        let answer = self.send(method, &path, &credential, body).await;
        let (verdict, why) = match &answer {
            Err(error) => (Verdict::Ours, format!("{error:#}")),
            Ok(answer) => {
                let away = load.tally.was_away_since(begun);
                let forgotten = load.tally.restarts() > returns;
                let verdict = answer.judge(kind, &uuid, away, forgotten);
                (verdict, format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)))
            }
        };
        if let (Kind::CreateRoom, Verdict::Good, Ok(answer)) = (kind, verdict, &answer) {
            self.room = answer.member("uuid").map(|uuid| (uuid, returned));
        }
        if matches!(verdict, Verdict::Forgotten | Verdict::Ours) {
            self.room = None;
        }
        let by = if self.http2 { "HTTP/2" } else { "HTTP/1.1" };
        let took = begun.elapsed();
        load.tally.judge(kind, verdict, || format!("{by}, after {took:?}: {why}"));
    }

    /// Sends a request, on the connection that there is or a new one.
    async fn send(
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
        let stream = TokioIo::new(self.load.dial.connect(self.http2).await?);
        self.load.tally.connected();
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

    fn member(&self, name: &str) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.body).ok()?;
        body[name].as_str().map(str::to_owned)
    }

    /// Whether it is what was asked for, by the gateway's documentation.
    fn judge(&self, kind: Kind, uuid: &str, away: bool, forgotten: bool) -> Verdict {
        let right = match kind {
            Kind::CreateRoom => self.status == 201 && self.member("uuid").is_some(),
            Kind::ReadRoom => self.status == 200 && self.member("uuid").as_deref() == Some(uuid),
            // Tokens are minted in the gateway: no upstream is an excuse.
            Kind::MintByKey | Kind::MintByJwt => {
                self.status == 201 && self.body.starts_with(b"\"NETLESSROOM_")
            }
        };
        if right && self.request_id {
            return Verdict::Good;
        }
        let code = self.member("code").unwrap_or_default();
        let enveloped = self.request_id
            && self.member("message").is_some_and(|message| !message.is_empty())
            && self.member("requestId").is_some();
        let forwarded = matches!(kind, Kind::CreateRoom | Kind::ReadRoom);
        match self.status.as_u16() {
            500 if forwarded && away && enveloped && AWAY.contains(&code.as_str()) => {
                Verdict::Upstream
            }
            404 if kind == Kind::ReadRoom && forgotten && enveloped && code == "not_found" => {
                Verdict::Forgotten
            }
            _ => Verdict::Ours,
        }
    }
}
