//! Whether a peer really does the work: a figure of one that does less would be worth nothing.

use anyhow::{Context as _, ensure};

use super::Ground;
use crate::load::{Call, Target};
use crate::scenario::{Scenario, Sent, Wire};
use crate::wire;

/// Asks what it must answer and what it must refuse. With a limit that lets one request through,
/// which the first answer was, it must refuse the next ones for that reason.
pub(super) async fn works(
    target: &Target,
    scenario: &Scenario,
    ground: &Ground,
) -> anyhow::Result<()> {
    let good = ground.good(scenario.credential)?;
    if scenario.sent == Sent::Limited {
        ask(target, &Call::limited(good)).await?;
        let status = ask(target, &Call::limited(good)).await?;
        ensure!(status == 403 || status == 429, "a caller over its limit gets a {status}");
        return Ok(());
    }
    let refused = ground.refused(scenario.credential)?;
    let refused = refused.into_iter().map(|(what, key)| (what, Call::unknown(Some(key)), false));
    let mut asked = vec![
        ("a read with a good key", Call::get(good), true),
        ("a change with a good key", Call::post(good), true),
        ("a request without a key", Call::unknown(None), false),
    ];
    // There the caller may do everything.
    if scenario.sent != Sent::SchoolDay {
        asked.push(("a request that the caller may not make", Call::forbidden(good), false));
    }
    asked.extend(refused);
    for (what, call, forwarded) in asked {
        ground.upstream.watch();
        let status = ask(target, &call).await.with_context(|| format!("{what} gets no answer"))?;
        let seen = ground.upstream.seen();
        ensure!(call.takes(status), "{what} gets a {status}");
        ensure!(seen.is_some() == forwarded, "{what}: forwarded is {}", seen.is_some());
        if let Some(head) = seen {
            let http2 = head.windows(8).any(|bytes| bytes == b" HTTP/2\r");
            ensure!(
                http2 == (scenario.outbound == Wire::TlsH2),
                "{what} reaches it over another version"
            );
            let token = wire::field(&head, "token").unwrap_or_default();
            ensure!(token.starts_with(b"NETLESS"), "{what} reaches the upstream without a `token`");
            ensure!(
                wire::field(&head, "authorization").is_none(),
                "{what} shows the caller's key to the upstream"
            );
        }
    }
    Ok(())
}

async fn ask(target: &Target, call: &Call) -> anyhow::Result<u16> {
    Ok(target.connect(8 * 1024).await?.exchange(&call.bytes).await?)
}
