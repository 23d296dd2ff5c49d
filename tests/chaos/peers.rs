//! Peers of the gateway that are none of its honest callers: crowds, those who read nothing of what
//! they ask for, and those who end in the midst of what they say.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_local};

use crate::account::Kind;
use crate::load::{CROWDED, LISTED, Lane, Load};
use crate::time::scenario_delay;
use crate::tls::Dial;

/// How long who comes stays.
const STAYS: Duration = Duration::from_secs(60);

/// How many answers nobody takes over HTTP/1.1, each on a connection of its own; how many
/// connections of HTTP/2 there are beside them, and with how many such answers each.
const UNREAD: (usize, usize, usize) = (16, 2, 12);

/// How long after each other they are asked for: so many at once would be a load for the service.
const APART: Duration = Duration::from_millis(100);

/// What such a peer's system keeps for it: the rest stays with the gateway.
const SMALL: usize = 8 * 1024;

/// A hundred strangers a second, for as long as this is waited for.
pub(crate) async fn crowd(dial: Dial, address: SocketAddr, count: Rc<Cell<u64>>) {
    let mut strangers = Vec::new();
    loop {
        count.set(count.get() + 1);
        if count.get().is_multiple_of(3) {
            let dial = dial.clone();
            strangers.push(spawn_local(async move { stranger(&dial).await }));
        } else {
            strangers.push(spawn_local(silent(address)));
        }
        scenario_delay(Duration::from_millis(10)).await;
        strangers.retain(|one| !one.is_finished());
    }
}

/// Somebody who connects and says nothing, or half a head in the clear.
async fn silent(address: SocketAddr) {
    if let Ok(mut socket) = TcpStream::connect(address).await {
        _ = socket.write_all(&[0x16, 0x03]).await;
        scenario_delay(STAYS).await;
    }
}

/// Somebody without a credential, who stays.
async fn stranger(dial: &Dial) {
    if let Ok(mut stream) = dial.connect(false).await {
        _ = stream.write_all(b"GET /v5/rooms HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        scenario_delay(STAYS).await;
    }
}

/// A caller that asks for long answers and takes nothing of them, for as long as this is waited for.
pub(crate) async fn unread(load: Rc<Load>, lane: Lane) {
    let (over_http1, over_http2, streams) = UNREAD;
    let dial = load.dial.to(lane.address);
    let mut asking = JoinSet::new();
    for _ in 0..over_http1 {
        let (dial, request) = (dial.clone(), load.written(Kind::ListRooms));
        asking.spawn_local(async move {
            if let Ok(mut stream) = dial.connect(false).await {
                _ = SockRef::from(stream.get_ref().0).set_recv_buffer_size(SMALL);
                _ = stream.write_all(request.as_bytes()).await;
                scenario_delay(STAYS).await;
            }
        });
        scenario_delay(APART).await;
    }
    for _ in 0..over_http2 {
        _ = ask_for_many(&dial, &load.key, streams, &mut asking).await;
    }
    asking.join_all().await;
}

/// Asks on one connection of HTTP/2, takes the heads that come and nothing of the bodies.
async fn ask_for_many(
    dial: &Dial,
    key: &str,
    streams: usize,
    asking: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let stream = TokioIo::new(dial.connect(true).await?);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(16 * 1024).initial_connection_window_size(64 * 1024);
    let (mut sender, connection) = builder.handshake(stream).await?;
    asking.spawn_local(async move { _ = connection.await });
    for _ in 0..streams {
        let request = Request::get(format!("https://localhost/v5/rooms?limit={LISTED}"))
            .header("authorization", format!("Bearer {key}"))
            .header("region", CROWDED)
            .body(Empty::<Bytes>::new())?;
        sender.ready().await?;
        let answer = sender.send_request(request);
        asking.spawn_local(async move {
            let _head = answer.await;
            scenario_delay(STAYS).await;
        });
        scenario_delay(APART).await;
    }
    Ok(())
}

/// People who end in the midst of their request, for as long as this is waited for.
pub(crate) async fn break_off(load: Rc<Load>, lane: Lane) {
    let dial = load.dial.to(lane.address);
    loop {
        let request = load.written(Kind::CreateRoom);
        let part = fastrand::usize(1..request.len());
        if let Ok(mut stream) = dial.connect(false).await {
            _ = stream.write_all(&request.as_bytes()[..part]).await;
            _ = stream.shutdown().await;
            spawn_local(async move {
                scenario_delay(Duration::from_secs(5)).await;
                drop(stream);
            });
        }
        scenario_delay(Duration::from_millis(50)).await;
    }
}

/// Strangers whose tokens are signed with keys that nobody knows, for as long as this is waited for.
pub(crate) async fn unknown_keys(load: Rc<Load>, lane: Lane) {
    let mut asking = JoinSet::new();
    for number in 0_u32.. {
        let header = json!({ "alg": "EdDSA", "kid": format!("nobody-{number}"), "typ": "JWT" });
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let token = load.jwt.borrow().clone();
        let rest = token.split_once('.').map_or("", |(_, rest)| rest);
        let (load, token) = (Rc::clone(&load), format!("{header}.{rest}"));
        asking.spawn_local(async move { load.status_for(lane, &token).await.is_ok() });
        scenario_delay(Duration::from_millis(50)).await;
        while asking.try_join_next().is_some() {}
    }
}
