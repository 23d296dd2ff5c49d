//! The callers: each keeps a connection for a while, asks on it, and judges what it gets.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Answer, Client};
use crate::tally::{Kind, Tally, Verdict};
use crate::time::scenario_delay;
use crate::tls::Dial;

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
    client: Client,
    /// Its uuid, and how often the upstream had come back when it was asked for.
    room: Option<(String, usize)>,
}

impl Load {
    /// Asks until it is told to stop.
    pub(crate) async fn call(self: Rc<Self>, number: usize) {
        let mut caller = self.caller(number % 2 == 1);
        scenario_delay(Duration::from_millis(number as u64 * 7)).await;
        while !self.stop.get() {
            caller.ask().await;
            scenario_delay(self.pause).await;
        }
    }

    /// The status of one request with this credential, on a connection of its own.
    pub(crate) async fn status_for(self: &Rc<Self>, credential: &str) -> anyhow::Result<u16> {
        let mut caller = self.caller(false);
        let (path, body) = ("/v5/tokens/rooms/4a50c7a0c71f11ea8c2ba7f2b9f8b7a1", MINT);
        Ok(caller.client.send("POST", path, credential, body).await?.status.as_u16())
    }

    fn caller(self: &Rc<Self>, http2: bool) -> Caller {
        let client = Client::new(self.dial.clone(), http2, self.tally.connections());
        Caller { load: Rc::clone(self), client, room: None }
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
        let answer = self.client.send(method, &path, &credential, body).await;
        let (verdict, why) = match &answer {
            Err(error) => (Verdict::Ours, format!("{error:#}")),
            Ok(answer) => {
                let away = load.tally.was_away_since(begun);
                let forgotten = load.tally.restarts() > returns;
                let verdict = judge(answer, kind, &uuid, away, forgotten);
                (verdict, format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)))
            }
        };
        if let (Kind::CreateRoom, Verdict::Good, Ok(answer)) = (kind, verdict, &answer) {
            self.room = answer.member("uuid").map(|uuid| (uuid, returned));
        }
        if matches!(verdict, Verdict::Forgotten | Verdict::Ours) {
            self.room = None;
        }
        let by = if self.client.http2 { "HTTP/2" } else { "HTTP/1.1" };
        let took = begun.elapsed();
        load.tally.judge(kind, verdict, || format!("{by}, after {took:?}: {why}"));
    }
}

/// Whether it is what was asked for, by the gateway's documentation.
fn judge(answer: &Answer, kind: Kind, uuid: &str, away: bool, forgotten: bool) -> Verdict {
    let right = match kind {
        Kind::CreateRoom => answer.status == 201 && answer.member("uuid").is_some(),
        Kind::ReadRoom => answer.status == 200 && answer.member("uuid").as_deref() == Some(uuid),
        // Tokens are minted in the gateway: no upstream is an excuse.
        Kind::MintByKey | Kind::MintByJwt => {
            answer.status == 201 && answer.body.starts_with(b"\"NETLESSROOM_")
        }
    };
    if right && answer.request_id {
        return Verdict::Good;
    }
    let code = answer.failure().unwrap_or_default();
    let forwarded = matches!(kind, Kind::CreateRoom | Kind::ReadRoom);
    match answer.status.as_u16() {
        500 if forwarded && away && AWAY.contains(&code.as_str()) => Verdict::Upstream,
        404 if kind == Kind::ReadRoom && forgotten && code == "not_found" => Verdict::Forgotten,
        _ => Verdict::Ours,
    }
}
