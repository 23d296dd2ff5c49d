//! One measurement: a peer, fresh, in one scenario.

mod trace;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use crate::load::{self, Load, Window};
use crate::peer::{Ground, Kind, Peer, all_cores};
use crate::sample::idled;
use crate::scenario::{Scenario, Times, Wire};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    Cpu,
    User,
    System,
    PerCpuSecond,
    PerSecond,
    Busy,
    Others,
    P50,
    P99,
    P999,
    SystemCalls,
    Waits,
    Preemptions,
    Resumed,
    Start,
    MemoryAtRest,
    MemoryAfter,
    MemoryIdle,
    MemorySettled,
    Settled,
    PerConnection,
}

impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cpu => "**CPU µs/request**",
            Self::User => "of which user",
            Self::System => "of which system",
            Self::PerCpuSecond => "handshakes per CPU-second",
            Self::PerSecond => "requests/s",
            Self::Busy => "cores busy",
            Self::Others => "cores used by others",
            Self::P50 => "p50 µs",
            Self::P99 => "p99 µs",
            Self::P999 => "p99.9 µs",
            Self::SystemCalls => "system calls/request",
            Self::Waits => "context switches/request, to wait",
            Self::Preemptions => "context switches/request, preempted",
            Self::Resumed => "share resumed",
            Self::Start => "start to first answer, ms",
            Self::MemoryAtRest => "memory at rest, MiB",
            Self::MemoryAfter => "memory after load, MiB",
            Self::MemoryIdle => "memory with these connections, MiB",
            Self::MemorySettled => "memory long after they left, MiB",
            Self::Settled => "the same, times memory at rest",
            Self::PerConnection => "KiB per idle connection",
        })
    }
}

impl Measure {
    /// Whether a ratio of it says something.
    pub fn compares(self) -> bool {
        !matches!(self, Self::Busy | Self::Others | Self::Resumed | Self::Settled)
    }
}

/// No measurement takes longer, unless a peer hangs.
const MOST: Duration = Duration::from_secs(240);

/// The figures of one measurement.
pub type Figures = Vec<(Measure, f64)>;

/// So many cores that others use leave figures as they are.
const NOTHING: f64 = 0.1;

/// Measures when the machine is quiet, and again when it was not: what others do at the same time
/// is in every figure. After so long it measures all the same, and the figures tell.
pub async fn undisturbed(
    kind: Kind,
    scenario: &Scenario,
    ground: &Ground,
    times: Times,
    patience: Duration,
) -> anyhow::Result<Figures> {
    let deadline = Instant::now() + patience;
    loop {
        while Instant::now() < deadline && used_at_rest().await > NOTHING {}
        let figures = measure(kind, scenario, ground, times);
        let figures = timeout(MOST, figures).await.context("it hangs").flatten()?;
        let disturbed =
            |(measure, figure): &(Measure, f64)| *measure == Measure::Others && *figure > NOTHING;
        if Instant::now() > deadline || !figures.iter().any(disturbed) {
            return Ok(figures);
        }
    }
}

/// The cores that are used while nothing of a comparison runs.
async fn used_at_rest() -> f64 {
    let (began, before) = (Instant::now(), idled());
    sleep(Duration::from_millis(500)).await;
    all_cores() as f64 - (idled() - before) / began.elapsed().as_secs_f64()
}

/// Starts the peer, loads it, reads off what it used, and stops it.
async fn measure(
    kind: Kind,
    scenario: &Scenario,
    ground: &Ground,
    times: Times,
) -> anyhow::Result<Figures> {
    let peer = Peer::start(kind, scenario, ground).await.context("it does not do the work")?;
    match scenario.load {
        Load::Start => Ok(vec![(Measure::Start, peer.took.as_secs_f64() * 1e3)]),
        Load::Idle { connections } => {
            idle(&peer, scenario, ground, connections.min(times.idle).min(kind.connections())).await
        }
        Load::Burst { connections } => {
            burst(
                &peer,
                scenario,
                ground,
                (connections.min(times.idle).min(kind.connections()), times.settled),
            )
            .await
        }
        _ => stream(&peer, scenario, ground, times).await,
    }
}

