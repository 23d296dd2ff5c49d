//! The load: closed loops that saturate, an open loop at a fixed rate, handshakes, idle
//! connections. All of it runs on this thread, beside the upstream.

mod call;
mod closed;
mod handshake;
mod rate;
mod tally;
mod target;

use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use call::{Call, Traffic};
pub use closed::{Sender, ask, connect};
pub use target::{Connection, Target};

use crate::peer::all_cores;
use crate::sample::{Tree, Usage, idled};
use tally::Tally;

/// How a proxy is loaded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// So many keep-alive connections, each asking again as soon as it is answered.
    Closed { connections: usize },
    /// HTTP/2: so many connections with so many streams each, in closed loops.
    Streams { connections: usize, streams: usize },
    /// So many requests a second, due at even intervals whether or not the last are answered.
    Rate { per_second: u32, connections: usize },
    /// Connection, TLS handshake, one request, and again.
    Handshakes { resumed: bool, connections: usize },
    /// So many connections that each asked once and stay open.
    Idle { connections: usize },
    /// So many connections at once that each asked once and then left.
    Burst { connections: usize },
    /// None: what counts is how soon the first request is answered.
    Start,
}

/// What happened in the time that was measured.
pub struct Window {
    /// Answers.
    pub answers: u64,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// What the proxy used in it.
    pub usage: Usage,
    /// The cores that were used by neither the proxy nor this process.
    pub others: f64,
    /// From when a request was due to the end of its answer, sorted, in microseconds; only at a
    /// fixed rate.
    pub latencies: Vec<u32>,
    /// Handshakes that resumed a session, of all handshakes: 0 to 1.
    pub resumed: f64,
}

impl Window {
    /// Loads the proxy whose processes are `tree`: a warm-up, then the time that counts.
    pub async fn of(
        load: Load,
        target: &Rc<Target>,
        traffic: &Rc<Traffic>,
        tree: &Tree,
        times: (Duration, Duration),
    ) -> anyhow::Result<Self> {
        let tally = Rc::new(Tally::default());
        let mut tasks = JoinSet::new();
        start(load, target, traffic, &tally, &mut tasks)?;
        let (warm_up, counted) = times;
        sleep(warm_up).await;
        tally.clear();
        let this = Tree::of(std::process::id());
        let own = || this.usage().cpu();
        let (idle, own_before) = (idled(), own());
        let (began, before) = (Instant::now(), tree.usage());
        sleep(counted).await;
        let answers = tally.answers.get();
        let (usage, seconds) = (tree.usage() - before, began.elapsed().as_secs_f64());
        let ours = usage.cpu() + own() - own_before;
        let others = all_cores() as f64 - (idled() - idle + ours) / seconds;
        let latencies = tally.sorted_latencies();
        tally.stop.set(true);
        tasks.shutdown().await;
        tally.verdict()?;
        traffic.verdict()?;
        ensure!(answers > 0, "no request was answered in {seconds:.1} s");
        let resumed = tally.resumed.get() as f64 / answers as f64;
        Ok(Self { answers, seconds, usage, others, latencies, resumed })
    }
}

fn start(
    load: Load,
    target: &Rc<Target>,
    traffic: &Rc<Traffic>,
    tally: &Rc<Tally>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let rest = || (Rc::clone(target), Rc::clone(traffic), Rc::clone(tally));
    match load {
        Load::Closed { connections } => {
            for number in 0..connections {
                let (target, traffic, tally) = rest();
                tasks.spawn_local(closed::connection(target, traffic, tally, number));
            }
        }
        Load::Streams { connections, streams } => {
            for _ in 0..connections {
                let (target, traffic, tally) = rest();
                tasks.spawn_local(closed::streams(target, traffic, tally, streams));
            }
        }
        Load::Rate { per_second, connections } => {
            let (target, traffic, tally) = rest();
            let rate = rate::Rate::new(per_second, connections)?;
            tasks.spawn_local(rate.run(target, traffic, tally));
        }
        Load::Handshakes { connections, resumed } => {
            for _ in 0..connections {
                // Each has its own sessions: a ticket of TLS 1.3 is good for one handshake.
                let own = Rc::new(if resumed { target.resuming() } else { target.forgetful() });
                let (_, traffic, tally) = rest();
                tasks.spawn_local(handshake::repeat(own, traffic, tally));
            }
        }
        Load::Idle { .. } | Load::Burst { .. } | Load::Start => {
            bail!("this load is no stream of requests")
        }
    }
    Ok(())
}

/// Sends requests in closed loops until `over`, and says how many were answered.
pub async fn until(
    over: impl Future<Output = ()>,
    load: Load,
    target: &Rc<Target>,
    traffic: &Rc<Traffic>,
) -> anyhow::Result<u64> {
    let tally = Rc::new(Tally::default());
    let mut tasks = JoinSet::new();
    start(load, target, traffic, &tally, &mut tasks)?;
    over.await;
    tally.stop.set(true);
    let answers = tally.answers.get();
    tasks.shutdown().await;
    tally.verdict()?;
    Ok(answers)
}

/// Connections that each asked once and stay open as long as this lives.
pub async fn idle(
    target: &Target,
    traffic: &Traffic,
    count: usize,
) -> anyhow::Result<Vec<Connection>> {
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        // A small inbox: thousands of them are this process's own memory.
        let mut connection = target.connect(1024).await.with_context(|| {
            format!("idle connection {number} of {count}; is `ulimit -n` high enough?")
        })?;
        let call = traffic.call(number);
        let status = connection.exchange(&call.bytes).await.context("an idle connection broke")?;
        ensure!(call.takes(status), "an idle connection got a {status}");
        open.push(connection);
    }
    Ok(open)
}

/// The same over HTTP/2.
pub async fn idle_http2(
    target: &Target,
    traffic: &Traffic,
    count: usize,
) -> anyhow::Result<Vec<Sender>> {
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let mut sender = connect(target).await.with_context(|| {
            format!("idle connection {number} of {count}; is `ulimit -n` high enough?")
        })?;
        let call = traffic.call(number);
        let status = ask(&mut sender, call).await.context("an idle connection broke")?;
        ensure!(call.takes(status), "an idle connection got a {status}");
        open.push(sender);
    }
    Ok(open)
}
