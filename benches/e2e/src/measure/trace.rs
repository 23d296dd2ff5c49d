//! System calls per request, by a short run under `strace`. It slows the proxy many times over, so
//! nothing else is read off that run.

use std::fs;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::load::{self, Load, Traffic};
use crate::peer::{Peer, signal};

/// System calls of the peer per answered request.
pub(super) async fn system_calls(
    peer: &Peer,
    load: Load,
    traffic: &Rc<Traffic>,
    lasting: Duration,
) -> anyhow::Result<f64> {
    let summary = tempfile::NamedTempFile::new()?;
    let mut command = Command::new("strace");
    command.args(["-c", "-f", "-qq", "-o"]).arg(summary.path()).stderr(Stdio::null());
    for process in peer.tree.processes() {
        command.args(["-p", &process.to_string()]);
    }
    let mut strace = command.spawn().context("`strace` cannot be started")?;
    let attached = attached(peer).await;
    let answers = load::until(sleep(lasting), load, &peer.target, traffic).await;
    signal(strace.id(), Signal::INT);
    strace.wait()?;
    attached?;
    let calls = total(&fs::read_to_string(summary.path())?);
    ensure!(calls > 0, "`strace` counted nothing");
    Ok(calls as f64 / answers?.max(1) as f64)
}

/// Waits until every process of the peer is traced.
async fn attached(peer: &Peer) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(3);
    let traced = |process: &u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    while !peer.tree.processes().iter().all(traced) {
        ensure!(Instant::now() < deadline, "`strace` cannot attach");
        sleep(Duration::from_millis(10)).await;
    }
    // Its threads come after it.
    sleep(Duration::from_millis(100)).await;
    Ok(())
}

/// The sum of the column `calls`; that of errors may be empty, so it is counted from the left.
fn total(summary: &str) -> u64 {
    let calls = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let counts = fields.last().is_some_and(|name| *name != "total");
        fields.get(3).filter(|_| counts)?.parse::<u64>().ok()
    };
    summary.lines().filter_map(calls).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_a_summary_are_added_up() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           6       100        10 recvfrom
 40.00    0.000400           8        50           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           6       150        10 total
";
        assert_eq!(total(summary), 150);
    }
}
