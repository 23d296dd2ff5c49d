//! Closed loops: as much as the proxy can take.

use std::rc::Rc;

use anyhow::Context as _;
use http_body_util::BodyExt as _;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::task::{JoinSet, spawn_local};

use super::tally::Tally;
use super::{Call, Target, Traffic};
use crate::local::LocalExecutor;

/// Asks again as soon as it is answered. `number` spreads the calls over the connections.
pub(super) async fn connection(
    target: Rc<Target>,
    traffic: Rc<Traffic>,
    tally: Rc<Tally>,
    number: usize,
) {
    while !tally.stop.get() {
        let mut connection = match target.connect(64 * 1024).await {
            Ok(connection) => connection,
            Err(error) => return tally.broke(error),
        };
        for number in number.. {
            let call = traffic.call(number);
            match connection.exchange(&call.bytes).await {
                Ok(status) => tally.answered(call, status),
                Err(error) => {
                    tally.broke(error);
                    break;
                }
            }
        }
    }
}

/// An HTTP/2 connection with so many streams, each a closed loop.
pub(super) async fn streams(
    target: Rc<Target>,
    traffic: Rc<Traffic>,
    tally: Rc<Tally>,
    count: usize,
) {
    let sender = match connect(&target).await {
        Ok(sender) => sender,
        Err(error) => return tally.broke(format_args!("{error:#}")),
    };
    let mut streams = JoinSet::new();
    for number in 0..count {
        let (sender, traffic, tally) = (sender.clone(), Rc::clone(&traffic), Rc::clone(&tally));
        streams.spawn_local(async move {
            if let Err(error) = stream(sender, &traffic, &tally, number).await {
                tally.broke(format_args!("{error:#}"));
            }
        });
    }
    streams.join_all().await;
}

/// What sends requests on an HTTP/2 connection; it ends with the last of them.
pub type Sender = http2::SendRequest<http_body_util::Full<bytes::Bytes>>;

/// Opens an HTTP/2 connection.
pub async fn connect(target: &Target) -> anyhow::Result<Sender> {
    let (stream, _) = target.open().await.context("no connection")?;
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        // Large enough that no answer of a comparison waits for the window.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .context("no HTTP/2")?;
    // It ends with the last sender; what broke it is seen by the streams.
    spawn_local(connection);
    Ok(sender)
}

/// Asks once, reads the answer to its end, and says its status.
pub async fn ask(sender: &mut Sender, call: &Call) -> anyhow::Result<u16> {
    sender.ready().await?;
    let answer = sender.send_request(call.request()?).await?;
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(status)
}

async fn stream(
    mut sender: Sender,
    traffic: &Traffic,
    tally: &Tally,
    number: usize,
) -> anyhow::Result<()> {
    for number in number.. {
        if tally.stop.get() {
            break;
        }
        let call = traffic.call(number);
        let status = ask(&mut sender, call).await?;
        tally.answered(call, status);
    }
    Ok(())
}
