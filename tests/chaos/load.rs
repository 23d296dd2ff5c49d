//! Honest traffic: callers by every way that there is to the gateway, who ask and judge what they get.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::account::{Account, Kind, Outcome, Sent};
use crate::client::{Answer, Client};
use crate::table::NO_CONNECTION;
use crate::time::scenario_delay;
use crate::tls::Dial;

/// Longer than the gateway may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

const MINT: &str = r#"{"role":"reader","lifespan":3600000}"#;

/// A room that nobody made: its tokens are minted all the same.
const SOME_ROOM: &str = "4a50c7a0c71f11ea8c2ba7f2b9f8b7a1";

/// Where the rooms are of which a list is long.
pub(crate) const CROWDED: &str = "sg";

/// How many of them a list has.
pub(crate) const LISTED: usize = 1_000;

/// A way to the gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) http2: bool,
}

/// What the callers share.
pub(crate) struct Load {
    pub(crate) dial: Dial,
    pub(crate) account: Rc<Account>,
    pub(crate) key: String,
    /// That of the caller under a budget.
    pub(crate) metered: String,
    /// Whether the store is there, which keeps budgets.
    pub(crate) budgets: bool,
    /// A token that the identity provider has signed.
    pub(crate) jwt: RefCell<String>,
    pub(crate) stop: Cell<bool>,
    pub(crate) pause: Duration,
}

impl Load {
    /// Asks by this way until it is told to stop.
    pub(crate) async fn call(self: Rc<Self>, lane: Lane) {
        let mut client = self.client(lane);
        // The uuid, and how often the service had been started when it was asked for.
        let mut room: Option<(String, u64)> = None;
        scenario_delay(Duration::from_millis(fastrand::u64(..100))).await;
        while !self.stop.get() {
            let kind = match fastrand::u8(..100) {
                0..20 => Kind::CreateRoom,
                20..55 if room.is_some() => Kind::ReadRoom,
                20..55 => Kind::CreateRoom,
                55..70 => Kind::MintByKey,
                70..85 => Kind::MintByJwt,
                _ if self.budgets => Kind::MintOfBudget,
                _ => Kind::MintByKey,
            };
            let sent = Sent { kind, lane: lane.name, at: Instant::now() };
            let restarts = self.account.restarts.get();
            let (uuid, made) = room.clone().unwrap_or_else(|| (SOME_ROOM.to_owned(), restarts));
            let outcome = match self.ask(&mut client, kind, &uuid).await {
                Err(error) => Outcome::Lost(format!("{error:#}")),
                Ok(answer) => {
                    if kind == Kind::CreateRoom
                        && let Some(uuid) = answer.member("uuid")
                    {
                        room = Some((uuid, restarts));
                    }
                    outcome(&answer, kind, &uuid, self.account.restarts.get() > made)
                }
            };
            if !matches!(outcome, Outcome::Right) && kind == Kind::ReadRoom {
                room = None;
            }
            self.account.judge(&sent, outcome);
            scenario_delay(self.pause).await;
        }
    }

    /// Asks for long answers by this way, and reads them.
    pub(crate) async fn read_long(self: Rc<Self>, lane: Lane) {
        let mut client = self.client(lane);
        client.region = Some(CROWDED);
        loop {
            let sent = Sent { kind: Kind::ListRooms, lane: lane.name, at: Instant::now() };
            let restarts = self.account.restarts.get();
            let outcome = match self.ask(&mut client, sent.kind, "").await {
                Err(error) => Outcome::Lost(format!("{error:#}")),
                // Started again, the service knows none of the rooms.
                Ok(answer) => outcome(&answer, sent.kind, "", restarts > 0),
            };
            self.account.judge(&sent, outcome);
            scenario_delay(2 * self.pause).await;
        }
    }

    /// Asks by this way, and each time ends its side behind the request.
    pub(crate) async fn half_close(self: Rc<Self>, lane: Lane) {
        loop {
            let kind = [Kind::CreateRoom, Kind::MintByKey, Kind::MintByJwt][fastrand::usize(..3)];
            let sent = Sent { kind, lane: "HTTP/1.1, half-closed", at: Instant::now() };
            let outcome = match self.ask_and_end(lane, kind).await {
                Err(error) => Outcome::Lost(format!("{error:#}")),
                Ok(answer) => outcome(&answer, kind, "", false),
            };
            self.account.judge(&sent, outcome);
            scenario_delay(self.pause).await;
        }
    }