async fn idle(
    peer: &Peer,
    scenario: &Scenario,
    ground: &Ground,
    count: usize,
) -> anyhow::Result<Figures> {
    let traffic = scenario.traffic(ground)?;
    // One request first: what a first request makes once is not a connection's.
    drop(load::idle(&peer.target, &traffic, 1).await?);
    let before = peer.tree.memory_kib();
    let open = load::idle(&peer.target, &traffic, count).await?;
    // Idle is who has asked nothing for a while.
    sleep(Duration::from_secs(2)).await;
    let after = peer.tree.memory_kib();
    drop(open);
    Ok(vec![
        (Measure::MemoryAtRest, before / 1024.0),
        (Measure::MemoryIdle, after / 1024.0),
        (Measure::PerConnection, (after - before) / count as f64),
    ])
}

/// What is left of a burst of connections when all of them are long gone.
async fn burst(
    peer: &Peer,
    scenario: &Scenario,
    ground: &Ground,
    (count, settled): (usize, Duration),
) -> anyhow::Result<Figures> {
    let traffic = scenario.traffic(ground)?;
    let at_rest = peer.tree.memory_kib();
    let most = match scenario.inbound {
        Wire::TlsH2 => {
            let open = load::idle_http2(&peer.target, &traffic, count).await?;
            let most = peer.tree.memory_kib();
            drop(open);
            most
        }
        Wire::Plain | Wire::TlsH1 => {
            let open = load::idle(&peer.target, &traffic, count).await?;
            let most = peer.tree.memory_kib();
            drop(open);
            most
        }
    };
    sleep(settled).await;
    let after = peer.tree.memory_kib();
    Ok(vec![
        (Measure::MemoryAtRest, at_rest / 1024.0),
        (Measure::MemoryIdle, most / 1024.0),
        (Measure::MemorySettled, after / 1024.0),
        (Measure::Settled, after / at_rest),
    ])
}

async fn stream(
    peer: &Peer,
    scenario: &Scenario,
    ground: &Ground,
    times: Times,
) -> anyhow::Result<Figures> {
    let at_rest = peer.tree.memory_kib();
    let traffic = scenario.traffic(ground)?.into();
    let (load, lasting) = (scenario.load, (times.warm_up, times.counted));
    // Dropped at the end, and aborted with that.
    let mut awake = JoinSet::new();
    if times.awake && scenario.workers == 1 {
        awake.spawn_local(async {
            loop {
                yield_now().await;
            }
        });
    }
    let window = Window::of(load, &peer.target, &traffic, &peer.tree, lasting).await?;
    settle().await;
    let after = peer.tree.memory_kib();
    let mut figures = of_window(&window);
    if scenario.trace && !times.traced.is_zero() {
        let calls = trace::system_calls(peer, load, &traffic, times.traced).await?;
        figures.push((Measure::SystemCalls, calls));
    }
    if let Load::Handshakes { .. } = load {
        figures.push((Measure::PerCpuSecond, window.answers as f64 / window.usage.cpu()));
        figures.push((Measure::Resumed, window.resumed));
    }
    figures.push((Measure::MemoryAtRest, at_rest / 1024.0));
    figures.push((Measure::MemoryAfter, after / 1024.0));
    Ok(figures)
}

fn of_window(window: &Window) -> Figures {
    let Window { usage, seconds, latencies, .. } = window;
    let each = 1.0 / window.answers as f64;
    let mut figures = vec![
        (Measure::Cpu, usage.cpu() * each * 1e6),
        (Measure::User, usage.user * each * 1e6),
        (Measure::System, usage.system * each * 1e6),
        (Measure::PerSecond, window.answers as f64 / seconds),
        (Measure::Busy, usage.cpu() / seconds),
        (Measure::Others, window.others.max(0.0)),
        (Measure::Waits, usage.waited * each),
        (Measure::Preemptions, usage.preempted * each),
    ];
    for (measure, part) in [(Measure::P50, 0.5), (Measure::P99, 0.99), (Measure::P999, 0.999)] {
        if let Some(latency) = quantile(latencies, part) {
            figures.push((measure, latency));
        }
    }
    figures
}

/// The least value that so large a part of all does not exceed.
fn quantile(sorted: &[u32], part: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|value| f64::from(*value))
}

/// Long enough for closed connections to be noticed.
async fn settle() {
    sleep(Duration::from_millis(400)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let sorted: Vec<u32> = (1..=1000).collect();
        assert_eq!(quantile(&sorted, 0.5), Some(500.0));
        assert_eq!(quantile(&sorted, 0.999), Some(999.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
