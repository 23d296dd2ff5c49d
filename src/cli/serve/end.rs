//! The end of the process, which comes whatever hangs.
//!
//! A thread of its own hears the signals as well. Once one says to stop, the process ends when its
//! time is over: threads that a disk, a pipe or the kernel holds are left behind, and it is said
//! what was not finished. What it takes is there from the start, since a process that stops may not
//! be able to start a thread.

use std::fs;
use std::io;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::server::{LOOK, Liveness};
use crate::telemetry::Logs;

/// What is left after the drain may take so long.
const AFTER_DRAIN: Duration = Duration::from_secs(2);

/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The steps of a stop, in their order.
const STEPS: [&str; 6] = [
    "the stop has not begun",
    "requests in flight",
    "what is sent to the collector",
    "the admin listener and the sandbox",
    "the file of the budgets",
    "access lines, audit records and the log",
];

/// Watches over the end of the process, and meanwhile over the workers.
pub(super) struct End {
    /// That of a process that did not end in order.
    exit_code: i32,
    step: AtomicUsize,
    watched: Mutex<Watched>,
}

/// What it looks at: there is none of it before the process serves.
#[derive(Default)]
struct Watched {
    workers: Option<Arc<Liveness>>,
    logs: Option<Arc<Logs>>,
    pre_drain: Duration,
    drain: Duration,
}

impl End {
    /// Starts the thread; the exit code is that of a process that did not end in order.
    ///
    /// # Errors
    /// When there can be no more threads, or signals cannot be heard.
    pub(super) fn watch(exit_code: u8) -> io::Result<Arc<Self>> {
        let (step, watched) = (AtomicUsize::new(0), Mutex::default());
        let end = Arc::new(Self { exit_code: exit_code.into(), step, watched });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async { Signals::catch() })?;
        let watching = Arc::clone(&end);
        let run = move || runtime.block_on(watching.run(signals));
        thread::Builder::new().name("end".to_owned()).spawn(run)?;
        Ok(end)
    }

    /// What counts from now on.
    pub(super) fn serves(
        &self,
        workers: &Arc<Liveness>,
        logs: &Arc<Logs>,
        pre_drain: Duration,
        drain: Duration,
    ) {
        let (workers, logs) = (Some(Arc::clone(workers)), Some(Arc::clone(logs)));
        *self.lock() = Watched { workers, logs, pre_drain, drain };
    }

    /// The next step of the stop begins.
    pub(super) fn next_step(&self) {
        self.step.fetch_add(1, Relaxed);
    }

    fn bounds(&self) -> (Duration, Duration) {
        let watched = self.lock();
        (watched.pre_drain, watched.drain)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self: Arc<Self>, mut signals: Signals) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut end: Option<Instant> = None;
        // Serving, serving while load balancers learn of the stop, and the drain.
        let mut parts = 3_u8;
        loop {
            let over = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => break,
                _ = looks.tick() => if let Some(workers) = &self.lock().workers { workers.look() },
                asked = signals.next() => {
                    let (pre_drain, drain) = self.bounds();
                    parts = match asked {
                        Asked::Interrupt => parts.min(2),
                        Asked::Terminate => parts,
                    };
                    // Each signal skips what is left of a part.
                    parts = parts.saturating_sub(1);
                    let most = match parts {
                        2 => pre_drain + drain,
                        1 => drain,
                        _ => Duration::ZERO,
                    };
                    let next = Instant::now() + most + AFTER_DRAIN;
                    end = Some(end.map_or(next, |end| end.min(next)));
                }
            }
        }
        self.end();
    }

    /// Ends the process at once.
    fn end(&self) {
        let step = self.step.load(Relaxed).min(STEPS.len() - 1);
        let logs = self.lock().logs.clone();
        tracing::error!(
            unfinished = STEPS[step],
            threads = threads(),
            "the time to stop is over: the process ends with what is left unfinished"
        );
        if let Some(logs) = logs {
            // Nobody may be there to read it.
            _ = logs.flush(LAST_WORDS);
        }
        process::exit(self.exit_code);
    }
}

/// The signals that say to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

enum Asked {
    Terminate,
    Interrupt,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.interrupt.recv() => Asked::Interrupt,
        }
    }
}

/// The names of the threads that there are, where the system tells them.
fn threads() -> String {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return String::new() };
    let name = |entry: io::Result<fs::DirEntry>| {
        fs::read_to_string(entry.ok()?.path().join("comm")).ok().map(|name| name.trim().to_owned())
    };
    let names: Vec<_> = threads.filter_map(name).collect();
    names.join(", ")
}