    async fn ask_and_end(&self, lane: Lane, kind: Kind) -> anyhow::Result<Answer> {
        let request = self.written(kind);
        let exchange = async {
            let mut stream = self.dial.to(lane.address).connect(false).await?;
            stream.write_all(request.as_bytes()).await?;
            stream.shutdown().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            parsed(&answer)
        };
        timeout(PATIENCE, exchange).await.context("no answer in time")?
    }

    /// A request of HTTP/1.1, as it is written.
    pub(crate) fn written(&self, kind: Kind) -> String {
        let jwt = self.jwt.borrow().clone();
        let (method, path, body) = target(kind, SOME_ROOM);
        let credential = self.credential(kind, &jwt);
        format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {credential}\r\n\
             region: {}\r\ncontent-length: {}\r\n\r\n{body}",
            if kind == Kind::ListRooms { CROWDED } else { "us-sv" },
            body.len(),
        )
    }

    fn client(&self, lane: Lane) -> Client {
        let dial = self.dial.to(lane.address);
        Client::new(dial, lane.http2, Rc::clone(&self.account.connections))
    }

    async fn ask(&self, client: &mut Client, kind: Kind, uuid: &str) -> anyhow::Result<Answer> {
        let jwt = self.jwt.borrow().clone();
        let (method, path, body) = target(kind, uuid);
        let credential = self.credential(kind, &jwt);
        client.send(method, &path, credential, body).await
    }

    fn credential<'a>(&'a self, kind: Kind, jwt: &'a str) -> &'a str {
        match kind {
            Kind::MintByJwt => jwt,
            Kind::MintOfBudget => &self.metered,
            _ => &self.key,
        }
    }

    /// The status of one token with this credential, on a connection of its own.
    pub(crate) async fn status_for(&self, lane: Lane, credential: &str) -> anyhow::Result<u16> {
        let path = format!("/v5/tokens/rooms/{SOME_ROOM}");
        let answer = self.client(lane).send("POST", &path, credential, MINT).await?;
        Ok(answer.status.as_u16())
    }
}

/// What is asked for.
fn target(kind: Kind, uuid: &str) -> (&'static str, String, &'static str) {
    match kind {
        Kind::CreateRoom => ("POST", "/v5/rooms".to_owned(), r#"{"isRecord":false}"#),
        Kind::ReadRoom => ("GET", format!("/v5/rooms/{uuid}"), ""),
        Kind::ListRooms => ("GET", format!("/v5/rooms?limit={LISTED}"), ""),
        _ => ("POST", format!("/v5/tokens/rooms/{uuid}"), MINT),
    }
}

/// An answer of HTTP/1.1, of which all has come.
fn parsed(bytes: &[u8]) -> anyhow::Result<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("no answer")?;
    let head = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    let status = head.get(9..12).context("no status")?.parse()?;
    let body = Bytes::copy_from_slice(&bytes[end + 4..]);
    ensure!(
        head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
        "an answer that breaks off"
    );
    Ok(Answer { status, body, request_id: head.contains("\r\nx-request-id: ") })
}

/// What an answer is, by the gateway's documentation.
fn outcome(answer: &Answer, kind: Kind, uuid: &str, restarted: bool) -> Outcome {
    let right = match kind {
        Kind::CreateRoom => answer.status == 201 && answer.member("uuid").is_some(),
        Kind::ReadRoom => answer.status == 200 && answer.member("uuid").as_deref() == Some(uuid),
        Kind::ListRooms => answer.status == 200 && (listed(answer) == Some(LISTED) || restarted),
        _ => answer.status == 201 && answer.body.starts_with(b"\"NETLESSROOM_"),
    };
    match answer.failure() {
        _ if right && answer.request_id => Outcome::Right,
        Some(code) if code == "not_found" && kind == Kind::ReadRoom && restarted => {
            Outcome::Forgotten
        }
        Some(code) if code == "upstream_timeout" && not_sent(answer) => {
            Outcome::Failed(NO_CONNECTION.to_owned())
        }
        Some(code) => Outcome::Failed(code),
        // A proxy whose connection was ended.
        None if answer.status.is_server_error() && !answer.request_id => {
            Outcome::Lost(format!("{} by a proxy", answer.status))
        }
        None => {
            let body: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
            Outcome::Failed(format!("{} {body}", answer.status))
        }
    }
}

/// How many rooms it lists.
fn listed(answer: &Answer) -> Option<usize> {
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).ok()?;
    Some(listed.len())
}

/// Whether it says that there was no connection to the service in time.
fn not_sent(answer: &Answer) -> bool {
    answer.member("message").is_some_and(|message| message.contains("could not be connected to"))
}
