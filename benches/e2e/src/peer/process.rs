//! A process of a comparison: pinned, its output in a file, gone when dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::sample::Tree;

/// A process that runs.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it, on that core alone if one is given.
    pub(super) fn start(command: Command, core: Option<usize>, log: &Path) -> anyhow::Result<Self> {
        let cores = match core {
            Some(core) => core.to_string(),
            None => format!("0-{}", all_cores() - 1),
        };
        // `taskset` becomes the program that it starts: the process id stays.
        let mut pinned = Command::new("taskset");
        pinned.arg("-c").arg(cores).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                pinned.env(name, value);
            }
        }
        let output = File::create(log)?;
        let child = pinned
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("`taskset` cannot be started")?;
        Ok(Self { child, log: log.to_owned() })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error when it has ended.
    pub(super) fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended with {status}"),
        }
    }

    /// The end of what it wrote, to go with an error.
    pub(super) fn said(&self) -> String {
        let output = fs::read(&self.log).unwrap_or_default();
        let from = output.len().saturating_sub(2_000);
        format!("it wrote: {}", String::from_utf8_lossy(&output[from..]).trim())
    }
}

/// The cores of the machine, whatever this process is pinned to.
pub fn all_cores() -> usize {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let last = online.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.map_or(1, |last| last + 1)
}

/// Sends a signal; the process may be gone already.
pub fn signal(process: u32, signal: Signal) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    _ = process.map(|process| kill_process(process, signal));
}

impl Drop for Process {
    fn drop(&mut self) {
        let tree = Tree::of(self.id());
        signal(self.id(), Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(2);
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                for process in tree.processes() {
                    signal(*process, Signal::KILL);
                }
                _ = self.child.wait();
                return;
            }
            sleep(Duration::from_millis(5));
        }
    }
}
